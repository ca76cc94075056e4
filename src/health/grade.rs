//! What one look of a probe says, and what a probe is for.

use serde::{Deserialize, Serialize};

/// The result of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// All is well.
    Pass,
    /// It works, and something should be looked at.
    Warn,
    /// It does not work.
    Fail,
    /// The probe itself broke; nothing is known.
    Error,
}

impl Grade {
    /// Every grade.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Warn, Self::Fail, Self::Error];

    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Error => "error",
        }
    }

    /// What it counts in the score; an error is left out.
    #[must_use]
    pub fn points(self) -> Option<f64> {
        match self {
            Self::Pass => Some(1.0),
            Self::Warn => Some(0.5),
            Self::Fail => Some(0.0),
            Self::Error => None,
        }
    }
}

/// What a probe is for; Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// Whether it has started; its failures never count, and the others wait for its first pass.
    Startup,
    /// Whether it can take work; a failure degrades.
    Readiness,
    /// Whether it lives; a failure makes it unhealthy.
    Liveness,
}

impl ProbeKind {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}
