//! What operators have stopped, kept over restarts of the runtime.
//!
//! One small JSON file, replaced as a whole. It is written off the control thread; a disk that is full or
//! gone costs the memory of an intent over a restart, never the intent itself, and is named in the notes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::supervisor::Operator;

const SCHEMA: &str = "regrow.intents/1";

/// A file larger than this is none of ours: 10,000 workers fit in 2 MiB.
const MAX_FILE: u64 = 4 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OnDisk {
    schema: String,
    stopped: BTreeMap<String, Operator>,
}

/// The intents in force, and where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Intents {
    path: PathBuf,
    stopped: BTreeMap<String, Operator>,
}

impl Intents {
    /// Reads what an earlier runtime left. A file that cannot be read is set aside and named in the second part.
    pub(crate) fn load(state_dir: &Path) -> (Self, Option<String>) {
        let path = state_dir.join("intents.json");
        let (stopped, note) = match read(&path) {
            Ok(stopped) => (stopped, None),
            Err(error) => (BTreeMap::new(), Some(set_aside(&path, &error))),
        };
        (Self { path, stopped }, note)
    }

    /// Who stopped what.
    pub(crate) fn stopped(&self) -> &BTreeMap<String, Operator> {
        &self.stopped
    }

    /// Notes that somebody stopped a child. True if that is new.
    pub(crate) fn stop(&mut self, child: &str, by: Operator) -> bool {
        self.stopped.insert(child.to_owned(), by).is_none()
    }

    /// Notes that a child is wanted again. True if that is new.
    pub(crate) fn want(&mut self, child: &str) -> bool {
        self.stopped.remove(child).is_some()
    }

    /// Replaces the file. Blocks on the disk.
    pub(crate) fn save(&self) -> io::Result<()> {
        let on_disk = OnDisk { schema: SCHEMA.to_owned(), stopped: self.stopped.clone() };
        let text = serde_json::to_vec_pretty(&on_disk).map_err(io::Error::other)?;
        let fresh = self.path.with_extension("json.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Operator>> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    if meta.len() > MAX_FILE {
        return Err(io::Error::other(format!("it has {} bytes", meta.len())));
    }
    let on_disk: OnDisk = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
    if on_disk.schema != SCHEMA {
        return Err(io::Error::other(format!("its schema is `{}`, not `{SCHEMA}`", on_disk.schema)));
    }
    Ok(on_disk.stopped)
}

fn set_aside(path: &Path, error: &io::Error) -> String {
    let aside = path.with_extension("json.unreadable");
    let kept = match fs::rename(path, &aside) {
        Ok(()) => format!("it was kept as {}", aside.display()),
        Err(rename) => format!("it could not be moved aside: {rename}"),
    };
    format!("{} is unreadable ({error}); {kept}; workers stopped by hand start again", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator() -> Operator {
        Operator { by: "uid 0".to_owned(), at: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_stop_is_remembered_and_a_start_forgets_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut intents, note) = Intents::load(dir.path());
        assert_eq!(note, None);
        assert!(intents.stop("web", operator()));
        intents.save().unwrap();
        let (mut again, _) = Intents::load(dir.path());
        assert_eq!(again.stopped().get("web"), Some(&operator()));
        assert!(again.want("web"));
        again.save().unwrap();
        assert!(Intents::load(dir.path()).0.stopped().is_empty());
    }

    #[test]
    fn a_corrupt_file_is_set_aside_and_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("intents.json"), b"\0\0\0").unwrap();
        let (intents, note) = Intents::load(dir.path());
        assert!(intents.stopped().is_empty());
        assert!(note.unwrap().contains("unreadable"));
        assert!(dir.path().join("intents.json.unreadable").exists());
    }
}
