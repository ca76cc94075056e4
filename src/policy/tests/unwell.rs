//! A worker that runs and does not work: ended once, and treated as if it had ended by itself.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cause::Cause;
use crate::exit::Exit;
use crate::health::{Health, Unwell, Verdict};
use crate::id::Incarnation;
use crate::policy::RestartStrategy::{OneForAll, OneForOne};
use crate::policy::{Fact, Phase, Plan, Request, RestartStrategy};
use crate::recovery::Ladder;

fn verdict(unwell: Option<Unwell>) -> Arc<Verdict> {
    Arc::new(Verdict {
        health: if unwell.is_some() { Health::Unhealthy } else { Health::Healthy },
        score: None,
        terms: Vec::new(),
        issues: Vec::new(),
        unwell,
        unresponsive: false,
        accepts: true,
        started: true,
        holds: true,
        blind: false,
        dim: false,
        unseen: false,
        flaps: false,
    })
}

fn unwell(patience: Option<Duration>) -> Arc<Verdict> {
    verdict(Some(Unwell {
        cause: Cause::ProbeFailed,
        message: "it does not answer".to_owned(),
        patience,
        dead: false,
        lasted: secs(1),
        looks: None,
    }))
}

fn judge(sim: &mut Sim, id: &str, verdict: Arc<Verdict>) {
    let incarnation = sim.view(id).incarnation;
    sim.tell(Fact::Judged { child: sim.key(id), incarnation, verdict });
}

#[test]
fn who_is_unwell_is_stopped_and_started_again_and_that_is_counted() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    judge(&mut sim, "a", unwell(None));
    assert_eq!(sim.moves(), "stop a#1, start a#2");
    assert_eq!((sim.phase("a"), sim.view("a").budget_left), (Phase::Running, 0));
    judge(&mut sim, "a", unwell(None));
    assert_eq!(sim.phase("a"), Phase::Quarantined);
}

#[test]
fn who_is_well_is_left_alone() {
    let mut sim = Sim::parking(OneForOne, 1, &["a"]);
    judge(&mut sim, "a", verdict(None));
    assert_eq!(sim.did(), "");
}

#[test]
fn a_verdict_that_is_told_again_changes_nothing_while_it_is_being_stopped() {
    let mut sim = Sim::parking(OneForOne, 5, &["a"]);
    sim.silence("a");
    judge(&mut sim, "a", unwell(None));
    let next = sim.view("a").next.map(|next| next.what);
    assert_eq!((sim.did(), next), ("stop a#1".to_owned(), Some(Plan::SoftRestart)));
    for _ in 0..10 {
        judge(&mut sim, "a", unwell(None));
    }
    assert_eq!(sim.did(), "");
}

#[test]
fn who_gives_no_sign_of_life_is_killed_sooner() {
    let mut sim = Sim::parking(OneForOne, 5, &["a"]);
    sim.silence("a");
    judge(&mut sim, "a", unwell(Some(secs(3))));
    sim.pass(secs(2));
    assert_eq!(sim.did(), "stop a#1");
    sim.pass(secs(1));
    assert_eq!(sim.did(), "kill a#1");
}

#[test]
fn a_verdict_about_an_earlier_incarnation_is_stale() {
    let mut sim = Sim::parking(OneForOne, 5, &["a"]);
    sim.exit("a", crash());
    let _ = sim.did();
    let stale = sim.core.stale();
    sim.tell(Fact::Judged { child: sim.key("a"), incarnation: Incarnation(1), verdict: unwell(None) });
    assert_eq!((sim.did().as_str(), sim.core.stale()), ("", stale + 1));
}

#[test]
fn nobody_touches_who_is_paused_temporary_or_not_ready() {
    let mut sim = Sim::parking(OneForOne, 5, &["a", "b temporary", "c stopped"]);
    sim.ask(Request::Pause { child: sim.key("a"), lasting: None });
    sim.silence("c");
    sim.ask(Request::Start { child: sim.key("c") });
    let _ = sim.did();
    for id in ["a", "b", "c"] {
        judge(&mut sim, id, unwell(None));
        assert_eq!(sim.did(), "", "{id}");
    }
}

#[test]
fn a_start_of_which_nobody_can_see_whether_it_is_over_is_not_ended() {
    let unseen = |unseen: bool| Arc::new(Verdict { blind: unseen, unseen, ..Verdict::clone(&verdict(None)) });
    let mut sim = Sim::parking(OneForOne, 5, &["a stopped"]);
    sim.silence("a");
    sim.ask(Request::Start { child: sim.key("a") });
    assert_eq!(sim.did(), "reply ok, start a#1");
    judge(&mut sim, "a", unseen(true));
    for _ in 0..5 {
        sim.pass(secs(30));
        assert_eq!((sim.did().as_str(), sim.phase("a")), ("", Phase::Starting));
    }
    judge(&mut sim, "a", unseen(false));
    sim.pass(secs(29));
    assert_eq!(sim.did(), "");
    sim.pass(secs(1));
    assert_eq!(sim.did(), "stop a#1", "its check works again, and says that it is not ready");
}

#[test]
fn a_check_that_broke_and_works_again_in_time_leaves_the_time_to_start_as_it_is() {
    let unseen = |unseen: bool| Arc::new(Verdict { blind: unseen, unseen, ..Verdict::clone(&verdict(None)) });
    for asked in [None, Some(secs(100))] {
        let mut sim = Sim::parking(OneForOne, 5, &["a stopped"]);
        sim.silence("a");
        sim.ask(Request::Start { child: sim.key("a") });
        let _ = sim.did();
        if let Some(by) = asked {
            let incarnation = sim.view("a").incarnation;
            sim.tell(Fact::Extend { child: sim.key("a"), incarnation, by });
        }
        for _ in 0..2 {
            sim.pass(secs(10));
            judge(&mut sim, "a", unseen(true));
            judge(&mut sim, "a", unseen(false));
        }
        let left = asked.unwrap_or(secs(30)) - secs(21);
        sim.pass(left);
        assert_eq!(sim.did(), "", "{asked:?}");
        sim.pass(secs(1));
        assert_eq!(sim.did(), "stop a#1", "{asked:?}");
    }
}

#[test]
fn what_a_start_asked_for_stands_while_nobody_can_see_it() {
    let unseen = |unseen: bool| Arc::new(Verdict { blind: unseen, unseen, ..Verdict::clone(&verdict(None)) });
    let mut sim = Sim::parking(OneForOne, 5, &["a stopped"]);
    sim.silence("a");
    sim.ask(Request::Start { child: sim.key("a") });
    let _ = sim.did();
    judge(&mut sim, "a", unseen(true));
    sim.pass(secs(31));
    let incarnation = sim.view("a").incarnation;
    sim.tell(Fact::Extend { child: sim.key("a"), incarnation, by: secs(100) });
    judge(&mut sim, "a", unseen(false));
    sim.pass(secs(99));
    assert_eq!(sim.did(), "");
    sim.pass(secs(1));
    assert_eq!(sim.did(), "stop a#1");
}

#[test]
fn its_group_is_restarted_with_it_and_an_operator_may_stop_it_meanwhile() {
    let mut sim = Sim::parking(OneForAll, 5, &["a", "b"]);
    judge(&mut sim, "a", unwell(None));
    assert_eq!(sim.moves(), "stop a#1, stop b#1, start a#2, start b#2");
    sim.silence("a");
    judge(&mut sim, "a", unwell(None));
    sim.ask(Request::Stop { child: sim.key("a") });
    sim.exit("a", Exit::Stopped);
    assert_eq!(sim.phase("a"), Phase::Stopped);
    assert_eq!(sim.phase("b"), Phase::Running);
}

/// One that has no ladder, and whose failures are recorded.
fn recorded(strategy: RestartStrategy, children: &[&str]) -> Sim {
    let ladder = Arc::new(Ladder::none());
    super::recover::grouped(strategy, &ladder, children)
}

#[test]
fn without_a_ladder_who_is_unwell_is_looked_at_ended_and_started_again_and_that_is_an_incident() {
    let mut sim = recorded(OneForOne, &["a"]);
    judge(&mut sim, "a", unwell(None));
    assert_eq!(
        sim.did(),
        "opened a: probe_failed, gather a#1, stop a#1, report terminated a#1, began soft_restart, start a#2"
    );
    assert_eq!(sim.view("a").budget_left, 1, "it is counted as an end of its own");
    judge(&mut sim, "a", verdict(None));
    sim.pass(secs(10));
    assert_eq!(sim.did(), "ended soft_restart: ok, closed: ok (well for 10s)");
    // Its trials end in the same way.
    for _ in 0..3 {
        judge(&mut sim, "a", unwell(None));
        sim.pass(secs(1));
    }
    let did = sim.did();
    assert!(did.contains("closed: failed (parked: its restarts are spent)"), "{did}");
    sim.pass(secs(30));
    judge(&mut sim, "a", unwell(None));
    assert_eq!(sim.phase("a"), Phase::Quarantined);
}

#[test]
fn without_a_ladder_an_end_is_an_incident_and_a_pause_cuts_a_look_short() {
    let mut sim = recorded(OneForAll, &["a", "b"]);
    sim.exit("a", crash());
    let did = sim.did();
    assert!(did.starts_with("opened a: crash, report terminated a#1, began soft_restart, stop b#1"), "{did}");
    sim.pass(secs(10));
    assert!(sim.did().contains("closed: ok"));
    sim.gathers = false;
    judge(&mut sim, "a", unwell(None));
    sim.ask(Request::Pause { child: sim.key("a"), lasting: None });
    sim.pass(secs(60));
    assert_eq!(
        sim.did(),
        "opened a: probe_failed, gather a#2, reply ok, closed: interrupted (it was paused)"
    );
    assert_eq!(sim.phase("a"), Phase::Running);
}
