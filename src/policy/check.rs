//! What makes a specification impossible (R31–R33), asked in OTP's order: the supervisor's own settings
//! first, then child by child, and a child's own fault before its clash with an earlier one.

use std::collections::HashSet;
use std::sync::Arc;

use super::spec::{AutoShutdown, ChildSpec, Restart, RestartStrategy, SupervisorSpec};

/// Why a supervisor cannot be made from these settings, or a child not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// `intensity.within` is zero.
    #[error("intensity needs a window longer than zero")]
    ZeroWindow,
    /// Dynamic children of one template have no significance.
    #[error("auto_shutdown cannot be combined with simple_one_for_one")]
    AutoShutdownWithSimple,
    /// `simple_one_for_one` takes exactly one template.
    #[error("simple_one_for_one takes exactly one child specification, not {found}")]
    OneTemplate {
        /// How many there were.
        found: usize,
    },
    /// A significant child of a supervisor that never shuts down by itself.
    #[error("`{id}` is significant, but its supervisor has auto_shutdown = never")]
    SignificantWithNever {
        /// The child.
        id: Arc<str>,
    },
    /// A permanent child never ends for good, so it cannot be significant.
    #[error("`{id}` is permanent and cannot be significant")]
    SignificantPermanent {
        /// The child.
        id: Arc<str>,
    },
    /// Two children share an id.
    #[error("`{id}` is there twice")]
    Duplicate {
        /// The id.
        id: Arc<str>,
    },
}

/// Checks one child (R32, R37), whatever else there is.
///
/// # Errors
/// [`SpecError::SignificantWithNever`] before [`SpecError::SignificantPermanent`].
pub fn check_child(spec: &ChildSpec, auto_shutdown: AutoShutdown) -> Result<(), SpecError> {
    if spec.significant && auto_shutdown == AutoShutdown::Never {
        return Err(SpecError::SignificantWithNever { id: spec.id.clone() });
    }
    if spec.significant && spec.restart == Restart::Permanent {
        return Err(SpecError::SignificantPermanent { id: spec.id.clone() });
    }
    Ok(())
}

pub(super) fn check_all(spec: &SupervisorSpec, children: &[ChildSpec]) -> Result<(), SpecError> {
    if spec.intensity.within.is_zero() {
        return Err(SpecError::ZeroWindow);
    }
    let simple = spec.strategy == RestartStrategy::SimpleOneForOne;
    if simple && spec.auto_shutdown != AutoShutdown::Never {
        return Err(SpecError::AutoShutdownWithSimple);
    }
    if simple && children.len() != 1 {
        return Err(SpecError::OneTemplate { found: children.len() });
    }
    let mut seen = HashSet::with_capacity(children.len());
    for child in children {
        check_child(child, spec.auto_shutdown)?;
        if !seen.insert(&child.id) {
            return Err(SpecError::Duplicate { id: child.id.clone() });
        }
    }
    Ok(())
}
