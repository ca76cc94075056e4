//! `incidents`: what went wrong, what was tried, and what came of it.

use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::http::dto::{EventView, IncidentBody, IncidentView, IncidentsBody};
use crate::recovery::{Outcome, redact};

use super::args::Format;
use super::client::{Client, encode};
use super::context::{Context, block_on};
use super::events::pages;
use super::failure::Failure;
use super::say::say;
use super::table::{Cell, Table};
use super::words::{clock, csv, harmless_json, safe, span};

/// Incidents that are asked for at once: each brings its evidence along.
const PAGE: usize = 200;

/// Options of `incidents`.
#[derive(Debug, Args)]
pub(crate) struct IncidentsArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Only those that go on
    #[arg(long)]
    open: bool,
    /// Only those of a worker or an instance
    #[arg(long, value_name = "WORKER")]
    worker: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One incident with everything that was seen and tried
    Show {
        /// Its name
        id: String,
    },
    /// The same as JSON lines, to be sent to somebody; secrets are hidden
    Export {
        /// Its name
        id: String,
    },
}

pub(crate) fn run(context: &mut Context, args: IncidentsArgs) -> Result<(), Failure> {
    match args.what {
        None => list(context, args.open, args.worker.as_deref()),
        Some(What::Show { id }) => {
            let body = fetch(context, &id)?;
            match context.format() {
                Format::Json | Format::Jsonl => context.print_json(&body, &[&body.incident]),
                Format::Table | Format::Wide | Format::Csv | Format::Name => {
                    let text = render(&body.incident, Timestamp::now(), &TimeZone::system());
                    context.print(&text)
                }
            }
        }
        Some(What::Export { id }) => {
            let body = fetch(context, &id)?;
            let client = context.client()?;
            let asked = [format!("incident={}", encode(&id)), "since_seq=0".to_owned()];
            let events = block_on(async {
                let own = pages(&client, &asked).await?.items;
                Ok(around(&client, &body.incident, own).await)
            })?;
            context.print_raw(&lines(&body.incident, &events))
        }
    }
}

/// An end comes at most so long before the incident that it begins.
const JUST_BEFORE: SignedDuration = SignedDuration::from_secs(2);

/// The events of an incident, and what happened to the instance itself meanwhile: its end before it, its stops and starts.
async fn around(client: &Client, one: &IncidentView, own: Vec<EventView>) -> Vec<EventView> {
    let (Some(first), Some(last)) = (own.first(), own.last()) else { return own };
    let last = if one.closed_at.is_some() { last.seq } else { u64::MAX };
    let since = first.at.checked_sub(JUST_BEFORE).unwrap_or(first.at);
    let asked = [
        format!("worker={}", encode(&one.worker)),
        format!("kind={}", encode("worker.*")),
        format!("since={}", encode(&since.to_string())),
    ];
    let all = match pages(client, &asked).await {
        Ok(body) => body.items,
        Err(failure) => {
            say(format_args!("regrow: warning: what happened to {} around it is missing:", one.instance));
            failure.print();
            return own;
        }
    };
    let its = |event: &EventView| event.instance.as_deref() == Some(&*one.instance) && event.seq <= last;
    let (before, mut found): (Vec<_>, Vec<_>) =
        all.into_iter().filter(its).partition(|event| event.seq < first.seq);
    let end = before.into_iter().rev().find(|event| event.incarnation == first.incarnation);
    found.extend(end.filter(|event| event.kind == "worker.exited"));
    found.extend(own);
    found.sort_by_key(|event| event.seq);
    found.dedup_by_key(|event| event.seq);
    found
}

fn fetch(context: &Context, id: &str) -> Result<IncidentBody, Failure> {
    let client = context.client()?;
    let path = format!("/api/v1/incidents/{}", encode(id));
    block_on(async { client.get(&path).await })
}

/// All of them, page by page.
async fn all(client: &Client, path: &str) -> Result<IncidentsBody, Failure> {
    let mut body: IncidentsBody = client.get(path).await?;
    while let Some(cursor) = body.next_cursor.take() {
        let next: IncidentsBody = client.get(&format!("{path}&cursor={}", encode(&cursor))).await?;
        body.items.extend(next.items);
        body.next_cursor = next.next_cursor;
    }
    Ok(body)
}

fn list(context: &mut Context, open: bool, worker: Option<&str>) -> Result<(), Failure> {
    let client = context.client()?;
    let mut path = format!("/api/v1/incidents?limit={PAGE}{}", if open { "&open=true" } else { "" });
    if let Some(worker) = worker {
        path.push_str(&format!("&worker={}", encode(worker)));
    }
    let body = block_on(all(&client, &path))?;
    let now = Timestamp::now();
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&body, &body.items),
        Format::Name => {
            context.print(&body.items.iter().map(|one| format!("{}\n", one.id)).collect::<String>())
        }
        Format::Csv => {
            let mut text = "id,instance,cause,opened_at,outcome,recovery_seconds\n".to_owned();
            for one in &body.items {
                let seconds = one.recovery_seconds.map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
                let outcome = one.outcome.as_deref().unwrap_or("open");
                let cells =
                    [&one.id, &one.instance, &one.cause, &one.opened_at.to_string(), outcome, &seconds];
                text.push_str(&cells.map(csv).join(","));
                text.push('\n');
            }
            context.print(&text)
        }
        Format::Table | Format::Wide => {
            let width = context.width();
            context.print(&table(&body.items, now, &TimeZone::system()).render(width))
        }
    }
}

fn table(items: &[IncidentView], now: Timestamp, zone: &TimeZone) -> Table {
    let mut table = Table::new(&["ID", "INSTANCE", "CAUSE", "OPENED", "OUTCOME", "TOOK", "TRIED"]);
    for one in items {
        // What was passed over was not tried.
        let ran = one.attempts.iter().filter(|attempt| attempt.outcome != Some(Outcome::Skipped));
        let tried: Vec<String> = ran.map(|attempt| attempt.strategy.to_string()).collect();
        table.row(vec![
            Cell::new(&*one.id),
            Cell::new(&*one.instance),
            Cell::new(safe(&one.cause)),
            Cell::new(clock(one.opened_at, now, zone)),
            Cell::new(one.outcome.as_deref().unwrap_or("open")),
            Cell::figure(one.recovery_seconds.map(span).unwrap_or_default()),
            Cell::new(tried.join(", ")),
        ]);
    }
    table
}

fn render(one: &IncidentView, now: Timestamp, zone: &TimeZone) -> String {
    let mut text = format!("{}  {}  {}\n{}\n", one.id, one.instance, safe(&one.cause), safe(&one.message));
    text.push_str(&format!("opened   {}\n", clock(one.opened_at, now, zone)));
    if let Some(seconds) = one.detection_seconds {
        text.push_str(&format!("seen     {} after the first evidence\n", span(seconds)));
    }
    match (&one.outcome, one.closed_at, one.recovery_seconds) {
        (Some(outcome), Some(at), seconds) => {
            let took = seconds.map(|seconds| format!(" after {}", span(seconds))).unwrap_or_default();
            let reason = one.reason.as_deref().unwrap_or_default();
            text.push_str(&format!("closed   {}{took}: {outcome}, {}\n", clock(at, now, zone), safe(reason)));
        }
        (_, _, _) => text.push_str("closed   not yet\n"),
    }
    if let Some(class) = &one.class {
        text.push_str(&format!("class    {}\n", safe(class)));
    }
    for attempt in &one.attempts {
        let outcome = attempt.outcome.map_or("under way", |outcome| outcome.word());
        let took = attempt.seconds.map(|seconds| format!(" after {}", span(seconds))).unwrap_or_default();
        let at = clock(attempt.at, now, zone);
        text.push_str(&format!(
            "\n{at}  {}: {outcome}{took}\n    {}\n",
            attempt.strategy,
            safe(&attempt.reason)
        ));
    }
    for finding in &one.evidence {
        text.push_str(&format!("\n{} at {}\n", finding.what, clock(finding.at, now, zone)));
        for line in finding.text.lines() {
            text.push_str(&format!("    {}\n", safe(line)));
        }
    }
    text
}

/// One JSON document a line: the incident, then what was tried, seen and told in the order in which it happened.
fn lines(one: &IncidentView, events: &[EventView]) -> String {
    let mut entries: Vec<(Timestamp, serde_json::Value)> = Vec::new();
    for attempt in &one.attempts {
        entries.push((attempt.at, json!({ "type": "attempt", "attempt": attempt })));
    }
    for finding in &one.evidence {
        entries.push((finding.at, json!({ "type": "evidence", "evidence": finding })));
    }
    for event in events {
        let event = EventView { message: redact(&event.message, &[]), ..event.clone() };
        entries.push((event.at, json!({ "type": "event", "event": event })));
    }
    entries.sort_by_key(|(at, _)| *at);
    let head = json!({
        "type": "incident", "schema": "regrow.incident/1", "id": one.id, "worker": one.worker,
        "instance": one.instance, "cause": one.cause, "class": one.class, "message": one.message,
        "opened_at": one.opened_at, "closed_at": one.closed_at, "outcome": one.outcome, "reason": one.reason,
        "detection_seconds": one.detection_seconds, "recovery_seconds": one.recovery_seconds,
    });
    let all = std::iter::once(head).chain(entries.into_iter().map(|(_, entry)| entry));
    all.map(|entry| format!("{}\n", harmless_json(entry.to_string()))).collect()
}
