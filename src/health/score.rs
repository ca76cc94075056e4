//! The score, 0..1, with its terms.

use serde::{Deserialize, Serialize};

use super::grade::{Grade, ProbeKind};

/// From here on a worker is healthy.
pub(super) const HEALTHY: f64 = 0.9;
/// From here on it is degraded; below it is unhealthy.
pub(super) const DEGRADED: f64 = 0.7;
/// A failed liveness check leaves no more than this.
const FAILED: f64 = 0.3;
/// Something that warns keeps it below healthy, however many others pass.
const WARNED: f64 = 0.89;

/// One check in the score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The check's name.
    pub probe: String,
    /// What it is for.
    pub kind: ProbeKind,
    /// What it stands for.
    pub result: Grade,
    /// How much it counts.
    pub weight: f64,
}

/// The weighted mean of the terms (pass 1, warn 0.5, fail 0; errors and start-up checks left out). A failed liveness
/// check caps it at 0.3; while none fails, no warning and no failed readiness brings it below 0.7, and none leaves it
/// at 0.9 or above. `None`: no data.
///
/// ```
/// use regrow::health::{Grade, ProbeKind, Term, score};
/// let term = |kind, result| Term { probe: "p".to_owned(), kind, result, weight: 1.0 };
/// let (alive, busy) = (term(ProbeKind::Liveness, Grade::Pass), term(ProbeKind::Liveness, Grade::Warn));
/// assert_eq!(score(&[alive, busy]), Some(0.75));
/// assert_eq!(score(&[]), None);
/// ```
#[must_use]
pub fn score(terms: &[Term]) -> Option<f64> {
    let counted = || terms.iter().filter(|term| term.kind != ProbeKind::Startup && term.weight > 0.0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for term in counted() {
        if let Some(points) = term.result.points() {
            sum += points * term.weight;
            weights += term.weight;
        }
    }
    if weights <= 0.0 {
        return None;
    }
    let mean = (sum / weights).clamp(0.0, 1.0);
    let any = |result: Grade, kind: Option<ProbeKind>| {
        terms
            .iter()
            .filter(|term| term.kind != ProbeKind::Startup)
            .any(|term| term.result == result && kind.is_none_or(|kind| term.kind == kind))
    };
    if any(Grade::Fail, Some(ProbeKind::Liveness)) {
        return Some(mean.min(FAILED));
    }
    let warned = any(Grade::Warn, None) || any(Grade::Fail, Some(ProbeKind::Readiness));
    Some(if warned { mean.clamp(DEGRADED, WARNED) } else { mean })
}
