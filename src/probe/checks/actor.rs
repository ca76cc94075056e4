//! What an actor says of itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::probe::{Found, Look, Patient, Probe};
use crate::worker::in_process::{Ask, Condition, InProcessHost};

/// Between two looks at whether it can answer at all.
const LOOK: Duration = Duration::from_millis(200);

/// Asks `Worker::health`, which it answers between two messages: one that hangs does not answer. Where others hold all
/// threads that is no fault of its own, and nothing is known of it.
pub(in crate::probe) struct Says {
    pub(in crate::probe) host: Arc<InProcessHost>,
}

impl Probe for Says {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let (reply, mut answer) = oneshot::channel();
            if self.host.ask(&patient.instance, Ask::Health(reply)).is_err() {
                // It is on its way up or down; who supervises it knows.
                return Found::error("it is not there to be asked");
            }
            let said = loop {
                tokio::select! {
                    biased;
                    said = &mut answer => break said,
                    () = tokio::time::sleep(LOOK) => {}
                }
                if let Some(who) = self.host.crowded_out(&patient.instance) {
                    return Found::error(format!("it gets no thread to answer on: {who} hold all of them"));
                }
            };
            match said {
                Ok(Condition::Pass) => Found::pass("it says that it is well"),
                Ok(Condition::Warn(text)) => Found::warn(text),
                Ok(Condition::Fail(text)) => Found::fail(text),
                Err(_) => Found::error("it ended before it answered"),
            }
        })
    }
}
