//! What the machine gives: the kernel's ways to know and to end a process, limits, and the clock.

use rustix::process::{Resource, getrlimit};

use crate::config::{Sources, load};
use crate::worker::process::Capabilities;

use super::Check;
use crate::cli::args::Global;
use crate::cli::words::plural;

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
    vec![pidfd(&can), cgroup(&can), proc(&can), files(workers as u64), clock(jiff::Timestamp::now())]
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
    fn a_clock_that_was_never_set_is_named() {
        assert_eq!(clock(jiff::Timestamp::from_second(1000).unwrap()).outcome, Outcome::Warning);
        assert_eq!(clock(jiff::Timestamp::now()).outcome, Outcome::Ok);
    }
}
