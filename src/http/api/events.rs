//! `/events`: the journal as a stream, or as a list. Both reach back over restarts of the runtime.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::event::EventKind;
use crate::runtime::RuntimeHandle;
use crate::store::{EventQuery, StoreError};
use crate::telemetry::{Recorded, Subscription};

use super::super::dto::{EventView, EventsBody};
use super::super::problem::Problem;
use super::page::Page;
use super::{Api, KEEP_ALIVE, event_stream, json};

/// Events in one answer, and what a list goes back if nobody says how far.
const MOST: usize = 10_000;
const BACK: u64 = 4096;

/// Events that are read for a stream at once.
const PAGE: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    since_seq: Option<u64>,
    cursor: Option<u64>,
    since: Option<Timestamp>,
    kind: Option<String>,
    worker: Option<String>,
    incident: Option<String>,
    limit: Option<usize>,
    filter: Option<String>,
}

pub(super) async fn events(
    State(api): State<Arc<Api>>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let Query(mut ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let filter = Page::parse(None, None, ask.filter.as_deref(), &["worker", "worker", "incident", "kind"])?;
    ask.kind = ask.kind.or_else(|| filter.wanted("kind"));
    ask.worker = ask.worker.or_else(|| filter.wanted("worker"));
    ask.incident = ask.incident.or_else(|| filter.wanted("incident"));
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let last_id = header("last-event-id").and_then(|id| id.parse().ok());
    let after = last_id.or(ask.since_seq).or(ask.cursor);
    let wanted = Wanted { worker: ask.worker, incident: ask.incident, ..Wanted::parse(ask.kind.as_deref())? };
    let accept = header(header::ACCEPT.as_str()).unwrap_or_default();
    if accept.contains("application/json") && !accept.contains("text/event-stream") {
        let back = api.runtime.journal().last_seq().saturating_sub(BACK);
        let after = after.unwrap_or(if ask.since.is_some() { 0 } else { back });
        let limit = ask.limit.unwrap_or(MOST).min(MOST);
        let kinds = wanted.patterns();
        let Wanted { worker, incident, .. } = wanted;
        return list(&api, EventQuery { after, since: ask.since, kinds, worker, incident, limit }).await;
    }
    let from = match (after, ask.since) {
        (Some(after), _) => From::Behind(after),
        (None, Some(since)) => From::Time(since),
        (None, None) => From::Memory,
    };
    Ok(stream(&api, from, wanted))
}

/// Where a stream begins.
enum From {
    /// With what is in memory.
    Memory,
    /// Behind this number.
    Behind(u64),
    /// With what happened since.
    Time(Timestamp),
}

/// What is asked for.
#[derive(Default)]
struct Wanted {
    /// Kinds; a prefix such as `worker.` means all of them.
    kinds: Option<Vec<String>>,
    worker: Option<String>,
    incident: Option<String>,
}

impl Wanted {
    /// A kind that nothing can have is a mistake: who waits for it would wait for ever.
    fn parse(kinds: Option<&str>) -> Result<Self, Problem> {
        let Some(kinds) = kinds else { return Ok(Self::default()) };
        let kinds: Vec<String> = kinds.split(',').map(|kind| kind.trim().to_owned()).collect();
        let known = |kind: &&String| EventKind::ALL.iter().any(|one| covers(kind, one.word()));
        match kinds.iter().find(|kind| !known(kind)) {
            None => Ok(Self { kinds: Some(kinds), ..Self::default() }),
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

    /// The same as patterns: a word, or a beginning and `*`.
    fn patterns(&self) -> Vec<String> {
        let all = self.kinds.iter().flatten();
        all.map(|kind| if kind.ends_with('.') { format!("{kind}*") } else { kind.clone() }).collect()
    }

    fn wants(&self, event: &Recorded) -> bool {
        let event = &event.event;
        let kind = |kinds: &Vec<String>| kinds.iter().any(|kind| covers(kind, event.kind.word()));
        let about = |worker: &String| event.worker.as_ref().is_some_and(|own| own.as_str() == worker);
        self.kinds.as_ref().is_none_or(kind)
            && self.worker.as_ref().is_none_or(about)
            && self.incident.as_ref().is_none_or(|incident| event.incident.as_ref() == Some(incident))
    }
}

/// Whether a kind that was asked for, or all with its prefix, means this word.
fn covers(kind: &str, word: &str) -> bool {
    match kind.strip_suffix('*').or(kind.ends_with('.').then_some(kind)) {
        Some(prefix) => word.starts_with(prefix),
        None => word == kind,
    }
}

async fn list(api: &Api, query: EventQuery) -> Result<Response<Body>, Problem> {
    let shown = api.runtime.recorded(query).await.map_err(|error| unreadable(&error))?;
    let next_cursor = shown.last().map(|event| event.seq.to_string());
    let items = shown.iter().map(|event| EventView::from(&**event)).collect();
    Ok(json(&EventsBody { schema: "regrow.events/1".to_owned(), items, next_cursor }))
}

fn unreadable(error: &StoreError) -> Problem {
    let text = format!("what happened before cannot be read from state.db: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", text)
}

fn stream(api: &Api, from: From, wanted: Wanted) -> Response<Body> {
    let (feed, response) = event_stream();
    let (runtime, mut stopped) = (api.runtime.clone(), api.stopped());
    tokio::spawn(async move {
        let mut feeder = Feeder { runtime, feed, wanted, last: None };
        tokio::select! {
            _ = feeder.run(from) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
    response
}

struct Feeder {
    runtime: RuntimeHandle,
    feed: mpsc::Sender<Bytes>,
    wanted: Wanted,
    last: Option<u64>,
}

/// The client is gone.
struct Gone;

impl Feeder {
    async fn run(&mut self, from: From) -> Result<(), Gone> {
        // Sent at once, so that the client knows that it is heard.
        self.send(": regrow events\n\n".to_owned()).await?;
        let after = match from {
            From::Memory => 0,
            From::Behind(after) => {
                self.last = (after > 0).then_some(after);
                self.catch_up(after).await?
            }
            From::Time(since) => {
                let first = EventQuery { since: Some(since), limit: 1, ..EventQuery::default() };
                let first = self.read(first).await?.first().map(|first| first.seq.saturating_sub(1));
                self.catch_up(first.unwrap_or(self.runtime.journal().last_seq())).await?
            }
        };
        let (old, live) = self.runtime.journal().follow(after);
        for event in old {
            self.event(&event).await?;
        }
        self.go_on(live).await
    }

    /// Sends what was kept and is no longer in memory; gives the number of the last one.
    async fn catch_up(&mut self, mut after: u64) -> Result<u64, Gone> {
        while self
            .runtime
            .journal()
            .since(after)
            .first()
            .is_none_or(|first| first.seq > after.saturating_add(1))
        {
            let page = EventQuery { after, limit: PAGE, ..EventQuery::default() };
            let page = self.read(page).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            for event in page {
                self.event(&event).await?;
            }
        }
        Ok(after)
    }

    /// A disk that cannot be read is told and ends the stream: the client would take what is missing for nothing.
    async fn read(&self, query: EventQuery) -> Result<Vec<Arc<Recorded>>, Gone> {
        match self.runtime.recorded(query).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let text = serde_json::json!({ "unreadable": error.to_string() });
                self.send(format!("event: lost\ndata: {text}\n\n")).await?;
                Err(Gone)
            }
        }
    }

    async fn go_on(&mut self, mut live: Subscription) -> Result<(), Gone> {
        loop {
            match tokio::time::timeout(KEEP_ALIVE, live.next()).await {
                Ok(Some(event)) => self.event(&event).await?,
                Ok(None) => return Ok(()),
                Err(_) => self.send(": still here\n\n".to_owned()).await?,
            }
        }
    }

    async fn event(&mut self, event: &Recorded) -> Result<(), Gone> {
        let lost = self.last.map_or(0, |last| event.seq.saturating_sub(last.saturating_add(1)));
        if lost > 0 {
            self.send(format!("event: lost\ndata: {{\"lost\":{lost}}}\n\n")).await?;
        }
        self.last = Some(event.seq);
        if !self.wanted.wants(event) {
            return Ok(());
        }
        self.runtime.settled(event.seq).await;
        let Ok(data) = serde_json::to_string(&EventView::from(event)) else { return Ok(()) };
        self.send(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.event.kind.word())).await
    }

    async fn send(&self, chunk: String) -> Result<(), Gone> {
        self.feed.send(Bytes::from(chunk)).await.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::id::Name;

    fn event(worker: Option<&str>, incident: Option<&str>) -> Recorded {
        let mut event = Event::new(EventKind::ALL[0], "");
        event.worker = worker.map(|worker| Name::try_new(worker).unwrap());
        event.incident = incident.map(str::to_owned);
        Recorded { schema: "regrow.event/1", seq: 1, at: Timestamp::UNIX_EPOCH, event }
    }

    #[test]
    fn a_stream_has_only_the_worker_and_the_incident_that_were_asked_for() {
        let all = Wanted::default();
        assert!(all.wants(&event(None, None)));
        let web = Wanted { worker: Some("web".to_owned()), ..Wanted::default() };
        assert!(web.wants(&event(Some("web"), None)));
        assert!(!web.wants(&event(Some("broker"), None)) && !web.wants(&event(None, None)));
        let one = Wanted { incident: Some("inc-1".to_owned()), ..web };
        assert!(one.wants(&event(Some("web"), Some("inc-1"))));
        assert!(!one.wants(&event(Some("web"), Some("inc-2"))) && !one.wants(&event(Some("web"), None)));
    }
}
