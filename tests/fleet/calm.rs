//! A fleet that is well, on a machine that is not: every processor busy, and the runtime halted now and then.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::heal::Pace;
use super::{Fleet, HTTP, last};

/// What is done to a fleet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    /// So many workers.
    pub(crate) workers: usize,
    /// For so long.
    pub(crate) lasting: Duration,
    /// The runtime is halted this often.
    pub(crate) every: Duration,
    /// For so long.
    pub(crate) halt: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) lasted: f64,
    pub(crate) halts: usize,
    /// Restarts and incidents of workers that were well all the time.
    pub(crate) wrong: Vec<String>,
    /// Samples of their health that were kept, and that were due.
    pub(crate) samples: (u64, u64),
}

impl Figures {
    /// Filled of due samples, 0..1.
    pub(crate) fn data(&self) -> f64 {
        (self.samples.0 as f64 / self.samples.1.max(1) as f64).min(1.0)
    }
}

/// Processes that do nothing but burn, for as long as whoever started them lives.
struct Load(Vec<Child>);

const BURN: &str = "while kill -0 $PPID; do n=0; while [ $n -lt 100000 ]; do n=$((n + 1)); done; done";

impl Load {
    fn on_every_processor() -> Self {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let burn = |_| Command::new("sh").args(["-c", BURN]).spawn().unwrap();
        Self((0..count).map(burn).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for burner in &mut self.0 {
            let _ = burner.kill();
            let _ = burner.wait();
        }
    }
}

/// Lets it happen. Everything is as the defaults say; each worker has a heartbeat and an HTTP probe.
pub(crate) fn calm(regrow: &str, trial: Trial) -> Figures {
    let mut toml = format!(
        "[defaults.worker]\nready = \"notify\"\nheartbeat = {{ {} }}\n\
         probe.alive = {{ {HTTP} }}\n",
        Pace::Usual.heart()
    );
    for n in 0..trial.workers {
        toml.push_str(&format!("[worker.w{n}]\ncommand = [\"{{bin}}\", \"w{n}\", \"{{tell}}\"]\n"));
    }
    let fleet = Fleet::start(regrow, &[], &toml, trial.workers);
    let (began, load) = (Instant::now(), Load::on_every_processor());
    let mut halts = 0;
    while began.elapsed() < trial.lasting {
        std::thread::sleep(trial.every.saturating_sub(trial.halt));
        fleet.halt_runtime(trial.halt);
        halts += 1;
    }
    drop(load);
    // What was judged in the last halt would show now.
    std::thread::sleep(Duration::from_secs(5));
    let lasted = began.elapsed().as_secs_f64();
    let mut wrong = Vec::new();
    for (name, lives) in &fleet.lives() {
        if lives.len() != 1 {
            wrong.push(format!("{name} was well and was restarted {} times", lives.len() - 1));
        }
        if last(lives).checked.is_none() {
            wrong.push(format!("{name} has passed no check"));
        }
    }
    let incidents = fleet.json("/api/v1/incidents");
    for one in incidents["items"].as_array().unwrap() {
        wrong.push(format!("{} was well and had an incident: {}", one["instance"], one["message"]));
    }
    let history = fleet.json("/api/v1/history?hours=1");
    let counts = history["items"].as_array().unwrap().iter().map(|item| filled_and_due(&item["points"]));
    let samples = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    Figures { lasted, halts, wrong, samples }
}

/// How many samples there are, and how many there would be if none were missing between the first and the last.
fn filled_and_due(points: &serde_json::Value) -> (u64, u64) {
    let points = points.as_array().unwrap();
    let at = |point: Option<&serde_json::Value>| -> jiff::Timestamp {
        point.unwrap()["at"].as_str().unwrap().parse().unwrap()
    };
    let span = at(points.last()).duration_since(at(points.first())).as_secs_f64();
    let filled = points.iter().filter_map(|point| point["samples"].as_u64()).sum();
    (filled, (span / SAMPLED.as_secs_f64()).round() as u64 + 1)
}

/// A sample of everybody's health is due this often.
const SAMPLED: Duration = Duration::from_secs(10);
