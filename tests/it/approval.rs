//! What an operator approves or asks for by hand is what is done, is written down with who it was, and is answered with
//! what became of it and of nothing else.

use serde_json::Value;

use crate::config_live::page;
use crate::rig::Rig;

/// A worker that is ill while `{dir}/ill` is there. Each step waits until somebody approves it.
const ASKS: &str = r#"
[ladder.default]
verify = "50ms"
steps = [{ do = "soft_restart", approval = "1h" }, { do = "quarantine" }]

[worker.web]
command = ["sleep", "1000"]
probe.alive = { exec = ["test", "!", "-e", "{dir}/ill"], period = "200ms", retry_period = "100ms", failure_threshold = 1, timeout = "20s" }
"#;

fn open_incident(rig: &Rig) -> Option<String> {
    let open = rig.ok(&["incidents", "--open", "-o", "name"]);
    open.lines().next().map(str::to_owned)
}

/// The incident whose step waits.
fn waiting(rig: &Rig) -> String {
    let waits = || rig.worker("web")["next_action"]["approve"].as_str().map(str::to_owned);
    rig.wait("a step waits", || waits().is_some());
    waits().unwrap()
}

/// Every order that was written down: what and by whom.
fn orders(rig: &Rig) -> Vec<Value> {
    let events = rig.ok(&["events", "--since", "1h", "--kind", "action.requested", "-o", "jsonl"]);
    events.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_approved_is_the_step_of_that_incident_and_of_no_other_one() {
    let rig = Rig::start(ASKS);
    rig.wait_status("web", "healthy");
    std::fs::write(rig.path("ill"), "").unwrap();
    let first = waiting(&rig);
    rig.ok(&["restart", "web"]);
    rig.wait("another one waits", || waiting(&rig) != first);
    let second = waiting(&rig);
    let refused = rig.regrow(&["approve", &first]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("is over (interrupted)"), "{told}");
    assert_eq!(waiting(&rig), second, "that one waits on");
    rig.ok(&["approve", &second]);
    rig.wait("its step is taken", || open_incident(&rig).as_deref() != Some(second.as_str()));
    let orders = orders(&rig);
    let told: Vec<_> = orders.iter().map(|order| (&order["data"]["action"], &order["incident"])).collect();
    let expected = [(&Value::from("restart"), &Value::Null), (&Value::from("approve"), &Value::from(second))];
    assert_eq!(told, expected, "what was refused was not done");
    let by = orders[1]["data"]["by"].as_str().unwrap();
    assert!(!by.is_empty() && orders[1]["message"].to_string().contains(by), "{orders:?}");
}

#[test]
fn a_step_that_was_not_seen_is_not_approved_and_the_one_that_was_is_written_down_before_it_begins() {
    let rig = Rig::start(ASKS);
    rig.wait_status("web", "healthy");
    std::fs::write(rig.path("ill"), "").unwrap();
    let incident = waiting(&rig);
    let refused = rig.regrow(&["approve", &incident, "--step", "reset"]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("soft_restart waits for approval now, and reset does not"), "{told}");
    assert_eq!(waiting(&rig), incident, "it waits on");
    assert_eq!(orders(&rig), Vec::<Value>::new(), "and nothing was allowed");
    rig.ok(&["approve", &incident, "--step", "soft_restart"]);
    let events = || {
        let all = rig.ok(&["events", "--since", "1h", "-o", "jsonl"]);
        all.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let place = |kind: &str| events().iter().position(|event| event["kind"] == kind);
    rig.wait("the step is taken", || place("recovery.step").is_some());
    let (allowed, taken) = (place("action.requested"), place("recovery.step"));
    assert!(allowed.is_some() && allowed < taken, "{:?}", events());
    assert_eq!(orders(&rig)[0]["data"]["strategy"], "soft_restart");
}

#[test]
fn a_step_by_hand_names_who_asked_for_it() {
    let rig =
        Rig::start("[ladder.default]\nverify = \"50ms\"\n[worker.web]\ncommand = [\"sleep\", \"1000\"]\n");
    rig.wait_status("web", "healthy");
    rig.ok(&["recover", "web", "--action", "hard_restart", "--wait"]);
    let orders = orders(&rig);
    let [order] = orders.as_slice() else { panic!("{orders:?}") };
    assert_eq!(
        (&order["data"]["action"], &order["data"]["strategy"]),
        (&"recover".into(), &"hard_restart".into())
    );
    assert_eq!((&order["worker"], &order["instance"]), (&"web".into(), &"web".into()));
    let by = order["data"]["by"].as_str().unwrap();
    let incidents: Value = serde_json::from_str(&rig.ok(&["incidents", "-o", "json"])).unwrap();
    assert_eq!(incidents["items"][0]["attempts"][0]["reason"], format!("{by} asked for it"));
}

#[test]
fn whoever_waits_for_a_step_that_was_cut_short_hears_so() {
    let rig =
        Rig::start("[ladder.default]\nverify = \"1h\"\n[worker.web]\ncommand = [\"sleep\", \"1000\"]\n");
    rig.wait_status("web", "healthy");
    let mut waits = rig
        .command(&["recover", "web", "--action", "hard_restart", "--wait=1h"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    rig.wait("it is asked for", || rig.worker("web")["incarnation"] == 2);
    rig.ok(&["recover", "web", "--action", "soft_restart"]);
    let ended = waits.wait().unwrap();
    assert_eq!(ended.code(), Some(1), "it was interrupted by the other one, which goes on");
}

#[test]
fn steps_of_recovery_are_counted_on_after_any_end_of_the_runtime() {
    let mut rig =
        Rig::start("[ladder.default]\nverify = \"50ms\"\n[worker.web]\ncommand = [\"sleep\", \"1000\"]\n");
    rig.wait_status("web", "healthy");
    let series = "regrow_recovery_attempts_total{worker_id=\"web\",supervisor=\"root\",strategy=\"hard_restart\",outcome=\"ok\"} ";
    let counted = |rig: &Rig| -> u64 {
        let page = page(rig, "GET", "/metrics");
        page.lines().find_map(|line| line.strip_prefix(series)).map_or(0, |count| count.parse().unwrap())
    };
    for round in 1..=3 {
        rig.ok(&["recover", "web", "--action", "hard_restart", "--wait"]);
        assert_eq!(counted(&rig), round);
        if round == 1 {
            rig.kill_runtime();
        } else {
            rig.signal(rustix::process::Signal::TERM);
            assert_eq!(rig.wait_end(), 0, "{}", rig.output());
        }
        rig.launch();
        rig.wait("they are counted on", || counted(&rig) == round);
        rig.wait_status("web", "healthy");
    }
}
