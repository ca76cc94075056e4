//! `/events`: the journal as a stream, or what is kept of it as a list.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, header};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::event::EventKind;
use crate::telemetry::{Recorded, Subscription};

use super::super::dto::{EventView, EventsBody};
use super::super::problem::Problem;
use super::{Api, KEEP_ALIVE, event_stream, json};

#[derive(Deserialize)]
pub(super) struct Ask {
    since_seq: Option<u64>,
    cursor: Option<u64>,
    kind: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn events(
    State(api): State<Arc<Api>>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let last_id = header("last-event-id").and_then(|id| id.parse().ok());
    let after = last_id.or(ask.since_seq).or(ask.cursor);
    let wanted = Wanted::parse(ask.kind.as_deref())?;
    let accept = header(header::ACCEPT.as_str()).unwrap_or_default();
    if accept.contains("application/json") && !accept.contains("text/event-stream") {
        return list(&api, after.unwrap_or(0), &wanted, ask.limit);
    }
    Ok(stream(&api, after.unwrap_or(0), wanted))
}

/// Kinds that are asked for; a prefix such as `worker.` means all of them.
struct Wanted(Option<Vec<String>>);

impl Wanted {
    /// A kind that nothing can have is a mistake: who waits for it would wait for ever.
    fn parse(kinds: Option<&str>) -> Result<Self, Problem> {
        let Some(kinds) = kinds else { return Ok(Self(None)) };
        let kinds: Vec<String> = kinds.split(',').map(|kind| kind.trim().to_owned()).collect();
        let known = |kind: &&String| EventKind::ALL.iter().any(|one| covers(kind, one.word()));
        match kinds.iter().find(|kind| !known(kind)) {
            None => Ok(Self(Some(kinds))),
            Some(unknown) => {
                let words: Vec<_> = EventKind::ALL.iter().map(|kind| kind.word()).collect();
                Err(Problem::invalid(format!(
                    "no event is of kind `{}`; there are {}, and `worker.*` for all of one sort",
                    unknown.escape_debug().take(64).collect::<String>(),
                    words.join(", ")
                )))
            }
        }
    }

    fn wants(&self, event: &Recorded) -> bool {
        let Some(kinds) = &self.0 else { return true };
        kinds.iter().any(|kind| covers(kind, event.event.kind.word()))
    }
}

/// Whether a kind that was asked for, or all with its prefix, means this word.
fn covers(kind: &str, word: &str) -> bool {
    match kind.strip_suffix('*').or(kind.ends_with('.').then_some(kind)) {
        Some(prefix) => word.starts_with(prefix),
        None => word == kind,
    }
}

fn list(api: &Api, after: u64, wanted: &Wanted, limit: Option<usize>) -> Result<Response<Body>, Problem> {
    let kept = api.runtime.journal().since(after);
    let limit = limit.unwrap_or(kept.len());
    let shown: Vec<_> = kept.iter().filter(|event| wanted.wants(event)).take(limit).collect();
    let next_cursor = shown.last().map(|event| event.seq.to_string());
    let items = shown.into_iter().map(|event| EventView::from(&**event)).collect();
    Ok(json(&EventsBody { schema: "regrow.events/1".to_owned(), items, next_cursor }))
}

fn stream(api: &Api, after: u64, wanted: Wanted) -> Response<Body> {
    let (old, live) = api.runtime.journal().follow(after);
    let (feed, response) = event_stream();
    let mut stopped = api.stopped();
    tokio::spawn(async move {
        let mut feeder = Feeder { feed, wanted, last: None };
        tokio::select! {
            _ = feeder.run(after, old, live) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
    response
}

struct Feeder {
    feed: mpsc::Sender<Bytes>,
    wanted: Wanted,
    last: Option<u64>,
}

/// The client is gone.
struct Gone;

impl Feeder {
    async fn run(&mut self, after: u64, old: Vec<Arc<Recorded>>, mut live: Subscription) -> Result<(), Gone> {
        self.last = (after > 0).then_some(after);
        // Sent at once, so that the client knows that it is heard.
        self.send(": regrow events\n\n".to_owned()).await?;
        for event in old {
            self.event(&event).await?;
        }
        loop {
            match tokio::time::timeout(KEEP_ALIVE, live.next()).await {
                Ok(Some(event)) => self.event(&event).await?,
                Ok(None) => return Ok(()),
                Err(_) => self.send(": still here\n\n".to_owned()).await?,
            }
        }
    }

    async fn event(&mut self, event: &Recorded) -> Result<(), Gone> {
        let lost = self.last.map_or(0, |last| event.seq.saturating_sub(last + 1));
        if lost > 0 {
            self.send(format!("event: lost\ndata: {{\"lost\":{lost}}}\n\n")).await?;
        }
        self.last = Some(event.seq);
        if !self.wanted.wants(event) {
            return Ok(());
        }
        let Ok(data) = serde_json::to_string(&EventView::from(event)) else { return Ok(()) };
        self.send(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.event.kind.word())).await
    }

    async fn send(&self, chunk: String) -> Result<(), Gone> {
        self.feed.send(Bytes::from(chunk)).await.map_err(|_| Gone)
    }
}
