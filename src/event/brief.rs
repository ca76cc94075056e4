//! What happened to a child, as plain values: put into words only when somebody reads them.
//!
//! A worker that is restarted a hundred thousand times a second is told of four times each time, and hardly any of
//! that is ever read. What is kept is therefore what the words are made of; making them is the reader's work.

use std::sync::Arc;
use std::time::Duration;

use crate::exit::{Exit, signal_name};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{Intensity, Phase};
use crate::units::format_duration;

use super::{Cause, CauseName, Event, EventKind, cut};

/// Whom events are about; shared by all events of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The supervisor that decides.
    pub(crate) supervisor: Name,
    /// The child, if it is a worker.
    pub(crate) instance: Option<InstanceId>,
    /// The child, if it is a supervisor.
    pub(crate) nested: Option<Name>,
}

/// One thing that happened to a child.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Brief {
    /// Whom it is about.
    pub(crate) subject: Arc<Subject>,
    /// Which start of it.
    pub(crate) incarnation: Incarnation,
    /// What.
    pub(crate) what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// A start was begun.
    Starting(Option<CauseName>),
    /// It exists, under this pid if it is a process.
    Started(Option<u32>),
    /// It is ready.
    Ready,
    /// It ended.
    Ended(Arc<Ended>),
    /// Anything else, in words.
    Said(EventKind, Box<str>),
}

/// How something ended, and what comes next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    /// How.
    pub(crate) exit: Exit,
    /// What a person can do about it.
    pub(crate) hint: Option<String>,
    /// Whether it was asked to.
    pub(crate) asked: bool,
    /// The user's name for it, if one fits.
    pub(crate) class: Option<Arc<str>>,
    /// How long it lived.
    pub(crate) lived: Option<Duration>,
    /// What comes next; `None`: it is forgotten.
    pub(crate) next: Option<Next>,
}

/// What comes next for a child.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Next {
    /// Where it is.
    pub(crate) phase: Phase,
    /// How long it waits there, where that is known.
    pub(crate) wait: Option<Duration>,
    /// Restarts that intensity still allows.
    pub(crate) left: u32,
    /// What it allows.
    pub(crate) limit: Intensity,
    /// Trials of a parked one that failed in a row.
    pub(crate) trials: u32,
    /// Its exit code says that a restart cannot help.
    pub(crate) fatal: bool,
    /// What comes next is decided once what its supervisor does just now is done.
    pub(crate) undecided: bool,
}

impl Brief {
    /// What kind of thing.
    pub(crate) fn kind(&self) -> EventKind {
        match &self.what {
            What::Starting(_) => EventKind::WorkerStarting,
            What::Started(_) => EventKind::WorkerStarted,
            What::Ready => EventKind::WorkerReady,
            What::Ended(ended) if ended.asked => EventKind::WorkerStopped,
            What::Ended(_) => EventKind::WorkerExited,
            What::Said(kind, _) => *kind,
        }
    }

    /// The same with what was said as long as an event takes it.
    pub(crate) fn bounded(mut self) -> Self {
        if let What::Said(_, text) = &mut self.what {
            let mut whole = std::mem::take(text).into_string();
            cut(&mut whole);
            *text = whole.into();
        }
        self
    }

    /// The event, in words.
    pub(crate) fn event(&self) -> Event {
        let message = match &self.what {
            What::Starting(_) => start_text(self.incarnation),
            What::Started(pid) => {
                pid.map_or_else(|| "started".to_owned(), |pid| format!("started, pid {pid}"))
            }
            What::Ready => "ready".to_owned(),
            What::Ended(ended) => ended.text(),
            What::Said(_, text) => text.to_string(),
        };
        let mut event = Event::new(self.kind(), message);
        event.supervisor = Some(self.subject.supervisor.clone());
        event.incarnation = Some(self.incarnation);
        if let Some(instance) = &self.subject.instance {
            event.worker = Some(instance.worker().clone());
            event.instance = Some(instance.clone());
        }
        if let Some(name) = &self.subject.nested {
            event.data.insert("child_supervisor", name.as_str().into());
        }
        match &self.what {
            What::Starting(cause) => event.cause = cause.clone(),
            What::Started(Some(pid)) => event.data.insert("pid", (*pid).into()),
            What::Ended(ended) => {
                event.cause = (!ended.asked && !ended.is_done()).then(|| ended.cause());
                event.data.insert("exit", ended.json());
            }
            What::Started(None) | What::Ready | What::Said(..) => {}
        }
        event
    }
}

impl Ended {
    /// Why, where nobody asked for it.
    pub(crate) fn cause(&self) -> CauseName {
        CauseName::of(Cause::of(&self.exit), self.class.clone())
    }

    /// It ended well, and nothing is to be done about it: nobody's failure.
    fn is_done(&self) -> bool {
        let well = matches!(self.exit, Exit::Exited { code: 0 } | Exit::Stopped);
        well && self.next.as_ref().is_none_or(|next| next.phase == Phase::Done)
    }

    fn text(&self) -> String {
        let lived = self.lived.map(|lived| format!(" after {}", seconds(lived))).unwrap_or_default();
        let next = self.next.as_ref().map_or_else(|| "; forgotten".to_owned(), Next::text);
        format!("{}{lived}{next}", self.how())
    }

    /// How it ended, with what a person can do about it.
    pub(crate) fn how(&self) -> String {
        match &self.hint {
            // A supervisor that nobody asked to end: as normal an end as OTP has it, with a reason of its own.
            Some(why) if self.exit == Exit::Stopped && !self.asked => format!("ended: {why}"),
            Some(hint) => format!("{} ({hint})", self.exit),
            None => self.exit.to_string(),
        }
    }

    /// An end as the contract shows it everywhere: kind, code, signal by name, words.
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": self.exit.kind(),
            "code": self.exit.code(),
            "signal": self.exit.signal().map(signal_name),
            "message": self.how(),
        })
    }
}

impl Next {
    /// The second half of an event's line.
    pub(crate) fn text(&self) -> String {
        if self.undecided {
            return "; it is seen to once its supervisor has done what it is doing".to_owned();
        }
        match (self.phase, self.wait) {
            (Phase::Starting | Phase::Running, _) => format!("; restarting at once{}", self.budget()),
            (Phase::Backoff, Some(wait)) => format!("; restart in {}{}", seconds(wait), self.budget()),
            (Phase::Backoff, None) => format!("; restart follows{}", self.budget()),
            (Phase::Quarantined, Some(wait)) => {
                format!("; parked: {}; next try in {}", self.exhausted(), seconds(wait))
            }
            (Phase::Quarantined, None) => {
                format!("; parked: {}; `regrow reset-failed` tries again", self.exhausted())
            }
            (Phase::Waiting, _) => "; its start waits".to_owned(),
            (Phase::Done, _) => "; it is done and not started again".to_owned(),
            (Phase::Stopped, _) => "; it stays down".to_owned(),
            (Phase::Stopping | Phase::Stuck, _) => String::new(),
        }
    }

    fn budget(&self) -> String {
        let Intensity { max_restarts, within } = self.limit;
        format!("; {} of {max_restarts} restarts in {} left", self.left, format_duration(within))
    }

    fn exhausted(&self) -> String {
        if self.fatal {
            return "its exit code says that a restart cannot help".to_owned();
        }
        if self.trials > 0 {
            return "its trial did not hold".to_owned();
        }
        if self.left > 0 {
            return "the steps of its ladder did not help".to_owned();
        }
        let Intensity { max_restarts, within } = self.limit;
        format!("{max_restarts} restarts in {} are spent", format_duration(within))
    }
}

fn start_text(incarnation: Incarnation) -> String {
    if incarnation == Incarnation(1) {
        "starting".to_owned()
    } else {
        format!("starting, incarnation {incarnation}")
    }
}

/// `0.40 s`, `3.2 s`, `12 s`, `4 m 10 s`: as exact as a person wants it.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.0005 {
        "no time".to_owned()
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7200.0 {
        format!("{:.0} m {:.0} s", (seconds / 60.0).floor(), seconds % 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(what: What) -> Brief {
        let name = |text| Name::try_new(text).unwrap();
        let instance = Some(InstanceId::single(name("web")));
        let subject = Arc::new(Subject { supervisor: name("root"), instance, nested: None });
        Brief { subject, incarnation: Incarnation(3), what }
    }

    #[test]
    fn an_end_says_how_after_what_time_and_what_comes_next() {
        let limit = Intensity { max_restarts: 10, within: Duration::from_secs(300) };
        let next = Next {
            phase: Phase::Running,
            wait: None,
            left: 9,
            limit,
            trials: 0,
            fatal: false,
            undecided: false,
        };
        let ended = Ended {
            exit: Exit::Exited { code: 1 },
            hint: Some("look there".to_owned()),
            asked: false,
            class: None,
            lived: Some(Duration::from_millis(3200)),
            next: Some(next),
        };
        let event = brief(What::Ended(Arc::new(ended))).event();
        assert_eq!(event.kind, EventKind::WorkerExited);
        assert_eq!(event.cause, Some(Cause::Crash.into()));
        assert_eq!(
            event.message,
            "exited with code 1 (look there) after 3.2 s; restarting at once; 9 of 10 restarts in 5m left"
        );
        assert_eq!(event.data.get("exit").unwrap()["message"], "exited with code 1 (look there)");
    }

    #[test]
    fn nothing_is_promised_that_is_not_decided_and_a_supervisor_that_nobody_asked_says_why_it_ended() {
        let limit = Intensity { max_restarts: 2, within: Duration::from_secs(60) };
        let next = Next {
            phase: Phase::Backoff,
            wait: None,
            left: 0,
            limit,
            trials: 0,
            fatal: false,
            undecided: true,
        };
        assert_eq!(next.text(), "; it is seen to once its supervisor has done what it is doing");
        let hint = Some("supervisor esc gave up".to_owned());
        let ended = Ended { exit: Exit::Stopped, hint, asked: false, class: None, lived: None, next: None };
        assert_eq!(ended.how(), "ended: supervisor esc gave up");
        assert_eq!(Ended { hint: None, asked: true, ..ended }.how(), Exit::Stopped.to_string());
    }

    #[test]
    fn a_start_says_whose_and_which() {
        let event = brief(What::Starting(Some(Cause::Crash.into()))).event();
        assert_eq!(
            (event.message.as_str(), event.cause),
            ("starting, incarnation 3", Some(Cause::Crash.into()))
        );
        assert_eq!(event.instance.unwrap().to_string(), "web");
        assert_eq!(event.supervisor.unwrap().as_str(), "root");
    }
}
