//! What an instance left behind at its last end, and what it says of itself while it runs.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::id::Incarnation;

/// How the last incarnation ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastExit {
    /// How.
    pub exit: Exit,
    /// The code it ended with, where there is one, also if it ended as it was asked to.
    pub code: Option<i32>,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// For people: the end in words and the last line of output.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// The stack of a panic, where one was walked.
    pub backtrace: Option<Arc<str>>,
}

/// What the incarnation that runs has told over its own socket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// How far it is, in a measure of its own.
    pub progress: Option<f64>,
    /// Figures by name, as it told them last.
    pub figures: Vec<(String, f64)>,
    /// What went wrong in it last.
    pub trouble: Option<Trouble>,
    /// How often something did.
    pub troubles: u64,
}

/// Something that went wrong in a worker, by its own word.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// The class that it gave it.
    pub class: Option<String>,
    /// In words.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.class {
            Some(class) if self.message.is_empty() => f.write_str(class),
            Some(class) => write!(f, "{class}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
