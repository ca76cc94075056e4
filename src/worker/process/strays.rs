//! Strays: descendants of workers that have left everything by which a tree is known, and became our children when their
//! parents ended.
//!
//! Whoever still says in its environment whose it is ends with the runtime. Of the others nobody can tell any more whose
//! they are, so they are named to whoever reads the last line. Deliberately absent: the children of a host program, and
//! the orphans of strangers, which process 1 inherits.

use std::time::{Duration, Instant};

use crate::worker::unix::{pidfd_open, send_signal};

use super::children;
use super::host::ProcessHost;
use super::tether::mark_of;
use super::tree::{self, Stat};

/// So long they are killed again and again.
const WITHIN: Duration = Duration::from_secs(2);
/// So long others may take to be gone before they are named.
const DYING: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(5);

impl ProcessHost {
    /// Kills those that are known to be ours. Blocks until they are gone, two seconds at most.
    pub(crate) fn end_strays(&self) {
        if !self.adopts {
            return;
        }
        let of_worker = |home: &std::path::PathBuf| {
            [b"REGROW_STATE_DIR=", home.as_os_str().as_encoded_bytes(), b"/"].concat()
        };
        let mut marks: Vec<Vec<u8>> = self.homes.iter().map(of_worker).collect();
        marks.push(mark_of(&self.key).into_bytes());
        let is_ours = |one: &Stat| marks.iter().any(|mark| tree::carries(one.pid, mark));
        let until = Instant::now() + WITHIN;
        loop {
            let ours: Vec<Stat> = children::strays().into_iter().filter(is_ours).collect();
            if ours.is_empty() || Instant::now() >= until {
                return;
            }
            for one in &ours {
                // Opened first, looked at then.
                if let Ok(pidfd) = pidfd_open(one.pid)
                    && tree::stat(one.pid).is_some_and(|now| now.is(one))
                    && let Err(error) = send_signal(&pidfd, libc::SIGKILL)
                {
                    tracing::debug!(pid = one.pid, %error, "a process that left its worker's tree cannot be killed");
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Who of them lives, for people.
pub(crate) fn strays() -> Vec<String> {
    if std::process::id() == 1 {
        return Vec::new();
    }
    // Who was killed a moment ago is just going.
    let until = Instant::now() + DYING;
    let mut left = children::strays();
    while !left.is_empty() && Instant::now() < until {
        std::thread::sleep(LOOK);
        left = children::strays();
    }
    let name = |one: Stat| {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", one.pid)).unwrap_or_default();
        format!("pid {} ({})", one.pid, name.trim_end().escape_debug())
    };
    left.into_iter().map(name).collect()
}
