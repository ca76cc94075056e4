//! What the whole machine has and uses: cores, load, memory, and the disk of a directory.
//!
//! For people who look at a worker and ask whether it is the worker or the machine. Read only when somebody asks, and
//! through `sysinfo`, which knows every system that has an answer; what each worker uses is read by ourselves, at a fifth
//! of the cost.
//!
//! **Pitfalls that are kept out.** A list of processes is never asked for. Processor time needs two readings that are at
//! least [`HOST_SHORTEST`] apart; the one before is kept, and the first look has no figure. Of the disks only the one of the
//! directory is asked for its size, so that a network mount that hangs holds up nobody.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sysinfo::{DiskRefreshKind, Disks, System};

/// Readings closer together say nothing about load; sysinfo's own limit.
pub const HOST_SHORTEST: Duration = sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;

/// The machine at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostFigures {
    /// Cores.
    pub cores: usize,
    /// Of all cores, since the look before; `None` at the first.
    pub cpu_percent: Option<f64>,
    /// Processes that ran or wanted to, on average over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Memory that there is.
    pub memory_total_bytes: u64,
    /// Memory that could be had without swapping.
    pub memory_available_bytes: u64,
    /// The disk of the directory that was asked for.
    pub disk: Option<DiskFigures>,
}

/// A disk at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiskFigures {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its size.
    pub total_bytes: u64,
    /// What is free on it, for everybody.
    pub available_bytes: u64,
}

/// Looks at the machine, and keeps what the next look compares with.
///
/// ```
/// let host = regrow::telemetry::Host::default();
/// let figures = host.look(std::path::Path::new("/")).unwrap();
/// assert!(figures.cores > 0 && figures.memory_available_bytes <= figures.memory_total_bytes);
/// ```
#[derive(Default)]
pub struct Host {
    last: Mutex<Option<Last>>,
}

struct Last {
    system: System,
    at: Instant,
    percent: Option<f64>,
}

impl Host {
    /// How it is now, with the disk of this directory.
    ///
    /// # Errors
    /// The system does not tell, in words.
    pub fn look(&self, directory: &Path) -> Result<HostFigures, String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = match &mut *last {
            Some(kept) => {
                if kept.at.elapsed() >= HOST_SHORTEST {
                    kept.system.refresh_cpu_usage();
                    (kept.percent, kept.at) =
                        (Some(f64::from(kept.system.global_cpu_usage())), Instant::now());
                }
                kept
            }
            none => {
                let mut system = System::new().map_err(|error| error.to_string())?;
                system.refresh_cpu_usage();
                none.insert(Last { system, at: Instant::now(), percent: None })
            }
        };
        kept.system.refresh_memory();
        Ok(HostFigures {
            cores: kept.system.cpus().len(),
            cpu_percent: kept.percent,
            load: System::load_average().ok().map(|load| [load.one, load.five, load.fifteen]),
            memory_total_bytes: kept.system.total_memory(),
            memory_available_bytes: kept.system.available_memory(),
            disk: disk(directory),
        })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

/// The disk of a directory.
fn disk(directory: &Path) -> Option<DiskFigures> {
    let directory = directory.canonicalize().ok()?;
    let mut disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing()).ok()?;
    let found = disks
        .iter_mut()
        .filter(|disk| directory.starts_with(disk.mount_point()))
        .max_by_key(|disk| disk.mount_point().components().count())?;
    found.refresh_specifics(DiskRefreshKind::nothing().with_storage());
    Some(DiskFigures {
        path: found.mount_point().to_owned(),
        total_bytes: found.total_space(),
        available_bytes: found.available_space(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_looked_at_and_load_needs_two_looks() {
        let host = Host::default();
        let first = host.look(Path::new("/proc/self/cwd")).unwrap();
        assert!(first.cores > 0 && first.cpu_percent.is_none());
        assert!(0 < first.memory_available_bytes && first.memory_available_bytes <= first.memory_total_bytes);
        let disk = first.disk.unwrap();
        assert!(disk.available_bytes <= disk.total_bytes && disk.path.is_absolute(), "{disk:?}");
        let end = Instant::now() + Duration::from_secs(30);
        let percent = loop {
            assert!(Instant::now() < end, "the second look never came");
            if let Some(percent) = host.look(Path::new("/")).unwrap().cpu_percent {
                break percent;
            }
            std::thread::yield_now();
        };
        assert!((0.0..=100.5).contains(&percent), "{percent}");
        assert!(host.look(Path::new("/there/is/no/such/directory")).unwrap().disk.is_none());
    }
}
