//! The runtime's own log, `logs/regrow.log`: lines of text or JSON, bounded in size.
//!
//! Lines that come before the state directory is known to be ours wait in memory: two runtimes must not write
//! into one file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::TelemetrySettings;

/// A full file is moved away …
const MAX_SIZE: u64 = 10 << 20;

/// … and this many old ones are kept.
const KEEP: u32 = 3;

/// What waits at most for the file.
const MAX_WAITING: usize = 64 * 1024;

/// The log file; cheap to clone.
#[derive(Clone)]
pub(crate) struct LogFile {
    place: Arc<Mutex<Place>>,
}

enum Place {
    Waiting(Vec<u8>),
    Open { path: PathBuf, file: File, size: u64 },
    Lost,
}

impl LogFile {
    pub(crate) fn new() -> Self {
        Self { place: Arc::new(Mutex::new(Place::Waiting(Vec::new()))) }
    }

    /// Opens the file and writes what has waited.
    pub(crate) fn open(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        let mut place = self.lock();
        let before = std::mem::replace(&mut *place, Place::Open { path: path.to_owned(), file, size });
        if let Place::Waiting(lines) = before {
            place.write(&lines);
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes this the process's log. A second call in one process changes nothing.
pub(crate) fn install(settings: &TelemetrySettings, file: &LogFile) {
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
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
        match self {
            Self::Waiting(lines) if lines.len() + line.len() <= MAX_WAITING => lines.extend_from_slice(line),
            Self::Waiting(_) | Self::Lost => {}
            Self::Open { path, file, size } => {
                if *size > 0 && *size + line.len() as u64 > MAX_SIZE {
                    match rotate(path) {
                        Ok(fresh) => (*file, *size) = (fresh, 0),
                        Err(_) => {
                            // A log that cannot be bounded is not written: a full disk hurts everybody.
                            *self = Self::Lost;
                            return;
                        }
                    }
                }
                if file.write_all(line).is_ok() {
                    *size += line.len() as u64;
                }
            }
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn rotate(path: &Path) -> std::io::Result<File> {
    let numbered = |number: u32| path.with_extension(format!("log.{number}"));
    for number in (1..KEEP).rev() {
        // A missing one leaves a gap, no harm.
        let _ = std::fs::rename(numbered(number), numbered(number + 1));
    }
    std::fs::rename(path, numbered(1))?;
    append(path)
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.lock().write(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
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
