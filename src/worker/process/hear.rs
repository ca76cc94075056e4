//! What a worker says of itself on its notify socket, once it is certain that it says it.

use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::ReadyWhen;
use crate::id::Incarnation;
use crate::worker::WorkerReport;
use crate::worker::notify::{Notification, NotifyMessage};
use crate::worker::unix::{pidfd_open, poll_ended};

use super::children;
use super::life::{Life, Run};
use super::main_process::Main;

/// Datagrams that are still read when the process has ended already: what it said last counts, a flood does not.
const LAST_WORDS_READ: usize = 16;

/// One line in this time, whoever sends however much: anybody of the same user can flood the socket.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// To find out whose a process is takes a few reads of `/proc`.
const OWNS_WITHIN: Duration = Duration::from_secs(1);

/// Between tries of a socket that cannot be read: mostly memory is short for a moment.
const DEAF_FOR: Duration = Duration::from_secs(1);

/// Notifications that were ignored, told with their number and not one by one.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    told: Option<Instant>,
    untold: u64,
}

impl Ignored {
    /// Counts one. If it is to be told: how many were not, before it.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD_EVERY) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Life {
    /// A worker that says `READY=1` and ends at once was ready.
    pub(super) async fn hear_out(&mut self, run: &mut Run) {
        if run.line.as_mut().is_some_and(|line| line.try_recv().is_ok()) {
            self.ready(run);
        }
        for _ in 0..LAST_WORDS_READ {
            let Some(ground) = &self.ground else { return };
            let Some(Ok(said)) = now(ground.notify.recv()).await else { return };
            self.said(run, said).await;
        }
    }

    pub(super) fn ready(&self, run: &mut Run) {
        run.ready = true;
        run.line = None;
        self.tell(run.n, WorkerReport::Ready);
    }

    /// Its probe has passed.
    pub(super) fn probed(&self, run: &mut Run) {
        if !run.ready && matches!(self.site.settings.ready, ReadyWhen::Probe) {
            self.ready(run);
        }
    }

    /// What it says is read later; what it is, it stays.
    pub(super) fn cannot_hear(&mut self, run: &mut Run, error: &io::Error) {
        let now = Instant::now();
        run.deaf = Some(now + DEAF_FOR);
        if let Some(before) = self.ignored.count(now) {
            tracing::warn!(instance = %self.site.instance, %error, before, "its notify socket cannot be read");
        }
    }

    pub(super) async fn said(&mut self, run: &mut Run, said: Notification) {
        if !self.is_ours(run, said.pid).await {
            if let Some(before) = self.ignored.count(Instant::now()) {
                tracing::warn!(instance = %self.site.instance, pid = said.pid, uid = said.uid, before, "a notification from outside of the worker's tree is ignored");
            }
            return;
        }
        for message in said.messages {
            self.heed(run, message).await;
        }
        // Last: the sender waits until everything it said is dealt with.
        drop(said.barrier);
    }

    /// Over its own socket.
    pub(super) async fn says_ready(&mut self, run: &mut Run, n: Incarnation) {
        if n == run.n {
            self.heed(run, NotifyMessage::Ready).await;
        }
    }

    async fn heed(&mut self, run: &mut Run, message: NotifyMessage) {
        let report = match message {
            NotifyMessage::Ready => match (&self.site.settings.ready, run.ready) {
                (ReadyWhen::Notify, _)
                | (ReadyWhen::Started | ReadyWhen::Probe | ReadyWhen::Log(_), true) => {
                    return self.ready(run);
                }
                (ReadyWhen::Started | ReadyWhen::Probe | ReadyWhen::Log(_), false) => return,
            },
            NotifyMessage::Reloading => WorkerReport::Reloading,
            NotifyMessage::Stopping => WorkerReport::Stopping,
            NotifyMessage::Beat => WorkerReport::Beat,
            NotifyMessage::Distress => WorkerReport::Distress,
            NotifyMessage::Status(text) => {
                WorkerReport::Status { text: self.site.host.hush(&self.site.settings.name, text) }
            }
            NotifyMessage::Extend(by) => WorkerReport::Extend { by },
            NotifyMessage::MainPid(pid) => return self.change_main(run, pid).await,
            NotifyMessage::Barrier => return,
        };
        self.tell(run.n, report);
    }

    /// Whether a process belongs to this incarnation's tree, by the cgroup if there is one, else by descent. Not known in
    /// time is no: whose memory is being waited for holds up who reads its environment.
    async fn is_ours(&self, run: &Run, pid: u32) -> bool {
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.as_ref());
        if pid == run.main.pid || cgroup.is_some_and(|cgroup| cgroup.holds(pid)) {
            return true;
        }
        let target = self.target(run);
        let owns = tokio::task::spawn_blocking(move || target.owns(pid));
        matches!(tokio::time::timeout(OWNS_WITHIN, owns).await, Ok(Ok(true)))
    }

    async fn change_main(&mut self, run: &mut Run, pid: u32) {
        if pid == run.main.pid {
            return;
        }
        if let Err(error) = self.take_main(run, pid).await {
            self.ignore(pid, &error, "MAINPID= names a stranger");
        }
    }

    /// Makes another process of the tree the main one.
    pub(super) async fn take_main(&self, run: &mut Run, pid: u32) -> io::Result<()> {
        // Opened first, checked then: the descriptor cannot change whom it means.
        let pidfd = pidfd_open(pid)?;
        if !self.is_ours(run, pid).await || poll_ended(&pidfd) {
            return Err(io::Error::other("it is none of the worker's processes"));
        }
        let main = Main::watch(pid, Arc::new(pidfd), children::register(pid))?;
        let before = std::mem::replace(&mut run.main, main);
        run.first.get_or_insert(before);
        self.tell(run.n, WorkerReport::MainPid { pid });
        Ok(())
    }
}

/// What a future answers without waiting. A timeout of zero would round up to a timer tick.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_ignored_notifications_is_one_line_now_and_then() {
        let (mut ignored, began) = (Ignored::default(), Instant::now());
        assert_eq!(ignored.count(began), Some(0));
        let told = (0..5000).filter_map(|at| ignored.count(began + TOLD_EVERY * at / 5000)).count();
        assert_eq!(told, 0);
        assert_eq!(ignored.count(began + TOLD_EVERY), Some(5000));
        assert_eq!(ignored.count(began + 2 * TOLD_EVERY), Some(0));
    }
}
