//! A real runtime with real processes: the built binary on a directory of its own.
//!
//! A test waits for conditions with a deadline and never sleeps to wait; it trusts what the workers themselves
//! wrote down (witness files), not the runtime's log. Everything a rig started is gone when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a condition may take on a machine with two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One runtime and its directory.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Rig {
    /// Writes this configuration; starts nothing. `{dir}` in it is the rig's directory.
    pub(crate) fn new(toml: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("rg").tempdir().unwrap();
        let rig = Self { dir, process: None };
        rig.configure(toml);
        rig
    }

    /// Starts a runtime on this configuration and waits until it answers.
    pub(crate) fn start(toml: &str) -> Self {
        let mut rig = Self::new(toml);
        rig.launch();
        rig
    }

    /// Replaces the configuration file.
    pub(crate) fn configure(&self, toml: &str) {
        let text = toml.replace("{dir}", &self.dir.path().display().to_string());
        fs::write(self.path("regrow.toml"), format!("{text}\n[http]\nlisten = \"\"\n")).unwrap();
    }

    /// Starts the runtime (again) and waits until it answers.
    pub(crate) fn launch(&mut self) {
        let mut command = self.command(&["start"]);
        self.launch_as(&mut command);
        self.wait("the runtime answers", || self.try_status().is_some());
    }

    /// Starts the runtime by this command and waits for nothing.
    pub(crate) fn launch_as(&mut self, command: &mut Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("out")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.launch_with(command);
    }

    /// The same, with its output going where the command says.
    pub(crate) fn launch_with(&mut self, command: &mut Command) {
        self.process = Some(command.spawn().unwrap());
    }

    /// `regrow -c FILE ARGS…`, not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
        command.arg("-c").arg(self.path("regrow.toml")).args(arguments);
        command.current_dir(self.dir.path()).env("NO_COLOR", "1");
        command
    }

    /// Runs a verb to its end.
    pub(crate) fn regrow(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a verb that has to succeed, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let out = self.regrow(arguments);
        assert!(out.status.success(), "regrow {arguments:?}: {out:?}\n{}", self.output());
        String::from_utf8(out.stdout).unwrap()
    }

    /// The exit code of a verb.
    pub(crate) fn code(&self, arguments: &[&str]) -> i32 {
        self.regrow(arguments).status.code().unwrap_or(-1)
    }

    /// `status -o json`, if the runtime answers.
    pub(crate) fn try_status(&self) -> Option<Value> {
        let out = self.regrow(&["status", "-o", "json"]);
        if out.status.success() { serde_json::from_slice(&out.stdout).ok() } else { None }
    }

    /// `status -o json`.
    pub(crate) fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|| panic!("the runtime does not answer:\n{}", self.output()))
    }

    /// One instance out of `status`.
    pub(crate) fn worker(&self, instance: &str) -> Value {
        let status = self.status();
        let found =
            status["workers"].as_array().unwrap().iter().find(|entry| entry["instance"] == instance).cloned();
        found.unwrap_or_else(|| panic!("no {instance} in {status}"))
    }

    /// Waits until an instance has this status.
    pub(crate) fn wait_status(&self, instance: &str, status: &str) {
        self.wait(&format!("{instance} is {status}"), || self.worker(instance)["status"] == status);
    }

    /// Waits until an instance has this phase.
    pub(crate) fn wait_phase(&self, instance: &str, phase: &str) {
        self.wait(&format!("{instance} is in phase {phase}"), || self.worker(instance)["phase"] == phase);
    }

    /// Waits for a condition.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        self.wait_at_most(PATIENCE, what, condition);
    }

    /// Waits for a condition, at most this long.
    pub(crate) fn wait_at_most(&self, patience: Duration, what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + patience;
        while !condition() {
            assert!(Instant::now() < end, "waited {patience:?} in vain: {what}\n{}", self.output());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// A path below the rig's directory.
    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(below)
    }

    /// The text of a file below the rig's directory; empty if it is not there.
    pub(crate) fn text(&self, below: &str) -> String {
        fs::read(self.path(below))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The lines a worker has appended to a witness file.
    pub(crate) fn witness(&self, below: &str) -> Vec<String> {
        self.text(below).lines().map(str::to_owned).collect()
    }

    /// The live log of the runtime, and what it wrote to stderr.
    pub(crate) fn output(&self) -> String {
        self.text("out")
    }

    /// The runtime's pid.
    pub(crate) fn runtime(&self) -> u32 {
        self.process.as_ref().expect("a runtime was launched").id()
    }

    /// Sends the runtime a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        send(self.runtime(), signal);
    }

    /// Kills the runtime alone and reaps it: its workers live on.
    pub(crate) fn kill_runtime(&mut self) {
        self.signal(rustix::process::Signal::KILL);
        let _ = self.process.take().map(|mut process| process.wait());
    }

    /// Waits for the runtime's end and gives its exit code.
    pub(crate) fn wait_end(&mut self) -> i32 {
        let end = Instant::now() + PATIENCE;
        loop {
            let process = self.process.as_mut().expect("a runtime was launched");
            if let Some(status) = process.try_wait().unwrap() {
                self.process = None;
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < end, "the runtime does not end\n{}", self.output());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            send(process.id(), rustix::process::Signal::TERM);
            send(process.id(), rustix::process::Signal::TERM);
            let end = Instant::now() + Duration::from_secs(10);
            while process.try_wait().ok().flatten().is_none() && Instant::now() < end {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        // Whatever still has this directory in its environment was started below this rig.
        let own = self.dir.path().display().to_string();
        for pid in processes_with(&own) {
            send(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Sends a signal to one process; one that is gone is no error.
pub(crate) fn send(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Whether a process exists and is no zombie.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next())
        .is_some_and(|state| state != 'Z' && state != 'X')
}

/// Processes whose environment names this text: the workers of one rig.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let found = environment.windows(text.len()).any(|window| window == text.as_bytes());
        found && *pid != std::process::id() && alive(*pid)
    })
    .collect()
}

/// Whether the tests run as root; prints what is left out if not.
pub(crate) fn root_or_skip(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        left_out(&format!("{what} needs root"));
    }
    root
}

/// Names a test that is left out. Written past the test harness, which shows nothing that a passing test prints.
pub(crate) fn left_out(why: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("left out: {test}: {why}\n").as_bytes());
}
