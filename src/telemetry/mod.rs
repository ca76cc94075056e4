//! What leaves the runtime for people and machines: the journal of events and the metrics page.

mod host;
mod journal;
mod looks;
mod memory;
mod names;
mod page;
mod procfs;
mod sample;
mod sampler;
mod trees;
mod user;

pub use host::{DiskFigures, HOST_SHORTEST, Host, HostFigures};
pub use journal::{Journal, Recorded, Subscription};
pub use looks::{LOOK_BUCKETS, LookState, LookTally, Looks};
pub use page::{PageFormat, STATUS_WORDS, Scrape};
pub use procfs::{
    Condition, Usage, boot_time, crowded_files, open_files, open_files_limit, open_files_limit_of,
    ticks_per_second, usage,
};
pub use sample::{CardSample, Histogram, OwnSample, WorkerSample};
pub use sampler::{Pace, ProcessorTime, Root, Sampler, Seen};
pub use user::{record_user_series, tidy_user_series, user_series};
