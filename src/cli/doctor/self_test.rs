//! `doctor --self-test`: the program that is installed here, tried on this machine.
//!
//! It runs as users run it: the same binary, a file, a control socket, real processes, in a directory of its own that
//! nobody else uses. Only what it started itself is signalled, through handles that cannot mean anybody else.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::http::SOCKET_NAME;
use crate::http::dto::{StatusBody, WorkerView};

use super::{Check, Outcome};
use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::scratch::sweep;
use crate::cli::signals::{Came, Signals};

/// Each step takes milliseconds; a machine this slow would not recover anybody in time either.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked while something is waited for: half of it is what the measured time is too long.
const LOOK: Duration = Duration::from_millis(1);

/// A restart that takes longer than this is worth a warning: a hundred times what is usual.
const SLOW: Duration = Duration::from_millis(500);

/// The worker does nothing at all, so that nothing but regrow is tried.
const CONFIG: &str = r#"
[runtime]
name = "self-test"
state_dir = ".regrow"
[worker.scratch]
command = ["sleep", "3600"]
stop = { timeout = "2s" }
[http]
listen = ""
"#;

/// How its folder is called, before its pid.
const PREFIX: &str = "regrow-self-test-";

/// The steps in their order.
const STEPS: [&str; 6] = ["directory", "start", "kill", "heal", "stop", "clean up"];

/// Told of each step as it ends.
pub(super) type Tell<'a> = &'a mut dyn FnMut(&mut Context, Check) -> Result<(), Failure>;

/// Tries everything; what follows a failed step is not tried, but cleared up all the same.
pub(super) fn run(context: &mut Context, tell: Tell<'_>) -> Result<(), Failure> {
    let mut rig = Rig::new()?;
    let mut going = true;
    for name in STEPS {
        let last = name == "clean up";
        let check = if going || last { rig.step(name) } else { Check::skipped(name) };
        going &= check.outcome != Outcome::Failed;
        tell(context, check)?;
    }
    Ok(())
}

/// What was made so far. Dropping it ends and removes all of it.
struct Rig {
    /// Whoever ends the self-test ends all of it: its signals are heard wherever something is waited for.
    events: tokio::runtime::Runtime,
    signals: Signals,
    dir: Option<PathBuf>,
    runtime: Option<Child>,
    /// The worker's processes, to be sure that they are gone.
    workers: Vec<OwnedFd>,
    first_pid: Option<u32>,
    killed_at: Option<Instant>,
}

impl Rig {
    fn new() -> Result<Self, Failure> {
        let failed = |error| Failure::Failed(format!("cannot start an event loop: {error}"));
        let events = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let signals = events.block_on(async { Signals::new(None) })?;
        let (dir, runtime, workers, first_pid, killed_at) = (None, None, Vec::new(), None, None);
        Ok(Self { events, signals, dir, runtime, workers, first_pid, killed_at })
    }

    fn step(&mut self, name: &'static str) -> Check {
        let tried = match name {
            "directory" => self.make_directory(),
            "start" => self.start(),
            "kill" => self.kill(),
            "heal" => return self.healed(name),
            "stop" => self.stop(),
            _ => self.clean_up(),
        };
        match tried {
            Ok(message) => Check::ok(name, message),
            Err((message, help)) => Check::failed(name, message, help),
        }
    }

    fn make_directory(&mut self) -> Tried {
        let (base, own) = (std::env::temp_dir(), std::process::id());
        let path = base.join(format!("{PREFIX}{own}"));
        sweep(&base, PREFIX, own);
        let help = "give a directory that can be written to in TMPDIR";
        let failed = |error: std::io::Error| (format!("{}: {error}", path.display()), help.to_owned());
        DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        self.dir = Some(path.clone());
        std::fs::write(path.join("regrow.toml"), CONFIG).map_err(failed)?;
        Ok(path.display().to_string())
    }

    fn start(&mut self) -> Tried {
        let dir = self.directory()?;
        let program = std::env::current_exe().map_err(|error| {
            (format!("this program does not find itself: {error}"), "install it again".to_owned())
        })?;
        let log = std::fs::File::create(dir.join("output")).map_err(|error| {
            (format!("cannot write its output: {error}"), "give another TMPDIR".to_owned())
        })?;
        let mut command = Command::new(&program);
        command.arg("-c").arg(dir.join("regrow.toml")).arg("start");
        command.arg("--ends-with").arg(std::process::id().to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // What is set for another runtime is not meant for this one.
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("REGROW_");
            if ours || ["STATE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC"].iter().any(|one| name == *one) {
                command.env_remove(name);
            }
        }
        let began = Instant::now();
        let child = command.spawn().map_err(|error| {
            (format!("{} cannot be run: {error}", program.display()), "install it again".to_owned())
        })?;
        self.runtime = Some(child);
        let worker = self.wait("its worker is not healthy", |worker| worker.is_healthy())?;
        self.first_pid = worker.pid;
        self.hold(worker.pid)?;
        Ok(format!(
            "a runtime and its worker, pid {}, in {}",
            worker.pid.unwrap_or(0),
            shown(began.elapsed())
        ))
    }

    fn kill(&mut self) -> Tried {
        let handle = self.workers.last().ok_or_else(|| (String::new(), String::new()))?;
        self.killed_at = Some(Instant::now());
        pidfd_send_signal(handle, Signal::KILL).map_err(|error| {
            (
                format!("the worker cannot be killed: {error}"),
                "is there a security module that forbids it?".to_owned(),
            )
        })?;
        Ok(format!("pid {}, with SIGKILL", self.first_pid.unwrap_or(0)))
    }

    /// A slow recovery is one, with a warning.
    fn healed(&mut self, name: &'static str) -> Check {
        let first = self.first_pid;
        let worker = match self.wait("the worker did not come back", |worker| {
            worker.health == "healthy" && worker.pid != first && worker.incarnation == 2
        }) {
            Ok(worker) => worker,
            Err((message, help)) => return Check::failed(name, message, help),
        };
        let took = self.killed_at.map(|at| at.elapsed()).unwrap_or_default();
        if let Err((message, help)) = self.hold(worker.pid) {
            return Check::failed(name, message, help);
        }
        let why = worker.last_exit.as_ref().map_or_else(String::new, |last| format!("; {}", last.message));
        let message = format!("back as pid {} after {}{why}", worker.pid.unwrap_or(0), shown(took));
        if took > SLOW {
            return Check::warning(name, message, "a few milliseconds are usual: is this machine very busy?");
        }
        Check::ok(name, message)
    }

    fn stop(&mut self) -> Tried {
        let help = || "`regrow shutdown` would hang as well; is this machine very busy?".to_owned();
        let began = Instant::now();
        self.ask_to_end();
        let code =
            self.ended_within(PATIENCE).ok_or_else(|| ("the runtime does not end".to_owned(), help()))?;
        if code != Some(0) {
            return Err((format!("the runtime ended with {code:?}: {}", self.said()), help()));
        }
        if let Some(left) = self.workers.iter().filter(|handle| !ended(handle)).count().checked_sub(1) {
            return Err((format!("{} of the worker's processes live on", left + 1), help()));
        }
        Ok(format!("everything, in {}; no process is left", shown(began.elapsed())))
    }

    fn clean_up(&mut self) -> Tried {
        let Some(dir) = self.dir.clone() else { return Ok("nothing to do".to_owned()) };
        self.end_all();
        std::fs::remove_dir_all(&dir)
            .map_err(|error| (format!("{}: {error}", dir.display()), "remove it by hand".to_owned()))?;
        self.dir = None;
        Ok("the directory is gone".to_owned())
    }

    /// Waits until the worker is as it should be.
    fn wait(
        &mut self,
        else_said: &str,
        is_right: impl Fn(&WorkerView) -> bool,
    ) -> Result<WorkerView, Trouble> {
        let socket = self.directory()?.join(".regrow").join(SOCKET_NAME);
        let client = Client::new(socket);
        let end = Instant::now() + PATIENCE;
        loop {
            let body = self.events.block_on(client.get::<StatusBody>("/api/v1/status"));
            let worker = body.ok().and_then(|body| body.workers.into_iter().next());
            if let Some(worker) = worker.filter(|worker| is_right(worker)) {
                return Ok(worker);
            }
            let over = self.runtime.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some());
            if over || Instant::now() >= end {
                let what = if over { "the runtime ended" } else { else_said };
                let help = "`regrow doctor` looks for what is missing here; `regrow run -- sleep 1` is the smallest try";
                return Err((format!("{what}: {}", self.said()), help.to_owned()));
            }
            self.nap()?;
        }
    }

    /// Waits a moment. An order to end is trouble.
    fn nap(&mut self) -> Result<(), Trouble> {
        let Self { events, signals, .. } = self;
        let signal = match events.block_on(async { tokio::time::timeout(LOOK, signals.next()).await }) {
            Ok(Came::End(signal)) => signal,
            Ok(Came::Hangup) => libc::SIGHUP,
            Ok(Came::User(_)) | Err(_) => return Ok(()),
        };
        let what = format!("it was ended by signal {}", crate::exit::signal_name(signal));
        Err((what, "what it had started is ended, too".to_owned()))
    }

    /// A handle on the worker's process.
    fn hold(&mut self, pid: Option<u32>) -> Result<(), Trouble> {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let handle = pid.ok_or(rustix::io::Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let handle = handle.map_err(|error| {
            (
                format!("the worker's process cannot be held: {error}"),
                "regrow needs Linux 5.4 or later".to_owned(),
            )
        })?;
        self.workers.push(handle);
        Ok(())
    }

    fn directory(&self) -> Result<PathBuf, Trouble> {
        self.dir.clone().ok_or_else(|| ("there is no directory".to_owned(), String::new()))
    }

    /// What the runtime said last on stderr.
    fn said(&self) -> String {
        let text = self.dir.as_ref().and_then(|dir| std::fs::read_to_string(dir.join("output")).ok());
        let last = text.as_deref().and_then(|text| text.lines().rev().find(|line| !line.trim().is_empty()));
        last.unwrap_or("it said nothing").to_owned()
    }

    fn ask_to_end(&mut self) {
        let Some(child) = &self.runtime else { return };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // Our own child, not reaped yet: the number is still its own.
        if let Some(handle) = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
            // Gone already is as good.
            let _ = pidfd_send_signal(handle, Signal::TERM);
        }
    }

    /// The code it ended with; `None` if it lives.
    fn ended_within(&mut self, patience: Duration) -> Option<Option<i32>> {
        let end = Instant::now() + patience;
        let child = self.runtime.as_mut()?;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                self.runtime = None;
                return Some(status.code());
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Whatever still lives of what was started.
    fn end_all(&mut self) {
        if self.runtime.is_some() {
            self.ask_to_end();
            if self.ended_within(PATIENCE).is_none()
                && let Some(mut child) = self.runtime.take()
            {
                // It was asked, and given its time.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        for handle in self.workers.drain(..) {
            let _ = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.end_all();
        if let Some(dir) = self.dir.take() {
            // What cannot be removed is in a folder for temporary things.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// What went wrong, and what to do.
type Trouble = (String, String);

/// What was done, or what went wrong.
type Tried = Result<String, Trouble>;

fn ended(handle: &OwnedFd) -> bool {
    let mut fds = [rustix::event::PollFd::new(handle, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

fn shown(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}
