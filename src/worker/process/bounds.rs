//! What holds one instance to its `limits`: files of its cgroup, cgroups of v1 beside it, or our own counting.
//!
//! Made with the instance's ground and kept over its incarnations, so that a restart writes no limit. How each limit is
//! held is told in words, because a limit that is only counted once a second is not what most expect of one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use crate::config::Limits;
use crate::units::format_size;
use crate::worker::unix::Cores;

use super::cgroup::{Cgroup, RootDir, oom_kills_in};
use super::controllers::{Controller, Controllers, Place};

/// The kernel's own default length of an accounting period.
const PERIOD_MICROS: u64 = 100_000;

/// What is counted by ourselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Polled {
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Processes and threads.
    pub(super) processes: Option<u64>,
}

impl Polled {
    /// Whether anything is.
    pub(super) fn is_any(self) -> bool {
        self.memory.is_some() || self.processes.is_some()
    }
}

/// What holds an instance.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// `cgroup.procs` of each v1 cgroup, for the child to enter.
    procs: Vec<File>,
    /// Their directories, removed with this value.
    dirs: Vec<RootDir>,
    /// `memory.oom_control` of the v1 one.
    oom: Option<File>,
    /// Where the kernel counts processes that it refused.
    forks: Option<PathBuf>,
    /// What nobody but us looks after.
    pub(super) polled: Polled,
    /// The cores it is bound to for want of a controller.
    pub(super) cores: Option<Cores>,
    /// How each limit is held, for people.
    pub(super) told: Vec<String>,
}

impl Bounds {
    /// Sets everything up.
    pub(super) fn make(
        limits: &Limits,
        controllers: &Controllers,
        slug: &str,
        cgroup: Option<&Cgroup>,
    ) -> io::Result<Self> {
        let mut bounds = Self::default();
        for one in Controller::ALL {
            let Some(shown) = shown(one, limits) else { continue };
            let how = match (controllers.place(one), cgroup) {
                (Place::V2, Some(cgroup)) => {
                    set_v2(one, limits, cgroup.path())?;
                    bounds.count_refused(one, cgroup.path());
                    "by cgroup v2".to_owned()
                }
                (Place::V1(root), _) => {
                    bounds.enter_v1(one, limits, &root.path().join(slug))?;
                    "by cgroup v1".to_owned()
                }
                (Place::V2, None) => bounds.count(one, limits, slug, "it has no cgroup"),
                (Place::Nowhere(why), _) => bounds.count(one, limits, slug, why),
            };
            bounds.told.push(format!("limits.{} = {shown}: {how}", one.limit()));
        }
        if let Some(files) = limits.open_files {
            bounds.told.push(format!("limits.open_files = {files}: each process, by the kernel"));
        }
        Ok(bounds)
    }

    /// Sets the limits of a cgroup that took the place of the one before.
    pub(super) fn renew(limits: &Limits, controllers: &Controllers, cgroup: &Cgroup) -> io::Result<()> {
        for one in Controller::ALL.into_iter().filter(|one| shown(*one, limits).is_some()) {
            if let Place::V2 = controllers.place(one) {
                set_v2(one, limits, cgroup.path())?;
            }
        }
        Ok(())
    }

    /// What a child writes itself into.
    pub(super) fn enters(&self) -> Vec<RawFd> {
        self.procs.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Whether nobody has removed a cgroup of v1 behind our back.
    pub(super) fn are_whole(&self) -> bool {
        self.dirs.iter().all(|dir| dir.path().is_dir())
    }

    /// How many of its processes the kernel killed for memory, if that is counted in v1.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.oom.as_ref().and_then(oom_kills_in)
    }

    /// How many processes and threads the kernel has refused it, if it counts them.
    pub(super) fn refused_forks(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.forks.as_ref()?).ok()?;
        text.lines().find_map(|line| line.strip_prefix("max "))?.trim().parse().ok()
    }

    fn count_refused(&mut self, one: Controller, dir: &Path) {
        if one == Controller::Pids {
            self.forks = Some(dir.join("pids.events"));
        }
    }

    fn enter_v1(&mut self, one: Controller, limits: &Limits, path: &Path) -> io::Result<()> {
        let dir = RootDir::make(path)?;
        set_v1(one, limits, path)?;
        self.procs.push(OpenOptions::new().write(true).open(path.join("cgroup.procs"))?);
        self.count_refused(one, path);
        if one == Controller::Memory {
            self.oom = File::open(path.join("memory.oom_control")).ok();
        }
        self.dirs.push(dir);
        Ok(())
    }

    /// What stands in for a controller that is not there; answers how, in words.
    fn count(&mut self, one: Controller, limits: &Limits, slug: &str, why: &str) -> String {
        let polled = format!("polled every second, and the tree is killed above it ({why})");
        match one {
            Controller::Memory => {
                self.polled.memory = limits.memory;
                polled
            }
            Controller::Pids => {
                self.polled.processes = limits.processes;
                polled
            }
            Controller::Cpu => {
                let wanted = limits.cpu.map_or(usize::MAX, whole_cores);
                let ours = own_cores();
                if wanted >= ours.len() {
                    return format!("not enforced, the machine has {} cores ({why})", ours.len());
                }
                // Spread: bound to the first ones, all workers would share them.
                let first = slug.bytes().map(usize::from).sum::<usize>() % ours.len();
                self.cores = Some(Cores::of(
                    (0..wanted).filter_map(|at| ours.get((first + at) % ours.len()).copied()),
                ));
                format!("bound to {wanted} of {} cores ({why})", ours.len())
            }
        }
    }
}

/// A limit as it was written; `None` if there is none.
fn shown(one: Controller, limits: &Limits) -> Option<String> {
    match one {
        Controller::Memory => limits.memory.map(format_size),
        Controller::Cpu => limits.cpu.map(|cores| cores.to_string()),
        Controller::Pids => limits.processes.map(|count| count.to_string()),
    }
}

fn set_v2(one: Controller, limits: &Limits, dir: &Path) -> io::Result<()> {
    match one {
        Controller::Memory => {
            set(dir, "memory.max", limits.memory.unwrap_or(u64::MAX))?;
            // Else it swaps for hours instead of ending. Not there without swap accounting.
            ignore_missing(set(dir, "memory.swap.max", 0))
        }
        Controller::Cpu => set(dir, "cpu.max", format!("{} {PERIOD_MICROS}", quota(limits))),
        Controller::Pids => set(dir, "pids.max", limits.processes.unwrap_or(u64::MAX)),
    }
}

fn set_v1(one: Controller, limits: &Limits, dir: &Path) -> io::Result<()> {
    match one {
        Controller::Memory => {
            let bytes = limits.memory.unwrap_or(u64::MAX);
            let first = set(dir, "memory.limit_in_bytes", bytes);
            // Memory and swap together may never be below memory, so the order depends on what was set before.
            ignore_missing(set(dir, "memory.memsw.limit_in_bytes", bytes))?;
            first.or_else(|_| set(dir, "memory.limit_in_bytes", bytes))
        }
        Controller::Cpu => {
            set(dir, "cpu.cfs_period_us", PERIOD_MICROS)?;
            set(dir, "cpu.cfs_quota_us", quota(limits))
        }
        Controller::Pids => set(dir, "pids.max", limits.processes.unwrap_or(u64::MAX)),
    }
}

/// Microseconds of processor time in a period; the kernel takes no less than a thousand.
fn quota(limits: &Limits) -> u64 {
    let cores = limits.cpu.unwrap_or(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 4096 cores, never negative"
    )]
    let micros = (cores * PERIOD_MICROS as f64) as u64;
    micros.max(1000)
}

fn whole_cores(cores: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 4096 cores, never negative"
    )]
    let whole = cores.ceil() as usize;
    whole.max(1)
}

fn own_cores() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
        .unwrap_or_default()
}

fn set(dir: &Path, file: &str, value: impl ToString) -> io::Result<()> {
    let path = dir.join(file);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.to_string().as_bytes()))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn ignore_missing(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_core_is_half_a_period_and_a_whole_core() {
        let limits = Limits { cpu: Some(0.5), ..Limits::default() };
        assert_eq!(quota(&limits), 50_000);
        assert_eq!((whole_cores(0.5), whole_cores(2.0), whole_cores(2.01)), (1, 2, 3));
        assert_eq!(quota(&Limits { cpu: Some(0.0001), ..limits }), 1000);
    }

    #[test]
    fn without_controllers_memory_and_processes_are_counted_and_said_to_be() {
        let limits = Limits { memory: Some(1 << 30), processes: Some(7), ..Limits::default() };
        let bounds = Bounds::make(&limits, &Controllers::none(), "w", None).unwrap();
        assert_eq!(bounds.polled, Polled { memory: Some(1 << 30), processes: Some(7) });
        assert!(bounds.told[0].starts_with("limits.memory = 1GiB: polled"), "{:?}", bounds.told);
        assert!(bounds.enters().is_empty());
    }

    #[test]
    fn without_a_cgroup_of_its_own_a_worker_is_counted_also_where_others_have_one() {
        let limits = Limits { memory: Some(1 << 30), processes: Some(7), ..Limits::default() };
        let bounds = Bounds::make(&limits, &Controllers::in_v2(), "w", None).unwrap();
        assert_eq!(bounds.polled, Polled { memory: Some(1 << 30), processes: Some(7) });
        assert!(
            bounds.told[0].contains("polled every second") && bounds.told[0].contains("it has no cgroup")
        );
    }

    #[test]
    fn no_limits_are_no_work() {
        let bounds = Bounds::make(&Limits::default(), &Controllers::none(), "w", None).unwrap();
        assert!(!bounds.polled.is_any() && bounds.told.is_empty() && bounds.cores.is_none());
    }
}
