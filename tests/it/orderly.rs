//! One order for several workers: nobody loses what it depends on while it still works, and what is refused changes
//! nothing.

use crate::rig::Rig;

const FLEET: &str = r#"
[defaults.worker]
stop = { timeout = "20s" }
[supervisor.root]
children = ["db", "api", "e"]
[supervisor.e]
strategy = "rest_for_one"
children = ["x", "y"]
[worker.db]
command = ["sh", "-c", "trap 'echo db told >> {dir}/w; echo db ends >> {dir}/w; exit 0' TERM; echo db runs >> {dir}/w; echo up; while :; do sleep 0.05; done"]
ready = { log = "up" }
[worker.api]
command = ["sh", "-c", "trap 'echo api told >> {dir}/w; until test -e {dir}/go; do sleep 0.05; done; echo api ends >> {dir}/w; exit 0' TERM; echo api runs >> {dir}/w; while :; do sleep 0.05; done"]
after = ["db"]
[worker.x]
command = ["sleep", "1000"]
[worker.y]
command = ["sleep", "1000"]
"#;

/// api ends once it may.
fn let_go(rig: &Rig) {
    std::fs::write(rig.path("go"), "").unwrap();
}

fn all_run(rig: &Rig) {
    for worker in ["db", "api", "x", "y"] {
        rig.wait_status(worker, "healthy");
    }
    rig.wait("both have written down that they run", || rig.witness("w").len() == 2);
}

#[test]
fn who_depends_on_another_ends_before_it_and_comes_back_after_it() {
    let rig = Rig::start(FLEET);
    all_run(&rig);
    let_go(&rig);
    rig.ok(&["restart", "--all", "--wait=30s"]);
    let order = ["api told", "api ends", "db told", "db ends"];
    rig.wait("both have come back", || rig.witness("w").len() == 8);
    let seen = rig.witness("w");
    assert_eq!(
        (&seen[2..6], &seen[6..]),
        (&order.map(str::to_owned)[..], &["db runs", "api runs"].map(str::to_owned)[..])
    );
    for worker in ["db", "api", "x", "y"] {
        assert_eq!(rig.worker(worker)["restarts"], 1, "{worker}");
    }
    rig.ok(&["stop", "--all", "--wait=30s"]);
    assert_eq!(rig.witness("w")[8..], order);
    rig.ok(&["start", "--all", "--wait=30s"]);
    assert_eq!(rig.worker("api")["status"], "healthy");
}

#[test]
fn several_that_are_named_go_by_who_depends_on_whom_as_well() {
    let rig = Rig::start(FLEET);
    all_run(&rig);
    let_go(&rig);
    let wrong = rig.regrow(&["stop", "db", "api", "xx"]);
    assert_eq!(wrong.status.code(), Some(4), "{wrong:?}");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("nothing is called `xx`"), "{wrong:?}");
    rig.ok(&["restart", "db", "api", "--wait=30s"]);
    rig.wait("both have come back", || rig.witness("w").len() == 8);
    let order = ["api told", "api ends", "db told", "db ends"].map(str::to_owned);
    let seen = rig.witness("w");
    assert_eq!(
        (&seen[2..6], &seen[6..]),
        (&order[..], &["db runs", "api runs"].map(str::to_owned)[..]),
        "and nobody was told anything before"
    );
    assert_eq!((&rig.worker("db")["restarts"], &rig.worker("x")["restarts"]), (&1.into(), &0.into()));
    rig.ok(&["stop", "db", "x", "api", "--wait=30s"]);
    assert_eq!(rig.witness("w")[8..], order);
    assert_eq!(rig.worker("x")["status"], "stopped");
    rig.ok(&["start", "api", "db", "--wait=30s"]);
    rig.wait("both run again", || rig.witness("w").len() == 14);
    assert_eq!(rig.witness("w")[12..], ["db runs", "api runs"]);
}

#[test]
fn a_supervisor_among_several_stands_where_its_workers_do() {
    let rig = Rig::start(
        r#"
[defaults.worker]
stop = { timeout = "20s" }
[supervisor.e]
children = ["x", "y"]
[worker.db]
command = ["sh", "-c", "trap 'echo db ends >> {dir}/w; exit 0' TERM; echo db runs >> {dir}/w; echo up; while :; do sleep 0.05; done"]
ready = { log = "up" }
[worker.x]
command = ["sleep", "1000"]
[worker.y]
command = ["sh", "-c", "trap 'sleep 0.3; echo y ends >> {dir}/w; exit 0' TERM; echo y runs >> {dir}/w; while :; do sleep 0.05; done"]
after = ["db"]
"#,
    );
    rig.wait("both run", || rig.witness("w").len() == 2);
    rig.ok(&["restart", "db", "y", "sup:e", "--wait=30s"]);
    rig.wait("both have come back", || rig.witness("w").len() == 6);
    assert_eq!(rig.witness("w")[2..], ["y ends", "db ends", "db runs", "y runs"]);
    assert_eq!((&rig.worker("x")["restarts"], &rig.worker("y")["restarts"]), (&1.into(), &1.into()));
    rig.ok(&["stop", "sup:e", "db", "--wait=30s"]);
    assert_eq!(rig.witness("w")[6..], ["y ends", "db ends"]);
    rig.ok(&["start", "y", "sup:e", "db", "--wait=30s"]);
    rig.wait("both run again", || rig.witness("w").len() == 10);
    assert_eq!(rig.witness("w")[8..], ["db runs", "y runs"]);
}

#[test]
fn a_pause_of_one_that_has_had_its_one_run_meanwhile_can_be_ended() {
    let rig = Rig::start("[worker.t]\ncommand = [\"sleep\", \"1000\"]\nrestart = \"temporary\"\n");
    rig.wait_status("t", "healthy");
    let pid = rig.worker("t")["pid"].as_u64().unwrap();
    rig.ok(&["pause", "t", "--wait=30s"]);
    crate::rig::send(u32::try_from(pid).unwrap(), rustix::process::Signal::KILL);
    rig.wait_phase("t", "done");
    assert_eq!(rig.worker("t")["status"], "paused");
    rig.ok(&["resume", "t", "--wait=30s"]);
    rig.wait_status("t", "done");
    assert!(!rig.text(".regrow/intents.json").contains("\"t\""), "{}", rig.text(".regrow/intents.json"));
    assert_eq!(rig.code(&["resume", "t"]), 1, "there is no pause any more");
}

#[test]
fn a_start_in_the_middle_of_an_orderly_stop_is_heard() {
    let rig = Rig::start(FLEET);
    all_run(&rig);
    rig.ok(&["stop", "--all"]);
    rig.ok(&["start", "db"]);
    let_go(&rig);
    rig.wait_status("api", "stopped");
    assert_eq!(rig.worker("db")["status"], "healthy");
    assert!(!rig.witness("w").contains(&"db told".to_owned()), "{:?}", rig.witness("w"));
}

#[test]
fn what_a_supervisor_that_is_down_cannot_be_asked_changes_nothing() {
    let rig = Rig::start(FLEET);
    all_run(&rig);
    let_go(&rig);
    rig.ok(&["stop", "sup:e", "--wait=30s"]);
    // It is down, and will stay so.
    assert_eq!(rig.ok(&["stop", "y", "--wait=30s"]), "y: stopped (it is down)\n");
    let before = rig.text(".regrow/intents.json");
    assert!(before.contains("\"y\""), "{before}");
    assert_eq!((rig.code(&["restart", "y"]), rig.code(&["pause", "x"])), (1, 1));
    assert_eq!(rig.text(".regrow/intents.json"), before);
}

#[test]
fn starting_a_supervisor_starts_whom_somebody_stopped_below_it() {
    let rig = Rig::start(FLEET);
    all_run(&rig);
    let_go(&rig);
    rig.ok(&["stop", "y", "--wait=30s"]);
    rig.ok(&["restart", "sup:e", "--wait=30s"]);
    assert_eq!(
        (rig.worker("x")["restarts"].as_u64(), rig.worker("y")["status"].as_str()),
        (Some(1), Some("stopped"))
    );
    rig.ok(&["start", "sup:e", "--wait=30s"]);
    assert_eq!(rig.worker("y")["status"], "healthy");
    rig.ok(&["stop", "sup:e", "--wait=30s"]);
    rig.ok(&["stop", "y", "--wait=30s"]);
    rig.ok(&["start", "sup:e", "--wait=30s"]);
    for worker in ["x", "y"] {
        assert_eq!(rig.worker(worker)["status"], "healthy", "{worker}");
    }
}

#[test]
fn who_is_named_beside_its_supervisor_is_down_with_it() {
    let rig = Rig::start(FLEET);
    all_run(&rig);
    for targets in [["x", "sup:e"], ["sup:e", "y"]] {
        let said = rig.ok(&["stop", targets[0], targets[1], "--wait"]);
        assert!(
            said.contains("x: stopped (it is down)") && said.contains("y: stopped (it is down)"),
            "{said}"
        );
        let is_wanted_down = |worker: &str| rig.worker(worker)["wanted"] == "stopped";
        let named = |worker: &str| targets.contains(&worker);
        assert_eq!(["x", "y"].map(is_wanted_down), ["x", "y"].map(named), "{targets:?}");
        rig.ok(&["start", "sup:e", "--wait"]);
        all_run(&rig);
    }
    let_go(&rig);
}
