//! The metrics page parses, whatever is in it, and says what the board says.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::collections::{BTreeMap, BTreeSet};

use regrow::event::{Cause, EventKind};
use regrow::health::Grade;
use regrow::id::Incarnation;
use regrow::supervisor::Recovering;
use regrow::telemetry::{
    CardSample, Histogram, LOOK_BUCKETS, LookState, OwnSample, PageFormat, Scrape, WorkerSample,
};

use crate::fake::{Fake, id};

type Labels = BTreeMap<String, String>;

/// A strict reader of the text format: every sample under its TYPE, families whole, labels escaped, no twins.
struct Page {
    samples: Vec<(String, Labels, f64)>,
}

impl Page {
    fn parse(text: &str, openmetrics: bool) -> Self {
        assert!(text.ends_with('\n'));
        let (mut family, mut kind) = (String::new(), String::new());
        let mut seen_families = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut samples = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line == "# EOF" {
                assert!(openmetrics && lines.peek().is_none(), "EOF is the last line of OpenMetrics only");
                return Self { samples };
            }
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(seen_families.insert(family.clone()), "{family} stands twice");
                let next = lines.next().unwrap();
                kind = next.strip_prefix(&format!("# TYPE {family} ")).unwrap().to_owned();
                assert!(["gauge", "counter", "histogram"].contains(&kind.as_str()));
                continue;
            }
            let (name, labels, value) = parse_sample(line);
            let expected =
                if openmetrics && kind == "counter" { format!("{family}_total") } else { family.clone() };
            match name.strip_prefix(family.as_str()).filter(|_| kind == "histogram") {
                Some(suffix) => {
                    assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                    assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line}");
                }
                None => assert_eq!(name, expected, "a sample outside its family"),
            }
            assert!(kind != "counter" || name.ends_with("_total"), "{name}");
            assert!(seen.insert((name.clone(), labels.clone())), "{line} stands twice");
            samples.push((name, labels, value));
        }
        assert!(!openmetrics, "no EOF");
        Self { samples }
    }

    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits = |have: &Labels| {
            labels.iter().all(|(key, value)| have.get(*key).is_some_and(|text| text == value))
        };
        self.samples.iter().find(|(one, have, _)| one == name && fits(have)).map(|(_, _, value)| *value)
    }

    fn count(&self, name: &str) -> usize {
        self.samples.iter().filter(|(one, ..)| one == name).count()
    }
}

fn parse_sample(line: &str) -> (String, Labels, f64) {
    let name_end = line.find(['{', ' ']).unwrap();
    let name = &line[..name_end];
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
    let mut labels = Labels::new();
    let mut rest = &line[name_end..];
    if let Some(inside) = rest.strip_prefix('{') {
        let mut chars = inside.char_indices();
        let mut from = 0;
        loop {
            let equals = inside[from..].find("=\"").unwrap() + from;
            let key = &inside[from..equals];
            assert!(!key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            let mut value = String::new();
            let mut escaped = false;
            let mut end = 0;
            for (at, c) in chars.by_ref() {
                if at < equals + 2 {
                    continue;
                }
                match (escaped, c) {
                    (false, '\\') => escaped = true,
                    (false, '"') => {
                        end = at + 1;
                        break;
                    }
                    (false, c) => value.push(c),
                    (true, 'n') => (value.push('\n'), escaped = false).1,
                    (true, c @ ('\\' | '"')) => (value.push(c), escaped = false).1,
                    (true, c) => panic!("bad escape \\{c} in {line}"),
                }
            }
            assert!(end > 0, "open quote in {line}");
            assert!(labels.insert(key.to_owned(), value).is_none(), "a label stands twice in {line}");
            match &inside[end..=end] {
                "," => from = end + 1,
                "}" => {
                    rest = &inside[end + 1..];
                    break;
                }
                other => panic!("{other:?} in {line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    (name.to_owned(), labels, value)
}

fn scrape(fake: &Fake) -> Page {
    let answer = fake.get("/metrics");
    assert!(answer.head.contains("text/plain; version=0.0.4"));
    Page::parse(&answer.body, false)
}

#[test]
fn the_page_says_what_the_board_says() {
    let fake = Fake::start();
    fake.board.count_stale();
    let page = scrape(&fake);
    assert_eq!(
        page.get("regrow_build_info", &[("runtime", "orders"), ("version", env!("CARGO_PKG_VERSION"))]),
        Some(1.0)
    );
    assert_eq!(page.get("regrow_workers", &[("supervisor", "ingest"), ("status", "quarantined")]), Some(1.0));
    assert_eq!(page.get("regrow_workers", &[("supervisor", "root"), ("status", "stopped")]), Some(1.0));
    assert_eq!(page.get("regrow_worker_up", &[("worker_id", "broker")]), Some(1.0));
    assert_eq!(page.get("regrow_worker_up", &[("worker_id", "parser/0")]), Some(0.0));
    let on: Vec<_> = page
        .samples
        .iter()
        .filter(|(name, _, value)| name == "regrow_worker_status" && *value == 1.0)
        .collect();
    assert_eq!(on.len(), 4, "one hot per instance");
    assert_eq!(
        page.get("regrow_worker_restarts_total", &[("worker_id", "parser/1"), ("cause", "oom")]),
        Some(10.0)
    );
    assert_eq!(page.get("regrow_worker_health_score", &[("worker_id", "web")]), None, "no data is no sample");
    assert!(page.get("regrow_worker_memory_bytes", &[("worker_id", "broker")]).unwrap() > 1e6);
    assert!(page.get("regrow_worker_open_file_descriptors", &[("worker_id", "broker")]).unwrap() > 3.0);
    assert!(page.get("regrow_worker_cpu_seconds_total", &[("worker_id", "broker")]).is_some());
    assert!(page.get("regrow_worker_cpu_usage_ratio", &[("worker_id", "broker")]).is_some());
    let attempts = |outcome| {
        let labels = [("worker_id", "parser/0"), ("strategy", "soft_restart"), ("outcome", outcome)];
        page.get("regrow_recovery_attempts_total", &labels)
    };
    assert_eq!(
        (attempts("ok"), attempts("failed"), attempts("interrupted")),
        (Some(1.0), Some(1.0), Some(0.0))
    );
    assert!(page.get("regrow_runtime_lag_seconds", &[]).unwrap() < 60.0);
    assert_eq!(page.get("regrow_stale_messages_total", &[]), Some(1.0));
    assert_eq!(page.get("system_total_workers", &[]), Some(4.0));
    assert_eq!(page.get("system_healthy_workers", &[]), Some(1.0));
    assert_eq!(page.get("worker_health_status", &[("worker_id", "broker")]), Some(1.0));
    assert!(page.get("worker_memory_mb", &[("worker_id", "broker")]).unwrap() > 1.0);
    let now = jiff::Timestamp::now().as_second() as f64;
    assert!((now - page.get("process_start_time_seconds", &[]).unwrap()).abs() < 3600.0);
    assert!(page.get("process_max_fds", &[]).unwrap() > 0.0);
}

#[test]
fn who_must_still_hold_after_an_incident_is_counted_as_healthy_nowhere() {
    let fake = Fake::start();
    ["parser/0", "parser/1"].iter().for_each(|one| fake.board.remove(&id(one)));
    let counts = || {
        let of = |path: &str| fake.get(path).json();
        let (status, health) = (of("/api/v1/status"), of("/health"));
        let page = scrape(&fake);
        let seed = page.get("worker_health_status", &[("worker_id", "broker")]);
        let labels = [("supervisor", "ingest"), ("status", "healthy")];
        let figures = [seed, page.get("system_healthy_workers", &[]), page.get("regrow_workers", &labels)];
        let listed = of("/health/workers")["healthy_workers"].as_f64();
        let totals = status["totals"]["healthy_workers"].as_f64();
        let code = fake.regrow(&["is-healthy", "broker"]).status.code();
        let all = [totals, health["healthy_workers"].as_f64(), listed].into_iter().chain(figures);
        (all.map(Option::unwrap).collect::<Vec<_>>(), health["status"].clone(), code)
    };
    assert_eq!(counts(), (vec![1.0; 6], "healthy".into(), Some(0)));
    fake.board.update(&id("broker"), |broker| {
        broker.recovery = Some(Box::new(Recovering {
            incident: "inc-1".into(),
            cause: "crash".into(),
            strategy: None,
            stage: "verifying",
            until: None,
        }));
    });
    assert_eq!(counts(), (vec![0.0; 6], "degraded".into(), Some(3)));
}

#[test]
fn a_removed_workers_series_are_gone() {
    let fake = Fake::start();
    fake.board.remove(&id("parser/1"));
    let page = scrape(&fake);
    assert!(!page.samples.iter().any(|(_, labels, _)| labels.values().any(|value| value == "parser/1")));
    assert_eq!(page.get("regrow_workers", &[("supervisor", "ingest"), ("status", "quarantined")]), Some(0.0));
    assert_eq!(page.count("regrow_worker_up"), 3);
}

#[test]
fn openmetrics_and_json_on_request() {
    let fake = Fake::start();
    let open = fake.ask("GET", "/metrics", "accept: application/openmetrics-text; version=1.0.0\r\n", "");
    assert!(open.head.contains("application/openmetrics-text; version=1.0.0"));
    let page = Page::parse(&open.body, true);
    assert_eq!(
        page.get("regrow_worker_restarts_total", &[("worker_id", "parser/0"), ("cause", "crash")]),
        Some(2.0)
    );
    let json = fake.ask("GET", "/metrics", "accept: application/json\r\n", "").json();
    assert_eq!(json["schema"], "regrow.metrics/1");
    let names: Vec<_> =
        json["metrics"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"regrow_worker_up"));
    let text = scrape(&fake);
    let samples: usize =
        json["metrics"].as_array().unwrap().iter().map(|one| one["samples"].as_array().unwrap().len()).sum();
    assert_eq!(samples, text.samples.len(), "the same figures in both");
}

#[test]
fn hostile_labels_cannot_break_out() {
    let hostile = "a\"} 1\nregrow_worker_up{worker_id=\"evil\\";
    let worker = WorkerSample {
        worker_id: hostile.to_owned(),
        supervisor: "root".to_owned(),
        status: "healthy",
        up: true,
        restarts: vec![(Cause::Crash.into(), 1)],
        ..WorkerSample::default()
    };
    let scrape =
        Scrape { workers: vec![worker], runtime: "x\\y\n".to_owned(), seed_names: true, ..Scrape::default() };
    let page = Page::parse(&scrape.render(PageFormat::Text), false);
    assert_eq!(page.count("regrow_worker_up"), 1);
    assert_eq!(page.get("regrow_worker_up", &[("worker_id", hostile)]), Some(1.0));
    Page::parse(&scrape.render(PageFormat::OpenMetrics), true);
    let json: serde_json::Value = serde_json::from_str(&scrape.render(PageFormat::Json)).unwrap();
    assert_eq!(json["metrics"][0]["samples"][0]["labels"]["runtime"], "x\\y\n");
}

#[test]
fn an_empty_runtime_has_a_page_too() {
    let empty = Scrape::default();
    Page::parse(&empty.render(PageFormat::Text), false);
    Page::parse(&empty.render(PageFormat::OpenMetrics), true);
    let _: serde_json::Value = serde_json::from_str(&empty.render(PageFormat::Json)).unwrap();
}

#[test]
fn seed_names_can_be_left_out() {
    let fake = Fake::with(|settings| settings.telemetry.seed_names = false);
    let page = scrape(&fake);
    assert_eq!(page.get("system_total_workers", &[]), None);
    assert_eq!(page.count("regrow_worker_up"), 4);
}

#[test]
fn how_long_incidents_took_is_a_histogram_of_those_who_had_some() {
    let spread = Histogram { buckets: vec![(1.0, 2), (60.0, 1)], count: 4, sum_seconds: 1000.5 };
    let ill = WorkerSample {
        worker_id: "web/0".to_owned(),
        status: "healthy",
        recovery: Some(spread),
        ..WorkerSample::default()
    };
    let well = WorkerSample { worker_id: "web/1".to_owned(), status: "healthy", ..WorkerSample::default() };
    let scrape = Scrape { workers: vec![ill, well], ..Scrape::default() };
    const NAME: &str = "regrow_incident_recovery_duration_seconds";
    for (format, openmetrics) in [(PageFormat::Text, false), (PageFormat::OpenMetrics, true)] {
        let page = Page::parse(&scrape.render(format), openmetrics);
        let bucket = |le: &str| page.get(&format!("{NAME}_bucket"), &[("worker_id", "web/0"), ("le", le)]);
        assert_eq!((bucket("1"), bucket("60"), bucket("+Inf")), (Some(2.0), Some(3.0), Some(4.0)));
        assert_eq!(page.get(&format!("{NAME}_sum"), &[]), Some(1000.5));
        assert_eq!(page.count(&format!("{NAME}_count")), 1);
        assert_eq!(page.count("regrow_incident_detection_duration_seconds_count"), 0);
    }
    let json: serde_json::Value = serde_json::from_str(&scrape.render(PageFormat::Json)).unwrap();
    assert!(json.to_string().contains(NAME));
}

/// The contract's series (§5) that there are: name, type, labels.
const SERIES: &str = "
regrow_build_info gauge version runtime
regrow_workers gauge supervisor status
regrow_worker_up gauge worker_id supervisor
regrow_worker_status gauge worker_id supervisor status
regrow_worker_health_score gauge worker_id supervisor
regrow_worker_restarts_total counter worker_id supervisor cause
regrow_worker_start_time_seconds gauge worker_id supervisor
regrow_worker_cpu_seconds_total counter worker_id supervisor
regrow_worker_cpu_usage_ratio gauge worker_id supervisor
regrow_worker_memory_bytes gauge worker_id supervisor
regrow_worker_memory_working_set_bytes gauge worker_id supervisor
regrow_worker_memory_limit_bytes gauge worker_id supervisor
regrow_worker_open_file_descriptors gauge worker_id supervisor
regrow_worker_last_heartbeat_timestamp_seconds gauge worker_id supervisor
regrow_worker_gpu_memory_used_ratio gauge worker_id supervisor gpu
regrow_worker_gpu_utilization_ratio gauge worker_id supervisor gpu
regrow_disk_used_ratio gauge path
regrow_probe_duration_seconds histogram worker_id supervisor probe
regrow_probe_results_total counter worker_id supervisor probe result
regrow_recovery_attempts_total counter worker_id supervisor strategy outcome
regrow_incident_detection_duration_seconds histogram worker_id supervisor
regrow_incident_recovery_duration_seconds histogram worker_id supervisor
regrow_breaker_state gauge worker_id supervisor state
regrow_config_last_reload_successful gauge
regrow_runtime_lag_seconds gauge
regrow_events_total counter kind
regrow_events_dropped_total counter
regrow_stale_messages_total counter
regrow_log_lines_dropped_total counter worker_id supervisor
process_cpu_seconds_total counter
process_resident_memory_bytes gauge
process_virtual_memory_bytes gauge
process_threads gauge
process_open_fds gauge
process_max_fds gauge
process_start_time_seconds gauge
worker_health_status gauge worker_id
worker_health_score gauge worker_id
worker_cpu_usage gauge worker_id
worker_cpu_percent gauge worker_id
worker_memory_usage gauge worker_id
worker_memory_mb gauge worker_id
system_total_workers gauge
system_healthy_workers gauge
";

/// Nothing is left out of it.
fn all_there_is() -> Scrape {
    let look = LookState {
        incarnation: Incarnation(1),
        result: Grade::Pass,
        message: String::new(),
        metrics: Vec::new(),
        at: jiff::Timestamp::UNIX_EPOCH,
        seconds: 0.1,
        counts: [1, 0, 0, 0],
        buckets: [0; LOOK_BUCKETS.len()],
        sum_seconds: 0.1,
    };
    let spread = Some(Histogram { buckets: vec![(1.0, 1)], count: 1, sum_seconds: 0.5 });
    let card = CardSample { gpu: "0".to_owned(), memory_used_ratio: 0.5, utilization_ratio: Some(0.25) };
    let worker = WorkerSample {
        worker_id: "web".to_owned(),
        supervisor: "root".to_owned(),
        status: "healthy",
        healthy: true,
        up: true,
        score: Some(1.0),
        restarts: vec![(Cause::Crash.into(), 1)],
        recoveries: BTreeMap::from([(("soft_restart".to_owned(), "ok"), 1)]),
        breaker: "closed",
        detection: spread.clone(),
        recovery: spread,
        started_at: Some(1.0),
        cpu_seconds: Some(1.0),
        cpu_percent: Some(1.0),
        memory_bytes: Some(1),
        working_set_bytes: Some(1),
        memory_limit_bytes: Some(1),
        cards: vec![card],
        open_files: Some(1),
        heartbeat_at: Some(1.0),
        probes: vec![("alive".into(), look)],
        lines_dropped: 0,
    };
    let own =
        OwnSample { open_files: Some(1), max_files: Some(1), started_at: Some(1.0), ..OwnSample::default() };
    Scrape {
        workers: vec![worker],
        supervisors: vec!["root".to_owned()],
        events: vec![(EventKind::RuntimeStarted, 1)],
        disks: BTreeMap::from([("/".to_owned(), 0.5)]),
        own: Some(own),
        seed_names: true,
        ..Scrape::default()
    }
}

#[test]
fn every_series_of_the_contract_is_there_with_its_type_and_labels_and_no_other() {
    let text = all_there_is().render(PageFormat::Text);
    let page = Page::parse(&text, false);
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let suffix = if kind == "histogram" { "_sum" } else { "" };
        let of = page.samples.iter().find(|(one, ..)| *one == format!("{name}{suffix}"));
        let mut labels: Vec<&str> = of.unwrap().1.keys().map(String::as_str).collect();
        labels.sort_unstable();
        found.insert(format!("{name} {kind} {}", labels.join(" ")));
    }
    let in_order = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words[2..].sort_unstable();
        format!("{} {} {}", words[0], words[1], words[2..].join(" "))
    };
    let told: BTreeSet<String> = SERIES.trim().lines().map(in_order).collect();
    let missing: Vec<_> = told.difference(&found).collect();
    let more: Vec<_> = found.difference(&told).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing {missing:?}, not in the contract {more:?}");
}
