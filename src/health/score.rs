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
    let mean = mean(terms)?;
    let any = |result, kind| any(terms, result, kind);
    if any(Grade::Fail, Some(ProbeKind::Liveness)) {
        return Some(mean.min(FAILED));
    }
    let warned = any(Grade::Warn, None) || any(Grade::Fail, Some(ProbeKind::Readiness));
    Some(if warned { mean.clamp(DEGRADED, WARNED) } else { mean })
}

/// Why a score is not the weighted mean of its terms, in words; `None`: it is.
///
/// ```
/// use regrow::health::{Grade, ProbeKind, Term, bound, score};
/// let term = |kind, result| Term { probe: "p".to_owned(), kind, result, weight: 1.0 };
/// let terms = [term(ProbeKind::Liveness, Grade::Pass), term(ProbeKind::Readiness, Grade::Fail)];
/// assert_eq!(score(&terms), Some(0.7));
/// assert_eq!(bound(&terms, 0.7), Some("not below 0.70 while no liveness check fails"));
/// ```
#[must_use]
pub fn bound(terms: &[Term], score: f64) -> Option<&'static str> {
    let mean = mean(terms)?;
    if (mean - score).abs() < 1e-9 {
        None
    } else if any(terms, Grade::Fail, Some(ProbeKind::Liveness)) {
        Some("at most 0.30 while a liveness check fails")
    } else if mean < score {
        Some("not below 0.70 while no liveness check fails")
    } else if any(terms, Grade::Warn, None) || any(terms, Grade::Fail, Some(ProbeKind::Readiness)) {
        Some("at most 0.89 while something warns or is not ready for work")
    } else {
        Some("below 0.90 while it changes between healthy and not")
    }
}

fn mean(terms: &[Term]) -> Option<f64> {
    let counted = terms.iter().filter(|term| term.kind != ProbeKind::Startup && term.weight > 0.0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for term in counted {
        if let Some(points) = term.result.points() {
            sum += points * term.weight;
            weights += term.weight;
        }
    }
    (weights > 0.0).then(|| (sum / weights).clamp(0.0, 1.0))
}

fn any(terms: &[Term], result: Grade, kind: Option<ProbeKind>) -> bool {
    let counted = || terms.iter().filter(|term| term.kind != ProbeKind::Startup);
    counted().any(|term| term.result == result && kind.is_none_or(|kind| term.kind == kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(kind: ProbeKind, result: Grade, weight: f64) -> Term {
        Term { probe: "p".to_owned(), kind, result, weight }
    }

    #[test]
    fn whatever_is_not_the_mean_of_the_terms_has_its_reason() {
        use Grade::{Fail, Pass, Warn};
        use ProbeKind::{Liveness, Readiness};
        let told = |terms: &[Term]| bound(terms, score(terms).unwrap());
        let (pass, warn) = (term(Liveness, Pass, 1.0), term(Liveness, Warn, 1.0));
        assert_eq!(told(&[pass.clone(), warn.clone()]), None, "0.75 is the mean");
        assert_eq!(told(std::slice::from_ref(&pass)), None);
        assert!(told(&[pass.clone(), term(Liveness, Fail, 1.0)]).unwrap().starts_with("at most 0.30"));
        assert!(told(&[term(Readiness, Fail, 1.0), warn]).unwrap().starts_with("not below 0.70"));
        assert!(
            told(&[term(Liveness, Pass, 99.0), term(Readiness, Fail, 1.0)])
                .unwrap()
                .starts_with("at most 0.89")
        );
        assert!(bound(&[pass], 0.89).unwrap().contains("changes between"), "a score that is damped");
    }
}
