//! Nobody can see how a worker is: that is an incident of who watches, not of the worker.
//!
//! None of its probes works any more. It is left alone, and somebody must know: the incident is open until one of the
//! probes looks again, or the incarnation that could not be seen is over.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::event::{Cause, Event, EventKind};
use crate::health::Verdict;
use crate::id::Incarnation;
use crate::policy::ChildKey;
use crate::recovery::{Evidence, Outcome};

use super::actor::SupervisorState;
use super::tree::Who;

impl SupervisorState {
    /// What a verdict says of those who watch.
    pub(super) fn watched(&mut self, child: ChildKey, incarnation: Incarnation, verdict: &Verdict) {
        let Some(slot) = self.slot(child) else { return };
        // A word that comes late is about one that is over.
        let blind = verdict.ill_seen() && slot.running.runs(incarnation);
        let open = slot.blind.clone();
        match (open, blind) {
            (None, true) => self.goes_blind(child, incarnation, verdict),
            (Some(_), false) => self.sees_again(child, Outcome::Ok, "its probes work again"),
            (Some((id, _)), true) if verdict.dim => {
                let now = verdict.sightless();
                if self.plane.healer.incident(&id).is_some_and(|incident| incident.text != now) {
                    let _ = self.plane.healer.on(&id, |incident| incident.text = now);
                }
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    fn goes_blind(&mut self, child: ChildKey, incarnation: Incarnation, verdict: &Verdict) {
        let Some(Who::Worker(instance)) = self.slot(child).map(|slot| slot.who.clone()) else { return };
        let evidence =
            Evidence { cause: Some(Cause::Monitor), message: verdict.sightless(), ..Evidence::default() };
        let (id, _) =
            self.plane.healer.open(&instance, Cause::Monitor.word(), &evidence, Duration::ZERO, None);
        if let Some(slot) = self.slot_mut(child) {
            slot.blind = Some((Arc::clone(&id), incarnation));
        }
        self.tell_blind(child, EventKind::IncidentOpened, (&id, incarnation), evidence.message);
    }

    /// It is over, in one way or the other.
    pub(super) fn sees_again(&mut self, child: ChildKey, outcome: Outcome, text: &str) {
        let Some((id, incarnation)) = self.slot_mut(child).and_then(|slot| slot.blind.take()) else { return };
        let at = Timestamp::now();
        let _ = self.plane.healer.on(&id, |incident| incident.close(outcome, text, at));
        let told = format!("{}: {text}", outcome.word());
        self.tell_blind(child, EventKind::IncidentClosed, (&id, incarnation), told);
    }

    fn tell_blind(
        &self,
        child: ChildKey,
        kind: EventKind,
        (id, incarnation): (&Arc<str>, Incarnation),
        text: String,
    ) {
        let mut event = Event::new(kind, text);
        event.supervisor = Some(self.name.clone());
        if let Some(Who::Worker(instance)) = self.slot(child).map(|slot| &slot.who) {
            event.worker = Some(instance.worker().clone());
            event.instance = Some(instance.clone());
        }
        event.incident = Some(id.to_string());
        event.incarnation = Some(incarnation);
        event.cause = Some(Cause::Monitor.into());
        event.data.insert("cause", Cause::Monitor.word().into());
        self.plane.emit(event);
    }
}
