//! What could not be read: whole files, and texts from their first slip on.
//!
//! A slip may swallow what stands below it, so nothing below is judged; what stands above it, or in another file, is.

use std::collections::HashMap;

use super::diagnostic::Problem;

/// The files that could not be read in full.
#[derive(Debug, Default)]
pub(super) struct Torn {
    whole: bool,
    from: HashMap<usize, usize>,
}

impl Torn {
    /// A file is not there or cannot be read.
    pub(super) fn file(&mut self) {
        self.whole = true;
    }

    /// The text of a document is broken; the first slip begins at this byte.
    pub(super) fn text(&mut self, document: usize, at: usize) {
        let from = self.from.entry(document).or_insert(at);
        *from = at.min(*from);
    }

    /// Whether anything is torn at all.
    pub(super) fn is_any(&self) -> bool {
        self.whole || !self.from.is_empty()
    }

    /// Whether a problem stands where the text is still whole.
    pub(super) fn spares(&self, problem: &Problem) -> bool {
        problem
            .place()
            .is_some_and(|place| self.from.get(&place.document).is_none_or(|from| place.range.end <= *from))
    }
}
