//! `regrow init`: from an empty directory to a configuration that runs.
//!
//! What is there already says most of it (a Procfile, a start script); the rest is at most five questions, each with an
//! answer that one key accepts, or flags in their place. What is written passes `check`, says in comments what it does
//! and what else there is, and never replaces a file.
//!
//! Deliberately absent: guesses. Only what names its command itself is detected.

pub(super) mod argv;
mod ask;
mod detect;
pub(super) mod procfile;
pub(super) mod render;

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::config::{Sources, load};
use crate::http::dto::StatusBody;

use super::args::Format;
use super::context::{Context, block_on};
use super::failure::Failure;
use super::table::{bold, dim, green, paint};
use super::words::plural;
use super::{daemon, status};

use argv::Line;
use render::Draft;

/// The file without `-c`.
const FILE: &str = "regrow.toml";

/// Demo workers are for looking; more than this many nobody looks at.
const MOST_WORKERS: u16 = 1000;

/// After the start, workers have this long to show that they stay up.
const SETTLES: Duration = Duration::from_secs(6);

/// Up for this long without a restart: one that crashes at once is up for a moment after each start.
const HOLDS: Duration = Duration::from_secs(1);

/// Options of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Make N workers: those that are found here first, the rest small demonstrations to be replaced
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_WORKERS)))]
    workers: Option<u16>,
    /// Take the commands from a Procfile, or from a file with one command a line
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Ask nothing: take what is found here, else one demonstration
    #[arg(long, short)]
    yes: bool,
    /// Start it in the background, and show its status
    #[arg(long)]
    start: bool,
}

/// One worker to be written.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    /// A name that the file may use.
    name: String,
    /// What it runs.
    line: Line,
    /// Where it comes from.
    source: Source,
}

/// Where a worker comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A file, and where in it.
    Found(String),
    /// Somebody's answer.
    Answer,
    /// Nothing was known.
    Demo,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Found(place) => f.write_str(place),
            Self::Answer => f.write_str("your answer"),
            Self::Demo => f.write_str("a demonstration"),
        }
    }
}

pub(crate) fn run(context: &mut Context, args: InitArgs) -> Result<(), Failure> {
    let file = context.global.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
    not_there(&file)?;
    let folder = folder(&file);
    let found = match &args.from {
        Some(from) => procfile::read(from)?,
        None => detect::look(&folder)?,
    };
    let mut draft = Draft::new(detect::name_of(&folder), found);
    let mut start = args.start;
    let decided = args.yes || args.workers.is_some() || args.from.is_some();
    if !decided {
        if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
            return Err(Failure::Usage(
                "without a terminal nothing can be asked: give `--yes` to take what is found here, `--workers N`, or \
                 `--from FILE` (a Procfile, or one command a line); `--start` starts it"
                    .to_owned(),
            ));
        }
        ask::ask(context, &mut draft, &mut start)?;
    }
    draft.fill_up(args.workers.map(usize::from));
    let text = draft.render();
    right(&file, &text)?;
    write(&file, &text, 0o644)?;
    if start { started(context, &file, &draft) } else { written(context, &file, &draft) }
}

fn not_there(file: &Path) -> Result<(), Failure> {
    if std::fs::symlink_metadata(file).is_err() {
        return Ok(());
    }
    let name = file.display();
    Err(Failure::Failed(format!(
        "{name} is there already and was not touched. `regrow check {name}` says whether it is right, \
         `regrow start -c {name}` runs it; `regrow init -c OTHER.toml` writes another one"
    )))
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Nothing is written that the check would refuse.
fn right(file: &Path, text: &str) -> Result<(), Failure> {
    match load(&Sources::text(text)) {
        Ok(_) => Ok(()),
        Err(problems) => Err(Failure::Failed(format!(
            "these commands cannot be written to {}, which was not made:\n{}",
            file.display(),
            problems.render(false)
        ))),
    }
}

/// `mode`: who may read it; only its owner may change what is run.
pub(super) fn write(file: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot write {}: {error}", file.display()));
    let mut options = OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(mode & 0o644).open(file).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}

/// What is there now, and what comes next.
fn written(context: &mut Context, file: &Path, draft: &Draft) -> Result<(), Failure> {
    if is_json(context) {
        let whole = report(file, draft, None);
        return context.print_json(&whole, std::slice::from_ref(&whole));
    }
    let given = if file == Path::new(FILE) { String::new() } else { format!(" -c {}", file.display()) };
    let next = [
        (format!("regrow check{given}"), "says whether it is right, after every change"),
        (format!("regrow start{given}"), "runs it here; Ctrl-C stops everything in order"),
        (format!("regrow start --daemon{given}"), "runs it in the background"),
        (format!("regrow status{given}"), "how everything is"),
    ];
    let width = next.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let mut out = summary(file, draft);
    out.push_str("\nNext:\n");
    for (command, meaning) in next {
        out.push_str(&format!("  {command:<width$}  {}\n", paint(meaning, dim())));
    }
    context.print(&out)
}

fn summary(file: &Path, draft: &Draft) -> String {
    let count = plural(draft.workers.len() as u64, "worker");
    let mut out =
        format!("{} {}: {count}\n", paint("wrote", green()), paint(&file.display().to_string(), bold()));
    // Enough to see what was meant; the file has all.
    const SHOWN: usize = 12;
    let width = draft.workers.iter().map(|worker| worker.name.chars().count()).max().unwrap_or(0);
    for worker in draft.workers.iter().take(SHOWN) {
        let line =
            super::words::cut(&super::words::safe(&worker.line.shown()), 76_usize.saturating_sub(width));
        out.push_str(&format!("  {:<width$}  {}\n", worker.name, paint(&line, dim())));
    }
    if draft.workers.len() > SHOWN {
        out.push_str(&format!("  … and {} more\n", draft.workers.len() - SHOWN));
    }
    for missing in draft.missing_programs() {
        out.push_str(&format!("note: there is no program `{missing}` on the PATH yet\n"));
    }
    out
}

/// Starts it, gives the workers a moment to fall, and shows how they are.
fn started(context: &mut Context, file: &Path, draft: &Draft) -> Result<(), Failure> {
    let json = is_json(context);
    if !json {
        context.print(&summary(file, draft))?;
    }
    context.global.config = Some(file.to_owned());
    let said = daemon::start(context)?;
    if !json {
        context.print(&format!("{said}\n\n"))?;
    }
    let client = context.client()?;
    let (body, holds) = block_on(settled(&client))?;
    if json {
        let whole = report(file, draft, Some(&body));
        context.print_json(&whole, std::slice::from_ref(&whole))?;
    } else {
        let width = context.width();
        context.print(&status::render(&body, jiff::Timestamp::now(), false, width))?;
    }
    let down: Vec<_> = body.workers.iter().filter(|worker| !is_up(worker) || worker.restarts > 0).collect();
    match down.first() {
        None => Ok(()),
        Some(_) if holds => Ok(()),
        Some(first) => Err(Failure::Failed(format!(
            "{} not well: `regrow describe {}` says why. It goes on trying; `regrow shutdown` ends it",
            if down.len() == 1 {
                format!("{} is", first.instance)
            } else {
                format!("{} workers are", down.len())
            },
            first.instance
        ))),
    }
}

/// The status once everybody has been up for a while without a restart, and whether it came to that in time.
async fn settled(client: &super::client::Client) -> Result<(StatusBody, bool), Failure> {
    let end = tokio::time::Instant::now() + SETTLES;
    let mut up = None;
    loop {
        let body: StatusBody = client.get("/api/v1/status").await?;
        let now = tokio::time::Instant::now();
        let restarts = body.totals.restarts_total;
        up = match up.filter(|(_, before)| *before == restarts) {
            _ if !body.workers.iter().all(is_up) => None,
            Some(known) => Some(known),
            None => Some((now, restarts)),
        };
        let holds = up.is_some_and(|(since, _)| now - since >= HOLDS);
        if holds || now >= end {
            return Ok((body, holds));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_up(worker: &crate::http::dto::WorkerView) -> bool {
    worker.is_healthy() || worker.status == "done"
}

fn is_json(context: &Context) -> bool {
    matches!(context.format(), Format::Json | Format::Jsonl)
}

fn report(file: &Path, draft: &Draft, status: Option<&StatusBody>) -> serde_json::Value {
    let workers: Vec<_> = draft
        .workers
        .iter()
        .map(|worker| {
            serde_json::json!({ "name": worker.name, "command": worker.line.argv(), "source": worker.source.to_string() })
        })
        .collect();
    serde_json::json!({
        "schema": "regrow.init/1",
        "file": file.display().to_string(),
        "name": draft.name,
        "workers": workers,
        "started": status.is_some(),
        "status": status,
    })
}
