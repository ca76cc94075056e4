//! `doctor`: what would get in the way, and the proof that the installed program heals.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::net::TcpListener;
use std::process::Stdio;

use rustix::process::Signal;

use crate::fake::{stderr, stdout};
use crate::rig::{Rig, processes_with, send};

fn checks(text: &str) -> Vec<serde_json::Value> {
    let body: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(body["schema"], "regrow.doctor/1");
    body["checks"].as_array().unwrap().clone()
}

fn of<'a>(checks: &'a [serde_json::Value], name: &str) -> &'a serde_json::Value {
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"))
}

#[test]
fn the_self_test_kills_a_worker_sees_it_healed_and_leaves_nothing() {
    let rig = Rig::new("");
    let mut command = rig.command(&["doctor", "--self-test"]);
    // What is set for another runtime must not reach the one that is tried.
    command.env("TMPDIR", rig.path("")).env("RIG", rig.path("")).env("REGROW_CONTROL", "/nowhere");
    command.env("REGROW__WORKER__GHOST__COMMAND", "[\"x\"]");
    let output = command.output().unwrap();
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stderr(&output));
    for what in ["start", "kill", "heal", "stop", "clean up", "ended by signal KILL", " ms", "It heals."] {
        assert!(text.contains(what), "{what} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains('/')), "{text}");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    let left = std::fs::read_dir(rig.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with("regrow-self-test")));
}

#[test]
fn a_self_test_that_is_ended_takes_along_what_it_started() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        let rig = Rig::new("");
        let mut command = rig.command(&["doctor", "--self-test"]);
        // Its worker is not found, and it waits for that.
        command.env("TMPDIR", rig.path("")).env("RIG", rig.path("")).env("PATH", rig.path("nothing"));
        let mut doctor = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let scratch = rig.path(format!("regrow-self-test-{}", doctor.id()));
        rig.wait("its runtime is up", || scratch.join(".regrow/regrow.sock").exists());
        send(doctor.id(), signal);
        let code = doctor.wait().unwrap().code();
        let own = format!("RIG={}", rig.path("").display());
        rig.wait("nothing of it is left", || processes_with(&own).is_empty());
        if signal != Signal::KILL {
            assert_eq!((code, scratch.exists()), (Some(1), false), "{signal:?}");
        }
    }
}

#[test]
fn a_self_test_that_cannot_be_done_fails_and_says_what_to_do() {
    let rig = Rig::new("");
    let mut command = rig.command(&["doctor", "--self-test", "-o", "json"]);
    let output = command.env("TMPDIR", rig.path("no/such/place")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let checks = checks(&stdout(&output));
    assert_eq!(of(&checks, "directory")["outcome"], "failed");
    assert!(of(&checks, "directory")["help"].as_str().unwrap().contains("TMPDIR"));
    assert_eq!(of(&checks, "heal")["outcome"], "skipped");
    assert_eq!(of(&checks, "clean up")["outcome"], "ok");
}

#[test]
fn a_sound_configuration_has_no_failed_check() {
    let rig = Rig::start("[worker.web]\ncommand = [\"sleep\", \"999\"]\n");
    rig.wait_status("web", "healthy");
    let text = rig.ok(&["doctor", "-o", "json"]);
    let checks = checks(&text);
    for name in ["configuration", "state", "runtime", "processes", "cgroup", "/proc", "open files", "clock"] {
        assert_ne!(of(&checks, name)["outcome"], "failed", "{text}");
    }
    assert!(of(&checks, "runtime")["message"].as_str().unwrap().contains(&rig.runtime().to_string()));
    if rustix::process::geteuid().is_root() {
        assert_eq!(of(&checks, "root")["outcome"], "warning", "{text}");
    }
    let table = rig.ok(&["doctor"]);
    assert!(table.lines().all(|line| line.chars().count() <= 80 || line.contains('/')), "{table}");
}

#[test]
fn what_would_refuse_a_start_is_a_failed_check() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::new("[worker.web]\ncommand = [\"sleep\", \"999\"]\n");
    let address = taken.local_addr().unwrap().to_string();
    let output =
        rig.command(&["doctor", "-o", "json"]).env("REGROW__HTTP__LISTEN", &address).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(of(&checks(&stdout(&output)), "addresses")["outcome"], "failed");
    rig.configure("[worker.web]\ncomand = [\"sleep\"]\n");
    let output = rig.regrow(&["doctor", "-o", "json"]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let checks = checks(&stdout(&output));
    assert!(of(&checks, "configuration")["message"].as_str().unwrap().contains("problem"), "{checks:?}");
    assert_eq!(of(&checks, "configuration")["outcome"], "failed");
}

#[test]
fn what_listens_and_what_lies_here_is_discovered_and_left_alone() {
    let rig = Rig::start("[worker.web]\ncommand = [\"sleep\", \"999\"]\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(rig.path("Procfile"), "web: ./web\n").unwrap();
    let before = std::fs::read_dir(rig.path("")).unwrap().count();
    let body: serde_json::Value =
        serde_json::from_str(&rig.ok(&["doctor", "--discover", "-o", "json"])).unwrap();
    assert_eq!(body["schema"], "regrow.doctor/1");
    let found = body["found"].as_array().unwrap();
    let port = found.iter().find(|find| find["name"] == address.as_str()).unwrap();
    assert_eq!((&port["kind"], &port["pid"]), (&"port".into(), &std::process::id().into()), "{port}");
    let probe = port["probe"].as_str().unwrap();
    assert!(probe.starts_with(&format!("probe.port.tcp = \"{address}\"")), "{probe}");
    rig.configure(&format!("[worker.web]\ncommand = [\"sleep\", \"999\"]\n{probe}\n"));
    rig.ok(&["check"]);
    let procfile = found.iter().find(|find| find["kind"] == "procfile").unwrap();
    assert_eq!(procfile["import"], "regrow import Procfile");
    assert!(rig.ok(&["import", "Procfile"]).contains("[worker.web]"));
    let table = rig.ok(&["doctor", "--discover"]);
    assert!(table.contains(&address) && table.contains("nothing was changed"), "{table}");
    assert_eq!(std::fs::read_dir(rig.path("")).unwrap().count(), before, "it writes nothing");
}
