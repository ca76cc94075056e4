//! `regrow.event/1`

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::telemetry::Recorded;

/// One event of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// `regrow.event/1`
    pub schema: String,
    /// From 1, without gaps.
    pub seq: u64,
    /// When.
    #[serde(serialize_with = "super::status::millis")]
    pub at: Timestamp,
    /// What, such as `worker.exited`.
    pub kind: String,
    /// The supervisor that decided.
    pub supervisor: Option<String>,
    /// The worker.
    pub worker: Option<String>,
    /// The instance.
    pub instance: Option<String>,
    /// Which start of it.
    pub incarnation: Option<u64>,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// Why.
    pub cause: Option<String>,
    /// One line for people.
    pub message: String,
    /// Everything else.
    pub data: Map<String, Value>,
}

impl From<&Recorded> for EventView {
    fn from(recorded: &Recorded) -> Self {
        let event = &recorded.event;
        Self {
            schema: recorded.schema.to_owned(),
            seq: recorded.seq,
            at: super::status::to_millis(recorded.at),
            kind: event.kind.word().to_owned(),
            supervisor: event.supervisor.as_ref().map(ToString::to_string),
            worker: event.worker.as_ref().map(ToString::to_string),
            instance: event.instance.as_ref().map(ToString::to_string),
            incarnation: event.incarnation.map(|incarnation| incarnation.0),
            incident: event.incident.clone(),
            cause: event.cause.as_ref().map(|cause| cause.word().to_owned()),
            message: event.message.clone(),
            data: Map::from(&event.data),
        }
    }
}
