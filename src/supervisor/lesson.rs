//! What one step of recovery has taught, as it is written down.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::recovery::learning::Case;
use crate::recovery::{Outcome, Strategy};

/// What came of one step against one class of failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lesson {
    /// The class.
    pub(crate) class: Arc<str>,
    /// What was done.
    pub(crate) strategy: Strategy,
    /// Whether it held.
    pub(crate) held: bool,
    /// How long it took.
    pub(crate) seconds: f64,
    /// When, in seconds since 1970.
    pub(crate) at: i64,
    /// Whom it was done to.
    pub(crate) worker: String,
    /// What could be measured when that failed; with the first lesson of an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) case: Option<Case>,
}

impl Lesson {
    /// One of this moment.
    pub(super) fn new(
        who: &InstanceId,
        class: &Arc<str>,
        strategy: &Strategy,
        (held, seconds): (bool, f64),
        case: Option<Case>,
    ) -> Self {
        Self {
            class: Arc::clone(class),
            strategy: strategy.clone(),
            held,
            seconds,
            at: Timestamp::now().as_second(),
            worker: who.worker().to_string(),
            case,
        }
    }
}

/// What a step that ended like this teaches; `None`: nothing.
pub(super) fn teaches(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::Ok => Some(true),
        Outcome::Failed => Some(false),
        Outcome::Skipped | Outcome::Interrupted => None,
    }
}
