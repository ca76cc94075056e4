//! Faults of what workers write: bytes that are no text, floods, endless lines, closed output.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::faults_process::pids;
use crate::hardship::Yardstick;
use crate::rig::{PATIENCE, Rig, send};

#[test]
fn a20_bytes_that_are_no_text_are_kept_exactly() {
    let rig = Rig::new("[worker.web]\ncommand = [\"sh\", \"-c\", \"cat {dir}/bytes; exec sleep 999\"]\n");
    // Every byte value, with line ends in between so that no line has to be split.
    let bytes: Vec<u8> =
        (0..64 * 1024_u32).map(|at| if at % 100 == 99 { b'\n' } else { (at * 7 % 256) as u8 }).collect();
    fs::write(rig.path("bytes"), &bytes).unwrap();
    let mut rig = rig;
    rig.launch();
    let log = rig.path(".regrow/logs/web.log");
    rig.wait("the log is whole", || fs::metadata(&log).is_ok_and(|meta| meta.len() >= bytes.len() as u64));
    assert_eq!(fs::read(&log).unwrap(), bytes);
    let shown = rig.regrow(&["logs", "web", "--tail", "5"]);
    assert!(shown.status.success());
}

#[test]
fn a18_a_flood_of_output_hurts_nobody_else() {
    let rig = Rig::start(
        "[worker.flood]\ncommand = [\"yes\", \"0123456789012345678901234567890123456789\"]\n\
         log = { max_size = \"1MiB\", keep = 2 }\n[worker.web]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {dir}/starts; exec sleep 999\"]\n",
    );
    rig.wait("lines were dropped", || dropped(&rig) > 0);
    let before = rss_kib(rig.runtime());
    let mut took = Vec::new();
    let yardstick = Yardstick::begin();
    for round in 1..=10 {
        let began = Instant::now();
        send(*pids(&rig).last().unwrap(), Signal::KILL);
        while pids(&rig).len() <= round {
            assert!(began.elapsed() < PATIENCE, "web is not back");
            std::thread::park_timeout(Duration::from_millis(1));
        }
        took.push(began.elapsed());
        rig.wait_status("web", "healthy");
        rig.ok(&["reset-failed", "web"]);
    }
    // Others share the machine with these tests; the flood, which never pauses, would hold up every round.
    took.sort();
    let bound = yardstick.allows(Duration::from_millis(100));
    assert!(took[took.len() / 2] < bound, "{took:?}, allowed {bound:?}");
    let growth = rss_kib(rig.runtime()).saturating_sub(before);
    assert!(growth < 64 * 1024, "{growth} KiB");
    let logs: u64 = fs::read_dir(rig.path(".regrow/logs"))
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry
                .file_name()
                .to_str()?
                .starts_with("flood.log")
                .then(|| entry.metadata().map_or(0, |meta| meta.len()))
        })
        .sum();
    assert!(logs <= 3 * (1 << 20) + (128 << 10), "{logs} bytes of logs");
}

fn dropped(rig: &Rig) -> u64 {
    let described: serde_json::Value =
        serde_json::from_str(&rig.ok(&["describe", "flood", "-o", "json"])).unwrap();
    find(&described, "dropped").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

fn find<'a>(value: &'a serde_json::Value, key: &str) -> Option<&'a serde_json::Value> {
    match value {
        serde_json::Value::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|below| find(below, key)))
        }
        serde_json::Value::Array(list) => list.iter().find_map(|below| find(below, key)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => None,
    }
}

fn rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

#[test]
fn a21_one_endless_line_is_split_and_memory_stays_flat() {
    // Beyond the burst that is taken at once, and so read at the pace of a flood.
    endless_line("64000000", Duration::from_secs(30));
}

#[test]
#[ignore = "a gigabyte at the pace of a flood takes a minute: tests/run --full does that"]
fn a21_a_line_of_a_gigabyte_is_split_and_memory_stays_flat() {
    endless_line("1073741824", Duration::from_secs(300));
}

fn endless_line(bytes: &str, patience: Duration) {
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"head -c {bytes} /dev/zero; echo; echo over; exec sleep 999\"]\n\
         ready = {{ log = \"^over$\" }}\nstart_timeout = \"10m\"\nlog = {{ max_size = \"4MiB\", keep = 1 }}\n",
    ));
    let mut most = 0;
    let end = Instant::now() + patience;
    while rig.worker("web")["status"] != "healthy" {
        most = most.max(rss_kib(rig.runtime()));
        assert!(Instant::now() < end, "the line has no end after {patience:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(most < 64 * 1024, "{most} KiB");
    // Most of it is in the log before the newest.
    let mark = "[line split]".as_bytes();
    let logs = ["web.log.1", "web.log"].map(|name| fs::read(rig.path(".regrow/logs").join(name)));
    let logs = logs.map(Result::unwrap_or_default);
    assert!(logs.iter().any(|log| log.windows(mark.len()).any(|part| part == mark)), "it was not said");
    let longest = logs.iter().flat_map(|log| log.split(|byte| *byte == b'\n')).map(<[u8]>::len).max();
    assert!(longest < Some((64 << 10) + 100), "a line of {longest:?} bytes");
}

#[test]
fn a22_a_worker_that_closes_its_output_lives_on() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"exec >&- 2>&-; echo $$ >> {dir}/starts; exec sleep 999\"]\n\
         [worker.tick]\ncommand = [\"sh\", \"-c\", \"while :; do echo x >> {dir}/tick; sleep 0.05; done\"]\n",
    );
    rig.wait("time passed", || rig.witness("tick").len() > 10);
    assert_eq!(rig.witness("starts").len(), 1);
    assert_eq!(rig.worker("web")["status"], "healthy");
}
