//! The invariants of supervision, one property each.
//!
//! Those that speak of whole lives (S2, S7–S9, S11, S13, S14, S18) are judged by the simulator's naive model, on
//! trees of the strategy in question; the others are stated here in full. S19 and S20 stand in
//! `invariants_reform`, S23 and S24 in `invariants_lives`.

use std::time::Duration;

use proptest::prelude::*;
use regrow::exit::Exit;
use regrow::id::Incarnation;
use regrow::policy::{
    Action, Actions, ChildKey, ChildSpec, Fact, OnExhausted, Phase, ReportKind, Restart, RestartStrategy,
    Shutdown, StopHow, Supervisor, Time,
};

use crate::sim::dice::Dice;
use crate::sim::nest::Nest;
use crate::sim::run;
use crate::sim::schedule::Schedule;
use crate::sim::tree::{self, Tree, ms};

const STRATEGIES: [RestartStrategy; 4] = [
    RestartStrategy::OneForOne,
    RestartStrategy::OneForAll,
    RestartStrategy::RestForOne,
    RestartStrategy::SimpleOneForOne,
];

/// A random life on a tree of this strategy breaks nothing.
fn lives(seed: u64, strategy: RestartStrategy) -> Result<(), TestCaseError> {
    let mut dice = Dice::new(seed);
    let tree = tree::with_strategy(&mut dice, strategy);
    run::on_tree(seed, &tree, dice).map(drop).map_err(|failure| TestCaseError::fail(failure.to_string()))
}

/// A tree of permanent workers without anything that delays, parks or holds.
pub(crate) fn plain(strategy: RestartStrategy, children: usize, on_exhausted: OnExhausted) -> Tree {
    let mut dice = Dice::new(1);
    let mut tree = tree::with_strategy(&mut dice, strategy);
    tree.spec.on_exhausted = on_exhausted;
    tree.spec.intensity = regrow::policy::Intensity { max_restarts: 5, within: ms(5_000) };
    tree.spec.auto_shutdown = regrow::policy::AutoShutdown::Never;
    let template = ChildSpec {
        restart: Restart::Permanent,
        shutdown: Shutdown::Timeout(ms(1_000)),
        significant: false,
        start_timeout: None,
        min_uptime: Duration::ZERO,
        held: false,
        stopped: false,
        paused: None,
        incarnation: Incarnation::NONE,
        ..tree::child(&mut dice, &tree.spec, "a", false)
    };
    let child = |number| ChildSpec {
        id: tree::id(number),
        exit_codes: regrow::policy::ExitCodes { normal: [0].into(), fatal: [tree::FATAL].into() },
        ..template.clone()
    };
    tree.children = (0..children).map(child).collect();
    tree
}

pub(crate) fn core(tree: &Tree) -> Supervisor {
    Supervisor::new(tree.spec.clone(), tree.children.clone()).unwrap()
}

pub(crate) fn started(actions: &[Action]) -> Vec<(ChildKey, Incarnation)> {
    let start = |action: &Action| match action {
        Action::Start { child, incarnation } => Some((*child, *incarnation)),
        Action::Stop { .. }
        | Action::Retry { .. }
        | Action::Report { .. }
        | Action::Changed { .. }
        | Action::Added { .. }
        | Action::Respec { .. }
        | Action::Removed { .. }
        | Action::Recovery { .. }
        | Action::Reply { .. }
        | Action::Booted
        | Action::Finished { .. } => None,
    };
    actions.iter().filter_map(start).collect()
}

pub(crate) fn stopped(actions: &Actions) -> Vec<(ChildKey, Incarnation, StopHow)> {
    let stop = |action: &Action| match action {
        Action::Stop { child, incarnation, how } => Some((*child, *incarnation, *how)),
        Action::Start { .. }
        | Action::Retry { .. }
        | Action::Report { .. }
        | Action::Changed { .. }
        | Action::Added { .. }
        | Action::Respec { .. }
        | Action::Removed { .. }
        | Action::Recovery { .. }
        | Action::Reply { .. }
        | Action::Booted
        | Action::Finished { .. } => None,
    };
    actions.iter().filter_map(stop).collect()
}

fn finished(actions: &Actions) -> bool {
    matches!(actions.last(), Some(Action::Finished { .. }))
}

fn gave_up(actions: &Actions) -> bool {
    actions.iter().any(|action| matches!(action, Action::Report { kind: ReportKind::GaveUp, .. }))
}

/// Boots and acknowledges until nothing starts; gives the order of the starts.
fn boot(core: &mut Supervisor) -> Vec<(ChildKey, Incarnation)> {
    let mut order = Vec::new();
    let mut next = started(&core.on_fact(Time::ZERO, Fact::Boot));
    while let Some((child, incarnation)) = next.pop() {
        order.push((child, incarnation));
        next.extend(started(&core.on_fact(Time::ZERO, Fact::Ready { child, incarnation })));
    }
    order
}

/// The worker of a core with one child runs, and ends so; gives what follows.
pub(crate) fn one_end(tree: &Tree, exit: Exit) -> (Supervisor, Actions) {
    let mut core = core(tree);
    let (child, incarnation) = boot(&mut core)[0];
    let actions = core.on_fact(ms(10_000), Fact::Exited { child, incarnation, exit });
    (core, actions)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s1_no_second_incarnation_is_started_while_one_lives(seed: u64, strategy in 0..4usize) {
        lives(seed, STRATEGIES[strategy])?;
    }

    #[test]
    fn s2_an_event_of_another_incarnation_changes_nothing(number in 1..6usize, at in 0..6usize, old in 0..9u64) {
        let mut core = core(&plain(RestartStrategy::OneForAll, number, OnExhausted::Quarantine));
        let order = boot(&mut core);
        let (child, incarnation) = order[at % number];
        let incarnation = Incarnation(if old >= incarnation.0 { old + 1 } else { old });
        for fact in [
            Fact::Ready { child, incarnation },
            Fact::Ignored { child, incarnation },
            Fact::StartFailed { child, incarnation, exit: Exit::StartTimeout },
            Fact::Exited { child, incarnation, exit: Exit::Oom },
            Fact::Extend { child, incarnation, by: ms(1_000) },
        ] {
            prop_assert!(core.on_fact(ms(1), fact).is_empty());
            prop_assert!(order.iter().all(|(key, _)| core.child(*key).unwrap().phase == Phase::Running));
        }
    }

    #[test]
    fn s3_no_window_holds_more_restarts_than_intensity(
        limit in 0..5u32, within in 1..40u64, gaps in prop::collection::vec(0..20u64, 1..60),
    ) {
        let mut tree = plain(RestartStrategy::OneForOne, 1, OnExhausted::Quarantine);
        tree.spec.intensity = regrow::policy::Intensity { max_restarts: limit, within: ms(within) };
        tree.spec.retry = None;
        let mut core = core(&tree);
        let (child, mut incarnation) = boot(&mut core)[0];
        let (mut now, mut restarts) = (Time::ZERO, Vec::new());
        for gap in gaps {
            now += ms(gap);
            let actions = core.on_fact(now, Fact::Exited { child, incarnation, exit: Exit::Oom });
            let Some((_, next)) = started(&actions).pop() else {
                prop_assert_eq!(core.child(child).unwrap().phase, Phase::Quarantined);
                prop_assert_eq!(recent(&restarts, now, within), limit as usize);
                return Ok(());
            };
            restarts.push(now);
            prop_assert!(recent(&restarts, now, within) <= limit as usize);
            incarnation = next;
            core.on_fact(now, Fact::Ready { child, incarnation });
        }
    }

    #[test]
    fn s4_the_failure_beyond_intensity_gives_up_in_the_same_step_and_once(
        limit in 0..6u32, number in 1..5usize, offender in 0..5usize,
    ) {
        let mut tree = plain(RestartStrategy::OneForOne, number, OnExhausted::Escalate);
        tree.spec.intensity = regrow::policy::Intensity { max_restarts: limit, within: ms(1_000) };
        let mut core = core(&tree);
        let (child, mut incarnation) = boot(&mut core)[offender % number];
        for event in 0..=limit {
            let now = ms(1_000) * event / (limit + 1);
            let actions = core.on_fact(now, Fact::Exited { child, incarnation, exit: Exit::Oom });
            prop_assert_eq!(gave_up(&actions), event == limit);
            if let Some((_, next)) = started(&actions).pop() {
                incarnation = next;
                core.on_fact(now, Fact::Ready { child, incarnation });
            }
        }
        prop_assert!(core.is_ending());
    }

    #[test]
    fn s5_stop_order_is_the_reverse_of_start_order(number in 1..8usize, strategy in 0..3usize, kill: bool) {
        let mut core = core(&plain(STRATEGIES[strategy], number, OnExhausted::Escalate));
        let mut expected = boot(&mut core);
        let mut actions = core.on_fact(ms(1), if kill { Fact::Kill } else { Fact::Shutdown });
        while let Some((child, incarnation)) = expected.pop() {
            let how = if kill { StopHow::Kill } else { StopHow::Graceful };
            prop_assert_eq!(stopped(&actions), vec![(child, incarnation, how)]);
            actions = core.on_fact(ms(2), Fact::Exited { child, incarnation, exit: Exit::Stopped });
        }
        prop_assert!(finished(&actions));
    }

    #[test]
    fn s6_a_child_is_started_when_the_one_before_it_is_ready(number in 1..8usize, strategy in 0..3usize) {
        let mut core = core(&plain(STRATEGIES[strategy], number, OnExhausted::Escalate));
        let mut actions = core.on_fact(Time::ZERO, Fact::Boot);
        for child in core.children().collect::<Vec<_>>() {
            let incarnation = Incarnation(1);
            prop_assert_eq!(started(&actions), vec![(child, incarnation)]);
            actions = core.on_fact(Time::ZERO, Fact::Ready { child, incarnation });
        }
        prop_assert!(actions.contains(&Action::Booted));
    }

    #[test]
    fn s7_one_for_one_touches_no_sibling(seed: u64) {
        lives(seed, RestartStrategy::OneForOne)?;
    }

    #[test]
    fn s8_one_for_all_stops_every_sibling_before_any_starts(seed: u64) {
        lives(seed, RestartStrategy::OneForAll)?;
    }

    #[test]
    fn s9_rest_for_one_restarts_exactly_those_behind(number in 1..7usize, offender in 0..7usize) {
        let mut core = core(&plain(RestartStrategy::RestForOne, number, OnExhausted::Escalate));
        let order = boot(&mut core);
        let at = offender % number;
        let (child, incarnation) = order[at];
        let mut actions = core.on_fact(ms(1), Fact::Exited { child, incarnation, exit: Exit::Oom });
        for (child, incarnation) in order[at + 1..].iter().rev() {
            prop_assert_eq!(stopped(&actions), vec![(*child, *incarnation, StopHow::Graceful)]);
            let fact = Fact::Exited { child: *child, incarnation: *incarnation, exit: Exit::Stopped };
            actions = core.on_fact(ms(2), fact);
        }
        for (child, _) in &order[at..] {
            let incarnation = Incarnation(2);
            prop_assert_eq!(started(&actions), vec![(*child, incarnation)]);
            actions = core.on_fact(ms(3), Fact::Ready { child: *child, incarnation });
        }
        prop_assert!(order[..at].iter().all(|(key, _)| core.child(*key).unwrap().incarnation.0 == 1));
    }

    #[test]
    fn s11_nothing_is_started_once_the_end_has_begun(seed: u64, strategy in 0..4usize) {
        lives(seed, STRATEGIES[strategy])?;
    }

    #[test]
    fn s12_a_stop_ends_in_term_kill_and_stuck(wait in 1..60_000u64, extended in prop::option::of(1..90_000u64)) {
        let mut tree = plain(RestartStrategy::OneForOne, 1, OnExhausted::Quarantine);
        tree.children[0].shutdown = Shutdown::Timeout(ms(wait));
        let mut core = core(&tree);
        let (child, incarnation) = boot(&mut core)[0];
        prop_assert_eq!(stopped(&core.on_fact(ms(5), Fact::Shutdown)), vec![(child, incarnation, StopHow::Graceful)]);
        if let Some(by) = extended {
            core.on_fact(ms(5), Fact::Extend { child, incarnation, by: ms(by) });
        }
        let kill_at = ms(5 + wait.max(extended.unwrap_or(0)));
        prop_assert_eq!(core.next_due(), Some(kill_at));
        prop_assert!(core.on_fact(kill_at - ms(1), Fact::Tick).is_empty());
        prop_assert_eq!(stopped(&core.on_fact(kill_at, Fact::Tick)), vec![(child, incarnation, StopHow::Kill)]);
        let stuck_at = core.next_due().unwrap();
        core.on_fact(stuck_at, Fact::Tick);
        prop_assert_eq!(core.child(child).unwrap().phase, Phase::Stuck);
        let actions = core.on_fact(stuck_at, Fact::Exited { child, incarnation, exit: Exit::Killed });
        prop_assert!(finished(&actions));
    }

    #[test]
    fn s13_no_wake_up_is_lost(seed: u64, strategy in 0..4usize) {
        lives(seed, STRATEGIES[strategy])?;
    }

    #[test]
    fn s14_what_was_asked_for_never_counts(seed: u64, strategy in 0..4usize) {
        lives(seed, STRATEGIES[strategy])?;
    }

    #[test]
    fn s15_delays_stay_between_their_bounds_and_grow_until_reset(
        first in 1..500u64, factor in 1.0..4.0f64, max in 1..4_000u64, jitter in 0.0..1.0f64, seed: u64,
    ) {
        let mut tree = plain(RestartStrategy::OneForOne, 1, OnExhausted::Quarantine);
        tree.spec.seed = seed;
        tree.spec.intensity.max_restarts = 1_000;
        let backoff = regrow::policy::Backoff { first: ms(first), factor, max: ms(max), jitter, reset_after: ms(60_000) };
        tree.children[0].backoff = backoff;
        let mut core = core(&tree);
        let (child, mut incarnation) = boot(&mut core)[0];
        let (mut now, mut base) = (ms(100_000), ms(first).min(ms(max)).as_secs_f64());
        for row in 1..12 {
            let actions = core.on_fact(now, Fact::Exited { child, incarnation, exit: Exit::Oom });
            if row == 1 {
                prop_assert_eq!(started(&actions).len(), 1);
            } else {
                let wait = (core.next_due().unwrap_or(now) - now).as_secs_f64();
                prop_assert!(wait >= base * (1.0 - jitter) - 1e-6 && wait <= base * (1.0 + jitter) + 1e-6);
                base = (base * factor).min(ms(max).as_secs_f64());
            }
            now = core.next_due().unwrap_or(now);
            let late = started(&core.on_fact(now, Fact::Tick));
            incarnation = started(&actions).into_iter().chain(late).next().unwrap().1;
            core.on_fact(now, Fact::Ready { child, incarnation });
            now += ms(10);
        }
        let actions = core.on_fact(now + ms(60_000), Fact::Exited { child, incarnation, exit: Exit::Oom });
        prop_assert_eq!(started(&actions).len(), 1, "a long run begins the row anew");
    }

    #[test]
    fn s16_a_supervisor_that_gives_up_ends_when_all_its_children_are_down(number in 1..6usize, offender in 0..6usize) {
        let mut tree = plain(RestartStrategy::OneForOne, number, OnExhausted::Escalate);
        tree.spec.intensity.max_restarts = 0;
        let mut core = core(&tree);
        let order = boot(&mut core);
        let (child, incarnation) = order[offender % number];
        let mut actions = core.on_fact(ms(1), Fact::Exited { child, incarnation, exit: Exit::Oom });
        prop_assert!(gave_up(&actions));
        while let Some((child, incarnation, _)) = stopped(&actions).pop() {
            actions = core.on_fact(ms(2), Fact::Exited { child, incarnation, exit: Exit::Stopped });
        }
        prop_assert!(finished(&actions));
        prop_assert!(core.on_fact(ms(3), Fact::Tick).is_empty());
    }

    #[test]
    fn s17_the_end_of_a_tree_leaves_nobody_alive(seed: u64, disturbances in 0..60usize) {
        let mut nest = Nest::new(seed);
        for _ in 0..disturbances {
            nest.disturb();
        }
        let turns = nest.shut_down();
        prop_assert!(nest.is_over(), "{} descendants live after {turns} turns", nest.descendants());
        prop_assert_eq!(nest.descendants(), 0);
    }

    #[test]
    fn s18_every_request_is_answered_once_and_intent_holds(seed: u64, strategy in 0..4usize) {
        lives(seed, STRATEGIES[strategy])?;
    }

    #[test]
    fn s22_the_same_seed_gives_the_same_actions(seed: u64) {
        let told = || {
            let mut dice = Dice::new(seed);
            let tree = tree::any(&mut dice);
            let mut play = crate::sim::play::Play::new(&tree);
            play.log = Some(String::new());
            let mut schedule = Schedule::new(dice, run::LENGTH);
            for _ in 0..60 {
                let (now, fact) = schedule.next(&play);
                play.next_request += 1;
                play.step(now, fact).map_err(|broken| broken.detail)?;
            }
            Ok::<_, String>(play.log)
        };
        prop_assert_eq!(told(), told());
    }
}

fn recent(events: &[Time], now: Time, within: u64) -> usize {
    events.iter().filter(|at| **at + ms(within) >= now).count()
}

#[test]
fn deep_trees_are_reached_by_the_nest() {
    let most = (0..200).map(|seed| {
        let mut nest = Nest::new(seed);
        (0..20).for_each(|_| nest.disturb());
        nest.most
    });
    assert!(most.max() > Some(20));
}
