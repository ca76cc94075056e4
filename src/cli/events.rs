//! `regrow events`: what happened.

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::http::dto::{EventView, EventsBody};

use super::args::Format;
use super::client::{Client, encode};
use super::context::{Context, block_on};
use super::failure::Failure;
use super::live::LiveLog;
use super::say::say;
use super::words::{csv, harmless_json};

/// Options of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now
    #[arg(long, short)]
    follow: bool,
    /// Only what happened since: `5m` ago, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only these kinds: `worker.exited`, or `worker.*`; several with commas
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

/// `5m` ago, or an RFC 3339 time.
pub(crate) fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let wrong = |_| "expected `5m`, or a time such as 2026-01-31T12:00:00Z".to_owned();
    let ago = crate::units::parse_duration(text).map_err(|_| wrong(()))?;
    let ago = SignedDuration::try_from(ago).map_err(|_| wrong(()))?;
    Timestamp::now().checked_sub(ago).map_err(|_| wrong(()))
}

/// Events that are asked for at once.
const PAGE: usize = 5000;

pub(crate) fn run(context: &mut Context, args: EventsArgs) -> Result<(), Failure> {
    let client = context.client()?;
    let mut asked = Vec::new();
    if let Some(since) = args.since {
        asked.push(format!("since={}", encode(&since.to_string())));
    }
    if let Some(kind) = &args.kind {
        asked.push(format!("kind={}", encode(kind)));
    }
    block_on(async {
        if args.follow {
            let query = if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) };
            return follow(context, &client, &query, args.since).await;
        }
        let body = pages(&client, &asked).await?;
        print_list(context, &body)
    })
}

/// Everything, page by page.
pub(crate) async fn pages(client: &Client, asked: &[String]) -> Result<EventsBody, Failure> {
    let page = async |cursor: Option<&str>| -> Result<EventsBody, Failure> {
        let mut terms = asked.to_vec();
        terms.push(format!("limit={PAGE}"));
        terms.extend(cursor.map(|cursor| format!("cursor={cursor}")));
        client.get(&format!("/api/v1/events?{}", terms.join("&"))).await
    };
    let mut body = page(None).await?;
    let mut more = body.items.len() == PAGE;
    while more {
        let next = page(body.next_cursor.as_deref()).await?;
        more = next.items.len() == PAGE;
        body.next_cursor = next.next_cursor.or(body.next_cursor);
        body.items.extend(next.items);
    }
    Ok(body)
}

fn print_list(context: &mut Context, body: &EventsBody) -> Result<(), Failure> {
    if matches!(context.format(), Format::Json | Format::Jsonl) {
        return context.print_json(body, &body.items);
    }
    let names = body.items.iter().filter_map(|event| event.instance.as_deref());
    let first = body.items.first().map(|event| event.at);
    let live = LiveLog::new(names).since(first, Timestamp::now());
    let mut text = if context.format() == Format::Csv {
        "seq,at,kind,instance,message\n".to_owned()
    } else {
        String::new()
    };
    for event in &body.items {
        text.push_str(&one(context.format(), &live, event));
        text.push('\n');
    }
    context.print(&text)
}

fn one(format: Format, live: &LiveLog, event: &EventView) -> String {
    match format {
        Format::Name => event.kind.clone(),
        Format::Csv => {
            let instance = event.instance.clone().unwrap_or_default();
            let fields = [
                event.seq.to_string(),
                format!("{:.3}", event.at),
                event.kind.clone(),
                instance,
                event.message.clone(),
            ];
            fields.map(|field| csv(&field)).join(",")
        }
        Format::Json | Format::Jsonl => harmless_json(serde_json::to_string(event).unwrap_or_default()),
        Format::Table | Format::Wide => live.line(event),
    }
}

async fn follow(
    context: &mut Context,
    client: &Client,
    query: &str,
    since: Option<Timestamp>,
) -> Result<(), Failure> {
    let status: crate::http::dto::StatusBody = client.get("/api/v1/status").await?;
    let live = LiveLog::new(status.workers.iter().map(|worker| worker.instance.as_str()));
    let live = live.since(since, Timestamp::now());
    let mut events = client.stream(&format!("/api/v1/events{query}")).await?;
    while let Some(event) = events.next().await {
        if event.name == "lost" {
            say(format_args!("regrow: some events were lost: {}", event.data));
            continue;
        }
        let Ok(view) = serde_json::from_str::<EventView>(&event.data) else { continue };
        if since.is_none_or(|since| view.at >= since) {
            let line = one(context.format(), &live, &view);
            context.print(&format!("{line}\n"))?;
        }
    }
    Err(Failure::ended())
}
