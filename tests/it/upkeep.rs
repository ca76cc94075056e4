//! What people do with workers that run: leave them alone, signal them, have them reload; and what a worker is given
//! to find its place.

use rustix::process::Signal;

use crate::rig::{Rig, alive, send};

/// Writes a line for each start and for each signal it hears.
const LISTENER: &str = r#"
[worker.w]
command = ["sh", "-c", "trap 'echo hup >> {dir}/heard' HUP; trap 'echo usr1 >> {dir}/heard' USR1; echo $$ >> {dir}/starts; while :; do sleep 0.05; done"]
stop = { timeout = "2s", signal = "KILL" }
"#;

fn pid(rig: &Rig) -> u32 {
    u32::try_from(rig.worker("w")["pid"].as_u64().expect("it runs")).unwrap()
}

fn started(rig: &Rig, times: usize) {
    rig.wait(&format!("{times} starts"), || rig.witness("starts").len() == times);
    rig.wait_status("w", "healthy");
}

#[test]
fn a_paused_worker_is_left_alone_until_somebody_resumes_also_over_a_restart_of_the_runtime() {
    let mut rig = Rig::start(LISTENER);
    started(&rig, 1);
    let said = rig.ok(&["pause", "w", "--wait"]);
    assert_eq!(said, "w: paused (nothing is done by itself)\n");
    let first = pid(&rig);
    send(first, Signal::KILL);
    rig.wait_phase("w", "waiting");
    let seen = rig.worker("w");
    assert_eq!((seen["status"].as_str(), seen["wanted"].as_str()), (Some("paused"), Some("paused")));
    assert!(seen["next_action"].is_null(), "{seen}");
    assert!(!alive(first));
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("w", "paused");
    let described = rig.ok(&["describe", "w"]);
    assert!(described.contains("paused"), "{described}");
    assert_eq!(rig.witness("starts").len(), 1);
    rig.ok(&["resume", "w", "--wait"]);
    started(&rig, 2);
}

#[test]
fn a_pause_with_an_end_ends_by_itself_and_what_is_asked_meanwhile_is_done() {
    let rig = Rig::start(LISTENER);
    started(&rig, 1);
    rig.ok(&["pause", "w", "--for", "3s"]);
    rig.ok(&["restart", "w", "--wait"]);
    started_paused(&rig, 2);
    send(pid(&rig), Signal::KILL);
    rig.wait_phase("w", "waiting");
    assert_eq!(rig.worker("w")["next_action"]["do"], "start");
    started(&rig, 3);
    assert_eq!(rig.worker("w")["wanted"], "running");
}

fn started_paused(rig: &Rig, times: usize) {
    rig.wait(&format!("{times} starts"), || rig.witness("starts").len() == times);
    rig.wait("it is ready and paused", || {
        let seen = rig.worker("w");
        seen["ready"] == true && seen["status"] == "paused"
    });
}

#[test]
fn a_signal_reaches_the_main_process_and_reload_is_the_signal_it_names() {
    let rig = Rig::start(&LISTENER.replace("stop =", "reload = { signal = \"HUP\" }\nstop ="));
    started(&rig, 1);
    rig.ok(&["signal", "w", "USR1"]);
    rig.wait("it hears USR1", || rig.witness("heard") == ["usr1"]);
    rig.ok(&["reload", "w", "--wait"]);
    rig.wait("it hears HUP", || rig.witness("heard") == ["usr1", "hup"]);
    assert_eq!(rig.witness("starts").len(), 1);
    let events = rig.ok(&["events", "--kind", "action.requested", "-o", "json"]);
    assert!(events.contains("\"signal\"") && events.contains("\"reload\""), "{events}");
    assert_eq!(rig.code(&["signal", "w", "NONSENSE"]), 2);
    assert_eq!(rig.code(&["signal", "nobody", "HUP"]), 4);
    rig.ok(&["stop", "w", "--wait"]);
    assert_eq!(rig.code(&["signal", "w", "HUP"]), 1);
}

#[test]
fn several_of_whom_one_cannot_hear_a_signal_are_not_told_and_whoever_asks_hears_so() {
    let rig = Rig::start(&format!(
        "{}\n[worker.b]\ncommand = [\"sleep\", \"999\"]\nreload = {{ signal = \"HUP\" }}\n",
        LISTENER.replace("stop =", "reload = { signal = \"HUP\" }\nstop =")
    ));
    started(&rig, 1);
    rig.ok(&["stop", "b", "--wait"]);
    let refused = rig.regrow(&["reload", "w", "b"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("b does not run, so nothing can hear a signal"), "{told}");
    rig.ok(&["signal", "w", "USR1"]);
    rig.wait("it hears USR1", || !rig.witness("heard").is_empty());
    assert_eq!(rig.witness("heard"), ["usr1"], "and heard nothing before");
    rig.ok(&["reload", "--all"]);
    rig.wait("those that run are told of all", || rig.witness("heard") == ["usr1", "hup"]);
}

#[test]
fn reload_without_a_signal_is_a_restart() {
    let rig = Rig::start(LISTENER);
    started(&rig, 1);
    rig.ok(&["reload", "w", "--wait"]);
    started(&rig, 2);
}

#[test]
fn a_worker_finds_its_port_in_its_environment_and_in_its_arguments() {
    let rig = Rig::start(
        r#"
[worker.w]
command = ["sh", "-c", "echo $PORT $1 $REGROW_INSTANCE $COPY >> {dir}/starts; exec sleep 1000", "sh", "--at={port}"]
env = { COPY = "{slug}:{port}" }
port = { base = 8123 }
"#,
    );
    rig.wait("it has started", || rig.witness("starts") == ["8123 --at=8123 w w:8123"]);
}

#[test]
fn with_a_drain_a_worker_is_shown_as_not_ready_before_it_hears_the_signal() {
    let rig = Rig::start(
        r#"
[worker.w]
command = ["sh", "-c", "trap 'echo term >> {dir}/heard; exit 0' TERM; echo $$ >> {dir}/starts; while :; do sleep 0.05; done"]
stop = { drain = "6s", timeout = "5s" }
"#,
    );
    started(&rig, 1);
    rig.ok(&["stop", "w"]);
    rig.wait("it is shown as stopping", || {
        let seen = rig.worker("w");
        seen["phase"] == "stopping" && seen["ready"] == false
    });
    assert!(rig.witness("heard").is_empty(), "it has not heard of its end yet");
    rig.wait_phase("w", "stopped");
    assert_eq!(rig.witness("heard"), ["term"]);
}
