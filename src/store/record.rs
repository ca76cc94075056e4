//! What records look like on disk, one frozen type per version, and the way there and back.
//!
//! Words instead of numbers for everything that is a closed list today: a file outlives the list. A record with a word
//! that this program does not know is left where it is; a newer one can read it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::{self, Kind};
use crate::event::{CauseName, Event, EventKind};
use crate::id::{Incarnation, Name};

use super::error::StoreError;
use super::events::KeptEvent;
use super::tallies::{InstanceTallies, ProbeTally, Tallies};
use super::totals::{EventCounts, InstanceTotals};

/// Why a record cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unusable {
    /// Its bytes are wrong; it is moved aside.
    Damaged(String),
    /// It says something that this program does not know; it stays.
    Unknown(String),
}

/// An event, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EventV1 {
    seq: u64,
    at_micros: i64,
    kind: String,
    supervisor: Option<String>,
    worker: Option<String>,
    instance: Option<String>,
    incarnation: Option<u64>,
    incident: Option<String>,
    cause: Option<String>,
    message: String,
    /// As JSON, which is what it is.
    data: String,
}

impl EventV1 {
    pub(super) fn of(kept: &KeptEvent) -> Self {
        let event = &kept.event;
        let data = serde_json::Map::from(&event.data);
        Self {
            seq: kept.seq,
            at_micros: kept.at.as_microsecond(),
            kind: event.kind.word().to_owned(),
            supervisor: event.supervisor.as_ref().map(ToString::to_string),
            worker: event.worker.as_ref().map(ToString::to_string),
            instance: event.instance.as_ref().map(ToString::to_string),
            incarnation: event.incarnation.map(|incarnation| incarnation.0),
            incident: event.incident.clone(),
            cause: event.cause.as_ref().map(|cause| cause.word().to_owned()),
            message: event.message.clone(),
            data: if data.is_empty() { String::new() } else { serde_json::Value::from(data).to_string() },
        }
    }

    fn back(self) -> Result<KeptEvent, Unusable> {
        let unknown = |what: &str, word: &str| Unusable::Unknown(format!("{what} `{word}`"));
        let kind = EventKind::ALL.into_iter().find(|kind| kind.word() == self.kind);
        // A word that is none of the contract's is a name that the user gave.
        let cause = self.cause.as_deref().map(CauseName::from);
        let name = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => Name::try_new(&text).map(Some).map_err(|_| unknown("name", &text)),
        };
        let data = match self.data.as_str() {
            "" => serde_json::Map::new(),
            text => serde_json::from_str(text).map_err(|error| Unusable::Damaged(error.to_string()))?,
        };
        let event = Event {
            kind: kind.ok_or_else(|| unknown("kind", &self.kind))?,
            supervisor: name(self.supervisor)?,
            worker: name(self.worker)?,
            instance: self
                .instance
                .map(|text| text.parse().map_err(|_| unknown("instance", &text)))
                .transpose()?,
            incarnation: self.incarnation.map(Incarnation),
            incident: self.incident,
            cause,
            message: self.message,
            data: data.into(),
        };
        let at = time(self.at_micros)?;
        Ok(KeptEvent { seq: self.seq, at, event })
    }
}

/// What an instance has behind it, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TotalsV1 {
    instance: String,
    restarts: u64,
    by_cause: Vec<(String, u64)>,
    recovered: u64,
    failed: u64,
    interrupted: u64,
}

/// Steps of recovery by strategy and what came of them, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct StepsV1 {
    counts: Vec<(String, String, u64)>,
}

/// How many events of each kind there were, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CountsV1 {
    last: u64,
    by_kind: Vec<(String, u64)>,
}

/// Counts that only the metrics page has, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct TalliesV1 {
    stale: u64,
    events_dropped: u64,
    instances: Vec<InstanceV1>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct InstanceV1 {
    instance: String,
    lines_dropped: u64,
    probes: Vec<ProbeV1>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ProbeV1 {
    probe: String,
    counts: Vec<u64>,
    buckets: Vec<u64>,
    sum_seconds: f64,
}

/// A time as it is kept.
pub(super) fn time(micros: i64) -> Result<Timestamp, Unusable> {
    Timestamp::from_microsecond(micros).map_err(|error| Unusable::Damaged(error.to_string()))
}

/// The record of a value.
pub(super) fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, StoreError> {
    codec::encode(kind, value).map_err(|error| StoreError::Unwritable(error.to_string()))
}

pub(super) fn event(bytes: &[u8]) -> Result<KeptEvent, Unusable> {
    decode::<EventV1>(Kind::Event, bytes)?.back()
}

pub(super) fn encode_totals(totals: &InstanceTotals) -> Result<Vec<u8>, StoreError> {
    let InstanceTotals { instance, restarts, by_cause, recovered, failed, interrupted, steps: _ } =
        totals.clone();
    encode(Kind::Totals, &TotalsV1 { instance, restarts, by_cause, recovered, failed, interrupted })
}

pub(super) fn totals(bytes: &[u8]) -> Result<InstanceTotals, Unusable> {
    let TotalsV1 { instance, restarts, by_cause, recovered, failed, interrupted } =
        decode(Kind::Totals, bytes)?;
    let steps = Vec::new();
    Ok(InstanceTotals { instance, restarts, by_cause, recovered, failed, interrupted, steps })
}

pub(super) fn encode_steps(totals: &InstanceTotals) -> Result<Vec<u8>, StoreError> {
    encode(Kind::Steps, &StepsV1 { counts: totals.steps.clone() })
}

pub(super) fn steps(bytes: &[u8]) -> Result<Vec<(String, String, u64)>, Unusable> {
    decode::<StepsV1>(Kind::Steps, bytes).map(|StepsV1 { counts }| counts)
}

pub(super) fn encode_counts(counts: &EventCounts) -> Result<Vec<u8>, StoreError> {
    let EventCounts { last, by_kind } = counts.clone();
    encode(Kind::EventCounts, &CountsV1 { last, by_kind })
}

pub(super) fn counts(bytes: &[u8]) -> Result<EventCounts, Unusable> {
    let CountsV1 { last, by_kind } = decode(Kind::EventCounts, bytes)?;
    Ok(EventCounts { last, by_kind })
}

pub(super) fn encode_tallies(tallies: &Tallies) -> Result<Vec<u8>, StoreError> {
    let probe =
        |ProbeTally { probe, counts, buckets, sum_seconds }| ProbeV1 { probe, counts, buckets, sum_seconds };
    let instance = |InstanceTallies { instance, lines_dropped, probes }| InstanceV1 {
        instance,
        lines_dropped,
        probes: probes.into_iter().map(probe).collect(),
    };
    let Tallies { stale, events_dropped, instances } = tallies.clone();
    let instances = instances.into_iter().map(instance).collect();
    encode(Kind::Tallies, &TalliesV1 { stale, events_dropped, instances })
}

pub(super) fn tallies(bytes: &[u8]) -> Result<Tallies, Unusable> {
    let probe =
        |ProbeV1 { probe, counts, buckets, sum_seconds }| ProbeTally { probe, counts, buckets, sum_seconds };
    let instance = |InstanceV1 { instance, lines_dropped, probes }| InstanceTallies {
        instance,
        lines_dropped,
        probes: probes.into_iter().map(probe).collect(),
    };
    let TalliesV1 { stale, events_dropped, instances } = decode(Kind::Tallies, bytes)?;
    Ok(Tallies { stale, events_dropped, instances: instances.into_iter().map(instance).collect() })
}

/// The value of a record. A version that a newer program wrote is unknown, not damaged.
pub(super) fn decode<T: Serialize + serde::de::DeserializeOwned>(
    kind: Kind,
    bytes: &[u8],
) -> Result<T, Unusable> {
    codec::decode(kind, bytes).map_err(|error| match error {
        codec::Unreadable::OtherVersion(..) => Unusable::Unknown(error.to_string()),
        codec::Unreadable::CutOff(_)
        | codec::Unreadable::Foreign
        | codec::Unreadable::OtherKind(_)
        | codec::Unreadable::Damaged(_)
        | codec::Unreadable::OtherShape(_)
        | codec::Unreadable::TooLong(_)
        | codec::Unreadable::Unwritable(_) => Unusable::Damaged(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> KeptEvent {
        let mut event = Event::new(EventKind::WorkerExited, "exit code 1; it starts again");
        event.worker = Some(Name::try_new("web").unwrap());
        event.instance = Some("web/3".parse().unwrap());
        event.incarnation = Some(Incarnation(7));
        event.cause = Some("crash".into());
        event.data.insert("code", 1.into());
        KeptEvent { seq: 300, at: Timestamp::from_microsecond(1_700_000_000_000_001).unwrap(), event }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_event_of_version_one_is_read_for_ever() {
        let bytes = encode(Kind::Event, &EventV1::of(&kept())).unwrap();
        assert_eq!(hex(&bytes), GOLDEN_EVENT);
        assert_eq!(event(&bytes), Ok(kept()));
    }

    #[test]
    fn totals_of_version_one_are_read_for_ever() {
        let totals_of_web = InstanceTotals {
            instance: "web".to_owned(),
            restarts: 3,
            by_cause: vec![("crash".to_owned(), 2), ("oom".to_owned(), 1)],
            recovered: 2,
            failed: 1,
            interrupted: 0,
            steps: Vec::new(),
        };
        let bytes = encode_totals(&totals_of_web).unwrap();
        assert_eq!(hex(&bytes), GOLDEN_TOTALS);
        assert_eq!(totals(&bytes), Ok(totals_of_web));
        let events = EventCounts { last: 500, by_kind: vec![("worker.exited".to_owned(), 400)] };
        let bytes = encode_counts(&events).unwrap();
        assert_eq!(hex(&bytes), GOLDEN_COUNTS);
        assert_eq!(counts(&bytes), Ok(events));
    }

    #[test]
    fn tallies_of_version_one_are_read_for_ever() {
        let probe = ProbeTally {
            probe: "alive".to_owned(),
            counts: vec![300, 0, 2, 0],
            buckets: vec![1, 301],
            sum_seconds: 1.5,
        };
        let instance = InstanceTallies { instance: "web".to_owned(), lines_dropped: 7, probes: vec![probe] };
        let all = Tallies { stale: 1, events_dropped: 2, instances: vec![instance] };
        let bytes = encode_tallies(&all).unwrap();
        assert_eq!(hex(&bytes), GOLDEN_TALLIES);
        assert_eq!(tallies(&bytes), Ok(all));
    }

    #[test]
    fn a_word_of_a_newer_program_is_no_damage() {
        let newer = EventV1 { kind: "worker.cloned".to_owned(), ..EventV1::of(&kept()) };
        let read = event(&encode(Kind::Event, &newer).unwrap());
        assert_eq!(read, Err(Unusable::Unknown("kind `worker.cloned`".to_owned())));
    }

    const GOLDEN_EVENT: &str = "726702010000590000003ecdef64683cde8bbad97aeffb2c01fd02803c3048140c000d776f726b65722e657869746564000103776562\
        01057765622f33010700010563726173681c6578697420636f646520313b2069742073746172747320616761696e0a7b22636f6465223a317d";
    const GOLDEN_TOTALS: &str =
        "7267030100001500000086e202e2fbcb8abe878c70d503776562030205637261736802036f6f6d01020100";
    const GOLDEN_TALLIES: &str = "72670901000023000000e3b375f452437330f2c17cbc01020103776562070105616c69766504fb2c010002000201fb2d01000000000000f83f";
    const GOLDEN_COUNTS: &str =
        "726704010000150000004518a5f019b178ce72f022e3fbf401010d776f726b65722e657869746564fb9001";
}
