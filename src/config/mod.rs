//! From TOML to settings that are known to be right.
//!
//! Documents are checked one by one against the schema (`check`), what is right is laid over each other
//! (`layers`: defaults < file < `include` < `REGROW__…` < flags), gets its strict form (`elements`), and the
//! whole is tied together (`resolve`, `tree`, `order`). No room below reads TOML, and nothing below can meet a
//! value that makes no sense.
//!
//! The trade: a schema table beside serde's structs. It buys what serde cannot give: every problem of every
//! file in one run, each with its line and a caret, strict types, and the origin of every value.
//!
//! Deliberately absent: coercion, includes of includes, variables in the file, other formats than TOML, and
//! keys without an effect: what does nothing is an unknown key.

mod actors;
mod advice;
mod check;
mod command;
mod diagnostic;
mod diff;
mod document;
mod effective;
mod effects;
mod elements;
mod endpoint;
mod explain;
mod isolation;
mod json_schema;
mod layers;
mod leaf;
mod load;
mod manual;
mod marks;
mod nature;
mod order;
mod overrides;
mod own;
mod pid_files;
mod placeholder;
mod pool;
mod ports;
pub(crate) mod probes;
pub(crate) mod reach;
pub(crate) mod recovery_check;
mod resolve;
mod schema;
mod settings;
mod slugs;
mod source;
mod spec;
mod still;
mod suggest;
mod syntax;
mod template;
mod template_check;
mod torn;
mod tree;
#[cfg(test)]
pub(crate) mod trial;
mod unheeded;
pub(crate) mod words;

pub use actors::ActorCheck;
pub(crate) use command::RUN_PREFIX;
pub use diagnostic::{Diagnostics, ProblemView};
pub use diff::{Change, KeyChange, Sign, Subject, diff};
pub use effects::Effect;
pub(crate) use isolation::OURS;
pub use isolation::{DaemonSettings, Isolation, Limits, SecretSource};
pub use json_schema::json_schema;
pub(crate) use load::load_still;
pub use load::{Loaded, load};
pub use own::OwnConfig;
pub(crate) use placeholder::fill_pid;
pub use placeholder::{PLACEHOLDERS, PlaceholderError, expand};
pub use pool::PoolSettings;
pub use probes::{
    CheckSettings, ExecFormat, HeartbeatSettings, HttpCheck, MarkSettings, ProbeSettings, RateSettings,
    StatusRange, ThresholdSettings,
};
pub use settings::{
    HttpSettings, Ladder, LogOnFull, LogSettings, LogTo, OnSettings, ReadyWhen, RecoverySettings,
    RecycleSettings, Remedy, RuntimeSettings, Settings, SnapshotSettings, SocketSettings, StderrTo,
    StopSettings, StopTo, StrategySettings, SupervisorSettings, TelemetrySettings, WorkerSettings,
};
pub(crate) use source::included;
pub use source::{SEARCHED, Sources};
pub use spec::{Given, Run, SpecError, WorkerSpec};
pub(crate) use still::{Clock, Pace, emptied};
pub(crate) use suggest::nearest;
pub use template::{Added, Template, TemplateError};
pub(crate) use words::is_secret;
