//! The tables of the file, one module each: its keys, its strict serde form, and how that becomes settings.
//!
//! serde sees only merged values that the schema has already checked, so its errors mean that schema and
//! struct have drifted apart, which a test on `config/default.toml` would have caught.

mod de;
mod http;
mod isolation;
mod ladder;
mod probe;
mod runtime;
mod store;
mod supervisor;
mod telemetry;
mod template;
mod worker;

pub(super) use http::RawHttp;
pub(super) use ladder::{RawClass, RawLadders, RawRecovery, RawStrategy};
pub(super) use probe::CHECKS;
pub(super) use runtime::RawRuntime;
pub(super) use store::RawStore;
pub(super) use supervisor::RawSupervisor;
pub(super) use telemetry::RawTelemetry;
pub(super) use template::{DEFAULT_MAX, RawTemplate};
pub(super) use worker::{RawWorker, Settled};

use super::leaf::{Leaf, Text};
use super::schema::{Key, Kind, Shape, leaf, table};

/// The whole file.
pub(super) const FILE: &[Key] = &[
    leaf("include", Leaf::Texts(Text::Line)),
    table("runtime", runtime::KEYS),
    Key { name: "supervisor", shape: Shape::Named(Kind::Supervisor, supervisor::KEYS) },
    table("defaults", &[table("worker", worker::KEYS)]),
    Key { name: "worker", shape: Shape::Named(Kind::Worker, worker::KEYS) },
    Key { name: "template", shape: Shape::Named(Kind::Template, template::KEYS) },
    Key { name: "ladder", shape: Shape::Each("ladder", ladder::KEYS) },
    table("recovery", ladder::RECOVERY),
    Key { name: "strategy", shape: Shape::Each("recovery strategy", ladder::STRATEGY) },
    leaf("error_class", Leaf::Tables(ladder::ERROR_CLASS)),
    table("http", http::KEYS),
    table("telemetry", telemetry::KEYS),
    table("store", store::KEYS),
];

/// The keys of a `[worker.*]`.
pub(super) const WORKER: &[Key] = worker::KEYS;
/// The keys of a `[template.*]`.
pub(super) const TEMPLATE: &[Key] = template::KEYS;
/// The keys of a `[supervisor.*]`.
pub(super) const SUPERVISOR: &[Key] = supervisor::KEYS;
