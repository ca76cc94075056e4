//! The configuration of what runs: `diff`, `apply`, SIGHUP. Only what changed is touched, and a wrong file changes
//! nothing.

use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::Value;

use crate::fake::{exchange, request, stderr};
use crate::rig::{Rig, alive};

/// A worker that stays, with an argument that can differ.
pub(crate) fn stays(name: &str, more: &str) -> String {
    format!("[worker.{name}]\ncommand = [\"sh\", \"-c\", \"exec sleep 999\", \"one\"]\n{more}\n")
}

/// The same as another program.
pub(crate) fn other(name: &str, more: &str) -> String {
    stays(name, more).replace("\"one\"", "\"two\"")
}

pub(crate) fn pid(rig: &Rig, instance: &str) -> u64 {
    rig.worker(instance)["pid"].as_u64().unwrap_or_else(|| panic!("{instance} has no process"))
}

pub(crate) fn up(rig: &Rig, instances: &[&str]) {
    for instance in instances {
        rig.wait_status(instance, "healthy");
    }
}

pub(crate) fn config(rig: &Rig) -> Value {
    get(rig, "/api/v1/config")
}

pub(crate) fn get(rig: &Rig, path: &str) -> Value {
    serde_json::from_str(&page(rig, "GET", path)).unwrap()
}

pub(super) fn page(rig: &Rig, method: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    exchange(&mut stream, &request(method, path, "", "")).body
}

pub(crate) fn events(rig: &Rig, kind: &str) -> Vec<Value> {
    let text = rig.ok(&["events", "--kind", kind, "-o", "jsonl"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn apply_replaces_the_worker_that_changed_and_no_other() {
    let rig = Rig::start(&(stays("a", "") + &stays("b", "") + &stays("c", "")));
    up(&rig, &["a", "b", "c"]);
    assert_eq!(rig.code(&["diff"]), 0);
    let before = [pid(&rig, "a"), pid(&rig, "b"), pid(&rig, "c")];
    rig.configure(&(stays("a", "") + &other("b", "") + &stays("c", "")));
    let diff = rig.regrow(&["diff"]);
    assert_eq!(diff.status.code(), Some(1));
    let text = String::from_utf8(diff.stdout).unwrap();
    assert_eq!(
        text,
        "~ worker b: restarts\n    command: [\"sh\",\"-c\",\"exec sleep 999\",\"one\"] -> [\"sh\",\"-c\",\"exec sleep \
         999\",\"two\"]\n1 worker to restart, 2 workers untouched; `regrow apply` does it\n"
    );
    assert_eq!(rig.ok(&["describe", "a", "--diff"]), "a runs as the file says\n");
    assert!(text.starts_with(&rig.ok(&["describe", "b", "--diff"])), "the part of it that is about `b`");
    assert_eq!(rig.code(&["describe", "ghost", "--diff"]), 4);
    assert_eq!(rig.ok(&["apply", "--dry-run"]), text, "a dry run is the same, and no failure");
    assert_eq!(pid(&rig, "b"), before[1], "neither has touched anything");
    rig.ok(&["apply", "--wait"]);
    assert_eq!([pid(&rig, "a"), pid(&rig, "c")], [before[0], before[2]]);
    assert_ne!(pid(&rig, "b"), before[1]);
    assert!(!alive(u32::try_from(before[1]).unwrap()));
    assert_eq!(rig.code(&["diff"]), 0);
    assert_eq!(rig.status()["runtime"]["config_generation"], 2);
    assert_eq!(rig.worker("b")["restarts"], 1, "a change is a start, and counts as no failure");
    let applied = events(&rig, "config.applied");
    assert_eq!(applied.len(), 1);
    assert_eq!(applied[0]["data"]["changes"][0]["effect"], "restarts");
}

#[test]
fn what_only_the_runtime_knows_holds_at_once_without_a_new_process() {
    let rig = Rig::start(&stays("a", "restart = \"permanent\"\nstop.timeout = \"9s\""));
    up(&rig, &["a"]);
    let before = pid(&rig, "a");
    rig.configure(&stays("a", "restart = \"temporary\"\nstop.timeout = \"1s\"\ncritical = true"));
    assert!(rig.ok(&["apply", "--wait"]).contains("~ worker a: in place"));
    assert_eq!(pid(&rig, "a"), before);
    assert_eq!(rig.worker("a")["critical"], true);
    assert_eq!(config(&rig)["worker"]["a"]["restart"], "temporary");
    // The rule of the new file decides about the process of the old one.
    crate::rig::send(u32::try_from(before).unwrap(), Signal::KILL);
    rig.wait("it is not started again", || {
        let listed = rig.status()["workers"].to_string();
        !listed.contains("\"pid\":") || listed.contains("\"phase\":\"done\"")
    });
    let starts = events(&rig, "worker.starting");
    assert_eq!(starts.len(), 1, "{starts:?}");
}

#[test]
fn who_is_new_starts_and_who_is_gone_stops_and_is_forgotten() {
    let rig = Rig::start(&(stays("a", "") + &stays("b", "")));
    up(&rig, &["a", "b"]);
    let (kept, gone) = (pid(&rig, "a"), pid(&rig, "b"));
    rig.ok(&["stop", "b", "--wait"]);
    rig.configure(&(stays("a", "") + &stays("c", "after = [\"a\"]")));
    let text = rig.ok(&["apply", "--wait"]);
    assert!(text.contains("- worker b: stops\n") && text.contains("+ worker c: starts\n"), "{text}");
    up(&rig, &["c"]);
    assert_eq!(pid(&rig, "a"), kept);
    assert!(!alive(u32::try_from(gone).unwrap()));
    assert_eq!(rig.code(&["describe", "b"]), 4);
    assert!(!page(&rig, "GET", "/metrics").contains("worker_id=\"b\""));
    assert_eq!(events(&rig, "worker.added").len(), 1);
    assert_eq!(events(&rig, "worker.removed").len(), 1);
    assert!(!rig.text(".regrow/intents.json").contains("\"b\""), "the wish to have it down is gone too");
    // One that comes back under the name is another.
    rig.configure(&(stays("a", "") + &stays("b", "")));
    rig.ok(&["apply", "--wait"]);
    up(&rig, &["b"]);
    assert_eq!(rig.worker("b")["restarts"], 0);
}

#[test]
fn sighup_takes_the_file_over_and_refuses_a_wrong_one() {
    let rig = Rig::start(&(stays("a", "") + &stays("b", "")));
    up(&rig, &["a", "b"]);
    let before = (pid(&rig, "a"), pid(&rig, "b"));
    rig.configure("[worker.a]\ncommand = 5\nnice = \"often\"\nunheard_of = 1\n");
    rig.signal(Signal::HUP);
    rig.wait("it is refused", || events(&rig, "config.rejected").len() == 1);
    rig.wait("with all it is about", || rig.output().contains("must be a list of texts"));
    rig.wait("every problem is a line of the log", || {
        let log = rig.text(".regrow/logs/regrow.log");
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
        ["command", "nice", "unheard_of"].iter().all(|key| lines.iter().any(|line| line.contains(key)))
    });
    assert_eq!((pid(&rig, "a"), pid(&rig, "b")), before);
    rig.configure(&(other("a", "") + &stays("b", "")));
    rig.signal(Signal::HUP);
    rig.wait("the changed one is another", || {
        rig.worker("a")["pid"].as_u64().is_some_and(|pid| pid != before.0)
    });
    assert_eq!(pid(&rig, "b"), before.1);
}

#[test]
fn whom_somebody_stopped_stays_stopped() {
    let rig = Rig::start(&(stays("a", "") + &stays("b", "")));
    up(&rig, &["a", "b"]);
    rig.ok(&["stop", "a", "--wait"]);
    rig.configure(&(other("a", "") + &stays("b", "")));
    assert!(rig.ok(&["apply", "--wait"]).contains("~ worker a: stays stopped"));
    for switch in ["enabled = false", ""] {
        rig.configure(&(other("a", switch) + &stays("b", "")));
        let text = rig.ok(&["apply", "--wait"]);
        assert!(text.contains("~ worker a: stays stopped"), "{text}");
        assert!(text.contains("1 worker to stay stopped, 1 worker untouched"), "{text}");
    }
    assert_eq!(rig.worker("a")["wanted"], "stopped");
    assert_eq!(rig.worker("a")["pid"], Value::Null);
    rig.ok(&["start", "a", "--wait"]);
    // In the middle of an exec there is none.
    rig.wait("it has a command line", || {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid(&rig, "a")));
        line.is_ok_and(|line| !line.is_empty())
    });
    assert_eq!(config(&rig)["worker"]["a"]["command"][3], "two", "and then it is the new one");
}

#[test]
fn what_is_switched_off_stops_and_on_starts_again() {
    let rig = Rig::start(&stays("a", ""));
    up(&rig, &["a"]);
    rig.configure(&stays("a", "enabled = false"));
    rig.ok(&["apply", "--wait"]);
    rig.wait_status("a", "stopped");
    assert!(!rig.text(".regrow/intents.json").contains("\"a\""), "nobody stopped it by hand");
    rig.configure(&stays("a", ""));
    rig.ok(&["apply", "--wait"]);
    up(&rig, &["a"]);
}

#[test]
fn a_parked_worker_is_tried_at_once_with_its_new_settings() {
    let broken = "[worker.a]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\nbackoff.first = \"0s\"\n";
    let rig =
        Rig::start(&format!("[supervisor.root]\nintensity.max_restarts = 2\nretry_first = \"1h\"\n{broken}"));
    rig.wait_status("a", "quarantined");
    rig.configure(&format!(
        "[supervisor.root]\nintensity.max_restarts = 2\nretry_first = \"1h\"\n{}",
        stays("a", "")
    ));
    rig.ok(&["apply", "--wait"]);
    up(&rig, &["a"]);
    // In a delay too, and also if only a rule is new.
    let waits = |code: u32| {
        format!(
            "[worker.a]\ncommand = [\"sh\", \"-c\", \"test -e ok && exec sleep 999; exit 3\"]\n\
             backoff = {{ first = \"1h\", max = \"1h\", jitter = 0.0 }}\nexit_codes.normal = [0, {code}]\n"
        )
    };
    rig.configure(&waits(4));
    rig.ok(&["apply"]);
    rig.wait_phase("a", "backoff");
    std::fs::write(rig.path("ok"), "").unwrap();
    rig.configure(&waits(5));
    rig.ok(&["apply", "--wait"]);
    up(&rig, &["a"]);
}

#[test]
fn who_moves_is_stopped_there_before_it_is_started_here() {
    let witness = "[worker.a]\ncommand = [\"sh\", \"-c\", \"exec 9>{dir}/lock; flock -n 9 || {{ echo twice >> {dir}/twice; exit 1; }; exec sleep 999\"]\n";
    let tree = |of_a: &str, of_b: &str| {
        format!(
            "[supervisor.x]\nchildren = [{of_a}]\n[supervisor.y]\nchildren = [{of_b}]\n{witness}{}",
            stays("b", "")
        )
    };
    let rig = Rig::start(&tree("\"a\"", "\"b\""));
    up(&rig, &["a", "b"]);
    let before = (pid(&rig, "a"), pid(&rig, "b"));
    rig.configure(&tree("", "\"b\", \"a\""));
    let text = rig.ok(&["apply", "--wait"]);
    assert!(text.contains("supervisor: \"root/x\" -> \"root/y\""), "{text}");
    up(&rig, &["a"]);
    assert_eq!(rig.worker("a")["supervisor"], "y");
    assert_ne!(pid(&rig, "a"), before.0);
    assert_eq!(pid(&rig, "b"), before.1);
    assert!(!rig.path("twice").exists());
    // The whole of a supervisor goes, and comes back.
    rig.configure(&stays("b", ""));
    rig.ok(&["apply", "--wait"]);
    assert_eq!(rig.code(&["describe", "a"]), 4);
    assert_eq!(rig.status()["supervisors"].as_array().unwrap().len(), 1);
    up(&rig, &["b"]);
    rig.configure(&tree("\"a\"", "\"b\""));
    rig.ok(&["apply", "--wait"]);
    up(&rig, &["a", "b"]);
}

#[test]
fn what_the_runtime_was_built_from_is_named_until_it_is_started_anew() {
    let mut rig = Rig::start(&stays("a", ""));
    up(&rig, &["a"]);
    let before = pid(&rig, "a");
    rig.configure(&("[runtime]\nname = \"other\"\ncontrol.mode = \"0640\"\n".to_owned() + &stays("a", "")));
    let text = rig.ok(&["apply", "--wait"]);
    assert!(text.contains("runtime.control.mode: \"0600\" -> \"0640\""), "{text}");
    assert!(text.contains("runtime.name") && text.contains("(in place)"), "{text}");
    assert!(text.contains("configuration generation 2"), "a part of it holds: {text}");
    let runtime = rig.status()["runtime"].clone();
    assert_eq!(runtime["name"], "other");
    assert!(runtime["notes"].to_string().contains("needs a restart of the runtime"), "{runtime}");
    assert_eq!(rig.code(&["diff"]), 1, "it differs until then");
    assert_eq!(pid(&rig, "a"), before);
    rig.ok(&["shutdown", "--wait"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    assert_eq!(rig.code(&["diff"]), 0);
}

/// S19: what a reload leads to is what a fresh start on the new file leads to.
#[test]
fn s19_a_reload_ends_where_a_fresh_start_begins() {
    let old = format!(
        "[supervisor.x]\nchildren = [\"a\", \"b\"]\n[supervisor.y]\nchildren = [\"c\"]\n{}{}{}{}",
        stays("a", ""),
        stays("b", "after = [\"a\"]"),
        stays("c", ""),
        stays("d", "")
    );
    let new = format!(
        "[defaults.worker]\nstart_timeout = \"9s\"\n[supervisor.z]\nstrategy = \"one_for_all\"\nchildren = [\"e\", \"x\"]\n\
         [supervisor.x]\nchildren = [\"b\", \"c\"]\n{}{}{}{}{}",
        stays("b", ""),
        other("c", "after = [\"b\"]"),
        stays("d", "enabled = false"),
        stays("e", ""),
        stays("f", "critical = true")
    );
    let running = Rig::start(&old);
    up(&running, &["a", "b", "c", "d"]);
    running.configure(&new);
    running.ok(&["apply", "--wait=60s"]);
    let fresh = Rig::start(&new);
    for rig in [&running, &fresh] {
        up(rig, &["b", "c", "e", "f"]);
        rig.wait_status("d", "stopped");
    }
    assert_eq!(config_of(&running), config_of(&fresh));
    assert_eq!(shape(&running), shape(&fresh));
}

/// The settings in force without the place where they were read.
fn config_of(rig: &Rig) -> Value {
    let text = config(rig).to_string().replace(&rig.path("").display().to_string(), "DIR/");
    let text = text.replace(rig.path("").display().to_string().trim_end_matches('/'), "DIR");
    serde_json::from_str(&text).unwrap()
}

/// Who is there, under whom, in which order, and how it is.
fn shape(rig: &Rig) -> (Vec<String>, Vec<String>) {
    let status = rig.status();
    let list = |key: &str, fields: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = status[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| fields.iter().map(|field| format!("{} ", one[*field])).collect())
            .collect();
        all.sort();
        all
    };
    (
        list("workers", &["instance", "supervisor", "status", "wanted", "ready", "critical"]),
        list("supervisors", &["name", "parent", "strategy", "on_exhausted", "children", "phase"]),
    )
}

/// S18 and C4: orders from all sides at once end in some order of them, and a signal to end waits for none.
#[test]
fn s18_orders_from_all_sides_end_as_one_after_the_other() {
    let mut rig = Rig::start(&(stays("a", "") + &stays("b", "") + &stays("c", "")));
    up(&rig, &["a", "b", "c"]);
    for round in 0..3 {
        let changed = if round % 2 == 0 { other("a", "") } else { stays("a", "") };
        rig.configure(&(changed + &stays("b", "") + &stays("c", "")));
        let orders: [&[&str]; 6] =
            [&["apply"], &["restart", "a"], &["stop", "b"], &["apply"], &["start", "b"], &["restart", "c"]];
        let running: Vec<_> = orders.iter().map(|order| rig.command(order).output_in_background()).collect();
        rig.signal(Signal::HUP);
        for order in running {
            let output = order.join().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        rig.ok(&["start", "b", "--wait"]);
        up(&rig, &["a", "b", "c"]);
        assert_eq!(rig.code(&["diff"]), 0);
        let own = rig.path("").display().to_string();
        let mut workers = crate::rig::processes_with(own.trim_end_matches('/'));
        workers.retain(|pid| *pid != rig.runtime());
        rig.wait("each once", || {
            let mut workers = crate::rig::processes_with(own.trim_end_matches('/'));
            workers.retain(|pid| *pid != rig.runtime());
            workers.len() == 3
        });
    }
    rig.configure(&(other("a", "") + &other("b", "") + &other("c", "")));
    rig.signal(Signal::HUP);
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
}

trait InBackground {
    fn output_in_background(self) -> std::thread::JoinHandle<std::process::Output>;
}

impl InBackground for std::process::Command {
    fn output_in_background(mut self) -> std::thread::JoinHandle<std::process::Output> {
        std::thread::spawn(move || self.output().unwrap())
    }
}

#[test]
fn whoever_hangs_up_meanwhile_has_asked_for_the_whole_of_it() {
    use std::io::Write;
    // Who moves has to leave first, and takes its time: the answer comes late.
    let slow = "[worker.a]\ncommand = [\"sh\", \"-c\", \"trap 'while ! test -e {dir}/leave; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done\"]\nstop.timeout = \"5m\"\n";
    let rig = Rig::start(&format!("[supervisor.x]\nchildren = [\"a\"]\n[supervisor.y]\n{slow}"));
    up(&rig, &["a"]);
    rig.configure(&format!("[supervisor.x]\n[supervisor.y]\nchildren = [\"a\"]\n{slow}"));
    let mut stream = UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    stream.write_all(request("POST", "/api/v1/config/apply", "", "").as_bytes()).unwrap();
    rig.wait_phase("a", "stopping");
    drop(stream);
    // The server has noticed by the time it answers somebody else.
    assert_eq!(rig.status()["runtime"]["config_generation"], 1);
    std::fs::write(rig.path("leave"), "").unwrap();
    rig.wait("it is done and told", || events(&rig, "config.applied").len() == 1);
    rig.wait("and counted", || rig.status()["runtime"]["config_generation"] == 2);
    rig.wait("`a` is at its new place", || rig.worker("a")["supervisor"] == "y");
}

#[test]
fn a_runtime_without_a_file_says_so() {
    let rig = Rig::new("");
    let mut run = rig.command(&["run", "--", "sleep", "999"]);
    run.env("XDG_RUNTIME_DIR", rig.path(""));
    let mut run = run.spawn().unwrap();
    let socket = rig.path(format!("regrow-run-{}/regrow.sock", run.id()));
    rig.wait("it answers", || socket.exists());
    let socket = socket.display().to_string();
    for verb in ["apply", "diff"] {
        let output = rig.regrow(&["--socket", &socket, verb]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains("started without a configuration file"), "{output:?}");
    }
    crate::rig::send(run.id(), Signal::TERM);
    run.wait().unwrap();
}

#[test]
fn of_whom_somebody_paused_it_is_said_that_the_change_waits_for_the_end_of_the_pause() {
    let rig = Rig::start(&(stays("a", "") + &stays("b", "")));
    up(&rig, &["a", "b"]);
    let before = [pid(&rig, "a"), pid(&rig, "b")];
    rig.ok(&["pause", "a"]);
    rig.wait_status("a", "paused");
    rig.configure(&(other("a", "") + &stays("b", "") + "[runtime]\ncontrol.mode = \"0640\"\n"));
    let diff = String::from_utf8(rig.regrow(&["diff"]).stdout).unwrap();
    assert!(diff.contains("~ worker a: restarts when its pause ends\n"), "{diff}");
    assert!(diff.contains("~ runtime: needs a restart of the runtime\n    runtime.control.mode: "), "{diff}");
    assert!(diff.contains("1 worker to restart when the pause ends, 1 worker untouched; "), "{diff}");
    assert!(diff.contains("but for what needs a restart of the runtime: `regrow shutdown`"), "{diff}");
    let applied = rig.ok(&["apply", "--wait"]);
    assert!(applied.contains("the rest needs a restart of the runtime"), "{applied}");
    let told = events(&rig, "config.applied")[0]["message"].to_string();
    assert!(told.contains("needs a restart of the runtime: runtime.control.mode"), "{told}");
    assert_eq!([pid(&rig, "a"), pid(&rig, "b")], before, "hands off");
    let outdated =
        || rig.worker("a")["issues"].to_string().contains("as it was set up before its last change");
    rig.wait("it is said that what runs is not what the file says", outdated);
    assert!(
        rig.ok(&["describe", "a", "--diff"]).starts_with("a: what the file says is in force, but it runs as")
    );
    assert_eq!(rig.ok(&["describe", "b", "--diff"]), "b runs as the file says\n");
    let diff = String::from_utf8(rig.regrow(&["diff"]).stdout).unwrap();
    assert!(diff.contains("`regrow apply` does not do it: `regrow shutdown`, then"), "{diff}");
    rig.ok(&["resume", "a"]);
    rig.wait("it runs as the file says", || {
        rig.worker("a")["pid"].as_u64().is_some_and(|pid| pid != before[0]) && !outdated()
    });
}

#[test]
fn where_output_is_that_is_not_kept_is_said() {
    let rig = Rig::start(&(stays("a", "log.to = \"stdout\"") + &stays("b", "")));
    up(&rig, &["a", "b"]);
    let output = rig.regrow(&["logs", "a", "b"]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let said = stderr(&output);
    assert!(said.contains("a: its output goes to the stdout of the runtime (log.to = \"stdout\")"), "{said}");
    assert!(!said.contains("b: "), "{said}");
    assert!(rig.ok(&["describe", "a"]).contains("log.to = \"both\" keeps it here as well"));
    let body = get(&rig, "/api/v1/workers/b/logs");
    assert_eq!(body["notes"], serde_json::json!([]));
}
