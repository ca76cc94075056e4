//! The end of a supervisor: reverse order, deadlines, and what crosses it.

use super::*;
use crate::exit::Exit;
use crate::policy::OnExhausted::Quarantine;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};
use crate::policy::{Fact, Phase, Request};

#[test]
fn row_16_a_child_without_a_stop_deadline_is_waited_for() {
    let mut sim = Sim::otp(OneForOne, 1, &["a infinity"]);
    sim.silence("a");
    sim.tell(Fact::Shutdown);
    assert_eq!((sim.did().as_str(), sim.core.next_due()), ("stop a#1", None));
}

#[test]
fn row_17_a_child_that_ignores_the_stop_is_killed_at_its_deadline_and_the_others_are_asked() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b", "c"]);
    sim.silence("b");
    sim.tell(Fact::Shutdown);
    assert_eq!(sim.did(), "stop c#1, stop b#1");
    sim.unsilence("b");
    sim.pass(secs(9));
    assert_eq!(sim.did(), "");
    sim.pass(secs(1));
    assert_eq!(sim.did(), "kill b#1, report shutdown_error b#1, stop a#1, finished shutdown");
}

#[test]
fn row_19_a_brutal_kill_asks_nothing() {
    let mut sim = Sim::otp(OneForOne, 1, &["a brutal"]);
    sim.tell(Fact::Shutdown);
    assert_eq!(sim.did(), "kill a#1, finished shutdown");
}

#[test]
fn row_21_children_that_die_by_themselves_while_the_supervisor_stops_are_not_restarted() {
    for restart in ["permanent", "transient", "temporary"] {
        for exit in [code(0), Exit::Stopped, crash()] {
            let mut sim = Sim::otp(OneForOne, 9, &[&format!("a {restart}"), "b"]);
            sim.silence("b");
            sim.tell(Fact::Shutdown);
            sim.exit("a", exit);
            sim.exit("b", Exit::Stopped);
            assert!(sim.did().ends_with("finished shutdown"));
        }
    }
}

#[test]
fn row_55_a_stop_waits_for_the_exit_and_for_nothing_else() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    sim.silence("a");
    sim.ask(Request::Terminate { child: sim.key("a") });
    assert_eq!(sim.did(), "stop a#1");
    sim.exit("a", Exit::Stopped);
    assert_eq!(sim.did(), "reply ok");
}

#[test]
fn a_permanent_child_that_answers_a_stop_with_a_normal_end_is_reported() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b transient"]);
    sim.silence("a");
    sim.silence("b");
    sim.tell(Fact::Shutdown);
    sim.exit("b", code(0));
    sim.exit("a", code(0));
    assert_eq!(sim.did(), "stop b#1, stop a#1, report shutdown_error a#1, finished shutdown");
}

#[test]
fn kill_cuts_an_orderly_end_short_and_keeps_its_order() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b infinity", "c"]);
    sim.silence("b");
    sim.tell(Fact::Shutdown);
    assert_eq!(sim.did(), "stop c#1, stop b#1");
    sim.unsilence("b");
    sim.tell(Fact::Kill);
    assert_eq!(sim.moves(), "kill b#1, kill a#1, finished shutdown");
}

#[test]
fn kill_alone_ends_the_supervisor() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b"]);
    sim.tell(Fact::Kill);
    assert_eq!(sim.moves(), "kill b#1, kill a#1, finished shutdown");
}

#[test]
fn shutdown_cuts_into_a_group_restart_and_nothing_is_started_after_it() {
    let mut sim = Sim::otp(OneForAll, 9, &["a", "b", "c"]);
    sim.silence("b");
    sim.exit("a", crash());
    let _ = sim.did();
    sim.add("d");
    sim.tell(Fact::Shutdown);
    sim.exit("b", Exit::Stopped);
    assert_eq!(sim.did(), "reply ShuttingDown, finished shutdown");
}

#[test]
fn shutdown_forgets_every_planned_restart() {
    let mut sim = Sim::with(Sim::spec(RestForOne, Quarantine, 0), &["a", "b"]).booted();
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:quarantined b:waiting");
    sim.tell(Fact::Shutdown);
    assert_eq!((sim.phases().as_str(), sim.core.next_due()), ("a:stopped b:stopped", None));
}

#[test]
fn a_request_to_an_ending_supervisor_is_refused() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    sim.silence("a");
    sim.tell(Fact::Shutdown);
    let _ = sim.did();
    sim.ask(Request::Start { child: sim.key("a") });
    assert_eq!(sim.did(), "reply ShuttingDown");
}

#[test]
fn nothing_follows_the_end() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    sim.tell(Fact::Shutdown);
    let _ = sim.did();
    sim.tell(Fact::Shutdown);
    sim.tell(Fact::Tick);
    sim.add("b");
    assert_eq!(sim.did(), "");
}

#[test]
fn a_child_that_outlives_its_kill_is_stuck_until_it_is_gone() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b"]);
    sim.silence("a");
    sim.ask(Request::Restart { child: sim.key("a") });
    sim.pass(secs(10));
    assert_eq!(sim.did(), "reply ok, stop a#1, kill a#1");
    sim.pass(secs(4));
    assert_eq!(sim.phase("a"), Phase::Stopping);
    sim.pass(secs(3600));
    assert_eq!((sim.phase("a"), sim.core.next_due()), (Phase::Stuck, None));
    sim.exit("a", Exit::Killed);
    assert_eq!(sim.moves(), "start a#2");
}

#[test]
fn more_time_to_stop_moves_the_kill() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    sim.silence("a");
    sim.tell(Fact::Shutdown);
    sim.pass(secs(9));
    let incarnation = sim.view("a").incarnation;
    sim.tell(Fact::Extend { child: sim.key("a"), incarnation, by: secs(60) });
    sim.pass(secs(59));
    assert_eq!(sim.did(), "stop a#1");
    sim.pass(secs(1));
    assert_eq!(sim.did(), "kill a#1");
}
