//! What leaves the runtime for people and machines: the journal of events and the metrics page.

mod journal;

pub use journal::{Journal, Recorded, Subscription};
