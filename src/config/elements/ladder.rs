//! `[ladder.default]`: so far, how long a new start must hold before it counts as a recovery.

use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};

use super::de;

pub(super) const KEYS: &[Key] =
    &[table("default", &[leaf("verify", Leaf::Text(Text::Duration { zero: true }))])];

/// `[ladder]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawLadders {
    default: RawLadder,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLadder {
    #[serde(deserialize_with = "de::duration")]
    verify: Duration,
}

impl RawLadders {
    /// How long a trial start must hold.
    pub(in crate::config) fn verify(&self) -> Duration {
        self.default.verify
    }
}
