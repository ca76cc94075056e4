//! The journal on disk.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use crate::codec::Kind;
use crate::event::Event;

use super::error::StoreError;
use super::record::{self, EventV1, Unusable};

/// An event with its number and time, to the microsecond.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptEvent {
    /// Its number.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// Which events are asked for.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only those with a higher number.
    pub after: u64,
    /// Only those that happened at this time or later.
    pub since: Option<Timestamp>,
    /// Only kinds that one of these patterns fits: `worker.exited`, `worker.*`. None: all.
    pub kinds: Vec<String>,
    /// Only those about this worker.
    pub worker: Option<String>,
    /// Only those that belong to this incident.
    pub incident: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A row as it is put in.
pub(super) struct Row {
    seq: i64,
    at: i64,
    kind: &'static str,
    worker: Option<String>,
    incident: Option<String>,
    record: Vec<u8>,
}

impl Row {
    pub(super) fn of(kept: &KeptEvent) -> Result<Self, StoreError> {
        Ok(Self {
            seq: i64::try_from(kept.seq).unwrap_or(i64::MAX),
            at: kept.at.as_microsecond(),
            kind: kept.event.kind.word(),
            worker: kept.event.worker.as_ref().map(ToString::to_string),
            incident: kept.event.incident.clone(),
            record: record::encode(Kind::Event, &EventV1::of(kept))?,
        })
    }
}

/// Puts events in. The same one again changes nothing: a commit whose outcome is not known is made again.
pub(super) fn put(conn: &Connection, rows: &[Row]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(
        "INSERT OR REPLACE INTO event (seq, at, kind, worker, incident, record) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for row in rows {
        insert.execute(params![row.seq, row.at, row.kind, row.worker, row.incident, row.record])?;
    }
    Ok(())
}

/// The number of the newest event; 0 if there is none.
pub(super) fn last(conn: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = conn.query_row("SELECT max(seq) FROM event", [], |row| row.get(0))?;
    Ok(last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0))
}

/// What was found, and the numbers of damaged records with what is wrong with them.
pub(super) type Found = (Vec<KeptEvent>, Vec<(Value, String)>);

pub(super) fn find(conn: &Connection, query: &EventQuery) -> rusqlite::Result<Found> {
    let (text, values) = statement(query);
    let mut statement = conn.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        match record::event(row.get_ref(1)?.as_blob()?) {
            Ok(kept) if i64::try_from(kept.seq) == Ok(seq) => found.push(kept),
            Ok(_) => damaged.push((seq.into(), "it stands at another number".to_owned())),
            Err(Unusable::Damaged(why)) => damaged.push((seq.into(), why)),
            Err(Unusable::Unknown(_)) => {}
        }
    }
    Ok((found, damaged))
}

fn statement(query: &EventQuery) -> (String, Vec<Value>) {
    let mut text = "SELECT seq, record FROM event WHERE seq > ?".to_owned();
    let mut values = vec![Value::from(i64::try_from(query.after).unwrap_or(i64::MAX))];
    if let Some(since) = query.since {
        // The inner query walks the index of times and says where to begin; a clock that was set back needs the rest.
        text.push_str(" AND seq >= (SELECT min(seq) FROM event WHERE at >= ?) AND at >= ?");
        values.extend([Value::from(since.as_microsecond()), Value::from(since.as_microsecond())]);
    }
    if !query.kinds.is_empty() {
        let any = vec!["kind GLOB ?"; query.kinds.len()].join(" OR ");
        text.push_str(&format!(" AND ({any})"));
        values.extend(query.kinds.iter().cloned().map(Value::from));
    }
    if let Some(worker) = &query.worker {
        text.push_str(" AND worker = ?");
        values.push(Value::from(worker.clone()));
    }
    if let Some(incident) = &query.incident {
        text.push_str(" AND incident = ?");
        values.push(Value::from(incident.clone()));
    }
    text.push_str(" ORDER BY seq LIMIT ?");
    values.push(Value::from(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    (text, values)
}
