//! A question about one child, and its answer.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::policy::{ChildKey, Fact, Refused, Reply, Request};

use super::actor::SupervisorState;
use super::board::Operator;

/// A question about one child.
pub(crate) struct Asked {
    /// Which child, by its id.
    pub(crate) child: String,
    /// Builds the request once the slot is known.
    pub(crate) request: Box<dyn FnOnce(ChildKey) -> Request + Send>,
    /// Who asks.
    pub(crate) by: Operator,
    /// Where the answer goes.
    pub(crate) reply: oneshot::Sender<Reply>,
    /// The incident that is meant: once it is over, the answer is no. `None`: whichever is open.
    pub(crate) about: Option<String>,
    /// Nobody wants it but the file: a replacement that was planned, which counts as no restart.
    pub(crate) planned: bool,
    /// Where to say which incident this has opened.
    pub(crate) opened: Option<oneshot::Sender<Option<Arc<str>>>>,
}

impl Asked {
    /// A question that has to do with no incident.
    pub(crate) fn new(
        child: String,
        request: Box<dyn FnOnce(ChildKey) -> Request + Send>,
        by: Operator,
        reply: oneshot::Sender<Reply>,
    ) -> Self {
        Self { child, request, by, reply, about: None, planned: false, opened: None }
    }
}

impl SupervisorState {
    pub(super) fn asked(&mut self, asked: Asked) {
        let Some(key) = self.core.key(&asked.child) else {
            let _ = asked.reply.send(Err(Refused::NotFound));
            return;
        };
        if let Some(about) = asked.about
            && self.incident_of(key).as_deref() != Some(about.as_str())
        {
            let over = "that incident is over, and nothing of it waits any more";
            let _ = asked.reply.send(Err(Refused::CannotRecover(over.into())));
            return;
        }
        let request = (asked.request)(key);
        self.tell_wish(key, &request, asked.by);
        if let Some(slot) = self.slot_mut(key) {
            slot.planned = asked.planned;
            slot.cause.take_if(|_| asked.planned);
        }
        let id = self.expect(asked.reply);
        self.fact(Fact::Request { id, request });
        if self.finished {
            self.answer(id, Err(Refused::ShuttingDown));
        }
        if let Some(opened) = asked.opened {
            // An asker that has gone away needs no answer.
            let _ = opened.send(self.newest_incident(key));
        }
    }
}
