//! Faults of the runtime: it is killed, told to end twice, started twice, robbed of its files and its privileges.
//! Supervision goes on, and nothing runs twice.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::hardship::Yardstick;
use crate::rig::{PATIENCE, Rig, alive, processes_with, root_or_skip, send};

/// Appends its pid on every start.
pub(super) const WITNESS: &str = r#"["sh", "-c", "echo $$ >> {dir}/starts; exec sleep 999"]"#;

/// Ignores TERM.
pub(super) const STUBBORN: &str =
    r#"["sh", "-c", "trap '' TERM; echo $$ >> {dir}/starts; while :; do sleep 1; done"]"#;

pub(super) fn pids(rig: &Rig) -> Vec<u32> {
    rig.witness("starts").iter().filter_map(|line| line.trim().parse().ok()).collect()
}

pub(super) fn notes(rig: &Rig) -> String {
    rig.status()["runtime"]["notes"].to_string()
}

#[test]
fn what_somebody_was_told_is_done_is_in_the_events_after_a_kill() {
    let mut rig = Rig::start("[worker.a]\ncommand = [\"sleep\", \"999\"]\ninstances = 2\n");
    for verb in ["stop", "start", "pause", "resume"] {
        rig.wait("the store is open", || rig.ok(&["events", "-o", "jsonl"]).contains("worker.ready"));
        let _ = rig.ok(&[verb, "a"]);
        rig.kill_runtime();
        rig.launch();
        let asked = || rig.ok(&["events", "--kind", "action.requested", "-o", "jsonl"]);
        rig.wait("what was asked for is known", || asked().contains(&format!("{verb} of a asked by")));
    }
}

#[test]
fn c3_one_sigterm_ends_in_order() {
    let mut rig = Rig::start(
        "[defaults.worker]\ncommand = [\"sh\", \"-c\", \"trap 'echo $REGROW_WORKER >> {dir}/ends; exit 0' TERM; echo up; while :; do sleep 0.02; done\"]\n\
         ready = { log = \"up\" }\n[worker.a]\n[worker.b]\n[worker.c]\n",
    );
    for worker in ["a", "b", "c"] {
        rig.wait_status(worker, "healthy");
    }
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    assert_eq!(rig.witness("ends"), ["c", "b", "a"]);
}

#[test]
fn c3_a_second_sigterm_means_now() {
    let mut rig =
        Rig::start(&format!("[worker.web]\ncommand = {STUBBORN}\nstop = {{ timeout = \"60s\" }}\n"));
    rig.wait("it is up", || pids(&rig).len() == 1);
    rig.signal(Signal::TERM);
    rig.wait("it was asked", || rig.output().contains("asked to stop"));
    let began = Instant::now();
    rig.signal(Signal::TERM);
    let _ = rig.wait_end();
    assert!(began.elapsed() < PATIENCE, "it did not wait out the minute");
    assert!(!alive(pids(&rig)[0]));
}

#[test]
fn c3_sigint_ends_in_order_and_sighup_does_not_end_at_all() {
    let mut rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait("it is up", || pids(&rig).len() == 1);
    rig.signal(Signal::HUP);
    rig.wait_status("web", "healthy");
    rig.signal(Signal::INT);
    assert_eq!(rig.wait_end(), 0);
    assert!(!alive(pids(&rig)[0]));
}

#[test]
fn c3_the_end_takes_no_longer_than_shutdown_timeout() {
    let mut rig = Rig::start(&format!(
        "[runtime]\nshutdown_timeout = \"1s\"\n[worker.web]\ncommand = {STUBBORN}\nstop = {{ timeout = \"60s\" }}\n"
    ));
    rig.wait("it is up", || pids(&rig).len() == 1);
    let began = Instant::now();
    rig.signal(Signal::TERM);
    let _ = rig.wait_end();
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(!alive(pids(&rig)[0]));
    let told = rig.output();
    assert!(told.contains("did not end before the time for the end"), "{told}");
    assert!(!told.contains("within stop.timeout"), "it had a minute: {told}");
}

#[test]
fn c4_a_sighup_from_before_anybody_heard_it_is_heard_and_ends_nobody() {
    let mut rig = Rig::new(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    let inner = rig.command(&["start"]);
    let mut command = Command::new("env");
    // Held back by whoever starts it, the signal is there before the program's first line.
    command
        .args(["--block-signal=HUP", "--block-signal=TERM", "sh", "-c", "kill -HUP $$; exec \"$0\" \"$@\""])
        .arg(inner.get_program())
        .args(inner.get_args());
    rig.launch_as(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig.wait("it reads its file again", || rig.output().contains("asked by SIGHUP"));
    rig.wait_status("web", "healthy");
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
}

#[test]
fn c4_sigterm_during_the_boot_leaves_nothing_behind() {
    let toml: String = (0..40)
        .map(|at| format!("[worker.w{at}]\ncommand = [\"sleep\", \"999\"]\n"))
        .collect::<Vec<_>>()
        .concat();
    for round in 0..5 {
        let mut rig = Rig::new(&toml);
        let mut command = rig.command(&["start"]);
        rig.launch_as(&mut command);
        rig.wait("it has begun", || rig.path(".regrow/lock").exists());
        std::thread::park_timeout(Duration::from_millis(3 * round));
        rig.signal(Signal::TERM);
        let _ = rig.wait_end();
        assert_eq!(processes_with(&rig.path("").display().to_string()), [0_u32; 0], "round {round}");
    }
}

#[test]
fn c5_a_broken_file_is_refused_with_every_error_pointed_at() {
    let rig =
        Rig::new("[worker.web]\ncomand = [\"true\"]\nrestart = \"allways\"\n[worker.db]\ncommand = []\n");
    let out = rig.regrow(&["start"]);
    assert_eq!(out.status.code(), Some(6));
    let text = String::from_utf8_lossy(&out.stderr);
    for words in ["regrow.toml:2:1", "command", "always", "regrow.toml:5"] {
        assert!(text.contains(words), "no {words} in\n{text}");
    }
    assert_eq!(rig.code(&["check"]), 6);
}

#[test]
fn c22_odd_locales_and_bytes_that_are_no_text_do_no_harm() {
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"env > {dir}/env.new; mv {dir}/env.new {dir}/env; exec sleep 999\"]\ninherit_env = [\"*\"]\n",
    );
    let mut command = rig.command(&["start"]);
    command
        .env("ODD", std::ffi::OsStr::from_bytes(b"\xff\xfe"))
        .env("LC_ALL", "C")
        .env("TZ", "Nowhere/Atlantis");
    rig.launch_as(&mut command);
    rig.wait("it looked", || rig.path("env").exists());
    let env = fs::read(rig.path("env")).unwrap();
    assert!(env.windows(6).any(|window| window == b"ODD=\xff\xfe"));
    rig.wait_status("web", "healthy");
}

#[test]
fn c23_a_second_runtime_on_one_state_directory_refuses_and_names_the_first() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    let second = rig.regrow(&["start"]);
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains(&rig.runtime().to_string()), "{text}");
    rig.wait_status("web", "healthy");
    assert_eq!(pids(&rig).len(), 1);
}

#[test]
fn c24_stale_files_of_a_dead_runtime_are_no_hindrance() {
    let mut rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait("it is up", || pids(&rig).len() == 1);
    rig.kill_runtime();
    assert!(rig.path(".regrow/regrow.sock").exists());
    assert_eq!(rig.code(&["status"]), 5, "a socket without a runtime is no runtime");
    // As after a power cut: processes are gone, files are not.
    send(pids(&rig)[0], Signal::KILL);
    rig.launch();
    rig.wait("it is up again", || pids(&rig).len() == 2);
}

#[test]
fn c24_a_socket_that_somebody_removes_comes_back() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    for _ in 0..3 {
        fs::remove_file(rig.path(".regrow/regrow.sock")).unwrap();
        rig.wait("it answers again", || rig.try_status().is_some());
    }
    assert_eq!(pids(&rig).len(), 1, "and no worker has noticed");
    let mode = fs::metadata(rig.path(".regrow/regrow.sock")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

/// Puts another directory in the place of the state directory, which takes the other's name.
pub(super) fn exchange(rig: &Rig, other: &str) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, rig.path(".regrow"), CWD, rig.path(other), RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn c24_a_state_directory_that_was_taken_away_gets_no_socket() {
    let mut rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    fs::create_dir(rig.path("moved")).unwrap();
    exchange(&rig, "moved");
    fs::remove_file(rig.path("moved/regrow.sock")).unwrap();
    rig.wait("the runtime has seen it", || rig.text("moved/logs/regrow.log").contains("not made again"));
    assert!(!rig.path(".regrow/regrow.sock").exists());
    rig.signal(Signal::TERM);
    let _ = rig.wait_end();
}

#[test]
fn what_was_told_of_a_control_socket_that_was_gone_is_told_no_longer_once_it_is_back() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    fs::create_dir(rig.path("moved")).unwrap();
    exchange(&rig, "moved");
    fs::remove_file(rig.path("moved/regrow.sock")).unwrap();
    let told = |why: &str| rig.text("moved/logs/regrow.log").contains(&format!("not made again: {why}"));
    rig.wait("one reason is told", || told("something else stands in the place of the state directory"));
    fs::write(rig.path(".regrow/regrow.sock"), "").unwrap();
    rig.wait("and another", || told("something else stands in its place"));
    exchange(&rig, "moved");
    rig.wait("it answers", || rig.try_status().is_some());
    let notes = rig.status()["runtime"]["notes"].to_string();
    assert!(!notes.contains("control socket"), "{notes}");
}

#[test]
fn a_control_plane_that_was_late_says_so() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    rig.signal(Signal::STOP);
    std::thread::park_timeout(Duration::from_secs(2));
    rig.signal(Signal::CONT);
    rig.wait("it is told", || !rig.ok(&["events", "--kind", "runtime.lagged", "-o", "jsonl"]).is_empty());
    let told = rig.ok(&["events", "--kind", "runtime.lagged", "-o", "jsonl"]);
    let event: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    assert!(event["data"]["lag_seconds"].as_f64().unwrap() >= 0.5, "{event}");
}

#[test]
fn c26_as_pid_1_it_reaps_strangers_and_passes_signals_on() {
    if !root_or_skip("a pid namespace") {
        return;
    }
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"trap 'echo ended >> {dir}/ends; exit 0' TERM; (setsid sh -c 'exit 3' &); (setsid sh -c 'sleep 0.1; echo orphan >> {dir}/orphan' &); echo $PPID >> {dir}/parent; while :; do sleep 0.05; done\"]\n",
    );
    let inner = rig.command(&["start"]);
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(inner.get_program())
        .args(inner.get_args());
    command.current_dir(rig.path("")).env("NO_COLOR", "1");
    rig.launch_as(&mut command);
    rig.wait("an orphan came and went", || {
        !rig.witness("orphan").is_empty() && !rig.witness("parent").is_empty()
    });
    assert_eq!(rig.witness("parent"), ["1"]);
    rig.wait("no zombie is left below pid 1", || zombies_below(child_of(rig.runtime())) == 0);
    send(child_of(rig.runtime()), Signal::TERM);
    let _ = rig.wait_end();
    assert_eq!(rig.witness("ends"), ["ended"]);
}

fn child_of(pid: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn zombies_below(parent: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let mut rest = stat.rsplit(") ").next().unwrap_or("").split(' ');
            rest.next() == Some("Z") && rest.next().and_then(|word| word.parse().ok()) == Some(parent)
        })
        .count()
}

#[test]
fn c27_without_privileges_it_works_and_says_what_is_missing() {
    if !root_or_skip("another user") {
        return;
    }
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"(setsid sh -c 'echo $$ >> {dir}/escaped; exec sleep 997' &) ; echo $$ >> {dir}/starts; exec sleep 999\"]\n",
    );
    open_to_all(&rig);
    let mut command = rig.command(&["start"]);
    as_user(&mut command, 65_534);
    rig.launch_as(&mut command);
    rig.wait("it is up", || pids(&rig).len() == 1 && rig.witness("escaped").len() == 1);
    rig.wait("it answers", || rig.try_status().is_some());
    assert!(notes(&rig).contains("cgroup"), "{}", notes(&rig));
    let escaped: u32 = rig.witness("escaped")[0].parse().unwrap();
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("it is back", || pids(&rig).len() == 2);
    assert!(!alive(escaped), "whole-tree stop holds without a cgroup");
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
}

#[test]
fn c28_when_all_die_at_once_all_come_back_and_status_answers() {
    const MANY: usize = 1000;
    let toml: String = (0..MANY)
        .map(|at| {
            format!(
                "[worker.w{at}]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/w{at}; exec sleep 999\"]\n"
            )
        })
        .collect();
    let rig = Rig::start(&toml);
    let started = |count: usize| (0..MANY).all(|at| rig.witness(&format!("w{at}")).len() == count);
    rig.wait("all are up", || started(1));
    for at in 0..MANY {
        send(rig.witness(&format!("w{at}"))[0].parse().unwrap(), Signal::KILL);
    }
    let yardstick = Yardstick::begin();
    let began = Instant::now();
    assert!(rig.try_status().is_some());
    // While all start at once on two cores; alone it takes some 20 ms.
    let took = began.elapsed();
    assert!(took < yardstick.allows(Duration::from_secs(5)), "status took {took:?}");
    rig.wait("all are back", || started(2));
    rig.wait("all are told to be well", || rig.status()["totals"]["healthy_workers"] == MANY);
    assert_eq!(rig.status()["totals"]["restarts_total"], MANY);
}

/// A parent-death signal fires when the *thread* that started the worker ends; here all threads do.
#[test]
fn c29_a_worker_does_not_depend_on_the_thread_that_started_it() {
    let mut rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"while :; do echo x >> {dir}/ticks; sleep 0.05; done\"]\n",
    );
    rig.wait("it ticks", || rig.witness("ticks").len() > 2);
    rig.kill_runtime();
    let before = rig.witness("ticks").len();
    rig.wait("it goes on", || rig.witness("ticks").len() > before + 5);
}

fn as_user(command: &mut Command, uid: u32) {
    use std::os::unix::process::CommandExt;
    command.uid(uid).gid(uid);
}

fn open_to_all(rig: &Rig) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn hundreds_of_unfinished_requests_keep_nobody_out() {
    use std::io::Write as _;
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    let silent: Vec<_> = (0..520)
        .map(|_| {
            let mut stream =
                std::os::unix::net::UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
            // One that has been sent away already cannot write.
            let _ = stream.write_all(b"GET /a");
            stream
        })
        .collect();
    // The first try counts: whoever asks does not wait until all of them have run out of time.
    assert!(rig.try_status().is_some());
    drop(silent);
}
