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

/// Processes that do nothing but burn.
struct Load(Vec<Child>);

impl Load {
    fn on_every_processor() -> Self {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let burn = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
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
    let points =
        history["items"].as_array().unwrap().iter().flat_map(|item| item["points"].as_array().unwrap());
    let filled = points.filter_map(|point| point["samples"].as_u64()).sum();
    let due = (lasted / SAMPLED.as_secs_f64()) as u64 * trial.workers as u64;
    Figures { lasted, halts, wrong, samples: (filled, due) }
}

/// A sample of everybody's health is due this often.
const SAMPLED: Duration = Duration::from_secs(10);
