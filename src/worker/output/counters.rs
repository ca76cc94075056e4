//! What an instance's output amounts to, in numbers.
//!
//! Atomics, because the output thread writes them while `status` and `/metrics` read: neither waits.

use std::sync::atomic::AtomicU64;

/// Counters of an instance's output, shared with the thread that reads it.
#[derive(Debug, Default)]
pub struct OutputCounters {
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Lines kept.
    pub lines: AtomicU64,
    /// Lines dropped because they came too fast or could not be written.
    pub dropped: AtomicU64,
    /// Lines split because they were too long.
    pub split: AtomicU64,
}
