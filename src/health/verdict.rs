//! What is told of an instance: to people as it stands, to its supervisor for what it must do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;

use super::grade::{Grade, ProbeKind};
use super::score::Term;

/// The contract's health of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No data.
    Unknown,
    /// Ready, and nothing speaks against it.
    Healthy,
    /// Works, with less than full strength.
    Degraded,
    /// Does not work.
    Unhealthy,
    /// Does not run, and should.
    Dead,
}

impl Health {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
            Self::Dead => "dead",
        }
    }
}

/// Something must be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwell {
    /// Why.
    pub cause: Cause,
    /// The same in words, with the figures.
    pub message: String,
    /// It gives no sign of life: a request to end gets only so much time; `None`: as much as ever.
    pub patience: Option<Duration>,
    /// It has given none for so long that asking it is in vain.
    pub dead: bool,
    /// Own time since the first of the facts that led to this.
    pub lasted: Duration,
    /// How often the probe that fails has looked; `None`: no probe speaks.
    pub looks: Option<u64>,
}

/// How one incarnation is.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The word.
    pub health: Health,
    /// 0..1; `None`: no data.
    pub score: Option<f64>,
    /// What the score is made of.
    pub terms: Vec<Term>,
    /// What is wrong, in words; empty if nothing is. What its health is for stands first.
    pub issues: Vec<String>,
    /// Set if it must be recovered: a liveness check fails, its heartbeat is lost, a figure is critical.
    pub unwell: Option<Unwell>,
    /// It gives no sign of life.
    pub unresponsive: bool,
    /// Whether it takes work: no readiness check fails.
    pub accepts: bool,
    /// The check that stands for its readiness has passed (`ready = "probe"`).
    pub started: bool,
    /// Whether its own checks say that it works: it is ready, none of them fails, and at least one has passed since its
    /// start; with an expected heartbeat, one has come. Without checks of its own, that it is ready.
    pub holds: bool,
    /// None of its configured checks works any more, or it is [`unseen`](Self::unseen): a fault of who watches.
    pub blind: bool,
    /// That none of its configured checks works comes and goes, and has not calmed down yet.
    pub dim: bool,
    /// The check that stands for its readiness is broken, for as many looks as its `failure_threshold` says, and it is
    /// not ready yet: whether its start is over, nobody can see.
    pub unseen: bool,
    /// It changes between healthy and not again and again.
    pub flaps: bool,
}

impl Verdict {
    /// Of one that is ready and has no checks but the built-in one of this name: that it runs is all there is to say.
    #[must_use]
    pub fn runs(builtin: &str) -> Self {
        let probe = builtin.to_owned();
        Self {
            health: Health::Healthy,
            score: Some(1.0),
            terms: vec![Term { probe, kind: ProbeKind::Liveness, result: Grade::Pass, weight: 1.0 }],
            issues: Vec::new(),
            unwell: None,
            unresponsive: false,
            accepts: true,
            started: true,
            holds: true,
            blind: false,
            dim: false,
            unseen: false,
            flaps: false,
        }
    }

    /// Whether those who watch are in trouble: it is [`blind`](Self::blind), or [`dim`](Self::dim).
    #[must_use]
    pub fn ill_seen(&self) -> bool {
        self.blind || self.dim
    }

    /// What those who watch cannot see, in words; for one that is [`ill_seen`](Self::ill_seen).
    #[must_use]
    pub fn sightless(&self) -> String {
        let what = if self.unseen {
            "the probe that says when it is ready does not work; its start is left alone"
        } else if self.dim {
            return "its probes work now and now not; while none of them does, the worker is left alone"
                .to_owned();
        } else {
            "none of its probes works any more; the worker is left alone"
        };
        self.issues.first().map_or_else(|| what.to_owned(), |issue| format!("{what}: {issue}"))
    }
}
