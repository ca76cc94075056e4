//! `start`, in the foreground and in the background: when it returns, what ends it, and where its words go.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::{PipeReader, PipeWriter};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::fake::{stderr, stdout};
use crate::rig::{PATIENCE, Rig, alive, send};

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
