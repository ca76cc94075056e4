//! `[template.NAME]`: a worker in the making: every key of a worker, with `{param.x}` where it will differ.

use std::collections::BTreeMap;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, Shape, leaf};

use super::worker;

/// More workers of one template than all workers together may be makes no sense.
const MOST: i64 = 10_000;

/// A template without `max`.
pub(in crate::config) const DEFAULT_MAX: i64 = 100;

/// What a worker does not have.
const OWN: [Key; 2] = [
    Key { name: "params", shape: Shape::Texts(Leaf::Text(Text::Regex)) },
    leaf("max", Leaf::Integer { min: 1, max: MOST }),
];

pub(super) const KEYS: &[Key] = &with_own();

const fn with_own() -> [Key; worker::KEYS.len() + OWN.len()] {
    let mut all = [OWN[0]; worker::KEYS.len() + OWN.len()];
    let mut at = 0;
    while at < worker::KEYS.len() {
        all[at] = worker::KEYS[at];
        at += 1;
    }
    all[at] = OWN[0];
    all[at + 1] = OWN[1];
    all
}

/// What a template has beyond a worker, as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTemplate {
    #[serde(default)]
    pub(in crate::config) params: BTreeMap<String, String>,
    pub(in crate::config) max: usize,
}
