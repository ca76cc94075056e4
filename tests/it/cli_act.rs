//! Verbs that act: what is asked, how the outcome is told, and by which exit code.

use std::process::Stdio;
use std::sync::atomic::Ordering;

use regrow::policy::Phase;

use crate::fake::{Fake, id, stderr, stdout};
use crate::rig::Rig;

#[test]
fn an_action_says_what_was_asked_of_whom() {
    let fake = Fake::start();
    let output = fake.regrow(&["restart", "parser"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(
        text.starts_with("restart of parser asked by ") && text.ends_with(": parser/0, parser/1\n"),
        "{text}"
    );
    assert_eq!(fake.board.instance(&id("parser/1")).unwrap().phase, Phase::Running);
}

#[test]
fn wait_sees_it_through() {
    let fake = Fake::start();
    let output = fake.regrow(&["restart", "parser/0", "broker", "--wait"]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    let text = stdout(&output);
    assert!(text.contains("parser/0: healthy (it runs as pid "), "{text}");
    let stopped = fake.regrow(&["stop", "broker", "--wait=5s"]);
    assert_eq!(stdout(&stopped), "broker: stopped (it is down)\n");
}

#[test]
fn a_wait_that_runs_out_is_8() {
    let fake = Fake::start();
    let output = fake.regrow(&["start", "web", "--wait=300ms"]);
    assert_eq!(output.status.code(), Some(8));
    assert!(stderr(&output).contains("still under way after 300ms"), "{}", stderr(&output));
}

#[test]
fn an_action_that_cannot_get_there_is_1() {
    let fake = Fake::start();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fake.regrow(&["start", "web", "--wait"]));
        crate::fake::eventually("the start", || fake.seen.acts.load(Ordering::SeqCst) == 1);
        fake.board.update(&id("web"), |state| state.phase = Phase::Quarantined);
        let output = waiting.join().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stdout(&output).contains("web: quarantined (it was parked"), "{}", stdout(&output));
    });
}

#[test]
fn json_carries_its_schema() {
    let fake = Fake::start();
    let parse =
        |args: &[&str]| serde_json::from_str::<serde_json::Value>(&stdout(&fake.regrow(args))).unwrap();
    let asked = parse(&["reset-failed", "parser/1", "-o", "json"]);
    assert_eq!(asked["schema"], "regrow.reset-failed/1");
    assert_eq!(asked["items"][0]["ok"], true);
    let seen = parse(&["restart", "--all", "--wait=200ms", "-o", "json"]);
    assert_eq!(seen["schema"], "regrow.restart/1");
    assert_eq!(seen["items"][0]["instances"].as_array().unwrap().len(), 4);
}

#[test]
fn a_supervisor_is_a_target() {
    let fake = Fake::start();
    let output = fake.regrow(&["stop", "sup:ingest", "--wait"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output).lines().count(), 3);
    assert_eq!(fake.regrow(&["stop", "sup:nope"]).status.code(), Some(4));
    let bare = fake.regrow(&["stop", "ingest"]);
    assert_eq!(bare.status.code(), Some(4));
    assert!(stderr(&bare).contains("did you mean `sup:ingest`?"), "{}", stderr(&bare));
    let mistyped = fake.regrow(&["status", "borker"]);
    assert!(stderr(&mistyped).contains("did you mean `broker`?"), "{}", stderr(&mistyped));
}

#[test]
fn shutdown_asks_the_runtime() {
    let mut fake = Fake::start();
    let output = fake.regrow(&["shutdown"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    crate::fake::eventually("the shutdown", || fake.seen.shutdowns.load(Ordering::SeqCst) == 1);
    let late = fake.regrow(&["shutdown", "--wait=200ms"]);
    assert_eq!(late.status.code(), Some(8), "the fake never ends by itself");
    fake.servers.take();
    assert_eq!(fake.regrow(&["shutdown"]).status.code(), Some(5));
}

#[test]
fn wait_returns_once_it_is_so() {
    let fake = Fake::start();
    assert_eq!(fake.regrow(&["wait", "broker", "--for", "ready"]).status.code(), Some(0));
    assert_eq!(fake.regrow(&["wait", "web", "--for", "stopped"]).status.code(), Some(0));
    let late = fake.regrow(&["wait", "--all", "--for", "healthy", "--timeout", "200ms"]);
    assert_eq!(late.status.code(), Some(3));
    assert_eq!(
        stderr(&late),
        "regrow: not healthy in time: parser/0 is recovering, parser/1 is quarantined, web is stopped\n"
    );
    let json = fake.regrow(&["wait", "web", "--for", "ready", "--timeout", "50ms", "-o", "json"]);
    let body: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((&body["schema"], &body["answer"]), (&"regrow.wait/1".into(), &false.into()));
    assert_eq!(body["missing"][0]["instance"], "web");
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| fake.regrow(&["wait", "parser/0", "--for", "healthy", "--timeout", "20s"]));
        std::thread::sleep(std::time::Duration::from_millis(100));
        fake.board.update(&id("parser/0"), |state| {
            state.phase = Phase::Running;
            state.ready = true;
        });
        assert_eq!(waiting.join().unwrap().status.code(), Some(0));
    });
}

#[test]
fn who_waits_for_a_start_hears_of_one_that_ended_at_once() {
    let rig = crate::rig::Rig::start(
        "[worker.job]\ncommand = [\"sh\", \"-c\", \"sleep 0.02; exit 7\"]\nexit_codes = { fatal = [7] }\n\
         [worker.web]\ncommand = [\"sleep\", \"999\"]\n",
    );
    rig.wait_status("job", "quarantined");
    let out = rig.regrow(&["restart", "job", "--wait=30s"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stdout).contains("parked"), "{out:?}");
    rig.ok(&["restart", "web", "--wait=30s"]);
}

#[test]
fn waiting_for_what_never_comes_by_itself_ends_and_says_why() {
    let rig = crate::rig::Rig::start("[worker.job]\ncommand = [\"true\"]\nrestart = \"transient\"\n");
    rig.wait_status("job", "done");
    let out = rig.regrow(&["wait", "job", "--for", "ready"]);
    assert_eq!(out.status.code(), Some(3), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("job is done") && said.contains("regrow start job"), "{said}");
    assert_eq!(rig.code(&["wait", "job", "--for", "stopped"]), 0);
    assert_eq!(
        rig.ok(&["events", "--kind", "worker.exited", "-o", "jsonl"]).matches("\"cause\":\"crash\"").count(),
        0
    );
}

#[test]
fn who_is_being_stopped_shows_what_that_leads_to() {
    let stubborn = "command = [\"sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 0.1; done\"]\n\
                    ready = { log = \"up\" }\nstop = { timeout = \"1h\" }\n";
    let mut rig = Rig::start(&format!(
        "[runtime]\nshutdown_timeout = \"1h\"\n[worker.web]\n{stubborn}[worker.kept]\n{stubborn}"
    ));
    rig.wait_status("web", "healthy");
    rig.wait_status("kept", "healthy");
    rig.ok(&["restart", "web"]);
    rig.wait_phase("web", "stopping");
    assert_eq!(rig.worker("web")["status"], "starting", "nothing is wrong with it, and it comes back");
    rig.signal(rustix::process::Signal::TERM);
    rig.wait_phase("kept", "stopping");
    assert_eq!(rig.worker("kept")["status"], "stopped");
    rig.signal(rustix::process::Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
}

#[test]
fn a_stop_that_a_later_start_overtakes_is_told_so_at_once() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"/bin/sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 0.1; done\"]\n\
         ready = { log = \"up\" }\nstop = { timeout = \"5s\" }\n",
    );
    rig.wait_status("web", "healthy");
    let stop = rig
        .command(&["stop", "web", "--wait=10m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    rig.wait_phase("web", "stopping");
    rig.ok(&["start", "web"]);
    let output = stop.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stdout(&output).contains("(somebody started it again)"), "{output:?}");
}

#[test]
fn a_wrong_name_among_several_touches_nobody() {
    let fake = Fake::start();
    let output = fake.regrow(&["stop", "broker", "borker"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("did you mean `broker`?"), "{output:?}");
    let broker = fake.board.instance(&id("broker")).unwrap();
    assert_eq!((stdout(&output).as_str(), broker.phase), ("", Phase::Running));
}

#[test]
fn a_wait_for_who_is_paused_and_down_says_at_once_that_it_is_in_vain() {
    let fake = Fake::start();
    fake.board.update(&id("web"), |state| state.wanted = regrow::supervisor::Wanted::Paused);
    let output = fake.regrow(&["wait", "web", "--for", "ready"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("web is stopped; `regrow start web` starts it"), "{output:?}");
}

#[test]
fn a_runtime_that_is_killed_while_its_end_is_waited_for_has_not_ended_well() {
    let mut rig = Rig::start(
        "[runtime]\nshutdown_timeout = \"10m\"\n[worker.web]\nready = { log = \"up\" }\nstop = { timeout = \"10m\" }\n\
         command = [\"/bin/sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 0.1; done\"]\n",
    );
    rig.wait_status("web", "healthy");
    let end = rig.command(&["shutdown", "--wait=10m"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    rig.wait_phase("web", "stopping");
    rig.kill_runtime();
    let output = end.unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("its workers may live"), "{output:?}");
}
