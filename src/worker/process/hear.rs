//! What a worker says of itself on its notify socket, once it is certain that it says it.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use crate::config::ReadyWhen;
use crate::worker::WorkerReport;
use crate::worker::notify::{Notification, NotifyMessage};
use crate::worker::unix::{pidfd_open, poll_ended};

use super::children;
use super::life::{Life, Main, Run};

/// Datagrams that are still read when the process has ended already: what it said last counts, a flood does not.
const LAST_WORDS_READ: usize = 16;

impl Life {
    /// A worker that says `READY=1` and ends at once was ready.
    pub(super) async fn hear_out(&mut self, run: &mut Run) {
        if run.line.as_mut().is_some_and(|line| line.try_recv().is_ok()) {
            self.ready(run);
        }
        for _ in 0..LAST_WORDS_READ {
            let Some(ground) = &self.ground else { return };
            let Some(Ok(said)) = now(ground.notify.recv()).await else { return };
            self.said(run, said);
        }
    }

    pub(super) fn ready(&self, run: &mut Run) {
        run.ready = true;
        run.line = None;
        self.tell(run.n, WorkerReport::Ready);
    }

    pub(super) fn said(&self, run: &mut Run, said: Notification) {
        if !self.is_ours(run, said.pid) {
            tracing::warn!(instance = %self.site.instance, pid = said.pid, uid = said.uid, "a notification from outside of the worker's tree is ignored");
            return;
        }
        for message in said.messages {
            self.heed(run, message);
        }
        // Last: the sender waits until everything it said is dealt with.
        drop(said.barrier);
    }

    fn heed(&self, run: &mut Run, message: NotifyMessage) {
        let report = match message {
            NotifyMessage::Ready => match (&self.site.settings.ready, run.ready) {
                (ReadyWhen::Notify, _) | (ReadyWhen::Started | ReadyWhen::Log(_), true) => {
                    return self.ready(run);
                }
                (ReadyWhen::Started | ReadyWhen::Log(_), false) => return,
            },
            NotifyMessage::Reloading => WorkerReport::Reloading,
            NotifyMessage::Stopping => WorkerReport::Stopping,
            NotifyMessage::Beat => WorkerReport::Beat,
            NotifyMessage::Distress => WorkerReport::Distress,
            NotifyMessage::Status(text) => WorkerReport::Status { text },
            NotifyMessage::Extend(by) => WorkerReport::Extend { by },
            NotifyMessage::MainPid(pid) => return self.change_main(run, pid),
            NotifyMessage::Barrier => return,
        };
        self.tell(run.n, report);
    }

    /// Whether a process belongs to this incarnation's tree, by the cgroup if there is one, else by descent.
    fn is_ours(&self, run: &Run, pid: u32) -> bool {
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.as_ref());
        pid == run.main.pid || cgroup.is_some_and(|cgroup| cgroup.holds(pid)) || self.target(run).owns(pid)
    }

    fn change_main(&self, run: &mut Run, pid: u32) {
        if pid == run.main.pid {
            return;
        }
        // Opened first, checked then: the descriptor cannot change whom it means.
        let main = pidfd_open(pid).and_then(|pidfd| {
            if !self.is_ours(run, pid) || poll_ended(&pidfd) {
                return Err(io::Error::other("it is none of the worker's processes"));
            }
            Main::watch(pid, Arc::new(pidfd), children::register(pid))
        });
        match main {
            Ok(main) => {
                let before = std::mem::replace(&mut run.main, main);
                run.first.get_or_insert(before);
                self.tell(run.n, WorkerReport::MainPid { pid });
            }
            Err(error) => {
                tracing::warn!(instance = %self.site.instance, pid, %error, "MAINPID= is ignored");
            }
        }
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
