//! Passing a wish on to the supervisor that decides.

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::id::{InstanceId, Name};
use crate::policy::{ChildKey, Request};
use crate::supervisor::{Address, Asked, Operator, Plane, SupervisorMsg};

use super::handle::{Act, ActError, Asker};

/// The supervisor that decides for a child.
pub(super) fn owner(plane: &Plane, child: &InstanceId) -> Result<(Name, Address), ActError> {
    let home = plane.home(child.worker()).ok_or_else(|| ActError::NotFound(child.to_string()))?;
    match plane.supervisor(&home) {
        Some(address) => Ok((home, address)),
        None => Err(ActError::Conflict(format!(
            "supervisor {home}, which owns {child}, is down itself; `regrow start sup:{home}` first"
        ))),
    }
}

/// Tells it what somebody wants of the child.
pub(super) fn tell(
    address: &Address,
    home: &Name,
    child: &InstanceId,
    request: Wanting,
    by: &Asker,
) -> Result<(), ActError> {
    let (reply, answer) = oneshot::channel();
    let by = Operator { by: by.0.clone(), at: Timestamp::now() };
    let asked = Asked::new(child.to_string(), request, by, reply);
    address
        .send_message(SupervisorMsg::Asked(Box::new(asked)))
        .map_err(|_| ActError::Conflict(format!("supervisor {home}, which owns {child}, is just ending")))?;
    let child = child.clone();
    tokio::spawn(async move {
        if let Ok(Err(refused)) = answer.await {
            tracing::warn!(worker = %child, ?refused, "a request was refused");
        }
    });
    Ok(())
}

/// A wish, once the child's key is known.
pub(super) type Wanting = Box<dyn FnOnce(ChildKey) -> Request + Send>;

/// The wish as the supervisor that decides is told; a signal is none.
pub(super) fn request(act: Act) -> Option<Wanting> {
    match act {
        Act::Start => Some(Box::new(|child| Request::Start { child })),
        Act::Stop => Some(Box::new(|child| Request::Stop { child })),
        Act::Restart => Some(Box::new(|child| Request::Restart { child })),
        Act::ResetFailed => Some(Box::new(|child| Request::ResetFailed { child })),
        Act::Pause { lasting } => Some(Box::new(move |child| Request::Pause { child, lasting })),
        Act::Resume => Some(Box::new(|child| Request::Resume { child })),
        Act::Signal(_) | Act::Reload | Act::Roll { .. } | Act::Scale { .. } => None,
    }
}
