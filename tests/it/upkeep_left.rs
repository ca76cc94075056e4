//! What is left alone, and what is over: a paused process that outlives its runtime, a worker that has had its one run.

use crate::rig::{Rig, alive};

fn pid(rig: &Rig, instance: &str) -> u32 {
    rig.worker(instance)["pid"].as_u64().unwrap_or(0) as u32
}

const TWO: &str = "[worker.w]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {dir}/starts; while :; do test -e {dir}/speak && echo spoken && rm {dir}/speak; sleep 0.05; done\"]\n\
                   [worker.other]\ncommand = [\"sleep\", \"1000\"]\n";

/// A runtime in place of one that was killed, with `w` paused over that.
fn after_a_kill() -> (Rig, u32) {
    let mut rig = Rig::start(TWO);
    rig.wait_status("w", "healthy");
    rig.wait_status("other", "healthy");
    let left = pid(&rig, "w");
    rig.ok(&["pause", "w", "--wait"]);
    rig.kill_runtime();
    assert!(alive(left));
    rig.launch();
    rig.wait_status("other", "healthy");
    rig.wait("it is told that it is left alone", || {
        rig.ok(&["events", "--kind", "runtime.adopted", "-o", "jsonl"]).contains("left alone")
    });
    (rig, left)
}

#[test]
fn a_paused_process_that_outlives_its_runtime_is_left_alone_until_the_pause_ends() {
    let (rig, left) = after_a_kill();
    assert!(alive(left));
    let shown = rig.worker("w");
    assert_eq!((&shown["status"], &shown["wanted"]), (&"paused".into(), &"paused".into()), "{shown}");
    rig.wait("its process is shown", || pid(&rig, "w") == left);
    std::fs::write(rig.path("speak"), "").unwrap();
    rig.wait("what it says is kept", || rig.ok(&["logs", "w"]).contains("spoken"));
    assert_eq!(rig.witness("starts"), [left.to_string()], "no second copy beside it");
    rig.ok(&["resume", "w"]);
    rig.wait_status("w", "healthy");
    rig.wait("it was replaced", || rig.witness("starts").len() == 2 && !alive(left));
    rig.wait("the new one is shown", || rig.witness("starts").last() == Some(&pid(&rig, "w").to_string()));
}

#[test]
fn it_is_stopped_by_whoever_asks_for_that_and_with_the_runtime() {
    let (rig, left) = after_a_kill();
    rig.ok(&["stop", "w"]);
    rig.wait("it was stopped", || !alive(left));
    assert_eq!(rig.witness("starts").len(), 1);
    let (mut rig, left) = after_a_kill();
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    assert!(!alive(left), "nothing is left running");
}

#[test]
fn it_is_replaced_by_whoever_asks_for_a_restart() {
    let (rig, left) = after_a_kill();
    rig.ok(&["restart", "w", "--wait"]);
    rig.wait("it was replaced", || !alive(left) && rig.witness("starts").len() == 2);
}

const ONCE: &str =
    "[worker.once]\ncommand = [\"sh\", \"-c\", \"echo run >> {dir}/runs\"]\nrestart = \"temporary\"\n";

#[test]
fn a_worker_that_has_had_its_one_run_is_shown_as_done_and_says_what_can_be_done() {
    let mut rig = Rig::start(ONCE);
    rig.wait_status("once", "done");
    assert_eq!(rig.worker("once")["last_exit"]["kind"], "exited");
    assert_eq!(rig.code(&["describe", "once"]), 0);
    for verb in [
        &["pause", "once", "--for", "1h"][..],
        &["start", "once"],
        &["restart", "once"],
        &["signal", "once", "HUP"],
    ] {
        let out = rig.regrow(verb);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("has had its one run"), "{verb:?}: {said}");
    }
    // What changes elsewhere does not run it again; what changes in it does.
    rig.configure(&format!("{ONCE}[worker.x]\ncommand = [\"sleep\", \"1000\"]\n"));
    rig.ok(&["apply", "--wait"]);
    rig.wait_status("x", "healthy");
    assert_eq!((rig.worker("once")["status"].clone(), rig.witness("runs").len()), ("done".into(), 1));
    rig.configure(&ONCE.replace("echo run", "echo again"));
    rig.ok(&["apply"]);
    rig.wait("it ran again", || rig.witness("runs") == ["run", "again"]);
    rig.wait_status("once", "done");
    rig.configure("[runtime]\n");
    rig.ok(&["apply", "--wait"]);
    assert_eq!(rig.code(&["describe", "once"]), 4, "who is not in the file is gone");
    // A stop outlasts the runtime: the next one does not run it either.
    rig.configure(ONCE);
    rig.ok(&["apply"]);
    rig.wait("it ran once more", || rig.witness("runs").len() == 3);
    rig.wait_status("once", "done");
    rig.ok(&["stop", "once", "--wait"]);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("once", "stopped");
    assert_eq!(rig.witness("runs").len(), 3);
}

#[test]
fn a_one_run_that_failed_says_so_in_the_table_and_an_end_that_is_no_failure_explains_nothing() {
    let mut rig = Rig::new(
        "[worker.bad]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\nrestart = \"temporary\"\n\
         [worker.fine]\ncommand = [\"sh\", \"-c\", \"exit 9\"]\nrestart = \"transient\"\n\
         exit_codes = { normal = [0, 9] }\n[worker.good]\ncommand = [\"true\"]\nrestart = \"temporary\"\n",
    );
    let mut command = rig.command(&["start"]);
    rig.launch_as(command.env("FORGOTTEN", "1"));
    rig.wait("it answers", || rig.try_status().is_some());
    for worker in ["bad", "fine", "good"] {
        rig.wait_status(worker, "done");
    }
    let table = rig.ok(&["status"]);
    let line = |worker: &str| table.lines().find(|line| line.contains(worker)).unwrap_or_default().to_owned();
    assert!(line("bad").contains("exited with code 3"), "{table}");
    assert!(!line("good").contains("exited"), "{table}");
    let message = |worker: &str| rig.worker(worker)["last_exit"]["message"].to_string();
    assert!(message("bad").contains("not passed"), "{}", message("bad"));
    assert!(!message("fine").contains("not passed"), "{}", message("fine"));
}
