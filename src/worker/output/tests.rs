//! Promises of log capture, kept by real FIFOs and a real output thread.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::config::{LogOnFull, LogSettings, LogTo, StderrTo};

/// Long enough for a loaded machine; a condition that holds ends the wait at once.
const SOON: Duration = Duration::from_secs(20);

struct Bench {
    dir: tempfile::TempDir,
    hub: OutputHub,
    counters: Arc<OutputCounters>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        let hub = OutputHub::start(dir.path().join("logs")).unwrap();
        Self { dir, hub, counters: Arc::default() }
    }

    fn open(&self, settings: LogSettings) -> (OutputStream, File) {
        self.open_as("noisy", settings, Arc::clone(&self.counters))
    }

    fn open_as(
        &self,
        id: &str,
        settings: LogSettings,
        counters: Arc<OutputCounters>,
    ) -> (OutputStream, File) {
        let fifo = self.dir.path().join(id);
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
        let spec = StreamSpec {
            instance: id.parse().unwrap(),
            fifo: fifo.clone(),
            name: StreamName::Stdout,
            settings,
            counters,
        };
        let stream = self.hub.open(spec).unwrap();
        (stream, OpenOptions::new().write(true).open(fifo).unwrap())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join("logs").join(name)
    }
}

fn settings() -> LogSettings {
    LogSettings {
        to: LogTo::File,
        max_size: 20 << 20,
        keep: 5,
        max_line: 64 << 10,
        on_full: LogOnFull::Drop,
        stderr: StderrTo::Merge,
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn drained(stream: &OutputStream) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(SOON, stream.drain()).await.unwrap() })
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn count(seen: &AtomicU64) {
    seen.fetch_add(1, Ordering::Relaxed);
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

#[test]
fn random_bytes_are_kept_exactly_and_only_for_the_owner() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(settings());
    let bytes = random_bytes(1 << 20);
    worker.write_all(&bytes).unwrap();
    drained(&stream);
    assert!(read(&bench.log("noisy.log")) == bytes);
    assert_eq!(load(&bench.counters.bytes), 1 << 20);
    assert_eq!(bench.log("noisy.log").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(bench.hub.problems(), Vec::<String>::new());
}

#[test]
fn one_endless_line_is_split_and_counted_and_nothing_of_it_is_held_in_memory() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(LogSettings { on_full: LogOnFull::Drop, ..settings() });
    let block = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        worker.write_all(&block).unwrap();
    }
    worker.write_all(b"\nafter\n").unwrap();
    assert_eq!(drained(&stream).last().unwrap(), "after");
    assert_eq!(load(&bench.counters.bytes), (64 << 20) + 7);
    let (kept, dropped) = (load(&bench.counters.lines), load(&bench.counters.dropped));
    // 1024 parts of 64 KiB, the last of them with the newline, and `after`.
    assert_eq!(kept + dropped, 1025, "kept {kept}, dropped {dropped}");
    assert!(load(&bench.counters.split) > 200);
    let longest = read(&bench.log("noisy.log")).split(|b| *b == b'\n').map(<[u8]>::len).max().unwrap();
    assert_eq!(longest, (64 << 10) + SPLIT_MARK.len() - 1);
}

#[test]
fn a_flood_is_dropped_counted_and_told_of_while_others_are_heard() {
    let bench = Bench::new();
    let small = LogSettings { max_size: 4 << 20, keep: 2, ..settings() };
    let (stream, mut worker) = bench.open(small.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let flooding = Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let lines = b"y\n".repeat(32 << 10);
        while !flooding.load(Ordering::Relaxed) {
            worker.write_all(&lines).unwrap();
        }
    });
    wait_until("a dropped line", || load(&bench.counters.dropped) > 0);
    let (quiet, mut other) = bench.open_as("quiet", settings(), Arc::default());
    let asked = Instant::now();
    other.write_all(b"still heard\n").unwrap();
    wait_until("the quiet one's line", || read(&bench.log("quiet.log")) == b"still heard\n");
    let heard_after = asked.elapsed();
    assert!(heard_after < Duration::from_secs(2), "{heard_after:?}");
    let told = || {
        (0..3).any(|age| {
            let suffix = if age == 0 { String::new() } else { format!(".{age}") };
            let text = read(&bench.log(&format!("noisy.log{suffix}")));
            String::from_utf8_lossy(&text).contains(" lines dropped: output came faster")
        })
    };
    wait_until("the notice", told);
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    drained(&stream);
    drop((stream, quiet));
    let sizes = fs::read_dir(bench.log("")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert!(sizes.sum::<u64>() < 3 * (4 << 20) + (1 << 20));
}

#[test]
fn with_block_nothing_is_lost_and_the_worker_waits() {
    let bench = Bench::new();
    let (stream, mut worker) =
        bench.open(LogSettings { on_full: LogOnFull::Block, max_size: 64 << 20, ..settings() });
    let lines = b"0123456789abcde\n".repeat(64 << 10);
    let started = Instant::now();
    for _ in 0..20 {
        worker.write_all(&lines).unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    drained(&stream);
    assert_eq!(load(&bench.counters.dropped), 0);
    assert_eq!(read(&bench.log("noisy.log")).len(), 20 << 20);
}

#[test]
fn rotation_loses_nothing_and_keeps_what_it_says() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(LogSettings { max_size: 1000, keep: 3, ..settings() });
    let mut all = Vec::new();
    for number in 0..550 {
        let line = format!("line {number:04}\n");
        worker.write_all(line.as_bytes()).unwrap();
        all.extend_from_slice(line.as_bytes());
    }
    drained(&stream);
    let mut found = Vec::new();
    for name in ["noisy.log.3", "noisy.log.2", "noisy.log.1", "noisy.log"] {
        let file = read(&bench.log(name));
        assert!(file.len() <= 1000 && !file.is_empty() && file.ends_with(b"\n"), "{name}");
        found.extend_from_slice(&file);
    }
    assert!(all.ends_with(&found) && !bench.log("noisy.log.4").exists());
    assert!(bench.log("noisy.idx.3").exists() && !bench.log("noisy.idx.4").exists());
}

#[test]
fn keep_zero_empties_the_file() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(LogSettings { max_size: 100, keep: 0, ..settings() });
    for number in 0..50 {
        writeln!(worker, "line {number:04}").unwrap();
    }
    drained(&stream);
    let left = read(&bench.log("noisy.log"));
    assert!(left.len() <= 100 && left.ends_with(b"line 0049\n"));
    assert_eq!(fs::read_dir(bench.log("")).unwrap().count(), 2);
}

#[test]
fn a_drain_answers_the_last_words_and_the_next_incarnation_starts_a_line() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(settings());
    worker.write_all(b"a\nb\nc\nd\ne\nf\nboom: \xff").unwrap();
    assert_eq!(drained(&stream), ["c", "d", "e", "f", "boom: \u{fffd}"]);
    assert!(drained(&stream).is_empty());
    worker.write_all(b"again\n").unwrap();
    assert_eq!(drained(&stream), ["again"]);
    assert!(read(&bench.log("noisy.log")).ends_with(b"boom: \xff\nagain\n"));
}

#[test]
fn a_ready_line_is_found_across_chunks_once_and_not_before_the_watch() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(settings());
    worker.write_all(b"listening on old\n").unwrap();
    drained(&stream);
    let found = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&found);
    let pattern = regex::bytes::Regex::new("^listening on [0-9]+$").unwrap();
    stream.watch_for(pattern.clone(), Box::new(move || count(&seen)));
    for part in [&b"not yet listening on 1\nlist"[..], b"ening ", b"on "] {
        let read = load(&bench.counters.bytes) + part.len() as u64;
        worker.write_all(part).unwrap();
        wait_until("the part", || load(&bench.counters.bytes) >= read);
    }
    assert_eq!(load(&found), 0, "the line is not complete");
    worker.write_all(b"8080\r\nlistening on 2\n").unwrap();
    wait_until("the line", || load(&found) == 1);
    drained(&stream);
    assert_eq!(load(&found), 1);
    let (replaced, seen) = (Arc::new(AtomicU64::new(0)), Arc::clone(&found));
    let never = Arc::clone(&replaced);
    stream.watch_for(pattern.clone(), Box::new(move || count(&never)));
    stream.watch_for(pattern, Box::new(move || count(&seen)));
    worker.write_all(b"listening on 3\n").unwrap();
    drained(&stream);
    assert_eq!((load(&replaced), load(&found)), (0, 2), "the newer watch takes the place of the older one");
}

#[test]
fn a_line_that_is_not_ended_is_looked_at_after_a_while() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(settings());
    let found = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&found);
    let pattern = regex::bytes::Regex::new("listening on [0-9]+").unwrap();
    stream.watch_for(pattern, Box::new(move || count(&seen)));
    worker.write_all(b"warming up\nlistening on 8080").unwrap();
    wait_until("the line", || load(&found) == 1);
}

#[test]
fn a_log_directory_that_is_none_is_shown_and_healed_by_itself() {
    let bench = Bench::new();
    let folder = bench.log("noisy.log").parent().unwrap().to_owned();
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "in its place").unwrap();
    let (stream, mut worker) = bench.open(settings());
    worker.write_all(b"lost\n").unwrap();
    assert_eq!(drained(&stream), ["lost"], "last words need no disk");
    let problems = bench.hub.problems();
    assert!(
        problems.len() == 1 && problems[0].starts_with("output of noisy stdout: Not a directory"),
        "{problems:?}"
    );
    assert_eq!(load(&bench.counters.dropped), 1);
    // A missing one is made again.
    fs::remove_file(&folder).unwrap();
    let mut more = 0;
    wait_until("the log to heal", || {
        worker.write_all(b"more\n").unwrap();
        drained(&stream);
        more += 1;
        bench.hub.problems().is_empty()
    });
    let text = String::from_utf8(read(&bench.log("noisy.log"))).unwrap();
    assert_eq!(text, format!("… {more} lines dropped: the log could not be written\nmore\n"));
}

#[test]
fn a_stream_that_is_closed_leaves_nothing_in_the_fifo_and_a_closed_hub_ends() {
    let bench = Bench::new();
    let (stream, mut worker) = bench.open(settings());
    worker.write_all(b"to the end").unwrap();
    drop(stream);
    wait_until("the last bytes", || read(&bench.log("noisy.log")) == b"to the end");
    let (stream, mut worker) = bench.open_as("other", settings(), Arc::default());
    worker.write_all(b"flushed").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(bench.hub.flush());
    assert_eq!(read(&bench.log("other.log")), b"flushed");
    assert!(bench.hub.close(SOON));
    assert!(drained(&stream).is_empty());
}

#[test]
fn a_separate_stderr_has_a_log_of_its_own() {
    let bench = Bench::new();
    let fifo = bench.dir.path().join("err");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    let spec = StreamSpec {
        instance: "web/3".parse().unwrap(),
        fifo: fifo.clone(),
        name: StreamName::Stderr,
        settings: settings(),
        counters: Arc::default(),
    };
    let stream = bench.hub.open(spec).unwrap();
    OpenOptions::new().write(true).open(fifo).unwrap().write_all(b"oh\n").unwrap();
    drained(&stream);
    assert_eq!(read(&bench.log("web-3.err.log")), b"oh\n");
    assert!(bench.log("web-3.err.idx").exists() && !bench.log("web-3.log").exists());
}

#[test]
fn only_a_fifo_is_read_and_only_a_file_is_written() {
    let bench = Bench::new();
    let target = bench.dir.path().join("precious");
    fs::write(&target, "precious").unwrap();
    let spec = |fifo: PathBuf| StreamSpec {
        instance: "noisy".parse().unwrap(),
        fifo,
        name: StreamName::Stdout,
        settings: settings(),
        counters: Arc::default(),
    };
    assert!(bench.hub.open(spec(target.clone())).is_err());
    let link = bench.dir.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(bench.hub.open(spec(link)).is_err());
    std::os::unix::fs::symlink(&target, bench.log("noisy.log")).unwrap();
    let (stream, mut worker) = bench.open(settings());
    worker.write_all(b"x\n").unwrap();
    drained(&stream);
    assert_eq!(read(&target), b"precious");
    assert_eq!(bench.hub.problems().len(), 1);
}

#[test]
fn a_full_disk_costs_lines_never_bytes_of_a_line_and_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let opener = move |path: &Path| {
        let path = if is_full.load(Ordering::Relaxed) { Path::new("/dev/full") } else { path };
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
    };
    let path = file::LogPath::new(dir.path(), "noisy");
    let log = file::LogFile::with_opener(path, 1 << 20, 1, Box::new(opener));
    let (counters, problem) = (Arc::<OutputCounters>::default(), sink::Problem::default());
    let sink = sink::Sink::new(Some(log), None, Arc::clone(&counters), problem.clone());
    let start = Instant::now();
    let mut pipeline =
        pipeline::Pipeline::new(&settings(), sink, Default::default(), Arc::clone(&counters), start);
    pipeline.take(b"one\ntwo\nthr", start);
    assert!(problem.get().unwrap().contains("No space left"));
    full.store(false, Ordering::Relaxed);
    pipeline.take(b"ee\nfour\n", start);
    assert_eq!(load(&counters.dropped), 4, "it is left alone for a second");
    assert_eq!(pipeline.due_at(), Some(start + Duration::from_secs(10)), "no output may come any more");
    pipeline.take(b"five\n", start + Duration::from_secs(2));
    let text = fs::read_to_string(dir.path().join("noisy.log")).unwrap();
    assert_eq!(text, "… 4 lines dropped: the log could not be written\nfive\n");
    assert_eq!(problem.get(), None);
    assert_eq!(load(&counters.lines), 1);
}

/// User and system time of the output thread so far, in hundredths of a second.
fn output_thread_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let ours = tasks.filter(|task| fs::read(task.join("comm")).is_ok_and(|comm| comm == b"regrow-output\n"));
    let stat = |task: PathBuf| fs::read_to_string(task.join("stat")).unwrap();
    let ticks = |stat: String| {
        let fields: Vec<u64> = stat.split(' ').skip(13).take(2).map(|field| field.parse().unwrap()).collect();
        fields.iter().sum::<u64>()
    };
    ours.map(stat).map(ticks).sum()
}

fn memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "measures for ten seconds, alone and in release: cargo test --release -- --ignored --nocapture a_flood_costs"]
fn a_flood_costs_less_than_a_tenth_of_a_core() {
    let bench = Bench::new();
    let (stream, worker) = bench.open(settings());
    let memory_before = memory_kib();
    let mut yes = std::process::Command::new("yes").stdout(worker).spawn().unwrap();
    let started = Instant::now();
    wait_until("the budget to be spent", || load(&bench.counters.dropped) > 0);
    println!("burst of 16 MiB kept in {:?}", started.elapsed());
    let (ticks, bytes, began) = (output_thread_ticks(), load(&bench.counters.bytes), Instant::now());
    wait_until("ten seconds", || began.elapsed() > Duration::from_secs(10));
    let seconds = began.elapsed().as_secs_f64();
    let share = (output_thread_ticks() - ticks) as f64 / 100.0 / seconds;
    let read = (load(&bench.counters.bytes) - bytes) as f64 / seconds / f64::from(1 << 20);
    let grown = memory_kib().saturating_sub(memory_before);
    println!("{:.1} % of a core, {read:.0} MiB/s read, memory grew by {grown} KiB", share * 100.0);
    yes.kill().unwrap();
    yes.wait().unwrap();
    drop(stream);
    assert!(share < 0.1 && grown < 8192);
    let (ticks, quiet) = (output_thread_ticks(), Instant::now());
    wait_until("three quiet seconds", || quiet.elapsed() > Duration::from_secs(3));
    assert!(output_thread_ticks() - ticks <= 5, "a quiet hub costs nothing");
}

#[test]
fn a_disk_that_has_room_again_is_named_no_longer_though_no_output_comes() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let opener = move |path: &Path| {
        let path = if is_full.load(Ordering::Relaxed) { Path::new("/dev/full") } else { path };
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
    };
    let log =
        file::LogFile::with_opener(file::LogPath::new(dir.path(), "noisy"), 1 << 20, 1, Box::new(opener));
    let (counters, problem) = (Arc::<OutputCounters>::default(), sink::Problem::default());
    let sink = sink::Sink::new(Some(log), None, Arc::clone(&counters), problem.clone());
    let start = Instant::now();
    let mut pipeline =
        pipeline::Pipeline::new(&settings(), sink, Default::default(), Arc::clone(&counters), start);
    pipeline.take(b"one\n", start);
    let seconds = Duration::from_secs;
    pipeline.tell_if_due(start + seconds(10));
    assert!(problem.get().unwrap().contains("No space left"));
    assert_eq!(pipeline.due_at(), Some(start + seconds(20)), "it is still full");
    full.store(false, Ordering::Relaxed);
    pipeline.tell_if_due(start + seconds(20));
    assert_eq!((problem.get(), pipeline.due_at()), (None, None));
    let text = fs::read_to_string(dir.path().join("noisy.log")).unwrap();
    assert_eq!(text, "… 1 lines dropped: the log could not be written\n");
}
