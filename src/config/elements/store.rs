//! `[store]`: how much of the past is kept.

use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};
use crate::config::settings::StoreSettings;

use super::de;

/// A database of no rows takes a tenth of a megabyte, and a WAL some more.
const SMALLEST: u64 = 16 << 20;

pub(super) const KEYS: &[Key] = &[
    table(
        "retention",
        &[
            leaf("events", Leaf::Text(Text::Duration { zero: false })),
            leaf("samples", Leaf::Text(Text::Duration { zero: false })),
        ],
    ),
    leaf("max_disk", Leaf::Text(Text::Size { min: SMALLEST, max: 1 << 50 })),
];

/// `[store]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawStore {
    retention: RawRetention,
    #[serde(deserialize_with = "de::size")]
    max_disk: u64,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRetention {
    #[serde(deserialize_with = "de::duration")]
    events: Duration,
    #[serde(deserialize_with = "de::duration")]
    samples: Duration,
}

impl From<RawStore> for StoreSettings {
    fn from(raw: RawStore) -> Self {
        Self { events: raw.retention.events, samples: raw.retention.samples, max_disk: raw.max_disk }
    }
}
