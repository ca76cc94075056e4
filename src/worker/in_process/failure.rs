//! Errors of user code, in words.

/// Whatever user code fails with; `?` makes it from every error.
pub type WorkerError = Box<dyn std::error::Error + Send + Sync>;

/// An error that repeats itself in its causes is cut off here.
const MAX_CAUSES: usize = 8;

/// An error with its causes, on one line.
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
    text
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
}
