//! The record of one incident: from the first bad fact to verified recovery or parking.
//!
//! Plain values in the order in which things happened; what people see of them is made elsewhere. An incident is
//! bounded: so many attempts, so much evidence, and the rest is counted.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::strategy::Strategy;

/// More attempts than this are counted, not kept: a ladder has fewer, a crash loop has more.
const MAX_ATTEMPTS: usize = 64;

/// More pieces of evidence than this are counted, not kept.
const MAX_FINDINGS: usize = 32;

/// The contract's recovery outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It held.
    Ok,
    /// It did not.
    Failed,
    /// It was not done.
    Skipped,
    /// Something else came first.
    Interrupted,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Failed, Self::Skipped, Self::Interrupted];

    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One step that was taken or passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// What.
    pub strategy: Strategy,
    /// When it began.
    pub at: Timestamp,
    /// Why this one, or why not.
    pub reason: String,
    /// What came of it; `None`: it goes on.
    pub outcome: Option<Outcome>,
    /// How long it took.
    pub seconds: Option<f64>,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Where it was seen, such as `output`, `stack`, `capture`.
    pub what: String,
    /// When.
    pub at: Timestamp,
    /// What, without secrets.
    pub text: String,
}

/// How an incident ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// In words.
    pub reason: String,
    /// How long it took from its opening, where a clock that nobody sets has measured it.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name, for people and routes.
    pub id: Arc<str>,
    /// The instance.
    pub instance: String,
    /// The cause, in the contract's word or the user's class.
    pub cause: String,
    /// The class under which experience is kept.
    pub class: Option<Arc<str>>,
    /// What was wrong at first, in words; of one about who watches, what is wrong.
    pub text: String,
    /// When the first bad fact was known to be one.
    pub opened_at: Timestamp,
    /// How long the trouble had lasted by then.
    pub detection_seconds: Option<f64>,
    /// How it ended; `None`: it goes on.
    pub closed: Option<Closed>,
    /// What was tried.
    pub attempts: Vec<Attempt>,
    /// What was seen.
    pub evidence: Vec<Finding>,
    /// Attempts and evidence beyond what is kept.
    pub dropped: u32,
}

impl Incident {
    /// One that begins.
    #[must_use]
    pub fn open(
        id: impl Into<Arc<str>>,
        instance: impl Into<String>,
        cause: &str,
        text: &str,
        at: Timestamp,
    ) -> Self {
        Self {
            id: id.into(),
            instance: instance.into(),
            cause: cause.to_owned(),
            class: None,
            text: text.to_owned(),
            opened_at: at,
            detection_seconds: None,
            closed: None,
            attempts: Vec::new(),
            evidence: Vec::new(),
            dropped: 0,
        }
    }

    /// A step begins.
    pub fn begin(&mut self, strategy: Strategy, reason: impl Into<String>, at: Timestamp) {
        self.keep(Attempt { strategy, at, reason: reason.into(), outcome: None, seconds: None });
    }

    /// A step was passed over.
    pub fn skip(&mut self, strategy: Strategy, reason: impl Into<String>, at: Timestamp) {
        let outcome = Some(Outcome::Skipped);
        self.keep(Attempt { strategy, at, reason: reason.into(), outcome, seconds: None });
    }

    /// This step, if it goes on, has ended like this after so long.
    pub fn end_step(&mut self, strategy: &Strategy, outcome: Outcome, seconds: f64) {
        let goes_on = |attempt: &&mut Attempt| attempt.outcome.is_none() && attempt.strategy == *strategy;
        if let Some(attempt) = self.attempts.iter_mut().rev().find(goes_on) {
            (attempt.outcome, attempt.seconds) = (Some(outcome), Some(seconds));
        }
    }

    /// Something was seen.
    pub fn find(&mut self, finding: Finding) {
        if self.evidence.len() < MAX_FINDINGS {
            self.evidence.push(finding);
        } else {
            self.dropped += 1;
        }
    }

    /// It was parked, and the trial that began then and took so long has held: what brought it back stands with what did
    /// not.
    pub fn trial_held(&mut self, at: Timestamp, seconds: f64) {
        let (strategy, outcome) = (Strategy::SoftRestart, Some(Outcome::Ok));
        let reason = "the trial of the parked worker".to_owned();
        self.keep(Attempt { strategy, at, reason, outcome, seconds: Some(seconds) });
    }

    /// Whether these lines are the last of the output that was seen last.
    #[must_use]
    pub fn has_said(&self, lines: &str) -> bool {
        let last = self.evidence.iter().rev().find(|finding| finding.what == "output");
        let before = last.and_then(|last| last.text.strip_suffix(lines));
        before.is_some_and(|before| before.is_empty() || before.ends_with('\n'))
    }

    /// It is over, and with it whatever went on.
    pub fn close(&mut self, outcome: Outcome, reason: impl Into<String>, at: Timestamp) {
        if self.closed.is_some() {
            return;
        }
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.outcome.is_none()) {
            attempt.outcome = Some(outcome);
            attempt.seconds = Some(seconds_between(attempt.at, at));
        }
        self.closed = Some(Closed { at, outcome, reason: reason.into(), seconds: None });
    }

    /// The same; it took so long.
    pub fn close_after(&mut self, outcome: Outcome, reason: impl Into<String>, at: Timestamp, seconds: f64) {
        self.close(outcome, reason, at);
        if let Some(closed) = &mut self.closed {
            closed.seconds.get_or_insert(seconds);
        }
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// From its opening to its end.
    #[must_use]
    pub fn recovery_seconds(&self) -> Option<f64> {
        let closed = self.closed.as_ref()?;
        Some(closed.seconds.unwrap_or_else(|| seconds_between(self.opened_at, closed.at)))
    }

    fn keep(&mut self, attempt: Attempt) {
        if self.attempts.len() < MAX_ATTEMPTS {
            self.attempts.push(attempt);
        } else {
            self.dropped += 1;
        }
    }
}

fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_incident_keeps_what_was_tried_in_order() {
        let mut incident = Incident::open("i1", "web", "hang", "no heartbeat", at(10));
        incident.skip(Strategy::ConnectionReset, "there is no on.connection_reset", at(10));
        incident.begin(Strategy::SoftRestart, "first step", at(10));
        incident.end_step(&Strategy::SoftRestart, Outcome::Failed, 11.0);
        incident.begin(Strategy::HardRestart, "next step", at(21));
        incident.close(Outcome::Ok, "well for 10s", at(33));
        let told: Vec<_> =
            incident.attempts.iter().map(|a| (a.strategy.word(), a.outcome, a.seconds)).collect();
        assert_eq!(
            told,
            [
                ("connection_reset", Some(Outcome::Skipped), None),
                ("soft_restart", Some(Outcome::Failed), Some(11.0)),
                ("hard_restart", Some(Outcome::Ok), Some(12.0)),
            ]
        );
        assert_eq!(incident.recovery_seconds(), Some(23.0));
        incident.close(Outcome::Failed, "again", at(99));
        assert_eq!(incident.recovery_seconds(), Some(23.0));
    }

    #[test]
    fn what_it_said_is_kept_once() {
        let mut incident = Incident::open("i1", "web", "hang", "no heartbeat", at(0));
        assert!(!incident.has_said("up"));
        for (what, text) in [("output", "start\nall is up"), ("state", "S")] {
            incident.find(Finding { what: what.to_owned(), at: at(1), text: text.to_owned() });
        }
        assert!(incident.has_said("all is up") && incident.has_said("start\nall is up"));
        assert!(
            !incident.has_said("is up") && !incident.has_said("all is up\nbye") && !incident.has_said("S")
        );
    }

    #[test]
    fn a_clock_that_is_set_makes_no_incident_last_for_years() {
        let mut incident = Incident::open("i1", "web", "crash", "exited with code 1", at(10));
        incident.begin(Strategy::SoftRestart, "restart", at(10));
        incident.end_step(&Strategy::SoftRestart, Outcome::Ok, 2.5);
        incident.close_after(Outcome::Ok, "well for 1s", at(315_360_000), 2.5);
        assert_eq!((incident.attempts[0].seconds, incident.recovery_seconds()), (Some(2.5), Some(2.5)));
    }

    #[test]
    fn what_was_done_before_a_restart_and_the_restart_end_each_by_itself() {
        let mut incident = Incident::open("i1", "web", "crash", "exited with code 1", at(0));
        incident.begin(Strategy::parse("prep").unwrap(), "it is for crash", at(0));
        incident.begin(Strategy::SoftRestart, "restart", at(1));
        incident.end_step(&Strategy::SoftRestart, Outcome::Failed, 2.0);
        let told = |incident: &Incident| incident.attempts.iter().map(|a| a.outcome).collect::<Vec<_>>();
        assert_eq!(told(&incident), [None, Some(Outcome::Failed)]);
        incident.close(Outcome::Interrupted, "the runtime ended", at(3));
        assert_eq!(told(&incident), [Some(Outcome::Interrupted), Some(Outcome::Failed)]);
    }

    #[test]
    fn a_crash_loop_does_not_grow_an_incident_without_end() {
        let mut incident = Incident::open("i1", "web", "crash", "exited with code 1", at(0));
        for n in 0..1000 {
            incident.begin(Strategy::SoftRestart, "restart", at(n));
            incident.find(Finding { what: "output".to_owned(), at: at(n), text: "x".to_owned() });
        }
        assert_eq!((incident.attempts.len(), incident.evidence.len()), (MAX_ATTEMPTS, MAX_FINDINGS));
        assert_eq!(incident.dropped as usize, 2000 - MAX_ATTEMPTS - MAX_FINDINGS);
    }
}
