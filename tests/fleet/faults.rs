//! Faults injected into a fleet, one kind after the other, beside disturbances that are no faults: what heals by
//! itself, how soon, and whether anybody is restarted who was well.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::heal::Pace;
use super::{Fleet, HTTP, Life, last, mean, seconds, worst};

/// What befalls a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A signal ends it.
    Crash,
    /// Its main loop stands still.
    Hang,
    /// It holds ever more memory.
    Leak,
    /// Its main loop burns a processor.
    Spin,
    /// It answers, much too late.
    Slow,
    /// All of its answers are errors.
    ErrorBurst,
    /// What it depends on hangs: that one is ill, and it is not.
    DeadDependency,
}

impl Kind {
    /// Every one.
    pub(crate) const ALL: [Self; 7] =
        [Self::Crash, Self::Hang, Self::Leak, Self::Spin, Self::Slow, Self::ErrorBurst, Self::DeadDependency];

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Leak => "leak",
            Self::Spin => "spin",
            Self::Slow => "slow",
            Self::ErrorBurst => "error burst",
            Self::DeadDependency => "dead dependency",
        }
    }

    fn order(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Leak => "leak 62",
            Self::Spin => "spin",
            Self::Slow => "slow 20000",
            Self::ErrorBurst => "errors",
            Self::DeadDependency => "deaf",
        }
    }
}

/// What is done to a fleet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    /// So many faults, each in a worker of its own.
    pub(crate) faults: usize,
    /// One after the other, this far apart.
    pub(crate) every: Duration,
    /// How closely workers are looked at.
    pub(crate) pace: Pace,
    /// How long the last of them may take.
    pub(crate) patience: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) faults: usize,
    pub(crate) workers: usize,
    /// From the first evidence to the first passing check of the replacement, in seconds, by kind.
    pub(crate) took: BTreeMap<Kind, Vec<f64>>,
    /// The same from the fault itself.
    pub(crate) down: Vec<f64>,
    /// Faults that nothing came of.
    pub(crate) left: Vec<String>,
    /// Restarts of workers that were well.
    pub(crate) wrong: Vec<String>,
    /// Restarts.
    pub(crate) recoveries: usize,
    /// How long all of it went on, in seconds.
    pub(crate) lasted: f64,
}

impl Figures {
    /// Recovered by itself, 0..1.
    pub(crate) fn recovered(&self) -> f64 {
        1.0 - self.left.len() as f64 / self.faults as f64
    }

    /// From the first evidence to the first passing check, the mean of all of them, in seconds.
    pub(crate) fn mean(&self) -> f64 {
        let all: Vec<f64> = self.took.values().flatten().copied().collect();
        mean(&all)
    }

    /// Restarts of workers that were well, of all restarts.
    pub(crate) fn wrong(&self) -> f64 {
        self.wrong.len() as f64 / self.recoveries.max(1) as f64
    }

    /// Healthy time of the time in which workers were to be so. Who is still ill counts to the end.
    pub(crate) fn availability(&self) -> f64 {
        let lost = self.down.iter().sum::<f64>() + self.left.len() as f64 * self.lasted;
        1.0 - lost / (self.workers as f64 * self.lasted)
    }

    /// A page of it.
    pub(crate) fn page(&self) -> String {
        let mut page =
            format!("{} faults in {} workers within {:.0} s\n", self.faults, self.workers, self.lasted);
        for (kind, took) in &self.took {
            let (count, mean, worst) = (took.len(), mean(took), worst(took));
            page.push_str(&format!(
                "  {:<16} {count:>4}   mean {mean:6.2} s, worst {worst:6.2} s\n",
                kind.words()
            ));
        }
        page.push_str(&format!("  recovered by itself   {:.1} %\n", self.recovered() * 100.0));
        page.push_str(&format!("  first evidence to the first passing check, mean   {:.2} s\n", self.mean()));
        page.push_str(&format!(
            "  the fault itself to the first passing check, mean {:.2} s\n",
            mean(&self.down)
        ));
        page.push_str(&format!(
            "  wrong recoveries   {:.2} % ({} of {})\n",
            self.wrong() * 100.0,
            self.wrong.len(),
            self.recoveries
        ));
        page.push_str(&format!("  availability   {:.3} %\n", self.availability() * 100.0));
        page.push_str(&format!(
            "  manual actions per 100 faults   {:.1}\n",
            self.left.len() as f64 * 100.0 / self.faults as f64
        ));
        for line in self.left.iter().chain(&self.wrong) {
            page.push_str(&format!("  {line}\n"));
        }
        page
    }
}

/// A fault that befell somebody.
struct Strike {
    name: String,
    kind: Kind,
    at: u64,
}

/// Lets them happen.
pub(crate) fn faults(regrow: &str, trial: Trial) -> Figures {
    let kinds: Vec<Kind> = Kind::ALL.iter().copied().cycle().take(trial.faults).collect();
    let (toml, workers) = fleet_of(&kinds, trial.pace);
    let fleet = Fleet::start(regrow, trial.pace.arguments(), &toml, workers);
    let began = Instant::now();
    let mut strikes = Vec::new();
    for (n, kind) in kinds.iter().enumerate() {
        let name = format!("w{n}");
        let at = fleet.tell(&name, kind.order());
        strikes.push(Strike { name, kind: *kind, at });
        disturb(&fleet, n, trial.pace);
        std::thread::sleep(
            trial.every.saturating_sub(began.elapsed().saturating_sub(trial.every * n as u32)),
        );
    }
    let healed = |lives: &super::Lives| strikes.iter().all(|strike| healed(&lives[&strike.name]).is_some());
    let _ = fleet.wait_for(trial.patience, healed);
    // Whoever is restarted for nothing is so soon after.
    std::thread::sleep(Duration::from_secs(3));
    judge(&fleet, &strikes, began.elapsed().as_secs_f64())
}

/// The life that replaced the one that fell ill, once a check passed.
fn healed(lives: &[Life]) -> Option<(Life, Life)> {
    let ill = *lives.first()?;
    let next = *lives.get(1)?;
    next.checked.map(|_| (ill, next))
}

/// What is no fault: a worker that answers badly once, one that is halted for a moment.
fn disturb(fleet: &Fleet, n: usize, pace: Pace) {
    let name = format!("b{}", n % BYSTANDERS);
    let moment = match pace {
        Pace::Usual | Pace::Patient => Duration::from_secs(2),
        Pace::Short => Duration::from_millis(200),
    };
    if n.is_multiple_of(2) {
        fleet.tell(&name, "burst 1");
    } else {
        fleet.signal(&name, Signal::STOP);
        std::thread::sleep(moment);
        fleet.signal(&name, Signal::CONT);
    }
}

/// Workers that are disturbed now and then.
const BYSTANDERS: usize = 8;

fn judge(fleet: &Fleet, strikes: &[Strike], lasted: f64) -> Figures {
    let lives = fleet.lives();
    let mut figures = Figures { faults: strikes.len(), workers: lives.len(), lasted, ..Figures::default() };
    for strike in strikes {
        let Some((ill, next)) = healed(&lives[&strike.name]) else {
            let state = fleet.json(&format!("/api/v1/workers/{}", strike.name));
            let item = &state["items"][0];
            figures.left.push(format!("not recovered: {} ({}): {item}", strike.name, strike.kind.words()));
            continue;
        };
        let checked = next.checked.unwrap_or_default();
        let evidence = ill.missed.unwrap_or(strike.at);
        figures.took.entry(strike.kind).or_default().push(seconds(evidence, checked));
        figures.down.push(seconds(strike.at, checked));
    }
    for (name, of_one) in &lives {
        figures.recoveries += of_one.len() - 1;
        let struck = strikes.iter().any(|strike| strike.name == *name);
        for extra in of_one.iter().skip(1 + usize::from(struck)) {
            let pid = extra.pid;
            figures.wrong.push(format!("wrong: {name} was well and was restarted, now pid {pid}"));
        }
        let still = last(of_one).checked.is_some();
        if !still && !struck {
            figures.left.push(format!("ill without a fault: {name}"));
        }
    }
    figures
}

/// The configuration, and how many workers it has.
fn fleet_of(kinds: &[Kind], pace: Pace) -> (String, usize) {
    let mut toml = format!(
        "[defaults.worker]\nready = \"notify\"\nheartbeat = {{ {} }}\n\
         probe.alive = {{ {HTTP}{} }}\n{}",
        pace.heart(),
        pace.probe(),
        pace.rest()
    );
    let mut count = 0;
    let mut worker = |name: &str, more: &str, keys: &str| {
        toml.push_str(&format!(
            "[worker.{name}]\ncommand = [\"{{bin}}\", \"{name}\", \"{{tell}}\"{more}]\n{keys}"
        ));
        count += 1;
    };
    for n in 0..BYSTANDERS {
        worker(&format!("b{n}"), "", "");
    }
    for (n, kind) in kinds.iter().enumerate() {
        let name = format!("w{n}");
        match kind {
            Kind::Leak => {
                let soon = if pace != Pace::Usual { "threshold.memory.for = \"1s\"\n" } else { "" };
                worker(&name, "", &format!("limits.memory = \"64MiB\"\n{soon}"));
            }
            Kind::DeadDependency => {
                worker(&name, "", "");
                let more = format!(", \"-u\", \"{{dir}}/.regrow/w/{name}/state/http.sock\"");
                let ready = "probe.upstream = { kind = \"readiness\", http = { url = \"http://w/ready\", \
                             unix = \"{state_dir}/http.sock\" } }\n";
                worker(&format!("c{n}"), &more, ready);
            }
            Kind::Crash | Kind::Hang | Kind::Spin | Kind::Slow | Kind::ErrorBurst => worker(&name, "", ""),
        }
    }
    (toml, count)
}
