//! What a disk or a database refuses, in words that say what to do.

use rusqlite::ErrorCode;

/// Why something was not kept or not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No room. What is not kept now is tried again.
    #[error("the disk is full: free some room, or lower store.max_disk or store.retention")]
    Full,
    /// The file or its file system is read-only.
    #[error(
        "it may not be written: check who owns the state directory and whether its disk is mounted read-only"
    )]
    ReadOnly,
    /// It is no database any more.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// A newer program wrote it.
    #[error(
        "it has version {found}, and this program knows {known}: run the newer regrow, or move the file away"
    )]
    Newer {
        /// The version of the file.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// A value does not fit a record.
    #[error("it cannot be kept: {0}")]
    Unwritable(String),
    /// As much waits for the disk already as may wait; try again.
    #[error("the disk is too slow: too much waits for it already; try again")]
    Busy,
    /// The store is closed: the runtime ends, or has none.
    #[error("the store is closed")]
    Closed,
    /// Somebody has put another file in its place, whose last number is not known yet: ask for
    /// [`last_seq`](super::Store::last_seq), and number what comes behind that.
    #[error("another file has taken its place, and holds numbers of its own")]
    Another,
    /// Something else, in SQLite's words.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the file itself is at fault and no later try will help.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        let is = |kinds: [std::io::ErrorKind; 2]| kinds.contains(&error.kind());
        if is([std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded]) {
            return Self::Full;
        }
        if is([std::io::ErrorKind::ReadOnlyFilesystem, std::io::ErrorKind::PermissionDenied]) {
            return Self::ReadOnly;
        }
        Self::Failed(error.to_string())
    }
}
