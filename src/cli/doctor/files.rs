//! What is written down: the configuration, the directory for state, the addresses, and who runs already.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Loaded, Settings, Sources, load};

use super::Check;
use crate::cli::args::Global;
use crate::cli::locate::living_on;
use crate::cli::words::{plural, size};

/// The check that reads the file.
pub(super) const CONFIGURATION: &str = "configuration";

/// Below this much room logs and records will soon not fit.
const LITTLE_ROOM: u64 = 256 << 20;

/// Everything that follows from the configuration.
pub(super) fn look(global: &Global) -> Vec<Check> {
    let sources = Sources::of_process(global.config.clone());
    let loaded = match load(&sources) {
        Ok(loaded) => loaded,
        Err(_) if nothing_there(global) => {
            let help =
                "`regrow init` writes one; two lines are enough: `[worker.web]` and `command = [\"./web\"]`";
            return vec![Check::warning(CONFIGURATION, "there is none here", help)];
        }
        Err(problems) => {
            let first =
                problems.problems().into_iter().next().map(|problem| problem.message).unwrap_or_default();
            let message = format!("{}: {first}", plural(problems.count() as u64, "problem"));
            return vec![Check::failed(
                CONFIGURATION,
                message,
                "`regrow check` shows all, each with its place",
            )];
        }
    };
    let settings = &loaded.settings;
    let runs = living_on(&settings.runtime.state_dir);
    let mut checks = vec![configuration(&loaded)];
    checks.extend(
        settings.warnings.iter().map(|text| Check::warning(CONFIGURATION, text, "`regrow check` says more")),
    );
    checks.push(state_dir(&settings.runtime.state_dir));
    checks.extend(store(&settings.runtime.state_dir));
    checks.push(runtime(runs));
    checks.extend(addresses(settings, runs.is_some()));
    checks.extend(as_root(settings));
    checks
}

fn nothing_there(global: &Global) -> bool {
    global.config.is_none() && !crate::config::SEARCHED.iter().any(|path| Path::new(path).exists())
}

fn configuration(loaded: &Loaded) -> Check {
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let workers = plural(loaded.settings.workers.len() as u64, "worker");
    Check::ok(CONFIGURATION, format!("{} is right: {workers}", files.join(", ")))
}

/// Whether it can be written to, or made.
fn state_dir(path: &Path) -> Check {
    const NAME: &str = "state";
    let shown = path.display();
    let there = nearest(path);
    let writable = rustix::fs::access(&there, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    if let Err(error) = writable {
        let help = "run regrow as the user that owns it, or give another runtime.state_dir";
        return Check::failed(NAME, format!("{} cannot be written to: {error}", there.display()), help);
    }
    if there == path && !path.is_dir() {
        return Check::failed(
            NAME,
            format!("{shown} is no directory"),
            "move it away, or give another runtime.state_dir",
        );
    }
    let Ok(disk) = rustix::fs::statvfs(&there) else {
        return Check::ok(NAME, format!("{shown} can be written to"));
    };
    let room = disk.f_bavail.saturating_mul(disk.f_frsize);
    if room < LITTLE_ROOM {
        let help = "logs that do not fit are dropped; supervision goes on. Make room, or lower log.max_size and log.keep";
        return Check::warning(NAME, format!("{shown}: only {} are free", size(room)), help);
    }
    let how = if there == path { "can be written to" } else { "can be made" };
    Check::ok(NAME, format!("{shown} {how}, {} free", size(room)))
}

/// What was kept, and what is wrong with a file that is to keep more.
fn store(state_dir: &Path) -> Vec<Check> {
    const NAME: &str = "store";
    let mut checks = Vec::new();
    for (file, lost) in [("state.db", "events, incidents and what is learned"), ("samples.db", "history")] {
        let path = state_dir.join(file);
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        let access = rustix::fs::access(&path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
        let (wrong, help) = match access {
            _ if !found.is_file() => {
                ("is no file".to_owned(), "move it away; a fresh one is made, also while the runtime runs")
            }
            Err(rustix::io::Errno::ACCESS) if is_another_users(state_dir, found.uid()) => {
                let message = format!("{} is another user's, and was not looked at", path.display());
                checks.push(Check::warning(NAME, message, "ask as the user that runs regrow"));
                continue;
            }
            Err(error) => {
                (format!("cannot be read and written: {error}"), "give it to the user that runs regrow")
            }
            Ok(()) if found.len() == 0 => (
                "is empty".to_owned(),
                "what it held is gone; look at the disk, or put a `regrow backup` back",
            ),
            Ok(()) => continue,
        };
        let message = format!("{}: {wrong}: nothing of {lost} is kept", path.display());
        checks.push(Check::failed(NAME, message, help));
    }
    checks
}

/// Whether the directory and what is of this user in it are one other user's, who has no trouble with them.
fn is_another_users(state_dir: &Path, owner: u32) -> bool {
    let of_dir = std::fs::metadata(state_dir).map(|meta| meta.uid());
    of_dir.is_ok_and(|of_dir| of_dir == owner) && owner != rustix::process::geteuid().as_raw()
}

/// The path, or what of it exists.
fn nearest(path: &Path) -> PathBuf {
    let mut at = path;
    while !at.exists() {
        match at.parent() {
            Some(parent) if parent != Path::new("") => at = parent,
            Some(_) | None => return PathBuf::from("."),
        }
    }
    at.to_owned()
}

fn runtime(runs: Option<Option<u32>>) -> Check {
    match runs {
        Some(pid) => {
            let pid = pid.map(|pid| format!(" as pid {pid}")).unwrap_or_default();
            Check::ok("runtime", format!("runs{pid}; `regrow status` says how everything is"))
        }
        None => Check::ok("runtime", "none runs on this configuration; `regrow start` starts one"),
    }
}

/// Whether the addresses are free. A runtime that runs holds them itself.
fn addresses(settings: &Settings, runs: bool) -> Vec<Check> {
    const NAME: &str = "addresses";
    if runs {
        return Vec::new();
    }
    let http = &settings.http;
    let mut checks = Vec::new();
    let mut look = |key: &str, address: Option<SocketAddr>, must: bool| {
        let Some(address) = address else { return };
        let check = match TcpListener::bind(address) {
            Ok(_) => Check::ok(NAME, format!("{key} {address} is free")),
            Err(error) if must => Check::failed(
                NAME,
                format!("{key} {address} cannot be taken: {error}"),
                "free it or give another one; a start is refused otherwise",
            ),
            Err(error) => Check::warning(
                NAME,
                format!("{key} {address}, the default, cannot be taken: {error}"),
                "regrow starts without it: no /metrics for scrapers. Give another one in the file, or \"\" for none",
            ),
        };
        checks.push(check);
    };
    look("http.listen", http.listen, http.listen_explicit);
    look("http.probe_listen", http.probe_listen, true);
    checks
}

/// A worker that has root's power has that of the whole machine.
fn as_root(settings: &Settings) -> Option<Check> {
    let count = root_workers(settings);
    if !rustix::process::geteuid().is_root() || count == 0 {
        return None;
    }
    let count = plural(count as u64, "worker");
    let help = "a fault or a hole in one of them is one in the whole machine; give them a `user`, or run regrow as a user of its own";
    Some(Check::warning("root", format!("{count} would run as root"), help))
}

/// How many are not given a user of their own. An actor is a part of the runtime.
fn root_workers(settings: &Settings) -> usize {
    let is_root = |user: &Option<String>| user.as_deref().is_none_or(|user| matches!(user, "root" | "0"));
    settings.workers.iter().filter(|worker| is_root(&worker.isolation.user)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;

    #[test]
    fn a_directory_that_is_not_there_yet_is_judged_by_where_it_will_be() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&dir.path().join("a/b/c")), dir.path());
        let check = state_dir(&dir.path().join("a/b"));
        assert_ne!(check.outcome, Outcome::Failed, "{check:?}");
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(state_dir(&dir.path().join("file")).outcome, Outcome::Failed);
    }

    #[test]
    fn a_store_that_cannot_keep_anything_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(store(dir.path()), [], "the first start makes it");
        std::fs::write(dir.path().join("samples.db"), "x").unwrap();
        assert_eq!(store(dir.path()), []);
        std::fs::create_dir(dir.path().join("state.db")).unwrap();
        let found = store(dir.path());
        assert!(
            matches!(&found[..], [one] if one.message.contains("state.db: is no file: nothing of events")),
            "{found:?}"
        );
        std::fs::write(dir.path().join("samples.db"), "").unwrap();
        assert_eq!(store(dir.path()).len(), 2);
    }

    #[test]
    fn a_taken_address_is_a_failure_only_if_somebody_asked_for_it() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let text = format!("[worker.web]\ncommand = [\"x\"]\n[http]\nlisten = \"{address}\"\n");
        let mut settings = load(&Sources::text(text)).unwrap().settings;
        assert_eq!(addresses(&settings, false)[0].outcome, Outcome::Failed);
        settings.http.listen_explicit = false;
        assert_eq!(addresses(&settings, false)[0].outcome, Outcome::Warning);
        assert_eq!(addresses(&settings, true), []);
        drop(taken);
        assert_eq!(addresses(&settings, false)[0].outcome, Outcome::Ok);
    }
}
