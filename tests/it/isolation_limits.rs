//! Limits of a worker's tree: memory, processes, cores, open files, and what is left of them afterwards.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::hardship::Yardstick;
use crate::rig::{Rig, alive, left_out, processes_with, root_or_skip};

/// Grows by ten megabytes at a time until somebody stops it.
const LEAK: &str = r#"["python3", "-c", "import time,os\nopen('{dir}/starts','a').write(str(os.getpid())+chr(10))\nkept=[]\nwhile True:\n  kept.append(bytearray(10<<20)); time.sleep(0.02)"]"#;

/// Every process of it forks for ever.
const BOMB: &str = r#"["python3", "-c", "import os,time\nopen('{dir}/lit','w')\nwhile True:\n  try: os.fork()\n  except OSError: time.sleep(0.01)"]"#;

/// Directories of this name in any hierarchy of cgroups.
fn cgroups(slug: &str) -> Vec<PathBuf> {
    fn walk(dir: PathBuf, slug: &str, depth: usize, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(&dir) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name() == slug {
                found.push(entry.path());
            }
            if depth > 0 {
                walk(entry.path(), slug, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk("/sys/fs/cgroup".into(), slug, 5, &mut found);
    found
}

/// Whether the kernel holds this limit for the worker; else the test of that is left out.
fn is_held(rig: &Rig, worker: &str, limit: &str) -> bool {
    let told = rig.ok(&["describe", worker]);
    let held =
        told.lines().any(|line| line.contains(&format!("limits.{limit} ")) && line.contains("by cgroup"));
    if !held {
        left_out(&format!("no writable controller for limits.{limit}"));
    }
    held
}

#[test]
fn a15_a_leak_ends_at_its_limit_and_is_told_from_a_kill() {
    let rig = Rig::start(&format!(
        "[worker.leaky]\ncommand = {LEAK}\nlimits = {{ memory = \"100MiB\" }}\n[worker.web]\ncommand = [\"sleep\", \"999\"]\n"
    ));
    rig.wait("it was restarted for it", || {
        let leaky = rig.worker("leaky");
        leaky["restarts"].as_u64() >= Some(1) && leaky["last_exit"]["kind"] == "oom"
    });
    let events = rig.ok(&["events", "-o", "jsonl"]);
    assert!(
        events.lines().any(|line| line.contains("\"leaky\"") && line.contains("\"cause\":\"oom\"")),
        "{events}"
    );
    rig.wait_status("web", "healthy");
    assert_eq!(rig.worker("web")["restarts"], 0);
    // The same signal from anybody else is no such thing.
    crate::rig::send(rig.worker("web")["pid"].as_u64().unwrap() as u32, rustix::process::Signal::KILL);
    rig.wait("it came back", || rig.worker("web")["restarts"] == 1);
    assert_eq!(rig.worker("web")["last_exit"]["kind"], "signaled");
}

#[test]
fn a4_a_fork_bomb_stays_in_its_limit_and_dies_as_a_whole() {
    if !root_or_skip("a cgroup of processes") {
        return;
    }
    let rig = Rig::start(&format!(
        "[worker.bomb]\ncommand = {BOMB}\n\
         limits = {{ processes = 200 }}\nstop = {{ timeout = \"200ms\" }}\n"
    ));
    rig.wait("it is lit", || rig.path("lit").exists());
    if !is_held(&rig, "bomb", "processes") {
        return;
    }
    let counts = || {
        let files = cgroups("bomb").into_iter().map(|dir| dir.join("pids.current"));
        files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()).max().unwrap_or(0)
    };
    rig.wait("it is at its limit", || counts() >= 190);
    assert!(counts() <= 200);
    let yardstick = Yardstick::begin();
    let mut took: Vec<Duration> = (0..100)
        .map(|_| {
            let began = Instant::now();
            assert!(answers(&rig));
            began.elapsed()
        })
        .collect();
    took.sort();
    // Alone on its machine 99 of 100 are below this. Beside other tests, two hundred more processes that want the same
    // cores now and then make one wait for its turn.
    let bound = yardstick.allows(Duration::from_millis(100));
    assert!(took[89] < bound, "{took:?}, allowed {bound:?}");
    println!("under a fork bomb, p50 {:?}, p99 {:?}", took[49], took[98]);
    let began = Instant::now();
    rig.ok(&["stop", "bomb", "--wait=20s"]);
    let took = began.elapsed();
    let own = rig.path("").display().to_string();
    assert!(processes_with(&own).into_iter().all(|pid| pid == rig.runtime()), "something of it lives");
    assert!(took < Duration::from_secs(3), "{took:?}");
    println!("the whole bomb was dead after {took:?}");
}

/// One request over the control socket, without the cost of a process.
fn answers(rig: &Rig) -> bool {
    use std::io::{Read, Write};
    let mut socket = std::os::unix::net::UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    write!(socket, "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn a_limit_of_cores_and_of_open_files_holds() {
    let rig = Rig::start(
        "[worker.spin]\ncommand = [\"sh\", \"-c\", \"ulimit -n > {dir}/files; ulimit -Hn >> {dir}/files; for i in 1 2 3 4; do sh -c 'while :; do :; done' & done; wait\"]\n\
         limits = { cpu = 0.2, open_files = 77 }\n",
    );
    rig.wait("it said how many files", || rig.witness("files").len() == 2);
    assert_eq!(rig.witness("files"), ["77", "77"]);
    if !is_held(&rig, "spin", "cpu") {
        return;
    }
    let dirs = cgroups("spin");
    let throttled = || {
        dirs.iter().any(|dir| {
            let stat = fs::read_to_string(dir.join("cpu.stat")).unwrap_or_default();
            stat.lines().any(|line| line.strip_prefix("nr_throttled ").is_some_and(|count| count != "0"))
        })
    };
    rig.wait("the kernel holds it back", throttled);
}

/// A name that no other run of these tests has on this machine.
fn own_name(name: &str) -> String {
    format!("{name}{}", std::process::id())
}

#[test]
fn cgroups_go_with_the_runtime_also_those_that_a_worker_made() {
    if !root_or_skip("making cgroups inside of a worker") {
        return;
    }
    let name = own_name("nested");
    let mut rig = Rig::start(&format!(
        "[worker.{name}]\ncommand = [\"sh\", \"-c\", \"c=$(sed -n 's/^0:://p' /proc/self/cgroup); for r in /sys/fs/cgroup /sys/fs/cgroup/unified; do [ -d $r$c ] && mkdir -p $r$c/one/two; done; touch {{dir}}/made; exec sleep 999\"]\n\
         limits = {{ memory = \"500MiB\", cpu = 1.5, processes = 100 }}\n",
    ));
    rig.wait("it made its own", || rig.path("made").exists());
    if cgroups(&name).is_empty() {
        return left_out("no cgroup can be made here");
    }
    rig.ok(&["restart", &name, "--wait=20s"]);
    rig.ok(&["shutdown"]);
    rig.wait_end();
    assert_eq!(cgroups(&name), Vec::<PathBuf>::new());
}

#[test]
fn cgroups_of_a_killed_runtime_are_taken_over_by_the_next_and_removed() {
    if !root_or_skip("cgroups of v1") {
        return;
    }
    let name = own_name("heir");
    let mut rig = Rig::start(&format!(
        "[worker.{name}]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/starts; exec sleep 999\"]\nlimits = {{ memory = \"500MiB\", processes = 100 }}\n",
    ));
    rig.wait("it is up", || rig.witness("starts").len() == 1);
    let had = !cgroups(&name).is_empty();
    rig.kill_runtime();
    rig.launch();
    rig.wait("it is up again", || rig.witness("starts").len() == 2);
    let first: u32 = rig.witness("starts")[0].parse().unwrap();
    assert!(!alive(first));
    rig.wait_status(&name, "healthy");
    assert_eq!(!cgroups(&name).is_empty(), had);
    rig.ok(&["shutdown"]);
    rig.wait_end();
    assert_eq!(cgroups(&name), Vec::<PathBuf>::new());
    if !had {
        left_out("no cgroup can be made here");
    }
}

#[test]
fn who_ends_because_it_got_no_more_processes_is_told_which_limit_that_was() {
    if !root_or_skip("a cgroup of processes") {
        return;
    }
    // Its last word is of the shell's own, and names no limit.
    let many = "for i in 1 2 3 4 5 6 7 8; do sleep 999 & done; exit 3";
    let rig = Rig::start(&format!(
        "[worker.many]\ncommand = [\"sh\", \"-c\", \"{many}\"]\nlimits = {{ processes = 4 }}\nrestart = \"temporary\"\n"
    ));
    rig.wait("it has ended", || rig.worker("many")["last_exit"]["kind"] == "exited");
    if !is_held(&rig, "many", "processes") {
        return;
    }
    rig.wait("why is said", || {
        let said = rig.worker("many").to_string() + &rig.ok(&["why", "many"]);
        said.contains("its tree had limits.processes = 4 processes and threads, and could start no more")
    });
}
