//! What the machine gives: the kernel's ways to know and to end a process, limits, and the clock.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::config::{Sources, load};
use crate::worker::process::Capabilities;

use super::Check;
use crate::cli::args::Global;
use crate::cli::words::{self, plural};
use crate::telemetry::{Host, HostFigures};

/// Descriptors that one worker costs its runtime: its pipe, its two sockets, its process, its cgroup, its log.
const FILES_PER_WORKER: u64 = 11;

/// What the runtime itself has open, and room for those who ask.
const FILES_OF_ITS_OWN: u64 = 64;

/// Before this, in Unix time, no build of regrow existed: the clock was never set.
const FIRST_BUILD: i64 = 1_767_225_600;

/// Everything that does not depend on what is written down, but for the number of workers.
pub(super) fn look(global: &Global) -> Vec<Check> {
    let workers =
        load(&Sources::of_process(global.config.clone())).map_or(0, |one| one.settings.workers.len());
    let can = Capabilities::look();
    vec![
        pidfd(&can),
        cgroup(&can),
        proc(&can),
        files(workers as u64),
        machine(Host::default().look(Path::new("."))),
        clock(jiff::Timestamp::now()),
    ]
}

fn pidfd(can: &Capabilities) -> Check {
    const NAME: &str = "processes";
    match (&can.pidfd, can.pidfs) {
        (Err(error), _) => Check::failed(
            NAME,
            format!("the kernel has no handles for processes (pidfd): {error}"),
            "regrow needs Linux 5.4 or later, and a container that lets pidfd_open through",
        ),
        (Ok(()), false) => Check::warning(
            NAME,
            "pidfd, without numbers that are never used twice (pidfs)",
            "Linux 6.9 and later have them; until then survivors of a killed runtime are known by their environment",
        ),
        (Ok(()), true) => Check::ok(NAME, "pidfd and pidfs: no process is ever taken for another"),
    }
}

fn cgroup(can: &Capabilities) -> Check {
    const NAME: &str = "cgroup";
    match &can.cgroup {
        Ok(place) => Check::ok(NAME, format!("v2, writable below {}", place.display())),
        Err(why) => Check::warning(
            NAME,
            format!("no cgroup v2 that can be written to: {why}"),
            "process trees are known by session, descent and fence instead. Under systemd: `Delegate=yes`; in a \
             container: a writable /sys/fs/cgroup",
        ),
    }
}

fn proc(can: &Capabilities) -> Check {
    const NAME: &str = "/proc";
    if can.sees_others {
        return Check::ok(NAME, "shows other processes");
    }
    Check::warning(
        NAME,
        "hides other processes (hidepid)",
        "who leaves a worker's session is found by its fence alone, and load and memory of other users' workers are \
         not shown; mount /proc without hidepid, or with gid= for regrow's group",
    )
}

fn files(workers: u64) -> Check {
    const NAME: &str = "open files";
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let needed = FILES_OF_ITS_OWN + workers * FILES_PER_WORKER;
    let shown = if limit == u64::MAX { "no limit".to_owned() } else { format!("at most {limit}") };
    let need = format!("{} would take about {needed}", plural(workers, "worker"));
    if limit < needed {
        let help = "raise the hard limit: `ulimit -Hn`, or LimitNOFILE= under systemd";
        return Check::failed(NAME, format!("{shown}; {need}"), help);
    }
    Check::ok(NAME, format!("{shown}; {need}"))
}

/// Of memory, less than this share makes the kernel look for somebody to kill.
const MEMORY_LOW: f64 = 0.05;
/// Of a disk, less than this share is soon none.
const DISK_LOW: f64 = 0.02;

fn machine(host: Result<HostFigures, String>) -> Check {
    const NAME: &str = "machine";
    let host = match host {
        Ok(host) => host,
        Err(why) => {
            let help = "regrow works without; `status` says nothing of the machine";
            return Check::warning(NAME, format!("does not tell its figures: {why}"), help);
        }
    };
    let shown = words::machine(&host);
    let low = |free: u64, all: u64, share: f64| all > 0 && (free as f64) < all as f64 * share;
    if low(host.memory_available_bytes, host.memory_total_bytes, MEMORY_LOW) {
        let help = "the kernel kills somebody soon: `limits.memory` says who, before it is the runtime";
        return Check::warning(NAME, format!("{shown}: memory is nearly used up"), help);
    }
    if host.disk.as_ref().is_some_and(|disk| low(disk.available_bytes, disk.total_bytes, DISK_LOW)) {
        let help = "make room, or put `runtime.state_dir` elsewhere: on a full disk history is lost, supervision is not";
        return Check::warning(NAME, format!("{shown}: the disk is nearly full"), help);
    }
    Check::ok(NAME, shown)
}

/// Restarts, delays and deadlines go by a clock that nobody can set; only what people read goes by this one.
fn clock(now: jiff::Timestamp) -> Check {
    const NAME: &str = "clock";
    let shown = format!("{now:.0}");
    if now.as_second() < FIRST_BUILD {
        let help =
            "recovery does not depend on it, but every time in logs and events will be wrong; start NTP";
        return Check::warning(NAME, format!("it says {shown}, which was long ago"), help);
    }
    let booted = crate::telemetry::boot_time().unwrap_or(0.0);
    if booted > now.as_second() as f64 + 1.0 {
        let help = "it was set back since the machine started; times before and after do not compare";
        return Check::warning(NAME, format!("it says {shown}, before the machine started"), help);
    }
    Check::ok(NAME, shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Outcome;
    use crate::telemetry::DiskFigures;

    fn everything() -> Capabilities {
        Capabilities { pidfd: Ok(()), pidfs: true, cgroup: Ok("/sys/fs/cgroup".into()), sees_others: true }
    }

    #[test]
    fn what_is_missing_is_named_with_what_it_costs() {
        let all = everything();
        for check in [pidfd(&all), cgroup(&all), proc(&all)] {
            assert_eq!((check.outcome, check.help), (Outcome::Ok, None));
        }
        let old = Capabilities { pidfs: false, ..everything() };
        assert_eq!(pidfd(&old).outcome, Outcome::Warning);
        let none = Capabilities { pidfd: Err("Function not implemented".to_owned()), ..everything() };
        assert_eq!(pidfd(&none).outcome, Outcome::Failed);
        let flat = Capabilities { cgroup: Err("read-only".to_owned()), sees_others: false, ..everything() };
        assert!(cgroup(&flat).message.contains("read-only") && cgroup(&flat).help.is_some());
        assert_eq!(proc(&flat).outcome, Outcome::Warning);
    }

    #[test]
    fn more_workers_than_descriptors_are_a_failure() {
        assert_eq!(files(0).outcome, Outcome::Ok);
        let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        if limit < u64::MAX / FILES_PER_WORKER {
            assert_eq!(files(limit).outcome, Outcome::Failed);
        }
    }

    #[test]
    fn a_machine_that_is_short_of_something_is_named() {
        let disk = |free| Some(DiskFigures { path: "/".into(), total_bytes: 1000, available_bytes: free });
        let with = |memory, free| HostFigures {
            cores: 2,
            cpu_percent: None,
            load: Some([0.3, 0.2, 0.1]),
            memory_total_bytes: 1000,
            memory_available_bytes: memory,
            disk: disk(free),
        };
        let well = machine(Ok(with(500, 500)));
        assert_eq!((well.outcome, well.message.starts_with("2 cores, load 0.3, ")), (Outcome::Ok, true));
        for short in [machine(Ok(with(49, 500))), machine(Ok(with(500, 19))), machine(Err("no".to_owned()))] {
            assert!(short.outcome == Outcome::Warning && short.help.is_some(), "{short:?}");
        }
    }

    #[test]
    fn a_clock_that_was_never_set_is_named() {
        assert_eq!(clock(jiff::Timestamp::from_second(1000).unwrap()).outcome, Outcome::Warning);
        assert_eq!(clock(jiff::Timestamp::now()).outcome, Outcome::Ok);
    }
}
