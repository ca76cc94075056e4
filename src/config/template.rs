//! Workers that are made while everything runs: a template of the file and what is put into its gaps.
//!
//! Who asks for one gives a name and values for declared parameters, each of which a pattern of the file must match
//! as a whole. What is run, where and with what environment stands in the file and never comes from outside; a value
//! is put in place like any other placeholder: never split, never read again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use config::{ConfigError, Value, ValueKind};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use crate::id::Name;

use super::elements::{RawWorker, Settled, WORKER};
use super::layers::{self, Layer};
use super::leaf::{Leaf, Text};
use super::placeholder;
use super::schema::{Key, Shape};
use super::settings::{Settings, WorkerSettings};
use super::slugs;
use super::suggest::nearest;

/// Longest value of a parameter, in bytes: it becomes a part of an argument, not a document.
const LONGEST_VALUE: usize = 1024;

/// `[template.NAME]`
#[derive(Debug, Clone)]
pub struct Template {
    /// Its name.
    pub name: Name,
    /// So many workers may be made of it.
    pub max: usize,
    params: BTreeMap<String, Regex>,
    /// A worker's table with its gaps, over the defaults of workers.
    table: Layer,
    /// Known to be right, as far as that can be known without values; gives what needs the rest of the file.
    sample: WorkerSettings,
}

/// A worker that was made of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The worker's name.
    pub id: Name,
    /// The template's.
    pub template: Name,
    /// What is put into the gaps.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

/// Why a worker cannot be made of a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The file has no such template.
    #[error("there is no [template.{name}] in the file{}", hint(.near.as_deref()))]
    NoTemplate {
        /// What was asked for.
        name: Name,
        /// What may have been meant.
        near: Option<String>,
    },
    /// Somebody has that name.
    #[error("`{0}` is taken: a worker or a supervisor has that name already")]
    Taken(Name),
    /// The runtime's own log goes by that name.
    #[error("no worker can be called `{0}`: `logs/{0}.log` is the runtime's own; take another name")]
    Reserved(Name),
    /// A value that the template needs.
    #[error("template `{template}` needs a value for `{param}`, one that matches {pattern}")]
    Missing {
        /// The template.
        template: Name,
        /// The parameter.
        param: String,
        /// What a value must match.
        pattern: String,
    },
    /// A value that the template does not know.
    #[error("template `{template}` has no parameter `{param}`{}", hint(.near.as_deref()))]
    Unknown {
        /// The template.
        template: Name,
        /// What was given.
        param: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// A value that its pattern does not match.
    #[error(
        "the value for `{param}` is refused: it must match {pattern} as a whole and have at most {LONGEST_VALUE} bytes, without NUL"
    )]
    Refused {
        /// The parameter.
        param: String,
        /// What a value must match.
        pattern: String,
    },
    /// As many workers as the template allows.
    #[error(
        "template `{template}` allows {max} workers, and so many there are; `regrow remove` makes room, `max` in the file more of it"
    )]
    Full {
        /// The template.
        template: Name,
        /// Its `max`.
        max: usize,
    },
    /// The finished table is no worker.
    #[error("template `{template}` makes no worker of these values: {why}")]
    Broken {
        /// The template.
        template: Name,
        /// In words.
        why: String,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default()
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        let patterns = |one: &Self| -> Vec<(String, String)> {
            one.params.iter().map(|(name, pattern)| (name.clone(), pattern.as_str().to_owned())).collect()
        };
        (&self.name, self.max, &self.sample) == (&other.name, other.max, &other.sample)
            && self.table == other.table
            && patterns(self) == patterns(other)
    }
}

impl Template {
    pub(super) fn new(
        name: Name,
        max: usize,
        params: BTreeMap<String, Regex>,
        table: Layer,
        sample: WorkerSettings,
    ) -> Self {
        Self { name, max, params, table, sample }
    }

    /// Parameters and the patterns of their values.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        self.params.iter().map(|(name, pattern)| (name.as_str(), bare(pattern)))
    }

    /// The same, whose workers have these recovery steps.
    pub(super) fn laddered(&self, ladder: &dyn Fn(&WorkerSettings) -> WorkerSettings) -> Self {
        Self { sample: ladder(&self.sample), ..self.clone() }
    }

    /// The worker it makes, with its gaps.
    pub(super) fn sample(&self) -> &WorkerSettings {
        &self.sample
    }

    /// The worker that these values make.
    ///
    /// # Errors
    /// [`TemplateError`]: a value is missing, unknown or refused.
    fn worker(&self, added: &Added, base: &Path) -> Result<WorkerSettings, TemplateError> {
        self.check(&added.params)?;
        let broken = |error: ConfigError| TemplateError::Broken {
            template: self.name.clone(),
            why: error.to_string(),
        };
        let raw: RawWorker = layers::read(filled(&self.table, WORKER, &added.params)).map_err(broken)?;
        let Settled { mut settings, .. } = raw.settle(added.id.clone(), base, self.sample.verify);
        // The check has settled of the sample what kind it is.
        if self.sample.actor.is_none() {
            settings.actor = None;
        } else {
            settings.command = Vec::new();
        }
        settings.leave_foreign();
        settings.pool = self.sample.pool;
        settings.begin_pool();
        Ok(WorkerSettings {
            after: self.sample.after.clone(),
            steps: self.sample.steps.clone(),
            strategies: Arc::clone(&self.sample.strategies),
            ..settings
        })
    }

    fn check(&self, params: &BTreeMap<String, String>) -> Result<(), TemplateError> {
        let known = |param: &String| self.params.contains_key(param);
        if let Some(stranger) = params.keys().find(|param| !known(param)) {
            let near = nearest(stranger, self.params.keys().map(String::as_str)).map(str::to_owned);
            return Err(TemplateError::Unknown {
                template: self.name.clone(),
                param: stranger.clone(),
                near,
            });
        }
        for (param, pattern) in &self.params {
            let shown = || format!("`{}`", bare(pattern));
            let Some(value) = params.get(param) else {
                let (template, param) = (self.name.clone(), param.clone());
                return Err(TemplateError::Missing { template, param, pattern: shown() });
            };
            let fits =
                value.len() <= LONGEST_VALUE && !value.contains('\0') && pattern.is_match(value.as_bytes());
            if !fits {
                return Err(TemplateError::Refused { param: param.clone(), pattern: shown() });
            }
        }
        Ok(())
    }
}

/// A pattern that a value must match from its first to its last character.
pub(super) fn whole(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!(r"\A(?:{pattern})\z"))
}

/// The pattern as it stands in the file.
fn bare(pattern: &Regex) -> &str {
    let text = pattern.as_str();
    text.strip_prefix(r"\A(?:").and_then(|rest| rest.strip_suffix(r")\z")).unwrap_or(text)
}

/// A text, or a list of texts, that takes placeholders.
fn has_gaps(leaf: &Leaf) -> bool {
    matches!(leaf, Leaf::Text(Text::Template | Text::Beside) | Leaf::Texts(Text::Template | Text::Beside))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the check lets only these kinds of another crate's enum through"
)]
/// The table with its gaps filled, wherever the schema takes placeholders.
fn filled(table: &Layer, keys: &'static [Key], params: &BTreeMap<String, String>) -> Layer {
    let fill = |key: &Key, value: &Value| match &key.shape {
        Shape::Leaf(leaf) | Shape::Texts(leaf) if has_gaps(leaf) => fill_texts(value, params, true),
        Shape::Free => fill_texts(value, params, false),
        Shape::Table(below) | Shape::Either(below) | Shape::LeafOr(_, below) => match &value.kind {
            ValueKind::Table(inner) => Value::new(None, ValueKind::Table(filled(inner, below, params))),
            _ if matches!(&key.shape, Shape::LeafOr(leaf, _) if has_gaps(leaf)) => {
                fill_texts(value, params, true)
            }
            _ => value.clone(),
        },
        Shape::Each(_, below) => match &value.kind {
            ValueKind::Table(inner) => {
                let one = |value: &Value| match &value.kind {
                    ValueKind::Table(inner) => {
                        Value::new(None, ValueKind::Table(filled(inner, below, params)))
                    }
                    _ => value.clone(),
                };
                let all = inner.iter().map(|(name, value)| (name.clone(), one(value))).collect();
                Value::new(None, ValueKind::Table(all))
            }
            _ => value.clone(),
        },
        Shape::Leaf(_) | Shape::Texts(_) | Shape::Secrets(_) | Shape::Named(..) => value.clone(),
    };
    table
        .iter()
        .map(|(name, value)| {
            let key = super::schema::find(keys, name);
            (name.clone(), key.map_or_else(|| value.clone(), |key| fill(key, value)))
        })
        .collect()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the check lets only these kinds of another crate's enum through"
)]
/// A text, or all texts of a list or of a table; whether their placeholders are replaced later.
fn fill_texts(value: &Value, params: &BTreeMap<String, String>, expanded: bool) -> Value {
    let put = |name: &str| params.get(name).cloned().unwrap_or_default();
    let kind = match &value.kind {
        ValueKind::String(text) if expanded => ValueKind::String(placeholder::fill(text, put)),
        ValueKind::String(text) => ValueKind::String(placeholder::fill_last(text, put)),
        ValueKind::Array(items) => {
            ValueKind::Array(items.iter().map(|item| fill_texts(item, params, expanded)).collect())
        }
        ValueKind::Table(table) => ValueKind::Table(
            table.iter().map(|(name, value)| (name.clone(), fill_texts(value, params, expanded))).collect(),
        ),
        other => other.clone(),
    };
    Value::new(None, kind)
}

impl Settings {
    /// These settings with one more worker: the last child of the root.
    ///
    /// # Errors
    /// [`TemplateError`] says why it cannot be.
    pub fn with_added(&self, added: Added) -> Result<Self, TemplateError> {
        let Some(template) = self.templates.iter().find(|template| template.name == added.template) else {
            let near = nearest(added.template.as_str(), self.templates.iter().map(|one| one.name.as_str()));
            let near = near.map(str::to_owned);
            return Err(TemplateError::NoTemplate { name: added.template, near });
        };
        let taken = self.workers.iter().any(|worker| worker.name == added.id)
            || self.supervisors.iter().any(|supervisor| supervisor.name == added.id);
        if taken {
            return Err(TemplateError::Taken(added.id));
        }
        if slugs::is_reserved(&added.id) {
            return Err(TemplateError::Reserved(added.id));
        }
        if self.added.iter().filter(|other| other.template == template.name).count() >= template.max {
            return Err(TemplateError::Full { template: template.name.clone(), max: template.max });
        }
        let worker = template.worker(&added, &self.base_dir)?;
        if let Some(other) = self.port_clash(&worker, worker.most()) {
            let why = format!("it would share a port with `{other}`");
            return Err(TemplateError::Broken { template: template.name.clone(), why });
        }
        if let Some(other) = self.slug_clash(&worker, worker.most()) {
            let why = format!("it would share a directory with an instance of `{other}`");
            return Err(TemplateError::Broken { template: template.name.clone(), why });
        }
        if let Some(other) = self.pid_file_clash(&worker, worker.most()) {
            let why = format!("it would share a pid_file with `{other}`");
            return Err(TemplateError::Broken { template: template.name.clone(), why });
        }
        let mut grown = self.clone();
        grown.children_of_root(|children| children.push(worker.name.clone()));
        grown.workers.push(Arc::new(worker));
        grown.added.push(Arc::new(added));
        Ok(grown)
    }

    /// These settings without a worker that was made of a template; `None`: there is no such one.
    #[must_use]
    pub fn without_added(&self, id: &Name) -> Option<Self> {
        self.added.iter().find(|added| added.id == *id)?;
        let mut shrunk = self.clone();
        shrunk.children_of_root(|children| children.retain(|child| child != id));
        shrunk.workers.retain(|worker| worker.name != *id);
        shrunk.added.retain(|added| added.id != *id);
        Some(shrunk)
    }

    fn children_of_root(&mut self, change: impl FnOnce(&mut Vec<Name>)) {
        if let Some(root) = self.supervisors.iter_mut().find(|one| one.name == Name::root()) {
            change(&mut Arc::make_mut(root).children);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::trial::settings;
    use crate::config::{Sources, load};

    const FILE: &str = r#"
[worker.db]
command = ["db"]
[template.session]
command = ["session", "--user={param.user}", "{instance}"]
env.HOME = "/home/{param.user}"
params.user = "[a-z{}]+"
after = ["db"]
max = 2
"#;

    fn added(id: &str, user: &str) -> Added {
        Added {
            id: Name::try_new(id).unwrap(),
            template: Name::try_new("session").unwrap(),
            params: BTreeMap::from([("user".to_owned(), user.to_owned())]),
        }
    }

    #[test]
    fn a_template_makes_a_worker_like_one_of_the_file() {
        let grown = settings(FILE).with_added(added("u1", "ann")).unwrap();
        let worker = grown.workers.last().unwrap();
        assert_eq!(worker.command, ["session", "--user=ann", "{instance}"]);
        assert_eq!(worker.env.get("HOME").map(String::as_str), Some("/home/ann"));
        assert_eq!(grown.supervisors[0].children.last(), Some(&worker.name));
        let written = FILE.split("[template").next().unwrap().to_owned()
            + "[worker.u1]\ncommand = [\"session\", \"--user=ann\", \"{instance}\"]\nenv.HOME = \"/home/ann\"\nafter = [\"db\"]\n";
        assert_eq!(worker, settings(&written).workers.last().unwrap());
        assert_eq!(grown.without_added(&worker.name), Some(settings(FILE)));
    }

    /// Every key that takes placeholders, in each of its forms, has its gaps filled.
    #[test]
    fn no_gap_is_left_in_any_key() {
        let file = r#"
[template.session]
command = ["session", "--user={param.user}"]
cwd = "/home/{param.user}"
env.HOME = "/home/{param.user}"
pid_file = "/run/{param.user}.pid"
params.user = "[a-z]+"
probe.list = { exec = ["look", "{param.user}", "{instance}"] }
probe.table = { exec.command = ["look", "{param.user}"] }
probe.web = { http.url = "http://127.0.0.1:1/{param.user}" }
probe.port = { tcp = "127.0.0.1:1" }
probe.disk = { disk.path = "/{param.user}" }
on.capture.command = ["take", "{param.user}"]
on.memory_cleanup.command = ["free", "{param.user}"]
"#;
        let grown = settings(file).with_added(added("u1", "ann")).unwrap();
        let shown = format!("{:?}", grown.workers.last().unwrap());
        assert!(!shown.contains("param.user"), "{shown}");
        assert!(shown.matches("ann").count() >= 9, "{shown}");
    }

    #[test]
    fn an_actors_own_settings_have_gaps_too() {
        let file = "[template.session]\nactor = \"Session\"\nparams.user = \"[a-z{}]+\"\n\
                    config = { who = \"{param.user}\", more = [\"{worker} {param.user}\"] }\n";
        let grown = settings(file).with_added(added("u1", "{ann")).unwrap();
        let config = grown.workers.last().unwrap().config.value();
        assert_eq!(config, serde_json::json!({ "who": "{ann", "more": ["{worker} {ann"] }));
    }

    #[test]
    fn a_parameter_where_it_would_stand_as_it_is_is_refused() {
        for line in [
            "user = \"{param.user}\"",
            "secrets.K.file = \"/run/{param.user}\"",
            "config.a = \"{param.usr}\"",
        ] {
            let own = if line.starts_with("config") { "actor = \"A\"" } else { "command = [\"x\"]" };
            let file = format!("[template.session]\n{own}\nparams.user = \"[a-z]+\"\n{line}\n");
            let problems = load(&Sources::text(file)).unwrap_err();
            assert_eq!((problems.count(), problems.problems()[0].line), (1, Some(4)), "{problems}");
        }
    }

    #[test]
    fn a_value_is_never_read_again() {
        let grown = settings(FILE).with_added(added("u1", "{worker}")).unwrap();
        let worker = grown.workers.last().unwrap();
        let shown = crate::config::expand(&worker.command[1], |_| Some("x".to_owned())).unwrap();
        assert_eq!(shown, "--user={worker}");
    }

    #[test]
    fn a_pattern_holds_for_the_whole_value() {
        for value in ["", "ann;", "1ann", "ann\n", "ANN"] {
            let refused = settings(FILE).with_added(added("u1", value));
            assert!(matches!(refused, Err(TemplateError::Refused { .. })), "{value:?}: {refused:?}");
        }
        let either = FILE.replace("[a-z{}]+", "a|b");
        assert!(settings(&either).with_added(added("u1", "ab")).is_err());
        assert!(settings(&either).with_added(added("u1", "b")).is_ok());
        let long = "a".repeat(LONGEST_VALUE + 1);
        assert!(settings(FILE).with_added(added("u1", &long)).is_err());
    }

    #[test]
    fn everything_else_that_does_not_fit_is_told() {
        let one = settings(FILE).with_added(added("u1", "ann")).unwrap();
        assert_eq!(
            one.with_added(added("u1", "bob")),
            Err(TemplateError::Taken(Name::try_new("u1").unwrap()))
        );
        assert!(matches!(one.with_added(added("root", "bob")), Err(TemplateError::Taken(_))));
        assert!(matches!(one.with_added(added("regrow", "bob")), Err(TemplateError::Reserved(_))));
        let two = one.with_added(added("u2", "bob")).unwrap();
        assert!(matches!(two.with_added(added("u3", "cid")), Err(TemplateError::Full { max: 2, .. })));
        let mut stranger = added("u3", "cid");
        stranger.params.insert("usr".to_owned(), "x".to_owned());
        let error = one.with_added(stranger).unwrap_err().to_string();
        assert_eq!(error, "template `session` has no parameter `usr`; did you mean `user`?");
        let mut nothing = added("u3", "cid");
        nothing.params.clear();
        assert!(matches!(one.with_added(nothing), Err(TemplateError::Missing { .. })));
        let mut other = added("u3", "cid");
        other.template = Name::try_new("sesion").unwrap();
        let error = one.with_added(other).unwrap_err().to_string();
        assert_eq!(error, "there is no [template.sesion] in the file; did you mean `session`?");
    }
}
