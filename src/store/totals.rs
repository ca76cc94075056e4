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
    /// Steps of recovery beside those, by strategy and by the contract's words for what came of them.
    pub steps: Vec<(String, String, u64)>,
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

/// The beginning of the name of a record of steps; who it is about comes behind it.
const STEPS: &str = "steps ";

/// Totals as they are put in.
pub(super) struct Row {
    /// Who.
    instance: String,
    /// The record, and that of its steps, if there were any; none: forgotten.
    records: Option<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Row {
    pub(super) fn of(instance: &str, totals: Option<&InstanceTotals>) -> Result<Self, StoreError> {
        let records = |totals: &InstanceTotals| {
            let steps = (!totals.steps.is_empty()).then(|| record::encode_steps(totals)).transpose()?;
            Ok::<_, StoreError>((record::encode_totals(totals)?, steps))
        };
        Ok(Self { instance: instance.to_owned(), records: totals.map(records).transpose()? })
    }
}

pub(super) fn put(conn: &Connection, rows: &[Row], counts: &[u8]) -> rusqlite::Result<()> {
    let mut upsert =
        conn.prepare_cached("INSERT OR REPLACE INTO total (instance, record) VALUES (?1, ?2)")?;
    let mut figure = conn.prepare_cached("INSERT OR REPLACE INTO figure (name, record) VALUES (?1, ?2)")?;
    for Row { instance, records } in rows {
        let name = format!("{STEPS}{instance}");
        match records {
            Some((totals, steps)) => {
                upsert.execute(params![instance, totals])?;
                if let Some(steps) = steps {
                    figure.execute(params![name, steps])?;
                }
            }
            None => {
                conn.execute("DELETE FROM total WHERE instance = ?1", [instance])?;
                conn.execute("DELETE FROM figure WHERE name = ?1", [name])?;
            }
        }
    }
    figure.execute(params![EVENTS, counts])?;
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
    let mut statement = conn.prepare("SELECT name, record FROM figure WHERE name GLOB ?1")?;
    let rows = statement.query_map([format!("{STEPS}*")], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for row in rows {
        let (name, bytes): (String, Vec<u8>) = row?;
        let instance = name.strip_prefix(STEPS).unwrap_or_default();
        let of = found.binary_search_by(|one: &InstanceTotals| one.instance.as_str().cmp(instance));
        match (of, record::steps(&bytes)) {
            (Ok(at), Ok(steps)) => found[at].steps = steps,
            (Ok(_), Err(_)) => lost.push(format!("{instance} (its steps of recovery)")),
            // Its totals are gone, and told.
            (Err(_), _) => {}
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
