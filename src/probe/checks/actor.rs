//! What an actor says of itself.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::probe::{Found, Look, Patient, Probe};
use crate::worker::in_process::{Ask, Condition, InProcessHost};

/// Asks `Worker::health`, which it answers between two messages: one that hangs does not answer.
pub(in crate::probe) struct Says {
    pub(in crate::probe) host: Arc<InProcessHost>,
}

impl Probe for Says {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let (reply, answer) = oneshot::channel();
            if self.host.ask(&patient.instance, Ask::Health(reply)).is_err() {
                // It is on its way up or down; who supervises it knows.
                return Found::error("it is not there to be asked");
            }
            match answer.await {
                Ok(Condition::Pass) => Found::pass("it says that it is well"),
                Ok(Condition::Warn(text)) => Found::warn(text),
                Ok(Condition::Fail(text)) => Found::fail(text),
                Err(_) => Found::error("it ended before it answered"),
            }
        })
    }
}
