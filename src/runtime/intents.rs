//! What operators have stopped and paused, kept over restarts of the runtime.
//!
//! One small JSON file, replaced as a whole. It is written off the control thread; a disk that is full or
//! gone costs the memory of an intent over a restart, never the intent itself; it is tried again until it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{Settings, WorkerSettings};
use crate::id::Name;
use crate::supervisor::{Operator, Wish};

const SCHEMA: &str = "regrow.intents/1";

/// A file larger than this is none of ours: 10,000 workers fit in 2 MiB.
const MAX_FILE: u64 = 4 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct OnDisk {
    schema: String,
    #[serde(flatten)]
    kept: Kept,
}

/// What is kept. Files of older builds have fewer maps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    stopped: BTreeMap<String, Operator>,
    paused: BTreeMap<String, Paused>,
    scaled: BTreeMap<String, Scaled>,
}

/// Who wants how many instances of a worker, and how many the file said then: it holds until the file says another
/// number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scaled {
    #[serde(flatten)]
    by: Operator,
    instances: u32,
    file: u32,
}

/// Who paused a child, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Paused {
    #[serde(flatten)]
    by: Operator,
    until: Option<Timestamp>,
}

/// The intents in force, and where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Intents {
    /// `None`: in memory only.
    path: Option<PathBuf>,
    kept: Kept,
}

impl Intents {
    /// Reads what an earlier runtime left. A file that cannot be read is set aside and named in the second part.
    pub(crate) fn load(state_dir: &Path) -> (Self, Option<String>) {
        let path = state_dir.join("intents.json");
        let (mut kept, note) = match read(&path) {
            Ok(kept) => (kept, None),
            Err(error) => (Kept::default(), Some(set_aside(&path, &error))),
        };
        let now = Timestamp::now();
        kept.paused.retain(|_, paused| paused.until.is_none_or(|until| until > now));
        (Self { path: Some(path), kept }, note)
    }

    /// None so far, and none is kept.
    pub(crate) fn in_memory() -> Self {
        Self { path: None, kept: Kept::default() }
    }

    /// Whether they are written down.
    pub(crate) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Everybody of whom something is wanted.
    pub(crate) fn children(&self) -> impl Iterator<Item = &String> {
        let paused = self.kept.paused.keys().filter(|child| !self.kept.stopped.contains_key(*child));
        self.kept.stopped.keys().chain(paused)
    }

    /// What is wanted of a child.
    pub(crate) fn wish(&self, child: &str) -> Wish {
        let paused = self.kept.paused.get(child).map(|paused| (paused.by.clone(), paused.until));
        Wish { stopped: self.kept.stopped.get(child).cloned(), paused }
    }

    /// Notes that somebody stopped a child. True if that is new.
    pub(crate) fn stop(&mut self, child: &str, by: Operator) -> bool {
        self.kept.stopped.insert(child.to_owned(), by).is_none()
    }

    /// Notes that a child is wanted again. True if that is new.
    pub(crate) fn want(&mut self, child: &str) -> bool {
        self.kept.stopped.remove(child).is_some()
    }

    /// Notes that somebody paused a child.
    pub(crate) fn pause(&mut self, child: &str, by: Operator, until: Option<Timestamp>) {
        self.kept.paused.insert(child.to_owned(), Paused { by, until });
    }

    /// Notes the end of a pause. True if there was one.
    pub(crate) fn resume(&mut self, child: &str) -> bool {
        self.kept.paused.remove(child).is_some()
    }

    /// Notes how many instances somebody wants; `file` is the number in the file.
    pub(crate) fn scale(&mut self, worker: &Name, instances: u32, file: u32, by: Operator) {
        self.kept.scaled.insert(worker.to_string(), Scaled { by, instances, file });
    }

    /// The settings of the file with the numbers of instances that were asked for by hand. A number that the file has
    /// changed since is the newer wish; the older one is forgotten.
    pub(crate) fn scaled(&mut self, mut settings: Settings) -> Settings {
        let workers = &mut settings.workers;
        self.kept.scaled.retain(|name, scaled| {
            let Some(worker) = workers.iter_mut().find(|worker| worker.name.as_str() == name) else {
                return false;
            };
            let holds = worker.declared == scaled.file;
            if holds {
                let instances = scaled.instances;
                *worker = Arc::new(WorkerSettings { instances, ..WorkerSettings::clone(worker) });
            }
            holds
        });
        settings
    }

    /// Numbers that were asked for by hand and that the file has changed since are forgotten. True if there were some.
    pub(crate) fn forget_old_numbers(&mut self, settings: &Settings) -> bool {
        let before = self.kept.scaled.len();
        self.kept.scaled.retain(|name, scaled| {
            settings.workers.iter().any(|one| one.name.as_str() == name && one.declared == scaled.file)
        });
        self.kept.scaled.len() != before
    }

    /// What is wanted of one child is wanted of the other instead. True if something was.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> bool {
        let stopped = self.kept.stopped.remove(from);
        let paused = self.kept.paused.remove(from);
        let any = stopped.is_some() || paused.is_some();
        self.kept.stopped.extend(stopped.map(|by| (to.to_owned(), by)));
        self.kept.paused.extend(paused.map(|by| (to.to_owned(), by)));
        any
    }

    /// Replaces the file. Blocks on the disk.
    pub(crate) fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let on_disk = OnDisk { schema: SCHEMA.to_owned(), kept: self.kept.clone() };
        let text = serde_json::to_vec_pretty(&on_disk).map_err(io::Error::other)?;
        let fresh = path.with_extension("json.new");
        let written = write(&fresh, &text).and_then(|()| fs::rename(&fresh, path));
        if written.is_err() {
            // Half a file takes room where there is none.
            let _ = fs::remove_file(&fresh);
            return written;
        }
        // A stop that was confirmed must not be undone by a power cut that forgets the new name.
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn read(path: &Path) -> io::Result<Kept> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(error),
    };
    if meta.len() > MAX_FILE {
        return Err(io::Error::other(format!("it has {} bytes", meta.len())));
    }
    let on_disk: OnDisk = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
    if on_disk.schema != SCHEMA {
        return Err(io::Error::other(format!("its schema is `{}`, not `{SCHEMA}`", on_disk.schema)));
    }
    Ok(on_disk.kept)
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
        assert_eq!(again.wish("web").stopped, Some(operator()));
        assert!(again.want("web"));
        again.save().unwrap();
        assert_eq!(Intents::load(dir.path()).0.wish("web"), Wish::default());
    }

    #[test]
    fn a_pause_is_remembered_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut intents, _) = Intents::load(dir.path());
        let (past, future) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        intents.pause("over", operator(), Some(past));
        intents.pause("lasting", operator(), Some(future));
        intents.pause("endless", operator(), None);
        intents.save().unwrap();
        let (mut again, note) = Intents::load(dir.path());
        assert_eq!((note, again.wish("over")), (None, Wish::default()));
        assert_eq!(again.wish("lasting").paused, Some((operator(), Some(future))));
        assert!(again.resume("endless") && !again.resume("endless"));
    }

    #[test]
    fn a_file_of_an_older_build_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let old =
            r#"{"schema":"regrow.intents/1","stopped":{"web":{"by":"uid 0","at":"1970-01-01T00:00:00Z"}}}"#;
        fs::write(dir.path().join("intents.json"), old).unwrap();
        assert_eq!(Intents::load(dir.path()).0.wish("web").stopped, Some(operator()));
    }

    #[test]
    fn a_corrupt_file_is_set_aside_and_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("intents.json"), b"\0\0\0").unwrap();
        let (intents, note) = Intents::load(dir.path());
        assert_eq!(intents.children().count(), 0);
        assert!(note.unwrap().contains("unreadable"));
        assert!(dir.path().join("intents.json.unreadable").exists());
    }
}
