//! Texts that values come from, and places in them.
//!
//! The environment and the command line are documents too, one line per variable or flag, so that a bad
//! override is shown exactly as a bad line of a file is.

use std::ops::Range;

/// One text that values come from.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// What a person calls it: a path, `environment`, `command line`.
    pub(super) name: String,
    pub(super) text: String,
    pub(super) kind: DocumentKind,
    /// Where each line begins: a file of nothing but errors asks for many positions.
    lines: Vec<usize>,
}

/// What a document is; decides how an origin is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    /// The defaults that are built in.
    Default,
    /// A file, or a text handed in.
    File,
    /// `REGROW__…` variables, `NAME=value` by line.
    Environment,
    /// Flags, `key=value` by line.
    Flags,
}

/// A stretch of one document, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) document: usize,
    pub(super) range: Range<usize>,
}

/// Line and column of a place, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Document {
    pub(super) fn new(name: impl Into<String>, text: String, kind: DocumentKind) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { name: name.into(), text, kind, lines }
    }

    /// Where an offset is.
    pub(super) fn position(&self, offset: usize) -> Position {
        let offset = self.clamp(offset);
        let (start, line) = self.line_start(offset);
        let column = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        Position { line, column: column + 1 }
    }

    /// The number of the line an offset is in.
    pub(super) fn line_number(&self, offset: usize) -> usize {
        self.line_start(offset).1
    }

    /// The number of the first line below this one of which it is true.
    pub(super) fn next_line_that(&self, below: usize, holds: impl Fn(&str) -> bool) -> Option<usize> {
        self.text.lines().enumerate().skip(below).find(|(_, line)| holds(line)).map(|(index, _)| index + 1)
    }

    /// The line an offset is in, where it starts, and its number.
    pub(super) fn line(&self, offset: usize) -> (&str, usize, usize) {
        let (start, number) = self.line_start(self.clamp(offset));
        let rest = self.text.get(start..).unwrap_or_default();
        let line = rest.split('\n').next().unwrap_or_default();
        (line.strip_suffix('\r').unwrap_or(line), start, number)
    }

    /// The nearest character boundary at or before an offset.
    fn clamp(&self, offset: usize) -> usize {
        let mut at = offset.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// Where the line of an offset begins, and its number.
    fn line_start(&self, offset: usize) -> (usize, usize) {
        let number = self.lines.partition_point(|start| *start <= offset);
        let start = number.checked_sub(1).and_then(|index| self.lines.get(index)).copied();
        (start.unwrap_or(0), number.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "a = 1\nü = 2\r\nb".to_owned();
        let doc = Document::new("x", text, DocumentKind::File);
        assert_eq!(doc.position(0), Position { line: 1, column: 1 });
        assert_eq!(doc.position(9), Position { line: 2, column: 3 });
        assert_eq!(doc.position(7), Position { line: 2, column: 1 }, "inside a character: before it");
        assert_eq!(doc.line(9), ("ü = 2", 6, 2));
        assert_eq!(doc.position(999).line, 3);
    }
}
