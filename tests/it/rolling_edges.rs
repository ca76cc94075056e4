//! A rolling restart that is crossed: by a change of the file, a stop, a pause, a new one that does not hold.

use std::fs;

use serde_json::Value;

use crate::rig::Rig;

/// A worker whose starts become ready once the file `go` is there.
fn gated(name: &str, instances: u32, more: &str) -> String {
    let script =
        "echo start >> {dir}/starts; while ! test -e {dir}/go; do sleep 0.05; done; echo up; exec sleep 1000";
    format!(
        "[worker.{name}]\ncommand = [\"sh\", \"-c\", \"{script}\"]\ninstances = {instances}\nready = {{ log = \"up\" }}\n\
         start_timeout = \"5m\"\n{more}\n"
    )
}

const QUICK: &str = "[ladder.default]\nverify = \"100ms\"\n";

fn open(rig: &Rig) {
    fs::write(rig.path("go"), "").unwrap();
}

fn shut(rig: &Rig) {
    fs::remove_file(rig.path("go")).unwrap();
}

fn started(toml: &str) -> Rig {
    let mut rig = Rig::new(toml);
    open(&rig);
    rig.launch();
    rig
}

fn ready(rig: &Rig, instances: &[&str]) {
    for instance in instances {
        rig.wait(&format!("{instance} is ready"), || rig.worker(instance)["ready"] == true);
    }
}

fn pid(rig: &Rig, instance: &str) -> u64 {
    rig.worker(instance)["pid"].as_u64().unwrap_or_else(|| panic!("{instance} has no process"))
}

fn names(rig: &Rig) -> Vec<String> {
    let status = rig.status();
    let all = status["workers"].as_array().unwrap().iter();
    all.map(|one| one["instance"].as_str().unwrap().to_owned()).collect()
}

/// What the roll said at its end.
fn end_of_roll(rig: &Rig) -> Option<Value> {
    let text = rig.ok(&["events", "--kind", "action.requested", "-o", "jsonl"]);
    let mut all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.find(|event| event["data"]["done"].is_boolean())
}

fn ends(rig: &Rig) -> Value {
    rig.wait("the roll has ended", || end_of_roll(rig).is_some());
    end_of_roll(rig).unwrap()
}

/// A roll whose copy waits for the gate.
fn under_way(rig: &Rig, worker: &str, copy: &str) {
    shut(rig);
    rig.ok(&["restart", worker, "--rolling"]);
    rig.wait("the copy is being started", || names(rig).iter().any(|name| name == copy));
}

#[test]
fn it_is_no_difference_to_the_file_and_a_change_of_the_file_does_not_end_it() {
    let toml = gated("w", 2, "") + QUICK;
    let rig = started(&toml);
    ready(&rig, &["w/0", "w/1"]);
    let before = [pid(&rig, "w/0"), pid(&rig, "w/1")];
    under_way(&rig, "w", "w/2");
    assert_eq!(rig.code(&["diff"]), 0, "the copy is nobody's wish");
    rig.configure(&(toml.clone() + "[worker.other]\ncommand = [\"sleep\", \"1000\"]\n"));
    rig.ok(&["apply"]);
    rig.wait_status("other", "healthy");
    rig.configure(
        &(toml.replace("instances = 2", "instances = 3")
            + "[worker.other]\ncommand = [\"sleep\", \"1000\"]\n"),
    );
    rig.ok(&["apply"]);
    rig.wait("one more is wanted, and the copy stays beside it", || names(&rig).contains(&"w/3".to_owned()));
    open(&rig);
    assert_eq!(ends(&rig)["data"]["done"], true);
    rig.wait("the copy has gone", || names(&rig) == ["w/0", "w/1", "w/2", "other"]);
    assert_ne!([pid(&rig, "w/0"), pid(&rig, "w/1")], before);
    assert_eq!(rig.code(&["diff"]), 0);
}

#[test]
fn it_ends_when_its_supervisor_is_stopped_and_takes_the_copy_along() {
    let toml = gated("w", 2, "") + "[supervisor.lab]\nchildren = [\"w\"]\n" + QUICK;
    let rig = started(&toml);
    ready(&rig, &["w/0", "w/1"]);
    under_way(&rig, "w", "w/2");
    rig.ok(&["stop", "sup:lab"]);
    let end = ends(&rig);
    assert_eq!(end["data"]["done"], false);
    assert!(end["message"].as_str().unwrap().contains("supervisor lab is down"), "{end}");
    rig.wait("the copy has gone", || names(&rig) == ["w/0", "w/1"]);
    open(&rig);
    rig.ok(&["start", "sup:lab"]);
    ready(&rig, &["w/0", "w/1"]);
}

#[test]
fn whoever_is_paused_meanwhile_is_left_alone() {
    let rig = started(&(gated("w", 2, "") + QUICK));
    ready(&rig, &["w/0", "w/1"]);
    let before = [pid(&rig, "w/0"), pid(&rig, "w/1")];
    under_way(&rig, "w", "w/2");
    rig.ok(&["pause", "w/1", "--wait"]);
    open(&rig);
    assert_eq!(ends(&rig)["data"]["done"], true);
    assert_ne!(pid(&rig, "w/0"), before[0]);
    assert_eq!(pid(&rig, "w/1"), before[1]);
    // Who is left alone is nothing to wait for.
    let said = rig.ok(&["restart", "w", "--rolling", "--wait=60s"]);
    assert!(said.contains("it is paused, and was left alone"), "{said}");
    assert_eq!(pid(&rig, "w/1"), before[1]);
}

#[test]
fn the_new_one_of_a_worker_that_is_alone_must_hold_too() {
    let script = "echo start >> {dir}/starts; test $(wc -l < {dir}/starts) -lt 2 || exit 3; exec sleep 1000";
    let rig = Rig::start(&format!("[worker.w]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n"));
    rig.wait_status("w", "healthy");
    let out = rig.regrow(&["restart", "w", "--rolling", "--wait=60s"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let end = ends(&rig);
    assert_eq!(end["data"]["done"], false);
    assert!(end["message"].as_str().unwrap().contains("the new w did not"), "{end}");
}

#[test]
fn one_worker_that_fails_is_no_reason_to_hear_nothing_of_the_others() {
    let toml = format!(
        "{}[worker.bad]\ncommand = [\"sh\", \"-c\", \"exit 78\"]\nexit_codes.fatal = [78]\n{QUICK}",
        gated("w", 2, "")
    );
    let rig = started(&toml);
    ready(&rig, &["w/0", "w/1"]);
    rig.wait_status("bad", "quarantined");
    let before = [pid(&rig, "w/0"), pid(&rig, "w/1")];
    let out = rig.regrow(&["restart", "--all", "--rolling", "--wait=90s"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let now = [pid(&rig, "w/0"), pid(&rig, "w/1")];
    assert!(now[0] != before[0] && now[1] != before[1], "they were not waited for: {out:?}");
}
