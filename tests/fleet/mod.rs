//! A fleet of real processes under the real program, and what they say of themselves.
//!
//! Its workers (`worker.c`) do their work well until they are told to do it badly. What happened and when comes from
//! them, by the clock of the machine: the runtime that is measured is asked for nothing that counts.

pub(crate) mod calm;
pub(crate) mod checks;
pub(crate) mod faults;
pub(crate) mod heal;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How long everything that has to come may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The check that every worker answers.
const HTTP: &str = "http = { url = \"http://w/health\", unix = \"{state_dir}/http.sock\" }";

/// One process of a worker. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    pub(crate) pid: u32,
    /// When it began to do its work badly.
    pub(crate) fault: Option<u64>,
    /// The first look that it failed.
    pub(crate) missed: Option<u64>,
    /// Its first good answer to a check.
    pub(crate) checked: Option<u64>,
}

/// The lives of each worker, in their order.
pub(crate) type Lives = BTreeMap<String, Vec<Life>>;

#[derive(Default)]
struct Heard {
    lives: Mutex<Lives>,
    more: Condvar,
}

/// A runtime with its workers. Everything it started is gone when it is dropped.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
    worker: PathBuf,
    process: Child,
    heard: Arc<Heard>,
}

impl Fleet {
    /// Starts `regrow` on this configuration, in which `{bin}` is the worker's program, `{tell}` where it tells, and
    /// `{dir}` the directory of it all; waits until `count` workers have passed a check.
    pub(crate) fn start(regrow: &str, arguments: &[&str], toml: &str, count: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("rf").tempdir().unwrap();
        let worker = dir.path().join("worker");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleet/worker.c");
        let built =
            Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&worker).arg(source).status().unwrap();
        assert!(built.success(), "cc could not build tests/fleet/worker.c");
        let tell = dir.path().join("tell");
        let heard = listen(UnixDatagram::bind(&tell).unwrap());
        let fill = |text: &str| {
            let text = text.replace("{bin}", &worker.display().to_string());
            text.replace("{tell}", &tell.display().to_string())
                .replace("{dir}", &dir.path().display().to_string())
        };
        let file = dir.path().join("regrow.toml");
        fs::write(&file, format!("{}\n[http]\nlisten = \"\"\n", fill(toml))).unwrap();
        let log = fs::File::create(dir.path().join("out")).unwrap();
        let mut command = Command::new(regrow);
        command.arg("-c").arg(&file).arg("start").args(arguments).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let process = command.spawn().unwrap();
        let fleet = Self { dir, worker, process, heard };
        fleet.wait(PATIENCE, "every worker has passed a check", |lives| {
            lives.values().filter(|of_one| last(of_one).checked.is_some()).count() == count
        });
        fleet
    }

    /// What was heard until now.
    pub(crate) fn lives(&self) -> Lives {
        self.heard.lives.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this holds of what was heard; `false`: it did not in this time.
    pub(crate) fn wait_for(&self, within: Duration, holds: impl Fn(&Lives) -> bool) -> bool {
        let lives = self.heard.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.more.wait_timeout_while(lives, within, |lives| !holds(lives));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The same, where nothing else would do.
    pub(crate) fn wait(&self, within: Duration, what: &str, holds: impl Fn(&Lives) -> bool) {
        if !self.wait_for(within, holds) {
            panic!("waited {within:?} in vain: {what}\n{}", self.output());
        }
    }

    /// Tells a worker to do its work badly; when it was told.
    pub(crate) fn tell(&self, name: &str, words: &str) -> u64 {
        let at = monotonic();
        let ear = UnixDatagram::unbound().unwrap();
        ear.send_to(words.as_bytes(), self.home(name).join("ctl")).unwrap();
        at
    }

    /// Sends the process of a worker a signal; when it was sent.
    pub(crate) fn signal(&self, name: &str, signal: Signal) -> u64 {
        let pid = last(&self.lives()[name]).pid;
        let at = monotonic();
        send(pid, signal);
        at
    }

    /// Halts the runtime for so long.
    pub(crate) fn halt_runtime(&self, lasting: Duration) {
        send(self.process.id(), Signal::STOP);
        std::thread::sleep(lasting);
        send(self.process.id(), Signal::CONT);
    }

    /// The runtime's pid.
    pub(crate) fn runtime(&self) -> u32 {
        self.process.id()
    }

    /// A worker's own directory.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(".regrow/w").join(name).join("state")
    }

    /// What the runtime answers to this.
    pub(crate) fn ask(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join(".regrow/regrow.sock")).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{path}: {answer}");
        body.to_owned()
    }

    /// The same, as JSON.
    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.ask(path)).unwrap()
    }

    /// What the runtime printed, the end of it.
    pub(crate) fn output(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// A verb on this fleet's file.
    pub(crate) fn verb(&self, regrow: &str, arguments: &[&str]) -> String {
        let file = self.dir.path().join("regrow.toml");
        let out = Command::new(regrow).arg("-c").arg(file).args(arguments).output().unwrap();
        assert!(out.status.success(), "{arguments:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Fleet {
    /// The supervisor first, so that nothing grows back.
    fn drop(&mut self) {
        send(self.process.id(), Signal::CONT);
        send(self.process.id(), Signal::TERM);
        send(self.process.id(), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(30);
        while self.process.try_wait().ok().flatten().is_none() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let own = self.worker.display().to_string();
        for life in self.lives().values().flatten() {
            let line = fs::read(format!("/proc/{}/cmdline", life.pid)).unwrap_or_default();
            if line.starts_with(own.as_bytes()) {
                send(life.pid, Signal::KILL);
            }
        }
    }
}

/// The newest life of a worker.
pub(crate) fn last(lives: &[Life]) -> Life {
    lives.last().copied().unwrap_or_default()
}

/// Hears what workers tell for as long as they have somebody to tell it to.
fn listen(ear: UnixDatagram) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    let here = Arc::downgrade(&heard);
    ear.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    std::thread::spawn(move || {
        let mut line = [0; 256];
        while let Some(heard) = here.upgrade() {
            if let Ok(count) = ear.recv(&mut line) {
                let text = String::from_utf8_lossy(&line[..count]);
                note(&mut heard.lives.lock().unwrap_or_else(PoisonError::into_inner), &text);
                heard.more.notify_all();
            }
        }
    });
    heard
}

/// `NAME PID WORD NANOSECONDS`
fn note(lives: &mut Lives, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let [name, pid, word, at] = words[..] else { panic!("a worker told {line:?}") };
    let (pid, at) = (pid.parse().unwrap(), at.parse().unwrap());
    let of_one = lives.entry(name.to_owned()).or_default();
    if word == "up" {
        return of_one.push(Life { pid, ..Life::default() });
    }
    let Some(life) = of_one.iter_mut().rev().find(|life| life.pid == pid) else { return };
    match word {
        "fault" => life.fault = Some(at),
        "missed" => life.missed = life.missed.or(Some(at)),
        "checked" => life.checked = Some(at),
        _ => panic!("a worker told {line:?}"),
    }
}

/// Sends a signal to one process; one that is gone is no error.
fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Nanoseconds of the monotonic clock, the same one as the workers'.
pub(crate) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How much two moments differ, in seconds.
pub(crate) fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}

/// Their mean; 0 of nothing.
pub(crate) fn mean(figures: &[f64]) -> f64 {
    if figures.is_empty() { 0.0 } else { figures.iter().sum::<f64>() / figures.len() as f64 }
}

/// The worst of them.
pub(crate) fn worst(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(0.0, f64::max)
}
