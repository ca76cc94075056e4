//! What every format is read into: tables of entries, in the order of the source.
//!
//! An entry keeps the text it was made of, so that the file that is written can show each setting beside its origin,
//! and nothing that was read can get lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::cli::init::render::{free, plain, toml_text};

/// Which table of `regrow.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Table {
    /// None: comments only.
    None,
    /// `[defaults.worker]`
    Defaults,
    /// `[worker.NAME]`
    Worker(String),
    /// `[template.NAME]`
    Template(String),
    /// `[supervisor.NAME]`
    Supervisor(String),
    /// `[ladder.default]`
    Ladder,
}

/// `key = value`, as it will stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    /// TOML.
    pub(super) value: String,
    /// Why `check` would not take it; it then becomes a comment.
    pub(super) refused: Option<String>,
}

impl Setting {
    /// A value that is TOML already: a number, a list.
    pub(super) fn raw(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into(), refused: None }
    }

    /// A text.
    pub(super) fn text(key: impl Into<String>, text: &str) -> Self {
        Self::raw(key, toml_text(text))
    }

    /// A list of texts.
    pub(super) fn texts<T: AsRef<str>>(key: impl Into<String>, texts: impl IntoIterator<Item = T>) -> Self {
        let texts: Vec<_> = texts.into_iter().map(|text| toml_text(text.as_ref())).collect();
        Self::raw(key, format!("[{}]", texts.join(", ")))
    }

    /// A variable; the value may hold placeholders.
    pub(super) fn env(name: &str, value: &str) -> Self {
        Self::text(format!("env.{}", key(name)), value)
    }
}

/// A name as part of a key: bare, or in quotes.
pub(super) fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { name.to_owned() } else { toml_text(name) }
}

/// What became of a piece of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its settings say it.
    Taken,
    /// It needs no line: regrow does so anyway.
    Same,
    /// It has no equal.
    Left,
    /// A comment or a frame of the source, kept as it is.
    Kept,
}

/// A piece of the source and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As it stood there; empty for what the format implies.
    pub(super) from: String,
    /// Where it stood, in bytes.
    pub(super) span: Range<usize>,
    pub(super) verdict: Verdict,
    /// Why, or what to know about it.
    pub(super) why: String,
    pub(super) sets: Vec<Setting>,
}

impl Entry {
    fn new(from: &str, verdict: Verdict, why: impl Into<String>) -> Self {
        Self { from: from.trim().to_owned(), span: 0..0, verdict, why: why.into(), sets: Vec::new() }
    }

    /// Translated.
    pub(super) fn taken(from: &str, sets: impl IntoIterator<Item = Setting>) -> Self {
        Self { sets: sets.into_iter().collect(), ..Self::new(from, Verdict::Taken, "") }
    }

    /// What the format does without saying so, and regrow does not.
    pub(super) fn implied(why: impl Into<String>, sets: impl IntoIterator<Item = Setting>) -> Self {
        Self::taken("", sets).note(why)
    }

    /// Needs no line.
    pub(super) fn same(from: &str, why: impl Into<String>) -> Self {
        Self::new(from, Verdict::Same, why)
    }

    /// Has no equal.
    pub(super) fn left(from: &str, why: impl Into<String>) -> Self {
        Self::new(from, Verdict::Left, why)
    }

    /// Stays a comment.
    pub(super) fn kept(from: &str) -> Self {
        Self::new(from, Verdict::Kept, "")
    }

    /// With a word to the reader.
    pub(super) fn note(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// With its place.
    pub(super) fn at(mut self, span: Range<usize>) -> Self {
        self.span = span;
        self
    }
}

/// A table, or a stretch of comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) table: Table,
    /// Words above it.
    pub(super) heading: Vec<String>,
    pub(super) entries: Vec<Entry>,
    /// Why `check` would not take it as a whole.
    pub(super) refused: Option<String>,
}

impl Section {
    pub(super) fn new(table: Table, heading: impl Into<String>) -> Self {
        let heading = heading.into();
        let heading = if heading.is_empty() { Vec::new() } else { vec![heading] };
        Self { table, heading, entries: Vec::new(), refused: None }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Whether it says anything about this key.
    pub(super) fn sets(&self, key: &str) -> bool {
        self.entries.iter().flat_map(|entry| &entry.sets).any(|set| set.key == key)
    }

    /// The last word about a key counts; what was said before it becomes a comment.
    pub(super) fn tidy(&mut self) {
        let mut seen = BTreeSet::new();
        for entry in self.entries.iter_mut().rev() {
            let before = entry.sets.len();
            entry.sets.reverse();
            entry.sets.retain(|set| seen.insert(set.key.clone()));
            entry.sets.reverse();
            if entry.sets.is_empty() && before > 0 {
                entry.verdict = Verdict::Same;
                entry.why = "said again below, and the last word counts".to_owned();
            }
        }
    }
}

/// Which kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Format {
    /// A configuration of supervisord
    Supervisord,
    /// A systemd unit
    Systemd,
    /// An ecosystem file of PM2: JSON, JavaScript or YAML
    Pm2,
    /// A Procfile
    Procfile,
    /// Thresholds and recovery settings of a worker monitor: YAML, JSON or `key = value`
    Monitor,
}

/// Names that are given away: workers and supervisors share one space.
#[derive(Debug)]
pub(super) struct Names {
    taken: BTreeSet<String>,
    /// systemd's names of units, and the workers that they become.
    pub(super) units: BTreeMap<String, String>,
}

impl Default for Names {
    fn default() -> Self {
        Self { taken: BTreeSet::from(["root".to_owned()]), units: BTreeMap::new() }
    }
}

impl Names {
    /// A name that the file may use, near the wanted one.
    pub(super) fn give(&mut self, wanted: &str) -> String {
        free(&plain(wanted), &mut self.taken)
    }

    /// The same for a supervisor, which may be called like one of its workers.
    pub(super) fn give_group(&mut self, wanted: &str) -> String {
        let name = plain(wanted);
        if self.taken.contains(&name) {
            let name: String = name.chars().take(52).collect();
            free(&format!("{name}-group"), &mut self.taken)
        } else {
            self.give(wanted)
        }
    }
}

/// Everything that was read.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) names: Names,
    /// What holds for all workers, with its origin.
    pub(super) defaults: Vec<Entry>,
    /// What is said of `[supervisor.root]`.
    pub(super) root: Vec<Entry>,
    /// What is said of `[ladder.default]`.
    pub(super) ladder: Vec<Entry>,
    pub(super) sections: Vec<Section>,
}

impl Form {
    /// How many workers and templates it has.
    pub(super) fn workers(&self) -> usize {
        let counts = |section: &&Section| {
            section.refused.is_none() && matches!(section.table, Table::Worker(_) | Table::Template(_))
        };
        self.sections.iter().filter(counts).count()
    }

    /// What the reader has to look at, in order.
    pub(super) fn left(&self) -> impl Iterator<Item = &Entry> {
        let left = |entry: &&Entry| {
            entry.verdict == Verdict::Left || entry.sets.iter().any(|set| set.refused.is_some())
        };
        self.sections.iter().flat_map(|section| &section.entries).filter(left)
    }

    /// Puts what a format implies into `[defaults.worker]`, or, beside workers of other formats, into its own workers,
    /// where they say nothing else.
    pub(super) fn imply(&mut self, own: Range<usize>, alone: bool, implied: Vec<Entry>) {
        if alone {
            self.defaults.extend(implied);
            return;
        }
        for section in &mut self.sections[own] {
            if !matches!(section.table, Table::Worker(_) | Table::Template(_)) {
                continue;
            }
            for entry in &implied {
                if !entry.sets.iter().any(|set| section.sets(&set.key)) {
                    section.entries.push(entry.clone());
                }
            }
        }
    }
}

/// Puts comments of a source where they stood: behind the line they end, or before the entry that follows them.
pub(super) fn weave(sections: &mut [Section], text: &str, comments: &[(Range<usize>, String)]) {
    for (span, comment) in comments {
        let inside = |entry: &Entry| entry.span.start <= span.start && span.end <= entry.span.end;
        if sections.iter().flat_map(|section| &section.entries).any(inside) {
            continue;
        }
        let mut place = (0, 0);
        for (number, section) in sections.iter().enumerate() {
            for (at, entry) in section.entries.iter().enumerate() {
                if entry.span.end > 0 && entry.span.end <= span.start {
                    place = (number, at + 1);
                }
            }
        }
        let Some(section) = sections.get_mut(place.0) else { continue };
        if let Some(before) = place.1.checked_sub(1).and_then(|at| section.entries.get_mut(at)) {
            let between = text.get(before.span.end..span.start).unwrap_or("\n");
            if !between.contains('\n') && !before.from.contains('\n') && before.verdict != Verdict::Kept {
                before.from.push_str("  ");
                before.from.push_str(comment.trim());
                before.span.end = span.end;
                continue;
            }
        }
        section.entries.insert(place.1, Entry::kept(comment).at(span.clone()));
    }
}
