//! Children that are added, ended and forgotten while everything runs, and children of one template.

use super::*;
use crate::exit::Exit;
use crate::policy::RestartStrategy::{OneForOne, SimpleOneForOne};
use crate::policy::{ChildKey, Fact, Phase, Request};

#[test]
fn row_5_a_temporary_child_that_ignores_its_start_is_not_kept_when_added() {
    let mut sim = Sim::otp(OneForOne, 1, &[]);
    sim.script("a", &["ignore"]);
    sim.add("a temporary");
    assert_eq!(sim.did(), "start a#1, reply ignored, removed a");
}

#[test]
fn row_6_and_7_a_pool_keeps_nobody_who_ignores_its_start() {
    for template in ["t temporary", "t"] {
        let mut sim = Sim::otp(SimpleOneForOne, 1, &[template]);
        sim.script("a", &["ignore"]);
        sim.add("a");
        assert_eq!(sim.did(), "start a#1, reply ignored, removed a");
        sim.tell(Fact::Shutdown);
        assert_eq!(sim.did(), "finished shutdown");
    }
}

#[test]
fn row_10_an_added_child_whose_start_fails_is_not_kept() {
    let mut sim = Sim::otp(OneForOne, 1, &[]);
    sim.script("a", &["fail"]);
    sim.add("a");
    assert_eq!(sim.did(), "start a#1, reply start_failed, removed a");
}

#[test]
fn row_11_a_revived_child_whose_start_fails_stays_down_without_a_retry() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    sim.ask(Request::Terminate { child: sim.key("a") });
    sim.script("a", &["fail"]);
    sim.ask(Request::Revive { child: sim.key("a") });
    assert_eq!(sim.did(), "stop a#1, reply ok, start a#2, reply start_failed");
    assert_eq!((sim.phase("a"), sim.core.next_due()), (Phase::Stopped, None));
}

#[test]
fn row_12_a_pool_stores_nothing_of_a_failed_start() {
    let mut sim = Sim::otp(SimpleOneForOne, 1, &["t"]);
    sim.script("a", &["fail"]);
    sim.add("a");
    assert_eq!(sim.did(), "start a#1, reply start_failed, removed a");
}

#[test]
fn row_18_20_and_36_a_pool_stops_in_parallel_with_one_common_deadline() {
    let mut sim = Sim::otp(SimpleOneForOne, 1, &["t"]);
    for id in ["a", "b", "c"] {
        sim.add(id);
    }
    sim.silence("b");
    let _ = sim.did();
    sim.tell(Fact::Shutdown);
    assert_eq!(sim.did(), "stop a#1, stop b#1, stop c#1");
    sim.unsilence("b");
    sim.pass(secs(10));
    assert_eq!(sim.did(), "kill b#1, report shutdown_error b#1, finished shutdown");
}

#[test]
fn row_22_pool_children_that_die_by_themselves_while_stopping_are_not_restarted() {
    let mut sim = Sim::otp(SimpleOneForOne, 1, &["t"]);
    sim.add("a");
    sim.silence("a");
    sim.tell(Fact::Shutdown);
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report shutdown_error a#1, finished shutdown");
}

#[test]
fn row_23_calls_say_what_stands_in_their_way() {
    let mut sim = Sim::otp(OneForOne, 1, &["a"]);
    let a = sim.key("a");
    sim.add("a");
    sim.ask(Request::Revive { child: a });
    sim.ask(Request::Delete { child: a });
    assert_eq!(sim.did(), "reply AlreadyStarted, reply Running, reply Running");
    sim.ask(Request::Terminate { child: a });
    sim.ask(Request::Terminate { child: a });
    sim.add("a");
    assert_eq!(sim.did(), "stop a#1, reply ok, reply ok, reply AlreadyPresent");
    sim.ask(Request::Delete { child: a });
    sim.ask(Request::Delete { child: a });
    sim.ask(Request::Terminate { child: a });
    assert_eq!(sim.did(), "reply ok, removed a, reply NotFound, reply NotFound");
}

#[test]
fn row_24_a_pool_takes_terminate_and_refuses_restart_and_delete() {
    let mut sim = Sim::otp(SimpleOneForOne, 1, &["t"]);
    sim.add("a");
    let a = sim.key("a");
    let _ = sim.did();
    sim.ask(Request::Revive { child: a });
    sim.ask(Request::Delete { child: a });
    assert_eq!(sim.did(), "reply SimpleOneForOne, reply SimpleOneForOne");
    sim.ask(Request::Terminate { child: a });
    assert_eq!(sim.did(), "stop a#1, reply ok, removed a");
    sim.ask(Request::Terminate { child: a });
    assert_eq!(sim.did(), "reply ok");
}

#[test]
fn row_35_a_pool_replaces_one_and_has_a_limit() {
    let mut sim = Sim::otp(SimpleOneForOne, 1, &["t"]);
    sim.add("a");
    sim.add("b");
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, start a#2");
    sim.exit("b", crash());
    assert_eq!(sim.did(), "report terminated b#1, report gave_up b#1, stop a#2, finished gave_up");
}

#[test]
fn row_38_a_pool_gives_up_over_failing_restarts() {
    let mut sim = Sim::otp(SimpleOneForOne, 3, &["t"]);
    sim.add("a");
    sim.script("a", &["fail"; 9]);
    sim.exit("a", crash());
    sim.drain();
    assert!(sim.did().ends_with("report gave_up a#4, finished gave_up"));
}

#[test]
fn row_40_a_pool_child_whose_restart_ignores_is_removed() {
    let mut sim = Sim::otp(SimpleOneForOne, 3, &["t"]);
    sim.add("a");
    sim.script("a", &["ignore"]);
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1, start a#2, removed a");
    sim.tell(Fact::Shutdown);
    assert_eq!(sim.did(), "finished shutdown");
}

#[test]
fn row_71_and_72_a_pool_of_temporary_children_is_empty_after_they_were_killed() {
    let mut sim = Sim::otp(SimpleOneForOne, 1, &["t temporary supervisor"]);
    for n in 0..1000 {
        sim.add(&format!("a{n}"));
    }
    assert_eq!(sim.core.children().count(), 1000);
    for n in 0..1000 {
        sim.exit(&format!("a{n}"), Exit::Killed);
    }
    assert_eq!(sim.core.children().count(), 0);
}

#[test]
fn row_82_terminate_ends_a_hanging_retry_in_a_pool() {
    let mut sim = Sim::otp(SimpleOneForOne, 9, &["t"]);
    sim.add("a");
    sim.script("a", &["fail", "fail"]);
    sim.exit("a", crash());
    let _ = sim.did();
    sim.ask(Request::Terminate { child: sim.key("a") });
    assert_eq!(sim.did(), "reply ok, removed a");
    sim.drain();
    assert_eq!(sim.did(), "");
}

#[test]
fn row_92_and_93_a_terminated_child_is_listed_and_a_deleted_one_is_not() {
    let mut sim = Sim::otp(OneForOne, 1, &["a", "b"]);
    sim.ask(Request::Terminate { child: sim.key("a") });
    assert_eq!(sim.phases(), "a:stopped b:running");
    sim.ask(Request::Delete { child: sim.key("a") });
    assert_eq!(sim.phases(), "b:running");
}

#[test]
fn a_slot_is_used_again_and_whoever_is_new_there_begins_at_one() {
    let mut sim = Sim::otp(OneForOne, 9, &["a temporary"]);
    let old = sim.exited("a", crash());
    let old_key = sim.key("a");
    sim.exit("a", crash());
    sim.add("b");
    assert_eq!((sim.key("b").slot(), sim.view("b").incarnation.0), (old_key.slot(), 1));
    assert_ne!(sim.key("b"), old_key);
    let _ = sim.did();
    sim.tell(old);
    assert_eq!((sim.did().as_str(), sim.phase("b")), ("", Phase::Running));
}

#[test]
fn a_retry_of_a_removed_child_does_not_reach_the_next_one_in_its_slot() {
    let mut sim = Sim::otp(SimpleOneForOne, 9, &["t"]);
    sim.add("a");
    sim.script("a", &["fail"]);
    sim.exit("a", crash());
    sim.ask(Request::Terminate { child: sim.key("a") });
    sim.add("b");
    sim.script("b", &["fail"]);
    sim.exit("b", crash());
    let _ = sim.did();
    sim.retry();
    assert_eq!((sim.did().as_str(), sim.phase("b")), ("", Phase::Backoff));
    sim.retry();
    assert_eq!(sim.phase("b"), Phase::Running);
}

#[test]
fn a_call_about_nobody_is_refused() {
    let mut sim = Sim::otp(OneForOne, 1, &[]);
    sim.ask(Request::Terminate { child: ChildKey::first(7) });
    sim.ask(Request::Start { child: ChildKey::first(7) });
    assert_eq!(sim.did(), "reply NotFound, reply NotFound");
}
