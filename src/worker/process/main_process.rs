//! The main process of a worker, while it is watched.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::unix::AsyncFd;

use crate::worker::unix::{poll_ended, watch_pidfd};

use super::children::Registered;

/// A main process that is watched.
pub(super) struct Main {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) events: AsyncFd<Arc<OwnedFd>>,
    /// Keeps the reaper away from its status.
    pub(super) registered: Registered,
}

impl Main {
    pub(super) fn watch(pid: u32, pidfd: Arc<OwnedFd>, registered: Registered) -> io::Result<Self> {
        let events = watch_pidfd(pidfd.clone())?;
        Ok(Self { pid, pidfd, events, registered })
    }

    /// Waits until it has ended. One task at a time can wait for it.
    pub(super) async fn ended(&self) {
        std::future::poll_fn(|context| {
            loop {
                match self.events.poll_read_ready(context) {
                    Poll::Ready(Ok(_)) if poll_ended(&self.pidfd) => return Poll::Ready(()),
                    Poll::Ready(Ok(mut guard)) => guard.clear_ready(),
                    // If not for now: the reactor is gone, and this task is about to be.
                    Poll::Pending | Poll::Ready(Err(_)) => return Poll::Pending,
                }
            }
        })
        .await;
    }
}
