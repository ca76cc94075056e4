//! A new definition while children run: only the difference happens, as a whole or not at all.

use super::*;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, RestForOne};
use crate::policy::{
    AutoShutdown, Change, ChildSpec, Intensity, OnExhausted, Phase, Reform, ReformChild, Request, Restart,
    RestartStrategy, SupervisorSpec,
};

/// `"id words…"` keeps, `"+id …"` updates in place, `"!id …"` renews.
fn reform(spec: SupervisorSpec, children: &[&str]) -> Request {
    let one = |words: &&str| {
        let (change, words) = match words.split_at(1) {
            ("+", words) => (Change::Update, words),
            ("!", words) => (Change::Renew, words),
            _ => (Change::Keep, *words),
        };
        ReformChild { spec: child(words), change }
    };
    Request::Reform(Box::new(Reform { spec, children: children.iter().map(one).collect() }))
}

fn parking(strategy: RestartStrategy, children: &[&str]) -> Sim {
    Sim::parking(strategy, 2, children)
}

fn flags(sim: &Sim) -> SupervisorSpec {
    sim.core.spec().clone()
}

#[test]
fn only_the_difference_happens() {
    let mut sim = parking(OneForOne, &["a", "b", "c", "d"]);
    sim.ask(reform(flags(&sim), &["a", "!c", "+d transient", "e"]));
    assert_eq!(sim.did(), "stop c#1, added , stop b#1, start e#1, start c#2, removed b, reply ok");
    assert_eq!(sim.phases(), "a:running c:running d:running e:running");
    assert_eq!(sim.view("d").spec.restart, Restart::Transient);
}

#[test]
fn the_order_is_that_of_the_definition() {
    let mut sim = parking(RestForOne, &["a", "b", "c"]);
    sim.ask(reform(flags(&sim), &["c", "b", "n", "a"]));
    assert_eq!(sim.phases(), "c:running b:running n:running a:running");
    let _ = sim.did();
    sim.exit("b", crash());
    assert_eq!(sim.moves(), "stop a#1, stop n#1, start b#2, start n#2, start a#2");
}

#[test]
fn row_83_84_85_and_86_a_faulty_definition_changes_nothing() {
    let mut sim = parking(OneForOne, &["a", "b"]);
    sim.ask(reform(flags(&sim), &["!a", "b significant"]));
    assert!(sim.did().starts_with("reply BadSpec(SignificantWithNever"));
    let zero = Intensity { max_restarts: 1, within: secs(0) };
    sim.ask(reform(SupervisorSpec { intensity: zero, ..flags(&sim) }, &["!a"]));
    assert_eq!(sim.did(), "reply BadSpec(ZeroWindow)");
    sim.ask(reform(flags(&sim), &["a", "a"]));
    assert!(sim.did().starts_with("reply BadSpec(Duplicate"));
    assert_eq!(sim.phases(), "a:running b:running");
}

#[test]
fn row_83_and_85_new_flags_hold_from_now_on() {
    let mut sim = parking(OneForOne, &["a"]);
    let wider = Intensity { max_restarts: 9, within: secs(60) };
    sim.ask(reform(SupervisorSpec { strategy: OneForAll, intensity: wider, ..flags(&sim) }, &["a", "b"]));
    let _ = sim.did();
    assert_eq!(sim.view("a").budget_left, 9);
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "stop b#1, start a#2, start b#2");
}

/// What the suite does with `code_change`: each pair of flags, without touching anybody.
#[test]
fn row_64_65_66_67_68_and_69_automatic_shutdown_changes_without_touching_anybody() {
    use AutoShutdown::{AllSignificant, AnySignificant, Never};
    let kinds = [Never, AnySignificant, AllSignificant];
    for from in kinds {
        for to in kinds.into_iter().filter(|to| *to != from) {
            let significant = |flag| if flag == Never { "" } else { " significant" };
            let children = |flag| ["a", "b"].map(|id| format!("{id} transient{}", significant(flag)));
            let before = children(from);
            let spec =
                SupervisorSpec { auto_shutdown: from, ..Sim::spec(OneForOne, OnExhausted::Escalate, 2) };
            let mut sim = Sim::with(spec, &before.each_ref().map(String::as_str)).booted();
            let after = children(to).map(|words| format!("+{words}"));
            let new = SupervisorSpec { auto_shutdown: to, ..flags(&sim) };
            sim.ask(reform(new, &after.each_ref().map(String::as_str)));
            assert_eq!(sim.did(), "reply ok", "{from:?} to {to:?}");
            sim.exit("a", code(0));
            let ends = to == AnySignificant;
            assert_eq!(sim.core.is_ending(), ends, "{from:?} to {to:?}");
            if !ends {
                sim.exit("b", code(0));
                assert_eq!(sim.core.is_ending(), to == AllSignificant, "{from:?} to {to:?}");
            }
        }
    }
}

#[test]
fn row_70_significance_changes_both_ways_and_not_under_never() {
    let spec = SupervisorSpec {
        auto_shutdown: AutoShutdown::AnySignificant,
        ..Sim::spec(OneForOne, OnExhausted::Escalate, 2)
    };
    let mut sim = Sim::with(spec, &["a transient significant", "b transient"]).booted();
    sim.ask(reform(flags(&sim), &["+a transient", "+b transient significant"]));
    assert_eq!(sim.did(), "reply ok");
    sim.exit("a", code(0));
    assert!(!sim.core.is_ending());
    sim.ask(reform(
        SupervisorSpec { auto_shutdown: AutoShutdown::Never, ..flags(&sim) },
        &["a transient", "b transient significant"],
    ));
    assert!(sim.did().starts_with("reply BadSpec"));
    sim.exit("b", code(0));
    assert!(sim.core.is_ending());
}

#[test]
fn nothing_of_it_is_counted() {
    let mut sim = Sim::otp(OneForOne, 0, &["a"]);
    for _ in 0..20 {
        sim.ask(reform(flags(&sim), &["!a"]));
        sim.ask(reform(flags(&sim), &["!a", "b"]));
    }
    assert!(!sim.core.is_ending());
    assert_eq!(sim.phases(), "a:running b:stopped".replace("stopped", "running"));
}

#[test]
fn a_parked_child_is_tried_at_once_with_its_new_settings_and_a_clean_slate() {
    let mut sim = parking(OneForOne, &["a"]);
    for _ in 0..3 {
        sim.exit("a", crash());
    }
    assert_eq!(sim.phase("a"), Phase::Quarantined);
    let _ = sim.did();
    sim.ask(reform(flags(&sim), &["!a"]));
    assert_eq!((sim.moves(), sim.view("a").budget_left), ("start a#4".to_owned(), 2));
}

#[test]
fn whom_an_operator_stopped_stays_stopped() {
    let mut sim = parking(OneForOne, &["a"]);
    sim.ask(Request::Stop { child: sim.key("a") });
    let _ = sim.did();
    sim.ask(reform(flags(&sim), &["!a"]));
    assert_eq!((sim.did(), sim.phase("a")), ("reply ok".to_owned(), Phase::Stopped));
}

#[test]
fn who_leaves_is_answered_for_once_it_is_gone_and_killed_when_it_does_not_go() {
    let mut sim = parking(OneForOne, &["a", "b"]);
    sim.silence("b");
    sim.ask(reform(flags(&sim), &["a"]));
    assert_eq!(sim.did(), "stop b#1");
    sim.unsilence("b");
    sim.pass(secs(10));
    assert_eq!(sim.did(), "kill b#1, report shutdown_error b#1, removed b, reply ok");
}

#[test]
fn who_is_named_again_while_leaving_comes_back() {
    let mut sim = parking(OneForOne, &["a", "b"]);
    sim.silence("b");
    sim.ask(reform(flags(&sim), &["a"]));
    sim.ask(reform(flags(&sim), &["a", "b"]));
    assert_eq!(sim.did(), "stop b#1, reply ok, reply ok");
    sim.unsilence("b");
    sim.exit("b", crate::exit::Exit::Stopped);
    assert_eq!(sim.did(), "start b#2");
}

#[test]
fn it_waits_for_a_group_restart_to_end() {
    let mut sim = parking(OneForAll, &["a", "b"]);
    sim.silence("a");
    sim.exit("b", crash());
    let _ = sim.did();
    sim.ask(reform(flags(&sim), &["a"]));
    assert_eq!(sim.did(), "");
    sim.unsilence("a");
    sim.exit("a", crate::exit::Exit::Stopped);
    assert_eq!(sim.moves(), "start a#2, start b#2, stop b#2, removed b");
}

#[test]
fn whoever_waited_for_the_one_that_leaves_starts() {
    let mut sim = parking(RestForOne, &["a", "b"]);
    for _ in 0..3 {
        sim.exit("a", crash());
    }
    assert_eq!(sim.phases(), "a:quarantined b:waiting");
    let _ = sim.did();
    sim.ask(reform(flags(&sim), &["b"]));
    assert_eq!(sim.moves(), "removed a, start b#4");
}

#[test]
fn a_newcomer_that_is_switched_off_is_known_and_down() {
    let mut sim = parking(OneForOne, &["a"]);
    sim.ask(reform(flags(&sim), &["a", "b stopped", "c held"]));
    assert_eq!(sim.phases(), "a:running b:stopped c:waiting");
    let spec: &ChildSpec = sim.view("b").spec;
    assert!(spec.stopped);
}

#[test]
fn who_waits_for_those_that_leave_hears_of_it_also_when_the_supervisor_ends_meanwhile() {
    let mut sim = parking(OneForOne, &["a", "b"]);
    sim.silence("a");
    sim.ask(reform(flags(&sim), &["b"]));
    assert_eq!(sim.did(), "stop a#1");
    sim.tell(crate::policy::Fact::Shutdown);
    assert_eq!(sim.did(), "", "the last in the order is still on its way out");
    sim.exit("a", crate::exit::Exit::Stopped);
    assert_eq!(sim.did(), "reply ok, stop b#1, finished shutdown");
}

#[test]
fn whose_work_was_done_is_started_once_it_has_no_end_any_more() {
    let mut sim = parking(OneForOne, &["a transient", "b transient"]);
    sim.exit("a", code(0));
    sim.exit("b", code(0));
    let _ = sim.did();
    sim.ask(reform(flags(&sim), &["+a", "+b transient backoff"]));
    assert_eq!(sim.moves(), "start a#2");
    assert_eq!(sim.phases(), "a:running b:done");
}

#[test]
fn in_another_order_nobody_waits_for_who_comes_after_it() {
    let mut sim = parking(RestForOne, &["g", "a", "b"]);
    sim.exit("g", code(78));
    assert_eq!(sim.phases(), "g:quarantined a:waiting b:waiting");
    sim.ask(reform(flags(&sim), &["a", "g", "b"]));
    assert_eq!(sim.phases(), "a:running g:quarantined b:waiting");
}

#[test]
fn who_is_named_again_in_a_pause_that_ends_while_its_group_stops_is_there_afterwards() {
    let mut sim = parking(OneForAll, &["a", "b", "h held", "e"]);
    sim.ask(Request::Start { child: sim.key("e") });
    sim.ask(Request::Pause { child: sim.key("e"), lasting: Some(secs(1)) });
    sim.silence("e");
    sim.ask(reform(flags(&sim), &["a", "b", "h held"]));
    sim.ask(reform(flags(&sim), &["a", "b", "h held", "e"]));
    sim.exit("e", crate::exit::Exit::Stopped);
    assert_eq!(sim.phases(), "a:running b:running h:waiting e:stopped");
    sim.unsilence("e");
    sim.silence("b");
    sim.exit("a", crash());
    // The stop of the group has passed over `e`, and waits for `b` when the pause ends.
    sim.pass(secs(2));
    sim.unsilence("b");
    sim.exit("b", crate::exit::Exit::Stopped);
    sim.held("h", false);
    assert_eq!(sim.phases(), "a:running b:running h:running e:running");
}
