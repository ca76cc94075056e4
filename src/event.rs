//! The one vocabulary of things that happened, which everything downstream reads and nobody answers.

mod brief;

use serde::{Deserialize, Serialize};

pub(crate) use brief::{Brief, Ended, Next, Subject, What};

use crate::id::{Incarnation, InstanceId, Name};

pub use crate::cause::{Cause, CauseName};

use crate::units::shortened;

/// Bytes of a text in an event. What comes from outside is cut where it comes in, and mostly shorter; this is what
/// keeps the stream, its readers and the store small whatever else is said.
const MOST_TEXT: usize = 16 << 10;

/// What kind of thing happened. The contract's closed list, as far as something emits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum EventKind {
    /// The runtime is up.
    #[serde(rename = "runtime.started")]
    RuntimeStarted,
    /// The runtime has begun to end.
    #[serde(rename = "runtime.stopping")]
    RuntimeStopping,
    /// Survivors of an earlier runtime were found.
    #[serde(rename = "runtime.adopted")]
    RuntimeAdopted,
    /// The control plane was late.
    #[serde(rename = "runtime.lagged")]
    RuntimeLagged,
    /// A start was begun.
    #[serde(rename = "worker.starting")]
    WorkerStarting,
    /// The process or task exists.
    #[serde(rename = "worker.started")]
    WorkerStarted,
    /// It is ready.
    #[serde(rename = "worker.ready")]
    WorkerReady,
    /// It ended by itself, or its start failed.
    #[serde(rename = "worker.exited")]
    WorkerExited,
    /// It was asked to end.
    #[serde(rename = "worker.stopping")]
    WorkerStopping,
    /// It ended as asked.
    #[serde(rename = "worker.stopped")]
    WorkerStopped,
    /// It was parked.
    #[serde(rename = "worker.parked")]
    WorkerParked,
    /// It could not be killed.
    #[serde(rename = "worker.stuck")]
    WorkerStuck,
    /// Somebody wants another number of instances of it.
    #[serde(rename = "worker.scaled")]
    WorkerScaled,
    /// It came into the tree while everything ran.
    #[serde(rename = "worker.added")]
    WorkerAdded,
    /// It was taken out of the tree.
    #[serde(rename = "worker.removed")]
    WorkerRemoved,
    /// An instance came to be well or unwell.
    #[serde(rename = "health.changed")]
    HealthChanged,
    /// An incident begins.
    #[serde(rename = "incident.opened")]
    IncidentOpened,
    /// An incident is over.
    #[serde(rename = "incident.closed")]
    IncidentClosed,
    /// A step of recovery waits for something.
    #[serde(rename = "recovery.planned")]
    RecoveryPlanned,
    /// A step of recovery begins.
    #[serde(rename = "recovery.step")]
    RecoveryStep,
    /// A step of recovery helped.
    #[serde(rename = "recovery.verified")]
    RecoveryVerified,
    /// A step of recovery did not help.
    #[serde(rename = "recovery.failed")]
    RecoveryFailed,
    /// A step of recovery was passed over.
    #[serde(rename = "recovery.skipped")]
    RecoverySkipped,
    /// The breaker of a ladder has another state.
    #[serde(rename = "breaker.changed")]
    BreakerChanged,
    /// The fleet's brake went on or off.
    #[serde(rename = "brake.changed")]
    BrakeChanged,
    /// A configuration was taken over.
    #[serde(rename = "config.applied")]
    ConfigApplied,
    /// A configuration was refused; nothing was changed.
    #[serde(rename = "config.rejected")]
    ConfigRejected,
    /// Somebody asked for something.
    #[serde(rename = "action.requested")]
    ActionRequested,
}

impl EventKind {
    /// Every kind, in the order of the contract.
    pub const ALL: [Self; 28] = [
        Self::RuntimeStarted,
        Self::RuntimeStopping,
        Self::RuntimeAdopted,
        Self::RuntimeLagged,
        Self::WorkerStarting,
        Self::WorkerStarted,
        Self::WorkerReady,
        Self::WorkerExited,
        Self::WorkerStopping,
        Self::WorkerStopped,
        Self::WorkerParked,
        Self::WorkerStuck,
        Self::WorkerScaled,
        Self::WorkerAdded,
        Self::WorkerRemoved,
        Self::HealthChanged,
        Self::IncidentOpened,
        Self::IncidentClosed,
        Self::RecoveryPlanned,
        Self::RecoveryStep,
        Self::RecoveryVerified,
        Self::RecoveryFailed,
        Self::RecoverySkipped,
        Self::BreakerChanged,
        Self::BrakeChanged,
        Self::ConfigApplied,
        Self::ConfigRejected,
        Self::ActionRequested,
    ];

    /// The contract's word, such as `worker.exited`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RuntimeStarted => "runtime.started",
            Self::RuntimeStopping => "runtime.stopping",
            Self::RuntimeAdopted => "runtime.adopted",
            Self::RuntimeLagged => "runtime.lagged",
            Self::WorkerStarting => "worker.starting",
            Self::WorkerStarted => "worker.started",
            Self::WorkerReady => "worker.ready",
            Self::WorkerExited => "worker.exited",
            Self::WorkerStopping => "worker.stopping",
            Self::WorkerStopped => "worker.stopped",
            Self::WorkerParked => "worker.parked",
            Self::WorkerStuck => "worker.stuck",
            Self::WorkerScaled => "worker.scaled",
            Self::WorkerAdded => "worker.added",
            Self::WorkerRemoved => "worker.removed",
            Self::HealthChanged => "health.changed",
            Self::IncidentOpened => "incident.opened",
            Self::IncidentClosed => "incident.closed",
            Self::RecoveryPlanned => "recovery.planned",
            Self::RecoveryStep => "recovery.step",
            Self::RecoveryVerified => "recovery.verified",
            Self::RecoveryFailed => "recovery.failed",
            Self::RecoverySkipped => "recovery.skipped",
            Self::BreakerChanged => "breaker.changed",
            Self::BrakeChanged => "brake.changed",
            Self::ConfigApplied => "config.applied",
            Self::ConfigRejected => "config.rejected",
            Self::ActionRequested => "action.requested",
        }
    }
}

/// One thing that happened; the contract's event, without the numbers that the journal gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// The supervisor that decided, where one did.
    pub supervisor: Option<Name>,
    /// The worker.
    pub worker: Option<Name>,
    /// The instance.
    pub instance: Option<InstanceId>,
    /// Which start of it.
    pub incarnation: Option<Incarnation>,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// Why.
    pub cause: Option<CauseName>,
    /// One line for people: who, what happened, what comes next.
    pub message: String,
    /// Everything else, by name.
    pub data: Data,
}

/// What an event says beyond its fields, by name: one thing, or a few. A list, because thousands of events are kept,
/// and a map sets places for eleven aside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Data(Vec<(String, serde_json::Value)>);

impl Data {
    /// Adds something, in place of what had the same name.
    pub fn insert(&mut self, name: impl Into<String>, value: serde_json::Value) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => {
                self.0.reserve_exact(1);
                self.0.push((name, value));
            }
        }
    }

    /// What has this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&serde_json::Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Everything, in the order in which it was added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl From<&Data> for serde_json::Map<String, serde_json::Value> {
    fn from(data: &Data) -> Self {
        data.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect()
    }
}

impl From<serde_json::Map<String, serde_json::Value>> for Data {
    fn from(map: serde_json::Map<String, serde_json::Value>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl Serialize for Data {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::Map::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Map::deserialize(deserializer).map(Self::from)
    }
}

impl Event {
    /// An event that is about no one in particular.
    #[must_use]
    pub fn new(kind: EventKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            supervisor: None,
            worker: None,
            instance: None,
            incarnation: None,
            incident: None,
            cause: None,
            message: message.into(),
            data: Data::default(),
        }
    }

    /// The same with every text in it as long as an event takes it.
    pub(crate) fn bounded(mut self) -> Self {
        cut(&mut self.message);
        self.data.0.iter_mut().for_each(|(_, value)| cut_all(value));
        self
    }
}

/// Cuts a text that is longer than an event takes it.
fn cut(text: &mut String) {
    if text.len() > MOST_TEXT {
        *text = shortened(text, MOST_TEXT).into_owned();
    }
}

fn cut_all(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => cut(text),
        serde_json::Value::Array(all) => all.iter_mut().for_each(cut_all),
        serde_json::Value::Object(all) => all.values_mut().for_each(cut_all),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_in_an_event_is_longer_than_it_may_be() {
        let long = "x".repeat(1 << 20);
        let mut event = Event::new(EventKind::WorkerExited, long.as_str());
        event.data.insert("exit", serde_json::json!({ "message": long, "more": [long, 1] }));
        let event = event.bounded();
        assert!(event.message.len() < MOST_TEXT + 100 && event.message.ends_with("(1048576 bytes in all)"));
        let data = event.data.get("exit").unwrap();
        assert!(data.to_string().len() < 2 * (MOST_TEXT + 100) + 100);
        assert_eq!(data["more"][1], 1);
    }
}
