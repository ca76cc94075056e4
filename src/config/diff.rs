//! From the settings in force to new ones: what differs, and what taking it over does to whom.
//!
//! Pure: it says and touches nothing, so that `diff` can print what `apply` will do. What differs is decided by the
//! typed settings; only for those who differ the keys are written out and compared, which keeps a diff of ten
//! thousand workers at the cost of comparing them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::id::Name;

use super::effects::{self, Effect};
use super::settings::{Settings, SupervisorSettings, WorkerSettings};
use super::words;

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Whether it is new, gone or different.
    pub sign: Sign,
    /// What it is about.
    pub subject: Subject,
    /// What differs; empty for what is new or gone.
    pub keys: Vec<KeyChange>,
    /// What happens to it.
    pub effect: Effect,
}

/// Whether something is new, gone or different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// New.
    Added,
    /// Different.
    Changed,
    /// Gone.
    Removed,
}

impl Sign {
    /// One word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What a difference is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// `[runtime]`, `[http]`, `[telemetry]`, `[store]`, `[recovery]`, `[[error_class]]`.
    Runtime,
    /// `[supervisor.NAME]`
    Supervisor(Name),
    /// `[worker.NAME]`, or one that was made from a template.
    Worker(Name),
    /// `[template.NAME]`
    Template(Name),
}

impl Subject {
    /// What kind of thing it is, and its name.
    #[must_use]
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Self::Runtime => ("runtime", "runtime"),
            Self::Supervisor(name) => ("supervisor", name.as_str()),
            Self::Worker(name) => ("worker", name.as_str()),
            Self::Template(name) => ("template", name.as_str()),
        }
    }
}

/// One key whose value differs.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyChange {
    /// Its path in its table: `stop.timeout`.
    pub key: String,
    /// What holds now; `None`: nothing.
    pub old: Option<Value>,
    /// What would hold; `None`: nothing.
    pub new: Option<Value>,
    /// What its change does.
    pub effect: Effect,
}

/// What differs, in the order in which it is taken over: the runtime, who goes (the last first), supervisors and
/// workers in the order of the new file.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(sections(old, new));
    let (before, after) = (Places::of(old), Places::of(new));
    changes.extend(gone(old, &after));
    changes.extend(templates(old, new));
    changes.extend(new.supervisors.iter().filter_map(|one| supervisor(one, &before, &after)));
    changes.extend(new.workers.iter().filter_map(|one| worker(one, &before, &after)));
    changes
}

impl Settings {
    /// These settings as far as a runtime that runs on `old` can take them over: what it was built from at its start
    /// stays. The counterpart of `Effect::RuntimeRestart`.
    #[must_use]
    pub fn holding(mut self, old: &Self) -> Self {
        self.runtime.state_dir.clone_from(&old.runtime.state_dir);
        self.runtime.control = old.runtime.control.clone();
        self.http = old.http.clone();
        self.telemetry.log_level.clone_from(&old.telemetry.log_level);
        self.telemetry.log_json = old.telemetry.log_json;
        self
    }

    /// Whether a worker whose settings differ needs a new process.
    #[must_use]
    pub fn needs_restart(old: &WorkerSettings, new: &WorkerSettings) -> bool {
        worker_keys(old, new).iter().any(|key| key.effect == Effect::Restarts)
    }
}

/// Everybody by name, with the way from the root down to each supervisor.
struct Places<'a> {
    workers: HashMap<&'a Name, &'a Arc<WorkerSettings>>,
    supervisors: HashMap<&'a Name, &'a Arc<SupervisorSettings>>,
    parent: HashMap<&'a Name, &'a Name>,
}

impl<'a> Places<'a> {
    fn of(settings: &'a Settings) -> Self {
        let supervisors = &settings.supervisors;
        Self {
            workers: settings.workers.iter().map(|one| (&one.name, one)).collect(),
            supervisors: supervisors.iter().map(|one| (&one.name, one)).collect(),
            parent: supervisors
                .iter()
                .flat_map(|one| one.children.iter().map(move |child| (child, &one.name)))
                .collect(),
        }
    }

    /// `root/ingest`: who is above. The tree ends, because validation says so.
    fn above(&self, name: &Name) -> String {
        let mut path: Vec<&str> = Vec::new();
        let mut at = name;
        while let Some(parent) = self.parent.get(at) {
            path.push(parent.as_str());
            at = parent;
        }
        path.reverse();
        path.join("/")
    }

    fn knows(&self, name: &Name) -> bool {
        self.workers.contains_key(name) || self.supervisors.contains_key(name)
    }
}

fn sections(old: &Settings, new: &Settings) -> Option<Change> {
    let same = (&old.runtime, &old.http, &old.telemetry, &old.store, &old.recovery)
        == (&new.runtime, &new.http, &new.telemetry, &new.store, &new.recovery);
    if same {
        return None;
    }
    let keys = compare(&words::sections(old), &words::sections(new), effects::SECTIONS);
    // Only whether an address was named by somebody: that is no difference to a listener that listens.
    let effect = keys.iter().map(|key| key.effect).max()?;
    Some(Change { sign: Sign::Changed, subject: Subject::Runtime, keys, effect })
}

/// Who is no longer there, in the reverse of the old order: that is the order of stops.
fn gone(old: &Settings, after: &Places<'_>) -> Vec<Change> {
    let removed = |subject| Change { sign: Sign::Removed, subject, keys: Vec::new(), effect: Effect::Stops };
    let workers = old.workers.iter().map(|one| &one.name).filter(|name| !after.workers.contains_key(name));
    let supervisors =
        old.supervisors.iter().map(|one| &one.name).filter(|name| !after.supervisors.contains_key(name));
    let workers = workers.rev().map(|name| removed(Subject::Worker(name.clone())));
    workers.chain(supervisors.rev().map(|name| removed(Subject::Supervisor(name.clone())))).collect()
}

/// What differs for workers that were made of it is told by them.
fn templates(old: &Settings, new: &Settings) -> Vec<Change> {
    let find = |settings: &'_ Settings, name: &Name| {
        settings.templates.iter().find(|template| template.name == *name).cloned()
    };
    let told = |sign, name: &Name| {
        let subject = Subject::Template(name.clone());
        Change { sign, subject, keys: Vec::new(), effect: Effect::InPlace }
    };
    let gone = old.templates.iter().filter(|one| find(new, &one.name).is_none());
    let gone = gone.map(|one| told(Sign::Removed, &one.name));
    let stay = new.templates.iter().filter_map(|one| match find(old, &one.name) {
        None => Some(told(Sign::Added, &one.name)),
        Some(before) if before != *one => Some(told(Sign::Changed, &one.name)),
        Some(_) => None,
    });
    gone.chain(stay).collect()
}

fn supervisor(one: &SupervisorSettings, before: &Places<'_>, after: &Places<'_>) -> Option<Change> {
    let subject = Subject::Supervisor(one.name.clone());
    let Some(old) = before.supervisors.get(&one.name) else {
        return Some(Change { sign: Sign::Added, subject, keys: Vec::new(), effect: Effect::Starts });
    };
    let mut keys = Vec::new();
    keys.extend(moved(&one.name, before, after));
    if old.as_ref() != one {
        let mut flags = compare(&words::supervisor(old), &words::supervisor(one), effects::SUPERVISOR);
        if !reordered(&old.children, &one.children, before, after) {
            flags.retain(|key| key.key != "children");
        }
        keys.extend(flags);
    }
    let effect = keys.iter().map(|key| key.effect).max()?;
    Some(Change { sign: Sign::Changed, subject, keys, effect })
}

/// Whether those who stay have another order; who came and who went is told by themselves.
fn reordered(old: &[Name], new: &[Name], before: &Places<'_>, after: &Places<'_>) -> bool {
    let stay = |name: &&Name| {
        before.parent.get(name) == after.parent.get(name) && before.knows(name) && after.knows(name)
    };
    !old.iter().filter(stay).eq(new.iter().filter(stay))
}

fn worker(one: &Arc<WorkerSettings>, before: &Places<'_>, after: &Places<'_>) -> Option<Change> {
    let subject = Subject::Worker(one.name.clone());
    let Some(old) = before.workers.get(&one.name) else {
        let effect = if one.enabled { Effect::Starts } else { Effect::StaysStopped };
        return Some(Change { sign: Sign::Added, subject, keys: Vec::new(), effect });
    };
    let mut keys = Vec::new();
    keys.extend(moved(&one.name, before, after));
    if !Arc::ptr_eq(old, one) && old != &one {
        keys.extend(worker_keys(old, one));
    }
    let most = keys.iter().map(|key| key.effect).max()?;
    let effect = match (old.enabled, one.enabled) {
        (true, true) => most,
        (false, true) => Effect::Starts,
        (true, false) => Effect::Stops,
        (false, false) => Effect::StaysStopped,
    };
    Some(Change { sign: Sign::Changed, subject, keys, effect })
}

fn worker_keys(old: &WorkerSettings, new: &WorkerSettings) -> Vec<KeyChange> {
    let mut keys = compare(&words::worker(old), &words::worker(new), effects::WORKER);
    for key in &mut keys {
        match key.key.as_str() {
            "enabled" if new.enabled => key.effect = Effect::Starts,
            "enabled" => key.effect = Effect::Stops,
            // `p` becomes `p/0`, or the other way round: its name is in its environment, its directory and its log.
            "instances" | "pool.min" | "pool.max" if old.numbered != new.numbered => {
                key.effect = Effect::Restarts
            }
            _ => {}
        }
    }
    if old.verify != new.verify {
        let text = |time| Some(Value::from(crate::units::format_duration(time)));
        let key = format!("{}.verify", ladder_key(new));
        let (old, new) = (text(old.verify), text(new.verify));
        keys.push(KeyChange { key, old, new, effect: Effect::InPlace });
    }
    if old.ladder == new.ladder {
        keys.extend(ladder_keys(old, new));
    }
    if old.strategies != new.strategies {
        let text = |one: &WorkerSettings| Some(words::strategies(&one.strategies));
        let (old, new) = (text(old), text(new));
        keys.push(KeyChange { key: "strategy".to_owned(), old, new, effect: Effect::InPlace });
    }
    let silent = WorkerSettings { steps: new.steps.clone(), ..old.clone() };
    if keys.is_empty() && silent.differs_in_number_only(new) && old.steps != new.steps {
        // What a step may take or cannot do has no key of its own there.
        keys.push(KeyChange { key: ladder_key(new), old: None, new: None, effect: Effect::InPlace });
    } else if keys.is_empty() && !old.differs_in_number_only(new) {
        // They differ in something that has no words: what cannot be told must at least not be lost.
        keys.push(KeyChange { key: "settings".to_owned(), old: None, new: None, effect: Effect::Restarts });
    }
    keys
}

/// What differs in the ladder itself; its `verify` is told with the worker's.
fn ladder_keys(old: &WorkerSettings, new: &WorkerSettings) -> Vec<KeyChange> {
    let words = |one: &WorkerSettings| one.steps.as_deref().map(words::ladder).unwrap_or_default();
    let ladder = ladder_key(new);
    let named = |key: KeyChange| KeyChange {
        key: super::schema::join(&ladder, &key.key),
        effect: Effect::InPlace,
        ..key
    };
    compare(&words(old), &words(new), &[]).into_iter().map(named).collect()
}

fn ladder_key(worker: &WorkerSettings) -> String {
    format!("ladder.{}", worker.ladder.name().unwrap_or("default"))
}

/// Under another supervisor it is another child: stopped there, started here.
fn moved(name: &Name, before: &Places<'_>, after: &Places<'_>) -> Option<KeyChange> {
    let (old, new) = (before.above(name), after.above(name));
    let effect = Effect::Restarts;
    (old != new).then(|| KeyChange {
        key: "supervisor".to_owned(),
        old: Some(old.into()),
        new: Some(new.into()),
        effect,
    })
}

fn compare(old: &Map<String, Value>, new: &Map<String, Value>, table: &[(&str, Effect)]) -> Vec<KeyChange> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    flatten("", old, &mut left);
    flatten("", new, &mut right);
    let before: HashMap<&str, &Value> = left.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let after: HashMap<&str, &Value> = right.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let only_old = left.iter().filter(|(key, _)| !after.contains_key(key.as_str()));
    let all = right.iter().chain(only_old).map(|(key, _)| key);
    all.filter(|key| before.get(key.as_str()) != after.get(key.as_str()))
        .map(|key| KeyChange {
            key: key.clone(),
            old: before.get(key.as_str()).map(|value| shown(key, value)),
            new: after.get(key.as_str()).map(|value| shown(key, value)),
            effect: effects::of(key, table).unwrap_or(Effect::Restarts),
        })
        .collect()
}

/// Dotted paths of all values that are no tables.
fn flatten<'v>(at: &str, table: &'v Map<String, Value>, out: &mut Vec<(String, &'v Value)>) {
    for (name, value) in table {
        let path = super::schema::join(at, name);
        match value {
            Value::Object(below) => flatten(&path, below, out),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => out.push((path, value)),
        }
    }
}

fn shown(key: &str, value: &Value) -> Value {
    match key.strip_prefix("env.") {
        Some(name) if words::is_secret(name) => words::HIDDEN.into(),
        Some(_) | None => value.clone(),
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
