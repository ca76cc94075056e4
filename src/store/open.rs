//! Opening a file: made if it is not there, looked over, brought to the newest version; moved aside if it is no
//! database any more.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use super::home::{Home, is_same};
use super::schema::{Steps, migrate};

/// The WAL of older versions could damage a database; this one is the first that cannot.
const SQLITE: i32 = 3_051_003;

/// Files up to this size are looked over at every opening, which takes a tenth of a second. In larger ones damage is
/// found when it is met.
const LOOKED_OVER: u64 = 64 << 20;

/// Damaged files that are kept for whoever can still make sense of them.
const ASIDE: usize = 3;

/// Where things are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The state directory, which is there already.
    pub dir: PathBuf,
    /// SQLite's file layer, by the name it is registered under; `None`: the system's.
    pub vfs: Option<String>,
}

impl Options {
    /// Both files in this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), vfs: None }
    }
}

/// One of the files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Its directory.
    pub(super) home: Home,
    pub(super) name: &'static str,
    pub(super) steps: Steps,
    /// Whether every commit is synced.
    pub(super) synced: bool,
    pub(super) vfs: Option<String>,
}

impl Place {
    /// The way to it in the directory that is held, wherever that is by now.
    pub(super) fn path(&self) -> PathBuf {
        self.home.path().join(self.name)
    }

    /// Whether it is there with nothing in it, which no file is that was once begun.
    pub(super) fn is_empty(&self) -> bool {
        fs::metadata(self.path()).is_ok_and(|found| found.is_file() && found.len() == 0)
    }

    /// Opens it for writing.
    pub(super) fn open(&self) -> Result<Connection, StoreError> {
        let fresh = self.make()?;
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        if fresh {
            conn.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        }
        let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::Failed(format!("its journal is `{mode}` and cannot be a WAL")));
        }
        let synchronous = if self.synced { "FULL" } else { "NORMAL" };
        // The WAL shrinks to this after a checkpoint; a burst makes it larger for a while.
        conn.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA journal_size_limit = 16777216;"
        ))?;
        self.look_over(&conn)?;
        migrate(&conn, self.steps)?;
        if fresh {
            // A new file is there after a power cut only if its directory says so.
            File::open(self.home.path())?.sync_all()?;
        }
        Ok(conn)
    }

    /// Opens it for reading beside the writer.
    pub(super) fn open_to_read(&self) -> Result<Connection, StoreError> {
        self.connect(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens it alone and without the shared memory that two connections need: that takes no room on a full disk.
    pub(super) fn peek(&self) -> Result<Connection, StoreError> {
        let conn = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
        Ok(conn)
    }

    fn connect(&self, mode: OpenFlags) -> Result<Connection, StoreError> {
        if rusqlite::version_number() < SQLITE {
            let text = format!("SQLite {} is too old; regrow brings a newer one along", rusqlite::version());
            return Err(StoreError::Failed(text));
        }
        let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let path = self.home.by_name().join(self.name);
        let conn = match &self.vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs.as_str())?,
            None => Connection::open_with_flags(path, flags)?,
        };
        self.check(&conn)?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.execute_batch(
            "PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
             PRAGMA mmap_size = 0; PRAGMA cache_size = -256; PRAGMA temp_store = MEMORY;",
        )?;
        Ok(conn)
    }

    /// SQLite follows every link at the opening and goes by what it has found: between two looks that may have become
    /// another runtime's. Nothing was read or written yet.
    fn check(&self, conn: &Connection) -> Result<(), StoreError> {
        let ours = rustix::fs::stat(self.path()).map_err(std::io::Error::from)?;
        // A name that is no text cannot be asked for.
        let Some(opened) = conn.path() else { return Ok(()) };
        if rustix::fs::stat(opened).is_ok_and(|opened| is_same(&opened, &ours)) {
            return Ok(());
        }
        Err(StoreError::Failed(
            "its directory was moved away while it was opened; it is tried again".to_owned(),
        ))
    }

    /// Makes the file for its owner alone, whatever the umask; SQLite gives the WAL the same rights. True if it was
    /// not there or is empty.
    fn make(&self) -> Result<bool, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(self.path())?;
        Ok(file.metadata()?.len() == 0)
    }

    fn look_over(&self, conn: &Connection) -> Result<(), StoreError> {
        if fs::metadata(self.path())?.len() > LOOKED_OVER { Ok(()) } else { quick_check(conn) }
    }

    /// Looks a file over, whatever its size.
    pub(super) fn look_over_all(&self) -> Result<(), StoreError> {
        quick_check(&self.open_to_read()?)
    }

    /// Moves the file away with its date, and says what came of it.
    pub(super) fn set_aside(&self, why: &StoreError) -> Result<String, StoreError> {
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
        let path = self.path();
        let aside = with_suffix(&path, &format!(".corrupt-{now}"));
        fs::rename(&path, &aside)?;
        let wal = with_suffix(&path, "-wal");
        if wal.exists() {
            fs::rename(&wal, with_suffix(&aside, "-wal"))?;
        }
        // Shared memory holds nothing that the WAL does not.
        let _ = fs::remove_file(with_suffix(&path, "-shm"));
        File::open(self.home.path())?.sync_all()?;
        self.forget_the_oldest();
        Ok(format!(
            "{} could not be read ({why}); it was kept as {}, and a fresh one took its place: the history before is in the old file",
            self.name,
            aside.file_name().unwrap_or_default().to_string_lossy()
        ))
    }

    /// Removes what belongs to a file that is gone: read with the next one, it would damage that. What cannot be removed
    /// is met when that is opened.
    pub(super) fn remove_companions(&self) {
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(with_suffix(&self.path(), suffix));
        }
    }

    /// A disk that damages files again and again must not be filled with them. Best effort: the next time tries again.
    fn forget_the_oldest(&self) {
        let prefix = format!("{}.corrupt-", self.name);
        let Ok(entries) = fs::read_dir(self.home.path()) else { return };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix) && !name.ends_with("-wal")
            })
            .collect();
        found.sort();
        for old in found.iter().rev().skip(ASIDE) {
            let _ = fs::remove_file(old);
            let _ = fs::remove_file(with_suffix(old, "-wal"));
        }
    }
}

fn quick_check(conn: &Connection) -> Result<(), StoreError> {
    let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(StoreError::Damaged(found)) }
}

/// The path with something behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
