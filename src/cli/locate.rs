//! Finding the configuration, and through it the control socket.
//!
//! A running runtime must be reachable while its file is being edited and is broken, and `status` must be quick:
//! so only `runtime.state_dir` is read here, as far as a file can be understood, and nothing is validated.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::{SEARCHED, Sources, included};
use crate::http::SOCKET_NAME;
use crate::runtime::locked_by;

use super::args::Global;
use super::failure::Failure;

/// The state directory's name beside the file.
const STATE_DIR: &str = ".regrow";

/// The control socket that the options name.
pub(crate) fn socket(global: &Global) -> Result<PathBuf, Failure> {
    // An empty variable is one that is not set.
    if let Some(named) = global.socket.as_ref().filter(|named| !named.as_os_str().is_empty()) {
        return Ok(named.clone());
    }
    let found = match &global.config {
        // What lives beside it may be another file's runtime: a mistyped name must not end that one.
        Some(named) if !named.exists() => {
            let text = format!("no runtime to ask: there is no file {}", named.display());
            return Err(Failure::Unreachable(text));
        }
        Some(named) => Some(named.clone()),
        None => SEARCHED.iter().map(PathBuf::from).find(|path| path.is_file()),
    };
    let beside = Path::new(STATE_DIR).join(SOCKET_NAME);
    match found {
        Some(file) => Ok(state_dir(&file, &Sources::of_process(None)).join(SOCKET_NAME)),
        None if beside.exists() => Ok(beside),
        None => Err(Failure::Unreachable(format!(
            "no runtime to ask: there is no {} here. Name it with `-c FILE` or `--socket PATH`, \
             or start one with `regrow start -c FILE`",
            SEARCHED.join(", ")
        ))),
    }
}

/// Whether a runtime lives on this state directory, and its pid as far as that is known. The lock knows it best: on a
/// disk that takes nothing its file names an earlier one.
pub(crate) fn living_on(state_dir: &Path) -> Option<Option<u32>> {
    let path = state_dir.join("lock");
    let lock = std::fs::File::open(&path).ok()?;
    match lock.try_lock_shared() {
        Err(std::fs::TryLockError::WouldBlock) => {
            let written = || std::fs::read_to_string(&path).ok()?.trim().parse().ok();
            Some(locked_by(&lock).or_else(written))
        }
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => None,
    }
}

/// The variable that says it: the beginning, and the rest in any case of letters.
const VARIABLE: (&str, &str) = ("REGROW__", "RUNTIME__STATE_DIR");

/// The state directory of a file, by the contract's precedence, as far as it can be read.
fn state_dir(file: &Path, sources: &Sources) -> PathBuf {
    let base = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let said = in_environment(&sources.env).or_else(|| in_files(file, &base));
    let chosen = said.or_else(|| sources.state_directory());
    base.join(chosen.unwrap_or_else(|| PathBuf::from(STATE_DIR)))
}

fn in_environment(env: &[(OsString, OsString)]) -> Option<PathBuf> {
    let rest = |name: &OsString| Some(name.to_str()?.strip_prefix(VARIABLE.0)?.to_owned());
    let named = |name: &OsString| rest(name).is_some_and(|rest| rest.eq_ignore_ascii_case(VARIABLE.1));
    let (_, value) = env.iter().find(|(name, value)| named(name) && !value.is_empty())?;
    Some(PathBuf::from(value))
}

/// What the file and those that it includes say; the last word counts.
fn in_files(file: &Path, base: &Path) -> Option<PathBuf> {
    let own = Said::in_file(file)?;
    let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let others = own.include.iter().filter_map(|pattern| included(base, pattern).ok()).flatten();
    let others = others.filter(|path| full(path) != full(file));
    others.filter_map(|path| Said::in_file(&path)?.state_dir).next_back().or(own.state_dir)
}

/// What a file says of where its runtime lives.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    state_dir: Option<PathBuf>,
    include: Vec<String>,
}

impl Said {
    fn in_file(file: &Path) -> Option<Self> {
        Some(Self::in_text(&String::from_utf8_lossy(&std::fs::read(file).ok()?)))
    }

    /// Whatever can be read of it: what is being typed elsewhere in it changes nothing.
    fn in_text(text: &str) -> Self {
        let (table, _) = DeTable::parse_recoverable(text);
        let mut said = Self::default();
        for (key, value) in table.get_ref() {
            match (key.get_ref().as_ref(), value.get_ref()) {
                ("runtime", DeValue::Table(runtime)) => {
                    let own = runtime.iter().find(|(key, _)| key.get_ref() == "state_dir");
                    said.state_dir = own.and_then(|(_, value)| value.get_ref().as_str()).map(PathBuf::from);
                }
                ("include", DeValue::Array(patterns)) => {
                    let texts = patterns.iter().filter_map(|pattern| pattern.get_ref().as_str());
                    said.include = texts.map(str::to_owned).collect();
                }
                (_, _) => {}
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(env: &[(&str, &str)]) -> Sources {
        let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect();
        Sources { env, ..Sources::default() }
    }

    #[test]
    fn the_state_directory_is_found_beside_the_file_or_where_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        let found = || state_dir(&file, &Sources::default());
        std::fs::write(&file, "[worker.web]\ncommand = [\"x\"]\nnot_a_key = 1\n").unwrap();
        assert_eq!(found(), folder.path().join(".regrow"));
        std::fs::write(&file, "[runtime]\nstate_dir = \"/var/lib/x\"\n").unwrap();
        assert_eq!(found(), PathBuf::from("/var/lib/x"));
        std::fs::write(&file, "[runtime\n").unwrap();
        assert_eq!(found(), folder.path().join(".regrow"), "a broken file still has a place");
    }

    #[test]
    fn what_is_being_typed_elsewhere_in_the_file_hides_nothing() {
        for torn in ["[worker.b", "x = ", "[worker.b]\ncommand = [\"a\", ", "name = \"open", "]]"] {
            let text = format!("runtime.state_dir = \"s\"\n[worker.a]\ncommand = [\"x\"]\n{torn}\n");
            assert_eq!(Said::in_text(&text).state_dir, Some(PathBuf::from("s")), "{torn}");
            let text = format!("[runtime]\nname = \"n\"\nstate_dir = \"s\"\n\n{torn}\n");
            assert_eq!(Said::in_text(&text).state_dir, Some(PathBuf::from("s")), "{torn}");
        }
    }

    #[test]
    fn an_included_file_and_the_environment_have_their_say() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("m.toml");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("m.toml", "include = [\"*.toml\"]\n[runtime]\nstate_dir = \"own\"\n");
        assert_eq!(state_dir(&file, &Sources::default()), folder.path().join("own"));
        write("a.toml", "[runtime]\nstate_dir = \"included\"\n");
        assert_eq!(state_dir(&file, &Sources::default()), folder.path().join("included"));
        let env = with(&[("REGROW__runtime__state_dir", "/env")]);
        assert_eq!(state_dir(&file, &env), PathBuf::from("/env"));
        std::fs::write(folder.path().join("n.toml"), "").unwrap();
        let file = folder.path().join("n.toml");
        assert_eq!(state_dir(&file, &with(&[("STATE_DIRECTORY", "/a:/b")])), PathBuf::from("/a"));
        for empty in ["STATE_DIRECTORY", "REGROW__RUNTIME__STATE_DIR"] {
            assert_eq!(state_dir(&file, &with(&[(empty, "")])), folder.path().join(".regrow"), "{empty}");
        }
    }
}
