//! `regrow describe W`: everything about a worker, in the order in which one asks at night.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::http::dto::{DescribeBody, Detail, DiffBody};
use crate::runtime::Target;
use crate::supervisor::OUTDATED;

use super::apply;
use super::args::Format;
use super::changes;
use super::client::{Client, encode};
use super::context::{Context, block_on, parse_target};
use super::failure::Failure;
use super::status::{better, csv_table};
use super::table::{bold, dim, paint, status_style};
use super::words::{clock, count, plural, relative, safe, size, span, wrapped};

/// Options of `describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Worker or instance
    #[arg(value_name = "WORKER")]
    target: String,
    /// What the file says otherwise, and what `apply` would do to this worker
    #[arg(long)]
    diff: bool,
}

pub(crate) fn run(context: &mut Context, args: DescribeArgs) -> Result<(), Failure> {
    let target = parse_target(&args.target)?;
    let client = context.client()?;
    let body = block_on(fetch(&client, &target))?;
    if args.diff {
        return differs(context, &target);
    }
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&body, &body.items),
        Format::Name => {
            let names: String = body.items.iter().map(|item| format!("{}\n", item.worker.instance)).collect();
            context.print(&names)
        }
        Format::Csv => context.print(&csv_table(body.items.iter().map(|item| &item.worker))),
        Format::Table | Format::Wide => {
            let now = Timestamp::now();
            let zone = TimeZone::system();
            let width = context.width();
            let pages: Vec<_> = body.items.iter().map(|item| render(item, now, &zone, width)).collect();
            context.print(&pages.join("\n"))
        }
    }
}

/// What of the worker's definition in force the file says otherwise.
fn differs(context: &mut Context, target: &Target) -> Result<(), Failure> {
    let DiffBody { ok, changes, message, .. } = apply::compare(context)?;
    if !ok {
        return Err(Failure::Config(message));
    }
    let name = match target {
        Target::Worker(name) => name.as_str(),
        Target::Instance(id) => id.worker().as_str(),
        Target::Supervisor(_) | Target::All => "",
    };
    let own: Vec<_> =
        changes.changes.into_iter().filter(|change| change.kind == "worker" && change.name == name).collect();
    match context.format() {
        Format::Json | Format::Jsonl => {
            let whole = serde_json::json!({ "schema": "regrow.describe-diff/1", "items": own });
            context.print_json(&whole, &own)
        }
        Format::Name => {
            context.print(&own.iter().map(|change| format!("{}\n", change.name)).collect::<String>())
        }
        Format::Table | Format::Wide | Format::Csv if own.is_empty() => {
            let client = context.client()?;
            let body = block_on(fetch(&client, target))?;
            let waits = body.items.iter().any(|one| one.worker.issues.iter().any(|issue| issue == OUTDATED));
            context.print(&if waits {
                format!("{name}: what the file says is in force, but {OUTDATED}\n")
            } else {
                format!("{name} runs as the file says\n")
            })
        }
        Format::Table | Format::Wide | Format::Csv => {
            context.print(&own.iter().map(changes::one).collect::<String>())
        }
    }
}

/// The answer about a worker or instance.
pub(crate) async fn fetch(client: &Client, target: &Target) -> Result<DescribeBody, Failure> {
    match target {
        Target::Worker(_) | Target::Instance(_) => {
            match client.get(&format!("/api/v1/workers/{}", encode(&target.to_string()))).await {
                Ok(body) => Ok(body),
                Err(failure) => Err(better(client, std::slice::from_ref(target), failure).await),
            }
        }
        Target::Supervisor(_) | Target::All => {
            Err(Failure::Usage(format!("`{target}` is not a worker; give a worker or one instance")))
        }
    }
}

/// One instance's page. With a width, long lines are broken.
pub(crate) fn render(detail: &Detail, now: Timestamp, zone: &TimeZone, width: Option<usize>) -> String {
    let worker = &detail.worker;
    let mut page = Page { text: String::new(), width };
    page.text = format!(
        "{}   {}\n",
        paint(&worker.instance, bold()),
        paint(&worker.status, status_style(&worker.status))
    );
    let critical = if worker.critical { ", critical" } else { "" };
    page.line("what", &format!("{} of supervisor `{}`{critical}", worker.kind, worker.supervisor));
    if let Some((least, most)) = detail.pool {
        page.line("pool", &format!("from {least} to {most} instances; `regrow scale` moves within that"));
    }
    page.line("phase", &phase(detail, now, zone));
    page.line("process", &process(detail));
    page.line("health", &health(detail));
    page.list("probes", &probes(detail, now));
    page.list("issues", &worker.issues);
    page.line("next", &next(detail, now, zone));
    page.line("waits for", &detail.waits_for.join(", "));
    page.line("last exit", &last_exit(detail, now, zone));
    page.list("stack", &stack(detail));
    page.line("restarts", &restarts(detail));
    page.line("wanted", &wanted(detail, now, zone));
    page.line("says", &detail.status_text.as_deref().map(safe).unwrap_or_default());
    page.list("told", &told(detail, now));
    if let Some(at) = worker.last_heartbeat_at {
        page.line("heartbeat", &relative(at, now));
    }
    page.line("command", &command(&detail.command));
    // What an actor writes is written by this process.
    if worker.kind != "actor" {
        page.line("output", &output(detail));
        page.line("log", detail.log_note.as_deref().unwrap_or(&detail.log_path));
    }
    page.line("state", &detail.state_path);
    if let Some(number) = detail.identity.filter(|number| *number > 1) {
        page.line(
            "identity",
            &format!("{number}: it was recreated; `regrow state show` lists what was put away"),
        );
    }
    page.list("notes", &detail.notes);
    page.text
}

struct Page {
    text: String,
    width: Option<usize>,
}

/// Columns before what a line says, with the name of it.
const MARGIN: usize = 13;

/// Narrower than this nothing is broken: every word would stand alone.
const NARROW: usize = 20;

impl Page {
    /// Nothing is said where there is nothing to say.
    fn line(&mut self, name: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let width = self.width.map(|width| width.saturating_sub(MARGIN)).filter(|width| *width >= NARROW);
        for (at, text) in wrapped(text, width).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            self.text.push_str(&format!("  {} {text}\n", paint(&format!("{name:<10}"), dim())));
        }
    }

    fn list(&mut self, name: &str, texts: &[String]) {
        for (at, text) in texts.iter().enumerate() {
            self.line(if at == 0 { name } else { "" }, &safe(text));
        }
    }
}

fn phase(detail: &Detail, now: Timestamp, zone: &TimeZone) -> String {
    let worker = &detail.worker;
    let ready = match (worker.phase.as_str(), worker.ready) {
        ("running" | "starting", true) => ", ready",
        ("running" | "starting", false) => ", not ready",
        _ => "",
    };
    let adopted = if worker.adopted { ", taken over while it ran" } else { "" };
    let since = clock(detail.since_at, now, zone);
    format!("{}{ready}{adopted}, since {since} ({})", worker.phase, span(detail.since_seconds))
}

/// The score and what it is made of.
fn health(detail: &Detail) -> String {
    let worker = &detail.worker;
    if worker.phase != "running" {
        return String::new();
    }
    let Some(score) = worker.score else { return worker.health.clone() };
    let mut terms: Vec<String> = detail
        .probes
        .iter()
        .filter_map(|probe| {
            let weight = probe.weight.filter(|weight| (*weight - 1.0).abs() > f64::EPSILON);
            let weight = weight.map(|weight| format!(" × {weight}")).unwrap_or_default();
            Some(format!("{} {}{weight}", probe.probe, probe.result.as_deref()?))
        })
        .collect();
    terms.extend(detail.score_bound.clone());
    let terms = if terms.is_empty() { String::new() } else { format!(" ({})", terms.join(", ")) };
    format!("{}, score {score:.2}{terms}", worker.health)
}

/// What each probe that looks found last.
fn probes(detail: &Detail, now: Timestamp) -> Vec<String> {
    let looks = detail.probes.iter().filter_map(|probe| Some((probe, probe.last.as_ref()?)));
    looks
        .map(|(probe, look)| {
            let took = span(look.seconds);
            let at = relative(look.at, now);
            format!("{}: {}, {} ({at}, took {took})", probe.probe, look.result, look.message)
        })
        .collect()
}

/// What it told over its own socket.
fn told(detail: &Detail, now: Timestamp) -> Vec<String> {
    let Some(told) = &detail.told else { return Vec::new() };
    let mut lines = Vec::new();
    let figures = told.progress.iter().map(|progress| format!("progress {progress}"));
    let figures = figures.chain(told.metrics.iter().map(|(name, value)| format!("{name} {value}")));
    let figures = figures.collect::<Vec<_>>().join(", ");
    lines.extend(Some(figures).filter(|figures| !figures.is_empty()));
    if let Some(last) = &told.last_error {
        let class = last.class.as_ref().map(|class| format!("{class}: ")).unwrap_or_default();
        let count = if told.errors == 1 { "1 error".to_owned() } else { format!("{} errors", told.errors) };
        lines.push(format!("{count}, the last {}: {class}{}", relative(last.at, now), last.message));
    }
    lines
}

fn process(detail: &Detail) -> String {
    let worker = &detail.worker;
    let mut parts = Vec::new();
    match worker.pid {
        Some(pid) => parts.push(format!("pid {pid}")),
        None => return String::new(),
    }
    parts.push(format!("incarnation {}", worker.incarnation));
    if let Some(percent) = worker.cpu_percent {
        parts.push(format!("{percent:.1} % of a core"));
    }
    if let Some(bytes) = worker.memory_bytes {
        parts.push(size(bytes));
    }
    if let Some(files) = detail.open_files {
        parts.push(plural(files, "open file"));
    }
    parts.join(", ")
}

fn next(detail: &Detail, now: Timestamp, zone: &TimeZone) -> String {
    let Some(next) = &detail.worker.next_action else { return nothing_next(detail) };
    match (next.at, next.what.as_str()) {
        (Some(at), what) => format!("{what} {} ({})", relative(at, now), clock(at, now, zone)),
        (None, "wait_dependency") => "start, as soon as what it waits for is ready".to_owned(),
        (None, what) => match &next.approve {
            Some(incident) => format!("{what}, once somebody approves it: `regrow approve {incident}`"),
            None => format!("{what}, as soon as what it waits for has come"),
        },
    }
}

/// What a person can do where nothing happens by itself.
fn nothing_next(detail: &Detail) -> String {
    let instance = &detail.worker.instance;
    match detail.worker.phase.as_str() {
        "quarantined" => format!("nothing by itself; `regrow reset-failed {instance}` tries again"),
        "stopped" => format!("nothing by itself; `regrow start {instance}` starts it"),
        _ => String::new(),
    }
}

fn last_exit(detail: &Detail, now: Timestamp, zone: &TimeZone) -> String {
    let Some(last) = &detail.worker.last_exit else { return String::new() };
    let mut facts = vec![clock(last.at, now, zone), last.kind.clone()];
    if let Some(code) = last.code {
        facts.push(format!("code {code}"));
    }
    if let Some(signal) = &last.signal {
        facts.push(format!("signal {signal}"));
    }
    if let Some(incarnation) = detail.last_exit_incarnation {
        facts.push(format!("incarnation {incarnation}"));
    }
    format!("{} ({})", safe(&last.message), facts.join(", "))
}

fn stack(detail: &Detail) -> Vec<String> {
    let frames = detail.backtrace.as_deref().unwrap_or_default();
    frames.lines().map(|line| line.trim_start().to_owned()).collect()
}

fn restarts(detail: &Detail) -> String {
    let causes: Vec<_> =
        detail.restarts_by_cause.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
    let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join(", ")) };
    let left = match detail.worker.phase.as_str() {
        "quarantined" => String::new(),
        _ => format!("; {} left before it is given up", detail.budget_left),
    };
    format!("{}{causes}{left}", count(detail.worker.restarts))
}

fn wanted(detail: &Detail, now: Timestamp, zone: &TimeZone) -> String {
    match &detail.wanted_by {
        Some(operator) => {
            let at = clock(operator.at, now, zone);
            format!("{}, asked by {} at {at}", detail.worker.wanted, safe(&operator.by))
        }
        None => detail.worker.wanted.clone(),
    }
}

fn output(detail: &Detail) -> String {
    let output = &detail.output;
    let mut text = format!("{}, {}", plural(output.lines, "line"), size(output.bytes));
    if output.dropped > 0 {
        text.push_str(&format!("; {} dropped", count(output.dropped)));
    }
    if output.split > 0 {
        text.push_str(&format!("; {} split", count(output.split)));
    }
    text
}

fn command(argv: &[String]) -> String {
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_./=:,@%+{}".contains(c))
    };
    let quoted = |text: &String| {
        if plain(text) { text.clone() } else { format!("'{}'", one_line(text).replace('\'', "'\\''")) }
    };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A script on one line.
fn one_line(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("\\n")
}
