//! Workers that were made of templates, kept over restarts of the runtime.
//!
//! One small JSON file, replaced as a whole, written before the worker is started: what was confirmed is there again
//! after any restart. Only the name of the template and the values are kept; what they make of it is read from the
//! file each time, so that a worker of a template that changed is one of the new template.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Added, Settings};

const SCHEMA: &str = "regrow.added/1";

/// A file larger than this is none of ours: 10,000 workers with ordinary values fit in 2 MiB.
const MAX_FILE: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct OnDisk {
    schema: String,
    workers: Vec<Arc<Added>>,
}

/// Where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct AddedFile {
    path: PathBuf,
}

impl AddedFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("added.json") }
    }

    /// The file's settings with the workers that an earlier runtime was asked for, and what cannot be done of it.
    /// Those who do not fit any more stay in the file, for the case that a mistake is taken back.
    pub(crate) fn join(&self, settings: Settings) -> (Settings, Vec<Misfit>, Vec<String>) {
        match self.read() {
            Ok(workers) => {
                let (settings, misfits) = join(settings, &workers);
                (settings, misfits, Vec::new())
            }
            Err(error) => (settings, Vec::new(), vec![self.set_aside(&error)]),
        }
    }

    fn read(&self) -> io::Result<Vec<Arc<Added>>> {
        let meta = match fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if meta.len() > MAX_FILE {
            return Err(io::Error::other(format!("it has {} bytes", meta.len())));
        }
        let on_disk: OnDisk = serde_json::from_slice(&fs::read(&self.path)?).map_err(io::Error::other)?;
        if on_disk.schema != SCHEMA {
            return Err(io::Error::other(format!("its schema is `{}`, not `{SCHEMA}`", on_disk.schema)));
        }
        Ok(on_disk.workers)
    }

    /// Replaces the file. Blocks on the disk.
    pub(crate) fn save(&self, workers: &[Arc<Added>]) -> io::Result<()> {
        let on_disk = OnDisk { schema: SCHEMA.to_owned(), workers: workers.to_vec() };
        let text = serde_json::to_vec_pretty(&on_disk).map_err(io::Error::other)?;
        let fresh = self.path.with_extension("json.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        // A confirmed worker must not be undone by a power cut that forgets the new name.
        fs::File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn set_aside(&self, error: &io::Error) -> String {
        let aside = self.path.with_extension("json.unreadable");
        let kept = match fs::rename(&self.path, &aside) {
            Ok(()) => format!("it was kept as {}", aside.display()),
            Err(rename) => format!("it could not be moved aside: {rename}"),
        };
        let path = self.path.display();
        format!(
            "{path} is unreadable ({error}); {kept}; workers that were added from templates are not there"
        )
    }
}

/// One that does not fit, and why.
pub(crate) type Misfit = (Arc<Added>, String);

/// Adds one after the other; who does not fit is told and left out.
pub(crate) fn join(mut settings: Settings, workers: &[Arc<Added>]) -> (Settings, Vec<Misfit>) {
    let mut misfits = Vec::new();
    for added in workers {
        match settings.with_added(Added::clone(added)) {
            Ok(grown) => settings = grown,
            Err(error) => {
                let why = format!("worker {}, made of a template, does not fit the file: {error}", added.id);
                misfits.push((Arc::clone(added), why));
            }
        }
    }
    (settings, misfits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Sources, load};
    use crate::id::Name;

    fn settings(text: &str) -> Settings {
        load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings
    }

    fn added() -> Arc<Added> {
        let name = |text: &str| Name::try_new(text).unwrap();
        let params = BTreeMap::from([("n".to_owned(), "5".to_owned())]);
        Arc::new(Added { id: name("one"), template: name("t"), params })
    }

    const FILE: &str = "[template.t]\ncommand = [\"sleep\", \"{param.n}\"]\nparams.n = \"[0-9]+\"\n";

    #[test]
    fn who_was_added_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = AddedFile::new(dir.path());
        file.save(&[added()]).unwrap();
        let (joined, _, notes) = file.join(settings(FILE));
        assert_eq!((joined.workers[0].command[1].as_str(), notes), ("5", Vec::new()));
    }

    #[test]
    fn who_does_not_fit_any_more_is_named_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let file = AddedFile::new(dir.path());
        file.save(&[added()]).unwrap();
        let (joined, left_out, _) = file.join(settings(&FILE.replace("[0-9]+", "[6-9]")));
        assert!(joined.workers.is_empty());
        assert_eq!(left_out[0].0, added());
        assert!(left_out[0].1.contains("worker one"), "{left_out:?}");
    }

    #[test]
    fn a_corrupt_file_is_set_aside_and_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("added.json"), b"{").unwrap();
        let (joined, _, notes) = AddedFile::new(dir.path()).join(settings(FILE));
        assert!(joined.workers.is_empty() && notes[0].contains("unreadable"), "{notes:?}");
        assert!(dir.path().join("added.json.unreadable").exists());
    }
}
