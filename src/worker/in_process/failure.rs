//! Errors of user code, in words.

use crate::units::shortened;

/// Whatever user code fails with; `?` makes it from every error.
pub type WorkerError = Box<dyn std::error::Error + Send + Sync>;

/// An error that repeats itself in its causes is cut off here.
const MAX_CAUSES: usize = 8;

/// Of what an error or a panic says, at most so many bytes are kept: it stands in every event of the crash loop that
/// it may lead to.
pub(super) const MOST: usize = 4 << 10;

/// An error with its causes, on one line, as far as it is kept.
pub(super) fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    for _ in 0..MAX_CAUSES {
        let Some(cause) = next else { break };
        let words = cause.to_string();
        // Many errors print their cause themselves.
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    shortened(&text, MOST).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the index")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = Outer(std::io::Error::other("the disk is gone"));
        assert_eq!(in_words(&error), "cannot read the index: the disk is gone");
    }

    #[test]
    fn of_a_huge_one_the_beginning_is_kept() {
        let error = Outer(std::io::Error::other("x".repeat(1 << 20)));
        let words = in_words(&error);
        assert!(words.starts_with("cannot read the index: xxx") && words.len() < MOST + 100, "{words}");
    }
}
