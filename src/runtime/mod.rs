//! The composition root: the only place that knows every room, and the order in which they start and end.

mod added;
mod backup;
mod builder;
mod director;
mod embedded;
mod given;
mod handle;
mod inherited;
mod intents;
mod keeper;
mod lag;
mod launch;
mod living;
mod past;
mod pool;
mod raise;
mod recycle;
mod reshape;
mod roll;
mod rolling;
mod stage;
mod state_dir;
mod survivors;
mod target;
mod whom;

pub use backup::{Backup, BackupError};
pub use builder::Builder;
pub use embedded::{NotReady, NotSo, Status};
pub(crate) use handle::is_alone;
pub use handle::{Act, ActError, Asker, Order, RuntimeHandle, RuntimeInfo};
pub(crate) use launch::Hosting;
pub use launch::{Finished, Runtime, StartError};
pub use living::{ApplyError, Comparison, GrowError};
pub use reshape::Edit;
pub(crate) use stage::perform;
pub use target::{Target, TargetError};
