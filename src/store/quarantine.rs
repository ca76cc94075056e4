//! Records that are damaged: moved aside, so that they are told once and never served.

use jiff::Timestamp;
use rusqlite::{Connection, params};

/// Records that are kept for whoever can still make sense of them; the oldest go first.
const MOST: i64 = 1000;

/// Moves damaged events aside, and says how many records are aside now.
pub(super) fn events(conn: &Connection, damaged: &[(i64, String)]) -> rusqlite::Result<u64> {
    let now = Timestamp::now().as_microsecond();
    for (seq, why) in damaged {
        conn.execute(
            "INSERT INTO quarantined (at, source, key, reason, record)
             SELECT ?1, 'event', ?2, ?3, record FROM event WHERE seq = ?2",
            params![now, seq, why],
        )?;
        conn.execute("DELETE FROM event WHERE seq = ?1", [seq])?;
    }
    bound(conn)
}

fn bound(conn: &Connection) -> rusqlite::Result<u64> {
    conn.execute("DELETE FROM quarantined WHERE id <= (SELECT max(id) FROM quarantined) - ?1", [MOST])?;
    count(conn)
}

/// How many records are aside.
pub(super) fn count(conn: &Connection) -> rusqlite::Result<u64> {
    let count: i64 = conn.query_row("SELECT count(*) FROM quarantined", [], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
