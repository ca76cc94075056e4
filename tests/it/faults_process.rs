//! Faults of worker processes: they crash, hang, escape, flood, lie. Each test is named after what must hold.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::hardship::Yardstick;
use crate::rig::{Rig, alive, left_out, processes_with, root_or_skip, send};

/// A worker that writes its pid on every start and holds a lock while it lives, so that a second copy shows.
const WITNESS: &str = r#"["sh", "-c", "echo $$ >> {dir}/starts; exec sleep 999"]"#;

pub(crate) fn pids(rig: &Rig) -> Vec<u32> {
    rig.witness("starts").iter().filter_map(|line| line.trim().parse().ok()).collect()
}

#[test]
fn a_killed_worker_comes_back_and_says_why() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    rig.wait("it wrote its pid", || pids(&rig).len() == 1);
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("it is back", || pids(&rig).len() == 2);
    rig.wait_status("web", "healthy");
    let web = rig.worker("web");
    assert_eq!(web["restarts"], 1);
    assert_eq!(web["incarnation"], 2);
    assert_eq!(web["last_exit"]["kind"], "signaled");
    assert_eq!(web["last_exit"]["signal"], "KILL");
    assert_eq!(web["pid"].as_u64(), pids(&rig).last().map(|pid| u64::from(*pid)));
    rig.wait("the live log says so", || rig.output().contains("ended by signal KILL"));
}

#[test]
fn a1_a_crash_loop_stays_within_its_budget_and_is_parked() {
    let rig = Rig::start(
        "[supervisor.root]\nintensity = { max_restarts = 5, within = \"5m\" }\n[worker.web]\n\
         command = [\"sh\", \"-c\", \"echo x >> {dir}/starts; exit 1\"]\n\
         backoff = { first = \"20ms\", max = \"80ms\" }\n",
    );
    rig.wait_status("web", "quarantined");
    assert_eq!(rig.witness("starts").len(), 6, "the first start and five restarts");
    let web = rig.worker("web");
    assert_eq!(web["last_exit"]["code"], 1);
    assert_eq!(web["next_action"]["do"], "retry");
    assert_eq!(rig.code(&["is-failed", "web"]), 0);
    let parked = rig.ok(&["events", "--kind", "worker.parked", "-o", "jsonl"]);
    assert_eq!(parked.lines().count(), 1, "{parked}");
}

#[test]
fn a1_the_delay_between_crashes_grows_to_its_cap() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"echo x >> {dir}/starts; exit 1\"]\n\
         backoff = { first = \"100ms\", factor = 2.0, max = \"400ms\", jitter = 0.0 }\n",
    );
    let yardstick = Yardstick::begin();
    rig.wait("six starts", || rig.witness("starts").len() >= 6);
    let slack = yardstick.allows(Duration::from_millis(100));
    // From each end to the start after it, by the runtime's own clock.
    let times = |kind: &str| -> Vec<jiff::Timestamp> {
        let told = rig.ok(&["events", "--kind", kind, "-o", "jsonl"]);
        let events = told.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        events.map(|event| event["at"].as_str().unwrap().parse().unwrap()).collect()
    };
    let (ends, starts) = (times("worker.exited"), times("worker.started"));
    let gaps: Vec<Duration> =
        ends.iter().zip(&starts[1..]).map(|(end, next)| next.duration_since(*end).unsigned_abs()).collect();
    // An event is stamped when it is told, which may be a little before or after the deed.
    let early = Duration::from_millis(5);
    for (gap, least) in gaps.iter().zip([0, 100, 200, 400, 400].map(Duration::from_millis)) {
        assert!(*gap + early >= least && *gap < least + slack, "{gaps:?}, slack {slack:?}");
    }
    assert!(gaps.len() >= 5, "{gaps:?}");
}

#[test]
fn a1_a_crash_loop_in_backoff_costs_less_than_a_hundredth_of_a_core() {
    let rig = Rig::start("[worker.web]\ncommand = [\"sh\", \"-c\", \"echo x >> {dir}/starts; exit 1\"]\n");
    rig.wait("it waits between its starts", || rig.witness("starts").len() >= 4);
    let (before, began) = (cpu_ticks(rig.runtime()), Instant::now());
    // A share needs a span to be one of; nobody asks anything meanwhile.
    std::thread::park_timeout(Duration::from_secs(4));
    let used = (cpu_ticks(rig.runtime()) - before) as f64 / 100.0;
    let share = used / began.elapsed().as_secs_f64();
    assert!(rig.witness("starts").len() >= 5, "it went on crashing meanwhile");
    // One tick of the clock that counts them is a quarter of what is allowed.
    assert!(share <= 0.01, "{:.1} % of a core", share * 100.0);
}

/// Time of a process and of the children it has waited for, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    fields.skip(11).take(4).map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a3_a_stopped_worker_is_seen_and_can_be_ended() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\nstop = {{ timeout = \"1s\" }}\n"));
    rig.wait("it wrote its pid", || pids(&rig).len() == 1);
    send(pids(&rig)[0], Signal::STOP);
    rig.wait("status says so", || rig.worker("web")["issues"].to_string().contains("SIGSTOP"));
    rig.ok(&["stop", "web", "--wait=30s"]);
    assert!(!alive(pids(&rig)[0]));
}

#[test]
fn a5_a_grandchild_does_not_survive_its_worker() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"sleep 998 & echo $! >> {dir}/grandchild; exec sleep 999\"]\n",
    );
    rig.wait("the grandchild is there", || !rig.witness("grandchild").is_empty());
    rig.ok(&["stop", "web", "--wait=20s"]);
    let grandchild: u32 = rig.witness("grandchild")[0].parse().unwrap();
    assert!(!alive(grandchild));
    assert!(processes_with(&rig.path("").display().to_string()).iter().all(|pid| *pid == rig.runtime()));
}

#[test]
fn a5_a_grandchild_does_not_survive_its_workers_crash() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"sleep 998 & echo $! >> {dir}/grandchild; echo $$ >> {dir}/starts; wait\"]\n",
    );
    rig.wait("the grandchild is there", || rig.witness("starts").len() == 1);
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("a second start", || rig.witness("starts").len() == 2);
    let first: u32 = rig.witness("grandchild")[0].parse().unwrap();
    assert!(!alive(first), "the first grandchild lives beside the second incarnation");
}

#[test]
fn a6_a_double_fork_into_a_new_session_does_not_escape() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"(setsid sh -c 'echo $$ >> {dir}/escaped; exec sleep 997' &) ; exec sleep 999\"]\n",
    );
    rig.wait("it escaped", || !rig.witness("escaped").is_empty());
    let escaped: u32 = rig.witness("escaped")[0].parse().unwrap();
    assert!(alive(escaped));
    rig.ok(&["stop", "web", "--wait=20s"]);
    rig.wait("the escaped one is gone", || !alive(escaped));
}

#[test]
fn a7_a_worker_that_ignores_term_is_killed_on_time() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo $$ >> {dir}/starts; while :; do sleep 1; done\"]\n\
         stop = { timeout = \"500ms\" }\n",
    );
    rig.wait("it is up", || pids(&rig).len() == 1);
    let yardstick = Yardstick::begin();
    let began = Instant::now();
    rig.ok(&["stop", "web", "--wait=20s"]);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(450) && took < yardstick.allows(Duration::from_secs(3)), "{took:?}");
    assert_eq!(rig.worker("web")["last_exit"]["kind"], "killed");
    assert!(!alive(pids(&rig)[0]));
}

#[test]
fn a11_a_permanent_worker_that_ends_well_is_started_again() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"echo x >> {dir}/starts; exit 0\"]\nbackoff = { first = \"20ms\" }\n",
    );
    rig.wait("three starts", || rig.witness("starts").len() >= 3);
}

#[test]
fn a11_a_transient_worker_that_ends_well_is_done() {
    let rig = Rig::start(
        "[worker.job]\ncommand = [\"sh\", \"-c\", \"echo x >> {dir}/starts; exit 0\"]\nrestart = \"transient\"\n",
    );
    rig.wait_status("job", "done");
    assert_eq!(rig.witness("starts").len(), 1);
}

#[test]
fn a11_an_end_before_readiness_is_a_failed_start_even_with_0() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"true\"]\nready = \"notify\"\nrestart = \"transient\"\n\
         backoff = { first = \"10s\", max = \"10s\" }\n",
    );
    rig.wait("the failed start shows", || rig.worker("web")["last_exit"]["kind"] == "start_failed");
    assert_eq!(rig.worker("web")["last_exit"]["code"], 0);
}

#[test]
fn a12_at_boot_under_escalate_a_failed_start_ends_the_runtime() {
    let mut rig = Rig::new(
        "[supervisor.root]\non_exhausted = \"escalate\"\nstrategy = \"rest_for_one\"\n\
         [worker.first]\ncommand = [\"sh\", \"-c\", \"trap 'echo stopped >> {dir}/first; exit 0' TERM; echo up >> {dir}/first; while :; do sleep 0.05; done\"]\n\
         ready = { log = \"up\" }\n\
         [worker.second]\ncommand = [\"sh\", \"-c\", \"sleep 0.05; exit 1\"]\nready = \"notify\"\n\
         [worker.third]\ncommand = [\"sh\", \"-c\", \"echo x >> {dir}/third; exec sleep 999\"]\n",
    );
    rig.configure(
        &fs::read_to_string(rig.path("regrow.toml"))
            .unwrap()
            .replace("echo up >>", "echo up; echo up >>")
            .replace("[http]\nlisten = \"\"\n", ""),
    );
    let mut command = rig.command(&["start"]);
    rig.launch_as(&mut command);
    assert_eq!(rig.wait_end(), 1);
    assert_eq!(rig.witness("first"), ["up", "stopped"]);
    assert!(rig.witness("third").is_empty());
    assert!(rig.output().contains("second"), "{}", rig.output());
}

#[test]
fn a13_a_slow_start_is_left_alone() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"echo x >> {dir}/starts; sleep 2; echo listening on 80; exec sleep 999\"]\n\
         ready = { log = \"listening on\" }\n",
    );
    rig.wait_phase("web", "starting");
    assert_eq!(rig.code(&["is-active", "web"]), 3);
    rig.wait_status("web", "healthy");
    assert_eq!(rig.witness("starts").len(), 1);
    assert_eq!(rig.worker("web")["restarts"], 0);
}

#[test]
fn a13_only_start_timeout_ends_a_start() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sleep\", \"999\"]\nready = \"notify\"\nstart_timeout = \"300ms\"\n\
         backoff = { first = \"20s\", max = \"20s\" }\nstop = { timeout = \"1s\" }\n",
    );
    rig.wait("the timeout shows", || rig.worker("web")["last_exit"]["kind"] == "start_timeout");
}

#[test]
fn a16_a_worker_near_its_limit_of_open_files_is_named() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"ulimit -n 10; exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null; exec sleep 999\"]\n",
    );
    rig.wait("describe names it", || rig.ok(&["describe", "web"]).contains("of 10 allowed files are open"));
    assert!(
        rig.ok(&["status"]).contains("of 10 allowed files are open"),
        "and so does who looks at all of them"
    );
    let described: serde_json::Value =
        serde_json::from_str(&rig.ok(&["describe", "web", "-o", "json"])).unwrap();
    assert_eq!(rig.worker("web")["issues"], described["items"][0]["issues"], "{described}");
    assert!(rig.ok(&["describe", "web", "-o", "json"]).contains("\"open_files\""));
}

#[test]
fn a15_load_and_memory_are_those_of_the_whole_tree() {
    // The shell waits; its child holds 40 MB that nobody takes off it, another one is busy.
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"(head -c 40000000 /dev/zero | tail -c 40000000 | sleep 999) & (while :; do :; done) & wait\"]\n\
         stop = { timeout = \"1s\" }\n[worker.small]\ncommand = [\"sleep\", \"999\"]\n",
    );
    rig.wait("memory of a grandchild counts", || {
        rig.worker("web")["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 30_000_000)
    });
    rig.wait("so does its load", || {
        rig.worker("web")["cpu_percent"].as_f64().is_some_and(|percent| percent > 10.0)
    });
    let small = rig.worker("small");
    assert!(small["memory_bytes"].as_u64().unwrap() < 20_000_000, "{small}");
    assert!(small["cpu_percent"].as_f64().unwrap() < 5.0, "{small}");
}

#[test]
fn a24_a_worker_gets_three_descriptors_and_no_more() {
    let rig = Rig::start("[worker.web]\ncommand = [\"ls\", \"/proc/self/fd\"]\nrestart = \"temporary\"\n");
    // 3 is the directory that ls itself reads.
    rig.wait("it has looked", || rig.witness(".regrow/logs/web.log").len() >= 4);
    assert_eq!(rig.witness(".regrow/logs/web.log"), ["0", "1", "2", "3"]);
}

#[test]
fn a25_a_worker_gets_default_signals() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"grep Sig /proc/self/status > {dir}/sig.new; mv {dir}/sig.new {dir}/sig; exec sleep 999\"]\n",
    );
    rig.wait("it has looked", || !rig.witness("sig").is_empty());
    for line in rig.witness("sig") {
        if line.starts_with("SigBlk") || line.starts_with("SigIgn") {
            assert!(line.ends_with("0000000000000000"), "{line}");
        }
    }
}

#[test]
fn a26_each_reason_of_a_failed_start_is_named_within_a_second() {
    let rig = Rig::new(
        "[supervisor.root]\nintensity = { max_restarts = 3, within = \"5m\" }\n[defaults.worker]\nbackoff = { first = \"30s\", max = \"30s\" }\n\
         [worker.missing]\ncommand = [\"no-such-program\"]\n[worker.noexec]\ncommand = [\"{dir}/noexec\"]\n\
         [worker.format]\ncommand = [\"{dir}/format\"]\n[worker.dir]\ncommand = [\"true\"]\ncwd = \"{dir}/nowhere\"\n",
    );
    fs::write(rig.path("noexec"), "#!/bin/sh\n").unwrap();
    fs::write(rig.path("format"), [0x7f, b'E', b'L', b'F', 9, 9, 9, 9]).unwrap();
    fs::set_permissions(rig.path("format"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut rig = rig;
    let yardstick = Yardstick::begin();
    rig.launch();
    let began = Instant::now();
    for (worker, words) in [
        ("missing", "not found"),
        ("noexec", "not executable"),
        ("format", "not a program"),
        ("dir", "no such directory"),
    ] {
        rig.wait(words, || {
            let last = &rig.worker(worker)["last_exit"];
            last["kind"] == "start_failed" && last["message"].to_string().contains(words)
        });
    }
    let took = began.elapsed();
    assert!(took < yardstick.allows(Duration::from_secs(2)), "{took:?}");
    assert!(rig.worker("missing")["restarts"].as_u64().unwrap() <= 1, "no storm");
}

#[test]
fn a27_a_core_dump_is_told_apart_from_a_plain_signal() {
    let rig = Rig::start(
        "[defaults.worker]\nbackoff = { first = \"30s\", max = \"30s\" }\n\
         [worker.plain]\ncommand = [\"sh\", \"-c\", \"ulimit -c 0; echo x >> {dir}/plain; kill -ABRT $$; sleep 1\"]\n\
         [worker.dumps]\ncommand = [\"sh\", \"-c\", \"ulimit -c unlimited; echo x >> {dir}/dumps; kill -ABRT $$; sleep 1\"]\n",
    );
    for worker in ["plain", "dumps"] {
        rig.wait("it was restarted", || rig.witness(worker).len() >= 2);
        rig.wait("the end is told", || rig.worker(worker)["last_exit"]["signal"] == "ABRT");
    }
    // Where a program takes the dumps, or the directory is not the worker's, the kernel decides by other rules.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.is_empty() || pattern.contains(['|', '/']) {
        return left_out("the kernel hands core dumps to a program");
    }
    assert_eq!(rig.worker("plain")["last_exit"]["kind"], "signaled");
    assert_eq!(rig.worker("dumps")["last_exit"]["kind"], "core");
}

#[test]
fn a29_nobody_else_can_make_a_worker_ready() {
    let rig = Rig::start(
        "[worker.victim]\ncommand = [\"sh\", \"-c\", \"echo $NOTIFY_SOCKET > {dir}/socket.new; mv {dir}/socket.new {dir}/socket; exec sleep 999\"]\n\
         ready = \"notify\"\nstart_timeout = \"20s\"\n",
    );
    rig.wait("the socket is known", || !rig.witness("socket").is_empty());
    let to = rig.witness("socket")[0].clone();
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(b"READY=1", &to).unwrap();
    // A second datagram after the first: once an honest fact is seen, the forged one has been judged.
    rig.wait("time for a lie to work has passed", || {
        rig.worker("victim")["uptime_seconds"].as_f64().unwrap_or(0.0) > 0.5
    });
    assert_eq!(rig.worker("victim")["phase"], "starting");
}

#[test]
fn who_ends_during_a_stop_by_what_somebody_else_did_is_not_said_to_have_been_ended_by_regrow() {
    let rig = Rig::start(
        "[worker.web]\nstop = { timeout = \"1h\" }\n\
         command = [\"sh\", \"-c\", \"trap '' TERM; echo $$ >> {dir}/starts; while :; do sleep 0.1; done\"]\n",
    );
    for (round, signal, name) in [(1, Signal::KILL, "KILL"), (2, Signal::INT, "INT")] {
        rig.wait("it is up", || pids(&rig).len() == round);
        rig.wait_status("web", "healthy");
        rig.ok(&["stop", "web"]);
        rig.wait_phase("web", "stopping");
        send(pids(&rig)[round - 1], signal);
        rig.wait_phase("web", "stopped");
        let last = rig.worker("web")["last_exit"].clone();
        assert_eq!((&last["kind"], &last["signal"]), (&"signaled".into(), &name.into()), "{last}");
        rig.ok(&["start", "web"]);
    }
}

/// Where processes of the test's own cgroup are listed.
fn own_cgroup() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_v2 = |line: &str| line.split_once(" - ").is_some_and(|(_, kind)| kind.starts_with("cgroup2 "));
    let mount = mounts.lines().find(|line| of_v2(line))?.split(' ').nth(4)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let procs = std::path::Path::new(mount).join(own).join("cgroup.procs");
    fs::OpenOptions::new().write(true).open(&procs).ok()?;
    Some(procs.display().to_string())
}

/// A process that must not outlive the test.
struct Stray(u32);

impl Drop for Stray {
    fn drop(&mut self) {
        send(self.0, Signal::KILL);
    }
}

#[test]
fn a5_who_left_cgroup_session_and_output_ends_with_its_worker_or_is_named_at_the_end() {
    if !root_or_skip("leaving a cgroup") {
        return;
    }
    let Some(cgroup) = own_cgroup() else { return left_out("no cgroup v2 that can be written to") };
    let mut rig = Rig::new(
        "[worker.login]\ncommand = [\"sh\", \"-c\", \"setsid sh {dir}/away.sh marked & \
         setsid env -i PATH=$PATH sh {dir}/away.sh bare & echo $$ >> {dir}/starts; wait\"]\n\
         [worker.other]\ncommand = [\"sh\", \"-c\", \"setsid sh {dir}/away.sh late & until test -e {dir}/late; do sleep 0.05; done\"]\n\
         restart = \"never\"\n",
    );
    let here = rig.path("").display().to_string();
    fs::write(
        rig.path("away.sh"),
        format!("echo $$ > {cgroup}; exec </dev/null >/dev/null 2>&1; echo $$ > {here}/$1; exec sleep 120\n"),
    )
    .unwrap();
    rig.launch();
    let pid = |name: &str| rig.text(name).trim().parse::<u32>().ok();
    let [marked, bare, late] = ["marked", "bare", "late"].map(|name| {
        rig.wait(&format!("{name} is away"), || pid(name).is_some());
        Stray(pid(name).unwrap())
    });
    rig.ok(&["stop", "login", "--wait=30s"]);
    assert!(!alive(marked.0), "it outlived the stop of its worker");
    assert!(alive(bare.0) && alive(late.0));
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    assert!(!alive(late.0), "it says whose it is");
    let told = format!("left running: pid {} (sleep)", bare.0);
    assert!(rig.output().contains(&told) && !rig.output().contains("nothing is left"), "{}", rig.output());
}
