//! `/workers/{id}/logs`: what instances wrote.
//!
//! Reading happens on threads for blocking work: a slow disk holds up this answer and no other.

use std::io;
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
use crate::supervisor::InstanceState;
use crate::worker::output::{LogFollower, LogQuery, LogReader, ReadLine, StreamName};

use super::super::dto::{LogLine, LogsBody};
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
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    tail: Option<usize>,
    since: Option<String>,
    grep: Option<String>,
    stream: Option<String>,
}

pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let query = query(&ask)?;
    let name = stream_name(ask.stream.as_deref())?;
    let states = snapshot::known(&api.runtime, &target)?;
    let folder = api.runtime.info().state_dir.join("logs");
    let settings = api.runtime.info().settings();
    let elsewhere = |state: &InstanceState| {
        let worker = settings.workers.iter().find(|worker| worker.name == *state.instance.worker())?;
        snapshot::not_kept(worker).map(|why| format!("{}: {why}", state.instance))
    };
    let notes = states.iter().filter_map(elsewhere).collect();
    let sources: Vec<_> = snapshot::ids(&states)
        .into_iter()
        .map(|instance| (LogReader::new(&folder, &instance, name), instance))
        .collect();
    // Read before the answer begins, so that an unreadable log is an error and not an empty stream.
    let read = tokio::task::spawn_blocking(move || kept(sources, &query)).await;
    let (followers, mut items) =
        read.map_err(|_| Problem::busy("reading the log failed"))?.map_err(|error| unreadable(&error))?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        return Ok(stream(&api, followers, items));
    }
    // A line that is not finished yet belongs to what there is now; a stream waits for its end.
    for (follower, instance) in followers {
        let push = |read: ReadLine<'_>| {
            items.push(line(&instance, read));
            Ok(())
        };
        follower.finish(push).map_err(|error| unreadable(&error))?;
    }
    Ok(json(&LogsBody { schema: "regrow.logs/1".to_owned(), items, next_cursor: None, notes }))
}

fn unreadable(error: &io::Error) -> Problem {
    Problem::busy(format!("the log cannot be read: {error}"))
}

fn query(ask: &Ask) -> Result<LogQuery, Problem> {
    let since = ask.since.as_deref().map(parse_since).transpose()?;
    let wrong = |error| Problem::invalid(format!("grep: {error}"));
    let grep = ask.grep.as_deref().map(|pattern| Regex::new(pattern).map_err(wrong)).transpose()?;
    let usual = if since.is_some() || grep.is_some() { MOST_LINES } else { USUAL_LINES };
    Ok(LogQuery { since, tail: Some(ask.tail.unwrap_or(usual).min(MOST_LINES)), grep })
}

fn stream_name(text: Option<&str>) -> Result<StreamName, Problem> {
    match text {
        None | Some("stdout") => Ok(StreamName::Stdout),
        Some("stderr") => Ok(StreamName::Stderr),
        Some(_) => Err(Problem::invalid("stream: there are stdout and stderr")),
    }
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

type Followers = Vec<(LogFollower, InstanceId)>;

/// What is there, and where reading goes on.
fn kept(sources: Vec<(LogReader, InstanceId)>, query: &LogQuery) -> io::Result<(Followers, Vec<LogLine>)> {
    let mut lines = Vec::new();
    let mut followers = Vec::new();
    for (reader, instance) in sources {
        let follower = reader.read(query, |read| {
            lines.push(line(&instance, read));
            Ok(())
        })?;
        followers.push((follower, instance));
    }
    Ok((followers, lines))
}

/// What has come since; `true`: there is more already.
fn fresh(followers: &mut Followers) -> (bool, Vec<LogLine>) {
    let mut lines = Vec::new();
    let mut more = false;
    for (follower, instance) in followers {
        let read = follower.read(|read| {
            lines.push(line(instance, read));
            Ok(())
        });
        // A log that cannot be read now may be readable at the next look.
        more |= read.unwrap_or(false);
    }
    (more, lines)
}

fn line(instance: &InstanceId, read: ReadLine<'_>) -> LogLine {
    let line = String::from_utf8_lossy(read.text).into_owned();
    LogLine { instance: instance.to_string(), at: read.at, line }
}

fn stream(api: &Api, followers: Followers, items: Vec<LogLine>) -> Response<Body> {
    let (feed, response) = event_stream();
    let mut stopped = api.stopped();
    tokio::spawn(async move {
        tokio::select! {
            () = follow(feed, followers, items) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
    response
}

async fn follow(feed: mpsc::Sender<Bytes>, mut followers: Followers, first: Vec<LogLine>) {
    let mut lines = first;
    let mut quiet = 0;
    loop {
        quiet = if lines.is_empty() { quiet + 1 } else { 0 };
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
        let mut taken = followers;
        let look = tokio::task::spawn_blocking(move || {
            let found = fresh(&mut taken);
            (taken, found)
        });
        let Ok((back, (more, found))) = look.await else { return };
        (followers, lines) = (back, found);
        if lines.is_empty() && !more {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }
}
