//! A worker as a program spells it out, for one that is added while everything runs.
//!
//! It goes the way of a file: every key is checked by the same schema, with the same words where something is wrong, and
//! what comes out is known to be right before anybody is touched. It lies over `[defaults.worker]` of the file in force
//! like a worker of that file, and may name its ladders; a file that is taken over later with other defaults changes
//! it as well.
//!
//! Deliberately absent: any trace on disk. The program that added it adds it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::id::Name;
use crate::policy::Restart;

use super::actors::ActorCheck;
use super::load::load;
use super::settings::{Settings, SupervisorSettings, WorkerSettings};
use super::source::Sources;
use super::suggest::nearest;

/// A worker that a program adds: `WorkerSpec { instances: Some(2), ..WorkerSpec::actor("mailer", "Mailer") }`.
///
/// ```
/// use regrow::{Restart, Run, WorkerSpec};
///
/// let mailer = WorkerSpec {
///     run: Run::Actor { actor: "Mailer".to_owned(), config: serde_json::json!({ "from": "ann@example.org" }) },
///     supervisor: "front".to_owned(),
///     after: vec!["queue".to_owned()],
///     restart: Restart::Transient,
///     ..WorkerSpec::actor("mailer", "Mailer")
/// }
/// .key("stop.timeout", "3s");
/// assert_eq!(mailer.keys["stop.timeout"], "3s");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerSpec {
    /// Its name, which nobody else has.
    pub name: String,
    /// The supervisor whose last child it becomes.
    pub supervisor: String,
    /// What it is.
    pub run: Run,
    /// Copies of it; `None`: one, that goes by its plain name.
    pub instances: Option<u32>,
    /// When it is restarted.
    pub restart: Restart,
    /// Workers that must be ready before it starts.
    pub after: Vec<String>,
    /// Whether the whole is not ready without it.
    pub critical: bool,
    /// Every other key of a `[worker.NAME]`, as in `("stop.timeout", "3s")`; what is left out is as `[defaults.worker]`
    /// has it, and relative paths start at the directory of the file.
    pub keys: BTreeMap<String, String>,
}

/// What a worker is.
#[derive(Debug, Clone, PartialEq)]
pub enum Run {
    /// A Rust type.
    Actor {
        /// The name under which the program registers it.
        actor: String,
        /// Its own settings: a JSON object.
        config: serde_json::Value,
    },
    /// A process.
    Process {
        /// argv; never a shell.
        command: Vec<String>,
        /// Variables it is given.
        env: BTreeMap<String, String>,
    },
}

/// Why a worker cannot be added. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Something in it is wrong; every problem, each with its place.
    #[error("{0}")]
    Invalid(String),
    /// Somebody has that name.
    #[error("`{0}` is taken: a worker or a supervisor has that name already")]
    Taken(Name),
    /// There is no such supervisor.
    #[error("there is no supervisor `{name}`{}", hint(.near.as_deref()))]
    NoSupervisor {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// It waits for somebody who is not there.
    #[error("`{worker}` is to start after `{name}`, and there is no such worker{}", hint(.near.as_deref()))]
    NobodyToWaitFor {
        /// The worker.
        worker: Name,
        /// For whom it waits.
        name: String,
        /// Who may have been meant.
        near: Option<String>,
    },
    /// It waits for somebody who starts later.
    #[error(
        "`{worker}` is to start after `{name}`, which starts later in the order of the supervisors; put it below a later one"
    )]
    TooEarly {
        /// The worker.
        worker: Name,
        /// For whom it waits.
        name: Name,
    },
    /// It would share something with another that nobody can share.
    #[error("`{worker}` would share {what} with `{other}`")]
    Clash {
        /// The worker.
        worker: Name,
        /// With whom.
        other: Name,
        /// What.
        what: &'static str,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default()
}

/// A worker that a program has added, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The supervisor.
    pub supervisor: Name,
    /// The worker.
    pub worker: Arc<WorkerSettings>,
    /// As the program spelled it out.
    pub spec: Arc<WorkerSpec>,
}

impl WorkerSpec {
    /// A worker that is a registered Rust type, without settings of its own, below the root.
    #[must_use]
    pub fn actor(name: impl Into<String>, actor: impl Into<String>) -> Self {
        let config = serde_json::Value::Object(serde_json::Map::new());
        Self::new(name.into(), Run::Actor { actor: actor.into(), config })
    }

    /// A worker that is a process, below the root.
    #[must_use]
    pub fn process(name: impl Into<String>, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self::new(name.into(), Run::Process { command, env: BTreeMap::new() })
    }

    fn new(name: String, run: Run) -> Self {
        Self {
            name,
            supervisor: Name::root().to_string(),
            run,
            instances: None,
            restart: Restart::Permanent,
            after: Vec::new(),
            critical: false,
            keys: BTreeMap::new(),
        }
    }

    /// The same with one more key of a `[worker.NAME]`.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.keys.insert(key.into(), value.into());
        self
    }

    /// As it would stand in a file, but for what needs the rest of the file.
    fn toml(&self) -> Result<String, SpecError> {
        let invalid = |error: toml::ser::Error| SpecError::Invalid(error.to_string());
        let mut own = toml::Table::new();
        match &self.run {
            Run::Actor { actor, config } => {
                own.insert("actor".to_owned(), actor.clone().into());
                own.insert("config".to_owned(), toml::Value::try_from(config).map_err(invalid)?);
            }
            Run::Process { command, env } => {
                own.insert("command".to_owned(), command.clone().into());
                own.insert("env".to_owned(), toml::Value::try_from(env).map_err(invalid)?);
            }
        }
        let restart = match self.restart {
            Restart::Permanent => "permanent",
            Restart::Transient => "transient",
            Restart::Temporary => "temporary",
        };
        own.insert("restart".to_owned(), restart.into());
        own.insert("critical".to_owned(), self.critical.into());
        own.extend(self.instances.map(|instances| ("instances".to_owned(), i64::from(instances).into())));
        let named = toml::Table::from_iter([(self.name.clone(), toml::Value::Table(own))]);
        let whole = toml::Table::from_iter([("worker".to_owned(), toml::Value::Table(named))]);
        toml::to_string(&whole).map_err(invalid)
    }

    fn settle(
        &self,
        over: &Settings,
        actors: Option<Arc<dyn ActorCheck>>,
    ) -> Result<WorkerSettings, SpecError> {
        let flags =
            self.keys.iter().map(|(key, value)| (format!("worker.{}.{key}", self.name), value.clone()));
        let text = format!("{}{}", over.common.0, self.toml()?);
        let base = Some(over.base_dir.clone());
        let sources = Sources { flags: flags.collect(), actors, base, ..Sources::text(text) };
        let loaded = load(&sources).map_err(|problems| SpecError::Invalid(problems.render(false)))?;
        let only = loaded.settings.workers.into_iter().next();
        only.map(Arc::unwrap_or_clone).ok_or_else(|| SpecError::Invalid("it is no worker".to_owned()))
    }
}

impl Settings {
    /// These settings with one more worker.
    ///
    /// # Errors
    /// [`SpecError`] says why it cannot be.
    pub fn with_spec(
        &self,
        spec: &WorkerSpec,
        actors: Option<Arc<dyn ActorCheck>>,
    ) -> Result<Self, SpecError> {
        let mut worker = spec.settle(self, actors)?;
        for name in &spec.after {
            let known = self.workers.iter().map(|worker| &worker.name).find(|known| known.as_str() == name);
            let missing = || SpecError::NobodyToWaitFor {
                worker: worker.name.clone(),
                name: name.clone(),
                near: nearest(name, self.workers.iter().map(|one| one.name.as_str())).map(str::to_owned),
            };
            let known = known.ok_or_else(missing)?.clone();
            worker.after.push(known);
        }
        let names = self.supervisors.iter().map(|one| one.name.as_str());
        let missing = || SpecError::NoSupervisor {
            name: spec.supervisor.clone(),
            near: nearest(&spec.supervisor, names).map(str::to_owned),
        };
        let home = self.supervisors.iter().find(|one| one.name.as_str() == spec.supervisor);
        let supervisor = home.ok_or_else(missing)?.name.clone();
        self.with_given(Given { supervisor, worker: Arc::new(worker), spec: Arc::new(spec.clone()) })
    }

    /// These settings with a worker that a program had added to others: anew, if workers have other defaults now.
    ///
    /// # Errors
    /// [`SpecError`]: it does not fit these settings.
    pub fn with_given_of(
        &self,
        others: &Self,
        given: &Given,
        actors: Option<Arc<dyn ActorCheck>>,
    ) -> Result<Self, SpecError> {
        if (&self.common.0, &self.base_dir) == (&others.common.0, &others.base_dir) {
            self.with_given(given.clone())
        } else {
            self.with_spec(&given.spec, actors)
        }
    }

    /// These settings with one more worker that is known to be right by itself.
    ///
    /// # Errors
    /// [`SpecError`]: it does not fit these settings.
    pub fn with_given(&self, given: Given) -> Result<Self, SpecError> {
        let worker = &given.worker;
        let taken = self.workers.iter().any(|other| other.name == worker.name)
            || self.supervisors.iter().any(|other| other.name == worker.name);
        if taken {
            return Err(SpecError::Taken(worker.name.clone()));
        }
        let clash = |other, what| SpecError::Clash { worker: worker.name.clone(), other, what };
        if let Some(other) = self.port_clash(worker, worker.most()) {
            return Err(clash(other, "a port"));
        }
        if let Some(other) = self.slug_clash(worker, worker.most()) {
            return Err(clash(other, "a directory"));
        }
        if let Some(other) = self.pid_file_clash(worker, worker.most()) {
            return Err(clash(other, "a pid_file"));
        }
        let mut grown = self.clone();
        let home = grown.supervisors.iter_mut().find(|one| one.name == given.supervisor);
        let missing = || SpecError::NoSupervisor { name: given.supervisor.to_string(), near: None };
        Arc::make_mut(home.ok_or_else(missing)?).children.push(worker.name.clone());
        let order = grown.start_order();
        let place = |name: &Name| order.get(name).copied();
        if let Some(later) = worker.after.iter().find(|name| place(name) > place(&worker.name)) {
            return Err(SpecError::TooEarly { worker: worker.name.clone(), name: later.clone() });
        }
        if let Some(gone) = worker.after.iter().find(|name| place(name).is_none()) {
            let (worker, name) = (worker.name.clone(), gone.to_string());
            return Err(SpecError::NobodyToWaitFor { worker, name, near: None });
        }
        grown.workers.push(Arc::clone(worker));
        grown.given.push(Arc::new(given));
        Ok(grown)
    }

    /// These settings without a worker that a program had added; `None`: there is no such one.
    #[must_use]
    pub fn without_given(&self, name: &Name) -> Option<Self> {
        self.given.iter().find(|given| given.worker.name == *name)?;
        let mut shrunk = self.clone();
        for supervisor in &mut shrunk.supervisors {
            if supervisor.children.contains(name) {
                Arc::make_mut(supervisor).children.retain(|child| child != name);
            }
        }
        shrunk.workers.retain(|worker| worker.name != *name);
        shrunk.given.retain(|given| given.worker.name != *name);
        Some(shrunk)
    }

    /// Whose turn it is when everybody starts in order.
    fn start_order(&self) -> HashMap<Name, usize> {
        let supervisors: HashMap<&Name, &Arc<SupervisorSettings>> =
            self.supervisors.iter().map(|one| (&one.name, one)).collect();
        let (mut order, root) = (HashMap::new(), Name::root());
        let mut waiting = vec![&root];
        while let Some(name) = waiting.pop() {
            match supervisors.get(name) {
                Some(supervisor) => waiting.extend(supervisor.children.iter().rev()),
                None => drop(order.insert(name.clone(), order.len())),
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[supervisor.root]
children = ["front", "db"]
[supervisor.front]
children = ["web"]
[worker.web]
command = ["web"]
port = { base = 8000 }
[worker.db]
command = ["db"]
"#;

    fn settings() -> Settings {
        load(&Sources::text(FILE)).unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    fn process(name: &str) -> WorkerSpec {
        WorkerSpec::process(name, ["sleep", "9"])
    }

    fn refused(spec: &WorkerSpec) -> String {
        settings().with_spec(spec, None).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn it_becomes_the_last_child_of_its_supervisor_and_goes_again_without_a_trace() {
        let spec = WorkerSpec {
            supervisor: "front".to_owned(),
            instances: Some(3),
            restart: Restart::Transient,
            after: vec!["web".to_owned()],
            critical: false,
            ..process("cron").key("stop.timeout", "3s")
        };
        let grown = settings().with_spec(&spec, None).unwrap();
        let worker = grown.workers.last().unwrap();
        assert_eq!((worker.instances, worker.restart, worker.critical), (3, Restart::Transient, false));
        assert_eq!(worker.stop.timeout, std::time::Duration::from_secs(3));
        assert_eq!(worker.after[0].as_str(), "web");
        let front = grown.supervisors.iter().find(|one| one.name.as_str() == "front").unwrap();
        assert_eq!(front.children.last().unwrap().as_str(), "cron");
        assert_eq!(grown.without_given(&worker.name), Some(settings()));
        assert_eq!(grown.without_given(&Name::try_new("web").unwrap()), None);
    }

    #[test]
    fn it_lies_over_the_defaults_of_the_file_and_over_those_of_a_later_one() {
        let file = |timeout: &str| {
            let text = format!(
                "[defaults.worker]\nstop.timeout = \"{timeout}\"\nladder = \"gentle\"\nenv.A = \"file\"\nenv.B = \"file\"\n\
                 command = [\"never\"]\n[ladder.gentle]\nsteps = [{{ do = \"flush\" }}]\n[strategy.flush]\ncommand = [\"f\"]\n\
                 [[error_class]]\nname = \"gone\"\nmatch = \"gone\"\n[worker.web]\n"
            );
            load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings
        };
        let spec = WorkerSpec {
            run: Run::Process {
                command: vec!["own".to_owned()],
                env: BTreeMap::from([("B".to_owned(), "own".to_owned())]),
            },
            ..process("cron")
        };
        let grown = file("3s").with_spec(&spec, None).unwrap();
        let (web, cron) = (&grown.workers[0], &grown.workers[1]);
        assert_eq!((web.command[0].as_str(), cron.command[0].as_str()), ("never", "own"));
        assert_eq!((cron.stop.timeout, &cron.steps), (web.stop.timeout, &web.steps));
        assert_eq!((cron.env["A"].as_str(), cron.env["B"].as_str()), ("file", "own"));
        let same = file("3s").with_given_of(&grown, &grown.given[0], None).unwrap();
        assert_eq!(same, grown);
        let later = file("4s").with_given_of(&grown, &grown.given[0], None).unwrap();
        assert_eq!(later.workers[1].stop.timeout, std::time::Duration::from_secs(4));
        let actor = settings().with_spec(&WorkerSpec::actor("a", "Mailer"), None).unwrap();
        assert_eq!(actor.workers.last().unwrap().actor.as_deref(), Some("Mailer"));
        let actor = file("3s").with_spec(&WorkerSpec::actor("a", "Mailer"), None).unwrap();
        assert_eq!(actor.workers.last().unwrap().actor.as_deref(), Some("Mailer"));
        assert!(actor.workers.last().unwrap().command.is_empty());
    }

    #[test]
    fn what_is_wrong_with_it_is_told_as_of_a_file() {
        let text = refused(&process("cron").key("stop.timeout", "3 parsecs"));
        assert!(text.contains("stop.timeout"), "{text}");
        let text = refused(&process("cron").key("stopp", "3s"));
        assert!(text.contains("stop"), "{text}");
        assert!(refused(&process("No Name")).contains("No Name"));
        let none = WorkerSpec { instances: Some(0), ..process("cron") };
        assert!(refused(&none).contains("instances"));
    }

    #[test]
    fn what_does_not_fit_the_others_is_named() {
        assert!(refused(&process("web")).contains("`web` is taken"));
        assert!(refused(&process("front")).contains("`front` is taken"));
        let lost = WorkerSpec { supervisor: "fron".to_owned(), ..process("cron") };
        assert!(refused(&lost).contains("did you mean `front`?"));
        let lonely = WorkerSpec { after: vec!["bd".to_owned()], ..process("cron") };
        assert!(refused(&lonely).contains("no such worker; did you mean `db`?"));
        let early =
            WorkerSpec { supervisor: "front".to_owned(), after: vec!["db".to_owned()], ..process("cron") };
        assert!(refused(&early).contains("starts later"));
        let port = process("cron").key("port.base", "8000");
        assert!(refused(&port).contains("a port with `web`"));
        let daemon = |name: &str| process(name).key("pid_file", "/run/d.pid");
        let one = settings().with_spec(&daemon("d"), None).unwrap();
        let two = one.with_spec(&daemon("e"), None).map(|_| ()).unwrap_err().to_string();
        assert!(two.contains("a pid_file with `d`"), "{two}");
    }
}
