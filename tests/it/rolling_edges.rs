//! A rolling restart that is crossed: by a change of the file, a stop, a pause, a new one that does not hold.

use std::fs;

use serde_json::Value;

use crate::config_live::stays;
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

fn refused(rig: &Rig, arguments: &[&str]) -> String {
    let out = rig.regrow(arguments);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_second_one_does_not_pass_for_done_while_the_first_has_replaced_some() {
    let rig = started(&(gated("w", 2, "") + QUICK));
    ready(&rig, &["w/0", "w/1"]);
    under_way(&rig, "w", "w/2");
    for target in ["w", "w/1", "--all"] {
        let said = refused(&rig, &["restart", target, "--rolling", "--wait=60s"]);
        assert!(said.contains("a rolling restart of w is under way"), "{said}");
    }
    open(&rig);
    assert_eq!(ends(&rig)["data"]["done"], true);
    rig.wait("the copy has gone", || names(&rig) == ["w/0", "w/1"]);
    rig.ok(&["restart", "w", "--rolling", "--wait=60s"]);
}

#[test]
fn whoever_is_paused_as_a_whole_is_named_and_not_passed_over_in_silence() {
    let rig = started(&(gated("w", 2, "") + QUICK));
    ready(&rig, &["w/0", "w/1"]);
    rig.ok(&["pause", "w", "--wait"]);
    let said = refused(&rig, &["restart", "w", "--rolling", "--wait=60s"]);
    assert!(said.contains("w/0 is paused: `regrow resume w` first, or `regrow restart w`"), "{said}");
}

#[test]
fn of_a_supervisor_everybody_below_it_is_paused() {
    let toml = stays("a", "")
        + &stays("b", "")
        + "[supervisor.g]\nchildren = [\"a\"]\n[supervisor.h]\nchildren = []\n";
    let rig = Rig::start(&toml);
    ready(&rig, &["a", "b"]);
    rig.ok(&["pause", "sup:g", "--wait"]);
    assert_eq!(
        (rig.worker("a")["status"].clone(), rig.worker("b")["status"].clone()),
        ("paused".into(), "healthy".into())
    );
    rig.ok(&["resume", "sup:g", "--wait"]);
    rig.wait_status("a", "healthy");
    let out = rig.regrow(&["pause", "sup:h"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("pause takes workers, and sup:h has none"), "{said}");
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
    let end = ends(&rig);
    assert_eq!(end["data"]["done"], true);
    assert!(end["message"].as_str().unwrap().ends_with("but for w/1: paused meanwhile"), "{end}");
    assert_ne!(pid(&rig, "w/0"), before[0]);
    assert_eq!(pid(&rig, "w/1"), before[1]);
    // Who is left alone is nothing to wait for.
    let said = rig.ok(&["restart", "w", "--rolling", "--wait=60s"]);
    assert!(said.contains("it is paused, and was left alone"), "{said}");
    assert_eq!(pid(&rig, "w/1"), before[1]);
}

#[test]
fn one_that_is_paused_as_a_whole_meanwhile_has_not_been_replaced() {
    let rig = started(&(gated("w", 2, "") + QUICK));
    ready(&rig, &["w/0", "w/1"]);
    let before = [pid(&rig, "w/0"), pid(&rig, "w/1")];
    under_way(&rig, "w", "w/2");
    rig.ok(&["pause", "w", "--wait"]);
    open(&rig);
    let end = ends(&rig);
    assert_eq!(end["data"]["done"], false, "{end}");
    assert!(end["message"].as_str().unwrap().contains("paused meanwhile"), "{end}");
    rig.wait("the copy has gone", || names(&rig) == ["w/0", "w/1"]);
    assert_eq!([pid(&rig, "w/0"), pid(&rig, "w/1")], before);
}

#[test]
fn a_copy_that_is_on_its_way_out_is_none_of_the_next_ones() {
    let rig = started(&(gated("w", 2, "stop.drain = \"1s\"") + QUICK));
    ready(&rig, &["w/0", "w/1"]);
    rig.ok(&["restart", "w", "--rolling", "--wait=60s"]);
    let said = rig.ok(&["restart", "w", "--rolling"]);
    assert!(said.trim_end().ends_with(": w/0, w/1"), "{said}");
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

#[test]
fn where_the_next_port_is_taken_nobody_is_stopped_first_without_a_word() {
    // Nobody listens: what counts is to whom the file gives the ports.
    let worker = |name: &str, instances: u32, base: u32| {
        format!(
            "[worker.{name}]\ncommand = [\"sleep\", \"1000\"]\ninstances = {instances}\nport = {{ base = {base} }}\n"
        )
    };
    let rig = Rig::start(&(worker("wa", 2, 18_610) + &worker("wb", 1, 18_612) + QUICK));
    ready(&rig, &["wa/0", "wa/1", "wb"]);
    let before = [pid(&rig, "wa/0"), pid(&rig, "wa/1")];
    for target in ["wa", "--all"] {
        let out = rig.regrow(&["restart", target, "--rolling", "--wait=60s"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(said.contains("its port 18612 belongs to wb; leave a port free"), "{said}");
    }
    assert_eq!([pid(&rig, "wa/0"), pid(&rig, "wa/1")], before, "nobody was stopped");
    let said = rig.ok(&["check"]);
    assert!(said.contains("`wa`: the next port belongs to another worker"), "{said}");
    rig.ok(&["restart", "wb", "--rolling", "--wait=60s"]);
}

#[test]
fn who_is_switched_off_is_not_called_up_along_with_all_others() {
    let rig = Rig::start(&format!(
        "[worker.on]\ncommand = [\"sleep\", \"1000\"]\n[worker.off]\ncommand = [\"sleep\", \"1000\"]\nenabled = false\n{QUICK}"
    ));
    ready(&rig, &["on"]);
    let first = pid(&rig, "on");
    rig.ok(&["restart", "--all", "--wait=60s"]);
    assert_ne!(pid(&rig, "on"), first);
    assert_eq!(rig.worker("off")["status"], "stopped");
    rig.ok(&["scale", "off", "2"]);
    rig.ok(&["restart", "--all", "--rolling", "--wait=60s"]);
    // Named, it is left as it is, and that is said before anything is done.
    let said = refused(&rig, &["restart", "off", "--rolling", "--wait=60s"]);
    assert!(said.contains("off is stopped: `regrow start off` starts it"), "{said}");
    assert_eq!((rig.worker("off")["status"].clone(), names(&rig).len()), ("stopped".into(), 3));
    // Whom somebody has started belongs to all of them.
    rig.ok(&["start", "off", "--wait=60s"]);
    let second = pid(&rig, "off");
    rig.ok(&["restart", "--all", "--wait=60s"]);
    assert_ne!(pid(&rig, "off"), second);
}
