//! Two answers to one trace, side by side.

use std::fmt;

/// Splits a trace, or the answer to one, into its cases: each begins with a `sup` line.
pub(crate) fn cases(text: &str) -> Vec<String> {
    let mut cases: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let begins = line.strip_prefix("> ").unwrap_or(line).starts_with("sup ");
        if begins || cases.is_empty() {
            cases.push(String::new());
        }
        if let Some(case) = cases.last_mut() {
            case.push_str(line);
            case.push('\n');
        }
    }
    cases
}

/// A case that is answered in two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its place in the trace, from 0.
    pub(crate) number: usize,
    /// The case.
    pub(crate) trace: String,
    /// What should be said.
    pub(crate) expected: String,
    /// What was said.
    pub(crate) answered: String,
}

/// All cases of `trace` whose two answers differ.
pub(crate) fn differences(trace: &str, expected: &str, answered: &str) -> Vec<Difference> {
    let (expected, answered) = (cases(expected), cases(answered));
    let of = |answers: &[String], number: usize| answers.get(number).cloned().unwrap_or_default();
    cases(trace)
        .into_iter()
        .enumerate()
        .map(|(number, trace)| Difference {
            number,
            trace,
            expected: of(&expected, number),
            answered: of(&answered, number),
        })
        .filter(|case| case.expected != case.answered)
        .collect()
}

/// The case with one line less, for every line but the first.
pub(crate) fn shorter(case: &str) -> Vec<String> {
    let lines: Vec<&str> = case.lines().collect();
    (1..lines.len())
        .map(|out| {
            lines
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != out)
                .map(|(_, line)| format!("{line}\n"))
                .collect()
        })
        .collect()
}

/// Takes lines away from a differing case as long as it still differs. `answer` gives both answers, the
/// expected one first, to a trace of many cases.
pub(crate) fn shrink(mut found: Difference, answer: impl Fn(&str) -> (String, String)) -> Difference {
    loop {
        let trace = shorter(&found.trace).concat();
        let (expected, answered) = answer(&trace);
        match differences(&trace, &expected, &answered).into_iter().next() {
            Some(smaller) => found = Difference { number: found.number, ..smaller },
            None => return found,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut ours, mut theirs) = (self.answered.lines(), self.expected.lines());
        writeln!(
            f,
            "case {}:\n{}\nErlang | regrow, from the first line that differs:",
            self.number, self.trace
        )?;
        let mut differs = false;
        loop {
            let (their, our) = (theirs.next(), ours.next());
            if their.is_none() && our.is_none() {
                return Ok(());
            }
            differs |= their != our;
            let mark = if differs { '|' } else { ' ' };
            writeln!(f, "{:<60} {mark} {}", their.unwrap_or(""), our.unwrap_or(""))?;
        }
    }
}
