//! What people see of an instance's recovery.

use std::sync::Arc;

use jiff::Timestamp;

use crate::recovery::Strategy;

/// An open incident, as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovering {
    /// Its id.
    pub incident: Arc<str>,
    /// Its cause.
    pub cause: Arc<str>,
    /// The step that is under way.
    pub strategy: Option<Strategy>,
    /// What goes on, in one word.
    pub stage: &'static str,
    /// Until when.
    pub until: Option<Timestamp>,
}

impl Recovering {
    /// Whether something is still to be done, or being done; one that is only watched is well by now.
    #[must_use]
    pub fn acts(&self) -> bool {
        self.stage != "verifying"
    }
}

/// Incidents that ended well: how many, and how long it took to see and to heal them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Recovered {
    /// How many.
    pub count: u64,
    /// From the first evidence to the incident, all together.
    pub detection_seconds: f64,
    /// From the incident to the verified recovery, all together.
    pub recovery_seconds: f64,
}

impl Recovered {
    pub(crate) fn add(&mut self, detection: Option<f64>, recovery: Option<f64>) {
        self.count += 1;
        self.detection_seconds += detection.unwrap_or(0.0);
        self.recovery_seconds += recovery.unwrap_or(0.0);
    }
}
