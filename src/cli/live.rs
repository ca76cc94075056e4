//! One event as one line: time, who, what, in a colour that says how bad it is.

use std::collections::HashMap;

use anstyle::Style;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::http::dto::EventView;

use super::table::{bold, dim, green, paint, red, yellow};
use super::words::{clock_millis, safe};

/// Prints events of one runtime with aligned names.
pub(crate) struct LiveLog {
    zone: TimeZone,
    column: usize,
    /// Whether each line has its date: they are of several days.
    dated: bool,
}

/// Longer names push their line to the right, not all the others.
const WIDEST: usize = 24;

impl LiveLog {
    /// Names up to the longest of these line up.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let column = names.map(|name| name.chars().count()).max().unwrap_or(0);
        Self { zone: TimeZone::system(), column: column.clamp(7, WIDEST), dated: false }
    }

    /// The same for events since then: with dates unless all of them are of today.
    pub(crate) fn since(self, first: Option<Timestamp>, now: Timestamp) -> Self {
        let day = |at: Timestamp| at.to_zoned(self.zone.clone()).date();
        let dated = first.is_some_and(|first| day(first) != day(now));
        Self { dated, ..self }
    }

    #[cfg(test)]
    fn in_utc(column: usize) -> Self {
        Self { zone: TimeZone::UTC, column, dated: false }
    }

    /// The line, without its end.
    pub(crate) fn line(&self, event: &EventView) -> String {
        let nested = || event.data.get("child_supervisor").and_then(|name| name.as_str());
        let who = event.instance.as_deref().or_else(nested).or(event.supervisor.as_deref());
        let who = who.unwrap_or("regrow");
        let message = safe(&event.message);
        // The column says who already.
        let own = |rest: &&str| rest.starts_with([':', ' ']);
        let said = message.strip_prefix(who).filter(own).map(|rest| rest.trim_start_matches([':', ' ']));
        let clock = clock_millis(event.at, &self.zone);
        let date = |at: Timestamp| at.to_zoned(self.zone.clone()).date();
        let clock = if self.dated { format!("{} {clock}", date(event.at)) } else { clock };
        let time = paint(&clock, dim());
        let who = format!("{who:<width$}", width = self.column);
        format!("{time}  {who}  {}", paint(said.unwrap_or(&message), style(&event.kind)))
    }
}

/// Causes that an end says itself; those of the user's error classes are news.
const PLAIN: [&str; 4] = ["crash", "oom", "hang", "start_failed"];

/// Leaves out of a screen what the line above has said already.
#[derive(Default)]
pub(crate) struct News {
    /// The last end of each instance, as it was told.
    ends: HashMap<String, String>,
}

impl News {
    /// Whether the event says something that is not there yet.
    pub(crate) fn is(&mut self, event: &EventView) -> bool {
        let instance = event.instance.as_deref().unwrap_or_default();
        match event.kind.as_str() {
            // What follows at once says that a start begins; a slow one is seen in `status`.
            "worker.starting" => false,
            "worker.exited" => {
                self.ends.insert(instance.to_owned(), event.message.clone());
                true
            }
            "worker.removed" => {
                self.ends.remove(instance);
                true
            }
            "incident.opened" => {
                let end = self.ends.remove(instance).unwrap_or_default();
                let told = event.message.split_once(": ").filter(|(cause, _)| PLAIN.contains(cause));
                told.is_none_or(|(_, why)| !end.contains(why))
            }
            // That it is parked comes next, with the time of the next try.
            "incident.closed" => !event.message.starts_with("failed: parked"),
            _ => true,
        }
    }
}

fn style(kind: &str) -> Style {
    match kind {
        "worker.parked" | "worker.stuck" => red().bold(),
        "recovery.failed" | "worker.exited" => red(),
        "incident.opened" | "recovery.planned" | "recovery.step" | "runtime.lagged" => yellow(),
        "worker.ready" | "recovery.verified" | "incident.closed" => green(),
        "worker.starting" | "worker.started" | "worker.stopping" | "worker.stopped" => dim(),
        "runtime.started" | "runtime.stopping" | "action.requested" => bold(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventKind};
    use crate::telemetry::Journal;

    fn view(event: Event) -> EventView {
        let journal = Journal::new();
        journal.emit(event);
        let mut view = EventView::from(&*journal.since(0)[0]);
        view.at = "2026-01-02T03:04:05.678Z".parse().unwrap();
        view
    }

    #[test]
    fn a_line_says_when_who_and_what() {
        let mut event =
            Event::new(EventKind::WorkerExited, "parser exited with code 1\u{1b}[2J; restart 1 in 0 s");
        event.instance = Some("parser".parse().unwrap());
        let line = anstream::adapter::strip_str(&LiveLog::in_utc(8).line(&view(event))).to_string();
        assert_eq!(line, "03:04:05.678  parser    exited with code 1\\x1b[2J; restart 1 in 0 s");
    }

    #[test]
    fn lines_of_several_days_have_their_dates() {
        let event = view(Event::new(EventKind::RuntimeStarted, "up"));
        let line = |first: &str, now: &str| {
            let live = LiveLog::in_utc(7).since(Some(first.parse().unwrap()), now.parse().unwrap());
            anstream::adapter::strip_str(&live.line(&event)).to_string()
        };
        assert_eq!(line("2026-01-02T00:00:01Z", "2026-01-02T09:00:00Z"), "03:04:05.678  regrow   up");
        let dated = line("2026-01-01T23:59:59Z", "2026-01-02T09:00:00Z");
        assert_eq!(dated, "2026-01-02 03:04:05.678  regrow   up");
    }

    #[test]
    fn a_word_that_only_begins_like_the_name_stays_whole() {
        let mut event = Event::new(EventKind::WorkerParked, "parked: 10 restarts in 5m");
        event.instance = Some("par".parse().unwrap());
        let line = anstream::adapter::strip_str(&LiveLog::in_utc(7).line(&view(event))).to_string();
        assert_eq!(line, "03:04:05.678  par      parked: 10 restarts in 5m");
    }

    #[test]
    fn what_happens_to_a_supervisor_is_told_of_it_and_not_of_the_one_above() {
        let mut event = Event::new(EventKind::WorkerStopping, "asked to stop");
        event.supervisor = Some(crate::id::Name::root());
        event.data.insert("child_supervisor".to_owned(), "lab".into());
        let line = LiveLog::in_utc(7).line(&view(event));
        assert_eq!(anstream::adapter::strip_str(&line).to_string(), "03:04:05.678  lab      asked to stop");
    }

    #[test]
    fn an_incident_is_news_only_if_it_says_more_than_the_end_above_it() {
        let event = |kind, message: &str| {
            let mut event = Event::new(kind, message.to_owned());
            event.instance = Some("web".parse().unwrap());
            view(event)
        };
        let mut news = News::default();
        let ended = event(EventKind::WorkerExited, "exited with code 3 after 2 ms; restart in 1 ms");
        let repeated = event(EventKind::IncidentOpened, "crash: exited with code 3");
        assert!(news.is(&ended) && !news.is(&repeated));
        assert!(news.is(&ended) && news.is(&event(EventKind::WorkerRemoved, "removed from the tree")));
        assert!(news.ends.is_empty(), "whoever comes and goes leaves nothing");
        assert!(news.is(&repeated), "without an end above it, it is");
        let class = event(EventKind::IncidentOpened, "broker_gone: exited with code 3");
        assert!(news.is(&ended) && news.is(&class));
        assert!(news.is(&event(EventKind::IncidentOpened, "probe_failed: probe p failed 3 times in a row")));
        assert!(!news.is(&event(EventKind::IncidentClosed, "failed: parked: its restarts are spent")));
        assert!(news.is(&event(EventKind::IncidentClosed, "ok: it has held for 10s")));
        assert!(news.is(&event(EventKind::WorkerParked, "parked: 2 restarts in 1m are spent")));
    }

    #[test]
    fn an_event_of_no_one_is_the_runtimes_own() {
        let line = LiveLog::in_utc(7).line(&view(Event::new(EventKind::RuntimeStarted, "up")));
        assert_eq!(anstream::adapter::strip_str(&line).to_string(), "03:04:05.678  regrow   up");
    }
}
