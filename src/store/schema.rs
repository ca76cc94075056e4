//! The tables, version by version.
//!
//! `user_version` says how far a file is; each step runs in one transaction with the new number, so that a cut leaves
//! the old version or the new one. A step that was released is never changed; what it should have been is the next.

use rusqlite::Connection;

use super::error::StoreError;

/// The steps of one file: the n-th makes version n of version n - 1.
pub(super) type Steps = &'static [&'static str];

/// `state.db`
pub(super) const STATE: Steps = &[
    // 1: the journal, the totals, and what could not be read.
    "CREATE TABLE event (
         seq INTEGER PRIMARY KEY,
         at INTEGER NOT NULL,
         kind TEXT NOT NULL,
         worker TEXT,
         record BLOB NOT NULL
     ) STRICT;
     CREATE INDEX event_at ON event (at);
     CREATE INDEX event_worker ON event (worker, seq) WHERE worker IS NOT NULL;
     CREATE TABLE total (instance TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE figure (name TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
     CREATE TABLE quarantined (
         id INTEGER PRIMARY KEY,
         at INTEGER NOT NULL,
         source TEXT NOT NULL,
         key TEXT NOT NULL,
         reason TEXT NOT NULL,
         record BLOB NOT NULL
     ) STRICT;",
    // 2: incidents, what was learned of them, and which events belong to one.
    "ALTER TABLE event ADD COLUMN incident TEXT;
     CREATE INDEX event_incident ON event (incident, seq) WHERE incident IS NOT NULL;
     CREATE TABLE incident (
         id TEXT PRIMARY KEY,
         worker TEXT NOT NULL,
         opened_at INTEGER NOT NULL,
         closed_at INTEGER,
         record BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX incident_opened ON incident (opened_at);
     CREATE INDEX incident_worker ON incident (worker, opened_at);
     CREATE TABLE outcome (
         id INTEGER PRIMARY KEY,
         at INTEGER NOT NULL,
         class TEXT NOT NULL,
         strategy TEXT NOT NULL,
         record BLOB NOT NULL
     ) STRICT;
     CREATE INDEX outcome_of ON outcome (class, strategy);",
];

/// `samples.db`
pub(super) const SAMPLES: Steps = &[
    // 1: sweeps over everybody, and blocks of one instance.
    "CREATE TABLE instance (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
     CREATE TABLE sweep (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
     CREATE INDEX sweep_at ON sweep (at);
     CREATE TABLE block (
         instance INTEGER NOT NULL,
         level INTEGER NOT NULL,
         at INTEGER NOT NULL,
         until INTEGER NOT NULL,
         record BLOB NOT NULL,
         PRIMARY KEY (instance, level, at)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX block_until ON block (level, until);",
];

/// Brings a file to the newest version.
pub(super) fn migrate(conn: &Connection, steps: Steps) -> Result<(), StoreError> {
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = i64::try_from(steps.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (version, step) in (1_i64..).zip(steps) {
        if version > found {
            conn.execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version = {version}; COMMIT"))
                .inspect_err(|_| {
                // The connection is given up after an error; a rollback that fails changes nothing.
                let _ = conn.execute_batch("ROLLBACK");
            })?;
        }
    }
    Ok(())
}
