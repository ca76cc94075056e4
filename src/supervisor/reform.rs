//! A supervisor's new definition, carried out: children come into being and learn how to make their next runner.
//!
//! What becomes of whom is the policy's decision (`policy::Reform`). A definition may have to wait there for a group
//! restart to end, so what newcomers grow from is kept here until the policy says that they are in.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::event::Cause;
use crate::policy::{
    Change, ChildKey, Fact, Reform, ReformChild, Refused, Reply, Request, RequestId, SupervisorSpec,
};

use super::actor::{Seed, SupervisorState};

/// A supervisor's new definition.
pub(crate) struct Reforming {
    /// Its own flags.
    pub(crate) spec: SupervisorSpec,
    /// All its children in start order, and what becomes of those that are there.
    pub(crate) children: Vec<(Seed, Change)>,
    /// Answered once all who are no longer named are gone.
    pub(crate) reply: oneshot::Sender<Reply>,
}

impl SupervisorState {
    /// A new definition comes; it is taken over once no procedure is under way.
    pub(super) fn reform(&mut self, reforming: Reforming) {
        let Reforming { spec, children, reply } = reforming;
        let id = self.expect(reply);
        self.reforms.push(id);
        let specs = children
            .into_iter()
            .map(|(seed, change)| {
                let spec = seed.spec.clone();
                self.seeds.insert(Arc::clone(&spec.id), seed);
                ReformChild { spec, change }
            })
            .collect();
        let reform = Box::new(Reform { spec, children: specs });
        self.fact(Fact::Request { id, request: Request::Reform(reform) });
        if self.finished {
            self.answer(id, Err(Refused::ShuttingDown));
        }
    }

    /// Once every definition is taken over, nobody grows from what they brought.
    pub(super) fn reformed(&mut self, id: RequestId) {
        let before = self.reforms.len();
        self.reforms.retain(|waiting| *waiting != id);
        if self.reforms.is_empty() && before > 0 {
            self.seeds = HashMap::new();
        }
    }

    /// A child that a new definition named comes into being.
    pub(super) fn grow(&mut self, key: ChildKey) {
        let seed = self.core.child(key).and_then(|view| self.seeds.get(&view.spec.id)).cloned();
        let Some(seed) = seed else { return };
        self.seat(key, seed);
        self.tell_added(key);
    }

    /// The next incarnation is made from the new definition.
    pub(super) fn respec(&mut self, key: ChildKey, renew: bool) {
        let seed = self.core.child(key).and_then(|view| self.seeds.get(&view.spec.id)).cloned();
        let (Some(seed), Some(slot)) = (seed, self.slot_mut(key)) else { return };
        slot.make = seed.make;
        slot.running.remake();
        slot.to_watch = seed.watched;
        if renew {
            slot.cause = Some(Cause::Operator.into());
        }
        self.watch_from_now_on(key);
    }
}
