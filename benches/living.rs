//! The configuration of what runs: how long a change takes, and whether anything grows with changes.
//!
//! `apply`: of 1,000 workers one changes; from the request to the answer, which comes once everybody concerned has been
//! told, and the pids of the 999 others before and after. `grow`: ten thousand changes one after the other, some in
//! place, some that add and remove; what the runtime holds after the first thousand and at the end.
//!
//! `benches/run apply grow` builds what is measured and calls this.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "measurements are printed; what fails ends the run"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MANY: usize = 1000;
const ROUNDS: usize = 20;
const CHANGES: usize = 10_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let wanted = |mode: &str| words.is_empty() || words.iter().any(|word| word == mode);
    if wanted("apply") {
        apply();
    }
    if wanted("grow") {
        grow();
    }
}

/// One of a thousand changes.
fn apply() {
    let run = Run::start(&thousand(""));
    run.wait_ready(MANY);
    let mut took = Vec::new();
    let mut kept = MANY;
    for round in 0..ROUNDS {
        let before = run.pids();
        run.configure(&thousand(&round.to_string()));
        let began = Instant::now();
        let answer = run.ask("POST", "/api/v1/config/apply");
        took.push(began.elapsed());
        assert!(answer.contains("\"untouched_workers\":999"), "{answer}");
        run.wait_until("the changed one is another", || {
            let after = run.pids();
            after.len() == MANY && after[0] != before[0]
        });
        let after = run.pids();
        kept = kept.min(before.iter().zip(&after).filter(|(old, new)| old == new).count());
    }
    took.sort();
    let median = took[took.len() / 2].as_secs_f64() * 1e3;
    let worst = took[took.len() - 1].as_secs_f64() * 1e3;
    println!(
        "apply, 1 of {MANY} workers changed: p50 {median:.1} ms, worst of {ROUNDS} {worst:.1} ms; target < 100 ms"
    );
    println!("apply, pids of the others unchanged: {kept} of {}", MANY - 1);
}

fn thousand(first: &str) -> String {
    let mut text = String::from("[http]\nlisten = \"\"\n");
    for index in 0..MANY {
        let argument = if index == 0 { first } else { "" };
        let _ = write!(
            text,
            "[worker.w{index}]\ncommand = [\"sh\", \"-c\", \"exec sleep 99999\", \"x{argument}\"]\n"
        );
    }
    text
}

/// Ten thousand changes: a rule of a running worker, a worker that is only known, and the flags of a supervisor.
fn grow() {
    let run = Run::start(&twenty(0));
    run.wait_ready(20);
    let mut early = None;
    let began = Instant::now();
    for change in 1..=CHANGES {
        run.configure(&twenty(change));
        // A file that has just changed is waited for; ten thousand of those waits say nothing about growth.
        run.age();
        let answer = run.ask("POST", "/api/v1/config/apply");
        assert!(answer.contains("\"ok\":true"), "{answer}");
        if change == CHANGES / 10 {
            early = Some(run.holds());
        }
    }
    let each = began.elapsed().as_secs_f64() * 1e3 / CHANGES as f64;
    let (early, late) = (early.unwrap(), run.holds());
    println!("{CHANGES} changes, {each:.2} ms each");
    println!("after {}: {early}", CHANGES / 10);
    println!("after {CHANGES}: {late}");
}

fn twenty(change: usize) -> String {
    let mut text = String::from("[http]\nlisten = \"\"\n");
    let _ = write!(text, "[supervisor.root]\nintensity.max_restarts = {}\n", 5 + change % 7);
    for index in 0..20 {
        let seconds = if index == change % 20 { 5 } else { 10 };
        let _ = write!(
            text,
            "[worker.w{index}]\ncommand = [\"sleep\", \"99999\"]\nstop.timeout = \"{seconds}s\"\n"
        );
    }
    // Each time another name.
    let _ =
        write!(text, "[worker.n{change}]\ncommand = [\"sleep\", \"1\"]\nenabled = false\nafter = [\"w0\"]\n");
    text
}

/// A runtime under measurement.
struct Run {
    process: Child,
    dir: PathBuf,
}

impl Run {
    fn start(file: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("regrow-living-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("regrow.toml"), file).unwrap();
        let log = fs::File::create(dir.join("out")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
        command.arg("-c").arg(dir.join("regrow.toml")).arg("start");
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { process, dir }
    }

    fn configure(&self, file: &str) {
        fs::write(self.dir.join("regrow.toml"), file).unwrap();
    }

    /// The file has stood still for long.
    fn age(&self) {
        let file = fs::File::options().write(true).open(self.dir.join("regrow.toml")).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    fn ask(&self, method: &str, path: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.join(".regrow/regrow.sock")).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn wait_until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        while !holds() {
            assert!(Instant::now() < end, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_ready(&self, count: usize) {
        let socket = self.dir.join(".regrow/regrow.sock");
        self.wait_until("the runtime answers", || socket.exists());
        self.wait_until("all are ready", || {
            let page = self.ask("GET", "/metrics");
            page.lines().filter(|line| line.starts_with("regrow_worker_up{") && line.ends_with("} 1")).count()
                == count
        });
    }

    /// Of all workers, in the order of the file.
    fn pids(&self) -> Vec<String> {
        let body = self.ask("GET", "/api/v1/workers");
        body.split("\"pid\":").skip(1).filter_map(|rest| rest.split(',').next()).map(str::to_owned).collect()
    }

    fn holds(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let of = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.trim_start_matches(':').trim().to_owned()
        };
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count();
        let folders = count(&self.dir.join(".regrow/w"));
        format!(
            "resident {}, {files} descriptors, {} threads, {folders} folders in w/",
            of("VmRSS"),
            of("Threads")
        )
    }
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map(Iterator::count).unwrap_or(0)
}

impl Drop for Run {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
