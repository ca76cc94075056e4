//! The probe actor: when the next look is due, and one look at a time.
//!
//! It waits inside its own handler, which is what it is there for: nobody sends it anything but its own next turn. Who
//! has no more use for it kills it, and the look under way is dropped with it.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::health::{Grade, Observation};

use super::patience::within;
use super::{Patient, Probe};

/// What a probe actor is told.
pub(crate) enum ProbeMsg {
    /// The next look is due.
    Due,
}

/// Where observations go, with the time at which they are made. One at a time: the next look begins after this.
pub(crate) type Report = Arc<dyn Fn(Observation) + Send + Sync>;

/// When to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    /// Before the first look.
    pub(crate) initial_delay: Duration,
    /// Between looks.
    pub(crate) period: Duration,
    /// The same after a failure, and until one has passed.
    pub(crate) retry_period: Duration,
    /// The deadline of a look.
    pub(crate) timeout: Duration,
}

/// What a probe actor begins with.
pub(crate) struct ProbeArguments {
    /// Its number at the coordinator.
    pub(crate) number: usize,
    /// When to look.
    pub(crate) times: Times,
    /// Spreads the looks of many probes over the period, 0..1.
    pub(crate) spread: f64,
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
    passed: bool,
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
        drop(myself.send_after(arguments.times.initial_delay, || ProbeMsg::Due));
        Ok(ProbeState { arguments, passed: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<ProbeMsg>,
        message: ProbeMsg,
        state: &mut ProbeState,
    ) -> Result<(), ActorProcessingErr> {
        let ProbeMsg::Due = message;
        let grade = state.look().await;
        drop(myself.send_after(state.pause(grade), || ProbeMsg::Due));
        Ok(())
    }
}

impl ProbeState {
    async fn look(&self) -> Grade {
        let ProbeArguments { number, times, probe, patient, now, report, .. } = &self.arguments;
        let began = now();
        let found = within(times.timeout, probe.look(patient)).await;
        let found = found.unwrap_or_else(|| patient.late(times.timeout));
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

    /// Until the next look. The first pause of the regular rhythm is cut short by the spread.
    fn pause(&mut self, grade: Grade) -> Duration {
        let Times { period, retry_period, .. } = self.arguments.times;
        match grade {
            Grade::Pass | Grade::Warn if !std::mem::replace(&mut self.passed, true) => {
                period.mul_f64(1.0 - 0.5 * self.arguments.spread.clamp(0.0, 1.0))
            }
            Grade::Pass | Grade::Warn => period,
            Grade::Fail | Grade::Error => retry_period.min(period),
        }
    }
}
