//! The verbs that run a runtime by themselves: `start --daemon`, `run`, `demo`.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::{BufRead, BufReader, PipeReader, PipeWriter};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::fake::{stderr, stdout};
use crate::rig::{PATIENCE, Rig, alive, processes_with, send};

const SLEEPER: &str = "[worker.web]\ncommand = [\"sleep\", \"1000\"]\n";

/// Ends a runtime in the background, also when its test fails.
struct Background(u32);

impl Background {
    /// The runtime that answers for this rig.
    fn of(rig: &Rig) -> Self {
        Self(u32::try_from(rig.status()["runtime"]["pid"].as_u64().unwrap()).unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if alive(self.0) {
            send(self.0, Signal::KILL);
        }
    }
}

/// `regrow run ARGS…` in the rig's directory, with its scratch folder below it.
fn run(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
    command.arg("run").args(arguments).current_dir(rig.path("")).env("NO_COLOR", "1");
    command.env("TMPDIR", rig.path("")).env_remove("XDG_RUNTIME_DIR").env("RIG", rig.path(""));
    command
}

/// Folders that `run` and `demo` have left behind.
fn left_over(rig: &Rig) -> Vec<String> {
    let entries = std::fs::read_dir(rig.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("regrow-")).collect()
}

#[test]
fn a_daemon_is_ready_when_its_start_returns_and_ends_with_its_workers() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"/bin/sh\", \"-c\", \"echo up; exec sleep 1000\"]\nready = { log = \"up\" }\nlog.to = \"both\"\n",
    );
    // What a worker prints meanwhile is no answer to whoever waits for the start.
    let said = rig.ok(&["start", "--daemon"]);
    let runtime = Background::of(&rig);
    assert!(said.contains(&format!("pid {}", runtime.0)), "{said}");
    let web = rig.worker("web");
    assert_eq!((&web["phase"], &web["ready"]), (&"running".into(), &true.into()), "{web}");
    rig.ok(&["shutdown", "--wait"]);
    rig.wait("the runtime has ended", || !alive(runtime.0));
    let pid = u32::try_from(web["pid"].as_u64().unwrap()).unwrap();
    assert!(!alive(pid), "its worker is gone too");
    assert_eq!(rig.code(&["status"]), 5);
    assert!(rig.text(".regrow/logs/regrow.log").contains("shutting down"), "its log is a file");
}

#[test]
fn a_daemon_whose_critical_worker_cannot_start_is_1_and_leaves_nothing() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"./ghost\"]\ncritical = true\n[supervisor.root]\nintensity = { max_restarts = 0, within = \"1m\" }\n",
    );
    let output = rig.regrow(&["start", "--daemon"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("web") && text.contains("program not found: ./ghost"), "{text}");
    assert_eq!(rig.code(&["status"]), 5);
}

#[test]
fn of_a_daemon_that_dies_before_it_is_ready_it_is_said_how() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"sleep\", \"1000\"]\nready = { log = \"never\" }\nstart_timeout = \"10m\"\n",
    );
    let start =
        rig.command(&["start", "--daemon"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    rig.wait("the runtime answers", || rig.try_status().is_some());
    let runtime = Background::of(&rig);
    send(runtime.0, Signal::KILL);
    let output = start.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains(&format!("pid {}, ended by signal KILL before it was ready", runtime.0)), "{said}");
}

#[test]
fn a_daemon_that_is_asked_to_end_before_it_is_ready_says_so() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"sleep\", \"1000\"]\nready = { log = \"never\" }\nstart_timeout = \"10m\"\n",
    );
    let start =
        rig.command(&["start", "--daemon"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig.ok(&["shutdown", "--wait"]);
    let output = start.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "regrow: it was asked to end before it was ready\n");
}

#[test]
fn a_service_manager_hears_of_a_readiness_that_comes_after_a_critical_worker_was_given_up() {
    let mut rig = Rig::new(
        "[supervisor.root]\nintensity = { max_restarts = 0, within = \"1m\" }\nretry_first = \"500ms\"\n\
         retry_every = \"500ms\"\n[worker.web]\ncritical = true\nready = { log = \"up\" }\n\
         command = [\"/bin/sh\", \"-c\", \"[ -e ok ] || exit 3; echo up; exec sleep 1000\"]\n",
    );
    let manager = UnixDatagram::bind(rig.path("manager")).unwrap();
    manager.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    let mut command = rig.command(&["start"]);
    command.env("NOTIFY_SOCKET", rig.path("manager"));
    rig.launch_as(&mut command);
    let parked = || rig.regrow(&["events", "--kind", "worker.parked", "-o", "name"]);
    rig.wait("its first trial has failed", || stdout(&parked()).lines().count() > 1);
    std::fs::write(rig.path("ok"), "").unwrap();
    let mut buffer = [0; 64];
    let length = manager.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
}

/// A pipe that takes nothing any more, for as long as its other end is held.
fn full_pipe() -> (PipeReader, PipeWriter) {
    use rustix::fs::{OFlags, fcntl_setfl};
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while std::io::Write::write(&mut writer, &[b'x'; 4096]).is_ok() {}
    while std::io::Write::write(&mut writer, b"x").is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

#[test]
fn a_runtime_whose_output_nobody_reads_answers_and_ends_when_it_is_asked() {
    for verb in [None, Some(["shutdown", "--wait=60s"])] {
        let mut rig = Rig::new(SLEEPER);
        let (held, full) = full_pipe();
        let mut command = rig.command(&["start"]);
        command.stdin(Stdio::null()).stdout(full).stderr(Stdio::null());
        rig.launch_with(&mut command);
        rig.wait("its worker is up", || {
            rig.try_status().is_some_and(|status| status["totals"]["healthy_workers"] == 1)
        });
        match verb {
            None => rig.signal(Signal::TERM),
            Some(verb) => drop(rig.ok(&verb)),
        }
        assert_eq!(rig.wait_end(), 0);
        drop(held);
    }
}

fn full_disk() -> std::fs::File {
    std::fs::File::options().write(true).open("/dev/full").unwrap()
}

#[test]
fn a_runtime_supervises_also_if_its_output_goes_to_a_full_disk() {
    let mut rig = Rig::new(SLEEPER);
    let mut command = rig.command(&["start"]);
    command.stdin(Stdio::null()).stdout(full_disk()).stderr(full_disk());
    rig.launch_with(&mut command);
    rig.wait("its worker is up", || {
        rig.try_status().is_some_and(|status| status["totals"]["healthy_workers"] == 1)
    });
    let second = rig.command(&["start"]).stdout(full_disk()).stderr(full_disk()).status().unwrap();
    assert_eq!(second.code(), Some(1), "the directory is taken");
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    let start = rig.command(&["start", "--daemon"]).stdout(full_disk()).stderr(full_disk()).status().unwrap();
    let _runtime = Background::of(&rig);
    assert_eq!(start.code(), Some(0), "it is up, although that could not be printed");
    rig.ok(&["shutdown", "--wait"]);
}

/// A worker's pid.
fn pid_of(rig: &Rig, worker: &str) -> u32 {
    rig.wait_status(worker, "healthy");
    u32::try_from(rig.worker(worker)["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn no_signal_ends_a_runtime_past_its_workers() {
    for end in [Signal::QUIT, Signal::XCPU] {
        let mut rig = Rig::start(SLEEPER);
        let web = pid_of(&rig, "web");
        let own = std::fs::read_to_string(format!("/proc/{web}/status")).unwrap();
        assert!(
            own.contains("SigIgn:\t0000000000000000"),
            "what the runtime passes over is the worker's own: {own}"
        );
        let runtime = rig.runtime().to_string();
        for signal in ["ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "XFSZ", "SYS", "34", "50", "64"] {
            let told = Command::new("kill").args(["-s", signal, &runtime]).status().unwrap();
            assert!(told.success(), "it has ended before {signal}");
        }
        assert_eq!(rig.worker("web")["pid"], web);
        rig.signal(end);
        assert_eq!(rig.wait_end(), 0);
        assert!(!alive(web), "{end:?} takes the worker along");
    }
}

#[test]
fn where_files_may_not_grow_supervision_goes_on() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let mut rig = Rig::start(
        "[worker.web]\ncommand = [\"/bin/sh\", \"-c\", \"while [ ! -e {dir}/go ]; do sleep 0.05; done; \
         head -c 400000 /dev/zero | tr '\\\\0' x; echo; exec sleep 1000\"]\n",
    );
    let web = pid_of(&rig, "web");
    let limit = Rlimit { current: Some(65_536), maximum: None };
    prlimit(Pid::from_raw(i32::try_from(rig.runtime()).unwrap()), Resource::Fsize, limit).unwrap();
    std::fs::write(rig.path("go"), "").unwrap();
    rig.wait("what cannot be written is named", || {
        rig.try_status()
            .is_some_and(|status| status["runtime"]["notes"].to_string().contains("File too large"))
    });
    assert_eq!(rig.worker("web")["pid"], web);
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
}

#[test]
fn a_daemon_does_not_wait_for_what_somebody_stopped() {
    let rig = Rig::new(
        "[supervisor.pipeline]\nchildren = [\"parser\"]\n[worker.parser]\ncommand = [\"sleep\", \"1000\"]\n\
         [worker.web]\ncommand = [\"sleep\", \"1000\"]\ncritical = true\n",
    );
    let said: serde_json::Value =
        serde_json::from_str(&rig.ok(&["start", "--daemon", "-o", "json"])).unwrap();
    let first = Background::of(&rig);
    assert_eq!((&said["schema"], &said["pid"]), (&"regrow.start/1".into(), &first.0.into()), "{said}");
    rig.ok(&["stop", "sup:pipeline", "web", "--wait"]);
    rig.ok(&["shutdown", "--wait"]);
    drop(first);
    rig.ok(&["start", "--daemon"]);
    let _second = Background::of(&rig);
    assert_eq!(rig.worker("parser")["phase"], "stopped");
    assert_eq!(rig.worker("web")["phase"], "stopped");
    rig.ok(&["start", "sup:pipeline", "--wait"]);
    assert_eq!(rig.worker("parser")["ready"], true, "a supervisor is waited for with all below it");
    rig.ok(&["shutdown", "--wait"]);
}

#[test]
fn a_daemon_does_not_wait_for_a_start_that_nobody_can_see() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"sleep\", \"1000\"]\n\
         [worker.odd]\ncommand = [\"sleep\", \"1000\"]\nready = \"probe\"\nstart_timeout = \"1h\"\n\
         probe.up = { kind = \"startup\", exec = [\"/there/is/no/such/program\"], period = \"50ms\", retry_period = \"50ms\" }\n",
    );
    rig.ok(&["start", "--daemon"]);
    let _runtime = Background::of(&rig);
    assert_eq!(rig.worker("odd")["phase"], "starting");
    assert_eq!(rig.worker("web")["ready"], true);
    rig.ok(&["shutdown", "--wait"]);
}

#[test]
fn a_second_runtime_names_the_first_also_when_the_address_is_taken() {
    let rig = Rig::new(SLEEPER);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let start =
        |arguments: &[&str]| rig.command(arguments).env("REGROW__HTTP__LISTEN", &address).output().unwrap();
    let first = start(&["start", "--daemon"]);
    assert!(first.status.success(), "{first:?}");
    let runtime = Background::of(&rig);
    for arguments in [&["start"] as &[&str], &["start", "--daemon"]] {
        let second = start(arguments);
        assert_eq!(second.status.code(), Some(1), "{second:?}");
        let text = stderr(&second);
        assert!(text.contains(&format!("pid {}", runtime.0)) && text.contains("regrow shutdown"), "{text}");
    }
    rig.ok(&["shutdown", "--wait"]);
}

#[test]
fn run_gets_a_command_up_again_and_is_done_with_it() {
    let rig = Rig::new("");
    let script = "echo tried >> witness; if [ -e once ]; then exit 0; fi; touch once; exit 9";
    let output = run(&rig, &["--", "/bin/sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(rig.witness("witness").len(), 2);
    let text = stderr(&output);
    assert!(text.contains("exited with code 9") && text.contains("restarting at once"), "{text}");
    assert!(!text.contains("code 0"), "that it is done is no news: {text}");
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_shows_output_as_it_comes_and_passes_the_end_on() {
    let rig = Rig::new("");
    let script = "echo $REGROW_INSTANCE is up; exec sleep 1000";
    let mut child = run(&rig, &["-q", "--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "run is up");
    send(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143), "128 and the signal, as a shell has it");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_is_ended_by_the_key_that_quits() {
    let rig = Rig::new("");
    let script = "echo up; exec sleep 1000";
    let mut child = run(&rig, &["-q", "--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    send(child.id(), Signal::QUIT);
    assert_eq!(child.wait().unwrap().code(), Some(131), "128 and the signal, as a shell has it");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_ends_with_the_code_that_its_command_ends_with_when_it_is_asked() {
    let rig = Rig::new("");
    for code in [0, 5] {
        let script = format!("trap 'exit {code}' TERM; echo up; sleep 1000 & wait");
        let mut child =
            run(&rig, &["-q", "--", "/bin/sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        send(child.id(), Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn run_passes_every_byte_on_and_keeps_the_two_streams_apart() {
    let rig = Rig::new("");
    let out: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 256) as u8).collect();
    let err: Vec<u8> = out.iter().rev().take(200_000).copied().collect();
    std::fs::write(rig.path("out.bin"), &out).unwrap();
    std::fs::write(rig.path("err.bin"), &err).unwrap();
    let script = "cat err.bin >&2; cat out.bin; printf 'no end of line'";
    let output = run(&rig, &["--", "/bin/sh", "-c", script]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == [&out[..], b"no end of line"].concat(), "{} bytes", output.stdout.len());
    assert!(output.stderr == err, "{} bytes", output.stderr.len());
}

#[test]
fn run_waits_for_a_slow_reader_and_loses_nothing() {
    let rig = Rig::new("");
    let script = "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); done";
    let mut child = run(&rig, &["--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0");
    // Longer than a place that does not take what it gets is left alone.
    std::thread::park_timeout(Duration::from_millis(1500));
    let mut expected = 1;
    for line in lines {
        assert_eq!(line.unwrap(), expected.to_string());
        expected += 1;
    }
    assert_eq!(expected, 60_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn run_ends_its_command_once_nobody_reads() {
    let rig = Rig::new("");
    let mut child = run(&rig, &["--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(line, "y");
    assert_eq!(child.wait().unwrap().code(), Some(141), "128 and SIGPIPE, as a shell has it");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_leaves_a_command_alone_that_writes_nothing_more() {
    let rig = Rig::new("");
    let script = "echo up; while [ ! -e go ]; do sleep 0.05; done; echo done > witness; exec sleep 1000";
    let mut child = run(&rig, &["-q", "--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(line, "up");
    std::thread::park_timeout(Duration::from_millis(300));
    std::fs::write(rig.path("go"), "").unwrap();
    rig.wait("it went on by itself", || !rig.witness("witness").is_empty());
    send(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143), "as it was asked, and not for its reader");
}

#[test]
fn run_can_be_ended_while_its_reader_takes_nothing() {
    let rig = Rig::new("");
    let mut child =
        run(&rig, &["--", "head", "-c", "1000000", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
    rig.wait("it is up", || !left_over(&rig).is_empty());
    send(child.id(), Signal::TERM);
    let began = std::time::Instant::now();
    child.wait().unwrap();
    assert!(began.elapsed() < crate::rig::PATIENCE, "{:?}", began.elapsed());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_gives_its_command_what_comes_in() {
    use std::io::Write;
    let rig = Rig::new("");
    let mut command = run(&rig, &["--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at / 7 % 256) as u8).collect();
    let mut input = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
}

#[test]
fn run_fails_if_what_its_command_wrote_could_not_be_kept() {
    let rig = Rig::new("");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = run(&rig, &["--", "echo", "lost"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("1 line of output could not be written"), "{output:?}");
}

#[test]
fn run_clears_up_behind_one_that_was_killed() {
    let rig = Rig::new("");
    let mut child =
        run(&rig, &["-q", "--", "/bin/sh", "-c", "echo $$ > pid; exec sleep 1000"]).spawn().unwrap();
    rig.wait("it is up", || rig.text("pid").ends_with('\n'));
    let left = left_over(&rig);
    assert_eq!(left, [format!("regrow-run-{}", child.id())]);
    send(child.id(), Signal::KILL);
    child.wait().unwrap();
    run(&rig, &["--", "true"]).output().unwrap();
    assert_eq!(left_over(&rig), left, "something that it started lives there");
    send(rig.text("pid").trim().parse().unwrap(), Signal::KILL);
    rig.wait("nothing is left of it", || {
        run(&rig, &["--", "true"]).output().unwrap();
        left_over(&rig).is_empty()
    });
}

#[test]
fn run_answers_as_a_shell_when_a_command_cannot_be_run() {
    let rig = Rig::new("");
    for (command, code) in [("no-such-program", 127), ("./no-such-program", 127), ("/etc/passwd", 126)] {
        let output = run(&rig, &["--", command]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {output:?}");
        assert!(stderr(&output).contains(command), "{output:?}");
    }
}

#[test]
fn a_demo_whose_reader_leaves_takes_everything_with_it() {
    let rig = Rig::new("");
    let mut command = rig.command(&["demo"]);
    command.env("TMPDIR", rig.path("")).env("RIG", rig.path("")).stdout(Stdio::piped());
    let mut demo = command.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("stubborn  ready")), "its workers run");
    drop(lines);
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn the_demo_explains_every_step_and_leaves_nothing() {
    let rig = Rig::new("");
    let mut command = rig.command(&["demo"]);
    command.env("TMPDIR", rig.path("")).env("RIG", rig.path(""));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    for what in [
        "crasher   exited with code 1",
        "sleeper   not ready within start_timeout",
        "held back until sleeper was ready",
        "doomed    parked",
        "the trial start found out",
        "6 workers: 6 healthy",
        "stubborn  killed",
        "Nothing is left running",
    ] {
        assert!(text.contains(what), "{what} is not in\n{text}");
    }
    assert_eq!(text.matches("└ ").count(), 12, "each explanation once\n{text}");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}
