//! What `toml` says of a text that is no TOML, with the echoes left out.
//!
//! Its parser goes on after an error and guesses how. That shows several slips in one run, but one open bracket
//! also makes every line below look wrong; only what is not a consequence is kept.

use std::collections::HashSet;

use toml::de::Error as TomlError;

use super::diagnostic::Problem;
use super::document::{Document, Place};

/// Syntax errors shown of one file; the recovery guesses, and later guesses build on earlier ones.
const MAX_SYNTAX: usize = 10;

/// The syntax errors of one document as problems.
pub(super) fn problems(errors: &[TomlError], document: &Document, index: usize) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let (mut lines, mut messages) = (HashSet::new(), HashSet::new());
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let message = error.message().lines().next().unwrap_or("this is not TOML").to_owned();
        // One slip makes several errors on its line, and an open list one on every line below.
        let first_on_line = lines.insert(document.line_number(range.start));
        let in_list = message.contains("array");
        let again = in_list && !messages.insert("array");
        if first_on_line && !again && problems.len() < MAX_SYNTAX {
            let help = in_list.then_some("is a list above this line not closed? Each `[` needs its `]`");
            problems.push(Problem::new(Some(Place { document: index, range }), message).help_if(help));
        }
    }
    problems
}

/// What is found in a recovered text, without the lines whose syntax is wrong and those that an open list has
/// swallowed.
pub(super) fn beside(found: Vec<Problem>, errors: &[TomlError], document: &Document) -> Vec<Problem> {
    let line = |at: usize| document.line_number(at);
    let start = |error: &TomlError| line(error.span().map_or(0, |range| range.start));
    let torn: HashSet<usize> = errors.iter().map(start).collect();
    let swallowed = errors.iter().filter(|error| error.message().contains("array")).map(start).min();
    // The keys below a header that is no header belong to nobody.
    let headless: Vec<usize> =
        errors.iter().filter(|error| error.message().contains("table")).map(start).collect();
    let header_below = |from: usize| document.next_line_that(from, |line| line.trim_start().starts_with('['));
    let stands = |problem: &Problem| {
        let line = problem.place().map_or(0, |place| line(place.range.start));
        !torn.contains(&line)
            && swallowed.is_none_or(|from| line < from)
            && !headless
                .iter()
                .any(|from| *from < line && header_below(*from).is_none_or(|below| line < below))
    };
    found.into_iter().filter(stands).collect()
}
