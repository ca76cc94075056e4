//! What leaves the runtime for people and machines: the journal of events and the metrics page.

mod forest;
mod journal;
mod looks;
mod names;
mod page;
mod procfs;
mod user;

pub use forest::{Measured, Root, measure, working_sets};
pub use journal::{Journal, Recorded, Subscription};
pub use looks::{LOOK_BUCKETS, LookState, Looks};
pub use page::{OwnSample, PageFormat, STATUS_WORDS, Scrape, WorkerSample};
pub use procfs::{
    Sampler, Usage, boot_time, open_files, open_files_limit, open_files_limit_of, ticks_per_second, usage,
};
pub use user::{record_user_series, tidy_user_series, user_series};
