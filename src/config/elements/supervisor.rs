//! `[supervisor.NAME]`: who is restarted with whom, how often, and what then.

use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};
use crate::policy::{AutoShutdown, Intensity, OnExhausted, RestartStrategy, RetryPark};

use super::de;

const STRATEGIES: &[(&str, &str)] =
    &[("one_for_one", "one_for_one"), ("one_for_all", "one_for_all"), ("rest_for_one", "rest_for_one")];
const EXHAUSTED: &[(&str, &str)] = &[("quarantine", "quarantine"), ("escalate", "escalate")];
const AUTO_SHUTDOWN: &[(&str, &str)] =
    &[("never", "never"), ("any_significant", "any_significant"), ("all_significant", "all_significant")];

/// Each restart is remembered for as long as it counts, so the number is bounded.
const MAX_RESTARTS: i64 = 100_000;

pub(super) const KEYS: &[Key] = &[
    leaf("strategy", Leaf::Text(Text::Word(STRATEGIES))),
    table(
        "intensity",
        &[
            leaf("max_restarts", Leaf::Integer { min: 0, max: MAX_RESTARTS }),
            leaf("within", Leaf::Text(Text::Duration { zero: false })),
        ],
    ),
    leaf("on_exhausted", Leaf::Text(Text::Word(EXHAUSTED))),
    leaf("retry_first", Leaf::Text(Text::DurationOrNever)),
    leaf("retry_every", Leaf::Text(Text::DurationOrNever)),
    leaf("children", Leaf::Texts(Text::Any)),
    leaf("auto_shutdown", Leaf::Text(Text::Word(AUTO_SHUTDOWN))),
];

/// `[supervisor.NAME]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSupervisor {
    #[serde(with = "de::RestartStrategyDef")]
    pub(in crate::config) strategy: RestartStrategy,
    #[serde(with = "de::IntensityDef")]
    pub(in crate::config) intensity: Intensity,
    #[serde(with = "de::OnExhaustedDef")]
    pub(in crate::config) on_exhausted: OnExhausted,
    #[serde(deserialize_with = "de::duration_or_never")]
    retry_first: Option<Duration>,
    #[serde(deserialize_with = "de::duration_or_never")]
    retry_every: Option<Duration>,
    #[serde(default)]
    pub(in crate::config) children: Vec<String>,
    #[serde(with = "de::AutoShutdownDef")]
    pub(in crate::config) auto_shutdown: AutoShutdown,
}

impl RawSupervisor {
    /// `never` at either key switches both off.
    pub(in crate::config) fn retry(&self) -> Option<RetryPark> {
        let (first, every) = (self.retry_first?, self.retry_every?);
        Some(RetryPark { first, every })
    }
}
