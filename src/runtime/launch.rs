//! Bringing a runtime up and down.

use std::path::PathBuf;

use crate::config::Settings;

use super::handle::RuntimeHandle;

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another runtime lives on the same state directory.
    #[error("a runtime is already running on {}: pid {pid}. Stop it with `regrow shutdown`, or give this one another runtime.state_dir", state_dir.display())]
    Busy {
        /// The state directory.
        state_dir: PathBuf,
        /// The other runtime.
        pid: u32,
    },
    /// The state directory cannot be used.
    #[error("cannot use the state directory {}: {source}", state_dir.display())]
    StateDir {
        /// The state directory.
        state_dir: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// An address that somebody wrote down cannot be taken.
    #[error("cannot listen on {key} = \"{address}\": {source}. Free the address or give another one")]
    Listen {
        /// The key that names it.
        key: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// Something else of the system failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: std::io::Error,
    },
}

/// How a runtime ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finished {
    /// In order, because somebody asked.
    Stopped,
    /// The root supervisor gave up; the text says who brought it there. Exit code 1.
    GaveUp(String),
    /// Every child of the root is done and nothing is left to supervise (`auto_shutdown`).
    Done,
}

/// A running runtime and the right to wait for its end.
pub struct Runtime {
    handle: RuntimeHandle,
}

impl Runtime {
    /// Takes the state directory, clears what an earlier runtime left, and boots the tree. Returns once the boot
    /// has begun; watch the board for readiness. Takes no signals: the caller does.
    ///
    /// # Errors
    /// [`StartError`]: another runtime lives there, or the system refuses something that cannot be done without.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let _ = settings;
        Err(StartError::System { what: "not built yet", source: std::io::Error::other("not built yet") })
    }

    /// The public face.
    #[must_use]
    pub fn handle(&self) -> &RuntimeHandle {
        &self.handle
    }

    /// Blocks until the runtime has ended.
    #[must_use]
    pub fn wait(self) -> Finished {
        Finished::Stopped
    }
}
