//! How much is kept: what is too old goes, and beyond the budget the oldest.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::error::StoreError;
use super::lane::Which;
use super::state::Store;

/// Rows that go in one transaction, so that no event waits long behind them.
const AT_ONCE: i64 = 5000;

/// Transactions in one round; the next round goes on.
const STEPS: usize = 40;

/// Pages that are given back to the disk after a step.
const PAGES: u32 = 4000;

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long events and incidents are kept.
    pub events: Duration,
    /// How long samples are kept.
    pub samples: Duration,
    /// Bytes that both files may take together.
    pub max_disk: u64,
}

/// One step of one file.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Rows that went.
    gone: usize,
    /// Bytes of pages in use.
    used: u64,
}

impl Store {
    /// Lets go of what is too old, and of the oldest while there is more than the budget. `now` decides what is old: a
    /// time that does not follow a clock that is set.
    ///
    /// # Errors
    /// [`StoreError`]; the next call goes on.
    pub async fn trim(&self, now: Timestamp, limits: Limits) -> Result<(), StoreError> {
        let mut over = false;
        for _ in 0..STEPS {
            let samples = self.step(Which::Samples, now, limits.samples, over).await?;
            // Samples go first; events only once there are none left.
            let events_too = over && samples.gone == 0;
            let state = self.step(Which::State, now, limits.events, events_too).await?;
            over = samples.used + state.used > limits.max_disk;
            if !over && samples.gone + state.gone == 0 || over && events_too && state.gone == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn step(
        &self,
        which: Which,
        now: Timestamp,
        keep: Duration,
        over: bool,
    ) -> Result<Step, StoreError> {
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let old = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        let step = move |conn: &Connection| {
            let gone = match which {
                Which::State if over => oldest_events(conn)?,
                Which::State => events(conn, old.as_microsecond())?,
                Which::Samples if over => oldest_samples(conn)?,
                Which::Samples => samples(conn, old.as_second())?,
            };
            if gone > 0 {
                give_back(conn)?;
            }
            Ok(Step { gone, used: used(conn)? })
        };
        self.shared().writer.put(which, step).await
    }
}

/// The oldest events before this time, and incidents that were over by then.
fn events(conn: &Connection, old: i64) -> rusqlite::Result<usize> {
    let incidents =
        conn.execute("DELETE FROM incident WHERE closed_at IS NOT NULL AND closed_at < ?1", [old])?;
    let events = conn.execute(
        "DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE at < ?1 ORDER BY at LIMIT ?2)",
        params![old, AT_ONCE],
    )?;
    Ok(incidents + events)
}

/// The oldest half at most, however new they are, and incidents that were over before what is left of them.
fn oldest_events(conn: &Connection) -> rusqlite::Result<usize> {
    let count: i64 = conn.query_row("SELECT count(*) FROM event", [], |row| row.get(0))?;
    let some = AT_ONCE.min((count + 1) / 2);
    let events = conn.execute(
        "DELETE FROM event WHERE seq IN (SELECT seq FROM event ORDER BY at, seq LIMIT ?1)",
        [some],
    )?;
    let first: Option<i64> = conn.query_row("SELECT min(at) FROM event", [], |row| row.get(0))?;
    let incidents = conn.execute(
        "DELETE FROM incident WHERE closed_at IS NOT NULL AND closed_at < ?1",
        [first.unwrap_or(i64::MAX)],
    )?;
    Ok(incidents + events)
}

/// The oldest samples before this time.
fn samples(conn: &Connection, old: i64) -> rusqlite::Result<usize> {
    let blocks = conn.execute(
        "DELETE FROM block WHERE (instance, level, at) IN
         (SELECT instance, level, at FROM block WHERE until < ?1 ORDER BY until LIMIT ?2)",
        params![old, AT_ONCE],
    )?;
    let sweeps = conn.execute("DELETE FROM sweep WHERE at < ?1", [old])?;
    Ok(blocks + sweeps)
}

/// The oldest blocks, however new they are. The sweeps of the last minutes, of which no block was made yet, are few and
/// stay: without them there would be no history at all at the budget.
fn oldest_samples(conn: &Connection) -> rusqlite::Result<usize> {
    conn.execute(
        "DELETE FROM block WHERE (instance, level, at) IN
         (SELECT instance, level, at FROM block ORDER BY until LIMIT ?1)",
        [AT_ONCE],
    )
}

/// Gives free pages back to the disk.
fn give_back(conn: &Connection) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn used(conn: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(u64::try_from(pages * pragma("page_size")?).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::{EventCounts, EventQuery, KeptEvent, Options, Sample, Sweep};
    use super::*;
    use crate::event::{Event, EventKind};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn limits(events: u64, samples: u64, max_disk: u64) -> Limits {
        Limits { events: Duration::from_secs(events), samples: Duration::from_secs(samples), max_disk }
    }

    async fn fill(store: &Store, count: u64, text: &str) {
        let events = (1..=count).map(|seq| KeptEvent {
            seq,
            at: at(seq as i64),
            event: Event::new(EventKind::WorkerReady, text),
        });
        store.put_events(events.collect(), Vec::new(), &EventCounts::default()).await.unwrap();
    }

    async fn numbers(store: &Store) -> Vec<u64> {
        let all = EventQuery { limit: 100_000, ..EventQuery::default() };
        store.events(all).await.unwrap().iter().map(|event| event.seq).collect()
    }

    async fn sample(store: &Store, second: i64) {
        let sample = Sample {
            instance: "web".into(),
            status: "healthy",
            score: None,
            cpu_percent: None,
            memory_bytes: None,
        };
        store.put_sweeps(vec![Sweep { at: at(second), samples: vec![sample].into() }]).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_too_old_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Options::new(dir.path())).unwrap();
        fill(&store, 100, "x").await;
        for second in 0..70 {
            sample(&store, second).await;
        }
        store.trim(at(100), limits(10, 50, 1 << 30)).await.unwrap();
        assert_eq!(numbers(&store).await, (90..=100).collect::<Vec<_>>());
        // Of the sixty samples in one block the last one is young enough; the block is kept as a whole.
        assert_eq!(store.history("web", at(0)).await.unwrap().len(), 70);
        store.trim(at(112), limits(1000, 50, 1 << 30)).await.unwrap();
        assert_eq!(store.history("web", at(0)).await.unwrap().len(), 8);
    }

    #[tokio::test]
    async fn beyond_the_budget_samples_go_first_and_then_the_oldest_events() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Options::new(dir.path())).unwrap();
        fill(&store, 20_000, &"x".repeat(200)).await;
        sample(&store, 1).await;
        let week = 7 * 86_400;
        let before = std::fs::metadata(dir.path().join("state.db-wal")).unwrap().len();
        assert!(before > 4 << 20);
        store.trim(at(20_000), limits(week, week, 4 << 20)).await.unwrap();
        let left = numbers(&store).await;
        assert_eq!(store.history("web", at(0)).await.unwrap().len(), 1, "the newest sweep is no block yet");
        assert!(!left.is_empty() && left.len() < 20_000, "{}", left.len());
        assert_eq!(left, (20_001 - left.len() as u64..=20_000).collect::<Vec<_>>(), "the newest stay");
        store.close(Duration::from_secs(30));
        let after = std::fs::metadata(dir.path().join("state.db")).unwrap().len();
        assert!(after <= 5 << 20, "{after} bytes");
    }
}
