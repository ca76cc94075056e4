//! The boot: order, failures, and what is not started at all.

use super::*;
use crate::exit::Exit;
use crate::policy::OnExhausted::{Escalate, Quarantine};
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne, SimpleOneForOne};
use crate::policy::{Action, AutoShutdown, Fact, Phase, Request, SpecError, Supervisor};

#[test]
fn row_1_a_supervisor_without_children_starts_and_stops() {
    let mut sim = Sim::otp(OneForOne, 1, &[]);
    sim.tell(Fact::Shutdown);
    assert_eq!(sim.did(), "finished shutdown");
}

#[test]
fn row_3_a_child_that_ignores_its_start_keeps_its_spec() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Escalate, 1), &["a", "b"]);
    sim.script("a", &["ignore"]);
    sim.tell(Fact::Boot);
    assert_eq!((sim.did().as_str(), sim.phases().as_str()), ("start a#1, start b#1", "a:done b:running"));
}

#[test]
fn row_4_a_temporary_child_that_ignores_its_start_is_dropped() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Escalate, 1), &["a temporary", "b"]);
    sim.script("a", &["ignore"]);
    sim.tell(Fact::Boot);
    assert_eq!((sim.did().as_str(), sim.phases().as_str()), ("start a#1, removed a, start b#1", "b:running"));
}

#[test]
fn row_26_duplicate_ids_and_templates_that_are_not_one_are_refused() {
    let spec = Sim::spec(OneForOne, Escalate, 1);
    let twice = Supervisor::new(spec.clone(), vec![child("a"), child("a")]);
    assert_eq!(twice.err(), Some(SpecError::Duplicate { id: "a".into() }));
    let pool = Sim::spec(SimpleOneForOne, Escalate, 1);
    assert_eq!(Supervisor::new(pool, vec![]).err(), Some(SpecError::OneTemplate { found: 0 }));
}

#[test]
fn row_27_significance_is_refused_under_never_and_for_a_permanent_child() {
    let mut spec = Sim::spec(OneForOne, Escalate, 1);
    let never = Supervisor::new(spec.clone(), vec![child("a significant")]);
    assert_eq!(never.err(), Some(SpecError::SignificantWithNever { id: "a".into() }));
    spec.auto_shutdown = AutoShutdown::AnySignificant;
    let permanent = Supervisor::new(spec, vec![child("a significant")]);
    assert_eq!(permanent.err(), Some(SpecError::SignificantPermanent { id: "a".into() }));
}

#[test]
fn row_28_a_window_of_zero_is_refused() {
    let mut spec = Sim::spec(OneForOne, Escalate, 1);
    spec.intensity.within = secs(0);
    assert_eq!(Supervisor::new(spec, vec![]).err(), Some(SpecError::ZeroWindow));
}

#[test]
fn row_51_a_failed_boot_stops_the_started_in_reverse_and_says_who_and_why() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Escalate, 9), &["a", "b", "c", "d"]);
    sim.script("c", &["fail"]);
    sim.tell(Fact::Boot);
    assert_eq!(
        sim.did(),
        "start a#1, start b#1, start c#1, report start_error c#1, stop b#1, stop a#1, finished boot_failed"
    );
}

#[test]
fn under_quarantine_one_for_one_children_do_not_wait_for_each_other() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Quarantine, 9), &["a", "b", "c"]);
    sim.silence("a");
    sim.tell(Fact::Boot);
    assert_eq!(sim.did(), "start a#1, start b#1, start c#1");
}

#[test]
fn in_every_other_case_the_next_child_waits_for_the_one_before() {
    for (strategy, exhausted) in [(OneForOne, Escalate), (OneForAll, Quarantine), (RestForOne, Quarantine)] {
        let mut sim = Sim::with(Sim::spec(strategy, exhausted, 9), &["a", "b"]);
        sim.silence("a");
        sim.tell(Fact::Boot);
        assert_eq!((sim.did().as_str(), sim.phase("b")), ("start a#1", Phase::Waiting));
        sim.ready("a");
        assert_eq!(sim.did(), "start b#1");
    }
}

#[test]
fn a_start_failure_at_boot_under_quarantine_holds_up_only_who_depends_on_it() {
    let mut sim = Sim::with(Sim::spec(RestForOne, Quarantine, 9), &["a", "b", "c"]);
    sim.script("b", &["fail"]);
    sim.tell(Fact::Boot);
    assert_eq!(sim.phases(), "a:running b:backoff c:waiting");
    assert_eq!(sim.view("c").waits_for, Some(sim.key("b")));
    sim.drain();
    assert_eq!(sim.phases(), "a:running b:running c:running");
}

#[test]
fn the_end_of_the_boot_is_told_once() {
    let mut core =
        Supervisor::new(Sim::spec(OneForAll, Escalate, 9), vec![child("a"), child("b")]).expect("valid");
    let mut told = Vec::new();
    let mut facts = std::collections::VecDeque::from([Fact::Boot]);
    while let Some(fact) = facts.pop_front() {
        for action in core.on_fact(secs(1), fact) {
            if let Action::Start { child, incarnation } = action {
                facts.push_back(Fact::Ready { child, incarnation });
            } else {
                told.push(action);
            }
        }
    }
    assert_eq!(told.iter().filter(|action| **action == Action::Booted).count(), 1);
    assert_eq!(told.last(), Some(&Action::Booted));
    assert!(core.on_fact(secs(2), Fact::Boot).is_empty());
}

#[test]
fn a_child_stopped_by_an_operator_in_an_earlier_life_is_not_started() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Quarantine, 9), &["a stopped", "b"]);
    sim.tell(Fact::Boot);
    assert_eq!(sim.phases(), "a:stopped b:running");
    assert!(sim.view("a").stopped_by_operator);
    sim.ask(Request::Start { child: sim.key("a") });
    assert_eq!(sim.phase("a"), Phase::Running);
}

#[test]
fn a_shortage_at_boot_is_waited_out_even_under_escalate() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Escalate, 0), &["a", "b"]);
    sim.script("a", &["shortage", "shortage"]);
    sim.tell(Fact::Boot);
    assert_eq!(sim.phases(), "a:backoff b:waiting");
    sim.pass(secs(5));
    assert_eq!(sim.phases(), "a:running b:running");
}

#[test]
fn counting_of_incarnations_goes_on_where_an_earlier_life_stopped() {
    let mut spec = child("a");
    spec.incarnation = crate::id::Incarnation(41);
    let mut core = Supervisor::new(Sim::spec(OneForOne, Quarantine, 1), vec![spec]).expect("valid");
    let actions = core.on_fact(secs(1), Fact::Boot);
    assert!(matches!(actions[0], Action::Start { incarnation: crate::id::Incarnation(42), .. }));
}

#[test]
fn a_start_ended_before_readiness_is_a_failure_even_with_code_zero() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Quarantine, 9), &["a transient"]);
    sim.silence("a");
    sim.tell(Fact::Boot);
    sim.exit("a", code(0));
    assert_eq!((sim.did().as_str(), sim.phase("a")), ("start a#1, report start_error a#1", Phase::Backoff));
}

#[test]
fn shutdown_during_the_boot_starts_nobody_else() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Escalate, 9), &["a", "b", "c"]);
    sim.silence("b");
    sim.tell(Fact::Boot);
    sim.tell(Fact::Shutdown);
    sim.exit("b", Exit::Stopped);
    assert_eq!(sim.did(), "start a#1, start b#1, stop b#1, stop a#1, finished shutdown");
}
