//! Workers that were made of templates, kept over restarts of the runtime.
//!
//! One small file, written before the worker is started: what was confirmed is there again after any restart. Only the
//! name of the template and the values are kept; what they make of it is read from the file each time, so that a
//! worker of a template that changed is one of the new template.

use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Added, Settings};

use super::sheet::Sheet;

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    workers: Vec<Arc<Added>>,
}

/// Where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct AddedFile(Sheet);

impl AddedFile {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self(Sheet::new(state_dir, "added.json", "regrow.added/1"))
    }

    /// The file's settings with the workers that an earlier runtime was asked for, and what cannot be done of it.
    /// Those who do not fit any more stay in the file, for the case that a mistake is taken back.
    pub(crate) fn join(&self, settings: Settings) -> (Settings, Vec<Misfit>, Vec<String>) {
        let (kept, note) = self.0.load::<Kept>();
        let note = note.map(|note| format!("{note}; workers that were added from templates are not there"));
        let (settings, misfits) = join(settings, &kept.workers);
        (settings, misfits, note.into_iter().collect())
    }

    /// Replaces the file. Blocks on the disk.
    pub(crate) fn save(&self, workers: &[Arc<Added>]) -> io::Result<()> {
        self.0.save(&Kept { workers: workers.to_vec() })
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
    use std::fs;

    use super::*;
    use crate::config::trial::settings;
    use crate::id::Name;

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
