//! One unit of durable work, and what becomes of it.

use std::time::Duration;

/// One task of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its id.
    pub id: String,
    /// The queue it came from.
    pub queue: String,
    /// Its type.
    pub kind: String,
    /// What is to be done, in whatever encoding its sender chose.
    pub payload: Vec<u8>,
    /// The n-th attempt, from 1.
    pub attempt: u32,
    /// True if an earlier attempt may have had its effect: it began, and nobody saw how it ended.
    pub possibly_executed: bool,
}

impl Task {
    /// The first attempt at a task, for whoever calls a worker by hand.
    #[must_use]
    pub fn new(queue: impl Into<String>, kind: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            id: String::new(),
            queue: queue.into(),
            kind: kind.into(),
            payload: payload.into(),
            attempt: 1,
            possibly_executed: false,
        }
    }
}

/// A task that is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What came of it; may be empty.
    pub result: Vec<u8>,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::default()
    }
}

/// A task that is not done, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// Not now: again after this long, without counting as a failure.
    #[error("to be tried again in {0:?}")]
    Retry(Duration),
    /// It failed; its queue decides how often it is tried again.
    #[error("{0}")]
    Fail(String),
    /// Trying again cannot help.
    #[error("{0}")]
    DeadLetter(String),
}
