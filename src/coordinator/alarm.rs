//! The timer that says when the processes are due. One at a time: an idle runtime sleeps until then.

use std::time::Duration;

use ractor::ActorRef;
use tokio::task::JoinHandle;

use super::actor::CoordinatorMsg;

/// The timer that is set, and for when.
#[derive(Default)]
pub(super) struct Alarm(Option<(Duration, JoinHandle<()>)>);

impl Alarm {
    /// Rings at `due`, or earlier if it is set so already.
    pub(super) fn set(&mut self, coordinator: &ActorRef<CoordinatorMsg>, due: Duration, now: Duration) {
        if self.0.as_ref().is_some_and(|(at, _)| *at <= due) {
            return;
        }
        let (to, wait) = (coordinator.clone(), due.saturating_sub(now));
        let timer = tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // A coordinator that is gone looks at nobody any more.
            let _ = to.send_message(CoordinatorMsg::Sweep(due));
        });
        if let Some((_, before)) = self.0.replace((due, timer)) {
            before.abort();
        }
    }

    /// It rang for then. Whether it is the one that is set: another one may have rung while it was set anew.
    pub(super) fn rang(&mut self, due: Duration) -> bool {
        self.0.take_if(|(at, _)| *at == due).is_some()
    }
}
