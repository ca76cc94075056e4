//! Counts that nobody but the metrics page shows. They go on over restarts of the runtime; all of them are one record.

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::lane::Which;
use super::record;
use super::state::Store;

/// All of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tallies {
    /// Messages about incarnations that were over.
    pub stale: u64,
    /// Events that slow followers have lost.
    pub events_dropped: u64,
    /// Of those who have any.
    pub instances: Vec<InstanceTallies>,
}

/// Those of one instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InstanceTallies {
    /// `parser/0`
    pub instance: String,
    /// Output lines that could not be kept.
    pub lines_dropped: u64,
    /// Its probes.
    pub probes: Vec<ProbeTally>,
}

/// The looks of one probe.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeTally {
    /// Its name.
    pub probe: String,
    /// By what they found.
    pub counts: Vec<u64>,
    /// By how long they took.
    pub buckets: Vec<u64>,
    /// All that they took together.
    pub sum_seconds: f64,
}

/// The name of the record.
const NAME: &str = "tallies";

impl Store {
    /// Keeps them in place of the ones before.
    ///
    /// # Errors
    /// [`StoreError`]; the ones before are kept.
    pub async fn put_tallies(&self, tallies: &Tallies) -> Result<(), StoreError> {
        let record = record::encode_tallies(tallies)?;
        let keep = move |conn: &Connection| {
            conn.prepare_cached("INSERT OR REPLACE INTO figure (name, record) VALUES (?1, ?2)")?
                .execute(params![NAME, record])
                .map(drop)
        };
        self.shared().writer.put(Which::State, keep).await
    }
}

/// Those of earlier runtimes; `None`: the record cannot be read.
pub(super) fn read(conn: &Connection) -> rusqlite::Result<Option<Tallies>> {
    let mut statement = conn.prepare("SELECT record FROM figure WHERE name = ?1")?;
    match statement.query([NAME])?.next()? {
        None => Ok(Some(Tallies::default())),
        Some(row) => Ok(record::tallies(&row.get::<_, Vec<u8>>(0)?).ok()),
    }
}
