//! The ladder: steps in order, each verified, and what holds them back.

use std::sync::Arc;

use super::*;
use crate::cause::Cause;
use crate::health::{Health, Unwell, Verdict};
use crate::id::Incarnation;
use crate::recovery::{BreakerLimits, BreakerState, Ladder, Step, Strategy};

use super::super::RestartStrategy::{self, OneForAll, OneForOne};
use super::super::{ChildSpec, Fact, OnExhausted, Phase, Request, Undone};

pub(super) fn verdict(health: Health, unwell: Option<bool>) -> Arc<Verdict> {
    let unwell = unwell.map(|dead| Unwell {
        cause: Cause::Hang,
        message: "no heartbeat".to_owned(),
        patience: Some(secs(3)),
        dead,
        lasted: secs(15),
        looks: None,
    });
    Arc::new(Verdict {
        health,
        score: None,
        terms: Vec::new(),
        unresponsive: unwell.is_some(),
        unwell,
        holds: matches!(health, Health::Healthy | Health::Degraded),
        ..Verdict::runs("process")
    })
}

pub(super) fn sick() -> Arc<Verdict> {
    verdict(Health::Unhealthy, Some(false))
}

pub(super) fn well() -> Arc<Verdict> {
    verdict(Health::Healthy, None)
}

pub(super) fn judge(sim: &mut Sim, id: &str, verdict: &Arc<Verdict>) {
    let incarnation = sim.view(id).incarnation;
    sim.tell(Fact::Judged { child: sim.key(id), incarnation, verdict: Arc::clone(verdict) });
}

pub(super) fn ladder(steps: impl IntoIterator<Item = Step>) -> Arc<Ladder> {
    Arc::new(Ladder { steps: steps.into_iter().collect(), ..Ladder::default() })
}

pub(super) fn own(name: &str) -> Step {
    Step::new(Strategy::parse(name).unwrap())
}

pub(super) fn sim(ladder: &Arc<Ladder>, children: &[&str]) -> Sim {
    grouped(OneForOne, ladder, children)
}

pub(super) fn grouped(strategy: RestartStrategy, ladder: &Arc<Ladder>, children: &[&str]) -> Sim {
    let mut specs: Vec<ChildSpec> = children.iter().map(|words| child(words)).collect();
    for spec in &mut specs {
        spec.ladder = Some(Arc::clone(ladder));
    }
    let mut sim = Sim::of(Sim::spec(strategy, OnExhausted::Quarantine, 2), specs).booted();
    sim.heal = true;
    sim
}

#[test]
fn a_hang_is_looked_at_asked_to_stop_started_and_verified() {
    let mut sim = sim(&Arc::default(), &["a"]);
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "opened a: hang, began soft_restart, gather a#1, stop a#1, start a#2");
    judge(&mut sim, "a", &well());
    sim.pass(secs(10));
    assert_eq!(sim.did(), "ended soft_restart: ok, closed: ok (well for 10s)");
    assert_eq!(sim.view("a").budget_left, 2, "steps of recovery are never counted");
}

#[test]
fn a_step_that_does_not_help_is_followed_by_the_next_and_the_last_one_parks() {
    let mut sim = sim(&Arc::default(), &["a"]);
    for _ in 0..20 {
        judge(&mut sim, "a", &sick());
        sim.pass(secs(1));
    }
    let did = sim.did();
    let began: Vec<&str> = did.split(", ").filter(|line| line.starts_with("began")).collect();
    assert_eq!(
        began,
        [
            "began soft_restart",
            "began soft_restart",
            "began soft_restart",
            "began hard_restart",
            "began hard_restart",
            "began quarantine"
        ]
    );
    assert!(did.contains("kill a#4") && did.contains("kill a#5") && did.contains("stop a#3"), "{did}");
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    assert!(did.ends_with("closed: failed (parked: recovery did not help)"), "{did}");
}

#[test]
fn who_has_not_answered_for_too_long_is_not_asked_any_more() {
    let mut sim = sim(&Arc::default(), &["a"]);
    judge(&mut sim, "a", &verdict(Health::Unhealthy, Some(true)));
    let did = sim.did();
    assert!(did.contains("began hard_restart") && did.contains("kill a#1"), "{did}");
    assert!(did.contains("skipped soft_restart"), "{did}");
}

#[test]
fn an_exit_within_verify_fails_the_step() {
    let mut sim = sim(&Arc::default(), &["a"]);
    judge(&mut sim, "a", &sick());
    sim.pass(secs(5));
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.did(), "ended soft_restart: failed, report terminated a#2, began soft_restart, start a#3");
    sim.pass(secs(10));
    assert_eq!(sim.did(), "ended soft_restart: ok, closed: ok (well for 10s)");
}

#[test]
fn who_gets_well_by_itself_is_left_alone() {
    let mut sim = sim(&Arc::default(), &["a"]);
    sim.leave = Err("busy");
    judge(&mut sim, "a", &sick());
    sim.pass(secs(3));
    judge(&mut sim, "a", &well());
    assert_eq!(sim.did(), "opened a: hang, waits: busy, closed: ok (well again by itself)");
    assert_eq!(sim.view("a").incarnation, Incarnation(1));
}

#[test]
fn leave_that_comes_late_is_taken_when_it_comes() {
    let mut sim = sim(&Arc::default(), &["a"]);
    sim.leave = Err("busy");
    judge(&mut sim, "a", &sick());
    sim.pass(secs(30));
    assert_eq!(sim.phase("a"), Phase::Running);
    sim.leave = Ok(0);
    sim.pass(secs(1));
    assert_eq!(sim.view("a").incarnation, Incarnation(2));
}

#[test]
fn experience_chooses_among_what_is_allowed_and_nothing_else() {
    let steps =
        [Step::new(Strategy::SoftRestart), Step::new(Strategy::Reset), Step::new(Strategy::HardRestart)];
    let mut first = sim(&ladder(steps.clone()), &["a"]);
    first.leave = Ok(2);
    judge(&mut first, "a", &sick());
    assert!(first.did().contains("began hard_restart"));
    let mut second = sim(&ladder(steps), &["a"]);
    second.leave = Ok(1);
    judge(&mut second, "a", &sick());
    assert!(
        second.did().contains("began soft_restart"),
        "a reset that the ladder has not come to is not taken"
    );
}

#[test]
fn a_step_that_wants_approval_waits_for_it_and_goes_on_once_it_has_it() {
    let approval = Some(secs(1800));
    let steps = [Step { approval, ..own("flush-cache") }, Step::new(Strategy::SoftRestart)];
    let mut sim = sim(&ladder(steps), &["a"]);
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "opened a: hang, waits: approval of flush-cache");
    sim.pass(secs(60));
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "");
    sim.ask(Request::Approve { child: sim.key("a") });
    assert_eq!(sim.did(), "reply ok, began flush-cache, gather a#1, do flush-cache a#1");
    judge(&mut sim, "a", &well());
    sim.pass(secs(10));
    assert!(sim.did().ends_with("closed: ok (well for 10s)"));
    sim.ask(Request::Approve { child: sim.key("a") });
    assert!(sim.did().contains("CannotRecover"));
}

#[test]
fn what_nobody_approves_is_passed_over() {
    let approval = Some(secs(60));
    let steps = [Step { approval, ..Step::new(Strategy::Reset) }, Step::new(Strategy::SoftRestart)];
    let mut sim = sim(&ladder(steps), &["a"]);
    judge(&mut sim, "a", &sick());
    sim.pass(secs(60));
    let did = sim.did();
    assert!(did.contains("skipped reset (nobody approved it in time), began soft_restart"), "{did}");
}

#[test]
fn a_delay_is_waited_for() {
    let mut sim = sim(&ladder([Step { delay: secs(10), ..Step::new(Strategy::SoftRestart) }]), &["a"]);
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "opened a: hang, waits: delay of soft_restart");
    sim.pass(secs(10));
    assert!(sim.did().starts_with("began soft_restart"));
}

#[test]
fn a_step_while_it_runs_must_turn_its_health_and_then_hold() {
    let mut sim = sim(&ladder([own("flush-cache"), Step::new(Strategy::SoftRestart)]), &["a"]);
    judge(&mut sim, "a", &sick());
    sim.pass(secs(9));
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "opened a: hang, began flush-cache, gather a#1, do flush-cache a#1");
    sim.pass(secs(1));
    assert_eq!(sim.did(), "ended flush-cache: failed, began soft_restart, stop a#1, start a#2");
}

#[test]
fn a_step_that_cannot_be_done_fails_and_the_next_is_taken() {
    let mut sim = sim(&ladder([own("flush-cache"), Step::new(Strategy::SoftRestart)]), &["a"]);
    sim.performed = Err(Undone::Failed("exit code 3".to_owned()));
    judge(&mut sim, "a", &sick());
    let did = sim.did();
    assert!(did.contains("ended flush-cache: failed, began soft_restart"), "{did}");
}

#[test]
fn a_reset_is_done_while_the_worker_is_down() {
    let mut sim = sim(&ladder([Step::new(Strategy::Reset)]), &["a"]);
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "opened a: hang, began reset, gather a#1, stop a#1, do reset a#1, start a#2");
}

#[test]
fn a_group_is_stopped_before_and_started_after_its_offender_is_mended() {
    let mut sim = grouped(OneForAll, &ladder([Step::new(Strategy::Reset)]), &["a", "b", "c"]);
    judge(&mut sim, "b", &sick());
    assert_eq!(
        sim.did(),
        "opened b: hang, began reset, gather b#1, stop c#1, stop b#1, stop a#1, do reset b#1, start a#2, \
         start b#2, start c#2"
    );
}

#[test]
fn a_cause_that_a_step_names_has_it_done_before_the_plain_restart_and_once() {
    let when: Arc<[Arc<str>]> = Arc::new(["broker_gone".into()]);
    let mut sim =
        sim(&ladder([Step::new(Strategy::SoftRestart), Step { when, ..own("flush-cache") }]), &["a"]);
    for n in 1..=2 {
        let incarnation = Incarnation(n);
        sim.tell(Fact::Classed { child: sim.key("a"), incarnation, class: "broker_gone".into() });
        sim.exit("a", code(70));
    }
    assert_eq!(
        sim.did(),
        "opened a: broker_gone, report terminated a#1, began flush-cache, do flush-cache a#1, began soft_restart, start a#2, \
         ended soft_restart: failed, ended flush-cache: failed, report terminated a#2, began soft_restart, start a#3"
    );
}

#[test]
fn when_restarts_are_spent_what_is_no_restart_is_tried_and_then_it_is_parked() {
    let steps = [Step::new(Strategy::SoftRestart), Step::new(Strategy::Reset), own("flush-cache")];
    let mut sim = sim(&ladder(steps), &["a"]);
    for _ in 0..5 {
        sim.exit("a", crash());
    }
    let did = sim.did();
    let began: Vec<&str> = did.split(", ").filter(|line| line.starts_with("began")).collect();
    assert_eq!(began, ["began soft_restart", "began soft_restart", "began reset", "began flush-cache"]);
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    assert!(did.contains("closed: failed (parked: its restarts are spent)"), "{did}");
}

#[test]
fn failed_steps_open_the_breaker_and_plain_restarts_go_on() {
    let breaker = BreakerLimits { open_after: 2, within: secs(600), half_open_after: secs(300) };
    let steps = [Step::new(Strategy::SoftRestart).times(9)];
    let ladder = Arc::new(Ladder { breaker, ..(*ladder(steps)).clone() });
    let mut sim = sim(&ladder, &["a"]);
    for _ in 0..10 {
        judge(&mut sim, "a", &sick());
        sim.pass(secs(1));
    }
    let did = sim.did();
    assert_eq!(did.matches("began soft_restart").count(), 2, "{did}");
    assert!(did.contains("breaker open") && did.contains("waits: breaker"), "{did}");
    assert_eq!(sim.view("a").breaker, BreakerState::Open);
    sim.exit("a", crash());
    assert!(sim.did().contains("start a#4"));
    judge(&mut sim, "a", &sick());
    sim.pass(secs(300));
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did().matches("began soft_restart").count(), 1, "one trial");
}

#[test]
fn a_ladder_without_a_step_left_rests_and_begins_anew_after_quiet_time() {
    let mut sim = sim(&ladder([Step::new(Strategy::SoftRestart)]), &["a"]);
    for _ in 0..100 {
        judge(&mut sim, "a", &sick());
        sim.pass(secs(1));
    }
    let did = sim.did();
    assert_eq!(did.matches("began").count(), 1, "{did}");
    assert_eq!(did.matches("opened").count(), 1, "{did}");
    sim.pass(secs(300));
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did().matches("began").count(), 1);
}

#[test]
fn what_an_operator_wants_comes_first() {
    let mut sim = sim(&Arc::default(), &["a"]);
    sim.leave = Err("busy");
    judge(&mut sim, "a", &sick());
    let _ = sim.did();
    sim.ask(Request::Stop { child: sim.key("a") });
    assert!(sim.did().contains("closed: interrupted"));
    sim.ask(Request::Start { child: sim.key("a") });
    sim.ask(Request::Pause { child: sim.key("a"), lasting: None });
    let _ = sim.did();
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "", "hands off");
}

#[test]
fn an_operator_takes_a_step_without_the_ladder() {
    let mut sim = sim(&Arc::default(), &["a"]);
    let step = Box::new(Step::new(Strategy::Reset));
    sim.ask(Request::Recover { child: sim.key("a"), step, by: "ann".into() });
    sim.pass(secs(10));
    assert_eq!(
        sim.did(),
        "opened a: operator, began reset, gather a#1, reply ok, stop a#1, do reset a#1, start a#2, \
         ended reset: ok, closed: ok (well for 10s)"
    );
    let unable = Some(Arc::from("there is no on.memory_cleanup"));
    let step = Box::new(Step { unable, ..Step::new(Strategy::MemoryCleanup) });
    sim.ask(Request::Recover { child: sim.key("a"), step, by: "ann".into() });
    assert!(sim.did().contains("there is no on.memory_cleanup"));
}

#[test]
fn the_end_of_the_supervisor_ends_every_incident() {
    let mut sim = sim(&Arc::default(), &["a", "b"]);
    sim.leave = Err("busy");
    judge(&mut sim, "a", &sick());
    let _ = sim.did();
    sim.tell(Fact::Shutdown);
    assert!(sim.did().starts_with("closed: interrupted (its supervisor ends)"));
    assert!(sim.core.next_due().is_none());
}

#[test]
fn a_trial_that_is_unwell_is_parked_again_at_once_and_for_longer() {
    let mut sim = sim(&ladder([Step::new(Strategy::Quarantine)]), &["a"]);
    judge(&mut sim, "a", &sick());
    let mut waits = Vec::new();
    for _ in 0..2 {
        assert_eq!(sim.phase("a"), Phase::Quarantined);
        let wait = sim.view("a").next.and_then(|next| next.at).unwrap() - sim.now;
        waits.push(wait);
        sim.pass(wait);
        assert_eq!(sim.phase("a"), Phase::Running, "the trial");
        let _ = sim.did();
        judge(&mut sim, "a", &sick());
    }
    assert_eq!(waits, [waits[0], waits[0] * 2]);
    assert_eq!(
        sim.did(),
        "opened a: hang, began quarantine, gather a#3, stop a#3, ended quarantine: failed, \
         closed: failed (parked: its trial did not hold)"
    );
}

#[test]
fn a_trial_that_holds_lets_the_ladder_begin_anew() {
    let mut sim = sim(&ladder([Step::new(Strategy::SoftRestart), Step::new(Strategy::Quarantine)]), &["a"]);
    for _ in 0..2 {
        judge(&mut sim, "a", &sick());
    }
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    let wait = sim.view("a").next.and_then(|next| next.at).unwrap() - sim.now;
    sim.pass(wait);
    let _ = sim.did();
    sim.pass(secs(10));
    assert_eq!(sim.did(), "trial held");
    judge(&mut sim, "a", &sick());
    assert!(sim.did().contains("began soft_restart"));
}

#[test]
fn a_step_for_a_cause_runs_once_in_each_incident() {
    let when: Arc<[Arc<str>]> = Arc::new(["broker_gone".into()]);
    let mut sim = sim(&ladder([Step { when, ..own("flush-cache") }]), &["a"]);
    for n in 1..=2 {
        let class = "broker_gone".into();
        sim.tell(Fact::Classed { child: sim.key("a"), incarnation: Incarnation(n), class });
        sim.exit("a", code(70));
        assert!(sim.did().contains("do flush-cache"), "incident {n}");
        sim.pass(secs(10));
        assert!(sim.did().contains("closed: ok"), "incident {n}");
    }
}

#[test]
fn a_soft_step_that_waited_too_long_is_passed_over() {
    let delay = secs(10);
    let soft = Step { delay, ..Step::new(Strategy::SoftRestart) };
    let mut sim = sim(&ladder([soft, Step::new(Strategy::HardRestart)]), &["a"]);
    judge(&mut sim, "a", &sick());
    judge(&mut sim, "a", &verdict(Health::Unhealthy, Some(true)));
    sim.pass(delay);
    let did = sim.did();
    assert!(did.contains("skipped soft_restart") && did.contains("kill a#1"), "{did}");
}

#[test]
fn what_somebody_asked_for_fails_though_it_is_paused() {
    let mut sim = sim(&Arc::default(), &["a"]);
    sim.ask(Request::Pause { child: sim.key("a"), lasting: None });
    let step = Box::new(Step::new(Strategy::SoftRestart));
    sim.ask(Request::Recover { child: sim.key("a"), step, by: "ann".into() });
    judge(&mut sim, "a", &sick());
    let did = sim.did();
    assert!(did.contains("ended soft_restart: failed") && did.contains("closed: failed"), "{did}");
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.did(), "", "hands off");
}

/// Its probes take at most ten seconds to say something.
fn probed(ladder: &Arc<Ladder>) -> Sim {
    let mut spec = child("a");
    (spec.ladder, spec.heard_within) = (Some(Arc::clone(ladder)), secs(10));
    let mut sim = Sim::of(Sim::spec(OneForOne, OnExhausted::Quarantine, 2), vec![spec]).booted();
    sim.heal = true;
    sim
}

fn unknown() -> Arc<Verdict> {
    verdict(Health::Unknown, None)
}

#[test]
fn no_step_has_held_before_the_probes_of_the_replacement_have_passed() {
    let mut sim = probed(&Arc::default());
    judge(&mut sim, "a", &sick());
    let _ = sim.did();
    sim.pass(secs(30));
    assert_eq!(sim.did(), "", "nothing was heard of it");
    judge(&mut sim, "a", &well());
    sim.pass(secs(9));
    assert_eq!(sim.did(), "");
    judge(&mut sim, "a", &unknown());
    sim.pass(secs(10));
    assert_eq!(sim.did(), "", "it has to hold all of the time");
    judge(&mut sim, "a", &well());
    sim.pass(secs(10));
    assert_eq!(sim.did(), "ended soft_restart: ok, closed: ok (well for 10s)");
}

#[test]
fn a_replacement_of_which_nothing_can_be_told_proves_nothing() {
    let mut sim = probed(&Arc::default());
    judge(&mut sim, "a", &sick());
    let _ = sim.did();
    sim.pass(secs(300));
    assert_eq!(
        sim.did(),
        "ended soft_restart: interrupted, closed: interrupted (none of its checks says whether it works)"
    );
}

#[test]
fn a_replacement_that_never_passes_fails_its_step() {
    let mut sim = probed(&Arc::default());
    judge(&mut sim, "a", &sick());
    let _ = sim.did();
    sim.pass(secs(12));
    judge(&mut sim, "a", &sick());
    assert!(sim.did().starts_with("ended soft_restart: failed, began soft_restart"));
}

#[test]
fn a_trial_holds_once_its_probes_have_passed_for_long_enough() {
    let mut sim = probed(&ladder([Step::new(Strategy::Quarantine)]));
    judge(&mut sim, "a", &sick());
    let wait = sim.view("a").next.and_then(|next| next.at).unwrap() - sim.now;
    sim.pass(wait + secs(15));
    judge(&mut sim, "a", &well());
    sim.pass(secs(9));
    judge(&mut sim, "a", &sick());
    assert_eq!(sim.phase("a"), Phase::Quarantined, "it was still on trial");
    assert_eq!(sim.view("a").next.and_then(|next| next.at).unwrap() - sim.now, wait * 2);
}
