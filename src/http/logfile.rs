//! Reads an instance's log file: its last lines, and what is written after them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use jiff::Timestamp;
use regex::bytes::Regex;

use crate::id::InstanceId;

use super::dto::LogLine;

/// How far back a question reaches into a file.
const FAR: u64 = 8 << 20;

/// Most new bytes taken at one look.
const AT_ONCE: u64 = 256 * 1024;

/// Which lines are wanted.
#[derive(Clone)]
pub(crate) struct Filter {
    pub(crate) tail: usize,
    pub(crate) since: Option<Timestamp>,
    pub(crate) grep: Option<Regex>,
}

/// One instance's log and the place up to which it was read.
pub(crate) struct LogReader {
    path: PathBuf,
    instance: InstanceId,
    filter: Filter,
    inode: u64,
    at: u64,
}

impl LogReader {
    pub(crate) fn new(path: PathBuf, instance: InstanceId, filter: Filter) -> Self {
        Self { path, instance, filter, inode: 0, at: 0 }
    }

    /// The newest lines that are kept. A log that is not there yet has none.
    pub(crate) fn kept(&mut self) -> Vec<LogLine> {
        let Ok(meta) = std::fs::metadata(&self.path) else { return Vec::new() };
        self.inode = meta.ino();
        self.at = meta.len().saturating_sub(FAR);
        let mut last = VecDeque::new();
        for line in self.read(FAR, self.at > 0) {
            if last.len() == self.filter.tail {
                last.pop_front();
            }
            if self.filter.tail > 0 {
                last.push_back(line);
            }
        }
        last.into()
    }

    /// Whole lines written since.
    pub(crate) fn fresh(&mut self) -> Vec<LogLine> {
        let Ok(meta) = std::fs::metadata(&self.path) else { return Vec::new() };
        if meta.ino() != self.inode || meta.len() < self.at {
            self.inode = meta.ino();
            self.at = 0;
        }
        if meta.len() == self.at { Vec::new() } else { self.read(AT_ONCE, false) }
    }

    fn read(&mut self, limit: u64, skip_first: bool) -> Vec<LogLine> {
        let Ok(mut file) = File::open(&self.path) else { return Vec::new() };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let mut reader = BufReader::new(file.take(limit));
        let mut buffer = Vec::new();
        let mut skip = skip_first;
        while reader.read_until(b'\n', &mut buffer).is_ok_and(|read| read > 0) {
            if buffer.last() != Some(&b'\n') {
                break;
            }
            self.at += buffer.len() as u64;
            buffer.pop();
            if !std::mem::take(&mut skip) && self.filter.grep.as_ref().is_none_or(|grep| grep.is_match(&buffer)) {
                lines.push(self.line(&buffer));
            }
            buffer.clear();
        }
        lines
    }

    fn line(&self, bytes: &[u8]) -> LogLine {
        let line = String::from_utf8_lossy(bytes).into_owned();
        LogLine { instance: self.instance.to_string(), at: None, line }
    }
}
