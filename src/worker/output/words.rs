//! The last words of an incarnation: what it wrote just before it ended.
//!
//! Kept as raw bytes of everything read, dropped lines included: they explain a crash best just when a worker
//! wrote too much. Nothing is decoded before it is asked for.

/// Bytes kept: what a person reads in an incident, and what an event can carry.
const MAX_BYTES: usize = 4096;
/// Lines answered: a panic message or the end of a stack trace.
const MAX_LINES: usize = 5;

/// The newest bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    tail: Vec<u8>,
    cut: bool,
}

impl LastWords {
    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(MAX_BYTES)..];
        let too_many = (self.tail.len() + newest.len()).saturating_sub(MAX_BYTES);
        self.cut |= too_many > 0 || newest.len() < bytes.len();
        self.tail.drain(..too_many);
        self.tail.extend_from_slice(newest);
    }

    /// The last lines that are not blank, oldest first; forgets them.
    pub(super) fn take(&mut self) -> Vec<String> {
        let tail = std::mem::take(&mut self.tail);
        let whole = if std::mem::take(&mut self.cut) { without_fragment(&tail) } else { &tail[..] };
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let mut last: Vec<String> = lines.rev().take(MAX_LINES).map(text).collect();
        last.reverse();
        last
    }
}

/// Leaves out the end of a line whose start is gone, unless nothing else is there.
fn without_fragment(tail: &[u8]) -> &[u8] {
    match memchr::memchr(b'\n', tail) {
        Some(at) if at + 1 < tail.len() => &tail[at + 1..],
        Some(_) | None => tail,
    }
}

fn text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_five_lines_come_once_and_an_open_one_counts() {
        let mut words = LastWords::default();
        words.push(b"1\n2\n3\n\n4\r\n5\n");
        words.push(b"thread panicked: \xff");
        assert_eq!(words.take(), ["2", "3", "4", "5", "thread panicked: \u{fffd}"]);
        assert!(words.take().is_empty());
    }

    #[test]
    fn never_more_than_4_kib_however_much_comes() {
        let mut words = LastWords::default();
        for _ in 0..100 {
            words.push(&[b'x'; 5000]);
            words.push(b"y");
        }
        assert!(words.tail.len() <= MAX_BYTES && words.tail.capacity() <= 4 * MAX_BYTES);
        words.push(b"\nlast");
        assert_eq!(words.take(), ["last"]);
    }
}
