//! Programs that go into the background: followed by their pid file, or taken over while they run.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::rig::{Rig, alive, send};

/// Double-forks, closes its output, writes its pid after a while and notes what it is told.
const DAEMON: &str = r#"
import os, signal, sys, time
here = os.path.dirname(os.path.abspath(__file__))
if "-f" not in sys.argv:
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2): os.dup2(null, fd)
def end(*_):
    open(here + "/asked", "a").write("%d\n" % os.getpid())
    os._exit(0)
signal.signal(signal.SIGTERM, end)
time.sleep(0.2)
open(here + "/starts", "a").write("%d\n" % os.getpid())
open(here + "/pid.new", "w").write("%d\n" % os.getpid())
os.rename(here + "/pid.new", here + "/pid")
while True: time.sleep(1)
"#;

fn rig(more: &str) -> Rig {
    let rig = Rig::new(&format!(
        "[worker.legacy]\ncommand = [\"python3\", \"{{dir}}/legacyd.py\"]\npid_file = \"pid\"\nbackoff = {{ first = \"50ms\", max = \"50ms\" }}\n{more}"
    ));
    fs::write(rig.path("legacyd.py"), DAEMON).unwrap();
    rig
}

fn starts(rig: &Rig) -> Vec<u32> {
    rig.witness("starts").iter().filter_map(|line| line.parse().ok()).collect()
}

fn pid(rig: &Rig) -> u32 {
    rig.worker("legacy")["pid"].as_u64().unwrap_or(0) as u32
}

#[test]
fn a_daemon_that_forks_away_is_followed_restarted_and_stopped() {
    let mut rig = rig("");
    // A file of long ago that names a process which is none of the worker's.
    fs::write(rig.path("pid"), format!("{}\n", std::process::id())).unwrap();
    rig.launch();
    rig.wait_status("legacy", "healthy");
    assert_eq!(starts(&rig), [pid(&rig)], "the main process is the one that the file names");
    send(pid(&rig), Signal::KILL);
    rig.wait("its end was seen and it is back", || {
        starts(&rig).len() == 2 && rig.worker("legacy")["status"] == "healthy"
    });
    let legacy = rig.worker("legacy");
    assert_eq!((&legacy["last_exit"]["signal"], &legacy["restarts"]), (&"KILL".into(), &1.into()));
    let second = starts(&rig)[1];
    assert_eq!(pid(&rig), second);
    rig.ok(&["stop", "legacy", "--wait=20s"]);
    assert_eq!(rig.witness("asked"), [second.to_string()], "the daemon itself was asked");
    assert!(!alive(second));
    assert_eq!(rig.worker("legacy")["last_exit"]["kind"], "stopped");
}

#[test]
fn a_file_that_never_names_one_of_ours_fails_the_start() {
    let rig = Rig::new(
        "[worker.legacy]\ncommand = [\"sh\", \"-c\", \"echo $$ > {dir}/started; exit 0\"]\npid_file = \"pid\"\n\
         [worker.slow]\ncommand = [\"sh\", \"-c\", \"(setsid sleep 999 >/dev/null 2>&1 &); exit 0\"]\npid_file = \"slow\"\nstart_timeout = \"1s\"\n",
    );
    // This test's own process: alive, and nobody's of the worker.
    for name in ["pid", "slow"] {
        fs::write(rig.path(name), std::process::id().to_string()).unwrap();
    }
    let mut rig = rig;
    rig.launch();
    rig.wait("its start failed", || rig.worker("legacy")["last_exit"]["kind"] == "start_failed");
    rig.wait("the slow one ran out of time", || rig.worker("slow")["last_exit"]["kind"] == "start_timeout");
    let stranger = format!("names process {}, and it is none of the worker's processes", std::process::id());
    for name in ["legacy", "slow"] {
        let said = rig.worker(name)["last_exit"]["message"].to_string();
        assert!(said.contains("its pid_file ") && said.contains(&stranger), "{said}");
    }
    let own = rig.path("").display().to_string();
    rig.ok(&["stop", "slow", "--wait=20s"]);
    rig.ok(&["stop", "legacy", "--wait=20s"]);
    rig.wait("nothing of it is left", || {
        crate::rig::processes_with(&own).into_iter().all(|one| one == rig.runtime())
    });
}

#[test]
fn one_that_runs_already_is_taken_over_and_obeys() {
    let mut rig = rig("adopt_running = true\n");
    let mut own =
        Command::new("python3").arg(rig.path("legacyd.py")).arg("-f").stdin(Stdio::null()).spawn().unwrap();
    rig.wait("it runs", || starts(&rig).len() == 1);
    rig.launch();
    rig.wait_status("legacy", "healthy");
    let legacy = rig.worker("legacy");
    assert_eq!((legacy["adopted"].as_bool(), pid(&rig)), (Some(true), own.id()));
    assert!(rig.ok(&["events", "--kind", "runtime.adopted", "-o", "jsonl"]).contains("legacy"));
    assert_eq!(starts(&rig).len(), 1, "a second copy was started beside it");
    let said = "others are not known to regrow";
    assert!(rig.ok(&["describe", "legacy"]).contains(said), "what regrow does not know of it is said");
    // Who started it reaps it: its parent is this test, not the runtime.
    let reaper = std::thread::spawn(move || own.wait().unwrap());
    rig.ok(&["restart", "legacy", "--wait=20s"]);
    assert_eq!(reaper.join().unwrap().code(), Some(0), "it was asked, not killed");
    rig.wait("it was started anew", || starts(&rig).len() == 2);
    rig.wait_status("legacy", "healthy");
    assert_eq!(rig.worker("legacy")["adopted"], false);
    assert_eq!(pid(&rig), starts(&rig)[1]);
    assert!(!rig.ok(&["describe", "legacy"]).contains(said), "of its own start it knows everything");
}

/// Has one child below it, one in its session whose parent has gone, and one that left the session.
const FAMILY: &str = r#"
import os, sys
exec(open(os.path.dirname(os.path.abspath(__file__)) + "/legacyd.py").read().split("signal.signal(")[0])
def child(how):
    pid = os.fork()
    if pid == 0:
        if how == "left": os.setsid()
        if how == "orphan" and os.fork(): os._exit(0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(here + "/family", "a").write("%d\n" % os.getpid())
        while True: time.sleep(1)
open(here + "/family", "a").close()
for how in ("below", "left", "orphan"): child(how)
signal.signal(signal.SIGTERM, end)
while len(open(here + "/family").read().split()) < 3: time.sleep(0.01)
open(here + "/starts", "a").write("%d\n" % os.getpid())
open(here + "/pid.new", "w").write("%d\n" % os.getpid())
os.rename(here + "/pid.new", here + "/pid")
while True: time.sleep(1)
"#;

#[test]
fn who_belongs_to_one_that_was_taken_over_is_stopped_with_it_and_nobody_else() {
    for killed in [false, true] {
        let mut rig = rig("adopt_running = true\n");
        let daemon = rig.text("legacyd.py");
        fs::write(rig.path("daemon.py"), daemon).unwrap();
        fs::write(rig.path("family.py"), FAMILY.replace("/legacyd.py", "/daemon.py")).unwrap();
        fs::rename(rig.path("family.py"), rig.path("legacyd.py")).unwrap();
        // Leads a session, as a daemon does; the one beside it is in the session of the test.
        let mut own = Command::new("setsid")
            .args(["python3".as_ref(), rig.path("legacyd.py").as_os_str(), "-f".as_ref()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut beside = Command::new("sleep").arg("999").spawn().unwrap();
        rig.wait("it runs", || starts(&rig).len() == 1);
        let family: Vec<u32> = rig.witness("family").iter().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(family.len(), 3);
        rig.launch();
        rig.wait("it was taken over", || rig.worker("legacy")["adopted"] == true);
        let main = pid(&rig);
        assert!(family.iter().all(|pid| alive(*pid)));
        let reaper = std::thread::spawn(move || own.wait().unwrap());
        if killed {
            send(main, Signal::KILL);
        } else {
            rig.ok(&["stop", "legacy", "--wait=60s"]);
            assert_eq!(rig.witness("asked"), [main.to_string()], "only the daemon itself was asked");
        }
        reaper.join().unwrap();
        rig.wait("everybody of it is gone", || family.iter().all(|pid| !alive(*pid)));
        assert!(alive(beside.id()));
        beside.kill().unwrap();
        beside.wait().unwrap();
        rig.ok(&["stop", "legacy", "--wait=60s"]);
    }
}

#[test]
fn the_end_of_one_that_was_taken_over_is_seen() {
    let mut rig = rig("adopt_running = true\n");
    let mut own =
        Command::new("python3").arg(rig.path("legacyd.py")).arg("-f").stdin(Stdio::null()).spawn().unwrap();
    rig.wait("it runs", || starts(&rig).len() == 1);
    rig.launch();
    rig.wait("it was taken over", || rig.worker("legacy")["adopted"] == true);
    own.kill().unwrap();
    own.wait().unwrap();
    rig.wait("it was started anew", || starts(&rig).len() == 2);
    let kind = rig.worker("legacy")["last_exit"].clone();
    // Before Linux 6.15 nobody but its parent is told how it ended.
    assert!(kind["signal"] == "KILL" || kind["kind"] == "unknown", "{kind}");
}

#[test]
fn a_stranger_in_the_file_is_not_taken_over() {
    let mut rig = rig("adopt_running = true\n");
    // Of the same user, but another program.
    let mut stranger = Command::new("sleep").arg("999").spawn().unwrap();
    fs::write(rig.path("pid"), stranger.id().to_string()).unwrap();
    rig.launch();
    rig.wait_status("legacy", "healthy");
    assert_eq!(rig.worker("legacy")["adopted"], false);
    assert_eq!(starts(&rig), [pid(&rig)]);
    rig.ok(&["stop", "legacy", "--wait=20s"]);
    assert!(alive(stranger.id()));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_daemon_that_outlives_its_runtime_is_asked_to_end_before_it_is_started_anew() {
    let mut rig = rig("");
    rig.launch();
    rig.wait_status("legacy", "healthy");
    let old = pid(&rig);
    rig.kill_runtime();
    assert!(alive(old));
    rig.launch();
    rig.wait("it was started anew", || starts(&rig).len() == 2);
    assert_eq!(rig.witness("asked"), [old.to_string()], "it was asked, not killed");
    assert!(!alive(old));
    rig.wait_status("legacy", "healthy");
    let told = rig.ok(&["events", "--kind", "runtime.adopted", "-o", "jsonl"]);
    assert!(told.contains(&format!("pid {old}: it ended as asked")), "{told}");
}

#[test]
fn a_daemon_that_is_to_be_taken_over_outlives_every_death_of_the_runtime() {
    let mut rig = rig("adopt_running = true\n");
    rig.launch();
    rig.wait_status("legacy", "healthy");
    let own = pid(&rig);
    for _ in 0..2 {
        rig.kill_runtime();
        rig.launch();
        rig.wait("it was taken over", || rig.worker("legacy")["adopted"] == true && pid(&rig) == own);
        rig.wait_status("legacy", "healthy");
    }
    assert_eq!((starts(&rig), rig.witness("asked")), (vec![own], Vec::new()));
    rig.ok(&["restart", "legacy", "--wait=60s"]);
    rig.wait("it was started anew", || starts(&rig).len() == 2);
    assert_eq!(rig.witness("asked"), [own.to_string()], "a restart asks it");
    assert!(!alive(own));
}
