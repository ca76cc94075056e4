//! How long it takes from the first evidence that a worker does not work to the first check that its replacement
//! passes: each of the ways in which a worker can be alive and of no use.

use std::time::Duration;

use rustix::process::Signal;

use super::{Fleet, HTTP, mean, seconds, worst};

/// A way to be alive and of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its main loop stands still, and with it its heartbeat.
    Heartbeat,
    /// It was halted by a signal.
    Halted,
    /// Its endpoint takes requests and does not answer.
    Endpoint,
    /// Its main loop is dead behind a heartbeat that goes on, as its HTTP probe sees it.
    LoopHttp,
    /// The same, as its exec probe sees it.
    LoopExec,
}

impl Way {
    /// Every one.
    pub(crate) const ALL: [Self; 5] =
        [Self::Heartbeat, Self::Halted, Self::Endpoint, Self::LoopHttp, Self::LoopExec];

    /// Its workers, without their number.
    fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::Halted => "halted",
            Self::Endpoint => "endpoint",
            Self::LoopHttp => "loop-http",
            Self::LoopExec => "loop-exec",
        }
    }

    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat lost",
            Self::Halted => "SIGSTOP",
            Self::Endpoint => "HTTP endpoint hangs",
            Self::LoopHttp => "dead main loop, live heartbeat, by HTTP",
            Self::LoopExec => "dead main loop, live heartbeat, by exec",
        }
    }

    fn table(self, name: &str, probe: &str) -> String {
        let threaded = if matches!(self, Self::LoopHttp | Self::LoopExec) { ", \"-b\"" } else { "" };
        let check = match self {
            Self::LoopExec => "exec = [\"{bin}\", \"--ask\", \"{state_dir}/http.sock\"]",
            Self::Heartbeat | Self::Halted | Self::Endpoint | Self::LoopHttp => HTTP,
        };
        // Whoever is halted is silent, too: what is measured is the check of its process.
        let beats = if self == Self::Halted { "" } else { "heartbeat = { HEART }\n" };
        format!(
            "[worker.{name}]\ncommand = [\"{{bin}}\", \"{name}\", \"{{tell}}\"{threaded}]\n{beats}\
             probe.alive = {{ {check}{probe} }}\n"
        )
    }
}

/// How closely workers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As the defaults say.
    Usual,
    /// Soon, and with deadlines that a machine on which everything takes its time keeps.
    Patient,
    /// `interval = "500ms"` and short deadlines.
    Short,
}

impl Pace {
    /// What `regrow start` is given.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &[],
            Self::Patient => &["--interval", "1s"],
            Self::Short => &["--interval", "500ms"],
        }
    }

    /// `[worker.*.heartbeat]`
    pub(crate) fn heart(self) -> &'static str {
        match self {
            Self::Usual => "interval = \"5s\"",
            Self::Patient => "interval = \"1s\", late = \"6s\", lost = \"12s\", dead = \"24s\"",
            Self::Short => "interval = \"250ms\", late = \"750ms\", lost = \"1500ms\", dead = \"5s\"",
        }
    }

    /// What a probe has besides its check.
    pub(crate) fn probe(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Patient => ", period = \"1s\", retry_period = \"500ms\", timeout = \"4s\"",
            Self::Short => {
                ", period = \"500ms\", retry_period = \"100ms\", timeout = \"500ms\", failure_threshold = 2"
            }
        }
    }

    /// The rest.
    pub(crate) fn rest(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Patient => "[ladder.default]\nverify = \"2s\"\n",
            Self::Short => {
                "start_timeout = \"5s\"\nstop = { timeout = \"1s\", unresponsive_timeout = \"300ms\" }\n[ladder.default]\nverify = \"1s\"\n"
            }
        }
    }
}

/// What one way took, in seconds: from the first evidence, and from the fault itself, which nobody could see yet.
#[derive(Debug, Default)]
pub(crate) struct Took {
    pub(crate) evidence: Vec<f64>,
    pub(crate) fault: Vec<f64>,
}

impl Took {
    /// A line of it.
    pub(crate) fn line(&self) -> String {
        format!(
            "mean {:6.2} worst {:6.2}   from the fault itself {:6.2} {:6.2}",
            mean(&self.evidence),
            worst(&self.evidence),
            mean(&self.fault),
            worst(&self.fault)
        )
    }
}

/// Workers that nothing befalls: a fleet in which most are ill at once is another matter.
const BYSTANDERS: usize = 60;

/// Lets each way befall so many workers, a few at a time. Beside what it took: what `regrow check` says that it takes at
/// worst, in its words.
pub(crate) fn heal(regrow: &str, pace: Pace, rounds: usize) -> (Vec<(Way, Took)>, String) {
    let mut toml = format!("[defaults.worker]\nready = \"notify\"\n{}", pace.rest());
    for n in 0..BYSTANDERS {
        toml.push_str(&format!("[worker.b{n}]\ncommand = [\"{{bin}}\", \"b{n}\", \"{{tell}}\", \"-q\"]\n"));
        toml.push_str(&format!("probe.alive = {{ {HTTP}{} }}\n", pace.probe()));
    }
    for (way, n) in Way::ALL.iter().flat_map(|way| (0..rounds).map(move |n| (way, n))) {
        let table = way.table(&format!("{}-{n}", way.name()), pace.probe());
        toml.push_str(&table.replace("HEART", pace.heart()));
    }
    let fleet = Fleet::start(regrow, pace.arguments(), &toml, BYSTANDERS + Way::ALL.len() * rounds);
    let mut all: Vec<(Way, Took)> = Way::ALL.map(|way| (way, Took::default())).into();
    for n in 0..rounds {
        // As few at once as `recovery.max_parallel` lets pass, and at another moment of the probes' rhythm each time.
        for some in all.chunks_mut(3) {
            std::thread::sleep(Duration::from_millis(137) * n as u32);
            let struck: Vec<(usize, u64)> = some.iter().map(|(way, _)| strike(&fleet, *way, n)).collect();
            for ((way, took), (life, at)) in some.iter_mut().zip(struck) {
                let name = format!("{}-{n}", way.name());
                fleet.wait(Duration::from_secs(300), way.words(), |heard| {
                    heard[&name].get(life).is_some_and(|next| next.checked.is_some())
                });
                let lives = &fleet.lives()[&name];
                let (before, after) = (lives[life - 1], lives[life].checked.unwrap_or_default());
                // A look that fails is the first evidence, where a look is what finds it.
                took.evidence.push(seconds(before.missed.unwrap_or(at), after));
                took.fault.push(seconds(at, after));
            }
        }
    }
    (all, fleet.verb(regrow, &["check"]))
}

/// How many lives it had had by then, and when it was struck.
fn strike(fleet: &Fleet, way: Way, n: usize) -> (usize, u64) {
    let name = format!("{}-{n}", way.name());
    let lives = fleet.lives()[&name].len();
    let at = match way {
        Way::Heartbeat | Way::LoopHttp | Way::LoopExec => fleet.tell(&name, "hang"),
        Way::Halted => fleet.signal(&name, Signal::STOP),
        Way::Endpoint => fleet.tell(&name, "deaf"),
    };
    (lives, at)
}
