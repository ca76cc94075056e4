//! `regrow status`: how everything is, as a table, a tree or JSON.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::http::dto::{LastExitView, StatusBody, TreeBody, WorkerView};
use crate::runtime::Target;

use super::args::Format;
use super::client::{Client, EventStream};
use super::context::{Context, block_on, parse_target};
use super::failure::Failure;
use super::table::{Cell, Table, bold, dim, green, paint, red, status_style, yellow};
use super::words::{self, csv, cut, machine, plural, relative, safe, span};

/// `--watch` draws at most this often …
const REDRAW: Duration = Duration::from_secs(1);

/// … and at least this often, for what changes without an event: uptime, load and memory.
const REFRESH: Duration = Duration::from_secs(5);

/// Longest reason in a table; `describe` has all of it.
const LONGEST: usize = 120;

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Worker, instance or sup:NAME; everything without it
    target: Option<String>,
    /// Every worker, which is what no target means, too
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Draw again when something changes
    #[arg(long, short)]
    watch: bool,
    /// Show the supervision tree
    #[arg(long, short)]
    tree: bool,
    /// Exit 3 unless everything shown is healthy
    #[arg(long)]
    exit_code: bool,
}

pub(crate) fn run(context: &mut Context, args: StatusArgs) -> Result<(), Failure> {
    let target = match &args.target {
        Some(text) => Some(parse_target(text)?),
        None => args.all.then_some(Target::All),
    };
    let client = context.client()?;
    block_on(async {
        let body = fetch(&client, target.as_ref()).await?;
        let drawn = draw(context, &args, &body);
        if args.exit_code && !args.watch {
            Failure::but_for_readers(drawn)?;
        } else {
            drawn?;
        }
        if args.watch {
            return watch(context, &client, &args, target.as_ref()).await;
        }
        let healthy = body.workers.iter().all(|worker| worker.is_healthy() || worker.status == "done");
        if args.exit_code && !healthy { Err(Failure::NotHealthy(String::new())) } else { Ok(()) }
    })
}

/// The status of a target, or of everything. The totals and the tree are those of what is left.
pub(crate) async fn fetch(client: &Client, target: Option<&Target>) -> Result<StatusBody, Failure> {
    let body: StatusBody = client.get("/api/v1/status").await?;
    match target {
        Some(target) => select(body, target),
        None => Ok(body),
    }
}

/// What of a status is about a target.
pub(crate) fn select(mut body: StatusBody, target: &Target) -> Result<StatusBody, Failure> {
    let kept: Vec<String> = match target {
        Target::All => return Ok(body),
        Target::Supervisor(name) => {
            let kept = below(&body, name.as_str());
            if kept.is_empty() {
                return Err(no_target(target, &body));
            }
            kept
        }
        Target::Worker(_) | Target::Instance(_) => Vec::new(),
    };
    let plain = match target {
        Target::Instance(id) if !body.workers.iter().any(|worker| worker.instance == id.to_string()) => {
            id.plain()
        }
        Target::Instance(_) | Target::Worker(_) | Target::Supervisor(_) | Target::All => None,
    };
    let meant = |worker: &WorkerView| match target {
        Target::Worker(name) => worker.worker == name.as_str(),
        Target::Instance(id) => worker.instance == plain.as_ref().unwrap_or(id).to_string(),
        Target::Supervisor(_) => kept.contains(&worker.supervisor),
        Target::All => true,
    };
    if kept.is_empty() && !body.workers.iter().any(meant) {
        return Err(no_target(target, &body));
    }
    body.workers.retain(meant);
    narrow(&mut body, &kept);
    Ok(body)
}

/// The list of names knows better what may have been meant.
pub(crate) async fn better(client: &Client, targets: &[Target], failure: Failure) -> Failure {
    match failure {
        Failure::NoTarget(_) => {
            for target in targets {
                if let Err(better) = fetch(client, Some(target)).await {
                    return better;
                }
            }
            failure
        }
        Failure::Failed(_)
        | Failure::Usage(_)
        | Failure::NotHealthy(_)
        | Failure::Unreachable(_)
        | Failure::Config(_)
        | Failure::NotPermitted(_)
        | Failure::WaitRanOut(_)
        | Failure::Code(_)
        | Failure::ReaderGone => failure,
    }
}

/// That nothing is called so, and what may have been meant.
fn no_target(target: &Target, body: &StatusBody) -> Failure {
    let text = target.to_string();
    let supervisors = body.supervisors.iter().map(|view| format!("sup:{}", view.name));
    let workers = body.workers.iter().flat_map(|view| [view.worker.clone(), view.instance.clone()]);
    let names: Vec<String> = supervisors.chain(workers).collect();
    let prefixed = format!("sup:{text}");
    let bare = text.trim_start_matches("sup:");
    let meant = names
        .iter()
        .find(|name| **name == prefixed || **name == bare)
        .map(String::as_str)
        .or_else(|| crate::config::nearest(&text, names.iter().map(String::as_str)));
    let meant = meant.map_or_else(String::new, |name| format!("did you mean `{name}`? "));
    Failure::NoTarget(format!("nothing is called `{text}`; {meant}`regrow status` lists what there is"))
}

fn below(body: &StatusBody, top: &str) -> Vec<String> {
    let mut found: Vec<String> =
        body.supervisors.iter().filter(|view| view.name == top).map(|view| view.name.clone()).collect();
    for _ in 0..body.supervisors.len() {
        for view in &body.supervisors {
            let inside = view.parent.as_ref().is_some_and(|parent| found.contains(parent));
            if inside && !found.contains(&view.name) {
                found.push(view.name.clone());
            }
        }
    }
    found
}

fn narrow(body: &mut StatusBody, supervisors: &[String]) {
    body.totals = crate::http::dto::Totals::of(&body.workers);
    body.supervisors.retain(|view| supervisors.contains(&view.name));
}

async fn watch(
    context: &mut Context,
    client: &Client,
    args: &StatusArgs,
    target: Option<&Target>,
) -> Result<(), Failure> {
    let mut events = client.stream("/api/v1/events").await?;
    loop {
        let drawn = tokio::time::Instant::now();
        // What has happened by now is drawn; the next event after that is the next reason.
        let gone = !next_reason(&mut events, drawn).await;
        tokio::time::sleep_until(drawn + REDRAW).await;
        if gone {
            return Err(Failure::ended());
        }
        let body = fetch(client, target).await?;
        if context.is_terminal() && context.format() != Format::Jsonl {
            context.print("\x1b[H\x1b[2J")?;
        }
        draw(context, args, &body)?;
    }
}

/// False once the runtime is gone.
async fn next_reason(events: &mut EventStream, drawn: tokio::time::Instant) -> bool {
    tokio::select! {
        event = events.next() => event.is_some(),
        () = tokio::time::sleep_until(drawn + REFRESH) => true,
    }
}

fn draw(context: &mut Context, args: &StatusArgs, body: &StatusBody) -> Result<(), Failure> {
    let now = Timestamp::now();
    let width = context.width();
    match context.format() {
        Format::Json | Format::Jsonl if args.tree => {
            let tree = TreeBody::of(body);
            context.print_json(&tree, &tree.items)
        }
        Format::Json | Format::Jsonl => context.print_json(body, &body.workers),
        Format::Name => {
            let names: String = body.workers.iter().map(|worker| format!("{}\n", worker.instance)).collect();
            context.print(&names)
        }
        Format::Csv => context.print(&csv_table(body.workers.iter())),
        Format::Table | Format::Wide => {
            let wide = context.format() == Format::Wide;
            let text = if args.tree {
                super::tree::render(body, now, width)
            } else {
                render(body, now, wide, width)
            };
            let height = if args.watch { context.height() } else { None };
            context.print(&fit(text, height))
        }
    }
}

/// As many lines as the terminal has, so that the top stays in view, and how many are left out.
fn fit(text: String, height: Option<usize>) -> String {
    let lines = text.lines().count();
    // The cursor's own line stays free.
    let Some(room) = height.map(|height| height.saturating_sub(2)).filter(|room| lines > room + 1) else {
        return text;
    };
    let mut shown: String = text.lines().take(room).map(|line| format!("{line}\n")).collect();
    shown
        .push_str(&format!("… {}; a larger window shows them\n", plural((lines - room) as u64, "more line")));
    shown
}

/// The table with its header lines.
pub(crate) fn render(body: &StatusBody, now: Timestamp, wide: bool, width: Option<usize>) -> String {
    let mut out = header(body, now);
    if let Some(host) = body.runtime.host.as_ref().filter(|_| wide) {
        out.push_str(&format!("{}\n", paint(&format!("machine: {}", machine(host)), dim())));
    }
    if body.workers.is_empty() {
        out.push_str("\nno workers are configured\n");
        return out;
    }
    out.push('\n');
    let columns = ["INSTANCE", "STATUS", "PID", "UPTIME", "RESTARTS", "CPU", "MEM"];
    let more = ["SUPERVISOR", "PHASE", "HEALTH", "SCORE", "WANTED", "INC", "LAST EXIT"];
    let mut names = columns.to_vec();
    names.extend(if wide { more.as_slice() } else { &[] });
    names.push("NEXT / ISSUE");
    let mut table = Table::new(&names);
    for worker in &body.workers {
        let mut cells = usual_cells(worker);
        if wide {
            cells.extend(wide_cells(worker));
        }
        cells.push(Cell::new(next_or_issue(worker, now)));
        table.row(cells);
    }
    out.push_str(&table.render(width));
    out
}

/// What runs, how much of it is well, and what the machine does not give.
pub(crate) fn header(body: &StatusBody, now: Timestamp) -> String {
    let runtime = &body.runtime;
    let up = span(now.duration_since(runtime.started_at).as_secs_f64());
    let totals = &body.totals;
    let mut parts = vec![paint(&format!("{} healthy", totals.healthy_workers), green())];
    if totals.warning_workers > 0 {
        parts.push(paint(&format!("{} degraded", totals.warning_workers), yellow()));
    }
    if totals.critical_workers > 0 {
        parts.push(paint(&format!("{} critical", totals.critical_workers), red()));
    }
    let other = totals.total_workers
        - (totals.healthy_workers + totals.warning_workers + totals.critical_workers)
            .min(totals.total_workers);
    if other > 0 {
        parts.push(format!("{other} other"));
    }
    let mut out = format!(
        "{}  pid {}, up {up}; {}: {}; {}\n",
        paint(&safe(&runtime.name), bold()),
        runtime.pid,
        plural(totals.total_workers, "worker"),
        parts.join(", "),
        plural(totals.restarts_total, "restart"),
    );
    for note in &runtime.notes {
        out.push_str(&paint(&format!("note: {}", safe(note)), dim()));
        out.push('\n');
    }
    out
}

fn usual_cells(worker: &WorkerView) -> Vec<Cell> {
    let none = || "-".to_owned();
    vec![
        Cell::new(&worker.instance),
        Cell::new(&worker.status).styled(status_style(&worker.status)),
        Cell::figure(worker.pid.map_or_else(none, |pid| pid.to_string())),
        Cell::figure(worker.uptime_seconds.map_or_else(none, span)),
        Cell::figure(words::count(worker.restarts)),
        Cell::figure(worker.cpu_percent.map_or_else(none, |percent| format!("{percent:.1}%"))),
        Cell::figure(worker.memory_bytes.map_or_else(none, words::size)),
    ]
}

fn wide_cells(worker: &WorkerView) -> Vec<Cell> {
    let none = || "-".to_owned();
    vec![
        Cell::new(&worker.supervisor),
        Cell::new(&worker.phase),
        Cell::new(&worker.health),
        Cell::figure(worker.score.map_or_else(none, |score| format!("{score:.2}"))),
        Cell::new(&worker.wanted),
        Cell::figure(worker.incarnation.to_string()),
        Cell::new(worker.last_exit.as_ref().map_or_else(none, |last| last.kind.clone())),
    ]
}

/// What comes next and what is wrong, in one line.
pub(crate) fn next_or_issue(worker: &WorkerView, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if let Some(next) = &worker.next_action {
        let what = match next.what.as_str() {
            "soft_restart" => "restart",
            "verify" => "on trial",
            "wait_dependency" => "waits for those that start before it",
            other => other,
        };
        parts.push(match (next.at, next.what.as_str()) {
            (Some(at), "verify") if at <= now => format!("{what}, which ends now"),
            (Some(at), "verify") => format!("{what}, {} left", relative(at, now).trim_start_matches("in ")),
            (Some(at), _) => format!("{what} {}", relative(at, now)),
            (None, _) => match &next.approve {
                Some(incident) => format!("{what} waits for `regrow approve {incident}`"),
                None => what.to_owned(),
            },
        });
    }
    parts.extend(worker.issues.iter().map(|issue| cut(&safe(&without_hint(issue)), LONGEST)));
    let down = ["recovering", "quarantined", "dead", "stuck"].contains(&worker.status.as_str());
    // Of what is not started again, nothing else says that it did not do its work.
    let failed =
        |last: &LastExitView| worker.status == "done" && last.code != Some(0) && last.kind != "stopped";
    let told = |last: &&LastExitView| (down || failed(last)) && worker.issues.is_empty();
    if let Some(last) = worker.last_exit.as_ref().filter(told) {
        parts.push(cut(&safe(&without_hint(&last.message)), LONGEST));
    }
    parts.join("; ")
}

/// Without the list of variables that were not passed: in a table the reason itself has to fit. `describe` has all.
fn without_hint(text: &str) -> String {
    let cut_out = text.split_once(" (not passed to it: ").and_then(|(before, rest)| {
        let (_, after) = rest.split_once("inherit_env)")?;
        Some(format!("{before}{after}"))
    });
    cut_out.unwrap_or_else(|| text.to_owned())
}

pub(super) fn csv_table<'a>(workers: impl Iterator<Item = &'a WorkerView>) -> String {
    let mut out = String::from(
        "instance,worker,supervisor,status,phase,health,pid,incarnation,restarts,uptime_seconds,cpu_percent,memory_bytes,last_exit,issues\n",
    );
    for worker in workers {
        let text = |value: Option<String>| value.unwrap_or_default();
        let fields = [
            worker.instance.clone(),
            worker.worker.clone(),
            worker.supervisor.clone(),
            worker.status.clone(),
            worker.phase.clone(),
            worker.health.clone(),
            text(worker.pid.map(|pid| pid.to_string())),
            worker.incarnation.to_string(),
            worker.restarts.to_string(),
            text(worker.uptime_seconds.map(|seconds| seconds.to_string())),
            text(worker.cpu_percent.map(|percent| percent.to_string())),
            text(worker.memory_bytes.map(|bytes| bytes.to_string())),
            text(worker.last_exit.as_ref().map(|last| last.message.clone())),
            worker.issues.join("; "),
        ];
        out.push_str(&fields.map(|field| csv(&field)).join(","));
        out.push('\n');
    }
    out
}
