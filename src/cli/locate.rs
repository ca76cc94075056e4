//! Finding the configuration, and through it the control socket.
//!
//! A running runtime must be reachable while its file is being edited and is broken, and `status` must be quick:
//! so only `runtime.state_dir` is read here, and nothing is validated.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::config::SEARCHED;
use crate::http::SOCKET_NAME;

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
        Some(named) if !named.exists() => {
            let text = format!("no runtime to ask: there is no file {}", named.display());
            return Err(Failure::Unreachable(text));
        }
        Some(named) => Some(named.clone()),
        None => SEARCHED.iter().map(PathBuf::from).find(|path| path.is_file()),
    };
    let beside = Path::new(STATE_DIR).join(SOCKET_NAME);
    match found {
        Some(file) => Ok(state_dir(&file).join(SOCKET_NAME)),
        None if beside.exists() => Ok(beside),
        None => Err(Failure::Unreachable(format!(
            "no runtime to ask: there is no {} here. Name it with `-c FILE` or `--socket PATH`, \
             or start one with `regrow start -c FILE`",
            SEARCHED.join(", ")
        ))),
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    runtime: RuntimeTable,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RuntimeTable {
    state_dir: Option<PathBuf>,
}

/// The state directory of a file, by the contract's precedence, as far as it can be read.
fn state_dir(file: &Path) -> PathBuf {
    let base = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let from_env = std::env::var_os("REGROW__RUNTIME__STATE_DIR").map(PathBuf::from);
    let in_file = || {
        let text = std::fs::read_to_string(file).ok()?;
        written_state_dir(&text)
    };
    let from_unit = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let chosen = from_env.or_else(in_file).or_else(from_unit);
    base.join(chosen.unwrap_or_else(|| PathBuf::from(STATE_DIR)))
}

fn written_state_dir(text: &str) -> Option<PathBuf> {
    toml::from_str::<File>(text).ok()?.runtime.state_dir
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_directory_is_found_beside_the_file_or_where_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my.toml");
        std::fs::write(&file, "[worker.web]\ncommand = [\"x\"]\nnot_a_key = 1\n").unwrap();
        assert_eq!(state_dir(&file), folder.path().join(".regrow"));
        std::fs::write(&file, "[runtime]\nstate_dir = \"/var/lib/x\"\n").unwrap();
        assert_eq!(state_dir(&file), PathBuf::from("/var/lib/x"));
        std::fs::write(&file, "[runtime\n").unwrap();
        assert_eq!(state_dir(&file), folder.path().join(".regrow"), "a broken file still has a place");
    }
}
