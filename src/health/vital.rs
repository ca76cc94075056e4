//! What becomes of an incarnation, for whoever watches it.

/// A turn in the life of an incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vital {
    /// It runs; `pid` of a process.
    Begun {
        /// Its main process.
        pid: Option<u32>,
    },
    /// Its main process is another one.
    Main {
        /// The new one.
        pid: u32,
    },
    /// It is ready.
    Ready,
    /// It gave a sign of life.
    Beat,
    /// It told how far it is, and has moved since it told so before.
    Moved,
    /// Something went wrong in it, and it goes on.
    Trouble,
    /// It said that it does not work.
    Distress,
    /// It has ended, or is being ended.
    Ended,
}
