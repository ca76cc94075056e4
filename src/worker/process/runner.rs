//! The face of one process worker: commands go in, the task behind it reports.

use std::sync::Arc;

use crate::id::Incarnation;
use crate::worker::mailbox::{Sender, mailbox};
use crate::worker::{Done, Job, Reporter, Runner};

use super::deeds;
use super::life::{Command, Life};
use super::site::Site;

/// Starts and stops one process worker. Dropping it kills what runs, as long as the control plane turns: nobody else
/// would ever stop it, and its successor could not start beside it. A runtime that is killed leaves it alone, and the
/// next one finds it.
pub(super) struct ProcessRunner {
    /// Unbounded, because its producer is: one start per end, a stop and a few kills in between.
    commands: Sender<Command>,
    site: Arc<Site>,
}

impl ProcessRunner {
    pub(super) fn new(site: Arc<Site>, reporter: Reporter) -> Self {
        let (commands, inbox) = mailbox();
        tokio::spawn(Life::new(Arc::clone(&site), reporter, inbox).run());
        Self { commands, site }
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!(?command, "the task of a process worker is gone: its runtime ends");
        }
    }
}

impl Runner for ProcessRunner {
    fn start(&mut self, incarnation: Incarnation) {
        self.send(Command::Start(incarnation));
    }

    fn stop(&mut self) {
        self.send(Command::Stop);
    }

    fn signal(&mut self, signal: i32) {
        self.send(Command::Signal(signal));
    }

    fn set_ready(&mut self) {
        self.send(Command::Ready);
    }

    fn kill(&mut self) {
        self.send(Command::Kill);
    }

    fn perform(&mut self, job: Job, done: Done) {
        let doing = deeds::perform(Arc::clone(&self.site), job);
        tokio::spawn(async move { done(doing.await) });
    }
}
