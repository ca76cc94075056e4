//! Incidents that something else crosses: the group, a pause, a boot, a new definition, a stop that hangs.

use std::sync::Arc;

use super::recover::{grouped, judge, ladder, own, sick, sim, well};
use super::*;
use crate::id::Incarnation;
use crate::policy::RestartStrategy::{self, OneForAll, OneForOne, RestForOne};
use crate::policy::{Change, ChildSpec, Fact, OnExhausted, Phase, Reform, ReformChild, Request};
use crate::recovery::{Ladder, Step, Strategy};

fn recover(sim: &mut Sim, id: &str, strategy: Strategy) {
    let request =
        Request::Recover { child: sim.key(id), step: Box::new(Step::new(strategy)), by: "ann".into() };
    sim.ask(request);
}

/// The usual ladder; the second restart in a row waits for 30 s.
fn patient(strategy: RestartStrategy, children: &[&str]) -> Sim {
    let mut sim = with_backoff(strategy, children).booted();
    sim.heal = true;
    sim
}

fn with_backoff(strategy: RestartStrategy, children: &[&str]) -> Sim {
    let mut specs: Vec<ChildSpec> = children.iter().map(|words| child(words)).collect();
    for spec in &mut specs {
        spec.ladder = Some(Arc::default());
        spec.backoff.first = secs(30);
    }
    let mut sim = Sim::of(Sim::spec(strategy, OnExhausted::Quarantine, 5), specs);
    sim.heal = true;
    sim
}

#[test]
fn a_step_that_waits_starts_nobody_whose_group_is_down() {
    for strategy in [RestForOne, OneForAll] {
        let mut sim = patient(strategy, &["db", "web"]);
        sim.leave = Err("busy");
        judge(&mut sim, "web", &sick());
        sim.exit("db", crash());
        sim.exit("db", crash());
        assert_eq!(sim.phases(), "db:backoff web:waiting", "{strategy:?}");
        sim.leave = Ok(0);
        let _ = sim.did();
        sim.pass(secs(29));
        assert_eq!(sim.moves(), "", "{strategy:?}: it starts with its group and not before");
        sim.pass(secs(1));
        let started = sim.moves();
        assert!(started.find("start db#3") < started.find("start web#"), "{strategy:?}: {started}");
        sim.pass(secs(10));
        let closed = sim.did();
        assert!(closed.contains("closed: ok (well for 10s)"), "{strategy:?}: {closed}");
    }
}

#[test]
fn a_step_that_was_to_begin_while_the_group_went_down_leaves_the_start_to_the_group() {
    let mut sim = patient(RestForOne, &["db", "web", "ui"]);
    sim.exit("db", crash());
    sim.silence("ui");
    sim.exit("db", crash());
    assert_eq!(sim.phases(), "db:backoff web:running ui:stopping");
    recover(&mut sim, "ui", Strategy::SoftRestart);
    judge(&mut sim, "web", &sick());
    sim.unsilence("ui");
    sim.exit("ui", crate::exit::Exit::Stopped);
    let _ = sim.did();
    sim.pass(secs(29));
    assert!(!sim.did().contains("start web"));
    sim.pass(secs(1));
    assert_eq!(sim.phases(), "db:running web:running ui:running");
}

#[test]
fn what_is_stopped_with_its_group_has_not_held() {
    let mut sim = patient(OneForAll, &["a", "b"]);
    judge(&mut sim, "a", &sick());
    judge(&mut sim, "a", &well());
    sim.exit("b", crash());
    sim.exit("b", crash());
    assert_eq!(sim.phases(), "a:waiting b:backoff");
    sim.pass(secs(29));
    let did = sim.did();
    assert!(did.contains("ended soft_restart: interrupted") && !did.contains("closed"), "{did}");
    sim.pass(secs(1));
    sim.pass(secs(9));
    assert!(!sim.did().contains("closed"), "it has not run for 10 s yet");
    sim.pass(secs(1));
    assert!(sim.did().contains("closed: ok (well for 10s)"));
}

#[test]
fn who_ends_while_it_is_paused_has_not_held() {
    let mut sim = sim(&Arc::default(), &["a"]);
    sim.ask(Request::Pause { child: sim.key("a"), lasting: None });
    recover(&mut sim, "a", Strategy::SoftRestart);
    sim.pass(secs(2));
    let _ = sim.did();
    sim.exit("a", crash());
    let did = sim.did();
    assert!(did.contains("ended soft_restart: failed, closed: failed (it ended, and is paused:"), "{did}");
    sim.pass(secs(60));
    assert_eq!(sim.did(), "", "hands off");
}

#[test]
fn what_is_done_to_one_that_does_not_run_is_not_verified() {
    let clear = "clear_cache";
    let mut sim = sim(&ladder([own(clear)]), &["a"]);
    sim.ask(Request::Stop { child: sim.key("a") });
    let _ = sim.did();
    sim.ask(Request::Recover { child: sim.key("a"), step: Box::new(own(clear)), by: "ann".into() });
    sim.pass(secs(20));
    let did = sim.did();
    assert!(did.ends_with("closed: ok (it was done; the worker does not run)"), "{did}");
}

#[test]
fn who_is_parked_by_hand_while_the_group_boots_takes_nobodys_turn() {
    for strategy in [RestForOne, OneForAll] {
        let mut sim = with_backoff(strategy, &["a", "b", "c"]);
        sim.silence("a");
        sim.tell(Fact::Boot);
        recover(&mut sim, "c", Strategy::Quarantine);
        sim.unsilence("a");
        sim.ready("a");
        assert_eq!(sim.phase("c"), Phase::Quarantined, "{strategy:?}");
        let rest = if strategy == RestForOne { "a:running b:running" } else { "a:waiting b:waiting" };
        assert!(sim.phases().starts_with(rest), "{strategy:?}: {}", sim.phases());
        sim.ask(Request::Start { child: sim.key("c") });
        sim.pass(secs(10));
        assert_eq!(sim.phases(), "a:running b:running c:running", "{strategy:?}");
    }
}

#[test]
fn a_hard_restart_kills_one_that_hangs_in_its_stop() {
    let mut sim = sim(&Arc::default(), &["a infinity"]);
    sim.silence("a");
    sim.ask(Request::Restart { child: sim.key("a") });
    assert_eq!(sim.moves(), "stop a#1");
    recover(&mut sim, "a", Strategy::HardRestart);
    assert!(sim.moves().ends_with("kill a#1"));
    sim.unsilence("a");
    sim.exit("a", crate::exit::Exit::Killed);
    assert_eq!(sim.phase("a"), Phase::Running);
}

#[test]
fn an_incident_does_not_go_on_with_another_ladder() {
    let steps = [Step { approval: Some(secs(60)), ..Step::new(Strategy::SoftRestart) }];
    let mut sim = grouped(OneForOne, &ladder(steps), &["a"]);
    judge(&mut sim, "a", &sick());
    let with = |ladder: Option<Arc<Ladder>>| {
        let spec = ChildSpec { ladder, ..child("a") };
        ReformChild { spec, change: Change::Update }
    };
    let spec = sim.core.spec().clone();
    sim.ask(Request::Reform(Box::new(Reform { spec, children: vec![with(None)] })));
    let did = sim.did();
    assert!(did.contains("closed: interrupted (its ladder is another one now)"), "{did}");
    sim.ask(Request::Approve { child: sim.key("a") });
    sim.pass(secs(120));
    let did = sim.did();
    assert!(!did.contains("began") && !did.contains("stop a"), "{did}");
}

#[test]
fn a_cause_is_over_with_its_trouble() {
    let when: Arc<[Arc<str>]> = Arc::new(["broker_gone".into()]);
    let steps = [Step::new(Strategy::SoftRestart), Step { when, ..own("flush-cache") }];
    let mut sim = sim(&ladder(steps), &["a"]);
    let incarnation = Incarnation(1);
    sim.tell(Fact::Classed { child: sim.key("a"), incarnation, class: "broker_gone".into() });
    judge(&mut sim, "a", &well());
    sim.exit("a", code(70));
    let did = sim.did();
    assert!(did.contains("began soft_restart") && !did.contains("broker_gone"), "{did}");
    assert!(!did.contains("flush-cache"), "{did}");
}
