//! What a worker's program is started with: arguments, environment, directory, and where to look for it.
//!
//! The environment is scrubbed: a worker sees a handful of variables, what its settings name, and ours. That
//! makes a start the same from a shell, from systemd and from cron; its price is the program that misses
//! something it found by accident, so a failed start names what it was not given.
//!
//! Everything that does not change from one incarnation to the next is rendered once.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::config::WorkerSettings;
use crate::id::{Incarnation, InstanceId};
use crate::worker::unix::Image;

use super::placeholders::Placeholders;

/// Given to every worker, where the runtime has them.
const ALWAYS: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];
/// Where programs are looked for if the runtime itself has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Meant for the runtime alone, so not even `inherit_env = ["*"]` passes them on.
const OURS_ALONE: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
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
    env: Vec<Text>,
    directory: Text,
    /// Directories of the worker's own `PATH`.
    path: Vec<Vec<u8>>,
    not_given: Vec<String>,
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
        runtime_env: &[(OsString, OsString)],
        state_dir: &Path,
        notify: &Path,
    ) -> Result<Self, NulByte> {
        let placeholders = Placeholders::new(instance, state_dir);
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
        let mut env = vec![
            Text::Fixed(variable("REGROW_INSTANCE", instance.to_string().as_ref())?),
            Text::Fixed(variable("REGROW_STATE_DIR", state_dir.as_os_str())?),
            Text::Fixed(variable("REGROW_WORKER", instance.worker().as_str().as_ref())?),
            Text::Varies { prefix: b"REGROW_INCARNATION=".to_vec(), text: "{incarnation}".to_owned() },
            Text::Fixed(variable("NOTIFY_SOCKET", notify.as_os_str())?),
        ];
        let (passed, not_given) = divide(settings, runtime_env);
        for (name, value) in &passed {
            env.push(Text::Fixed(variable(name, value)?));
        }
        for (name, value) in settings.env.iter().filter(|(name, _)| !is_ours(OsStr::new(name.as_str()))) {
            env.push(text(format!("{name}=").as_bytes(), value, "env")?);
        }
        let path = search_path(settings, &passed, &placeholders);
        Ok(Self { argv, env, directory, path, not_given, placeholders })
    }

    /// Everything for one start.
    pub(super) fn image(&self, incarnation: Incarnation) -> Result<Image, NulByte> {
        let argv = self.render(&self.argv, incarnation, "command")?;
        Ok(Image {
            candidates: self.candidates(argv.first()),
            argv,
            env: self.render(&self.env, incarnation, "env")?,
            directory: self.directory.render(&self.placeholders, incarnation, "cwd")?,
        })
    }

    /// A sentence about variables that the runtime has and the worker was not given.
    pub(super) fn hint(&self) -> Option<String> {
        if self.not_given.is_empty() {
            return None;
        }
        let named = self.not_given.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = match self.not_given.len().saturating_sub(MAX_NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("not passed to it: {named}{more}; name them in inherit_env"))
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
        let join = |directory: &Vec<u8>| {
            let mut path = if directory.is_empty() { b".".to_vec() } else { directory.clone() };
            path.push(b'/');
            path.extend_from_slice(name);
            CString::new(path).ok()
        };
        self.path.iter().filter_map(join).collect()
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

type Variables = Vec<(OsString, OsString)>;

/// Splits the runtime's environment into what is passed on and the names worth a hint.
fn divide(settings: &WorkerSettings, runtime_env: &[(OsString, OsString)]) -> (Variables, Vec<String>) {
    let everything = settings.inherit_env.iter().any(|name| name == "*");
    let given = |name: &OsStr| settings.env.contains_key(&*name.to_string_lossy());
    let named = |name: &OsStr| {
        ALWAYS.iter().any(|always| name == *always)
            || settings.inherit_env.iter().any(|other| name == &**other)
    };
    let mut passed = Vec::new();
    let mut not_given = Vec::new();
    for (name, value) in runtime_env.iter().filter(|(name, _)| !is_ours(name) && !given(name)) {
        if named(name) || (everything && !OURS_ALONE.iter().any(|ours| name == *ours)) {
            passed.push((name.clone(), value.clone()));
        } else if is_worth_naming(name) {
            not_given.push(name.to_string_lossy().into_owned());
        }
    }
    if !given(OsStr::new("PATH")) && !passed.iter().any(|(name, _)| name == "PATH") {
        passed.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    let telling = |name: &String| !TELLING.iter().any(|start| name.starts_with(start));
    not_given.sort_by_key(|name| (telling(name), name.clone()));
    (passed, not_given)
}

/// Names that only the runtime sets.
fn is_ours(name: &OsStr) -> bool {
    name == "NOTIFY_SOCKET"
        || [
            "REGROW_WORKER",
            "REGROW_INSTANCE",
            "REGROW_INCARNATION",
            "REGROW_STATE_DIR",
            "REGROW_SOCKET",
            "REGROW_TOKEN",
        ]
        .iter()
        .any(|ours| name == *ours)
}

fn is_worth_naming(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    !NOISE.contains(&name)
        && !OURS_ALONE.contains(&name)
        && !NOISE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn search_path(settings: &WorkerSettings, passed: &Variables, fill: &Placeholders) -> Vec<Vec<u8>> {
    let own = settings.env.get("PATH").map(|path| fill.fill(path, Incarnation::NONE).into_bytes());
    let inherited =
        || passed.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone().into_vec());
    let path = own.or_else(inherited).unwrap_or_else(|| DEFAULT_PATH.as_bytes().to_vec());
    path.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect()
}

fn variable(name: impl AsRef<OsStr>, value: &OsStr) -> Result<CString, NulByte> {
    let bytes = [name.as_ref().as_bytes(), b"=", value.as_bytes()].concat();
    CString::new(bytes).map_err(|_| NulByte("the environment"))
}
