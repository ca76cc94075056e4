//! One log file: opened on the first output, rotated by size, reopened after an error.
//!
//! Every write goes straight to the file (`O_APPEND`, no buffer of ours), so that nothing read is lost when the
//! runtime dies. Rotation renames `SLUG.log` to `SLUG.log.1` … `.keep`, each with its index, at the end of a line:
//! all files together take at most (keep + 1) × `max_size`, plus one line. With `keep = 0` the file is emptied.
//!
//! A file that somebody else moved or removed is noticed within a second of writing, and begun anew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::index::IndexWriter;

/// How often a file being written is checked for having been moved away: one `stat` a second costs nothing.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Opens the file to append to; tests put a failing one here.
pub(super) type Opener = Box<dyn FnMut(&Path) -> io::Result<File> + Send>;

/// Where a log lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogPath {
    /// Without its suffix: `logs/parser-0` or `logs/parser-0.err`.
    stem: PathBuf,
}

impl LogPath {
    pub(super) fn new(logs_dir: &Path, stem: &str) -> Self {
        Self { stem: logs_dir.join(stem) }
    }

    /// The log that is written (0), or the one rotated `age` times.
    pub(super) fn log(&self, age: u32) -> PathBuf {
        self.with(".log", age)
    }

    /// Its index.
    pub(super) fn index(&self, age: u32) -> PathBuf {
        self.with(".idx", age)
    }

    fn with(&self, suffix: &str, age: u32) -> PathBuf {
        let mut path = self.stem.clone().into_os_string();
        path.push(suffix);
        if age > 0 {
            path.push(format!(".{age}"));
        }
        PathBuf::from(path)
    }
}

/// A log file that is written.
pub(super) struct LogFile {
    path: LogPath,
    max_size: u64,
    keep: u32,
    opener: Opener,
    open: Option<Open>,
    index: Option<IndexWriter>,
    index_problem: Option<String>,
    /// Whether it is noted when its lines were written.
    indexed: bool,
    torn: bool,
}

struct Open {
    file: File,
    len: u64,
    id: (u64, u64),
    at_line_start: bool,
    checked: Instant,
}

impl LogFile {
    /// Opens nothing yet.
    pub(super) fn new(path: LogPath, max_size: u64, keep: u32) -> Self {
        Self::with_opener(path, max_size, keep, Box::new(open_log))
    }

    /// One whose lines say themselves when they were written.
    pub(super) fn plain(path: LogPath, max_size: u64, keep: u32) -> Self {
        // Nothing is known of who wrote last.
        Self { indexed: false, torn: true, ..Self::new(path, max_size, keep) }
    }

    /// The same with another way of opening.
    pub(super) fn with_opener(path: LogPath, max_size: u64, keep: u32, opener: Opener) -> Self {
        let max_size = max_size.max(1);
        let (open, index, index_problem) = (None, None, None);
        Self { path, max_size, keep, opener, open, index, index_problem, indexed: true, torn: false }
    }

    /// Writes whole lines or parts of one; `starts_line` ends a line that was left open. After an error the file
    /// is closed; the next write opens it again.
    pub(super) fn write(&mut self, bytes: &[u8], starts_line: bool) -> io::Result<()> {
        let written = self.try_write(bytes, starts_line);
        if written.is_err() {
            self.torn = true;
            self.close();
        }
        written
    }

    /// Why `--since` may show more than asked for; logging itself goes on.
    pub(super) fn index_problem(&self) -> Option<&str> {
        self.index_problem.as_deref()
    }

    /// Closes it; the next write opens it again.
    pub(super) fn close(&mut self) {
        self.open = None;
        self.index = None;
    }

    fn try_write(&mut self, mut bytes: &[u8], starts_line: bool) -> io::Result<()> {
        self.forget_if_moved()?;
        if starts_line && !self.open()?.at_line_start {
            self.append(b"\n")?;
        }
        while !bytes.is_empty() {
            let max_size = self.max_size;
            let open = self.open()?;
            let room = usize::try_from(max_size.saturating_sub(open.len)).unwrap_or(usize::MAX);
            let fits = if bytes.len() <= room { Some(bytes.len()) } else { line_end_within(bytes, room) };
            match fits {
                None if open.at_line_start && open.len > 0 => {
                    self.rotate()?;
                    continue;
                }
                // A line that is open, or that is longer than a whole file, stays in one file.
                None => {
                    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
                    self.append(&bytes[..end])?;
                    bytes = &bytes[end..];
                }
                Some(end) => {
                    self.append(&bytes[..end])?;
                    bytes = &bytes[end..];
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.open()?.at_line_start && self.indexed {
            self.note_time();
        }
        let open = self.open()?;
        open.file.write_all(bytes)?;
        open.len += bytes.len() as u64;
        open.at_line_start = bytes.last() == Some(&b'\n');
        Ok(())
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        match self.open {
            Some(ref mut open) => Ok(open),
            None => {
                let file = (self.opener)(&self.path.log(0))?;
                let meta = file.metadata()?;
                let at_line_start = !self.torn || ends_in_newline(&file, meta.len())?;
                self.torn = false;
                let id = (meta.dev(), meta.ino());
                let checked = Instant::now();
                Ok(self.open.insert(Open { file, len: meta.len(), id, at_line_start, checked }))
            }
        }
    }

    fn forget_if_moved(&mut self) -> io::Result<()> {
        let Some(open) = self.open.as_mut().filter(|open| open.checked.elapsed() >= CHECK_EVERY) else {
            return Ok(());
        };
        open.checked = Instant::now();
        let there = match fs::symlink_metadata(self.path.log(0)) {
            Ok(meta) => (meta.dev(), meta.ino()) == open.id,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if !there {
            self.close();
        }
        Ok(())
    }

    /// The index is a hint: its failures are shown, and never cost a line.
    fn note_time(&mut self) {
        let len = self.open.as_ref().map_or(0, |open| open.len);
        let index = match self.index.take() {
            Some(index) => Ok(index),
            None => IndexWriter::open(&self.path.index(0), len),
        };
        let noted = index.and_then(|mut index| index.note(now_ms(), len).map(|()| index));
        match noted {
            Ok(index) => {
                self.index = Some(index);
                self.index_problem = None;
            }
            Err(error) => {
                // An index with a hole would hide lines: better none.
                let removed = remove_if_there(&self.path.index(0)).err();
                let and = removed.map(|error| format!("; it cannot be removed either: {error}"));
                self.index_problem = Some(format!("time index: {error}{}", and.unwrap_or_default()));
            }
        }
    }

    /// Called at the end of a line only.
    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 0 {
            let open = self.open()?;
            open.file.set_len(0)?;
            open.len = 0;
            self.index = None;
            return remove_if_there(&self.path.index(0));
        }
        self.close();
        self.remove_beyond_keep()?;
        for age in (0..self.first_gap()).rev() {
            rename_if_there(&self.path.index(age), &self.path.index(age + 1))?;
            rename_if_there(&self.path.log(age), &self.path.log(age + 1))?;
        }
        Ok(())
    }

    /// The first age that is free; the oldest if none is: it is overwritten.
    fn first_gap(&self) -> u32 {
        (1..self.keep).find(|age| fs::symlink_metadata(self.path.log(*age)).is_err()).unwrap_or(self.keep)
    }

    /// Files of a time when `keep` was larger.
    fn remove_beyond_keep(&self) -> io::Result<()> {
        let mut age = self.keep + 1;
        while fs::symlink_metadata(self.path.log(age)).is_ok() {
            remove_if_there(&self.path.index(age))?;
            remove_if_there(&self.path.log(age))?;
            age += 1;
        }
        Ok(())
    }
}

fn line_end_within(bytes: &[u8], room: usize) -> Option<usize> {
    memchr::memrchr(b'\n', &bytes[..room]).map(|at| at + 1)
}

/// Never through a symbolic link, never a FIFO or device that somebody put there.
fn open_log(path: &Path) -> io::Result<File> {
    match try_open_log(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    // Somebody has removed the folder.
    match path.parent().map(|folder| fs::DirBuilder::new().mode(0o700).create(folder)) {
        Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Some(Ok(()) | Err(_)) | None => {}
    }
    try_open_log(path)
}

fn try_open_log(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn ends_in_newline(file: &File, len: u64) -> io::Result<bool> {
    let Some(last) = len.checked_sub(1) else { return Ok(true) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte[0] == b'\n')
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => remove_if_there(to),
        result => result,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Milliseconds since 1970 by the system's clock.
fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, max_size: u64, keep: u32) -> LogFile {
        LogFile::new(LogPath::new(dir, "a"), max_size, keep)
    }

    #[test]
    fn an_open_line_is_ended_before_the_next_one_and_a_long_one_stays_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 10, 2);
        log.write(b"open", true).unwrap();
        log.write(b" still", false).unwrap();
        log.write(b"next\n", true).unwrap();
        assert_eq!(fs::read(dir.path().join("a.log.1")).unwrap(), b"open still\n");
        log.write(b"longer than a file\nx\n", true).unwrap();
        assert_eq!(fs::read(dir.path().join("a.log.1")).unwrap(), b"longer than a file\n");
        assert_eq!(fs::read(dir.path().join("a.log")).unwrap(), b"x\n");
    }

    #[test]
    fn a_line_torn_by_a_failed_write_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 1000, 2);
        fs::write(dir.path().join("a.log"), "half").unwrap();
        log.torn = true;
        log.write(b"next\n", true).unwrap();
        assert_eq!(fs::read(dir.path().join("a.log")).unwrap(), b"half\nnext\n");
    }

    #[test]
    fn a_smaller_keep_removes_what_is_too_many() {
        let dir = tempfile::tempdir().unwrap();
        for age in 1..6 {
            fs::write(dir.path().join(format!("a.log.{age}")), "old").unwrap();
        }
        let mut log = log(dir.path(), 3, 2);
        log.write(b"1\n2\n", true).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".log"))
            .collect();
        left.sort();
        assert_eq!(left, ["a.log", "a.log.1", "a.log.2"]);
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 1000, 2);
        log.write(b"1\n", true).unwrap();
        fs::remove_file(dir.path().join("a.log")).unwrap();
        if let Some(open) = &mut log.open {
            open.checked -= CHECK_EVERY;
        }
        log.write(b"2\n", true).unwrap();
        assert_eq!(fs::read(dir.path().join("a.log")).unwrap(), b"2\n");
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir.path().join("logs"), 1000, 2);
        log.write(b"1\n", true).unwrap();
        assert_eq!(fs::read(dir.path().join("logs/a.log")).unwrap(), b"1\n");
        fs::remove_dir_all(dir.path().join("logs")).unwrap();
        if let Some(open) = &mut log.open {
            open.checked -= CHECK_EVERY;
        }
        log.write(b"2\n", true).unwrap();
        assert_eq!(fs::read(dir.path().join("logs/a.log")).unwrap(), b"2\n");
        assert_eq!(fs::metadata(dir.path().join("logs")).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_broken_index_costs_no_line() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a.idx")).unwrap();
        let mut log = log(dir.path(), 1000, 2);
        log.write(b"1\n", true).unwrap();
        assert!(log.index_problem().unwrap().starts_with("time index: "));
        assert_eq!(fs::read(dir.path().join("a.log")).unwrap(), b"1\n");
    }
}
