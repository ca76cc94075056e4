//! `/workers/{id}/logs`: what instances wrote.
//!
//! Reading happens on threads for blocking work: a slow disk holds up this answer and no other.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, header};
use jiff::{SignedDuration, Timestamp};
use regex::bytes::Regex;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::id::InstanceId;
use crate::runtime::RuntimeHandle;

use super::super::dto::{LogLine, LogsBody};
use super::super::logfile::{Filter, LogReader};
use super::super::{problem::Problem, snapshot};
use super::look::worker_target;
use super::{Api, event_stream, json};

/// Lines without `tail`.
const USUAL_LINES: usize = 100;

/// Most lines of one answer.
const MOST_LINES: usize = 10_000;

/// How often a follower looks for new lines.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

/// Looks without a new line after which a sign of life is sent.
const QUIET_LOOKS: u32 = 75;

#[derive(Deserialize)]
pub(super) struct Ask {
    tail: Option<usize>,
    since: Option<String>,
    grep: Option<String>,
}

pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let filter = filter(&ask)?;
    let states = snapshot::resolve(&api.runtime, &target)
        .ok_or_else(|| Problem::not_found(format!("no worker or instance is called `{target}`")))?;
    let readers = readers(&api.runtime, &snapshot::ids(&states), &filter);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        return Ok(stream(&api, readers));
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut readers = readers;
        readers.iter_mut().flat_map(LogReader::kept).collect::<Vec<LogLine>>()
    });
    let mut items = read.await.map_err(|_| Problem::busy("reading the log failed"))?;
    items.sort_by_key(|line| line.at);
    Ok(json(&LogsBody { schema: "regrow.logs/1".to_owned(), items, next_cursor: None }))
}

fn readers(runtime: &RuntimeHandle, instances: &[InstanceId], filter: &Filter) -> Vec<LogReader> {
    instances.iter().map(|instance| LogReader::new(runtime.log_path(instance), instance.clone(), filter.clone())).collect()
}

fn filter(ask: &Ask) -> Result<Filter, Problem> {
    let since = ask.since.as_deref().map(parse_since).transpose()?;
    let grep = ask.grep.as_deref().map(|pattern| {
        Regex::new(pattern).map_err(|error| Problem::invalid(format!("grep: {error}")))
    });
    let usual = if since.is_some() || ask.grep.is_some() { MOST_LINES } else { USUAL_LINES };
    Ok(Filter { tail: ask.tail.unwrap_or(usual).min(MOST_LINES), since, grep: grep.transpose()? })
}

/// `5m` ago, or an RFC 3339 time.
fn parse_since(text: &str) -> Result<Timestamp, Problem> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wrong = || Problem::invalid("since: expected `5m`, or a time such as 2026-01-31T12:00:00Z");
    let ago = crate::units::parse_duration(text).map_err(|_| wrong())?;
    let ago = SignedDuration::try_from(ago).map_err(|_| wrong())?;
    Timestamp::now().checked_sub(ago).map_err(|_| wrong())
}

fn stream(api: &Api, readers: Vec<LogReader>) -> Response<Body> {
    let (feed, response) = event_stream();
    let mut stopped = api.stopped();
    tokio::spawn(async move {
        tokio::select! {
            () = follow(feed, readers) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
    response
}

async fn follow(feed: mpsc::Sender<Bytes>, readers: Vec<LogReader>) {
    let mut readers = Some(readers);
    let mut first = true;
    let mut quiet = 0;
    loop {
        let Some(mut taken) = readers.take() else { return };
        let look = tokio::task::spawn_blocking(move || {
            let lines: Vec<LogLine> =
                taken.iter_mut().flat_map(|reader| if first { reader.kept() } else { reader.fresh() }).collect();
            (taken, lines)
        });
        let Ok((back, mut lines)) = look.await else { return };
        readers = Some(back);
        first = false;
        quiet = if lines.is_empty() { quiet + 1 } else { 0 };
        lines.sort_by_key(|line| line.at);
        let mut chunk = String::new();
        for line in &lines {
            let Ok(data) = serde_json::to_string(line) else { continue };
            chunk.push_str(&format!("event: line\ndata: {data}\n\n"));
        }
        if quiet >= QUIET_LOOKS {
            quiet = 0;
            chunk.push_str(": still here\n\n");
        }
        if feed.is_closed() || (!chunk.is_empty() && feed.send(Bytes::from(chunk)).await.is_err()) {
            return;
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}
