//! The shape of the file: which keys there are and what each takes.
//!
//! One table serves every reader of it: the check of files, the match of `REGROW__…` names, "did you mean",
//! `check --explain`, and the test that holds `config/default.toml` complete. The alternative, serde alone,
//! knows neither positions nor more than one error at a time. serde still has the last word: the merged
//! values pass through strict structs (`elements`), so that the table cannot drift from the code unnoticed.

use super::leaf::Leaf;

/// What may stand behind a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// One value.
    Leaf(Leaf),
    /// A table of fixed keys.
    Table(&'static [Key]),
    /// A table with exactly one of these keys; it takes the place of one that stands below it.
    Either(&'static [Key]),
    /// Tables under names that the user chooses: `[worker.NAME]`.
    Named(Kind, &'static [Key]),
    /// Free keys with text values: `env`.
    Texts(Leaf),
    /// Whatever somebody else reads: `config`.
    Free,
    /// Free names, each with a table of fixed keys: `secrets`. What stands there is never shown.
    Secrets(&'static [Key]),
    /// Tables of fixed keys under names that are no worker's or supervisor's, and what such a name is for: `probe`.
    Each(&'static str, &'static [Key]),
    /// A word, or a table of fixed keys: `ready`.
    LeafOr(Leaf, &'static [Key]),
}

/// A key and what it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

/// What a user-chosen name is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Worker,
    Supervisor,
    Template,
}

impl Kind {
    /// The word before the name: `[worker.NAME]`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Supervisor => "supervisor",
            Self::Template => "template",
        }
    }
}

pub(super) const fn leaf(name: &'static str, leaf: Leaf) -> Key {
    Key { name, shape: Shape::Leaf(leaf) }
}

pub(super) const fn table(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, shape: Shape::Table(keys) }
}

pub(super) const fn either(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, shape: Shape::Either(keys) }
}

/// Finds a key by name.
pub(super) fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.name == name)
}

/// `stop.timeout` from `stop` and `timeout`; no dot at the start.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
