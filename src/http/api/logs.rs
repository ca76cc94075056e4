//! `/workers/{id}/logs`: what instances wrote.
//!
//! Reading happens on threads for blocking work: a slow disk holds up this answer and no other.

use std::collections::{BTreeMap, HashMap};
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

/// Most lines of one answer, of all instances together.
const MOST_LINES: usize = 10_000;

/// Most bytes of them. The newest are kept, and at least one.
const MOST_BYTES: usize = 16 << 20;

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
    let mut notes: Vec<String> = states.iter().filter_map(elsewhere).collect();
    let sources: Vec<_> = snapshot::ids(&states)
        .into_iter()
        .map(|instance| (LogReader::new(&folder, &instance, name), instance))
        .collect();
    // Read before the answer begins, so that an unreadable log is an error and not an empty stream.
    let read = tokio::task::spawn_blocking(move || kept(sources, &query)).await;
    let (followers, mut newest) =
        read.map_err(|_| Problem::busy("reading the log failed"))?.map_err(|error| unreadable(&error))?;
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if accept.contains("text/event-stream") {
        return Ok(stream(&api, followers, newest.into_lines()));
    }
    // A line that is not finished yet belongs to what there is now; a stream waits for its end.
    for (source, (follower, instance)) in followers.into_iter().enumerate() {
        let push = |read: ReadLine<'_>| {
            newest.push(source, &instance, read);
            Ok(())
        };
        follower.finish(push).map_err(|error| unreadable(&error))?;
    }
    if newest.heavy {
        let most = crate::units::format_size(MOST_BYTES as u64);
        notes.push(format!("older lines are left out: one answer has at most {most} of them"));
    }
    Ok(json(&LogsBody {
        schema: "regrow.logs/1".to_owned(),
        items: newest.into_lines(),
        next_cursor: None,
        notes,
    }))
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
fn kept(sources: Vec<(LogReader, InstanceId)>, query: &LogQuery) -> io::Result<(Followers, Newest)> {
    let mut newest = Newest::new(query.tail.unwrap_or(MOST_LINES), MOST_BYTES);
    let mut followers = Vec::new();
    for (source, (reader, instance)) in sources.into_iter().enumerate() {
        let follower = reader.read(query, |read| {
            newest.push(source, &instance, read);
            Ok(())
        })?;
        followers.push((follower, instance));
    }
    Ok((followers, newest))
}

/// The newest lines of several logs, in the order of their times; those of one log stay in theirs.
struct Newest {
    lines: BTreeMap<(Timestamp, usize, u64), LogLine>,
    /// When the last line of each log was written. One without a time of its own is as old as the one before.
    times: HashMap<usize, Timestamp>,
    count: u64,
    bytes: usize,
    most_lines: usize,
    most_bytes: usize,
    /// Some are left out for their size.
    heavy: bool,
}

impl Newest {
    fn new(most_lines: usize, most_bytes: usize) -> Self {
        Self {
            lines: BTreeMap::new(),
            times: HashMap::new(),
            count: 0,
            bytes: 0,
            most_lines,
            most_bytes,
            heavy: false,
        }
    }

    fn push(&mut self, source: usize, instance: &InstanceId, read: ReadLine<'_>) {
        let time = self.times.entry(source).or_insert(Timestamp::MIN);
        *time = read.at.map_or(*time, |at| at.max(*time));
        let key = (*time, source, self.count);
        self.count += 1;
        let line = line(instance, read);
        self.bytes += line.line.len();
        self.lines.insert(key, line);
        loop {
            let (many, heavy) = (self.lines.len() > self.most_lines, self.bytes > self.most_bytes);
            if !many && (!heavy || self.lines.len() == 1) {
                break;
            }
            let Some((_, oldest)) = self.lines.pop_first() else { break };
            self.bytes -= oldest.line.len();
            self.heavy |= !many;
        }
    }

    /// Oldest first.
    fn into_lines(self) -> Vec<LogLine> {
        self.lines.into_values().collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A second, where it has one, and a text.
    type Written = (Option<i64>, &'static str);

    fn newest(most_lines: usize, most_bytes: usize) -> Newest {
        let mut newest = Newest::new(most_lines, most_bytes);
        // Each log is read to its end before the next one; one line has no time.
        let logs: [(&str, &[Written]); 2] = [
            ("web/0", &[(Some(1), "a1"), (None, "a?"), (Some(5), "a5")]),
            ("web/1", &[(Some(3), "b3"), (Some(4), "b4")]),
        ];
        for (source, (instance, lines)) in logs.iter().enumerate() {
            for (second, text) in *lines {
                let at = second.map(|second| Timestamp::from_second(second).unwrap());
                newest.push(source, &instance.parse().unwrap(), ReadLine { text: text.as_bytes(), at });
            }
        }
        newest
    }

    fn texts(newest: Newest) -> Vec<String> {
        newest.into_lines().into_iter().map(|line| line.line).collect()
    }

    #[test]
    fn lines_of_several_logs_come_in_the_order_of_their_times() {
        assert_eq!(texts(newest(10, 100)), ["a1", "a?", "b3", "b4", "a5"]);
    }

    #[test]
    fn the_newest_of_all_logs_are_kept_and_not_those_of_the_last_one() {
        let two = newest(2, 100);
        assert!(!two.heavy);
        assert_eq!(texts(two), ["b4", "a5"]);
        assert_eq!(texts(newest(0, 100)), [""; 0]);
    }

    #[test]
    fn so_many_bytes_are_kept_and_at_least_one_line() {
        let six = newest(10, 7);
        assert!(six.heavy);
        assert_eq!(texts(six), ["b3", "b4", "a5"]);
        assert_eq!(texts(newest(10, 1)), ["a5"]);
    }
}
