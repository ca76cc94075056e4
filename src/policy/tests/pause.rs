//! Hands off: what no rule does to a paused child, and what goes on all the same.

use super::*;
use crate::exit::Exit;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};
use crate::policy::{Change, Phase, Plan, Reform, ReformChild, Request};

fn pause(sim: &mut Sim, id: &str, seconds: Option<u64>) {
    sim.ask(Request::Pause { child: sim.key(id), lasting: seconds.map(secs) });
    let _ = sim.did();
}

fn resume(sim: &mut Sim, id: &str) {
    sim.ask(Request::Resume { child: sim.key(id) });
}

#[test]
fn a_paused_child_that_ends_is_not_started_and_nothing_is_counted() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    pause(&mut sim, "a", None);
    sim.exit("a", crash());
    assert_eq!(sim.did(), "report terminated a#1");
    sim.pass(secs(10_000));
    assert_eq!((sim.phase("a"), sim.view("a").budget_left), (Phase::Waiting, 1));
    resume(&mut sim, "a");
    assert_eq!(sim.did(), "reply ok, start a#2");
    assert_eq!((sim.phase("a"), sim.view("a").budget_left), (Phase::Running, 1));
}

#[test]
fn a_pause_with_an_end_ends_by_itself() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    pause(&mut sim, "a", Some(60));
    sim.exit("a", crash());
    let next = sim.view("a").next.map(|next| (next.what, next.at));
    assert_eq!(next, Some((Plan::Start, Some(sim.now + secs(60)))));
    sim.pass(secs(59));
    assert_eq!(sim.phase("a"), Phase::Waiting);
    sim.pass(secs(1));
    assert_eq!((sim.phase("a"), sim.view("a").paused), (Phase::Running, None));
}

#[test]
fn a_second_pause_moves_the_end() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    pause(&mut sim, "a", Some(60));
    pause(&mut sim, "a", None);
    assert_eq!(sim.core.next_due(), None);
    pause(&mut sim, "a", Some(5));
    sim.pass(secs(5));
    assert_eq!(sim.view("a").paused, None);
}

#[test]
fn a_restart_of_its_group_passes_it_over() {
    let mut sim = Sim::parking(OneForAll, 9, &["a", "b", "c"]);
    pause(&mut sim, "b", None);
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "stop c#1, start a#2, start c#2");
    assert_eq!((sim.phase("b"), sim.view("b").incarnation.0), (Phase::Running, 1));
}

#[test]
fn those_who_build_on_it_wait_with_it() {
    let mut sim = Sim::parking(RestForOne, 9, &["a backoff", "b"]);
    sim.exit("a", crash());
    sim.exit("a", crash());
    pause(&mut sim, "a", None);
    sim.pass(secs(1000));
    assert_eq!(sim.phases(), "a:waiting b:waiting");
    resume(&mut sim, "a");
    assert_eq!(sim.moves(), "start a#3, start b#3");
}

#[test]
fn a_slow_start_has_the_time_it_needs_and_is_timed_anew_after_the_pause() {
    let mut sim = Sim::parking(OneForOne, 9, &["a stopped"]);
    sim.silence("a");
    sim.ask(Request::Start { child: sim.key("a") });
    sim.pass(secs(29));
    pause(&mut sim, "a", None);
    sim.pass(secs(1000));
    assert_eq!(sim.phase("a"), Phase::Starting);
    resume(&mut sim, "a");
    sim.pass(secs(29));
    assert_eq!(sim.phase("a"), Phase::Starting);
    sim.pass(secs(1));
    assert_eq!(sim.phase("a"), Phase::Stopping);
}

#[test]
fn a_parked_child_is_not_tried() {
    let mut sim = Sim::parking(OneForOne, 0, &["a"]);
    sim.exit("a", crash());
    pause(&mut sim, "a", None);
    sim.pass(secs(1000));
    assert_eq!((sim.phase("a"), sim.core.next_due()), (Phase::Quarantined, None));
    resume(&mut sim, "a");
    assert_eq!(sim.core.next_due(), Some(sim.now + secs(30)));
}

#[test]
fn what_is_asked_is_done_and_the_pause_goes_on() {
    let mut sim = Sim::parking(OneForAll, 9, &["a", "b"]);
    pause(&mut sim, "a", None);
    sim.ask(Request::Restart { child: sim.key("a") });
    sim.ask(Request::Stop { child: sim.key("a") });
    sim.ask(Request::Start { child: sim.key("a") });
    assert_eq!(sim.moves(), "stop a#1, start a#2, stop a#2, start a#3");
    sim.exit("a", crash());
    assert_eq!((sim.moves(), sim.phase("a")), (String::new(), Phase::Waiting));
}

#[test]
fn a_stop_asked_for_while_its_group_restarts_is_not_lost() {
    let mut sim = Sim::parking(OneForAll, 9, &["a", "b", "c"]);
    pause(&mut sim, "b", None);
    sim.silence("c");
    sim.exit("a", crash());
    sim.ask(Request::Stop { child: sim.key("b") });
    sim.exit("c", Exit::Stopped);
    sim.ready("c");
    assert_eq!(sim.phases(), "a:running b:stopped c:running");
}

#[test]
fn a_child_that_was_paused_before_the_boot_is_not_started() {
    for group in [OneForOne, RestForOne, OneForAll] {
        let mut sim = Sim::parking(group, 9, &["a", "b paused", "c"]);
        assert_eq!(
            sim.phases(),
            "a:running b:waiting c:running",
            "{group:?}: who is put aside holds nobody back"
        );
        let _ = sim.did();
        resume(&mut sim, "b");
        assert_eq!(sim.moves(), "start b#1");
    }
}

#[test]
fn a_group_starts_without_a_paused_child_that_is_down() {
    let mut sim = Sim::parking(OneForAll, 9, &["a", "b", "c"]);
    pause(&mut sim, "b", None);
    sim.exit("b", crash());
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "stop c#1, start a#2, start c#2");
    assert_eq!(sim.phases(), "a:running b:waiting c:running");
}

#[test]
fn a_failing_start_that_was_asked_for_is_not_tried_again() {
    let mut sim = Sim::otp(OneForOne, 0, &["a", "b"]);
    pause(&mut sim, "a", None);
    sim.script("a", &["fail"]);
    sim.ask(Request::Restart { child: sim.key("a") });
    assert_eq!(sim.phases(), "a:waiting b:running");
}

#[test]
fn work_that_is_done_is_done() {
    let mut sim = Sim::parking(OneForOne, 9, &["a transient"]);
    pause(&mut sim, "a", None);
    sim.exit("a", code(0));
    assert_eq!(sim.phase("a"), Phase::Done);
}

#[test]
fn nothing_lives_without_its_supervisor() {
    let mut sim = Sim::parking(OneForOne, 9, &["a", "b"]);
    pause(&mut sim, "a", Some(60));
    sim.tell(crate::policy::Fact::Shutdown);
    assert_eq!(sim.moves(), "stop b#1, stop a#1, finished shutdown");
}

#[test]
fn a_new_definition_leaves_the_paused_alone_and_takes_hold_when_the_pause_ends() {
    let mut sim = Sim::parking(OneForOne, 2, &["a", "b"]);
    sim.ask(Request::Pause { child: sim.key("a"), lasting: None });
    let _ = sim.did();
    let renewed = |words: &str| ReformChild { spec: child(words), change: Change::Renew };
    let reform = Reform { spec: sim.core.spec().clone(), children: vec![renewed("a"), renewed("b")] };
    sim.ask(Request::Reform(Box::new(reform)));
    assert_eq!(sim.moves(), "stop b#1, start b#2");
    sim.ask(Request::Resume { child: sim.key("a") });
    assert_eq!(sim.moves(), "stop a#1, start a#2");
}

#[test]
fn a_start_at_the_end_of_a_pause_is_of_the_new_definition_and_goes_on() {
    let mut sim = Sim::parking(OneForOne, 2, &["a"]);
    pause(&mut sim, "a", Some(5));
    sim.exit("a", crash());
    let renewed = ReformChild { spec: child("a"), change: Change::Renew };
    let reform = Reform { spec: sim.core.spec().clone(), children: vec![renewed] };
    sim.ask(Request::Reform(Box::new(reform)));
    let _ = sim.did();
    sim.pass(secs(6));
    assert_eq!(sim.moves(), "start a#2");
    assert_eq!(sim.phase("a"), Phase::Running);
}
