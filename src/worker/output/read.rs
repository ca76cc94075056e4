//! Finds lines in logs again.
use crate::id::InstanceId;

/// Which of a worker's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamName {
    /// stdout, with stderr in it unless that has a log of its own.
    Stdout,
    /// stderr, where `log.stderr = "separate"`.
    Stderr,
}

impl StreamName {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The file name of its log without a suffix.
    pub(super) fn stem(self, instance: &InstanceId) -> String {
        match self {
            Self::Stdout => instance.slug(),
            // No name contains a dot: it cannot be another worker's log.
            Self::Stderr => format!("{}.err", instance.slug()),
        }
    }
}
