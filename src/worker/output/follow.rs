//! Follows a log that is being written, through its rotations.
//!
//! There is no cheap event for "a file grew" that also sees rotations, so the caller decides when to look: each call
//! hands over what was appended since the last one. The file that is read stays open, so that its rest is read even if
//! it was renamed meanwhile; its place among the rotated ones tells which file comes next. With `keep = 0` there is no
//! such trace: if the emptied file has grown past the old place by the next call, lines in between are missed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::file::LogPath;
use super::read::{LineCutter, ReadLine, open_to_read};
use super::times::Times;

/// Most that one call reads: a caller that shows a flood must get the chance to stop.
const MAX_PER_CALL: u64 = 8 * 1024 * 1024;
/// Oldest rotated file that is looked for. Nobody keeps more, and a look-up must end.
const MAX_AGE: u32 = 10_000;

/// A place in a log, from which reading goes on.
#[derive(Debug)]
pub struct LogFollower {
    path: LogPath,
    grep: Option<regex::bytes::Regex>,
    current: Option<Current>,
    cutter: LineCutter,
}

#[derive(Debug)]
struct Current {
    file: File,
    id: (u64, u64),
    at: u64,
    times: Times,
}

/// What comes after the file that is read.
enum Next {
    /// It is still the one that is written.
    Same,
    /// This rotated one, or the log itself (0).
    Age(u32),
    /// Nothing yet.
    Wait,
}

impl LogFollower {
    pub(super) fn new(path: LogPath, grep: Option<regex::bytes::Regex>) -> Self {
        Self { path, grep, current: None, cutter: LineCutter::default() }
    }

    pub(super) fn begin(&mut self, file: File, id: (u64, u64), age: u32, from: u64) {
        let times = Times::open(&self.path, age, id);
        self.current = Some(Current { file, id, at: from, times });
    }

    /// Hands over the lines that were finished since the last call, without their line ends. True if there is more
    /// already: call again without waiting.
    ///
    /// # Errors
    /// A file cannot be read, or `each` failed.
    pub fn read(&mut self, mut each: impl FnMut(ReadLine<'_>) -> io::Result<()>) -> io::Result<bool> {
        let mut left = MAX_PER_CALL;
        while left > 0 {
            let next = self.next()?;
            // Read after looking: a file that was rotated by then gets nothing more.
            left -= self.read_more(left, &mut each)?;
            match next {
                Next::Same | Next::Wait => return Ok(left == 0),
                Next::Age(age) if left > 0 => self.go_to(age)?,
                Next::Age(_) => {}
            }
        }
        Ok(true)
    }

    /// Hands over a line that is not finished yet, if there is one.
    ///
    /// # Errors
    /// `each` failed.
    pub fn finish(mut self, mut each: impl FnMut(ReadLine<'_>) -> io::Result<()>) -> io::Result<()> {
        let grep = self.grep.take();
        let current = self.current;
        self.cutter.finish(&mut |text, begins| {
            let at = current.as_ref().and_then(|current| current.times.at(begins));
            if wanted(grep.as_ref(), text) { each(ReadLine { text, at }) } else { Ok(()) }
        })
    }

    /// Reads the current file up to `to`.
    pub(super) fn read_to(
        &mut self,
        to: u64,
        each: &mut dyn FnMut(ReadLine<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let from = self.current.as_ref().map_or(to, |current| current.at);
        self.read_more(to.saturating_sub(from), each).map(drop)
    }

    fn read_more(
        &mut self,
        most: u64,
        each: &mut dyn FnMut(ReadLine<'_>) -> io::Result<()>,
    ) -> io::Result<u64> {
        let Some(current) = &mut self.current else { return Ok(0) };
        let length = current.file.metadata()?.len();
        // Emptied (`keep = 0`): it starts again.
        if length < current.at {
            current.at = 0;
            current.times = Times::default();
        }
        if length > current.at {
            current.times.refresh(&self.path, &current.file, current.id);
        }
        let times = &current.times;
        let grep = self.grep.as_ref();
        let mut block = vec![0; 64 * 1024];
        let mut total = 0;
        while total < most {
            let length = block.len().min(usize::try_from(most - total).unwrap_or(usize::MAX));
            let read = current.file.read_at(&mut block[..length], current.at)?;
            if read == 0 {
                break;
            }
            let mut each = |text: &[u8], begins: u64| {
                if wanted(grep, text) { each(ReadLine { text, at: times.at(begins) }) } else { Ok(()) }
            };
            self.cutter.feed(&block[..read], current.at, &mut each)?;
            current.at += read as u64;
            total += read as u64;
        }
        Ok(total)
    }

    fn next(&self) -> io::Result<Next> {
        let Some(current) = &self.current else {
            return Ok(if self.id_of(0)?.is_some() { Next::Age(0) } else { Next::Wait });
        };
        if self.id_of(0)? == Some(current.id) {
            return Ok(Next::Same);
        }
        let mut oldest = 0;
        for age in 1..MAX_AGE {
            match self.id_of(age)? {
                Some(id) if id == current.id => return self.if_there(age - 1),
                Some(_) => oldest = age,
                None => break,
            }
        }
        // It was removed: every file that is left is newer.
        self.if_there(oldest)
    }

    fn if_there(&self, age: u32) -> io::Result<Next> {
        Ok(if self.id_of(age)?.is_some() { Next::Age(age) } else { Next::Wait })
    }

    fn go_to(&mut self, age: u32) -> io::Result<()> {
        let file = match open_to_read(&self.path.log(age)) {
            Ok(file) => file,
            // Rotated just now: the next look finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        let id = (meta.dev(), meta.ino());
        if self.current.as_ref().is_none_or(|current| current.id != id) {
            self.begin(file, id, age, 0);
        }
        Ok(())
    }

    fn id_of(&self, age: u32) -> io::Result<Option<(u64, u64)>> {
        match std::fs::symlink_metadata(self.path.log(age)) {
            Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn wanted(grep: Option<&regex::bytes::Regex>, line: &[u8]) -> bool {
    grep.is_none_or(|pattern| pattern.is_match(line))
}
