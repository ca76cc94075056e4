//! Cuts a stream of bytes into pieces that end at line ends, and splits lines that are too long.
//!
//! It looks at bytes only and buffers none: a piece borrows from what was read. Many short lines are one piece, so
//! that a flood costs two SIMD searches and one count per 64 KiB, not a step per line.

/// Ends a part of a line that was longer than `max_line`; the rest follows on the next line.
pub const SPLIT_MARK: &str = " …[line split]\n";

/// Some of the output, never across the start of a line that was open before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The bytes as they came.
    pub(super) bytes: &'a [u8],
    /// Whether it starts at the start of a line.
    pub(super) starts_line: bool,
    /// Whether it ends where a line was split.
    pub(super) split: bool,
    /// Lines that end in it, a split one included.
    pub(super) ended: u64,
}

/// Where the stream is within a line.
#[derive(Debug)]
pub(super) struct Splitter {
    max: usize,
    column: usize,
}

impl Splitter {
    /// At the start of a line.
    pub(super) fn new(max_line: u64) -> Self {
        let max = usize::try_from(max_line).unwrap_or(usize::MAX).max(1);
        Self { max, column: 0 }
    }

    /// Forgets an open line: what comes next starts a new one.
    pub(super) fn reset(&mut self) {
        self.column = 0;
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.column > 0
    }

    /// Takes the next piece off the front of `data`; `None` once it is used up.
    pub(super) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Option<Piece<'a>> {
        if data.is_empty() {
            return None;
        }
        let window = &data[..data.len().min(self.max)];
        let piece = if self.column > 0 { self.rest_of_line(window) } else { self.fresh_lines(window) };
        *data = &data[piece.bytes.len()..];
        Some(piece)
    }

    /// The open line up to its end, or to the longest it may be.
    fn rest_of_line<'a>(&mut self, window: &'a [u8]) -> Piece<'a> {
        let newline = memchr::memchr(b'\n', window);
        let length = newline.unwrap_or(window.len());
        let room = self.max - self.column;
        if length > room {
            self.column = 0;
            return Piece { bytes: &window[..room], starts_line: false, split: true, ended: 1 };
        }
        match newline {
            Some(at) => {
                self.column = 0;
                Piece { bytes: &window[..=at], starts_line: false, split: false, ended: 1 }
            }
            None => {
                self.column += length;
                Piece { bytes: window, starts_line: false, split: false, ended: 0 }
            }
        }
    }

    /// All lines that end in the window, else its start of a line. No line in it can be too long: the window is not.
    fn fresh_lines<'a>(&mut self, window: &'a [u8]) -> Piece<'a> {
        match memchr::memrchr(b'\n', window) {
            Some(at) => {
                let bytes = &window[..=at];
                let ended = memchr::memchr_iter(b'\n', bytes).count() as u64;
                Piece { bytes, starts_line: true, split: false, ended }
            }
            None => {
                self.column = window.len();
                Piece { bytes: window, starts_line: true, split: false, ended: 0 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(max: u64, chunks: &[&[u8]]) -> Vec<(Vec<u8>, bool, bool, u64)> {
        let mut splitter = Splitter::new(max);
        let mut all = Vec::new();
        for mut chunk in chunks.iter().copied() {
            while let Some(piece) = splitter.next(&mut chunk) {
                all.push((piece.bytes.to_vec(), piece.starts_line, piece.split, piece.ended));
            }
        }
        all
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_split_and_one_more_byte_is() {
        assert_eq!(
            pieces(4, &[b"abcd", b"\n"]),
            [(b"abcd".to_vec(), true, false, 0), (b"\n".to_vec(), false, false, 1)]
        );
        assert_eq!(
            pieces(4, &[b"abcde\n"]),
            [
                (b"abcd".to_vec(), true, false, 0),
                (Vec::new(), false, true, 1),
                (b"e\n".to_vec(), true, false, 1)
            ]
        );
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_no_line_is_longer_than_the_limit(
            max in 1_u64..40,
            chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..80), 0..8),
        ) {
            let borrowed: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let pieces = pieces(max, &borrowed);
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.0.clone()).collect();
            prop_assert_eq!(&bytes, &chunks.concat());
            let mut marked = Vec::new();
            let mut ended = 0;
            for (bytes, _, split, lines) in pieces {
                marked.extend_from_slice(&bytes);
                if split {
                    marked.push(b'\n');
                }
                ended += lines;
            }
            prop_assert!(marked.split(|byte| *byte == b'\n').all(|line| line.len() as u64 <= max));
            prop_assert_eq!(ended, marked.iter().filter(|byte| **byte == b'\n').count() as u64);
        }
    }
}
