//! Workers that outlived their runtime: found, told of and ended before a copy runs.

use std::fs;

use rustix::process::Signal;

use crate::faults_runtime::{STUBBORN, WITNESS, pids};
use crate::rig::{Rig, alive, send};

#[test]
fn c1_after_sigkill_of_the_runtime_no_second_copy_ever_runs() {
    let mut rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    for round in 1..=5 {
        rig.wait("it is up", || pids(&rig).len() == round);
        let old = pids(&rig)[round - 1];
        rig.kill_runtime();
        assert!(alive(old), "a worker survives the death of the runtime");
        rig.launch();
        rig.wait("a new copy is up", || pids(&rig).len() == round + 1);
        assert!(!alive(old), "the survivor was ended first");
        assert!(rig.output().contains(&format!("{old}")), "and that is said");
    }
    let adopted = rig.ok(&["events", "--kind", "runtime.adopted", "-o", "jsonl"]);
    assert!(!adopted.is_empty());
}

#[test]
fn c1_a_survivor_that_will_not_go_is_killed_before_its_successor_starts() {
    let mut rig = Rig::start(&format!(
        "[worker.web]\ncommand = {STUBBORN}\nstop = {{ timeout = \"500ms\" }}\n[worker.other]\n\
         command = [\"sh\", \"-c\", \"echo x >> {{dir}}/other; exec sleep 999\"]\n"
    ));
    rig.wait("it is up", || pids(&rig).len() == 1);
    rig.kill_runtime();
    rig.launch();
    rig.wait("a new copy is up", || pids(&rig).len() == 2);
    assert!(!alive(pids(&rig)[0]));
    rig.wait("the other one too", || rig.witness("other").len() == 2);
}

/// Survivors that do not end when asked: of a worker, of one that somebody has stopped, and of one that the file no
/// longer has; and a new runtime that is just stopping them.
fn with_survivors_that_stay(shutdown_timeout: &str) -> Rig {
    let stays = |name: &str| {
        let script = "trap '' TERM; echo $$ >> {dir}/starts; while :; do sleep 1; done";
        format!("[worker.{name}]\ncommand = [\"sh\", \"-c\", \"{script}\"]\nstop = {{ timeout = \"1h\" }}\n")
    };
    let head = format!("[runtime]\nshutdown_timeout = \"{shutdown_timeout}\"\n");
    let file = format!("{head}{}{}", stays("web"), stays("off"));
    let mut rig = Rig::start(&format!("{file}{}", stays("gone")));
    rig.wait("all are up", || pids(&rig).len() == 3);
    rig.ok(&["stop", "off"]);
    rig.wait_phase("off", "stopping");
    rig.kill_runtime();
    rig.configure(&file);
    rig.launch();
    rig.wait("all are being stopped", || rig.output().matches("it is being stopped").count() == 3);
    rig
}

#[test]
fn c1_survivors_that_are_still_being_stopped_do_not_outlive_the_next_runtime() {
    let mut rig = with_survivors_that_stay("1s");
    // Whoever looks sees them, also in the place of one that somebody has stopped.
    let start = serde_json::json!({ "do": "start", "at": null });
    for (instance, status, next) in [("web", "starting", start), ("off", "stopped", serde_json::Value::Null)]
    {
        let leads_to = || {
            let shown = rig.worker(instance);
            shown["status"] == status && shown["next_action"] == next
        };
        rig.wait("it is shown what that leads to", leads_to);
        let shown = rig.worker(instance);
        assert_eq!(shown["phase"], "stopping", "{shown}");
        assert_eq!(shown["incarnation"], 1, "the first start of the runtime before: {shown}");
        assert!(shown["issues"].to_string().contains("of an earlier runtime lives on"), "{shown}");
        assert!(pids(&rig).contains(&(shown["pid"].as_u64().unwrap() as u32)), "{shown}");
        let why = rig.ok(&["why", instance]);
        assert!(
            why.contains(&format!("{instance}: {status}\n  what an earlier runtime left of it")),
            "{why}"
        );
    }
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    let left = pids(&rig);
    assert_eq!(left.len(), 3, "nobody was started beside them: {}", rig.output());
    assert!(left.iter().all(|pid| !alive(*pid)), "{left:?}\n{}", rig.output());
}

#[test]
fn c1_a_second_sigterm_means_now_for_survivors_too() {
    let mut rig = with_survivors_that_stay("1h");
    rig.signal(Signal::TERM);
    rig.wait("it ends", || rig.output().contains("shutting down"));
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    assert!(pids(&rig).iter().all(|pid| !alive(*pid)), "{}", rig.output());
}

#[test]
fn c1_survivors_of_a_pool_are_replaced_each_by_itself_and_no_successor_is_touched() {
    // On TERM the first copy ends at once, the second once it may, the third never.
    let mut rig = Rig::start(
        "[worker.pool]\ninstances = 3\nstop = { timeout = \"3s\" }\n\
         command = [\"sh\", \"-c\", \"trap 'asked=1' TERM; echo $$ >> {dir}/starts-{index}; while :; do \
         test \\\"$asked\\\" && test {index} = 0 && exit 0; \
         test \\\"$asked\\\" && test {index} = 1 && test -e {dir}/go && exit 0; sleep 0.05; done\"]\n",
    );
    let starts = |rig: &Rig, index: u32| rig.witness(&format!("starts-{index}"));
    rig.wait("all are up", || (0..3).all(|index| starts(&rig, index).len() == 1));
    rig.kill_runtime();
    rig.launch();
    rig.wait("the first has a successor", || starts(&rig, 0).len() == 2);
    fs::write(rig.path("go"), "").unwrap();
    rig.wait("the others too", || (0..3).all(|index| starts(&rig, index).len() == 2));
    for index in 0..3 {
        rig.wait_status(&format!("pool/{index}"), "healthy");
        let pids: Vec<u32> = starts(&rig, index).iter().map(|pid| pid.parse().unwrap()).collect();
        assert!(!alive(pids[0]) && alive(pids[1]), "pool/{index}: {pids:?}\n{}", rig.output());
        assert_eq!(rig.worker(&format!("pool/{index}"))["restarts"], 0);
    }
    let exits = rig.ok(&["events", "--kind", "worker.exited", "-o", "jsonl"]);
    assert_eq!(exits, "", "no start failed, and nobody was killed but survivors");
}

#[test]
fn c1_a_survivor_is_stopped_as_a_stop_does_it_and_its_children_hold_nobody_up() {
    // Nobody passes TERM on to the children, and stop.timeout is longer than this test waits.
    let mut rig = Rig::start(
        "[worker.two]\nstop = { timeout = \"10m\" }\n\
         command = [\"sh\", \"-c\", \"sleep 888 & sleep 889 & echo $$ >> {dir}/starts; wait\"]\n",
    );
    rig.wait("it is up", || pids(&rig).len() == 1);
    rig.kill_runtime();
    rig.launch();
    rig.wait("a new copy is up", || pids(&rig).len() == 2);
    let told = rig.ok(&["events", "--kind", "runtime.adopted", "-o", "jsonl"]);
    assert!(told.contains("what that left behind was killed"), "{told}");
}

#[test]
fn c1_an_escaped_grandchild_of_a_dead_runtime_is_found() {
    let mut rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"(setsid sh -c 'echo $$ >> {dir}/escaped; exec sleep 997' &) ; echo $$ >> {dir}/starts; exec sleep 999\"]\n",
    );
    rig.wait("it escaped", || rig.witness("escaped").len() == 1 && pids(&rig).len() == 1);
    rig.kill_runtime();
    let (main, escaped): (u32, u32) = (pids(&rig)[0], rig.witness("escaped")[0].parse().unwrap());
    send(main, Signal::KILL);
    rig.launch();
    rig.wait("a new copy is up", || pids(&rig).len() == 2);
    assert!(!alive(escaped), "a descendant of the first incarnation lives beside the second");
}
