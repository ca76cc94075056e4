//! The metrics page: Prometheus text, OpenMetrics or JSON, written in one pass into one buffer.
//!
//! It keeps no registry. Every scrape is rendered from the state as it is, so the series of a removed worker
//! are gone at the next scrape and no figure can drift from what `status` shows. The price is that a scrape
//! costs time in proportion to the workers: some milliseconds for a thousand.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::event::EventKind;
use crate::health::Grade;

use super::looks::LOOK_BUCKETS;
use super::names::{self, Family, MetricKind};
use super::sample::{CardSample, Histogram, OwnSample, WorkerSample};

/// The states of a breaker.
const BREAKER_WORDS: [&str; 3] = ["closed", "open", "half_open"];

/// The contract's words for a status, in the order in which the first that applies is taken.
pub const STATUS_WORDS: [&str; 15] = [
    "stopped",
    "paused",
    "done",
    "quarantined",
    "stuck",
    "recovering",
    "dead",
    "unresponsive",
    "unhealthy",
    "slow",
    "degraded",
    "starting",
    "working",
    "healthy",
    "unknown",
];

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageFormat {
    /// Prometheus text exposition 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The same figures as JSON.
    Json,
}

impl PageFormat {
    /// Chosen by an `Accept` header.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else if accept.contains("application/json") && !accept.contains("text/plain") {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// The `Content-Type` to answer with.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

/// Everything one page is made of.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// Version of this build.
    pub version: &'static str,
    /// `runtime.name`.
    pub runtime: String,
    /// Every instance.
    pub workers: Vec<WorkerSample>,
    /// Every supervisor's name.
    pub supervisors: Vec<String>,
    /// Events by kind.
    pub events: Vec<(EventKind, u64)>,
    /// Events lost by followers.
    pub events_dropped: u64,
    /// How late the control plane's timers are.
    pub lag_seconds: f64,
    /// Stale messages.
    pub stale: u64,
    /// Whether the last reading of the configuration was taken over.
    pub config_ok: bool,
    /// How full the disks are that probes have looked at, by the path of the file.
    pub disks: BTreeMap<String, f64>,
    /// The runtime's own process.
    pub own: Option<OwnSample>,
    /// The seeds' names too.
    pub seed_names: bool,
}

impl Scrape {
    /// Writes the page.
    #[must_use]
    pub fn render(&self, format: PageFormat) -> String {
        let mut page = Page::new(format, self.workers.len());
        self.runtime_families(&mut page);
        self.worker_families(&mut page);
        if let Some(own) = &self.own {
            own_families(own, &mut page);
        }
        if self.seed_names {
            self.seed_families(&mut page);
        }
        page.finish()
    }

    fn runtime_families(&self, page: &mut Page) {
        page.family(names::BUILD_INFO);
        page.sample(&[("version", self.version), ("runtime", &self.runtime)], 1.0);
        page.family(names::WORKERS);
        let mut counts = BTreeMap::<(&str, &str), u64>::new();
        for worker in &self.workers {
            *counts.entry((&worker.supervisor, worker.status)).or_default() += 1;
        }
        for supervisor in &self.supervisors {
            for status in STATUS_WORDS {
                let count = counts.get(&(supervisor.as_str(), status)).copied().unwrap_or(0);
                page.sample(&[("supervisor", supervisor), ("status", status)], count as f64);
            }
        }
        page.family(names::EVENTS);
        for (kind, count) in &self.events {
            page.sample(&[("kind", kind.word())], *count as f64);
        }
        page.family(names::EVENTS_DROPPED);
        page.sample(&[], self.events_dropped as f64);
        page.family(names::LAG);
        page.sample(&[], self.lag_seconds);
        page.family(names::CONFIG_OK);
        page.sample(&[], f64::from(u8::from(self.config_ok)));
        page.family(names::STALE);
        page.sample(&[], self.stale as f64);
        page.family(names::DISK);
        for (path, ratio) in &self.disks {
            page.sample(&[("path", path)], *ratio);
        }
    }

    fn worker_families(&self, page: &mut Page) {
        self.each(page, names::UP, |worker| Some(f64::from(u8::from(worker.up))));
        page.family(names::STATUS);
        for worker in &self.workers {
            for status in STATUS_WORDS {
                let labels = [worker.id(), worker.by(), ("status", status)];
                page.sample(&labels, f64::from(u8::from(worker.status == status)));
            }
        }
        self.each(page, names::SCORE, |worker| worker.score);
        page.family(names::RESTARTS);
        for worker in &self.workers {
            for (cause, count) in &worker.restarts {
                page.sample(&[worker.id(), worker.by(), ("cause", cause.word())], *count as f64);
            }
        }
        page.family(names::RECOVERIES);
        for worker in &self.workers {
            for ((strategy, outcome), count) in &worker.recoveries {
                let labels = [worker.id(), worker.by(), ("strategy", strategy), ("outcome", outcome)];
                page.sample(&labels, *count as f64);
            }
        }
        page.family(names::BREAKER);
        for worker in &self.workers {
            for state in BREAKER_WORDS {
                let labels = [worker.id(), worker.by(), ("state", state)];
                page.sample(&labels, f64::from(u8::from(worker.breaker == state)));
            }
        }
        self.incident_family(page, names::DETECTION, |worker| worker.detection.as_ref());
        self.incident_family(page, names::RECOVERY, |worker| worker.recovery.as_ref());
        self.each(page, names::STARTED, |worker| worker.started_at);
        self.each(page, names::CPU, |worker| worker.cpu_seconds);
        self.each(page, names::CPU_USAGE, |worker| worker.cpu_percent.map(|percent| percent / 100.0));
        self.each(page, names::MEMORY, |worker| worker.memory_bytes.map(|bytes| bytes as f64));
        self.each(page, names::WORKING_SET, |worker| worker.working_set_bytes.map(|bytes| bytes as f64));
        self.each(page, names::MEMORY_LIMIT, |worker| worker.memory_limit_bytes.map(|bytes| bytes as f64));
        self.each_card(page, names::GPU_MEMORY, |card| Some(card.memory_used_ratio));
        self.each_card(page, names::GPU_USAGE, |card| card.utilization_ratio);
        self.each(page, names::FILES, |worker| worker.open_files.map(|count| count as f64));
        self.each(page, names::HEARTBEAT, |worker| worker.heartbeat_at);
        self.probe_families(page);
        self.each(page, names::LINES_DROPPED, |worker| Some(worker.lines_dropped as f64));
    }

    /// Who had no incident has no series.
    fn incident_family(
        &self,
        page: &mut Page,
        family: Family,
        of: impl Fn(&WorkerSample) -> Option<&Histogram>,
    ) {
        page.family(family);
        for worker in &self.workers {
            if let Some(spread) = of(worker) {
                let total = (spread.count, spread.sum_seconds);
                page.histogram(&[worker.id(), worker.by()], spread.buckets.iter().copied(), total);
            }
        }
    }

    fn probe_families(&self, page: &mut Page) {
        page.family(names::PROBE_RESULTS);
        for worker in &self.workers {
            for (probe, look) in &worker.probes {
                for (grade, count) in Grade::ALL.iter().zip(look.counts) {
                    let labels = [worker.id(), worker.by(), ("probe", &**probe), ("result", grade.word())];
                    page.sample(&labels, count as f64);
                }
            }
        }
        page.family(names::PROBE_SECONDS);
        for worker in &self.workers {
            for (probe, look) in &worker.probes {
                let buckets = LOOK_BUCKETS.iter().copied().zip(look.buckets);
                let total = (look.counts.iter().sum(), look.sum_seconds);
                page.histogram(&[worker.id(), worker.by(), ("probe", &**probe)], buckets, total);
            }
        }
    }

    fn seed_families(&self, page: &mut Page) {
        let mib = |worker: &WorkerSample| worker.memory_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
        self.each_seed(page, names::SEED_STATUS, |worker| Some(f64::from(u8::from(worker.healthy))));
        self.each_seed(page, names::SEED_SCORE, |worker| worker.score);
        self.each_seed(page, names::SEED_CPU_USAGE, |worker| worker.cpu_percent);
        self.each_seed(page, names::SEED_CPU_PERCENT, |worker| worker.cpu_percent);
        self.each_seed(page, names::SEED_MEMORY_USAGE, mib);
        self.each_seed(page, names::SEED_MEMORY_MB, mib);
        page.family(names::SEED_TOTAL);
        page.sample(&[], self.workers.len() as f64);
        page.family(names::SEED_HEALTHY);
        page.sample(&[], self.workers.iter().filter(|worker| worker.healthy).count() as f64);
    }

    fn each(&self, page: &mut Page, family: Family, value: impl Fn(&WorkerSample) -> Option<f64>) {
        page.family(family);
        for worker in &self.workers {
            if let Some(value) = value(worker) {
                page.sample(&[worker.id(), worker.by()], value);
            }
        }
    }

    fn each_card(&self, page: &mut Page, family: Family, value: impl Fn(&CardSample) -> Option<f64>) {
        page.family(family);
        for worker in &self.workers {
            for card in &worker.cards {
                if let Some(value) = value(card) {
                    page.sample(&[worker.id(), worker.by(), ("gpu", &card.gpu)], value);
                }
            }
        }
    }

    fn each_seed(&self, page: &mut Page, family: Family, value: impl Fn(&WorkerSample) -> Option<f64>) {
        page.family(family);
        for worker in &self.workers {
            if let Some(value) = value(worker) {
                page.sample(&[worker.id()], value);
            }
        }
    }
}

fn own_families(own: &OwnSample, page: &mut Page) {
    let figures = [
        (names::PROCESS_CPU, Some(own.cpu_seconds)),
        (names::PROCESS_MEMORY, Some(own.resident_bytes as f64)),
        (names::PROCESS_VIRTUAL, Some(own.virtual_bytes as f64)),
        (names::PROCESS_THREADS, Some(own.threads as f64)),
        (names::PROCESS_FILES, own.open_files.map(|count| count as f64)),
        (names::PROCESS_MAX_FILES, own.max_files.map(|count| count as f64)),
        (names::PROCESS_STARTED, own.started_at),
    ];
    for (family, value) in figures {
        if let Some(value) = value {
            page.family(family);
            page.sample(&[], value);
        }
    }
}

/// The buffer, and the family whose samples are being written. A family without samples leaves no trace.
struct Page {
    out: String,
    format: PageFormat,
    pending: Option<Family>,
    open: Option<Family>,
}

impl Page {
    fn new(format: PageFormat, workers: usize) -> Self {
        let mut out = String::with_capacity(8192 + workers * 4096);
        if format == PageFormat::Json {
            out.push_str(r#"{"schema":"regrow.metrics/1","metrics":["#);
        }
        Self { out, format, pending: None, open: None }
    }

    fn family(&mut self, family: Family) {
        self.pending = Some(family);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        let first = self.pending.is_some();
        if let Some(family) = self.pending.take() {
            self.begin(family);
        }
        let Some(family) = self.open else { return };
        match self.format {
            PageFormat::Text | PageFormat::OpenMetrics => self.text_sample(family.name, "", labels, value),
            PageFormat::Json => self.json_sample(first, labels, value),
        }
    }

    /// All samples of one histogram. JSON has one name for all of them, so a label says which is which there.
    fn histogram(
        &mut self,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (f64, u64)>,
        (count, sum_seconds): (u64, f64),
    ) {
        let mut one = |suffix: &str, more: Option<(&str, &str)>, value: f64| {
            let first = self.pending.is_some();
            if let Some(family) = self.pending.take() {
                self.begin(family);
            }
            let Some(family) = self.open else { return };
            let mut all: Vec<(&str, &str)> = labels.to_vec();
            all.extend(more);
            match self.format {
                PageFormat::Text | PageFormat::OpenMetrics => {
                    self.text_sample(family.name, suffix, &all, value);
                }
                PageFormat::Json => {
                    all.push(("sample", suffix.trim_start_matches('_')));
                    self.json_sample(first, &all, value);
                }
            }
        };
        let mut below = 0;
        for (end, within) in buckets {
            below += within;
            one("_bucket", Some(("le", &end.to_string())), below as f64);
        }
        one("_bucket", Some(("le", "+Inf")), count as f64);
        one("_sum", None, sum_seconds);
        one("_count", None, count as f64);
    }

    fn begin(&mut self, family: Family) {
        let (kind, base) = match family.kind {
            MetricKind::Gauge => ("gauge", family.name),
            MetricKind::Histogram => ("histogram", family.name),
            // OpenMetrics names the family without the suffix of its samples.
            MetricKind::Counter if self.format == PageFormat::OpenMetrics => {
                ("counter", family.name.trim_end_matches("_total"))
            }
            MetricKind::Counter => ("counter", family.name),
        };
        match self.format {
            PageFormat::Text | PageFormat::OpenMetrics => {
                let help = family.help;
                let _ = writeln!(self.out, "# HELP {base} {help}\n# TYPE {base} {kind}");
            }
            PageFormat::Json => {
                self.out.push_str(if self.open.is_some() { "]}," } else { "" });
                let (name, help) = (family.name, serde_json::Value::from(family.help));
                let _ = write!(self.out, r#"{{"name":"{name}","type":"{kind}","help":{help},"samples":["#);
            }
        }
        self.open = Some(family);
    }

    fn text_sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(name);
        self.out.push_str(suffix);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { '{' } else { ',' });
            self.out.push_str(label);
            self.out.push_str("=\"");
            escape_label(&mut self.out, text);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    fn json_sample(&mut self, first: bool, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(if first { r#"{"labels":{"# } else { r#",{"labels":{"# });
        for (at, (label, text)) in labels.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(self.out, r#"{comma}"{label}":{}"#, serde_json::Value::from(*text));
        }
        let _ = write!(self.out, r#"}},"value":{}}}"#, serde_json::Value::from(value));
    }

    fn finish(mut self) -> String {
        match self.format {
            PageFormat::Text => {}
            PageFormat::OpenMetrics => self.out.push_str("# EOF\n"),
            PageFormat::Json => {
                self.out.push_str(if self.open.is_some() { "]}]}" } else { "]}" });
            }
        }
        self.out
    }
}

/// The format's three escapes; everything else stands as it is.
fn escape_label(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}
