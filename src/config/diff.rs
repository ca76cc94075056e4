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
    /// `[runtime]`, `[http]`, `[telemetry]`, `[store]`.
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
    let unnamed =
        |all: &Settings| (all.runtime.clone(), all.http.clone(), all.telemetry.clone(), all.store.clone());
    if unnamed(old) == unnamed(new) {
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
    for key in keys.iter_mut().filter(|key| key.key == "enabled") {
        key.effect = if new.enabled { Effect::Starts } else { Effect::Stops };
    }
    if old.verify != new.verify {
        let text = |time| Some(Value::from(crate::units::format_duration(time)));
        let (old, new) = (text(old.verify), text(new.verify));
        keys.push(KeyChange { key: effects::VERIFY.to_owned(), old, new, effect: Effect::InPlace });
    }
    if keys.is_empty() {
        // They differ in something that has no words: what cannot be told must at least not be lost.
        keys.push(KeyChange { key: "settings".to_owned(), old: None, new: None, effect: Effect::Restarts });
    }
    keys
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
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn settings(text: &str) -> Settings {
        load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    /// `~ worker web: restarts`, then ` command: [...] -> [...] (restarts)`.
    fn told(old: &str, new: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for change in diff(&settings(old), &settings(new)) {
            let sign = match change.sign {
                Sign::Added => '+',
                Sign::Changed => '~',
                Sign::Removed => '-',
            };
            let subject = match &change.subject {
                Subject::Runtime => "runtime".to_owned(),
                Subject::Supervisor(name) => format!("sup:{name}"),
                Subject::Worker(name) => name.to_string(),
                Subject::Template(name) => format!("template:{name}"),
            };
            lines.push(format!("{sign} {subject}: {}", change.effect.word()));
            for key in change.keys {
                let value = |value: Option<Value>| value.map_or("none".to_owned(), |value| value.to_string());
                lines.push(format!("  {} {} -> {}", key.key, value(key.old), value(key.new)));
            }
        }
        lines
    }

    const TWO: &str = "[worker.a]\ncommand = [\"a\"]\n[worker.b]\ncommand = [\"b\"]\n";

    #[test]
    fn the_same_file_differs_in_nothing() {
        assert_eq!(told(TWO, TWO), Vec::<String>::new());
        let reordered_keys = TWO.replace("[worker.a]\n", "[worker.a]\nrestart = \"permanent\"\n");
        assert_eq!(told(TWO, &reordered_keys), Vec::<String>::new(), "a default written down is the default");
    }

    #[test]
    fn who_comes_and_who_goes_is_told_and_nobody_else() {
        let new = "[worker.b]\ncommand = [\"b\"]\n[worker.c]\ncommand = [\"c\"]\n[worker.d]\ncommand = [\"d\"]\nenabled = false\n";
        assert_eq!(told(TWO, new), ["- a: stops", "+ c: starts", "+ d: stays_stopped"]);
    }

    #[test]
    fn a_program_needs_a_new_process_and_a_rule_does_not() {
        let new = TWO
            .replace("[\"a\"]", "[\"a\", \"-v\"]")
            .replace("[worker.b]\n", "[worker.b]\nstop.timeout = \"3s\"\n");
        assert_eq!(
            told(TWO, &new),
            [
                "~ a: restarts",
                "  command [\"a\"] -> [\"a\",\"-v\"]",
                "~ b: in_place",
                "  stop.timeout \"10s\" -> \"3s\"",
            ]
        );
    }

    #[test]
    fn what_is_switched_off_stops_and_on_starts() {
        let off = TWO.replace("[worker.b]\n", "[worker.b]\nenabled = false\n");
        assert_eq!(told(TWO, &off), ["~ b: stops", "  enabled true -> false"]);
        assert_eq!(told(&off, TWO), ["~ b: starts", "  enabled false -> true"]);
        let other = off.replace("[\"b\"]", "[\"x\"]");
        assert_eq!(told(&off, &other), ["~ b: stays_stopped", "  command [\"b\"] -> [\"x\"]"]);
    }

    #[test]
    fn a_supervisors_flags_hold_at_once_and_only_an_order_of_those_who_stay_is_one() {
        let old = format!("[supervisor.root]\nchildren = [\"a\", \"b\"]\n{TWO}");
        let flags = old
            .replace("root]\n", "root]\nauto_shutdown = \"any_significant\"\nintensity.max_restarts = 3\n");
        assert_eq!(
            told(&old, &flags),
            [
                "~ sup:root: in_place",
                "  auto_shutdown \"never\" -> \"any_significant\"",
                "  intensity.max_restarts 10 -> 3",
            ]
        );
        let swapped = old.replace("[\"a\", \"b\"]", "[\"b\", \"a\"]");
        assert_eq!(
            told(&old, &swapped),
            ["~ sup:root: in_place", "  children [\"a\",\"b\"] -> [\"b\",\"a\"]"]
        );
        let more = format!("{old}[worker.c]\ncommand = [\"c\"]\n");
        assert_eq!(told(&old, &more), ["+ c: starts"]);
    }

    #[test]
    fn who_moves_restarts_and_so_does_everybody_below() {
        let old = format!("[supervisor.x]\nchildren = [\"a\"]\n[supervisor.y]\n{TWO}");
        let moved = format!("[supervisor.x]\nchildren = []\n[supervisor.y]\nchildren = [\"a\"]\n{TWO}");
        assert_eq!(told(&old, &moved), ["~ a: restarts", "  supervisor \"root/x\" -> \"root/y\""]);
        let nested = format!("[supervisor.x]\nchildren = [\"a\"]\n[supervisor.y]\nchildren = [\"x\"]\n{TWO}");
        assert_eq!(
            told(&old, &nested),
            [
                "~ sup:x: restarts",
                "  supervisor \"root\" -> \"root/y\"",
                "~ a: restarts",
                "  supervisor \"root/x\" -> \"root/y/x\"",
            ]
        );
    }

    #[test]
    fn what_the_runtime_was_built_from_is_named_and_secrets_are_not_shown() {
        let with = |listen: &str, token: &str| {
            format!(
                "[http]\nlisten = \"{listen}\"\n[worker.a]\ncommand = [\"a\"]\nenv.API_TOKEN = \"{token}\"\n"
            )
        };
        let lines = told(&with("127.0.0.1:1", "one"), &with("127.0.0.1:2", "two"));
        assert_eq!(
            lines,
            [
                "~ runtime: runtime_restart",
                "  http.listen \"127.0.0.1:1\" -> \"127.0.0.1:2\"",
                "~ a: restarts",
                "  env.API_TOKEN \"(hidden)\" -> \"(hidden)\"",
            ]
        );
    }

    #[test]
    fn what_cannot_be_taken_over_is_held_back_and_differs_still() {
        let old = settings("[http]\nlisten = \"127.0.0.1:1\"\n");
        let new = settings(
            "[runtime]\nname = \"x\"\nstate_dir = \"/other\"\nshutdown_timeout = \"1s\"\ncontrol.mode = \"0660\"\n\
             control.group = \"g\"\ncontrol.role = \"admin\"\n[http]\nlisten = \"127.0.0.1:2\"\nprobe_listen = \"127.0.0.1:3\"\n\
             [telemetry]\nlog.level = \"debug\"\nlog.format = \"json\"\nseed_names = false\n",
        );
        let held = new.clone().holding(&old);
        let effects = |from: &Settings, to: &Settings| -> Vec<Effect> {
            diff(from, to).into_iter().flat_map(|change| change.keys).map(|key| key.effect).collect()
        };
        assert_eq!(effects(&old, &held), [Effect::InPlace; 3], "only this was taken over");
        let left = effects(&held, &new);
        assert!(!left.is_empty() && left.iter().all(|effect| *effect == Effect::RuntimeRestart), "{left:?}");
        let all = effects(&old, &new).len();
        assert_eq!(all, left.len() + 3);
    }

    #[test]
    fn every_key_of_a_worker_has_words() {
        let manual = include_str!("../../config/default.toml");
        let on = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
            _ => line.to_owned(),
        };
        // A process: what only an actor has is left out.
        let of_actors = ["#actor", "#config"];
        let lines = manual.lines().filter(|line| !of_actors.iter().any(|key| line.starts_with(key)));
        let text: String = lines.map(|line| on(line) + "\n").collect();
        let text =
            text.replace("[\"broker-proxy\"]", "[\"web\"]").replace("[\"ingest\", \"web\"]", "[\"web\"]");
        let loaded =
            load(&Sources::text(text + "[worker.web]\n")).unwrap_or_else(|problems| panic!("{problems}"));
        let words =
            words::worker(loaded.settings.workers.iter().find(|one| one.name.as_str() == "web").unwrap());
        for key in crate::config::elements::WORKER {
            assert!(words.contains_key(key.name), "{} is missing in config/words.rs", key.name);
        }
    }
}
