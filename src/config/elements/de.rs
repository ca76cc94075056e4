//! serde's side of units and of the policy room's types, which know nothing of files.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

use crate::policy::{AutoShutdown, Backoff, ExitCodes, Intensity, OnExhausted, Restart, RestartStrategy};

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    crate::units::parse_duration(&String::deserialize(from)?).map_err(Error::custom)
}

/// `never` is `None`.
pub(super) fn duration_or_never<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    if text == "never" {
        return Ok(None);
    }
    crate::units::parse_duration(&text).map(Some).map_err(Error::custom)
}

pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    crate::units::parse_size(&String::deserialize(from)?).map_err(Error::custom)
}

pub(super) fn some_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration(from).map(Some)
}

pub(super) fn some_size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size(from).map(Some)
}

pub(super) fn signal<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    let text = String::deserialize(from)?;
    crate::exit::signal_number(&text).ok_or_else(|| Error::custom("no signal"))
}

pub(super) fn some_signal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
    signal(from).map(Some)
}

/// The same, or a key that is there and says nothing.
pub(super) fn any_signal<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
    let number = |text: String| crate::exit::signal_number(&text).ok_or_else(|| Error::custom("no signal"));
    Option::<String>::deserialize(from)?.map(number).transpose()
}

pub(super) fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    u32::from_str_radix(&String::deserialize(from)?, 8).map_err(Error::custom)
}

pub(super) fn some_mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    mode(from).map(Some)
}

/// Empty is `None`.
pub(super) fn address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(Error::custom) }
}

pub(super) fn regex<'de, D: Deserializer<'de>>(from: D) -> Result<regex::bytes::Regex, D::Error> {
    regex::bytes::Regex::new(&String::deserialize(from)?).map_err(Error::custom)
}

fn codes<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[i32]>, D::Error> {
    Vec::deserialize(from).map(Arc::from)
}

#[derive(serde::Deserialize)]
#[serde(remote = "Restart", rename_all = "snake_case")]
pub(super) enum RestartDef {
    Permanent,
    Transient,
    Temporary,
}

#[derive(serde::Deserialize)]
#[serde(remote = "RestartStrategy", rename_all = "snake_case")]
pub(super) enum RestartStrategyDef {
    OneForOne,
    OneForAll,
    RestForOne,
    /// Not a word of the file: pools are built from it.
    #[serde(skip)]
    SimpleOneForOne,
}

#[derive(serde::Deserialize)]
#[serde(remote = "OnExhausted", rename_all = "snake_case")]
pub(super) enum OnExhaustedDef {
    Quarantine,
    Escalate,
}

#[derive(serde::Deserialize)]
#[serde(remote = "AutoShutdown", rename_all = "snake_case")]
pub(super) enum AutoShutdownDef {
    Never,
    AnySignificant,
    AllSignificant,
}

#[derive(serde::Deserialize)]
#[serde(remote = "Intensity", deny_unknown_fields)]
pub(super) struct IntensityDef {
    max_restarts: u32,
    #[serde(deserialize_with = "duration")]
    within: Duration,
}

#[derive(serde::Deserialize)]
#[serde(remote = "Backoff", deny_unknown_fields)]
pub(super) struct BackoffDef {
    #[serde(deserialize_with = "duration")]
    first: Duration,
    factor: f64,
    #[serde(deserialize_with = "duration")]
    max: Duration,
    jitter: f64,
    #[serde(deserialize_with = "duration")]
    reset_after: Duration,
}

#[derive(serde::Deserialize)]
#[serde(remote = "ExitCodes", deny_unknown_fields)]
pub(super) struct ExitCodesDef {
    #[serde(deserialize_with = "codes")]
    normal: Arc<[i32]>,
    #[serde(deserialize_with = "codes")]
    fatal: Arc<[i32]>,
}
