//! Processes: regrow beside the floor, in turn, in one run.
//!
//! The floor is what a bare `tokio::process` loop takes for the same work on the same machine at the same time:
//! one task per process, spawn and wait, no logs, no limits, no status. Absolute figures drift on a shared machine,
//! so what counts is the ratio; both are printed with the spread of their rounds.
//!
//! `benches/run` builds everything and calls this. Modes: `kill`, `loop`, `start`, `idle`, `first`, `status`, `sweep`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "measurements are printed; what fails ends the run"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "--floor") {
        floor(&words[1..]);
        return;
    }
    let bench = Bench::new();
    let wanted = |mode: &str| words.is_empty() || words.iter().any(|word| word == mode);
    if wanted("kill") {
        bench.kill();
    }
    if wanted("loop") {
        bench.crash_loop();
    }
    if wanted("start") {
        bench.start();
    }
    if wanted("first") {
        bench.first();
    }
    if wanted("status") {
        bench.status();
    }
    if wanted("sweep") {
        bench.sweep();
    }
    if wanted("idle") {
        bench.idle();
    }
}

/// `--floor COUNT CHILD SOCKET PREFIX [DIR]`: the bare loop. With a directory each process first gets there what
/// regrow's workers are promised.
fn floor(words: &[String]) {
    let count: usize = words[0].parse().unwrap();
    let promised = words.get(4).map(|dir| std::sync::Arc::new(Promised::new(Path::new(dir))));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for index in 0..count {
            let (program, socket, name) =
                (words[1].clone(), words[2].clone(), format!("{}{index}", words[3]));
            let promised = promised.clone();
            tasks.push(tokio::spawn(async move {
                let made = promised.as_ref().map(|promised| promised.make(index));
                loop {
                    let mut command = tokio::process::Command::new(&program);
                    command.arg(&name).arg(&socket).stdin(Stdio::null());
                    let mut child = command.spawn().unwrap();
                    if let (Some(made), Some(pid)) = (&made, child.id()) {
                        made.take_in(pid);
                    }
                    let _ = child.wait().await;
                }
            }));
        }
        for task in tasks {
            let _ = task.await;
        }
    });
}

/// What every worker of regrow has (its own directories, an output pipe, a log, the sockets it may speak on, a cgroup),
/// made in the plainest way.
struct Promised {
    dir: PathBuf,
    cgroup: Option<PathBuf>,
}

struct Made {
    _held: (fs::File, fs::File, UnixDatagram, std::os::unix::net::UnixListener),
    cgroup: Option<PathBuf>,
}

impl Promised {
    fn new(dir: &Path) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let root = mounts.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(words[1]))
        });
        let cgroup = root.map(|root| root.join(format!("regrow-bench-{}", std::process::id())));
        Self { dir: dir.to_owned(), cgroup: cgroup.filter(|path| fs::create_dir(path).is_ok()) }
    }

    fn make(&self, index: usize) -> Made {
        let own = self.dir.join(format!("w/c{index}"));
        fs::create_dir_all(own.join("state")).unwrap();
        let out = own.join("out");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &out, kind, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
            .unwrap();
        let pipe = fs::OpenOptions::new().read(true).write(true).open(&out).unwrap();
        let log = fs::File::create(self.dir.join(format!("c{index}.log"))).unwrap();
        let notify = UnixDatagram::bind(own.join("notify")).unwrap();
        let talk = std::os::unix::net::UnixListener::bind(own.join("talk")).unwrap();
        let cgroup = self.cgroup.as_ref().map(|root| root.join(format!("c{index}")));
        cgroup.iter().for_each(|path| fs::create_dir(path).unwrap());
        Made { _held: (pipe, log, notify, talk), cgroup }
    }
}

impl Made {
    fn take_in(&self, pid: u32) {
        if let Some(cgroup) = &self.cgroup {
            fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Floor,
    /// The floor, whose processes get what regrow's get.
    Equipped,
    Regrow,
}

struct Bench {
    dir: PathBuf,
    child: PathBuf,
    regrow: PathBuf,
}

/// A supervisor under measurement with its workers.
struct Run {
    process: Child,
    socket: UnixDatagram,
    dir: PathBuf,
    began: u64,
    pids: HashMap<String, u32>,
}

impl Bench {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("regrow-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let child = dir.join("child");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/child.c");
        let built = Command::new("cc").arg("-O2").arg("-o").arg(&child).arg(source).status().unwrap();
        assert!(built.success(), "cc could not build benches/child.c");
        Self { dir, child, regrow: PathBuf::from(env!("CARGO_BIN_EXE_regrow")) }
    }

    /// Starts a supervisor over `count` workers and waits until all have spoken.
    fn run(&self, who: Who, count: usize, prefix: &str, extra: &str) -> Run {
        static TURN: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let turn = TURN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = self.dir.join(turn.to_string());
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut command = match who {
            Who::Floor | Who::Equipped => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.arg("--floor").arg(count.to_string()).arg(&self.child).arg(&path).arg(prefix);
                command.args((who == Who::Equipped).then_some(&dir));
                command
            }
            Who::Regrow => {
                let file = dir.join("regrow.toml");
                fs::write(&file, self.config(count, prefix, &path, extra)).unwrap();
                let mut command = Command::new(&self.regrow);
                command.arg("-c").arg(file).arg("start");
                command
            }
        };
        let began = monotonic();
        let log = fs::File::create(dir.join("out")).unwrap();
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Run { process, socket, dir, began, pids: HashMap::new() }
    }

    fn config(&self, count: usize, prefix: &str, socket: &Path, extra: &str) -> String {
        let mut text = String::from(
            "[http]\nlisten = \"\"\n[supervisor.root]\nintensity = { max_restarts = 100000, within = \"1s\" }\n\
             [defaults.worker]\nbackoff = { first = \"0s\" }\nstop = { timeout = \"0s\" }\n",
        );
        text.push_str(extra);
        for index in 0..count {
            let _ = write!(
                text,
                "\n[worker.c{index}]\ncommand = [{:?}, \"{prefix}{index}\", {:?}]\n",
                self.child.display().to_string(),
                socket.display().to_string()
            );
        }
        text
    }

    /// kill -9 to the replacement's main.
    fn kill(&self) {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..3 {
            for (at, who) in [Who::Floor, Who::Regrow].into_iter().enumerate() {
                let mut run = self.run(who, 100, "", "");
                run.wait_for(100);
                std::thread::sleep(Duration::from_secs(2));
                for turn in 0..100 {
                    figures[at].push(run.kill_one(&turn.to_string()));
                }
            }
        }
        let [floor, regrow] = figures;
        row("kill -9 to main, p50, ms", quantile(&floor, 0.5), quantile(&regrow, 0.5), "<= 1.15");
        row("kill -9 to main, p99, ms", quantile(&floor, 0.99), quantile(&regrow, 0.99), "<= 1.3");
    }

    /// Restarts a second of one worker that ends at once.
    fn crash_loop(&self) {
        let mut figures = [Vec::new(), Vec::new()];
        for _ in 0..3 {
            for (at, who) in [Who::Floor, Who::Regrow].into_iter().enumerate() {
                let mut run = self.run(who, 1, "x", "");
                run.hear(Duration::from_secs(10)).expect("no worker spoke");
                let end = Instant::now() + Duration::from_secs(5);
                let mut count = 0;
                while let Some(left) = end.checked_duration_since(Instant::now()) {
                    count += u32::from(run.hear(left).is_some());
                }
                figures[at].push(f64::from(count) / 5.0);
            }
        }
        let [floor, regrow] = figures;
        row("crash loop, restarts/s", quantile(&floor, 0.5), quantile(&regrow, 0.5), ">= 0.8");
    }

    /// Start of the supervisor to the last of 500 mains.
    fn start(&self) {
        let mut figures = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..5 {
            for (at, who) in [Who::Floor, Who::Equipped, Who::Regrow].into_iter().enumerate() {
                let mut run = self.run(who, 500, "", "");
                let last = run.wait_for(500);
                figures[at].push((last - run.began) as f64 / 1e6);
            }
        }
        let [floor, equipped, regrow] = figures.map(|figures| quantile(&figures, 0.5));
        row("start 500 processes, ms", floor, regrow, "<= 1.2");
        row("the same, floor with what workers get", equipped, regrow, "<= 1.2");
        println!("{:<36} {:>10} {:>10.2}", "that floor beside the bare one", "", equipped / floor);
    }

    /// Start of the binary to the first worker's main.
    fn first(&self) {
        let mut figures = Vec::new();
        for _ in 0..10 {
            let mut run = self.run(Who::Regrow, 1, "", "");
            let last = run.wait_for(1);
            figures.push((last - run.began) as f64 / 1e6);
        }
        println!(
            "{:<36} {:>10} {:>10.2}   goal <= 50",
            "binary to first worker, ms",
            "",
            quantile(&figures, 0.5)
        );
    }

    /// The whole process `regrow status` with 1,000 workers.
    fn status(&self) {
        let mut run = self.run(Who::Regrow, 1000, "", "");
        run.wait_for(1000);
        let mut figures = Vec::new();
        for _ in 0..20 {
            let began = Instant::now();
            let out = Command::new(&self.regrow)
                .arg("-c")
                .arg(run.dir.join("regrow.toml"))
                .arg("status")
                .output()
                .unwrap();
            figures.push(began.elapsed().as_secs_f64() * 1e3);
            assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).lines().count() > 1000);
        }
        println!(
            "{:<36} {:>10} {:>10.2}   goal <= 30",
            "status with 1,000 workers, ms",
            "",
            quantile(&figures, 0.5)
        );
    }

    /// What it costs to look at 1,000 processes, in the sampler that everything shares.
    fn sweep(&self) {
        let mut run = self.run(Who::Floor, 1000, "", "");
        run.wait_for(1000);
        let roots: Vec<(u32, regrow::id::InstanceId)> =
            run.pids.iter().map(|(name, pid)| (*pid, format!("c{name}").parse().unwrap())).collect();
        let sampler = regrow::telemetry::Sampler::default();
        let pace = regrow::telemetry::Pace::of(Duration::ZERO);
        assert!(sampler.sweep(&roots, pace).iter().all(Option::is_some));
        let mut figures = Vec::new();
        for _ in 0..20 {
            // As cold as at a probe's pace.
            std::thread::sleep(Duration::from_millis(500));
            let before = thread_cpu();
            assert!(sampler.sweep(&roots, pace).iter().all(Option::is_some));
            figures.push((thread_cpu() - before).as_secs_f64() * 1e6 / roots.len() as f64);
        }
        let each = quantile(&figures, 0.5);
        let share = |seconds: f64| each * roots.len() as f64 / 1e6 / seconds * 100.0;
        let line = |what: &str, figure: f64, goal: &str| {
            println!("{what:<36} {:>10} {figure:>10.3}   goal {goal}", "");
        };
        line("sweep, us for each process", each, "<= 3");
        line("1,000 processes every 30 s, % of core", share(30.0), "< 0.2");
        line("1,000 processes every 1 s, % of core", share(1.0), "< 0.5");
    }

    /// CPU time and memory with 500 idle workers over 60 s.
    fn idle(&self) {
        let mut run = self.run(Who::Regrow, 500, "", "");
        run.wait_for(500);
        std::thread::sleep(Duration::from_secs(35));
        let before = cpu_ms(run.process.id());
        std::thread::sleep(Duration::from_secs(60));
        let used = cpu_ms(run.process.id()) - before;
        println!("{:<36} {:>10} {:>10.2}   goal <= 4", "idle, 500 workers, CPU ms in 60 s", "", used);
        println!(
            "{:<36} {:>10} {:>10.2}   goal <= 16",
            "idle, 500 workers, RSS MiB",
            "",
            rss_mib(run.process.id())
        );
    }
}

impl Run {
    fn hear(&mut self, within: Duration) -> Option<(String, u32, u64)> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_micros(100)))).unwrap();
        let mut line = [0; 256];
        let length = match self.socket.recv(&mut line) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let text = String::from_utf8_lossy(&line[..length]).into_owned();
        let mut words = text.split(' ');
        let name = words.next()?.to_owned();
        Some((name, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    }

    /// Waits for every worker's first word; the time of the last.
    fn wait_for(&mut self, count: usize) -> u64 {
        let mut last = 0;
        while self.pids.len() < count {
            let Some((name, pid, at)) = self.hear(Duration::from_secs(30)) else {
                let out = fs::read_to_string(self.dir.join("out")).unwrap_or_default();
                panic!("only {} of {count} workers spoke\n{out}", self.pids.len());
            };
            last = last.max(at);
            self.pids.insert(name, pid);
        }
        last
    }

    fn kill_one(&mut self, name: &str) -> f64 {
        while self.hear(Duration::from_micros(500)).is_some() {}
        let pid = self.pids[name];
        let began = monotonic();
        kill(pid);
        loop {
            let (who, now, at) = self.hear(Duration::from_secs(20)).expect("no replacement came");
            if who == name && now != pid {
                self.pids.insert(who, now);
                return (at - began) as f64 / 1e6;
            }
        }
    }
}

impl Drop for Run {
    /// Ends what this run started, the supervisor first so that nothing grows back.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        while let Some((name, pid, _)) = self.hear(Duration::from_millis(20)) {
            self.pids.insert(name, pid);
        }
        for pid in self.pids.values() {
            let own = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if own.windows(5).any(|window| window == b"child") {
                kill(*pid);
            }
        }
        // The directory stays until all is measured: ext4 is slow to make files where others were just removed, and
        // the next round would pay for it.
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a pid is not 0");
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn cpu_ms(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let run: u64 = tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    run as f64 / 1e6
}

fn rss_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap_or("Rss: 0");
    line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn quantile(figures: &[f64], at: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}

fn row(what: &str, floor: f64, regrow: f64, goal: &str) {
    println!("{what:<36} {floor:>10.3} {regrow:>10.3}   ratio {:.2}, goal {goal}", regrow / floor);
}
