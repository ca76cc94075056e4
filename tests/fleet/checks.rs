//! What it costs to look at many workers, and how long a look takes.

use std::fs;
use std::time::Duration;

use super::{Fleet, HTTP};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Looks.
    pub(crate) looks: f64,
    /// Nearly all of them took no longer than this, in seconds: the bound of the histogram's bucket.
    pub(crate) p99: f64,
    /// Of one processor.
    pub(crate) cpu: f64,
    /// Resident, in MiB.
    pub(crate) memory: f64,
}

impl Figures {
    /// A line of it.
    pub(crate) fn line(&self) -> String {
        let looks = match self.looks {
            0.0 => String::new(),
            looks => format!("{looks} looks, p99 at most {:.0} ms; ", self.p99 * 1e3),
        };
        format!("{looks}{:.2} % of one core, {:.1} MiB resident", self.cpu * 100.0, self.memory)
    }
}

/// What looks at each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing but the check that its process runs, which everybody has.
    None,
    /// A probe of kind `process`.
    Process,
    /// A probe over HTTP.
    Http,
}

/// Looks at so many workers for a while in this way.
pub(crate) fn checks(
    regrow: &str,
    workers: usize,
    look: Look,
    interval: Option<&str>,
    lasting: Duration,
) -> Figures {
    let probe = match look {
        Look::None => String::new(),
        Look::Process => "probe.main.process = {}\n".to_owned(),
        Look::Http => format!("probe.alive = {{ {HTTP} }}\n"),
    };
    let http = look == Look::Http;
    let mut toml = format!("[defaults.worker]\nready = \"notify\"\n{probe}");
    for n in 0..workers {
        toml.push_str(&format!("[worker.w{n}]\ncommand = [\"{{bin}}\", \"w{n}\", \"{{tell}}\", \"-q\"]\n"));
    }
    let arguments: Vec<&str> = interval.iter().flat_map(|interval| ["--interval", interval]).collect();
    let fleet = Fleet::start(regrow, &arguments, &toml, if http { workers } else { 0 });
    if !http {
        fleet.wait(Duration::from_secs(120), "every worker is up", |lives| lives.len() == workers);
    }
    // The first looks, which all come at once, are no measure of the rest.
    std::thread::sleep(Duration::from_secs(35));
    let (before, cpu) = (buckets(&fleet), cpu_seconds(fleet.runtime()));
    std::thread::sleep(lasting);
    let cpu = cpu_seconds(fleet.runtime()) - cpu;
    let after = buckets(&fleet);
    let counts: Vec<(f64, f64)> =
        after.iter().zip(&before).map(|((bound, late), (_, early))| (*bound, late - early)).collect();
    let looks = counts.last().map_or(0.0, |(_, count)| *count);
    let p99 =
        counts.iter().find(|(_, count)| *count >= 0.99 * looks).map_or(f64::INFINITY, |(bound, _)| *bound);
    Figures { looks, p99, cpu: cpu / lasting.as_secs_f64(), memory: resident_mib(fleet.runtime()) }
}

/// Looks that took at most so long, over all workers, by the bound.
fn buckets(fleet: &Fleet) -> Vec<(f64, f64)> {
    let page = fleet.ask("/metrics");
    let mut all: Vec<(f64, f64)> = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("regrow_probe_duration_seconds_bucket")) {
        let bound = line.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        match all.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => all.push((bound, count)),
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

fn cpu_seconds(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let run = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    run.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

fn resident_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap_or("Rss: 0");
    line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
