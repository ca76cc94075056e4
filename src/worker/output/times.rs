//! The times of a log's lines, from the index beside it, kept up while the log grows.
//!
//! The index says when which part was written, to its interval. It is a hint here as everywhere: where it is missing,
//! torn, or does not belong to the log, a line has no time, and is shown all the same.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;

use super::file::LogPath;
use super::index::Index;
use super::read::open_to_read;

/// What is known of the times of one log file.
#[derive(Debug, Default)]
pub(super) struct Times {
    file: Option<File>,
    index: Option<Index>,
    /// Length of the index when it was loaded: it only grows, or is written anew.
    loaded: u64,
}

impl Times {
    /// The index beside a rotated file of this age, or beside the log itself (0).
    pub(super) fn open(path: &LogPath, age: u32, id: (u64, u64)) -> Self {
        let file = open_to_read(&path.index(age)).ok();
        // A rotation in between would give a log the times of another one.
        let file = file.filter(|_| id_of(path, age) == Some(id));
        Self { file, index: None, loaded: 0 }
    }

    /// Reads what was noted since. `log` is the file that the times are of.
    pub(super) fn refresh(&mut self, path: &LogPath, log: &File, id: (u64, u64)) {
        if self.file.is_none() {
            // The log is made a moment before its index.
            *self = Self::open(path, 0, id);
        }
        let Some(file) = &self.file else { return };
        let length = file.metadata().map_or(0, |meta| meta.len());
        if length == self.loaded && self.index.is_some() {
            return;
        }
        let Ok(Some(index)) = Index::load(file, u64::MAX) else { return };
        // Asked after loading: a note is written before the line it is for.
        if log.metadata().is_ok_and(|meta| index.fits(meta.len())) {
            (self.index, self.loaded) = (Some(index), length);
        }
    }

    /// When the line that begins here was written.
    pub(super) fn at(&self, begins: u64) -> Option<Timestamp> {
        let ms = self.index.as_ref()?.time_of(begins)?;
        Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
    }
}

fn id_of(path: &LogPath, age: u32) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path.log(age)).ok().map(|meta| (meta.dev(), meta.ino()))
}
