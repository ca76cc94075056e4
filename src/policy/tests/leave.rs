//! The places of the fleet's brake: whoever gets one gives it back, in whatever order words come, so that one worker
//! that hangs is replaced however many others are ill, get well again and cannot be judged.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{child, crash, secs};
use crate::cause::Cause;
use crate::exit::Exit;
use crate::health::{Health, Unwell, Verdict};
use crate::id::Incarnation;
use crate::recovery::{Brake, BrakeLimits, BreakerLimits, BreakerState, Ladder, Step, Strategy};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Fails,
    Passes,
    Nothing,
}

fn verdict(says: Says) -> Arc<Verdict> {
    let unwell = (says == Says::Fails).then(|| Unwell {
        cause: Cause::ProbeFailed,
        message: "no".to_owned(),
        patience: None,
        dead: false,
        lasted: secs(3),
        looks: None,
    });
    Arc::new(Verdict {
        health: if says == Says::Fails { Health::Unhealthy } else { Health::Unknown },
        score: None,
        terms: Vec::new(),
        issues: Vec::new(),
        unresponsive: false,
        unwell,
        accepts: true,
        started: true,
        holds: says == Says::Passes,
        blind: says == Says::Nothing,
        dim: false,
        unseen: false,
        flaps: false,
    })
}

/// A supervisor, the real brake, and words that are under way between them and may be overtaken.
struct Fleet {
    core: Supervisor,
    brake: Brake,
    mail: VecDeque<Fact>,
    now: Time,
    /// Who cannot be killed.
    immortal: HashSet<ChildKey>,
    /// Who does not get ready.
    slow: HashSet<ChildKey>,
    replaced: Vec<ChildKey>,
    /// Of whom people were told that something is different.
    told: Vec<ChildKey>,
}

impl Fleet {
    fn of(children: &[&str], steps: impl IntoIterator<Item = Step>, heard_within: Duration) -> Self {
        let breaker = BreakerLimits { open_after: 1000, ..BreakerLimits::default() };
        let ladder = Arc::new(Ladder { steps: steps.into_iter().collect(), breaker, ..Ladder::default() });
        let specs = children.iter().map(|words| {
            let mut spec = child(words);
            spec.ladder = Some(Arc::clone(&ladder));
            spec.heard_within = heard_within;
            spec
        });
        let owner = super::Sim::spec(RestartStrategy::OneForOne, OnExhausted::Quarantine, 100);
        let limits = BrakeLimits { max_parallel: 2, ..BrakeLimits::default() };
        let mut fleet = Self {
            core: Supervisor::new(owner, specs.collect()).expect("a valid specification"),
            brake: Brake::new(limits),
            mail: VecDeque::new(),
            now: secs(1000),
            immortal: HashSet::new(),
            slow: HashSet::new(),
            replaced: Vec::new(),
            told: Vec::new(),
        };
        fleet.tell(Fact::Boot);
        fleet.deliver_all();
        fleet
    }

    fn key(&self, id: &str) -> ChildKey {
        self.core.key(id).expect("a known child")
    }

    /// One fact is heard; what follows is done at once, and answers go by mail.
    fn tell(&mut self, fact: Fact) {
        for action in self.core.on_fact(self.now, fact) {
            match action {
                Action::Start { child, incarnation } => {
                    if incarnation > Incarnation(1) {
                        self.replaced.push(child);
                    }
                    if !self.slow.contains(&child) {
                        self.mail.push_back(Fact::Ready { child, incarnation });
                    }
                }
                Action::Stop { child, incarnation, how } if !self.immortal.contains(&child) => {
                    let exit = if how == StopHow::Kill { Exit::Killed } else { Exit::Stopped };
                    self.mail.push_back(Fact::Exited { child, incarnation, exit });
                }
                Action::Recovery { child, act, .. } => self.act(child, *act),
                Action::Retry { child } => self.mail.push_back(Fact::Retry { child }),
                Action::Changed { child } => self.told.push(child),
                Action::Stop { .. }
                | Action::Report { .. }
                | Action::Booted
                | Action::Added { .. }
                | Action::Respec { .. }
                | Action::Removed { .. }
                | Action::Reply { .. }
                | Action::Finished { .. } => {}
            }
        }
    }

    fn act(&mut self, child: ChildKey, act: RecoveryAct) {
        let who = u64::from(child.slot());
        match act {
            RecoveryAct::Ask { question, allowed } => {
                let leave = self.brake.ask(self.now, who, false);
                let first = allowed.first().map_or(0, |(place, _)| *place);
                let answer = if leave.is_given() { Ok((first, String::new())) } else { Err(leave.reason()) };
                self.mail.push_back(Fact::Leave { child, question, answer });
            }
            RecoveryAct::Return { held } => _ = self.brake.ended(self.now, who, held),
            RecoveryAct::Do { task, .. } => {
                self.mail.push_back(Fact::Performed { child, task, result: Ok(()) });
            }
            RecoveryAct::Opened { .. }
            | RecoveryAct::Skipped { .. }
            | RecoveryAct::Waits { .. }
            | RecoveryAct::Began { .. }
            | RecoveryAct::Ended { .. }
            | RecoveryAct::Closed { .. }
            | RecoveryAct::TrialHeld { .. }
            | RecoveryAct::Breaker { .. } => {}
        }
    }

    fn deliver(&mut self) {
        if let Some(fact) = self.mail.pop_front() {
            self.tell(fact);
        }
    }

    fn deliver_all(&mut self) {
        while !self.mail.is_empty() {
            self.deliver();
        }
    }

    fn judge(&mut self, child: ChildKey, says: Says) {
        let Some(view) = self.core.child(child) else { return };
        let (incarnation, verdict) = (view.incarnation, verdict(says));
        self.tell(Fact::Judged { child, incarnation, verdict });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.next_due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.tell(Fact::Tick);
        }
        self.now = end;
    }

    /// Whoever has a place has an incident that is open.
    fn places(&self) -> usize {
        self.brake.under_way()
    }

    fn open(&self) -> usize {
        let open = |key: &ChildKey| self.core.child(*key).is_some_and(|view| view.care.is_some());
        self.core.children().filter(open).count()
    }
}

fn restarts() -> Vec<Step> {
    vec![Step::new(Strategy::SoftRestart).times(1000)]
}

#[test]
fn leave_that_comes_after_it_is_well_again_is_given_back() {
    let mut fleet = Fleet::of(&["a", "b", "c"], restarts(), Duration::ZERO);
    for id in ["a", "b"] {
        let key = fleet.key(id);
        fleet.judge(key, Says::Fails);
        // The answer is under way.
        fleet.judge(key, Says::Passes);
    }
    fleet.deliver_all();
    assert_eq!((fleet.places(), fleet.open()), (0, 0));
    let hangs = fleet.key("c");
    fleet.judge(hangs, Says::Fails);
    fleet.deliver_all();
    assert_eq!(fleet.replaced, [hangs]);
}

#[test]
fn leave_that_comes_after_it_has_ended_is_given_back() {
    let mut fleet = Fleet::of(&["a"], restarts(), Duration::ZERO);
    let key = fleet.key("a");
    fleet.judge(key, Says::Fails);
    fleet.tell(Fact::Exited { child: key, incarnation: Incarnation(1), exit: crash() });
    fleet.deliver_all();
    assert_eq!((fleet.places(), fleet.replaced.len()), (0, 1));
}

#[test]
fn who_cannot_be_killed_or_waits_for_another_keeps_nobody_from_recovery() {
    let mut fleet = Fleet::of(&["a", "b", "c"], restarts(), Duration::ZERO);
    let [a, b, c] = ["a", "b", "c"].map(|id| fleet.key(id));
    fleet.immortal.insert(a);
    fleet.tell(Fact::Held { child: b, held: true });
    for key in [a, b] {
        fleet.judge(key, Says::Fails);
    }
    fleet.deliver_all();
    fleet.pass(secs(30));
    let phase = |fleet: &Fleet, key| fleet.core.child(key).map(|view| view.phase);
    assert_eq!((phase(&fleet, a), phase(&fleet, b)), (Some(Phase::Stuck), Some(Phase::Waiting)));
    assert_eq!(fleet.places(), 0);
    fleet.judge(c, Says::Fails);
    fleet.deliver_all();
    assert_eq!(fleet.replaced, [c]);
}

#[test]
fn checks_that_work_now_and_then_do_not_verify_for_ever() {
    let mut fleet = Fleet::of(&["a"], restarts(), secs(5));
    let key = fleet.key("a");
    fleet.judge(key, Says::Fails);
    fleet.deliver_all();
    for _ in 0..60 {
        for says in [Says::Passes, Says::Nothing] {
            fleet.judge(key, says);
            fleet.deliver_all();
            fleet.pass(secs(2));
        }
    }
    assert_eq!((fleet.places(), fleet.open()), (0, 0));
    assert_eq!(fleet.replaced.len(), 1, "and it is restarted for nothing that it did");
}

#[test]
fn a_breaker_that_is_open_is_shown_half_open_by_time_though_no_incident_goes_on() {
    let mut fleet = Fleet::of(&[], [], Duration::ZERO);
    let limits = BreakerLimits { open_after: 2, ..BreakerLimits::default() };
    let ladder = Ladder { steps: restarts().into(), breaker: limits, ..Ladder::default() };
    let mut spec = child("a");
    spec.ladder = Some(Arc::new(ladder));
    fleet.tell(Fact::Request { id: RequestId(1), request: Request::Add { spec: Box::new(spec) } });
    fleet.deliver_all();
    let key = fleet.key("a");
    for _ in 0..3 {
        fleet.judge(key, Says::Fails);
        fleet.deliver_all();
    }
    let shown = |fleet: &Fleet| fleet.core.child(key).map(|view| view.breaker);
    assert_eq!(shown(&fleet), Some(BreakerState::Open));
    fleet.judge(key, Says::Passes);
    fleet.deliver_all();
    assert_eq!((shown(&fleet), fleet.open()), (Some(BreakerState::Open), 0));
    let (due, half) = (fleet.core.next_due(), fleet.now + limits.half_open_after);
    assert!(due.is_some_and(|due| due <= half), "somebody looks at it then: {due:?}");
    fleet.told.clear();
    fleet.pass(limits.half_open_after);
    assert_eq!((shown(&fleet), fleet.told.as_slice()), (Some(BreakerState::HalfOpen), &[key][..]));
    assert_eq!(fleet.core.next_due(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nobody keeps a place, and who hangs is replaced, whatever the others do meanwhile.
    #[test]
    fn who_hangs_is_replaced_while_the_probes_of_all_others_flap(
        steps in prop::collection::vec((0u8..8, 1u8..12, 0u8..8), 50..400),
    ) {
        let children = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut fleet = Fleet::of(&children, restarts(), secs(5));
        let keys: Vec<ChildKey> = fleet.core.children().collect();
        let step = |fleet: &mut Fleet, (op, who, what): (u8, u8, u8)| {
            let key = keys[usize::from(who)];
            match op {
                0 | 1 => fleet.judge(key, Says::Fails),
                2 => fleet.judge(key, Says::Passes),
                3 => fleet.judge(key, Says::Nothing),
                4 if what == 0 => {
                    let runs = fleet.core.child(key).filter(|view| view.phase == Phase::Running);
                    if let Some(incarnation) = runs.map(|view| view.incarnation) {
                        fleet.tell(Fact::Exited { child: key, incarnation, exit: crash() });
                    }
                }
                4 | 5 => fleet.deliver(),
                _ => fleet.pass(Duration::from_millis(300 * u64::from(what))),
            }
        };
        for one in &steps {
            step(&mut fleet, *one);
        }
        let hangs = keys[0];
        let before = fleet.core.child(hangs).map(|view| view.incarnation);
        let begun = fleet.now;
        let mut around = steps.iter().cycle();
        while fleet.core.child(hangs).map(|view| view.incarnation) == before {
            let care = fleet.core.child(hangs).and_then(|view| view.care);
            prop_assert!(fleet.now - begun < secs(600), "{:?}", care);
            fleet.judge(hangs, Says::Fails);
            for one in around.by_ref().take(4) {
                step(&mut fleet, *one);
            }
            // Words are late, but heard.
            for _ in 0..fleet.mail.len().saturating_sub(30).max(4) {
                fleet.deliver();
            }
            fleet.pass(Duration::from_millis(500));
        }
        // Everybody calms down.
        for _ in 0..300 {
            fleet.deliver_all();
            for key in &keys {
                fleet.judge(*key, Says::Passes);
            }
            fleet.deliver_all();
            fleet.pass(secs(1));
        }
        prop_assert_eq!((fleet.places(), fleet.open()), (0, 0));
    }
}
