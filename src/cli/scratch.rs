//! Folders of `run` and `demo` for as long as they last, and those that a killed one has left.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One that has not even taken its lock after this long never will.
const NEW: Duration = Duration::from_secs(60);

/// A folder; gone with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// The folder of this process: `PREFIX` and its pid. Others of that name that nobody uses any more are removed.
    pub(crate) fn new(path: PathBuf, prefix: &str) -> Self {
        if let Some(base) = path.parent() {
            sweep(base, prefix, std::process::id());
        }
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is in a folder for temporary things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes folders of ended processes of ours. Whatever is in doubt stays, and is no reason to fail.
pub(crate) fn sweep(base: &Path, prefix: &str, own: u32) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| pid != own && !Path::new(&format!("/proc/{pid}")).exists())
            && is_ours(&entry.path())
            && !is_used(&entry.path())
        {
            // Somebody else may do the same at this moment.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A real folder of this user's that nobody else can write to.
fn is_ours(dir: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(dir)
        .is_ok_and(|found| found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0)
}

/// Whether a runtime lives there, is just beginning to, or something that it started does. A pid says little: the
/// folder may be seen from another container.
fn is_used(dir: &Path) -> bool {
    let state = if dir.join(".regrow").is_dir() { dir.join(".regrow") } else { dir.to_owned() };
    let lock = state.join("lock");
    if !lock.exists() {
        let age = std::fs::symlink_metadata(dir).and_then(|found| found.modified()).ok();
        return age.and_then(|at| at.elapsed().ok()).is_none_or(|age| age < NEW);
    }
    let workers = std::fs::read_dir(state.join("w")).into_iter().flatten().flatten();
    let fences = workers.map(|worker| worker.path().join("out"));
    std::iter::once(lock).chain(fences.filter(|fence| fence.exists())).any(|path| is_locked(&path))
}

/// A fence is a FIFO, whose opening must not wait.
fn is_locked(path: &Path) -> bool {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let opened = File::options().read(true).write(true).custom_flags(nonblocking).open(path);
    opened.is_ok_and(|file| file.try_lock().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A pid that no process has: the highest possible one.
    const NOBODY: u32 = 4_194_304;

    #[test]
    fn what_a_killed_one_left_goes_and_everything_else_stays() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: String| {
            let dir = base.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
            std::fs::write(dir.join("lock"), "").unwrap();
            dir
        };
        let left = make(format!("regrow-run-{NOBODY}"));
        let held = make(format!("regrow-run-{}", NOBODY + 1));
        let lock = File::open(held.join("lock")).unwrap();
        lock.lock().unwrap();
        let living = make("regrow-run-1".to_owned());
        let open = make(format!("regrow-run-{}", NOBODY + 2));
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let fresh = make(format!("regrow-run-{}", NOBODY + 3));
        std::fs::remove_file(fresh.join("lock")).unwrap();
        let other = make(format!("regrow-demo-{NOBODY}"));
        let link = base.path().join(format!("regrow-run-{}", NOBODY + 4));
        std::os::unix::fs::symlink(&other, &link).unwrap();
        sweep(base.path(), "regrow-run-", std::process::id());
        assert!(!left.exists());
        for kept in [held, living, open, fresh, other, link] {
            assert!(std::fs::symlink_metadata(&kept).is_ok(), "{}", kept.display());
        }
    }
}
