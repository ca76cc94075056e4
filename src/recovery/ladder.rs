//! The ordered steps of a worker, as configured.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::BreakerLimits;
use super::strategy::Strategy;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is done.
    pub run: Strategy,
    /// How often, before the next step is taken.
    pub attempts: u32,
    /// Waited before it is done.
    pub delay: Duration,
    /// The causes it is for; empty: every one.
    pub when: Arc<[Arc<str>]>,
    /// It waits this long for somebody to approve it; `None`: nobody is asked.
    pub approval: Option<Duration>,
    /// How long its work may take, where it is not a restart.
    pub timeout: Duration,
    /// Why this worker cannot have it done, if it cannot.
    pub unable: Option<Arc<str>>,
}

impl Step {
    /// A step that is taken at once, once, for everything.
    #[must_use]
    pub fn new(run: Strategy) -> Self {
        Self {
            run,
            attempts: 1,
            delay: Duration::ZERO,
            when: Arc::default(),
            approval: None,
            timeout: Duration::from_secs(20),
            unable: None,
        }
    }

    /// The same, this often.
    #[must_use]
    pub fn times(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }
}

/// What experience may do with the order of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learn {
    /// Nothing is kept.
    Off,
    /// It is kept and shown.
    Suggest,
    /// It orders the steps that are allowed.
    Auto,
}

/// The recovery steps of a worker, and what holds for all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder {
    /// The steps, first to last.
    pub steps: Arc<[Step]>,
    /// A step succeeded only if the worker is well this long after it.
    pub verify: Duration,
    /// Time without steps after which the first step is the first again.
    pub cooldown: Duration,
    /// What experience may do.
    pub learn: Learn,
    /// When recovery rests.
    pub breaker: BreakerLimits,
}

impl Default for Ladder {
    /// `[ladder.default]` as it is without any configuration.
    fn default() -> Self {
        let steps = [
            Step::new(Strategy::SoftRestart).times(3),
            Step::new(Strategy::HardRestart).times(2),
            Step::new(Strategy::Quarantine),
        ];
        Self {
            steps: steps.into(),
            verify: Duration::from_secs(10),
            cooldown: Duration::from_secs(300),
            learn: Learn::Suggest,
            breaker: BreakerLimits::default(),
        }
    }
}

impl Ladder {
    /// No steps, and nothing is learned: who is unwell is ended, and what follows is what follows any end.
    #[must_use]
    pub fn none() -> Self {
        Self { steps: Arc::default(), learn: Learn::Off, ..Self::default() }
    }
}
