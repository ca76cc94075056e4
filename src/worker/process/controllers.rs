//! Which of a worker's limits the kernel can enforce here, and where: found out once per runtime.
//!
//! A controller lives in one hierarchy of the whole machine, v2 or v1, and many machines have some in each. So each is
//! looked for by itself: in our own v2 directory first, then in a v1 hierarchy. Nothing is required: what cannot be
//! had is counted by ourselves, and shown so.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cgroup::{CgroupRoot, RootDir};

/// What bounds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    /// Its name in every hierarchy.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    /// The key of `limits` that needs it.
    pub(super) fn limit(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "processes",
        }
    }
}

/// Where a controller can be used.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the instance's own cgroup.
    V2,
    /// In a directory below this one.
    V1(Arc<RootDir>),
    /// Nowhere, and why.
    Nowhere(String),
}

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct Controllers {
    places: [Place; 3],
}

impl Controllers {
    /// Looks for all three. `key` names this runtime's directories.
    pub(super) fn find(v2: Option<&CgroupRoot>, key: &str) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self { places: Controller::ALL.map(|one| place(one, v2, key, &mounts, &own)) }
    }

    /// None of them, for those who want no cgroups.
    pub(super) fn none() -> Self {
        Self { places: Controller::ALL.map(|_| Place::Nowhere("cgroups are not used".to_owned())) }
    }

    /// All of them in v2.
    #[cfg(test)]
    pub(super) fn in_v2() -> Self {
        Self { places: Controller::ALL.map(|_| Place::V2) }
    }

    /// Where this one is.
    pub(super) fn place(&self, one: Controller) -> &Place {
        let [memory, cpu, pids] = &self.places;
        match one {
            Controller::Memory => memory,
            Controller::Cpu => cpu,
            Controller::Pids => pids,
        }
    }
}

fn place(one: Controller, v2: Option<&CgroupRoot>, key: &str, mounts: &str, own: &str) -> Place {
    let mut why = match v2.map(|root| root.enable(one.name())) {
        Some(Ok(())) => return Place::V2,
        Some(Err(error)) => format!("v2: {error}"),
        None => "v2: none is writable".to_owned(),
    };
    let Some(mount) = v1_mount(mounts, one.name()) else {
        return Place::Nowhere(format!("{why}; v1: it is not mounted"));
    };
    let below = v1_path(own, one.name()).unwrap_or_default();
    for parent in [mount.join(below.trim_start_matches('/')), mount] {
        match usable(&parent.join(key)) {
            Ok(root) => return Place::V1(root),
            Err(error) => why = format!("{why}; {}: {error}", parent.display()),
        }
    }
    Place::Nowhere(why)
}

/// Whether directories can be made here whose limits we may set and whose processes we may name.
fn usable(dir: &Path) -> io::Result<Arc<RootDir>> {
    let root = Arc::new(RootDir::make(dir)?);
    let trial = RootDir::make(&dir.join("trial"))?;
    std::fs::OpenOptions::new().write(true).open(trial.path().join("cgroup.procs"))?;
    Ok(root)
}

/// The mount point of a v1 hierarchy with this controller.
fn v1_mount(mounts: &str, name: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let fits = kind == "cgroup" && options.split(',').any(|option| option == name);
        fits.then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Our own place in it. Lines are `ID:CONTROLLERS:PATH`.
fn v1_path<'a>(own: &'a str, name: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (list, path) = (parts.next()?, parts.next()?);
        list.split(',').any(|one| one == name).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 23 0:26 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                          31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_controller_is_found_beside_others_in_its_hierarchy() {
        assert_eq!(v1_mount(MOUNTS, "cpu"), Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(v1_mount(MOUNTS, "memory"), None);
        assert_eq!(v1_path("4:cpu,cpuacct:/app:1\n0::/web\n", "cpu"), Some("/app:1"));
    }

    #[test]
    fn what_is_nowhere_says_why() {
        let Place::Nowhere(why) = place(Controller::Pids, None, "x", MOUNTS, "") else { panic!() };
        assert_eq!(why, "v2: none is writable; v1: it is not mounted");
    }
}
