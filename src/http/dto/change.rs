//! `regrow.diff/1`: what the file would change, or what taking it over has changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Change, Effect, KeyChange};
use crate::runtime::Comparison;

/// `POST /api/v1/config/check`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffBody {
    /// `regrow.diff/1`
    pub schema: String,
    /// Whether the file can be taken over.
    pub ok: bool,
    /// Whether it says what is in force.
    pub same: bool,
    /// What differs.
    #[serde(flatten)]
    pub changes: ChangesView,
    /// What is wrong with it, for people; empty if nothing is.
    pub message: String,
    /// What is wrong with it, each with its place.
    pub problems: Vec<Value>,
}

/// What differs and whom it touches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChangesView {
    /// What differs, in the order in which it is taken over.
    pub changes: Vec<ChangeView>,
    /// Workers that go on as they are.
    pub untouched_workers: u64,
    /// How often a configuration was taken over, the first included.
    pub config_generation: u64,
    /// The files that were read, the main one first.
    pub files: Vec<String>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// `added`, `changed` or `removed`.
    pub change: String,
    /// `runtime`, `supervisor`, `worker` or `template`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `starts`, `stops`, `restarts`, `in_place`, `next_start`, `runtime_restart`, `after_pause` or `stays_stopped`.
    pub effect: String,
    /// The effect in words.
    pub effect_text: String,
    /// Which keys differ.
    pub keys: Vec<KeyView>,
}

/// One key whose value differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its path: `stop.timeout`.
    pub key: String,
    /// What holds now.
    pub old: Option<Value>,
    /// What the file says.
    pub new: Option<Value>,
    /// What its change does.
    pub effect: String,
    /// The same in words.
    pub effect_text: String,
}

impl From<&Comparison> for ChangesView {
    fn from(comparison: &Comparison) -> Self {
        Self {
            changes: comparison.changes.iter().map(ChangeView::from).collect(),
            untouched_workers: comparison.untouched as u64,
            config_generation: comparison.generation,
            files: comparison.files.iter().map(|file| file.display().to_string()).collect(),
        }
    }
}

impl From<&Change> for ChangeView {
    fn from(change: &Change) -> Self {
        let (kind, name) = change.subject.words();
        let (effect, effect_text) = words(change.effect);
        Self {
            change: change.sign.word().to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
            effect,
            effect_text,
            keys: change.keys.iter().map(KeyView::from).collect(),
        }
    }
}

impl From<&KeyChange> for KeyView {
    fn from(key: &KeyChange) -> Self {
        let (effect, effect_text) = words(key.effect);
        Self { key: key.key.clone(), old: key.old.clone(), new: key.new.clone(), effect, effect_text }
    }
}

fn words(effect: Effect) -> (String, String) {
    (effect.word().to_owned(), effect.phrase().to_owned())
}
