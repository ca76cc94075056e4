//! The runtime's own log, `logs/regrow.log`: lines of text or JSON, bounded in size.
//!
//! Lines that come before the state directory is known to be ours wait in memory: two runtimes must not write
//! into one file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::TelemetrySettings;

/// A full file is moved away …
const MAX_SIZE: u64 = 10 << 20;

/// … and this many old ones are kept.
const KEEP: u32 = 3;

/// How often it is looked whether somebody has removed it.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What waits at most for the file.
const MAX_WAITING: usize = 64 * 1024;

/// The log file; cheap to clone.
#[derive(Clone)]
pub(crate) struct LogFile {
    place: Arc<Mutex<Place>>,
    /// Whether each line is a JSON document.
    json: Arc<AtomicBool>,
    held: Arc<Mutex<Held>>,
}

/// Lines that are written in one go, while somebody has many.
#[derive(Default)]
struct Held {
    holders: u32,
    lines: Vec<u8>,
}

/// While it lives, lines gather; what has gathered is written when it goes.
pub(crate) struct Hold(LogFile);

enum Place {
    Waiting(Vec<u8>),
    Open(Open),
}

/// A file that is written to.
struct Open {
    path: PathBuf,
    file: File,
    size: u64,
    checked: Instant,
    /// When it could not be moved away although it is full.
    stuck: Option<Instant>,
    /// Pieces that it has not got since it took something last.
    missed: u64,
    json: bool,
}

impl LogFile {
    pub(crate) fn new() -> Self {
        Self {
            place: Arc::new(Mutex::new(Place::Waiting(Vec::new()))),
            json: Arc::default(),
            held: Arc::default(),
        }
    }

    /// Lets lines gather, for whoever is about to write many at once.
    pub(crate) fn hold(&self) -> Hold {
        self.held().holders += 1;
        Hold(self.clone())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file and writes what has waited.
    pub(crate) fn open(&self, path: &Path) -> std::io::Result<()> {
        let file = append_in(path)?;
        let size = file.metadata()?.len();
        let mut place = self.lock();
        let (path, checked) = (path.to_owned(), Instant::now());
        let json = self.json.load(Ordering::Relaxed);
        let opened = Place::Open(Open { path, file, size, checked, stuck: None, missed: 0, json });
        let before = std::mem::replace(&mut *place, opened);
        if let Place::Waiting(lines) = before {
            place.write(&lines);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes this the process's log. A second call in one process changes nothing.
pub(crate) fn install(settings: &TelemetrySettings, file: &LogFile) {
    file.json.store(settings.log_json, Ordering::Relaxed);
    // The actors' own spans would name each line after an actor's number, and cost memory for every worker.
    let level = format!("ractor=error,{}", settings.log_level);
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("ractor=error,info"));
    let base = tracing_subscriber::fmt().with_env_filter(filter).with_writer(file.clone()).with_ansi(false);
    // An error means that there is a subscriber already.
    let _ = if settings.log_json {
        tracing::subscriber::set_global_default(base.json().flatten_event(true).finish())
    } else {
        tracing::subscriber::set_global_default(base.finish())
    };
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        before(panic);
    }));
}

impl Place {
    fn write(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        match self {
            Self::Waiting(lines) if lines.len() + line.len() <= MAX_WAITING => lines.extend_from_slice(line),
            Self::Waiting(_) => {}
            Self::Open(open) => open.write(line),
        }
    }
}

impl Open {
    fn write(&mut self, line: &[u8]) {
        if !self.has_room(line.len() as u64) {
            self.missed += 1;
            return;
        }
        // One that was removed would take lines that nobody ever sees; one that was moved is somebody's wish.
        if self.checked.elapsed() >= CHECK_EVERY {
            self.checked = Instant::now();
            if self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
                && let Ok(fresh) = append_in(&self.path)
            {
                (self.file, self.size) = (fresh, 0);
            }
        }
        let gap = self.gap();
        if self.file.write_all(&[gap.as_bytes(), line].concat()).is_ok() {
            self.size += (gap.len() + line.len()) as u64;
            self.missed = 0;
        } else {
            self.missed += 1;
        }
    }

    /// What is said of the lines that are missing before the next one.
    fn gap(&self) -> String {
        let missed = self.missed;
        let message = format!("{missed} or more lines are missing here: this file could not be written");
        match (missed, self.json) {
            (0, _) => String::new(),
            (_, false) => format!("{message}\n"),
            (_, true) => {
                let timestamp = format!("{:.6}", jiff::Timestamp::now());
                let line = serde_json::json!({
                    "timestamp": timestamp, "level": "WARN", "message": message, "missing": missed,
                });
                format!("{line}\n")
            }
        }
    }

    /// Moves a full file away. What cannot be bounded is not written: a full disk hurts everybody. It is tried again,
    /// because a disk becomes free and a file system writable.
    fn has_room(&mut self, length: u64) -> bool {
        if self.size == 0 || self.size + length <= MAX_SIZE {
            return true;
        }
        if self.stuck.is_some_and(|at| at.elapsed() < CHECK_EVERY) {
            return false;
        }
        match rotate(&self.path) {
            Ok(fresh) => {
                (self.file, self.size, self.stuck) = (fresh, 0, None);
                true
            }
            Err(_) => {
                self.stuck = Some(Instant::now());
                false
            }
        }
    }
}

/// Opens the file and nothing else: who puts a link, a pipe or a device in its place gets no line.
pub(super) fn append(path: &Path) -> std::io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path);
    let strange = |what| std::io::Error::other(format!("it is {what}; remove it and start regrow again"));
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(strange("no regular file")),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Err(strange("a symbolic link")),
        // A pipe without a reader.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(strange("no regular file")),
        Err(error) => Err(error),
    }
}

/// The same, in a folder that is made if it is not there; not what is above it, which is not ours to make.
fn append_in(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    append(path)
}

fn rotate(path: &Path) -> std::io::Result<File> {
    let numbered = |number: u32| path.with_extension(format!("log.{number}"));
    for number in (1..KEEP).rev() {
        // A missing one leaves a gap, no harm.
        let _ = std::fs::rename(numbered(number), numbered(number + 1));
    }
    match std::fs::rename(path, numbered(1)) {
        // Somebody has taken it away, or it was moved before and nothing could take its place.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => append(path),
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut held = self.held();
        if held.holders > 0 && held.lines.len() + line.len() <= MAX_WAITING {
            held.lines.extend_from_slice(line);
        } else {
            // In this order, so that what gathered before stands before.
            self.lock().write(&std::mem::take(&mut held.lines));
            self.lock().write(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.0.held();
        held.holders -= 1;
        if held.holders == 0 {
            self.0.lock().write(&std::mem::take(&mut held.lines));
        }
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_held_are_written_together_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("regrow.log");
        let mut log = LogFile::new();
        log.open(&path).unwrap();
        let hold = log.hold();
        log.write_all(b"one\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        let long = [b'x'; MAX_WAITING];
        log.write_all(&long).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 + long.len() as u64, "held is bounded");
        log.write_all(b"two\n").unwrap();
        drop(hold);
        assert!(std::fs::read(&path).unwrap().ends_with(b"xtwo\n"));
    }

    #[test]
    fn what_stands_in_its_place_gets_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("regrow.log"), folder.path().join("somebodys"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let mut log = LogFile::new();
        let refused = log.open(&path).unwrap_err().to_string();
        assert!(refused.contains("a symbolic link; remove it"), "{refused}");
        log.write_all(b"a line\n").unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"kept");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        let refused = log.open(&path).unwrap_err().to_string();
        assert!(refused.contains("no regular file"), "{refused}");
    }

    #[test]
    fn a_file_that_cannot_be_moved_away_goes_on_once_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("regrow.log");
        let mut log = LogFile::new();
        log.open(&path).unwrap();
        log.write_all(&vec![b'x'; MAX_SIZE as usize]).unwrap();
        // A folder that is not empty cannot be replaced by a file.
        let blocked = folder.path().join("regrow.log.1");
        std::fs::create_dir_all(blocked.join("inside")).unwrap();
        std::fs::create_dir_all(folder.path().join("regrow.log.2/inside")).unwrap();
        std::fs::create_dir_all(folder.path().join("regrow.log.3/inside")).unwrap();
        log.write_all(b"missed\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), MAX_SIZE, "it stays bounded");
        std::fs::remove_dir_all(&blocked).unwrap();
        if let Place::Open(open) = &mut *log.lock() {
            open.stuck = None;
        }
        log.write_all(b"told\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "1 or more lines are missing here: this file could not be written\ntold\n");
        if let Place::Open(open) = &mut *log.lock() {
            (open.json, open.missed) = (true, 3);
            let gap: serde_json::Value = serde_json::from_str(&open.gap()).unwrap();
            assert_eq!((&gap["level"], &gap["missing"]), (&"WARN".into(), &3.into()), "{gap}");
        }
    }

    #[test]
    fn early_lines_wait_and_a_full_file_is_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/regrow.log");
        let mut log = LogFile::new();
        log.write_all(b"early\n").unwrap();
        log.open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"early\n");
        let big = vec![b'x'; MAX_SIZE as usize];
        for _ in 0..5 {
            log.write_all(&big).unwrap();
        }
        let names: Vec<_> = std::fs::read_dir(folder.path().join("logs")).unwrap().collect();
        assert_eq!(names.len(), 1 + KEEP as usize);
        assert_eq!(std::fs::read(&path).unwrap().len(), MAX_SIZE as usize);
    }
}
