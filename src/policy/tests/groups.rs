//! Group restarts: who is stopped, who is started again, in which order.

use super::*;
use crate::policy::Request;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};

#[test]
fn row_32_one_for_all_replaces_everybody_and_has_a_limit() {
    let mut sim = Sim::otp(OneForAll, 1, &["a", "b", "c"]);
    sim.exit("b", crash());
    assert_eq!(sim.did(), "report terminated b#1, stop c#1, stop a#1, start a#2, start b#2, start c#2");
    sim.exit("c", crash());
    assert_eq!(sim.did(), "report terminated c#2, report gave_up c#2, stop b#2, stop a#2, finished gave_up");
}

#[test]
fn row_33_one_for_all_gives_up_when_another_child_fails_every_restart() {
    let mut sim = Sim::otp(OneForAll, 3, &["a", "b"]);
    sim.script("b", &["fail"; 9]);
    sim.exit("a", crash());
    sim.drain();
    assert!(sim.did().ends_with("report gave_up b#4, stop a#4, finished gave_up"));
}

#[test]
fn row_34_one_for_all_other_child_fails_restart() {
    let mut sim = Sim::otp(OneForAll, 3, &["a", "b"]);
    sim.script("b", &["fail"]);
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "stop b#1, start a#2, start b#2");
    assert_eq!(sim.phases(), "a:running b:backoff");
    sim.drain();
    assert_eq!(sim.moves(), "stop a#2, start a#3, start b#3");
}

#[test]
fn row_41_rest_for_one_leaves_earlier_siblings_alone_and_counts_one() {
    let mut sim = Sim::otp(RestForOne, 2, &["a", "b", "c", "d"]);
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop d#1, stop c#1, start b#2, start c#2, start d#2");
    assert_eq!((sim.view("a").incarnation.0, sim.view("a").budget_left), (1, 1));
}

#[test]
fn row_42_rest_for_one_gives_up_when_a_later_child_fails_every_restart() {
    let mut sim = Sim::otp(RestForOne, 3, &["a", "b"]);
    sim.script("b", &["fail"; 9]);
    sim.exit("a", crash());
    sim.drain();
    assert!(sim.did().ends_with("report gave_up b#4, stop a#2, finished gave_up"));
}

#[test]
fn row_43_rest_for_one_does_not_restart_the_earlier_restarted_child_on_retry() {
    let mut sim = Sim::otp(RestForOne, 3, &["a", "b", "c"]);
    sim.script("b", &["fail"]);
    sim.exit("a", crash());
    sim.drain();
    assert_eq!(sim.moves(), "stop c#1, stop b#1, start a#2, start b#2, start b#3, start c#2");
}

#[test]
fn row_76_temporary_children_are_forgotten_under_every_strategy() {
    for strategy in [OneForOne, OneForAll, RestForOne] {
        let mut sim = Sim::otp(strategy, 3, &["a temporary", "b temporary", "c temporary"]);
        sim.exit("a", crate::exit::Exit::Killed);
        sim.exit("b", code(0));
        sim.ask(Request::Terminate { child: sim.key("c") });
        assert_eq!(sim.core.children().count(), 0);
    }
}

#[test]
fn row_78_a_temporary_bystander_is_stopped_and_forgotten() {
    let mut sim = Sim::otp(RestForOne, 3, &["a", "b temporary", "c"]);
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "stop c#1, stop b#1, removed b, start a#2, start c#2");
}

#[test]
fn row_81_a_hanging_retry_under_rest_for_one_leaves_later_siblings_down() {
    let mut sim = Sim::otp(RestForOne, 9, &["a", "b", "c", "d"]);
    sim.script("b", &["fail", "fail"]);
    sim.exit("b", crash());
    assert_eq!(sim.phases(), "a:running b:backoff c:waiting d:waiting");
    let _ = sim.did();
    sim.ask(Request::Revive { child: sim.key("b") });
    sim.ask(Request::Delete { child: sim.key("c") });
    sim.ask(Request::Terminate { child: sim.key("b") });
    assert_eq!(sim.did(), "reply Restarting, reply ok, removed c, reply ok");
    sim.drain();
    assert_eq!(sim.phases(), "a:running b:stopped d:stopped");
}

#[test]
fn row_87_children_start_in_order_and_stop_in_reverse() {
    let mut sim =
        Sim::with(Sim::spec(RestForOne, crate::policy::OnExhausted::Escalate, 3), &["a", "b", "c", "d"]);
    sim.tell(crate::policy::Fact::Boot);
    assert_eq!(sim.did(), "start a#1, start b#1, start c#1, start d#1");
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop d#1, stop c#1, start b#2, start c#2, start d#2");
    sim.tell(crate::policy::Fact::Shutdown);
    assert_eq!(sim.did(), "stop d#2, stop c#2, stop b#2, stop a#1, finished shutdown");
}

#[test]
fn a_group_restart_revives_who_was_down() {
    let mut sim = Sim::otp(OneForAll, 3, &["a", "b transient", "c"]);
    sim.exit("b", code(0));
    sim.ask(Request::Terminate { child: sim.key("c") });
    let _ = sim.did();
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "start a#2, start b#2, start c#2");
}

#[test]
fn an_exit_before_its_turn_to_be_stopped_is_consumed_there_and_counts_nothing() {
    let mut sim = Sim::otp(OneForAll, 1, &["a", "b", "c"]);
    sim.silence("c");
    sim.exit("a", crash());
    sim.exit("b", crash());
    assert_eq!(sim.did(), "report terminated a#1, stop c#1");
    sim.unsilence("c");
    sim.exit("c", crate::exit::Exit::Stopped);
    assert_eq!(sim.did(), "report shutdown_error b#1, start a#2, start b#2, start c#2");
}

#[test]
fn a_restarted_child_that_dies_while_its_group_starts_is_treated_after_it() {
    let mut sim = Sim::otp(OneForAll, 9, &["a", "b"]);
    sim.silence("b");
    sim.exit("a", crash());
    sim.exit("b", crate::exit::Exit::Stopped);
    assert_eq!(sim.moves(), "stop b#1, start a#2, start b#2");
    sim.exit("a", crash());
    assert_eq!(sim.did(), "");
    sim.ready("b");
    assert_eq!(sim.did(), "report terminated a#2, stop b#2");
}

#[test]
fn a_call_during_a_group_start_is_answered_after_it_and_a_verb_at_once() {
    let mut sim = Sim::otp(RestForOne, 9, &["a", "b", "c"]);
    sim.silence("b");
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop c#1, start b#2");
    sim.ask(Request::Terminate { child: sim.key("a") });
    sim.ask(Request::Stop { child: sim.key("c") });
    assert_eq!(sim.did(), "reply ok");
    sim.ready("b");
    assert_eq!(sim.did(), "stop a#1, reply ok");
    assert_eq!(sim.phases(), "a:stopped b:running c:stopped");
}
