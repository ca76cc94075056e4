//! From TOML to settings that are known to be right.

mod settings;

pub use settings::{
    HttpSettings, LogOnFull, LogSettings, LogTo, ReadyWhen, RuntimeSettings, Settings, SocketSettings,
    StderrTo, StopSettings, StopTo, SupervisorSettings, Survive, TelemetrySettings, WorkerSettings,
};
