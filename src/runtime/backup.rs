//! A backup: what outlives the runtime, copied into a directory of its own below the state directory.
//!
//! The databases are copied as they are at one moment, while everything goes on; the small files beside them are
//! replaced as a whole whenever they change, so a plain copy is whole too.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::store::StoreError;

use super::handle::RuntimeHandle;

/// Files that are copied if they are there.
pub(crate) const BESIDE: [&str; 2] = ["intents.json", "added.json"];

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Its directory.
    pub dir: PathBuf,
    /// What is in it.
    pub files: Vec<PathBuf>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("nothing is kept by this runtime: it was started without a file and without runtime.state_dir")]
    Nothing,
    /// A database could not be copied.
    #[error("the store cannot be copied: {0}")]
    Store(#[from] StoreError),
    /// The disk refuses it.
    #[error("cannot write {}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl RuntimeHandle {
    /// Copies what is kept. Blocks on the disk; nobody else waits for it.
    ///
    /// # Errors
    /// [`BackupError`]; what is not whole is not left behind.
    pub fn backup(&self) -> Result<Backup, BackupError> {
        let store = self.store().ok_or(BackupError::Nothing)?;
        let state_dir = &self.info().state_dir;
        let name = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
        let dir = state_dir.join("backups").join(name);
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| BackupError::Disk { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(wrap(&dir))?;
        let made = store.backup(&dir).map_err(BackupError::from).and_then(|mut files| {
            for name in BESIDE {
                let (from, to) = (state_dir.join(name), dir.join(name));
                if from.exists() {
                    fs::copy(&from, &to).map_err(wrap(&to))?;
                    File::open(&to).and_then(|file| file.sync_all()).map_err(wrap(&to))?;
                    files.push(to);
                }
            }
            File::open(&dir).and_then(|dir| dir.sync_all()).map_err(wrap(&dir))?;
            Ok(files)
        });
        match made {
            Ok(files) => Ok(Backup { dir, files }),
            Err(error) => {
                // Best effort: the error itself is told.
                let _ = fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }
}
