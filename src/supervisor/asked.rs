//! A question about one child, and its answer.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::event::Event;
use crate::policy::{ChildKey, Fact, Refused, Reply, Request};
use crate::recovery::Strategy;

use super::actor::SupervisorState;
use super::board::Operator;

/// Leave for a step that waits for it, and for no other one.
pub(crate) struct Approval {
    /// Whose step: once that incident is over, the answer is no.
    pub(crate) incident: String,
    /// Which one was seen; `None`: whichever waits.
    pub(crate) step: Option<Strategy>,
    /// What is written down before the step begins.
    pub(crate) event: Event,
}

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
    /// If it is an approval: of what.
    pub(crate) approval: Option<Box<Approval>>,
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
        Self { child, request, by, reply, approval: None, planned: false, opened: None }
    }
}

impl SupervisorState {
    pub(super) fn asked(&mut self, asked: Asked) {
        let Some(key) = self.core.key(&asked.child) else {
            let _ = asked.reply.send(Err(Refused::NotFound));
            return;
        };
        if let Some(approval) = asked.approval
            && let Err(why) = self.approved(key, *approval)
        {
            let _ = asked.reply.send(Err(Refused::CannotRecover(why.into())));
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

    /// Writes down that a step may go on, before it does; otherwise why it is not the one that was meant.
    fn approved(&self, key: ChildKey, approval: Approval) -> Result<(), String> {
        let Approval { incident, step, mut event } = approval;
        if self.incident_of(key).as_deref() != Some(incident.as_str()) {
            return Err("that incident is over, and nothing of it waits any more".to_owned());
        }
        let care = self.core.child(key).and_then(|view| view.care).filter(|care| care.stage == "approval");
        let Some(waits) = care.and_then(|care| care.strategy.cloned()) else {
            return Err("no step of it waits for approval".to_owned());
        };
        if let Some(step) = step.filter(|step| *step != waits) {
            return Err(format!(
                "{waits} waits for approval now, and {step} does not: nothing was approved; \
                 `regrow approve {incident} --step {waits}` approves what waits"
            ));
        }
        event.data.insert("strategy".to_owned(), waits.word().into());
        self.plane.emit(event);
        Ok(())
    }
}
