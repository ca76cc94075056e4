//! What can be seen of a process before something is done to it: the only time at which that can be seen.
//!
//! Within a budget of time and size, and never in the way: whatever cannot be read is left out. Secrets that the worker
//! was given, and whatever looks like one, are hidden before anything is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::SecretSource;
use crate::id::Incarnation;
use crate::recovery::redact;
use crate::worker::Sights;
use crate::worker::output::{LogQuery, LogReader, StreamName};

use super::aside::{self, Errand};
use super::site::Site;

/// Of each kind of evidence at most so many bytes.
const MOST: usize = 4 << 10;
/// Lines of output.
const LINES: usize = 20;
/// Threads that are named.
const THREADS: usize = 5;
/// More threads than this are counted, not looked at: each look costs two reads.
const MOST_THREADS: usize = 256;
/// Between two looks at what the threads compute.
const BETWEEN: Duration = Duration::from_millis(100);
/// Open files that are listed.
const FILES: usize = 40;

/// Looks at it. `capture` gets what is left of the time.
pub(super) async fn gather(site: Arc<Site>, pid: Option<u32>, n: Incarnation, within: Duration) -> Sights {
    let began = tokio::time::Instant::now();
    let own = Arc::clone(&site);
    let looked = tokio::task::spawn_blocking(move || look(&own, pid)).await;
    let mut sights = looked.unwrap_or_default();
    if let (Some(argv), Some(_)) = (site.settings.on.capture.clone(), pid) {
        let timeout = within.saturating_sub(began.elapsed()).saturating_sub(BETWEEN);
        let said = aside::run(Arc::clone(&site), Errand { argv, pid, incarnation: n, timeout }).await;
        sights.push(("capture", said.map_or_else(unfinished, |outcome| outcome.output)));
    }
    let own = Arc::clone(&site);
    let secrets = tokio::task::spawn_blocking(move || secrets(&own)).await.unwrap_or_default();
    sights.retain(|(_, text)| !text.trim().is_empty());
    for (_, text) in &mut sights {
        // Shortened last: half a secret would not be known again.
        let hushed = site.host.hush(&site.settings.name, std::mem::take(text));
        *text = shortened(&redact(&hushed, &secrets));
    }
    sights
}

/// What a capture had to say until its time was over, and that it was.
fn unfinished(undone: aside::Undone) -> String {
    let said = undone.output.trim_end();
    if said.is_empty() { undone.why } else { format!("{said}\n({})", undone.why) }
}

fn look(site: &Site, pid: Option<u32>) -> Sights {
    let mut sights = vec![("output", last_lines(site))];
    if let Some(pid) = pid {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let before = threads(&proc);
        sights.push(("state", state(&proc)));
        sights.push(("wchan", read(&proc.join("wchan"))));
        sights.push(("stack", read(&proc.join("stack"))));
        sights.push(("files", files(&proc)));
        std::thread::sleep(BETWEEN);
        sights.push(("threads", busiest(&proc, &before)));
    }
    if let Some(root) = &site.host.cgroups {
        sights.push(("cgroup", cgroup(&root.dir().join(site.instance.slug()))));
    }
    sights
}

fn last_lines(site: &Site) -> String {
    let Some(logs) = site.host.workers_dir.parent().map(|dir| dir.join("logs")) else { return String::new() };
    let mut lines = Vec::new();
    let query = LogQuery { tail: Some(LINES), ..LogQuery::default() };
    let reader = LogReader::new(&logs, &site.instance, StreamName::Stdout);
    // A log that cannot be read is no evidence.
    let _ = reader.read(&query, |line| {
        lines.push(String::from_utf8_lossy(line.text).into_owned());
        Ok(())
    });
    lines.join("\n")
}

fn state(proc: &Path) -> String {
    const WANTED: [&str; 9] = [
        "State:",
        "Threads:",
        "VmRSS:",
        "VmHWM:",
        "VmSwap:",
        "voluntary_ctxt_switches:",
        "nonvoluntary_ctxt_switches:",
        "SigBlk:",
        "SigIgn:",
    ];
    let status = read(&proc.join("status"));
    let lines = status.lines().filter(|line| WANTED.iter().any(|start| line.starts_with(start)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

fn files(proc: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(proc.join("fd")) else { return String::new() };
    let mut names: Vec<String> = Vec::new();
    let mut count = 0usize;
    for entry in entries.flatten() {
        count += 1;
        if names.len() < FILES
            && let Ok(target) = std::fs::read_link(entry.path())
        {
            names.push(format!("{} {}", entry.file_name().to_string_lossy(), target.display()));
        }
    }
    names.sort();
    format!("{count} open\n{}", names.join("\n"))
}

/// By thread: its name and the ticks that it has computed.
fn threads(proc: &Path) -> Vec<(u32, String, u64)> {
    let Ok(entries) = std::fs::read_dir(proc.join("task")) else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.take(MOST_THREADS).filter_map(|id| thread(proc, id)).collect()
}

fn thread(proc: &Path, id: u32) -> Option<(u32, String, u64)> {
    let stat = std::fs::read_to_string(proc.join("task").join(id.to_string()).join("stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((id, name, user + system))
}

fn busiest(proc: &Path, before: &[(u32, String, u64)]) -> String {
    let mut now: Vec<(u64, u32, String)> = threads(proc)
        .into_iter()
        .map(|(id, name, ticks)| {
            let earlier =
                before.iter().find(|(known, ..)| *known == id).map_or(ticks, |(_, _, ticks)| *ticks);
            (ticks.saturating_sub(earlier), id, name)
        })
        .collect();
    now.sort_by_key(|(ticks, ..)| std::cmp::Reverse(*ticks));
    let count = now.len();
    let line = |(ticks, id, name): (u64, u32, String)| {
        let waits = read(&proc.join("task").join(id.to_string()).join("wchan"));
        let waits =
            if waits.is_empty() || waits == "0" { String::new() } else { format!(", waits in {waits}") };
        format!("{id} {name}: {ticks} ticks in 100 ms{waits}")
    };
    let named: Vec<String> = now.into_iter().take(THREADS).map(line).collect();
    format!("{count} threads\n{}", named.join("\n"))
}

fn cgroup(dir: &Path) -> String {
    const FILES: [&str; 7] = [
        "memory.current",
        "memory.peak",
        "memory.events",
        "cpu.stat",
        "cpu.pressure",
        "pids.current",
        "pids.peak",
    ];
    let one = |name: &&str| {
        let text = read(&dir.join(name)).split('\n').collect::<Vec<_>>().join(", ");
        (!text.is_empty()).then(|| format!("{name}: {text}"))
    };
    FILES.iter().filter_map(one).collect::<Vec<_>>().join("\n")
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The end of it, which says most.
fn shortened(text: &str) -> String {
    if text.len() <= MOST {
        return text.to_owned();
    }
    let from = (text.len() - MOST..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("…{}", &text[from..])
}

/// What the worker was given and nobody may see.
fn secrets(site: &Site) -> Vec<String> {
    let value = |source: &SecretSource| match source {
        SecretSource::File(path) => std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()),
        SecretSource::Env(name) => {
            let mut known = site.host.env.iter();
            known.find(|(own, _)| own == &**name).and_then(|(_, value)| value.to_str().map(str::to_owned))
        }
    };
    let given = site.settings.isolation.secrets.values().filter_map(value);
    let named = site.settings.env.iter().filter(|(name, _)| crate::config::is_secret(name));
    given.chain(named.map(|(_, value)| value.clone())).filter(|secret| secret.len() >= 4).collect()
}
