//! Ladders on real processes: what a step waits for, what is passed over and why, and what follows a step that failed.
//!
//! A worker here is ill while `{dir}/ill` is there, and its own strategies say in `{dir}/seen` that they ran.

use std::fs;

use serde_json::Value;

use crate::rig::Rig;

/// A probe that looks often and has its say at once.
const PROBE: &str = r#"{ exec = ["sh", "-c", "test ! -e {dir}/ill-$REGROW_WORKER"], period = "200ms", retry_period = "100ms", failure_threshold = 1, timeout = "20s" }"#;

/// Workers that run on and are looked at, with this behind them.
fn rig(workers: &[&str], more: &str) -> Rig {
    let worker =
        |name: &&str| format!("[worker.{name}]\ncommand = [\"sleep\", \"1000\"]\nprobe.alive = {PROBE}\n");
    let rig = Rig::start(&format!("{}{more}", workers.iter().map(worker).collect::<String>()));
    for worker in workers {
        rig.wait_status(worker, "healthy");
    }
    rig
}

/// A strategy that says that it ran, and does this.
fn own(name: &str, does: &str) -> String {
    format!(
        "[strategy.{name}]\ntimeout = \"10m\"\ncommand = [\"sh\", \"-c\", \"echo {name} $REGROW_WORKER >> {{dir}}/seen; {does}\"]\n"
    )
}

/// Heals the worker.
const HEAL: &str = "rm -f {dir}/ill-$REGROW_WORKER";

fn fall_ill(rig: &Rig, worker: &str) {
    fs::write(rig.path(format!("ill-{worker}")), "").unwrap();
}

fn json(rig: &Rig, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&rig.ok(&arguments)).unwrap()
}

/// The newest incident of a worker; null: it had none.
fn newest(rig: &Rig, worker: &str) -> Value {
    json(rig, &["incidents", "--worker", worker])["items"][0].clone()
}

/// The `count`-th incident of a worker, once it is closed.
fn closed(rig: &Rig, worker: &str, count: usize) -> Value {
    let all =
        || json(rig, &["incidents", "--worker", worker])["items"].as_array().cloned().unwrap_or_default();
    rig.wait("the incident is closed", || {
        let all = all();
        all.len() == count && all[0]["closed_at"].is_string()
    });
    all()[0].clone()
}

/// What was tried: strategy and outcome.
fn tried(incident: &Value) -> Vec<(String, String)> {
    let word = |attempt: &Value, key: &str| attempt[key].as_str().unwrap_or("under way").to_owned();
    let attempts = incident["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| (word(attempt, "strategy"), word(attempt, "outcome"))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(strategy, outcome)| ((*strategy).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn a_step_that_needs_approval_waits_until_somebody_gives_it() {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"50ms\"\nsteps = [{{ do = \"mend\", approval = \"1h\" }}]\n{}",
            own("mend", HEAL)
        ),
    );
    fall_ill(&rig, "web");
    rig.wait("it waits", || rig.ok(&["why", "web"]).contains("mend waits for approval"));
    assert_eq!(rig.worker("web")["next_action"]["do"], "mend");
    let id = newest(&rig, "web")["id"].as_str().unwrap().to_owned();
    assert_eq!(rig.worker("web")["next_action"]["approve"], *id);
    for verb in ["why", "describe"] {
        assert!(rig.ok(&[verb, "web"]).contains(&format!("regrow approve {id}")), "{verb}");
    }
    assert!(rig.ok(&["status"]).contains(&format!("mend waits for `regrow approve {id}`")));
    assert_eq!(rig.worker("web")["status"], "recovering");
    assert_eq!(rig.witness("seen"), [""; 0], "nothing is done before");
    rig.ok(&["approve", &id]);
    let incident = closed(&rig, "web", 1);
    assert_eq!((&incident["outcome"], tried(&incident)), (&"ok".into(), pairs(&[("mend", "ok")])));
    assert_eq!(rig.witness("seen"), ["mend web"]);
    let again = rig.regrow(&["approve", &id]);
    assert_eq!(again.status.code(), Some(1), "none of its steps waits: {again:?}");
}

#[test]
fn an_approval_that_nobody_gives_leads_to_the_next_step() {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"50ms\"\nsteps = [{{ do = \"drop\", approval = \"300ms\" }}, {{ do = \"mend\" }}]\n{}{}",
            own("drop", "true"),
            own("mend", HEAL)
        ),
    );
    fall_ill(&rig, "web");
    let incident = closed(&rig, "web", 1);
    assert_eq!(tried(&incident), pairs(&[("drop", "skipped"), ("mend", "ok")]));
    assert_eq!(incident["attempts"][0]["reason"], "nobody approved it in time");
    assert_eq!(rig.witness("seen"), ["mend web"]);
}

#[test]
fn a_restart_that_does_not_help_is_followed_by_the_next_step() {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"300ms\"\nsteps = [{{ do = \"soft_restart\" }}, {{ do = \"useless\" }}, {{ do = \"mend\" }}]\n{}{}",
            own("useless", "true"),
            own("mend", HEAL)
        ),
    );
    fall_ill(&rig, "web");
    let incident = closed(&rig, "web", 1);
    let steps = pairs(&[("soft_restart", "failed"), ("useless", "failed"), ("mend", "ok")]);
    assert_eq!((&incident["outcome"], tried(&incident)), (&"ok".into(), steps), "{incident}");
    assert_eq!(rig.witness("seen"), ["useless web", "mend web"]);
    assert_eq!(rig.worker("web")["incarnation"], 2);
    rig.wait_status("web", "healthy");
    let log = || rig.text(".regrow/logs/web_recovery.log");
    rig.wait("its recovery log has the end", || log().contains("incident.closed"));
    let log = log();
    let of = |kind: &str| log.lines().filter(|line| line.contains(kind)).collect::<Vec<_>>().join("\n");
    assert!(of("incident.opened").contains(incident["id"].as_str().unwrap()), "{log}");
    assert!(of("recovery.failed").contains("soft_restart did not help"), "{log}");
    assert!(of("recovery.verified").contains("mend helped"), "{log}");
    assert!(of("worker.ready").contains("ready"), "{log}");
}

#[test]
fn a_step_waits_for_its_delay() {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"50ms\"\nsteps = [{{ do = \"mend\", delay = \"700ms\" }}]\n{}",
            own("mend", HEAL)
        ),
    );
    fall_ill(&rig, "web");
    let incident = closed(&rig, "web", 1);
    assert_eq!(tried(&incident), pairs(&[("mend", "ok")]));
    let at = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let waited = at(&incident["attempts"][0]["at"]).duration_since(at(&incident["opened_at"]));
    assert!(waited.as_millis() >= 650, "{incident}");
}

#[test]
fn steps_for_other_causes_and_steps_that_cannot_be_done_are_passed_over_with_their_reason() {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"50ms\"\nsteps = [{{ do = \"other\", when = [\"memory\", \"disk\"] }}, \
             {{ do = \"connection_reset\" }}, {{ do = \"mend\", when = [\"probe_failed\"] }}, {{ do = \"other\" }}]\n{}{}",
            own("other", "true"),
            own("mend", HEAL)
        ),
    );
    fall_ill(&rig, "web");
    let incident = closed(&rig, "web", 1);
    let steps = pairs(&[("other", "skipped"), ("connection_reset", "skipped"), ("mend", "ok")]);
    assert_eq!(tried(&incident), steps, "{incident}");
    assert_eq!(incident["attempts"][0]["reason"], "it is not for probe_failed");
    assert_eq!(incident["attempts"][1]["reason"], "the worker has no on.connection_reset");
    assert_eq!(rig.witness("seen"), ["mend web"]);
    assert!(rig.ok(&["why", "web"]).contains("connection_reset is passed over"));
}

/// Falls ill twice; who was healed by what.
fn twice(cooldown: &str) -> Vec<String> {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"50ms\"\ncooldown = \"{cooldown}\"\nsteps = [{{ do = \"first\" }}, {{ do = \"second\" }}]\n{}{}",
            own("first", HEAL),
            own("second", HEAL)
        ),
    );
    for count in 1..=2 {
        fall_ill(&rig, "web");
        assert_eq!(closed(&rig, "web", count)["outcome"], "ok");
    }
    rig.witness("seen")
}

#[test]
fn who_falls_ill_again_soon_gets_the_next_step_and_after_quiet_time_the_first() {
    assert_eq!(twice("1h"), ["first web", "second web"]);
    assert_eq!(twice("1ms"), ["first web", "first web"]);
}

#[test]
fn a_breaker_that_is_open_holds_the_steps_until_somebody_closes_it() {
    let rig = rig(
        &["web"],
        &format!(
            "[ladder.default]\nverify = \"50ms\"\nbreaker = {{ open_after = 2, within = \"1h\", half_open_after = \"1h\" }}\n\
             steps = [{{ do = \"useless\", attempts = 2 }}, {{ do = \"mend\" }}]\n{}{}",
            own("useless", "exit 3"),
            own("mend", HEAL)
        ),
    );
    fall_ill(&rig, "web");
    rig.wait("the breaker is open", || rig.worker("web")["breaker"] == "open");
    rig.wait("recovery rests", || rig.ok(&["why", "web"]).contains("recovery rests"));
    assert_eq!(rig.witness("seen"), ["useless web", "useless web"]);
    let told = rig.ok(&["events", "--kind", "breaker.changed", "-o", "jsonl"]);
    assert!(told.contains("the breaker of its ladder is open"), "{told}");
    rig.ok(&["reset-failed", "web"]);
    rig.wait("its ladder begins anew", || rig.witness("seen").len() > 2);
    assert_eq!(rig.witness("seen")[2], "useless web");
}

#[test]
fn a_critical_worker_goes_before_the_others_that_wait() {
    let until_go = format!("until test -e {{dir}}/go; do sleep 0.05; done; {HEAL}");
    let rig = rig(
        &["first", "usual", "vital"],
        &format!(
            "critical = true\n[ladder.default]\nverify = \"50ms\"\nsteps = [{{ do = \"mend\" }}]\n[recovery]\nmax_parallel = 1\n{}",
            own("mend", &until_go)
        ),
    );
    let waits = |worker: &str| rig.ok(&["why", worker]).contains("leave for mend was asked for");
    fall_ill(&rig, "first");
    rig.wait("the first one's step is under way", || rig.witness("seen") == ["mend first"]);
    fall_ill(&rig, "usual");
    rig.wait("the usual one waits", || waits("usual"));
    fall_ill(&rig, "vital");
    rig.wait("the vital one waits", || waits("vital"));
    fs::write(rig.path("go"), "").unwrap();
    rig.wait("all were healed", || rig.witness("seen").len() == 3);
    assert_eq!(rig.witness("seen"), ["mend first", "mend vital", "mend usual"]);
}
