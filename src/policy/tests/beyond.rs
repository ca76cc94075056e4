//! What goes beyond OTP: backoff, fatal codes, shortages, deadlines.

use super::*;
use crate::exit::{Exit, StartFailure};
use crate::policy::OnExhausted::Quarantine;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};
use crate::policy::{Action, Fact, Phase, Plan};

#[test]
fn the_first_restart_is_immediate_and_the_next_ones_wait_longer_each() {
    let mut sim = Sim::parking(OneForOne, 9, &["a backoff"]);
    let mut waits = Vec::new();
    for _ in 0..4 {
        sim.exit("a", crash());
        let wait = sim.core.next_due().map(|due| due - sim.now).unwrap_or_default();
        waits.push(wait.as_millis());
        sim.pass(wait);
    }
    assert_eq!(waits, [0, 200, 400, 800]);
}

#[test]
fn a_long_run_makes_the_next_restart_immediate() {
    let mut sim = Sim::parking(OneForOne, 9, &["a backoff"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    sim.pass(secs(601));
    sim.exit("a", crash());
    assert_eq!((sim.phase("a"), sim.view("a").consecutive), (Phase::Running, 1));
}

#[test]
fn a_group_stops_at_once_waits_the_backoff_and_starts_in_order() {
    let mut sim = Sim::parking(OneForAll, 9, &["a", "b backoff", "c"]);
    sim.exit("b", crash());
    let _ = sim.did();
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop c#2, stop a#2");
    assert_eq!(sim.phases(), "a:waiting b:backoff c:waiting");
    sim.pass(std::time::Duration::from_millis(200));
    assert_eq!(sim.moves(), "start a#3, start b#3, start c#3");
}

#[test]
fn an_earlier_crash_during_the_wait_of_a_group_is_treated_at_once() {
    let mut sim = Sim::parking(RestForOne, 9, &["a", "b backoff", "c"]);
    sim.exit("b", crash());
    sim.exit("b", crash());
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "start a#2, start b#3, start c#3");
    assert_eq!(sim.core.next_due(), None);
}

#[test]
fn an_end_before_min_uptime_is_a_start_failure() {
    let mut sim = Sim::parking(OneForOne, 9, &["a transient uptime"]);
    sim.pass(secs(4));
    sim.exit("a", code(0));
    assert_eq!(sim.did(), "report start_error a#1");
    sim.drain();
    sim.pass(secs(5));
    sim.exit("a", code(0));
    assert_eq!(sim.phase("a"), Phase::Done);
}

#[test]
fn a_shortage_is_waited_out_and_not_counted() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    sim.script("a", &["shortage"; 20]);
    sim.exit("a", crash());
    assert_eq!(sim.view("a").next.map(|next| next.what), Some(Plan::Retry));
    sim.pass(secs(3600));
    assert_eq!((sim.phase("a"), sim.view("a").incarnation.0), (Phase::Running, 22));
}

#[test]
fn a_held_child_starts_when_it_is_freed_and_a_running_one_is_never_stopped() {
    let mut sim = Sim::parking(OneForOne, 9, &["a held", "b"]);
    assert_eq!(
        (sim.phase("a"), sim.view("a").next.map(|n| n.what)),
        (Phase::Waiting, Some(Plan::WaitDependency))
    );
    sim.held("b", true);
    assert_eq!(sim.phases(), "a:waiting b:running");
    sim.held("a", false);
    assert_eq!(sim.phases(), "a:running b:running");
    sim.exit("b", crash());
    assert_eq!(sim.phases(), "a:running b:waiting");
    sim.held("b", false);
    assert_eq!(sim.phases(), "a:running b:running");
}

#[test]
fn later_siblings_wait_behind_a_held_child_of_an_ordered_supervisor() {
    let mut sim = Sim::parking(RestForOne, 9, &["a", "b held", "c"]);
    assert_eq!(sim.phases(), "a:running b:waiting c:waiting");
    assert_eq!(sim.view("c").waits_for, Some(sim.key("b")));
    let _ = sim.did();
    sim.held("b", false);
    assert_eq!(sim.did(), "start b#1, start c#1");
}

#[test]
fn a_slow_start_is_asked_to_end_then_killed_and_is_a_start_failure() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Quarantine, 9), &["a"]);
    sim.silence("a");
    sim.tell(Fact::Boot);
    sim.pass(secs(30));
    assert_eq!(sim.did(), "start a#1, stop a#1");
    sim.pass(secs(10));
    assert_eq!(sim.did(), "kill a#1");
    let late = Fact::Ready { child: sim.key("a"), incarnation: sim.view("a").incarnation };
    sim.tell(late);
    let fact = sim.exited("a", Exit::Killed);
    let actions = sim.core.on_fact(sim.now, fact);
    assert!(matches!(&actions[0], Action::Report { exit: Some(Exit::StartTimeout), .. }));
    assert_eq!(sim.phase("a"), Phase::Backoff);
}

#[test]
fn a_group_waits_for_a_slow_start_and_goes_on_after_its_end() {
    let mut sim = Sim::with(Sim::spec(RestForOne, Quarantine, 9), &["a", "b"]);
    sim.silence("a");
    sim.tell(Fact::Boot);
    sim.pass(secs(30));
    sim.exit("a", Exit::Stopped);
    assert_eq!(sim.did(), "start a#1, stop a#1, report start_error a#1");
    assert_eq!(sim.phases(), "a:backoff b:waiting");
    sim.unsilence("a");
    sim.drain();
    assert_eq!(sim.phases(), "a:running b:running");
}

#[test]
fn more_time_to_start_moves_the_deadline() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Quarantine, 9), &["a"]);
    sim.silence("a");
    sim.tell(Fact::Boot);
    sim.pass(secs(29));
    let incarnation = sim.view("a").incarnation;
    sim.tell(Fact::Extend { child: sim.key("a"), incarnation, by: secs(100) });
    sim.pass(secs(99));
    assert_eq!(sim.phase("a"), Phase::Starting);
    sim.pass(secs(1));
    assert_eq!(sim.phase("a"), Phase::Stopping);
}

#[test]
fn a_delay_under_escalate_keeps_the_common_budget() {
    let mut sim = Sim::otp(OneForOne, 2, &["a backoff", "b"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    sim.pass(secs(1));
    assert_eq!(sim.phase("a"), Phase::Running);
    sim.exit("b", crash());
    assert!(sim.did().ends_with("finished gave_up"));
}

#[test]
fn changes_are_told_exactly_when_people_see_something_new() {
    let mut sim = Sim::parking(OneForOne, 9, &["a"]);
    let exit = sim.exited("a", crash());
    let actions = sim.core.on_fact(sim.now, exit);
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Changed { .. })).count(), 1);
    assert!(!actions.spilled());
    assert!(sim.core.on_fact(sim.now, Fact::Tick).is_empty());
    assert!(sim.core.on_fact(sim.now, Fact::Held { child: sim.key("a"), held: true }).is_empty());
}

#[test]
fn exactly_otp_is_said_only_of_what_is() {
    let plain = |words: &str| {
        let mut spec = child(words);
        spec.exit_codes.fatal = [].into();
        crate::policy::Supervisor::new(
            Sim::spec(OneForOne, crate::policy::OnExhausted::Escalate, 1),
            vec![spec],
        )
    };
    assert!(plain("a").expect("valid").is_exactly_otp());
    assert!(!plain("a backoff").expect("valid").is_exactly_otp());
    assert!(!Sim::parking(OneForOne, 1, &[]).core.is_exactly_otp());
}

#[test]
fn a_spawn_error_is_reported_with_its_reason() {
    let mut sim = Sim::with(Sim::spec(OneForOne, Quarantine, 9), &["a"]);
    sim.silence("a");
    sim.tell(Fact::Boot);
    let exit = Exit::StartFailed(StartFailure::NotFound { program: "x".into() });
    let (child, incarnation) = (sim.key("a"), sim.view("a").incarnation);
    let actions = sim.core.on_fact(sim.now, Fact::StartFailed { child, incarnation, exit: exit.clone() });
    assert!(matches!(&actions[0], Action::Report { exit: Some(told), .. } if *told == exit));
}
