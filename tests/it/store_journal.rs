//! What the runtime remembers over its own end: events under their numbers, and totals.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::config_live::page;
use crate::hardship::TinyDisk;
use crate::rig::{Rig, root_or_skip};
use crate::sim::dice::Dice;
use crate::sim::seed::seed;

/// Ends at once, again and again.
const CRASHING: &str = "[supervisor.root]\nintensity = { max_restarts = 100000, within = \"1m\" }\n\
    [defaults.worker]\ncommand = [\"false\"]\nbackoff = { first = \"20ms\", factor = 1.0, max = \"20ms\" }\n\
    [worker.a]\n[worker.b]\n[worker.c]\n";

fn events(rig: &Rig) -> Vec<Value> {
    let text = rig.ok(&["events", "--since", "1h", "-o", "jsonl"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap()
}

/// A client that writes down every event that it is shown.
struct Follower {
    process: Child,
    file: String,
}

impl Follower {
    fn start(rig: &Rig, round: usize) -> Self {
        let file = format!("seen-{round}");
        let out = std::fs::File::create(rig.path(&file)).unwrap();
        let mut command = rig.command(&["events", "-f", "-o", "jsonl"]);
        let process = command.stdin(Stdio::null()).stdout(out).stderr(Stdio::null()).spawn().unwrap();
        Self { process, file }
    }

    /// Whole lines only: the last one may be cut off.
    fn seen(&self, rig: &Rig) -> Vec<Value> {
        let text = rig.text(&self.file);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn c1_numbers_of_events_go_on_over_kills_and_what_a_client_saw_is_there() {
    let mut dice = Dice::new(seed().wrapping_add(0x5709e));
    let mut rig = Rig::start(CRASHING);
    let mut seen: BTreeMap<u64, Value> = BTreeMap::new();
    for round in 0..6 {
        let follower = Follower::start(&rig, round);
        let enough = 5 + dice.below(40);
        rig.wait("the client was shown some events", || follower.seen(&rig).len() >= enough);
        rig.kill_runtime();
        for event in follower.seen(&rig) {
            let before = seen.insert(number(&event), event.clone());
            assert!(before.is_none_or(|before| before == event), "a number has one event: {event}");
        }
        rig.launch();
    }
    let kept = events(&rig);
    let numbers: Vec<u64> = kept.iter().map(number).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "no gap, no repetition");
    for (seq, event) in &seen {
        assert_eq!(kept[*seq as usize - 1], *event, "what was shown is what is kept");
    }
    let starts = kept.iter().filter(|event| event["kind"] == "runtime.started").count();
    assert_eq!(starts, 7);
}

#[test]
fn events_and_totals_go_on_over_an_orderly_restart() {
    let mut rig = Rig::start("[worker.web]\ncommand = [\"sleep\", \"999\"]\n");
    for restarts in 1..=3 {
        rig.wait_status("web", "healthy");
        rig.ok(&["restart", "web", "--wait"]);
        assert_eq!(rig.worker("web")["restarts"], restarts);
    }
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("web", "healthy");
    let status = rig.status();
    assert_eq!(status["totals"]["restarts_total"], 3, "{status}");
    assert_eq!(rig.worker("web")["incarnation"], 5, "four starts of the runtime before");
    let kept = events(&rig);
    let last = |kind: &str| kept.iter().rposition(|event| event["kind"] == kind).unwrap();
    assert!(last("runtime.stopping") < last("runtime.started"), "both runtimes are in it");
    let stopped = kept.iter().filter(|event| event["kind"] == "worker.stopped").count();
    assert_eq!(stopped, 4, "three restarts and the end, which was the last thing before the end");
    let described = rig.ok(&["describe", "web"]);
    assert!(described.contains("operator 3"), "{described}");
    let paged = rig.ok(&["events", "-o", "jsonl"]);
    assert_eq!(paged.lines().count(), events(&rig).len(), "without --since too");
}

#[test]
fn counts_of_the_metrics_page_go_on_over_an_orderly_restart() {
    let toml = |period: &str| {
        format!(
            "[worker.web]\ncommand = [\"sleep\", \"999\"]\nprobe.alive = {{ exec = [\"true\"], period = \"{period}\" }}\n"
        )
    };
    let mut rig = Rig::start(&toml("100ms"));
    let series =
        "regrow_probe_results_total{worker_id=\"web\",supervisor=\"root\",probe=\"alive\",result=\"pass\"} ";
    let looks = |rig: &Rig| -> u64 {
        let page = page(rig, "GET", "/metrics");
        page.lines().find_map(|line| line.strip_prefix(series)).map_or(0, |count| count.parse().unwrap())
    };
    rig.wait("it was looked at a few times", || looks(&rig) >= 5);
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    // This one looks once, and no second time for long.
    rig.configure(&toml("1h"));
    rig.launch();
    rig.wait("the count goes on", || looks(&rig) > 5);
}

#[test]
fn a_stream_begins_where_the_client_was_also_before_this_runtime() {
    let mut rig = Rig::start("[worker.web]\ncommand = [\"sleep\", \"999\"]\n");
    rig.wait_status("web", "healthy");
    rig.kill_runtime();
    rig.launch();
    rig.wait_status("web", "healthy");
    let out = std::fs::File::create(rig.path("followed")).unwrap();
    let mut command = rig.command(&["events", "-f", "--since", "1h", "-o", "jsonl"]);
    let mut process = command.stdin(Stdio::null()).stdout(out).spawn().unwrap();
    let numbers = || -> Vec<u64> {
        let text = rig.text("followed");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| number(&serde_json::from_str(line).unwrap())).collect()
    };
    let all = events(&rig).len();
    rig.wait("everything came", || numbers().len() >= all);
    let _ = process.kill();
    let _ = process.wait();
    let came = numbers();
    assert_eq!(came, (1..=came.len() as u64).collect::<Vec<_>>());
}

#[test]
fn c7_events_of_a_full_disk_are_kept_once_there_is_room() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=3m") else { return };
    let rig = Rig::start(&format!("[runtime]\nstate_dir = \"{}\"\n{CRASHING}", disk.path()));
    rig.wait("events are kept", || events(&rig).len() > 20);
    let filler = std::path::Path::new(&disk.path()).join("filler");
    // It ends with the room.
    assert!(std::fs::write(&filler, vec![0; 4 << 20]).is_err());
    let notes = || rig.status()["runtime"]["notes"].to_string();
    rig.wait("the full disk is named", || notes().contains("the disk is full"));
    let restarts = || rig.status()["totals"]["restarts_total"].as_u64().unwrap();
    let before = restarts();
    rig.wait("supervision goes on", || restarts() > before);
    std::fs::remove_file(&filler).unwrap();
    rig.wait("it recovers by itself", || !notes().contains("the disk is full"));
    let numbers: Vec<u64> = events(&rig).iter().map(number).collect();
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).collect::<Vec<_>>(),
        "and nothing is missing: {}",
        notes()
    );
}
