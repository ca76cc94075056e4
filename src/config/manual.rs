//! The manual, taken apart: what `config/default.toml` says about each key, and what it shows for it.
//!
//! The text is the one source: comments become the descriptions that an editor shows, live lines defaults, and
//! examples examples. A comment belongs to all the keys that follow it without an empty line between, and to the
//! table whose header it precedes. Keys of workers are one kind whatever the worker is called, so a path has `*` in
//! place of every name that the user chooses.

use std::collections::BTreeMap;

use serde_json::Value;

use super::elements::FILE;
use super::load::DEFAULTS;
use super::schema::{Key, Shape, find};

/// What the manual says about one key or table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Entry {
    /// The comment.
    pub(super) text: String,
    /// The default.
    pub(super) default: Option<Value>,
    /// A value that is shown as an example.
    pub(super) example: Option<Value>,
}

/// Entries by path, such as `worker.*.stop.timeout`.
#[derive(Debug, Default)]
pub(super) struct Manual {
    entries: BTreeMap<String, Entry>,
}

impl Manual {
    /// The manual that is built in.
    pub(super) fn built_in() -> Self {
        let mut manual = Self::default();
        manual.read_comments(DEFAULTS);
        manual.read_values(DEFAULTS, false);
        manual.read_values(&with_examples(DEFAULTS), true);
        manual
    }

    /// What it says about a path; nothing if it does not.
    pub(super) fn get(&self, path: &str) -> Entry {
        self.entries.get(path).cloned().unwrap_or_default()
    }

    fn read_comments(&mut self, text: &str) {
        let (mut comment, mut open) = (String::new(), false);
        let mut section = String::new();
        for line in text.lines() {
            let live = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
            let code = live.unwrap_or(line);
            if line.starts_with('#') && live.is_none() {
                if !std::mem::replace(&mut open, true) {
                    comment.clear();
                }
                comment.push_str(line.strip_prefix("# ").unwrap_or(""));
                comment.push('\n');
            } else if let Some(name) = code.strip_prefix('[') {
                section = name.trim_start_matches('[').split(']').next().unwrap_or_default().to_owned();
                self.say(&section, &comment);
                comment.clear();
            } else if let Some((key, _)) = code.split_once('=').filter(|_| !code.starts_with([' ', '\t'])) {
                open = false;
                let path = if section.is_empty() {
                    key.trim().to_owned()
                } else {
                    format!("{section}.{}", key.trim())
                };
                self.say(&path, &comment);
            } else if code.trim().is_empty() {
                (open, comment) = (false, String::new());
            }
        }
    }

    /// The first that is said of a key stands; a table without words of its own has those of its first key.
    fn say(&mut self, path: &str, text: &str) {
        let mut path = canonical(path);
        loop {
            let entry = self.entries.entry(path.clone()).or_default();
            if entry.text.is_empty() {
                entry.text = text.trim_end().to_owned();
            }
            // Of `stop.timeout` also `stop`, but no table of the file's top.
            match path.rsplit_once('.') {
                Some((above, _)) if is_inline(above) => path = above.to_owned(),
                Some(_) | None => return,
            }
        }
    }

    fn read_values(&mut self, text: &str, examples: bool) {
        // A test holds that both readings of the manual are right.
        let Ok(table) = toml::from_str::<toml::Table>(text) else { return };
        if let Ok(value) = serde_json::to_value(table) {
            self.note("", &value, examples);
        }
    }

    fn note(&mut self, path: &str, value: &Value, example: bool) {
        if !path.is_empty() {
            let entry = self.entries.entry(canonical(path)).or_default();
            match (example, &entry.default) {
                (false, _) => entry.default = Some(value.clone()),
                (true, None) => entry.example = Some(value.clone()),
                (true, Some(_)) => {}
            }
        }
        if let Value::Object(table) = value {
            for (name, below) in table {
                self.note(&super::schema::join(path, name), below, example);
            }
        }
    }
}

/// The manual with its examples switched on: a line that begins with `#` and no space is one.
fn with_examples(manual: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    manual.lines().map(|line| on(line) + "\n").collect()
}

/// The path with `*` for every name that the user chooses. `defaults.worker` is every worker's.
fn canonical(path: &str) -> String {
    let path = path.strip_prefix("defaults.worker").map_or(path.to_owned(), |rest| format!("worker.*{rest}"));
    let mut keys: &'static [Key] = FILE;
    let mut out: Vec<&str> = Vec::new();
    let mut parts = path.split('.');
    while let Some(part) = parts.next() {
        out.push(part);
        let Some(key) = find(keys, part) else { continue };
        keys = match &key.shape {
            Shape::Table(below) | Shape::Either(below) | Shape::LeafOr(_, below) => below,
            Shape::Named(_, below) | Shape::Each(_, below) => {
                if parts.next().is_some() {
                    out.push("*");
                }
                below
            }
            Shape::Leaf(_) | Shape::Texts(_) | Shape::Secrets(_) | Shape::Free => &[],
        };
    }
    out.join(".")
}

/// Whether a path is a table that people write inside another one: `worker.*.stop`, but not `worker.*`.
fn is_inline(path: &str) -> bool {
    let mut parts = path.split('.');
    let top = parts.next().unwrap_or_default();
    let below = if path.starts_with("worker.") || path.starts_with("supervisor.") {
        parts.nth(1)
    } else {
        parts.next()
    };
    let section = find(FILE, top).is_some_and(|key| !matches!(key.shape, Shape::Leaf(_)));
    section && below.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_defaults_and_examples_reach_their_keys() {
        let manual = Manual::built_in();
        let timeout = manual.get("worker.*.stop.timeout");
        assert!(timeout.text.starts_with("Stopping: `signal` goes to"), "{}", timeout.text);
        assert_eq!(timeout.default, Some("10s".into()));
        assert_eq!(manual.get("worker.*.stop").text, timeout.text);
        let name = manual.get("runtime.name");
        assert_eq!((name.default, name.example), (None, Some("orders".into())));
        assert!(name.text.starts_with("In every alert"));
        assert!(manual.get("supervisor.*").text.starts_with("Supervisors own workers"));
        assert_eq!(manual.get("supervisor.*.children").example, Some(serde_json::json!(["ingest", "web"])));
        assert!(manual.get("worker.*").text.starts_with("Every key of a [worker.NAME]"));
        assert!(manual.get("telemetry.log.format").text.starts_with("text for people"));
        assert!(manual.get("include").text.starts_with("More files"));
    }
}
