//! What the probes say of an instance, on its way to the policy.

use std::sync::Arc;

use crate::health::Verdict;
use crate::id::{Incarnation, InstanceId};
use crate::policy::{Fact, Phase};
use crate::recovery::Evidence;

use super::actor::SupervisorState;

/// A verdict and whom it is about.
pub(crate) struct Judged {
    /// Who.
    pub(crate) instance: InstanceId,
    /// Which start of it.
    pub(crate) incarnation: Incarnation,
    /// What its probes say.
    pub(crate) verdict: Arc<Verdict>,
}

impl SupervisorState {
    /// A verdict. Why it is ended is what people read first, if it is.
    pub(super) fn judged(&mut self, judged: Judged) {
        let Judged { instance, incarnation, verdict } = judged;
        let Some(child) = self.core.key(&instance.to_string()) else { return };
        let view = self.core.child(child).filter(|view| view.incarnation == incarnation);
        let current = view.is_some();
        let runs = view.is_some_and(|view| view.phase == Phase::Running);
        // Once it is well again, its end has other reasons.
        if let Some(slot) = self.slot_mut(child).filter(|_| runs) {
            slot.complaint = verdict.unwell.as_ref().map(|unwell| unwell.message.clone());
            if verdict.unwell.is_none() {
                slot.class = None;
            }
        }
        // What is said of one that is over says nothing of who runs now.
        if current {
            let (unwell, fleet) = (verdict.unwell.is_some(), self.plane.board.len());
            if let Some(slot) = self.slot_mut(child) {
                slot.was_unwell = unwell;
            }
            let change = self.plane.healer.judged(self.plane.now(), &instance, unwell, fleet);
            self.tell_brake(change);
        }
        if let Some(unwell) = verdict.unwell.as_ref().filter(|_| runs) {
            let plane = Arc::clone(&self.plane);
            let evidence = || {
                let trouble = self.trouble(child);
                Evidence {
                    cause: Some(unwell.cause),
                    message: unwell.message.clone(),
                    lines: trouble.iter().map(ToString::to_string).collect(),
                    named: trouble.and_then(|trouble| trouble.class),
                    ..Evidence::default()
                }
            };
            if let Some(class) = plane.healer.class_of(evidence) {
                if let Some(slot) = self.slot_mut(child) {
                    slot.class = Some((incarnation, Arc::clone(&class)));
                }
                self.fact(Fact::Classed { child, incarnation, class });
            }
        }
        self.watched(child, incarnation, &verdict);
        self.fact(Fact::Judged { child, incarnation, verdict });
    }
}
