//! A copy of both files as they are at one moment, while everything goes on.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::StoreError;
use super::lane::Which;
use super::open::with_suffix;
use super::state::Store;

impl Store {
    /// Somebody has met damage: looks both files over, as a whole. One that is damaged is moved aside, and is among the
    /// [`notes`](Self::notes) from then on.
    ///
    /// # Errors
    /// [`StoreError`]: too much waits for the disk, or the store is closed.
    pub async fn look_over(&self) -> Result<(), StoreError> {
        for which in [Which::State, Which::Samples] {
            self.shared().writer.suspect(which).await?;
        }
        Ok(())
    }

    /// Copies both files into this directory, which is there already, and gives the copies' paths. Blocks on the disk
    /// for as long as that takes; nobody else waits for it.
    ///
    /// # Errors
    /// [`StoreError`]; a copy that is not whole is not left behind.
    pub fn backup(&self, dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let mut made = Vec::new();
        for place in self.shared().places() {
            let copy = dir.join(place.name);
            let partial = with_suffix(&copy, ".partial");
            // Of an attempt that was cut short, and of an older copy.
            for old in [partial.clone(), with_suffix(&copy, "-wal"), with_suffix(&copy, "-shm")] {
                let _ = fs::remove_file(old);
            }
            let whole =
                into(&place.open_to_read()?, &partial).and_then(|()| Ok(fs::rename(&partial, &copy)?));
            if let Err(error) = whole {
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
            made.push(copy);
        }
        File::open(dir)?.sync_all()?;
        Ok(made)
    }
}

fn into(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    // SQLite takes an empty file for a new one; its own would be open to whomever the umask lets in.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    conn.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
    Ok(File::open(path)?.sync_all()?)
}
