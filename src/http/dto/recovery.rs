//! Incidents, and what was learned.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recovery::learning::{Advice, Look};
use crate::recovery::{Attempt, Finding, Incident, Plan};

/// One incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    /// Its name.
    pub id: String,
    /// The worker.
    pub worker: String,
    /// The instance.
    pub instance: String,
    /// In the contract's word, or the user's error class.
    pub cause: String,
    /// The class under which experience with it is kept.
    pub class: Option<String>,
    /// What was wrong at first, in words.
    pub message: String,
    /// When it was seen.
    pub opened_at: Timestamp,
    /// When it was over; `null`: it goes on.
    pub closed_at: Option<Timestamp>,
    /// How it ended: `ok failed interrupted`.
    pub outcome: Option<String>,
    /// The same in words.
    pub reason: Option<String>,
    /// From the first evidence until it was seen.
    pub detection_seconds: Option<f64>,
    /// From then until it was over.
    pub recovery_seconds: Option<f64>,
    /// What was seen of the worker.
    pub evidence: Vec<Finding>,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}

impl From<Incident> for IncidentView {
    fn from(one: Incident) -> Self {
        let recovery_seconds = one.recovery_seconds();
        let worker = one.instance.split('/').next().unwrap_or_default().to_owned();
        Self {
            id: one.id.to_string(),
            worker,
            instance: one.instance,
            cause: one.cause,
            class: one.class.map(|class| class.to_string()),
            message: one.text,
            opened_at: one.opened_at,
            closed_at: one.closed.as_ref().map(|closed| closed.at),
            outcome: one.closed.as_ref().map(|closed| closed.outcome.word().to_owned()),
            reason: one.closed.map(|closed| closed.reason),
            detection_seconds: one.detection_seconds,
            recovery_seconds,
            evidence: one.evidence,
            attempts: one.attempts,
        }
    }
}

/// `GET /api/v1/incidents`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentsBody {
    /// `regrow.incidents/1`
    pub schema: String,
    /// The newest first.
    pub items: Vec<IncidentView>,
    /// Where the next page begins; `null`: there is none.
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/incidents/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IncidentBody {
    /// `regrow.incident/1`
    pub schema: String,
    /// The incident.
    pub incident: IncidentView,
}

/// A step, spelled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// To whom.
    pub instance: String,
    /// What.
    pub strategy: String,
    /// How, one thing after the other.
    pub steps: Vec<String>,
}

impl From<Plan> for PlanView {
    fn from(plan: Plan) -> Self {
        Self {
            instance: plan.instance,
            strategy: plan.strategy.to_string(),
            steps: plan.lines.iter().map(ToString::to_string).collect(),
        }
    }
}

/// `POST /api/v1/workers/{id}/recover` with `dry_run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlansBody {
    /// `regrow.recover/1`
    pub schema: String,
    /// One for each instance.
    pub items: Vec<PlanView>,
}

/// Something to put into the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdviceView {
    /// Why, with the figures.
    pub because: String,
    /// What.
    pub toml: String,
}

impl From<Advice> for AdviceView {
    fn from(one: Advice) -> Self {
        Self { because: one.because, toml: one.toml }
    }
}

/// `GET /api/v1/strategies`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StrategiesBody {
    /// `regrow.strategies/1`
    pub schema: String,
    /// By class of failure.
    pub items: Vec<Look>,
    /// Patterns.
    pub advice: Vec<AdviceView>,
    /// Where the next page begins; `null`: there is none.
    pub next_cursor: Option<String>,
}

/// `GET /api/v1/workers/{id}/why`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyBody {
    /// `regrow.why/1`
    pub schema: String,
    /// One for each instance.
    pub items: Vec<WhyView>,
}

/// Why one instance is as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyView {
    /// Which.
    pub instance: String,
    /// Its status.
    pub status: String,
    /// One sentence after the other, from what is to what led to it.
    pub lines: Vec<String>,
}
