//! What came of a step of recovery that somebody asked for by hand.

use jiff::{SignedDuration, Timestamp};

use crate::policy::Phase;
use crate::recovery::{Incident, Outcome};
use crate::runtime::RuntimeHandle;
use crate::supervisor::InstanceState;

use super::dto::ActionState;

/// What came of a step that somebody asked for: its incident says so.
pub(super) fn became(
    runtime: &RuntimeHandle,
    opened: Option<&str>,
    since: Timestamp,
    now: Option<&InstanceState>,
) -> (ActionState, String) {
    let Some(now) = now else { return (ActionState::Failed, "it was removed".to_owned()) };
    let id = now.instance.to_string();
    // Asked a moment before the action was noted.
    let since = since.checked_sub(SignedDuration::from_secs(6)).unwrap_or(since);
    let own = match opened {
        Some(own) => runtime.healer().incident(own),
        None => {
            let of = |one: &Incident| one.instance == id && one.cause == "operator" && one.opened_at >= since;
            runtime.healer().incidents().into_iter().find(of)
        }
    };
    match own.as_ref().map(|one| &one.closed) {
        Some(Some(closed)) if closed.outcome == Outcome::Ok => (ActionState::Ok, closed.reason.clone()),
        // Parking is what was asked for.
        Some(Some(_)) if now.phase == Phase::Quarantined => (ActionState::Ok, "parked".to_owned()),
        Some(Some(closed)) => (ActionState::Failed, closed.reason.clone()),
        Some(None) => (ActionState::Running, "it is under way".to_owned()),
        None => (ActionState::Running, "it is about to begin".to_owned()),
    }
}
