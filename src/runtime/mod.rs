//! The composition root: the only place that knows every room, and the order in which they start and end.

mod director;
mod handle;
mod intents;
mod lag;
mod launch;
mod reshape;
mod state_dir;
mod target;

pub use handle::{Act, ActError, Asker, Order, RuntimeHandle, RuntimeInfo};
pub use launch::{Finished, Runtime, StartError};
pub use reshape::Edit;
pub use target::{Target, TargetError};
