//! `regrow.action/1`: what was asked and what became of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// 202: the action was passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Always true.
    pub ok: bool,
    /// For `GET /api/v1/actions/{id}`.
    pub action_id: String,
    /// For people.
    pub message: String,
    /// What is not as it should be although it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What became of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionState {
    /// Not every instance is where it was asked to be.
    Running,
    /// Every instance is.
    Ok,
    /// At least one cannot get there.
    Failed,
}

/// `GET /api/v1/actions/{id}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionView {
    /// `regrow.action/1`
    pub schema: String,
    /// The id.
    pub id: String,
    /// `restart`, `stop`, `start`, `reset-failed`, `apply`, `add`, `remove` or `shutdown`.
    pub action: String,
    /// On whom.
    pub target: String,
    /// Who asked.
    pub by: String,
    /// When.
    #[serde(serialize_with = "super::status::millis")]
    pub requested_at: Timestamp,
    /// What became of it.
    pub state: ActionState,
    /// For people.
    pub message: String,
    /// Each instance.
    pub instances: Vec<ActionInstance>,
}

/// One instance of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionInstance {
    /// Which.
    pub instance: String,
    /// How far it is.
    pub state: ActionState,
    /// Its status now.
    pub status: String,
    /// Why it failed, or what it does now.
    pub message: String,
}
