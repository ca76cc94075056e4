//! Records that are damaged: moved aside, so that they are told once and never served.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params};

/// Records that are kept for whoever can still make sense of them; the oldest go first.
const MOST: i64 = 1000;

/// Moves damaged records of a table aside, by its primary key, and says how many are aside now.
pub(super) fn put(
    conn: &Connection,
    table: &'static str,
    damaged: &[(Value, String)],
) -> rusqlite::Result<u64> {
    let now = Timestamp::now().as_microsecond();
    let key = if table == "event" { "seq" } else { "id" };
    for (value, why) in damaged {
        conn.execute(
            &format!(
                "INSERT INTO quarantined (at, source, key, reason, record)
                 SELECT ?1, '{table}', CAST({key} AS TEXT), ?3, record FROM {table} WHERE {key} = ?2"
            ),
            params![now, value, why],
        )?;
        conn.execute(&format!("DELETE FROM {table} WHERE {key} = ?1"), [value])?;
    }
    conn.execute("DELETE FROM quarantined WHERE id <= (SELECT max(id) FROM quarantined) - ?1", [MOST])?;
    count(conn)
}

/// How many records are aside.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = conn.query_row("SELECT count(*) FROM quarantined", [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
