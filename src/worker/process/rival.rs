//! Other runtimes that live: whom they supervise is nobody's survivor, and none of them is part of a worker's tree.
//!
//! Two meet where a state directory was moved away under a living runtime and another one stands in its place: what their
//! workers carry is the same. A runtime is known by the record that it has open, wherever that is by now, and its
//! workers by their lines in it. A parent alone proves nothing: a runtime inherits the orphans of one below it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::record::{self, MAX_READ};
use super::tree::stat;

/// Deeper than any sane tree.
const DEPTH: usize = 64;

/// The main processes that a runtime of this pid has recorded; `None`: it is no runtime that lives.
fn recorded_by(pid: u32) -> Option<HashSet<u32>> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let named = |path: &PathBuf| {
        let link = std::fs::read_link(path).unwrap_or_default();
        let bytes = link.as_os_str().as_bytes();
        let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        bytes.ends_with(b"/spawned") || bytes.ends_with(b"/spawned.new")
    };
    fds.flatten()
        .map(|fd| fd.path())
        .filter(named)
        .find_map(|path| record::written_by(pid, &read(&path)?))
        .map(|entries| entries.into_iter().map(|entry| entry.pid).collect())
}

/// Never waits: what is called like a record may be anything.
fn read(path: &Path) -> Option<String> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_READ).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether this process is a runtime that lives.
pub(super) fn is_runtime(pid: u32) -> bool {
    recorded_by(pid).is_some()
}

/// Another runtime that lives and has started one of these.
pub(super) fn of(workers: impl IntoIterator<Item = u32>) -> Option<u32> {
    let workers: HashSet<u32> = workers.into_iter().collect();
    let own = std::process::id();
    let mut known: HashMap<u32, bool> = HashMap::new();
    for worker in &workers {
        let mut at = *worker;
        for _ in 0..DEPTH {
            let Some(parent) = stat(at).map(|stat| stat.parent).filter(|parent| *parent > 1) else { break };
            if parent == own {
                break;
            }
            let minds = known.entry(parent).or_insert_with(|| {
                !workers.contains(&parent)
                    && recorded_by(parent).is_some_and(|mains| !mains.is_disjoint(&workers))
            });
            if *minds {
                return Some(parent);
            }
            at = parent;
        }
    }
    None
}
