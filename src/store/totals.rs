//! What the instances have behind them: counts that go on over restarts of the runtime.

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::record;

/// The counts of one instance, over all runtimes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceTotals {
    /// `parser/0`
    pub instance: String,
    /// Starts after the first of each runtime.
    pub restarts: u64,
    /// The same, by the contract's words for causes.
    pub by_cause: Vec<(String, u64)>,
    /// Restarts after a failure whose replacement became ready.
    pub recovered: u64,
    /// Those whose replacement did not.
    pub failed: u64,
    /// Those that something else cut short.
    pub interrupted: u64,
}

/// How many events there were, over all runtimes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// The number of the last one.
    pub last: u64,
    /// By the contract's words for kinds.
    pub by_kind: Vec<(String, u64)>,
}

/// The name of the record of event counts.
const EVENTS: &str = "events";

/// Totals as they are put in: who, and the record; none: forgotten.
pub(super) type Row = (String, Option<Vec<u8>>);

pub(super) fn put(conn: &Connection, rows: &[Row], counts: &[u8]) -> rusqlite::Result<()> {
    let mut upsert =
        conn.prepare_cached("INSERT OR REPLACE INTO total (instance, record) VALUES (?1, ?2)")?;
    for (instance, record) in rows {
        match record {
            Some(record) => upsert.execute(params![instance, record])?,
            None => conn.execute("DELETE FROM total WHERE instance = ?1", [instance])?,
        };
    }
    conn.prepare_cached("INSERT OR REPLACE INTO figure (name, record) VALUES (?1, ?2)")?
        .execute(params![EVENTS, counts])?;
    Ok(())
}

/// All totals, and in words what could not be read.
pub(super) fn all(conn: &Connection) -> Result<(Vec<InstanceTotals>, Vec<String>), StoreError> {
    let mut statement = conn.prepare("SELECT instance, record FROM total ORDER BY instance")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for row in rows {
        let (instance, bytes): (String, Vec<u8>) = row?;
        match record::totals(&bytes) {
            Ok(totals) if totals.instance == instance => found.push(totals),
            Ok(_) | Err(_) => lost.push(instance),
        }
    }
    Ok((found, lost))
}

/// How many events of each kind there were; `None`: the record cannot be read.
pub(super) fn counts(conn: &Connection) -> rusqlite::Result<Option<EventCounts>> {
    let mut statement = conn.prepare("SELECT record FROM figure WHERE name = ?1")?;
    match statement.query([EVENTS])?.next()? {
        None => Ok(Some(EventCounts::default())),
        Some(row) => Ok(record::counts(&row.get::<_, Vec<u8>>(0)?).ok()),
    }
}

/// The number of the last event that was counted; 0 if that cannot be read.
pub(super) fn last(conn: &Connection) -> rusqlite::Result<u64> {
    Ok(counts(conn)?.map_or(0, |counts| counts.last))
}
