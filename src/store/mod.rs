//! What outlives the runtime: the journal of events, totals, incidents and what was learned of them, and the health
//! of the last days.
//!
//! Two SQLite files in the state directory. `state.db` is synced with every commit: what was confirmed is there after
//! a kill and after a power cut. `samples.db` is not: a lost minute of figures is no loss, and sampling must not cost
//! a disk its rest. One thread writes (it commits what is queued and never waits for more), one reads; nobody else
//! waits for a disk, and supervision never does.
//!
//! Columns hold what is asked for. What a row says stands in an envelope (`codec`) with version and checksum: SQLite
//! proves the shape of a page, not what is in it. A record that does not fit its envelope is moved aside, counted and
//! told; a file that is no database any more is moved aside with its date, and a fresh one takes its place.
//!
//! Deliberately absent: the operators' intents and the workers that were added. They are two small JSON files that a
//! person can read and mend, and that hold although this room's files are damaged.

mod archive;
mod backup;
mod db;
mod error;
mod events;
mod home;
mod lane;
mod open;
mod quarantine;
mod record;
mod retention;
mod samples;
mod schema;
mod state;
mod tallies;
#[cfg(test)]
mod tests;
mod totals;
mod witness;

pub use archive::{Archive, EvidenceRef, IncidentQuery, KeptIncident, KeptOutcome};
pub use error::StoreError;
pub use events::{EventQuery, KeptEvent};
pub(crate) use home::{Home, was_removed};
pub use open::Options;
pub use retention::Limits;
pub use samples::{Point, Sample, Sweep};
pub use state::{Beginning, Store};
pub use tallies::{InstanceTallies, ProbeTally, Tallies};
pub use totals::{EventCounts, InstanceTotals};
