//! What this machine lets a supervisor of processes do, asked without starting anything.

use std::path::PathBuf;

use crate::worker::unix::{pidfd_open, pidfs_inode};

use super::cgroup::CgroupRoot;
use super::tree;

/// The answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Handles for processes, or why not.
    pub(crate) pidfd: Result<(), String>,
    /// Whether they have a number that is never used twice.
    pub(crate) pidfs: bool,
    /// Where cgroups of workers can be made, or why not.
    pub(crate) cgroup: Result<PathBuf, String>,
    /// Whether `/proc` shows the processes of others.
    pub(crate) sees_others: bool,
}

impl Capabilities {
    /// Asks. A cgroup is made and removed again: nothing else tells whether that is allowed.
    pub(crate) fn look() -> Self {
        let own = pidfd_open(std::process::id());
        let trial = format!("regrow-look-{}", std::process::id());
        let above = |root: CgroupRoot| root.dir().parent().map(PathBuf::from).unwrap_or_default();
        Self {
            pidfs: own.as_ref().is_ok_and(|own| pidfs_inode(own).is_some()),
            pidfd: own.map(drop).map_err(|error| error.to_string()),
            cgroup: CgroupRoot::find(&trial, false).map(above),
            sees_others: tree::can_see(),
        }
    }
}
