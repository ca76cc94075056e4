//! What a worker's program is started with: arguments, environment, directory, and where to look for it.
//!
//! The environment is scrubbed: a worker sees a handful of variables, what its settings name, and ours. That
//! makes a start the same from a shell, from systemd and from cron; its price is the program that misses
//! something it found by accident, so a failed start names what it was not given.
//!
//! Everything that does not change from one incarnation to the next is rendered once.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{OURS, SecretSource, WorkerSettings, fill_pid};
use crate::id::{Incarnation, InstanceId};
use crate::worker::unix::Image;

use super::layout::Layout;
use super::placeholders::Placeholders;

/// Given to every worker, where the runtime has them.
const ALWAYS: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];
/// Where programs are looked for if the runtime itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Meant for the runtime alone, so not even `inherit_env = ["*"]` passes them on.
const OURS_ALONE: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// With these a worker speaks for itself; nobody who is not the worker gets them.
pub(super) const SPEAKS: [&[u8]; 3] = [b"NOTIFY_SOCKET=", b"REGROW_SOCKET=", b"WATCHDOG_USEC="];
/// Never worth naming: every shell sets them, and no program fails for want of them.
const NOISE: [&str; 24] = [
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
    "LS_COLORS",
    "TERM",
    "COLORTERM",
    "TERM_PROGRAM",
    "LOGNAME",
    "MAIL",
    "SHELL",
    "HOSTNAME",
    "EDITOR",
    "PAGER",
    "LESS",
    "LESSOPEN",
    "LESSCLOSE",
    "PS1",
    "PROMPT_COMMAND",
    "HISTSIZE",
    "DISPLAY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "WINDOWID",
];
const NOISE_PREFIXES: [&str; 6] = ["XDG_", "SSH_", "DBUS_", "LC_", "REGROW_", "GPG_"];
/// What programs most often fail for want of comes first.
const TELLING: [&str; 12] = [
    "VIRTUAL_ENV",
    "PYTHON",
    "CONDA",
    "NODE_",
    "JAVA_",
    "LD_",
    "GEM_",
    "RUBY",
    "PERL",
    "GO",
    "CUDA",
    "DATABASE",
];
/// More names would be a dump of somebody's shell, not a hint.
const MAX_NAMED: usize = 8;

/// A text, rendered as far as that is possible before a start.
#[derive(Debug, Clone)]
enum Text {
    Fixed(CString),
    /// Stands behind a prefix (`NAME=`) that is never searched for placeholders.
    Varies {
        prefix: Vec<u8>,
        text: String,
    },
}

/// How to start a worker.
#[derive(Debug)]
pub(super) struct Recipe {
    placeholders: Placeholders,
    argv: Vec<Text>,
    /// Variables of ours, which come first.
    ours: Vec<Text>,
    passed: Passed,
    /// Variables of its settings.
    env: Vec<Text>,
    directory: Text,
    /// The worker's own `PATH`, if its settings give one.
    path: Option<Vec<u8>>,
}

/// What is passed on of the runtime's environment.
type Passed = Arc<[CString]>;

/// What the last worker was passed: nearly always the next one is passed the same, and a thousand share one copy.
#[derive(Debug, Default)]
pub(super) struct LastPassed(Mutex<Option<Passed>>);

impl LastPassed {
    fn shared(&self, passed: Vec<CString>) -> Passed {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(same) if **same == *passed => Arc::clone(same),
            Some(_) | None => Arc::clone(last.insert(passed.into())),
        }
    }
}

/// A byte that no argument, variable or path can hold.
#[derive(Debug, thiserror::Error)]
#[error("a NUL byte in {0}")]
pub(super) struct NulByte(pub(super) &'static str);

impl Recipe {
    /// Renders what can be rendered. `runtime_env` is the runtime's own environment.
    pub(super) fn new(
        instance: &InstanceId,
        settings: &WorkerSettings,
        (runtime_env, last): (&[(OsString, OsString)], &LastPassed),
        layout: &Layout,
    ) -> Result<Self, NulByte> {
        let state_dir = &layout.state;
        let placeholders = Placeholders::new(instance, state_dir, settings.port_of(instance));
        let text = |prefix: &[u8], text: &str, what| Text::new(&placeholders, prefix, text, what);
        let mut argv = Vec::with_capacity(settings.command.len());
        for argument in &settings.command {
            argv.push(text(b"", argument, "command")?);
        }
        let directory = match settings.cwd.to_str() {
            Some(directory) => text(b"", directory, "cwd")?,
            None => {
                Text::Fixed(CString::new(settings.cwd.as_os_str().as_bytes()).map_err(|_| NulByte("cwd"))?)
            }
        };
        // Ours come first: whoever searches an environment of unknown size for them needs its beginning only.
        let ours = vec![
            Text::Fixed(variable("REGROW_INSTANCE", instance.to_string().as_ref())?),
            Text::Fixed(variable("REGROW_STATE_DIR", state_dir.as_os_str())?),
            Text::Fixed(variable("REGROW_WORKER", instance.worker().as_str().as_ref())?),
            Text::Varies { prefix: b"REGROW_INCARNATION=".to_vec(), text: "{incarnation}".to_owned() },
            Text::Fixed(variable("NOTIFY_SOCKET", layout.notify.as_os_str())?),
            Text::Fixed(variable("REGROW_SOCKET", layout.talk.as_os_str())?),
        ];
        let mut ours = ours;
        if let Some(heartbeat) = &settings.heartbeat {
            let micros = (2 * heartbeat.interval).as_micros().to_string();
            ours.push(Text::Fixed(variable("WATCHDOG_USEC", micros.as_ref())?));
        }
        let passed = last.shared(passed(settings, runtime_env)?);
        let own = settings.env.iter().filter(|(name, _)| !is_ours(OsStr::new(name.as_str())));
        let mut env = Vec::with_capacity(own.clone().count());
        for (name, value) in own {
            env.push(text(format!("{name}=").as_bytes(), value, "env")?);
        }
        let port = settings.port_of(instance).filter(|_| !settings.env.contains_key("PORT"));
        if let Some(port) = port {
            env.push(Text::Fixed(variable("PORT", port.to_string().as_ref())?));
        }
        let path =
            settings.env.get("PATH").map(|path| placeholders.fill(path, Incarnation::NONE).into_bytes());
        Ok(Self { argv, ours, passed, env, directory, path, placeholders })
    }

    /// Everything for one start.
    pub(super) fn image(&self, incarnation: Incarnation) -> Result<Image, NulByte> {
        let argv = self.render(&self.argv, incarnation, "command")?;
        let mut env = self.render(&self.ours, incarnation, "env")?;
        env.extend(self.passed.iter().cloned());
        env.extend(self.render(&self.env, incarnation, "env")?);
        Ok(Image {
            candidates: self.candidates(argv.first()),
            argv,
            env,
            directory: self.directory.render(&self.placeholders, incarnation, "cwd")?,
        })
    }

    /// Another program in the same surroundings, which is not the worker and speaks for nobody.
    pub(super) fn beside(
        &self,
        argv: &[String],
        pid: Option<u32>,
        incarnation: Incarnation,
    ) -> Result<Image, NulByte> {
        let pid = pid.map_or_else(String::new, |pid| pid.to_string());
        let filled = argv.iter().map(|text| self.placeholders.fill(&fill_pid(text, &pid), incarnation));
        let argv = filled
            .map(|text| CString::new(text).map_err(|_| NulByte("command")))
            .collect::<Result<Vec<_>, _>>()?;
        let mut env = self.render(&self.ours, incarnation, "env")?;
        env.retain(|variable| !SPEAKS.iter().any(|name| variable.as_bytes().starts_with(name)));
        env.extend(self.passed.iter().cloned());
        env.extend(self.render(&self.env, incarnation, "env")?);
        Ok(Image {
            candidates: self.candidates(argv.first()),
            argv,
            env,
            directory: self.directory.render(&self.placeholders, incarnation, "cwd")?,
        })
    }

    /// A path with its placeholders replaced.
    pub(super) fn path(&self, path: &Path, incarnation: Incarnation) -> PathBuf {
        path.to_str().map_or_else(|| path.to_owned(), |text| self.placeholders.fill(text, incarnation).into())
    }

    /// Makes `HOME` and `USER` those of the worker's own user, as a login would, unless the settings say otherwise.
    pub(super) fn belong(image: &mut Image, settings: &WorkerSettings, home: &OsStr, user: &OsStr) {
        for (name, value) in [("HOME", home), ("USER", user)] {
            let said = settings.env.contains_key(name) || settings.inherit_env.iter().any(|one| one == name);
            if let (false, Ok(own)) = (said, variable(name, value)) {
                let head = [name.as_bytes(), b"="].concat();
                image.env.retain(|known| !known.as_bytes().starts_with(&head));
                image.env.push(own);
            }
        }
    }

    fn render(&self, texts: &[Text], n: Incarnation, what: &'static str) -> Result<Vec<CString>, NulByte> {
        texts.iter().map(|text| text.render(&self.placeholders, n, what)).collect()
    }

    /// What `execvp` would try, in its order.
    fn candidates(&self, program: Option<&CString>) -> Vec<CString> {
        let Some(program) = program else { return Vec::new() };
        let name = program.as_bytes();
        if name.contains(&b'/') || name.is_empty() {
            return vec![program.clone()];
        }
        let join = |directory: &[u8]| {
            let directory = if directory.is_empty() { &b"."[..] } else { directory };
            CString::new([directory, b"/", name].concat()).ok()
        };
        self.search_path().split(|byte| *byte == b':').filter_map(join).collect()
    }

    fn search_path(&self) -> &[u8] {
        let passed = || self.passed.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH="));
        self.path.as_deref().or_else(passed).unwrap_or(DEFAULT_PATH.as_bytes())
    }
}

impl Text {
    fn new(fill: &Placeholders, prefix: &[u8], text: &str, what: &'static str) -> Result<Self, NulByte> {
        if Placeholders::varies(text) {
            return Ok(Self::Varies { prefix: prefix.to_vec(), text: text.to_owned() });
        }
        let bytes = [prefix, fill.fill(text, Incarnation::NONE).as_bytes()].concat();
        CString::new(bytes).map(Self::Fixed).map_err(|_| NulByte(what))
    }

    fn render(&self, fill: &Placeholders, n: Incarnation, what: &'static str) -> Result<CString, NulByte> {
        match self {
            Self::Fixed(text) => Ok(text.clone()),
            Self::Varies { prefix, text } => {
                CString::new([prefix, fill.fill(text, n).as_bytes()].concat()).map_err(|_| NulByte(what))
            }
        }
    }
}

/// A sentence about variables that the runtime has and the worker is not given.
pub(super) fn hint(settings: &WorkerSettings, runtime_env: &[(OsString, OsString)]) -> Option<String> {
    let left_out = runtime_env.iter().map(|(name, _)| name.as_os_str());
    let left_out =
        left_out.filter(|name| !is_ours(name) && !gives(settings, name) && !passes(settings, name));
    let mut names: Vec<&str> =
        left_out.filter_map(OsStr::to_str).filter(|name| is_worth_naming(name)).collect();
    if names.is_empty() {
        return None;
    }
    let telling = |name: &&str| !TELLING.iter().any(|start| name.starts_with(start));
    names.sort_by_key(|name| (telling(name), *name));
    let named = names.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("not passed to it: {named}{more}; name them in inherit_env"))
}

/// What is passed on of the runtime's environment.
fn passed(settings: &WorkerSettings, runtime_env: &[(OsString, OsString)]) -> Result<Vec<CString>, NulByte> {
    let others = runtime_env.iter().filter(|(name, _)| passes(settings, name));
    let others = others.filter(|(name, _)| !is_ours(name) && !gives(settings, name));
    let mut passed = others.map(|(name, value)| variable(name, value)).collect::<Result<Vec<_>, _>>()?;
    let has_path = || passed.iter().any(|variable| variable.as_bytes().starts_with(b"PATH="));
    if !gives(settings, OsStr::new("PATH")) && !has_path() {
        passed.push(variable("PATH", DEFAULT_PATH.as_ref())?);
    }
    Ok(passed)
}

/// Whether the worker's settings give a variable themselves.
fn gives(settings: &WorkerSettings, name: &OsStr) -> bool {
    if name == "PORT" && settings.port.is_some() {
        return true;
    }
    let secrets = &settings.isolation.secrets;
    name.to_str().is_some_and(|name| settings.env.contains_key(name) || secrets.contains_key(name))
}

fn passes(settings: &WorkerSettings, name: &OsStr) -> bool {
    ALWAYS.iter().any(|always| name == *always)
        || settings.inherit_env.iter().any(|other| name == &**other)
        || (settings.inherit_env.iter().any(|other| other == "*")
            && !OURS_ALONE.iter().any(|ours| name == *ours)
            && !is_a_secrets_source(settings, name))
}

/// What it is given under another name, and as a secret, is not given once more by the way.
fn is_a_secrets_source(settings: &WorkerSettings, name: &OsStr) -> bool {
    let from = |source: &SecretSource| matches!(source, SecretSource::Env(variable) if name == &**variable);
    settings.isolation.secrets.values().any(from)
}

/// Names that only the runtime sets.
fn is_ours(name: &OsStr) -> bool {
    OURS.iter().any(|ours| name == *ours)
}

fn is_worth_naming(name: &str) -> bool {
    !NOISE.contains(&name)
        && !OURS_ALONE.contains(&name)
        && !NOISE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn variable(name: impl AsRef<OsStr>, value: &OsStr) -> Result<CString, NulByte> {
    let bytes = [name.as_ref().as_bytes(), b"=", value.as_bytes()].concat();
    CString::new(bytes).map_err(|_| NulByte("the environment"))
}
