//! The sidecar `SLUG.idx`: when which part of a log was written, so that `logs --since` needs no timestamps in it.
//!
//! Entries of 16 bytes, little endian: milliseconds since 1970 and an offset in the log. The first entry is a header:
//! a magic number and the interval. Whatever lies between two entries was written less than an interval after
//! the first of them. At [`MAX_ENTRIES`] every second entry goes and the interval doubles, so the index stays below
//! 1 MiB and a log of months is found to the minute.
//!
//! The index is a hint: torn, missing, or older than a failure it degrades to "the whole file", never to less than
//! was asked for. Nothing of it is ever needed to write a log.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: u64 = u64::from_le_bytes(*b"regrow-i");
const ENTRY: usize = 16;
/// 1 MiB: 18 hours at one entry a second before the first thinning.
const MAX_ENTRIES: usize = 65_536;
/// At most one entry a second: what people give to `--since`.
const INTERVAL_MS: u64 = 1000;

/// The index of the log that is being written.
#[derive(Debug)]
pub(super) struct IndexWriter {
    file: File,
    count: usize,
    interval: u64,
    last_ms: Option<u64>,
}

impl IndexWriter {
    /// Opens or begins the index of a log of `log_len` bytes. An index that does not fit the log begins anew.
    pub(super) fn open(path: &Path, log_len: u64) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("the time index is not a regular file"));
        }
        let known = Index::load(&file, log_len)?;
        let mut writer = Self { file, count: 0, interval: INTERVAL_MS, last_ms: None };
        match known {
            Some(known) if known.intact => writer.resume(&known),
            Some(_) | None => writer.restart()?,
        }
        Ok(writer)
    }

    /// Notes that what comes next is written at `now_ms` to `offset`, if the last note is an interval old.
    pub(super) fn note(&mut self, now_ms: u64, offset: u64) -> io::Result<()> {
        let now_ms = self.last_ms.map_or(now_ms, |last| last.max(now_ms));
        if self.last_ms.is_some_and(|last| now_ms < last + self.interval) {
            return Ok(());
        }
        if self.count >= MAX_ENTRIES {
            self.thin()?;
        }
        self.file.write_all(&encode(now_ms, offset))?;
        self.count += 1;
        self.last_ms = Some(now_ms);
        Ok(())
    }

    /// Begins anew: nothing is known about the log so far.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.count, self.interval, self.last_ms) = (0, INTERVAL_MS, None);
        self.file.write_all(&encode(MAGIC, INTERVAL_MS))
    }

    /// Goes on where an earlier runtime left off. The next note is written whatever its time.
    fn resume(&mut self, known: &Index) {
        self.count = known.entries.len();
        self.interval = known.interval;
    }

    fn thin(&mut self) -> io::Result<()> {
        let known = Index::load(&self.file, u64::MAX)?;
        let kept = known.map(|known| known.entries).unwrap_or_default();
        self.interval *= 2;
        let mut bytes = encode(MAGIC, self.interval).to_vec();
        let halved: Vec<_> = kept.iter().step_by(2).collect();
        for (ms, offset) in &halved {
            bytes.extend_from_slice(&encode(*ms, *offset));
        }
        self.count = halved.len();
        self.file.set_len(0)?;
        self.file.write_all(&bytes)
    }
}

fn encode(first: u64, second: u64) -> [u8; ENTRY] {
    let mut bytes = [0; ENTRY];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    bytes
}

/// An index as read.
#[derive(Debug)]
pub(super) struct Index {
    interval: u64,
    entries: Vec<(u64, u64)>,
    intact: bool,
}

impl Index {
    /// Reads the index of a log of `log_len` bytes; `None` if it is none. Entries that make no sense end it.
    pub(super) fn load(file: &File, log_len: u64) -> io::Result<Option<Self>> {
        let mut bytes = vec![0; file.metadata()?.len().min(((MAX_ENTRIES + 2) * ENTRY) as u64) as usize];
        let read = read_up_to(file, &mut bytes)?;
        let (whole, rest) = bytes[..read].as_chunks::<ENTRY>();
        let mut pairs = whole.iter().map(decode);
        let Some((MAGIC, interval)) = pairs.next() else { return Ok(None) };
        let mut index = Self { interval: interval.max(1), entries: Vec::new(), intact: rest.is_empty() };
        for (ms, offset) in pairs {
            let ascends = index.entries.last().is_none_or(|last| last.0 <= ms && last.1 <= offset);
            if !ascends || offset > log_len {
                index.intact = false;
                break;
            }
            index.entries.push((ms, offset));
        }
        Ok(Some(index))
    }

    /// Where what was written at `since_ms` or later begins: `None` if that may be before this log's first entry.
    pub(super) fn seek(&self, since_ms: u64, log_len: u64) -> Option<u64> {
        let after = self.entries.partition_point(|entry| entry.0 <= since_ms);
        let at = after.checked_sub(1)?;
        let (ms, offset) = self.entries[at];
        if since_ms < ms.saturating_add(self.interval) {
            return Some(offset);
        }
        match self.entries.get(after) {
            Some(next) => Some(next.1),
            None if self.intact => Some(log_len),
            None => Some(offset),
        }
    }

    /// Whether it can be the index of a log of this length.
    pub(super) fn fits(&self, log_len: u64) -> bool {
        self.entries.last().is_none_or(|last| last.1 <= log_len)
    }

    /// When what stands at `offset` was written, at most an interval too early; `None`: before the first note, or
    /// behind the last one of a torn index.
    pub(super) fn time_of(&self, offset: u64) -> Option<u64> {
        let after = self.entries.partition_point(|entry| entry.1 <= offset);
        let last = after == self.entries.len();
        let (ms, _) = *self.entries.get(after.checked_sub(1)?)?;
        (self.intact || !last).then_some(ms)
    }
}

fn decode(entry: &[u8; ENTRY]) -> (u64, u64) {
    let (mut first, mut second) = ([0; 8], [0; 8]);
    first.copy_from_slice(&entry[..8]);
    second.copy_from_slice(&entry[8..]);
    (u64::from_le_bytes(first), u64::from_le_bytes(second))
}

fn read_up_to(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(path: &Path, log_len: u64) -> Option<Index> {
        Index::load(&File::open(path).unwrap(), log_len).unwrap()
    }

    #[test]
    fn a_time_is_found_to_the_second_and_quiet_hours_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.idx");
        let mut writer = IndexWriter::open(&path, 0).unwrap();
        for (ms, offset) in [(10_000, 0), (10_500, 50), (11_000, 100), (60_000, 200)] {
            writer.note(ms, offset).unwrap();
        }
        let index = load(&path, 300).unwrap();
        assert_eq!(index.seek(9_999, 300), None, "older than this log");
        assert_eq!(index.seek(10_400, 300), Some(0));
        assert_eq!(index.seek(11_999, 300), Some(100));
        assert_eq!(index.seek(30_000, 300), Some(200));
        assert_eq!(index.seek(99_000, 300), Some(300), "nothing was written since");
        assert_eq!((index.time_of(60), index.time_of(100)), (Some(10_000), Some(11_000)));
        assert_eq!(index.time_of(299), Some(60_000));
    }

    #[test]
    fn a_torn_or_foreign_index_begins_anew_and_never_hides_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.idx");
        IndexWriter::open(&path, 0).unwrap().note(1000, 0).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
        assert_eq!(load(&path, 10).unwrap().seek(9000, 10), Some(0), "not the end: notes may be missing");
        assert_eq!(load(&path, 10).unwrap().time_of(5), None, "nor the time of the last note");
        IndexWriter::open(&path, 10).unwrap();
        assert_eq!(load(&path, 10).unwrap().seek(9000, 10), None);
        std::fs::write(&path, b"something else altogether").unwrap();
        assert!(load(&path, 10).is_none());
    }

    #[test]
    fn a_log_of_weeks_keeps_a_small_index() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.idx");
        let mut writer = IndexWriter::open(&path, 0).unwrap();
        for second in 0..200_000_u64 {
            writer.note(second * 1000, second).unwrap();
        }
        assert!(path.metadata().unwrap().len() <= ((MAX_ENTRIES + 1) * ENTRY) as u64);
        let found = load(&path, 200_000).unwrap().seek(150_000_000, 200_000).unwrap();
        assert!((149_990..=150_000).contains(&found), "{found}");
    }
}
