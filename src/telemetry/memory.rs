//! What a cgroup holds, where the kernel counts that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::id::InstanceId;

/// Where systemd and containers mount it, alone or beside the older hierarchies.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// A page holds all of `memory.stat`.
const PAGE: usize = 4096;

/// The counters of a worker's cgroup, open; looked for once.
#[derive(Debug, Default)]
pub(super) enum Memory {
    #[default]
    Unknown,
    Nowhere,
    Counted {
        current: File,
        stat: File,
    },
}

impl Memory {
    /// What the cgroup of a worker's main process holds without page cache that can go; `None` without a controller
    /// that counts it, or where the process is in none of its own.
    pub(super) fn working_set(&mut self, pid: u32, instance: &InstanceId) -> Option<u64> {
        if matches!(self, Self::Unknown) {
            *self = Self::find(pid, instance).unwrap_or(Self::Nowhere);
        }
        let Self::Counted { current, stat } = self else { return None };
        let all: u64 = text(current, &mut [0; 32])?.trim().parse().ok()?;
        Some(all.saturating_sub(inactive(text(stat, &mut [0; PAGE])?)))
    }

    fn find(pid: u32, instance: &InstanceId) -> Option<Self> {
        let path = own_path(pid)?;
        if slug_of(&path)? != instance.slug() {
            return None;
        }
        MOUNTS.iter().find_map(|mount| {
            let place = Path::new(mount).join(path.trim_start_matches('/'));
            let current = File::open(place.join("memory.current")).ok()?;
            Some(Self::Counted { current, stat: File::open(place.join("memory.stat")).ok()? })
        })
    }
}

/// The instance's part of the path of a process's cgroup, if the one above is a runtime's.
pub(super) fn cgroup_of(pid: u32) -> Option<String> {
    slug_of(&own_path(pid)?).map(str::to_owned)
}

fn own_path(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn slug_of(path: &str) -> Option<&str> {
    let (above, slug) = path.rsplit_once('/')?;
    let ours = above.rsplit('/').next().is_some_and(|name| name.starts_with("regrow-"));
    ours.then_some(slug)
}

fn text<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let read = file.read_at(buffer, 0).ok()?;
    std::str::from_utf8(&buffer[..read]).ok()
}

/// Page cache that the kernel would take back first.
fn inactive(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cgroup_below_a_runtime_is_an_instances() {
        assert_eq!(slug_of("/a.slice/regrow-1f/web-0"), Some("web-0"));
        assert_eq!(slug_of("/regrow-1f/web"), Some("web"));
        assert_eq!(slug_of("/a.slice/b.service"), None);
        assert_eq!(slug_of("/"), None);
    }

    #[test]
    fn page_cache_that_can_go_is_found_among_the_others() {
        assert_eq!(inactive("anon 1\ninactive_file 4096\nslab 3\n"), 4096);
        assert_eq!(inactive("anon 1\n"), 0);
    }
}
