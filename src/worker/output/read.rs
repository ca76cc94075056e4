//! Finds lines in logs again: the last N, those since a moment, those that match, across rotated files.
//!
//! It reads files, not the runtime, so that `logs` works while the runtime is down. Files are opened first and read
//! then: a rotation in between neither loses nor repeats a line. `--since` goes by the time index and by the files'
//! own times; where both are missing it shows more, never less.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;

use super::file::LogPath;
use super::follow::LogFollower;
use super::index::Index;
use crate::id::InstanceId;

/// Which of a worker's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamName {
    /// stdout, with stderr in it unless that has a log of its own.
    Stdout,
    /// stderr, where `log.stderr = "separate"`.
    Stderr,
}

impl StreamName {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The file name of its log without a suffix.
    pub(super) fn stem(self, instance: &InstanceId) -> String {
        match self {
            Self::Stdout => instance.slug(),
            // No name contains a dot: it cannot be another worker's log.
            Self::Stderr => format!("{}.err", instance.slug()),
        }
    }
}

/// One line of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLine<'a> {
    /// As it was written, without its line end.
    pub text: &'a [u8],
    /// When it was written: exact for the first line of a second, up to a second too early for the others (more for
    /// logs of months). `None` without a time index.
    pub at: Option<Timestamp>,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Only the last so many, of those that match.
    pub tail: Option<usize>,
    /// Only those that match.
    pub grep: Option<regex::bytes::Regex>,
}

/// The log of one stream of one instance.
#[derive(Debug, Clone)]
pub struct LogReader {
    path: LogPath,
}

impl LogReader {
    /// A log that may or may not exist.
    #[must_use]
    pub fn new(logs_dir: &Path, instance: &InstanceId, name: StreamName) -> Self {
        Self { path: LogPath::new(logs_dir, &name.stem(instance)) }
    }

    /// Hands over the lines that are wanted, oldest first, without their line ends. The follower that it answers goes
    /// on where this ended; it also holds a line that is not finished yet ([`LogFollower::finish`]).
    ///
    /// # Errors
    /// A file cannot be read, or `each` failed.
    pub fn read(
        &self,
        query: &LogQuery,
        mut each: impl FnMut(ReadLine<'_>) -> io::Result<()>,
    ) -> io::Result<LogFollower> {
        let mut parts = self.parts(query.since)?;
        let mut skip = 0;
        match (query.tail, &query.grep) {
            (None, _) => {}
            (Some(tail), None) => keep_last_lines(&mut parts, tail)?,
            (Some(tail), Some(pattern)) => skip = count(&parts, pattern)?.saturating_sub(tail),
        }
        let mut follower = LogFollower::new(self.path.clone(), query.grep.clone());
        for part in parts {
            follower.begin(part.file, part.id, part.age, part.from);
            follower.read_to(part.to, &mut |line| {
                if skip > 0 {
                    skip -= 1;
                    return Ok(());
                }
                each(line)
            })?;
        }
        Ok(follower)
    }

    /// The files that can hold wanted lines, oldest first; always the one that is written, if it is there.
    fn parts(&self, since: Option<Timestamp>) -> io::Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        for age in 0.. {
            let Some(mut part) = Part::open(&self.path, age)? else {
                // The log itself is missing for a moment in a rotation.
                if age == 0 { continue } else { break }
            };
            if parts.iter().any(|known| known.id == part.id) {
                continue;
            }
            let complete = since.is_some_and(|since| part.skip_older(&self.path, age, since));
            parts.push(part);
            if complete {
                break;
            }
        }
        parts.reverse();
        Ok(parts)
    }
}

/// An open file and the range of it that is wanted.
struct Part {
    file: File,
    id: (u64, u64),
    age: u32,
    from: u64,
    to: u64,
}

impl Part {
    fn open(path: &LogPath, age: u32) -> io::Result<Option<Self>> {
        let file = match open_to_read(&path.log(age)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        Ok(Some(Self { file, id: (meta.dev(), meta.ino()), age, from: 0, to: meta.len() }))
    }

    /// Moves the start behind what is older; whether every older file is too old altogether.
    fn skip_older(&mut self, path: &LogPath, age: u32, since: Timestamp) -> bool {
        let since_ms = u64::try_from(since.as_millisecond()).unwrap_or(0);
        // A file without a time was written just now, as far as anybody knows.
        let last_write = self.file.metadata().and_then(|meta| meta.modified()).ok();
        if last_write.is_some_and(|at| at < UNIX_EPOCH + Duration::from_millis(since_ms)) {
            self.from = self.to;
            return true;
        }
        // An index that cannot be read is like none: the whole file is shown.
        let index =
            open_to_read(&path.index(age)).and_then(|file| Index::load(&file, self.to)).ok().flatten();
        match index.and_then(|index| index.seek(since_ms, self.to)) {
            Some(from) => {
                self.from = from;
                true
            }
            None => false,
        }
    }
}

pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Moves the starts so that `wanted` lines are left.
fn keep_last_lines(parts: &mut [Part], wanted: usize) -> io::Result<()> {
    let mut left = wanted;
    for part in parts.iter_mut().rev() {
        let found = keep_last(part, left)?;
        left -= found.min(left);
    }
    Ok(())
}

/// Looks for line ends from the back; answers how many lines are left in the part.
fn keep_last(part: &mut Part, wanted: usize) -> io::Result<usize> {
    if wanted == 0 || part.from == part.to {
        part.from = part.to;
        return Ok(0);
    }
    let mut block = vec![0; 64 * 1024];
    // The end of the last line begins no line.
    let mut end = part.to - 1;
    let mut found = 0;
    while end > part.from {
        let start = end.saturating_sub(block.len() as u64).max(part.from);
        let bytes = &mut block[..(end - start) as usize];
        part.file.read_exact_at(bytes, start)?;
        for at in memchr::memrchr_iter(b'\n', bytes) {
            found += 1;
            if found == wanted {
                part.from = start + at as u64 + 1;
                return Ok(found);
            }
        }
        end = start;
    }
    Ok(found + 1)
}

fn count(parts: &[Part], pattern: &regex::bytes::Regex) -> io::Result<usize> {
    let mut matching = 0;
    let mut cutter = LineCutter::default();
    for part in parts {
        let mut at = part.from;
        let mut block = vec![0; 64 * 1024];
        while at < part.to {
            let length = block.len().min((part.to - at) as usize);
            let read = part.file.read_at(&mut block[..length], at)?;
            if read == 0 {
                break;
            }
            cutter.feed(&block[..read], at, &mut |line, _| {
                matching += usize::from(pattern.is_match(line));
                Ok(())
            })?;
            at += read as u64;
        }
    }
    Ok(matching)
}

/// Longest line handed over in one piece. Our own logs have shorter ones; a foreign file must not fill the memory.
const MAX_SHOWN_LINE: usize = 1024 * 1024;

/// Puts lines together from blocks.
#[derive(Debug, Default)]
pub(super) struct LineCutter {
    open: Vec<u8>,
    /// Where the open line begins.
    begins: u64,
}

/// Takes a line and the place in its file where it begins.
pub(super) type EachLine<'a> = &'a mut dyn FnMut(&[u8], u64) -> io::Result<()>;

impl LineCutter {
    /// Hands over every line that ends in `bytes`, which stand at `at`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut at: u64, each: EachLine<'_>) -> io::Result<()> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.open.is_empty() {
                each(&bytes[..end], at)?;
            } else {
                self.open.extend_from_slice(&bytes[..end]);
                self.finish(each)?;
            }
            bytes = &bytes[end + 1..];
            at += end as u64 + 1;
        }
        if self.open.is_empty() {
            self.begins = at;
        }
        self.open.extend_from_slice(bytes);
        if self.open.len() >= MAX_SHOWN_LINE { self.finish(each) } else { Ok(()) }
    }

    /// Hands over what is left of a line.
    pub(super) fn finish(&mut self, each: EachLine<'_>) -> io::Result<()> {
        let line = std::mem::take(&mut self.open);
        if line.is_empty() { Ok(()) } else { each(&line, self.begins) }
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
