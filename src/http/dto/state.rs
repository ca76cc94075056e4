//! `regrow.state/1`

use serde::{Deserialize, Serialize};

/// `GET /api/v1/workers/{id}/state`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatesBody {
    /// `regrow.state/1`
    pub schema: String,
    /// One for each instance.
    pub items: Vec<StateView>,
    /// Always none: it is one page.
    pub next_cursor: Option<String>,
}

/// The state of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateView {
    /// The instance.
    pub instance: String,
    /// Which identity it is: 1, and one more each time it was recreated.
    #[serde(default)]
    pub identity: u64,
    /// Its state directory.
    pub path: String,
    /// Plain files in it.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What was put away, the newest first.
    pub archives: Vec<String>,
}
