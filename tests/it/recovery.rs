//! Recovery on real processes: steps by hand, steps that a cause brings, and what is kept of all of it.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::rig::Rig;

/// Steps hold at once, so that a test waits for what happens and for nothing else.
const QUICK: &str = "[ladder.default]\nverify = \"50ms\"\n";

fn json(rig: &Rig, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&rig.ok(&arguments)).unwrap()
}

/// The newest incident, once it is closed.
fn closed(rig: &Rig, instance: &str) -> Value {
    let newest = || json(rig, &["incidents", "--worker", instance])["items"][0].clone();
    rig.wait("an incident is closed", || newest()["closed_at"].is_string());
    newest()
}

fn tried(incident: &Value) -> Vec<(String, String)> {
    let attempts = incident["attempts"].as_array().unwrap();
    let word = |attempt: &Value, key: &str| attempt[key].as_str().unwrap_or("under way").to_owned();
    attempts.iter().map(|attempt| (word(attempt, "strategy"), word(attempt, "outcome"))).collect()
}

#[test]
fn a_strategy_of_ones_own_runs_as_the_worker_would_and_is_kept_with_its_evidence() {
    let rig = Rig::start(&format!(
        r#"
[worker.web]
command = ["sh", "-c", "echo password=hunter2 up; exec sleep 1000"]
env = {{ COLOUR = "blue" }}
{QUICK}
[strategy.flush-cache]
command = ["sh", "-c", "echo $COLOUR $REGROW_INSTANCE {{pid}} $NOTIFY_SOCKET > {{dir}}/flushed; pwd >> {{dir}}/flushed"]
"#
    ));
    rig.wait_phase("web", "running");
    rig.wait("it has written", || !rig.text(".regrow/logs/web.log").is_empty());
    let pid = rig.worker("web")["pid"].as_u64().unwrap();
    rig.ok(&["recover", "web", "--action", "flush-cache", "--wait"]);
    let home = std::fs::canonicalize(rig.path(".")).unwrap();
    assert_eq!(rig.text("flushed"), format!("blue web {pid}\n{}\n", home.display()));
    assert_eq!(rig.worker("web")["pid"], pid, "it goes on");
    let incident = closed(&rig, "web");
    assert_eq!((&incident["cause"], &incident["outcome"]), (&"operator".into(), &"ok".into()));
    assert_eq!(tried(&incident), [("flush-cache".to_owned(), "ok".to_owned())]);
    let evidence = incident["evidence"].as_array().unwrap();
    let of = |what: &str| evidence.iter().find(|one| one["what"] == what).map(|one| one["text"].to_string());
    assert!(of("output").unwrap().contains("password=(hidden) up"), "{evidence:?}");
    assert!(of("state").unwrap().contains("State: S"), "{evidence:?}");
    let id = incident["id"].as_str().unwrap();
    let exported = rig.ok(&["incidents", "export", id]);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["id"]), (&"incident".into(), &id.into()));
    let told = |kind: &str| lines.iter().any(|line| line["event"]["kind"] == kind);
    assert!(told("incident.opened") && told("recovery.verified"), "{exported}");
    assert!(!exported.contains("hunter2"));
    let why = rig.ok(&["why", "web"]);
    assert!(why.contains("flush-cache ok") && why.contains(" asked for it"), "{why}");
}

/// A worker in its second incarnation, which has found what the first one kept.
fn with_something_kept() -> Rig {
    let rig = Rig::start(&format!(
        r#"
[worker.web]
command = ["sh", "-c", "ls $REGROW_STATE_DIR >> {{dir}}/seen; echo x > $REGROW_STATE_DIR/kept; echo up $REGROW_INCARNATION >> {{dir}}/seen; exec sleep 1000"]
{QUICK}"#
    ));
    rig.wait("it is up", || rig.witness("seen") == ["up 1"]);
    rig.ok(&["restart", "web", "--wait"]);
    rig.wait("it is up again", || rig.witness("seen") == ["up 1", "kept", "up 2"]);
    rig
}

#[test]
fn a_reset_puts_the_state_away_and_starts_afresh() {
    let rig = with_something_kept();
    rig.ok(&["recover", "web", "--action", "reset", "--wait"]);
    rig.wait("it is up afresh", || rig.witness("seen") == ["up 1", "kept", "up 2", "up 3"]);
    let archive: Vec<_> = std::fs::read_dir(rig.path(".regrow/archive/web")).unwrap().collect();
    assert_eq!(archive.len(), 1);
    assert!(archive[0].as_ref().unwrap().path().join("kept").exists());
}

#[test]
fn a_recreated_worker_has_another_identity_with_nothing_behind_it() {
    let rig = with_something_kept();
    assert_eq!(rig.worker("web")["restarts"], 1);
    let plan = rig.ok(&["recover", "web", "--action", "recreate", "--dry-run"]);
    assert!(plan.contains("begin a new identity: no state and no restarts behind it"), "{plan}");
    rig.ok(&["recover", "web", "--action", "recreate", "--wait"]);
    rig.wait("it is up anew", || rig.witness("seen") == ["up 1", "kept", "up 2", "up 3"]);
    assert_eq!(rig.worker("web")["restarts"], 0, "the start of a new identity is its first");
    let shown = json(&rig, &["state", "show", "web"])["items"][0].clone();
    let put_away = shown["archives"][0].as_str().unwrap().to_owned();
    assert_eq!(shown["identity"], 2);
    assert!(put_away.ends_with("-identity-1"), "{shown}");
    let described = json(&rig, &["describe", "web"])["items"][0].clone();
    assert_eq!(
        (&described["identity"], &described["restarts_by_cause"]),
        (&2.into(), &serde_json::json!({}))
    );
    let told = rig.ok(&["events", "--kind", "worker.added"]);
    assert!(told.contains("identity 2 begins; the state of the one before was put away as"), "{told}");
    // What another identity left comes back only if somebody says so.
    rig.ok(&["stop", "web", "--wait"]);
    let refused = rig.regrow(&["state", "restore", "web"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("brought back by its name"), "{text}");
    rig.ok(&["state", "restore", "web", &put_away]);
}

#[test]
fn who_ignores_to_be_asked_is_killed_by_the_harder_step() {
    let rig = Rig::start(&format!(
        r#"
[worker.web]
command = ["sh", "-c", "trap '' TERM; echo up >> {{dir}}/seen; while :; do sleep 1; done"]
stop.timeout = "10m"
{QUICK}"#
    ));
    rig.wait("it ignores TERM", || rig.witness("seen").len() == 1);
    let plan = rig.ok(&["recover", "web", "--action", "emergency", "--dry-run"]);
    assert!(plan.starts_with("hard_restart of web would:\n"), "{plan}");
    assert!(plan.contains("kill its whole process tree at once"), "{plan}");
    assert_eq!(rig.witness("seen").len(), 1, "a dry run does nothing");
    rig.ok(&["recover", "web", "--action", "hard_restart", "--wait"]);
    rig.wait("it is up again", || rig.witness("seen").len() == 2);
    assert_eq!(rig.worker("web")["restarts"], 1);
}

/// A worker that fails until a step for failures of the class that is known by `sign` has mended it.
fn without_its_broker(sign: &str, fails: &str) -> Rig {
    Rig::start(&format!(
        r#"
error_class = [{{ name = "broker_gone", {sign} }}]
[worker.web]
command = ["sh", "-c", "echo start >> {{dir}}/seen; test -e {{dir}}/mended && exec sleep 1000; {fails}"]
[ladder.default]
verify = "50ms"
steps = [{{ do = "soft_restart" }}, {{ do = "mend", when = ["broker_gone"] }}]
[strategy.mend]
command = ["sh", "-c", "echo mend >> {{dir}}/seen; touch {{dir}}/mended"]
"#
    ))
}

/// What was done before the plain restart, and the restart.
fn mended_and_restarted() -> [(String, String); 2] {
    ["mend", "soft_restart"].map(|strategy| (strategy.to_owned(), "ok".to_owned()))
}

#[test]
fn a_failure_with_a_name_has_its_step_done_before_the_restart() {
    let rig = without_its_broker("exit_code = 70", "exit 70");
    rig.wait("it runs", || rig.witness("seen") == ["start", "mend", "start"]);
    let incident = closed(&rig, "web");
    assert_eq!((&incident["cause"], &incident["outcome"]), (&"broker_gone".into(), &"ok".into()));
    assert_eq!(tried(&incident), mended_and_restarted());
    let learned = json(&rig, &["strategies"]);
    assert_eq!(learned["items"][0]["class"], "broker_gone");
    let held = learned["items"].as_array().unwrap();
    let held: Vec<_> = held.iter().map(|one| (one["strategy"].as_str(), one["successes"].as_u64())).collect();
    assert!(held.len() == 2 && held.contains(&(Some("mend"), Some(1))), "{held:?}");
    assert!(held.contains(&(Some("soft_restart"), Some(1))), "{held:?}");
    let restarts = &json(&rig, &["describe", "web"])["items"][0]["restarts_by_cause"];
    assert_eq!(restarts, &serde_json::json!({ "broker_gone": 1 }));
}

#[test]
fn a_failure_is_named_by_what_it_wrote_last() {
    let rig = without_its_broker("match = \"refused by the broker\"", "echo refused by the broker; exit 1");
    rig.wait("it runs", || rig.witness("seen") == ["start", "mend", "start"]);
    let incident = closed(&rig, "web");
    assert_eq!((&incident["cause"], &incident["class"]), (&"broker_gone".into(), &"broker_gone".into()));
    assert_eq!(tried(&incident), mended_and_restarted());
    assert_eq!(json(&rig, &["strategies"])["items"][0]["class"], "broker_gone");
    assert!(rig.ok(&["export", "strategies", "--json"]).contains("broker_gone"));
    let evidence = |what: &str| {
        let incident = closed(&rig, "web");
        let found = incident["evidence"].as_array().unwrap().iter().find(|one| one["what"] == what).cloned();
        found.map(|found| found["text"].as_str().unwrap().to_owned())
    };
    rig.wait("what it said last is kept", || evidence("output").is_some());
    assert_eq!(evidence("output").as_deref(), Some("refused by the broker"));
    assert!(evidence("exit").unwrap().starts_with("exited with code 1"), "{:?}", evidence("exit"));
    let exported = rig.ok(&["incidents", "export", closed(&rig, "web")["id"].as_str().unwrap()]);
    assert!(exported.contains("refused by the broker"), "{exported}");
    let lines = exported.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let kinds: Vec<String> =
        lines.filter_map(|line| Some(line["event"]["kind"].as_str()?.to_owned())).collect();
    let of =
        |kind: &str| kinds.iter().position(|one| one == kind).unwrap_or_else(|| panic!("{kind}: {kinds:?}"));
    assert!(of("worker.exited") < of("incident.opened"), "{kinds:?}");
    assert!(of("incident.opened") < of("worker.starting"), "{kinds:?}");
    assert!(of("worker.ready") < of("incident.closed"), "{kinds:?}");
}

#[test]
fn what_was_learned_elsewhere_outlives_the_runtime_too() {
    let mut rig = Rig::start("[worker.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let known = |rig: &Rig, class: &str| {
        let items = json(rig, &["strategies"])["items"].clone();
        items.as_array().is_some_and(|items| items.iter().any(|item| item["class"] == class))
    };
    let elsewhere = r#"{"schema":"regrow.strategies.export/1","hosts":{"afar":
        {"classes":{"far_away":{"outcomes":{"soft_restart":
        {"successes":2.0,"failures":0.0,"seconds":9.0,"seen":1.7e9,"tried":2,"held":2}},"seen":1.7e9}}}}}"#;
    for _ in 0..2 {
        import(&rig, elsewhere);
    }
    assert!(known(&rig, "far_away"));
    rig.signal(rustix::process::Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait("it is known again", || known(&rig, "far_away"));
    assert_eq!(json(&rig, &["strategies"])["items"][0]["attempts"], 2, "the same cases are counted once");
}

fn import(rig: &Rig, text: &str) {
    let mut import = rig.command(&["strategies", "import"]);
    let mut import = import.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
}

/// What that many hosts have learned, a thousand outcomes each.
fn much(hosts: usize) -> String {
    let outcome = serde_json::json!({
        "successes": 2.123456789, "failures": 1.123456789, "seconds": 9.123456789, "seen": 1.7e9, "tried": 4, "held": 3
    });
    let outcomes = serde_json::json!({ "soft_restart": outcome, "hard_restart": outcome });
    let class = |n: usize| {
        let name = format!("probe_failed probe p{n} failed # times in a row exit code #");
        (name, serde_json::json!({ "seen": 1.7e9, "outcomes": outcomes }))
    };
    let classes: serde_json::Map<String, Value> = (0..500).map(class).collect();
    let hosts: serde_json::Map<String, Value> =
        (0..hosts).map(|n| (format!("{n:016x}"), serde_json::json!({ "classes": classes }))).collect();
    serde_json::json!({ "schema": "regrow.strategies.export/1", "hosts": hosts }).to_string()
}

#[test]
fn what_is_exported_can_be_imported_however_much_it_is_and_is_kept_once_that_is_said() {
    let one = Rig::start("[worker.web]\ncommand = [\"sleep\", \"1000\"]\n");
    let all = much(16);
    assert!(all.len() > 2 << 20, "more than any other body may have");
    import(&one, &all);
    let exported = one.ok(&["strategies", "export"]);
    let mut other = Rig::start("[worker.web]\ncommand = [\"sleep\", \"1000\"]\n");
    import(&other, &exported);
    other.kill_runtime();
    other.launch();
    other.wait("it is known again", || other.regrow(&["strategies", "export"]).stdout == exported.as_bytes());
}

#[test]
fn when_restarts_do_not_help_the_other_steps_are_tried_before_it_is_parked() {
    let rig = Rig::start(
        r#"
[supervisor.root]
intensity = { max_restarts = 2, within = "1h" }
retry_first = "never"
[worker.web]
command = ["sh", "-c", "echo start >> {dir}/seen; exit 1"]
backoff.first = "0s"
[ladder.default]
verify = "1h"
steps = [{ do = "soft_restart" }, { do = "first" }, { do = "reset" }, { do = "quarantine" }]
[strategy.first]
command = ["sh", "-c", "echo first >> {dir}/seen; exit 3"]
"#,
    );
    rig.wait_phase("web", "quarantined");
    assert_eq!(rig.witness("seen"), ["start", "start", "start", "first", "start", "start"]);
    let incident = closed(&rig, "web");
    assert_eq!(incident["outcome"], "failed");
    let failed = |strategy: &str| (strategy.to_owned(), "failed".to_owned());
    let steps: Vec<_> = tried(&incident).into_iter().filter(|(name, _)| name != "soft_restart").collect();
    assert_eq!(steps, [failed("first"), failed("reset")]);
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = [\"sleep\", \"1000\"]\n{QUICK}"));
    rig.wait_phase("web", "running");
    for (action, reason) in [
        ("connection_reset", "the worker has no on.connection_reset"),
        ("nobody-has-this", "there is no [strategy.nobody-has-this]"),
    ] {
        let output = rig.regrow(&["recover", "web", "--action", action]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{output:?}");
    }
    assert_eq!(rig.code(&["recover", "nobody"]), 4);
    assert_eq!(rig.code(&["approve", "nothing"]), 4);
    rig.ok(&["stop", "web", "--wait"]);
    let output = rig.regrow(&["recover", "web"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("was stopped by hand"), "{output:?}");
}

#[test]
fn incidents_and_what_was_learned_outlive_the_runtime() {
    let mut rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {dir}/pids; exec sleep 999\"]\n\
         [ladder.default]\nverify = \"100ms\"\nsteps = [{ do = \"soft_restart\", attempts = 3 }]\n",
    );
    rig.wait_status("web", "healthy");
    let pid: u32 = rig.witness("pids")[0].parse().unwrap();
    crate::rig::send(pid, rustix::process::Signal::STOP);
    let before = closed(&rig, "web");
    assert_eq!(before["outcome"], "ok", "{before}");
    let learned = || json(&rig, &["strategies"])["items"].clone();
    rig.wait("something was learned", || learned().as_array().is_some_and(|items| !items.is_empty()));
    rig.signal(rustix::process::Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("web", "healthy");
    rig.wait("it is remembered", || {
        json(&rig, &["incidents"])["items"].as_array().is_some_and(|items| {
            items.iter().any(|item| item["id"] == before["id"] && item["outcome"] == "ok")
        })
    });
    rig.wait("so is what was learned", || {
        let items = json(&rig, &["strategies"])["items"].clone();
        items.as_array().is_some_and(|items| items.iter().any(|item| item["strategy"] == "soft_restart"))
    });
}

#[test]
fn an_incident_over_a_check_that_the_file_takes_away_is_over() {
    let file = |probe: &str| {
        format!(
            "[ladder.default]\nsteps = [{{ do = \"soft_restart\", delay = \"1h\" }}]\n\
             [worker.web]\ncommand = [\"sleep\", \"1000\"]\n{probe}\n"
        )
    };
    let fails = "probe.p = { exec = [\"false\"], period = \"200ms\", retry_period = \"100ms\", failure_threshold = 1 }";
    let rig = Rig::start(&file(fails));
    rig.wait("it is unwell", || {
        json(&rig, &["incidents", "--worker", "web"])["items"].as_array().is_some_and(|all| !all.is_empty())
    });
    let pid = rig.worker("web")["pid"].clone();
    rig.configure(&file(""));
    rig.ok(&["apply", "--wait"]);
    let incident = closed(&rig, "web");
    assert_eq!(incident["outcome"], "ok", "{incident}");
    rig.wait_status("web", "healthy");
    assert_eq!(rig.worker("web")["pid"], pid, "and nothing was done to it");
}

#[test]
fn a_trial_that_fails_is_an_incident_and_stands_in_the_recovery_log() {
    let rig = Rig::start(
        r#"
[supervisor.root]
retry_first = "300ms"
retry_every = "1h"
[ladder.default]
verify = "5s"
steps = [{ do = "quarantine" }]
[worker.web]
command = ["sh", "-c", "echo working; exec sleep 1000"]
probe.p = { exec = ["false"], period = "200ms", retry_period = "100ms", failure_threshold = 1 }
"#,
    );
    let incidents =
        || json(&rig, &["incidents", "--worker", "web"])["items"].as_array().cloned().unwrap_or_default();
    rig.wait("its trial has failed", || {
        incidents().iter().filter(|one| one["closed_at"].is_string()).count() >= 2
    });
    let trial = incidents().into_iter().rev().nth(1).unwrap();
    assert_eq!((&trial["cause"], &trial["outcome"]), (&"probe_failed".into(), &"failed".into()), "{trial}");
    assert_eq!(tried(&trial), [("quarantine".to_owned(), "failed".to_owned())]);
    let evidence = trial["evidence"].to_string();
    assert!(evidence.contains("working"), "it was looked at before it was ended: {evidence}");
    rig.wait("the log tells of it", || {
        let log = rig.text(".regrow/logs/web_recovery.log");
        let at = |word: &str, after: usize| log[after..].find(word).map(|at| after + at);
        let parked = at("worker.parked", 0).and_then(|first| at("worker.ready", first));
        let again = parked.and_then(|ready| at("incident.opened", ready));
        again.and_then(|opened| at("worker.parked", opened)).is_some()
    });
    let attempts = rig.ok(&["why", "web"]);
    assert!(!attempts.contains("dependency"), "{attempts}");
}

#[test]
fn a_trial_that_holds_is_told_and_stands_in_the_incident_that_parked_it() {
    let rig = Rig::start(
        r#"
[supervisor.root]
retry_first = "500ms"
retry_every = "500ms"
[ladder.default]
verify = "100ms"
steps = [{ do = "quarantine" }]
[worker.web]
command = ["sleep", "1000"]
probe.p = { exec = ["sh", "-c", "test ! -e {dir}/bad"], period = "100ms", retry_period = "100ms", failure_threshold = 1 }
"#,
    );
    rig.wait_status("web", "healthy");
    std::fs::write(rig.path("bad"), "").unwrap();
    rig.wait_phase("web", "quarantined");
    std::fs::remove_file(rig.path("bad")).unwrap();
    let verified = || rig.ok(&["events", "--kind", "recovery.verified", "-o", "jsonl"]);
    rig.wait("its trial is told to have held", || verified().contains("it is parked no more"));
    rig.wait_status("web", "healthy");
    let told: Value = serde_json::from_str(verified().lines().last().unwrap()).unwrap();
    let told = told.get("event").unwrap_or(&told);
    let incidents = json(&rig, &["incidents", "--worker", "web"])["items"].as_array().cloned().unwrap();
    let own = incidents.iter().find(|one| one["id"] == told["incident"]).unwrap();
    let last = tried(own).pop().unwrap();
    assert_eq!(last, ("soft_restart".to_owned(), "ok".to_owned()), "{own}");
    assert!(rig.ok(&["why", "web"]).contains("the trial of the parked worker"));
    rig.wait("the log tells of it", || {
        rig.text(".regrow/logs/web_recovery.log").contains("it is parked no more")
    });
}
