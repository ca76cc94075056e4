//! Telling the kernel's out-of-memory kill from anybody else's SIGKILL.
//!
//! A counter of kills stands in the memory cgroup: in the worker's own if there is one, else in ours (v2, then
//! v1), which counts all workers. A shared counter is believed once per kill: whoever is found dead of SIGKILL
//! after it rose. Global counters (`/proc/vmstat`) are not used: a stranger's fate is no evidence.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::cgroup::oom_kills_in;

/// The counter that all workers share.
pub(super) struct OomWatch {
    /// Kept open: it is read on a restart's way.
    file: Option<File>,
    seen: Mutex<u64>,
}

impl OomWatch {
    /// Finds it.
    pub(super) fn new() -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let open = |path: PathBuf| File::open(path).ok().filter(|file| oom_kills_in(file).is_some());
        let file = candidates(&own, &mounts).into_iter().find_map(open);
        let seen = file.as_ref().and_then(oom_kills_in).unwrap_or(0);
        Self { file, seen: Mutex::new(seen) }
    }

    /// Whether a worker that died of SIGKILL died of memory: by its own counter now and at its start, if it has one.
    pub(super) fn explains(&self, now: Option<u64>, before: Option<u64>) -> bool {
        if let (Some(before), Some(now)) = (before, now) {
            return now > before;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.file.as_ref().and_then(oom_kills_in).unwrap_or(*seen);
        let risen = now > *seen;
        *seen += u64::from(risen);
        risen
    }
}

/// v2 first. Lines of `/proc/self/cgroup` are `ID:CONTROLLERS:PATH`.
fn candidates(own: &str, mounts: &str) -> Vec<PathBuf> {
    let path_of = |controllers: &dyn Fn(&str) -> bool| {
        let fits = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (list, path) = (parts.next()?, parts.next()?);
            controllers(list).then(|| path.trim_start_matches('/').to_owned())
        };
        own.lines().find_map(fits)
    };
    let mount_of = |kind: &str, option: &str| {
        let fits = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let (found, options) = (right.next()?, right.nth(1)?);
            let fits = found == kind && (option.is_empty() || options.split(',').any(|one| one == option));
            fits.then(|| left.split(' ').nth(4).map(PathBuf::from))?
        };
        mounts.lines().find_map(fits)
    };
    let v2 = mount_of("cgroup2", "").zip(path_of(&|list| list.is_empty()));
    let v1 = mount_of("cgroup", "memory").zip(path_of(&|list| list.split(',').any(|one| one == "memory")));
    let v2 = v2.map(|(mount, path)| mount.join(path).join("memory.events"));
    let v1 = v1.map(|(mount, path)| mount.join(path).join("memory.oom_control"));
    v2.into_iter().chain(v1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_both_counters_of_a_hybrid_machine() {
        let own = "4:memory:/app\n1:cpu:/\n0::/web\n";
        let mounts = "30 23 0:26 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                      31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = candidates(own, mounts);
        assert_eq!(found[0], PathBuf::from("/sys/fs/cgroup/unified/web/memory.events"));
        assert_eq!(found[1], PathBuf::from("/sys/fs/cgroup/memory/app/memory.oom_control"));
    }
}
