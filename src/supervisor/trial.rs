//! The trial of a parked worker that has held: it is told like any other step that helped.
//!
//! The incident that parked it is over; the trial stands in it as what helped in the end.

use std::time::Duration;

use jiff::Timestamp;

use crate::event::{Event, EventKind};
use crate::id::InstanceId;
use crate::policy::ChildKey;
use crate::units::format_duration;

use super::actor::SupervisorState;

impl SupervisorState {
    /// It is parked no more.
    pub(super) fn trial_held(&mut self, child: ChildKey, instance: &InstanceId, verify: Duration) {
        let seen = self.plane.board.read(instance, |entry| {
            let seconds = entry.steady.started.map(|started| started.elapsed().as_secs_f64());
            (entry.last_incident.clone(), entry.started_at, seconds.unwrap_or_default())
        });
        let Some((incident, began, seconds)) = seen else { return };
        let began = began.unwrap_or_else(Timestamp::now);
        let parked_by = incident.as_ref().and_then(|id| {
            self.plane.healer.on(id, |incident| {
                incident.trial_held(began, seconds);
                incident.cause.clone()
            })
        });
        let verify = format_duration(verify);
        let text = format!(
            "soft_restart helped after {seconds:.1} s: its trial was well for {verify}; it is parked no more"
        );
        let mut event = Event::new(EventKind::RecoveryVerified, text);
        event.supervisor = Some(self.name.clone());
        event.worker = Some(instance.worker().clone());
        event.instance = Some(instance.clone());
        event.incarnation = self.core.child(child).map(|view| view.incarnation);
        event.incident = incident.map(|id| id.to_string());
        if let Some(cause) = parked_by {
            event.data.insert("cause", cause.into());
        }
        self.plane.emit(event);
    }
}
