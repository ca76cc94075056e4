//! The probe actor: one look at a time, and then the next.
//!
//! It waits inside its own handler, which is what it is there for: nobody sends it anything but its own next turn. Who
//! has no more use for it kills it, and the look under way is dropped with it.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::health::{Grade, Observation};

use super::patience::within;
use super::rhythm::Rhythm;
use super::{Patient, Probe};

/// What a probe actor is told.
pub(crate) enum ProbeMsg {
    /// The next look is due.
    Due,
}

/// Where observations go, with the time at which they are made. One at a time: the next look begins after this.
pub(crate) type Report = Arc<dyn Fn(Observation) + Send + Sync>;

/// What a probe actor begins with.
pub(crate) struct ProbeArguments {
    /// Its number at the coordinator.
    pub(crate) number: usize,
    /// When to look.
    pub(crate) rhythm: Rhythm,
    /// What looks.
    pub(crate) probe: Arc<dyn Probe>,
    /// At whom.
    pub(crate) patient: Patient,
    /// The clock of the coordinator.
    pub(crate) now: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// Where observations go.
    pub(crate) report: Report,
}

/// What a probe actor keeps.
pub(crate) struct ProbeState {
    arguments: ProbeArguments,
}

/// The actor; everything it keeps is in [`ProbeState`].
pub(crate) struct ProbeActor;

impl Actor for ProbeActor {
    type Msg = ProbeMsg;
    type State = ProbeState;
    type Arguments = ProbeArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ProbeMsg>,
        arguments: ProbeArguments,
    ) -> Result<ProbeState, ActorProcessingErr> {
        // Dropped with its handle, it still comes: one message to an actor that is gone.
        drop(myself.send_after(arguments.rhythm.times().initial_delay, || ProbeMsg::Due));
        Ok(ProbeState { arguments })
    }

    async fn handle(
        &self,
        myself: ActorRef<ProbeMsg>,
        message: ProbeMsg,
        state: &mut ProbeState,
    ) -> Result<(), ActorProcessingErr> {
        let ProbeMsg::Due = message;
        let grade = state.look().await;
        drop(myself.send_after(state.arguments.rhythm.pause(grade), || ProbeMsg::Due));
        Ok(())
    }
}

impl ProbeState {
    async fn look(&self) -> Grade {
        let ProbeArguments { number, rhythm, probe, patient, now, report, .. } = &self.arguments;
        let (began, timeout) = (now(), rhythm.times().timeout);
        let found = within(timeout, probe.look(patient)).await;
        let found = found.unwrap_or_else(|| patient.late(timeout));
        let grade = found.grade;
        report(Observation {
            probe: *number,
            began,
            ended: now(),
            grade,
            message: found.message,
            metrics: found.metrics,
        });
        grade
    }
}
