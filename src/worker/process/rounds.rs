//! What is looked at again and again while an incarnation runs: a pid file that is awaited, limits that no kernel
//! enforces, and who is around a program that ran before us.
//!
//! On a spawning thread, since both read files; one look at a time, so that a slow one is not followed by a pile of
//! others. A worker with none of these has no timer at all.

use std::io;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::ReadyWhen;
use crate::units::format_size;
use crate::worker::WorkerReport;

use super::bounds::Polled;
use super::company::Company;
use super::daemon;
use super::end::Asked;
use super::life::{Life, Run};
use super::tree::{self, Usage};

/// A daemon writes its file within milliseconds, or after a long start.
const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(200);
const SOON_FOR: Duration = Duration::from_secs(2);
/// Who is forked by one that was taken over, and leaves its session within this time, is not known.
const COMPANY: Duration = Duration::from_secs(5);
/// A leak of 10 MB a second oversteps its limit by that much.
const MEASURE: Duration = Duration::from_secs(1);

/// Whether another process than the one that was started is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// It is the one that was started.
    No,
    /// The pid file has not named one yet.
    Awaited {
        /// The process that was started has ended, and well.
        alone: bool,
    },
    /// The main process is the one that it names.
    Found,
}

/// The next look, and the one under way.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    pub(super) next: Option<Instant>,
    pub(super) answer: Option<oneshot::Receiver<Seen>>,
    /// Why the pid file does not name its daemon yet.
    pub(super) no_daemon: Option<String>,
}

/// What a look saw.
#[derive(Debug)]
pub(super) struct Seen {
    pid: Option<u32>,
    /// Why the file names none.
    no_pid: Option<String>,
    usage: Option<Usage>,
}

/// A limit that a tree went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Memory(u64),
    Processes(u64),
}

/// Which limit this is over, if any.
fn over(usage: Usage, limits: Polled) -> Option<Over> {
    let memory = limits.memory.filter(|limit| usage.memory > *limit).map(|_| Over::Memory(usage.memory));
    let processes = || limits.processes.filter(|limit| usage.processes > *limit);
    memory.or_else(|| processes().map(|_| Over::Processes(usage.processes)))
}

impl Life {
    fn polled(&self) -> Polled {
        self.ground.as_ref().map(|ground| ground.bounds.polled).unwrap_or_default()
    }

    /// Sets the time of the next look.
    pub(super) fn plan_round(&self, run: &mut Run) {
        let pause = match run.daemon {
            Daemon::Awaited { .. } if run.began.elapsed() < SOON_FOR => SOON,
            Daemon::Awaited { .. } => LATER,
            Daemon::No | Daemon::Found if self.polled().is_any() => MEASURE,
            Daemon::No | Daemon::Found if run.company.is_some() => COMPANY,
            Daemon::No | Daemon::Found => {
                run.rounds.next = None;
                return;
            }
        };
        run.rounds.next = Some(Instant::now() + pause);
    }

    /// Begins a look.
    pub(super) fn look(&mut self, run: &mut Run) {
        run.rounds.next = None;
        let awaited = matches!(run.daemon, Daemon::Awaited { .. });
        let path = self.site.pid_file(run.n).filter(|_| awaited);
        let polled = self.polled();
        let (target, main) = (self.target(run), run.main.pid);
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.clone());
        let company = run.company.clone();
        run.rounds.answer = Some(self.job(move || {
            company.iter().for_each(Company::look);
            let pid = path.as_ref().and_then(|path| daemon::read_pid(path));
            Seen {
                pid,
                no_pid: path.filter(|_| pid.is_none()).map(|path| daemon::why_no_pid(&path)),
                usage: polled.is_any().then(|| tree::usage(&target, main, cgroup.as_deref(), polled.memory)),
            }
        }));
    }

    /// What follows from it. False: nothing of this incarnation is left to be waited for.
    pub(super) async fn seen(&mut self, run: &mut Run, seen: Option<Seen>) -> bool {
        run.rounds.answer = None;
        let (pid, no_pid, usage) =
            seen.map_or((None, None, None), |seen| (seen.pid, seen.no_pid, seen.usage));
        if let Some(pid) = pid {
            self.try_daemon(run, pid).await;
        } else if let Some(why) = no_pid {
            self.no_daemon(run, &why);
        }
        if let Some(over) = usage.and_then(|usage| over(usage, self.polled()))
            && run.over.is_none()
        {
            self.kill_for(run, over);
        }
        self.plan_round(run);
        let target = self.target(run);
        run.daemon != Daemon::Awaited { alone: true } || !self.is_empty(&target, run.asked).await
    }

    async fn try_daemon(&mut self, run: &mut Run, pid: u32) {
        let alone = run.daemon == Daemon::Awaited { alone: true };
        // It may name the process that was started, which then stays.
        if pid != run.main.pid {
            match self.take_main(run, pid).await {
                Ok(()) => {}
                // A file that is older than this start: the daemon will write its own.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                    return self.no_daemon(run, &format!("names process {pid}, which does not run"));
                }
                Err(error) => {
                    self.no_daemon(run, &format!("names process {pid}, and {error}"));
                    return self.ignore(pid, &error, "its pid_file names a stranger");
                }
            }
        } else if alone {
            return;
        }
        run.daemon = Daemon::Found;
        if matches!(self.site.settings.ready, ReadyWhen::Started) && !run.ready {
            self.ready(run);
        }
    }

    fn no_daemon(&self, run: &mut Run, why: &str) {
        let file = self.site.pid_file(run.n);
        run.rounds.no_daemon = file.map(|file| format!("its pid_file {} {why}", file.display()));
    }

    /// Whether the end of the process that was started is only the beginning.
    pub(super) fn leaves_a_daemon(&self, run: &mut Run) -> bool {
        let well = || crate::worker::unix::peek_pidfd(&run.main.pidfd).ok().flatten();
        let awaited = run.daemon == Daemon::Awaited { alone: false } && run.asked == Asked::Nothing;
        if !awaited || well() != Some(crate::worker::unix::Ended::Code(0)) {
            return false;
        }
        run.daemon = Daemon::Awaited { alone: true };
        if run.rounds.answer.is_none() {
            self.plan_round(run);
        }
        true
    }

    fn kill_for(&mut self, run: &mut Run, over: Over) {
        let limits = self.polled();
        let text = match over {
            Over::Memory(bytes) => format!(
                "its tree had {} of memory, above limits.memory = {}, and was killed",
                format_size(bytes),
                format_size(limits.memory.unwrap_or_default())
            ),
            Over::Processes(count) => format!(
                "its tree had {count} processes and threads, above limits.processes = {}, and was killed",
                limits.processes.unwrap_or_default()
            ),
        };
        run.over = Some(over);
        self.tell(run.n, WorkerReport::Hint { text });
        self.kill(run);
    }

    /// What a program says of a fork that failed is seldom that a limit was reached.
    pub(super) fn refused_forks(&self, run: &Run) -> Option<String> {
        let now = self.ground.as_ref().and_then(|ground| ground.bounds.refused_forks());
        let refused = now.zip(run.forks).map_or(0, |(now, before)| now.saturating_sub(before));
        let most = self.site.settings.isolation.limits.processes.filter(|_| refused > 0)?;
        Some(format!(
            "its tree had limits.processes = {most} processes and threads, and could start no more: {refused} refused"
        ))
    }

    pub(super) fn ignore(&mut self, pid: u32, error: &io::Error, what: &'static str) {
        if let Some(before) = self.ignored.count(Instant::now()) {
            tracing::warn!(instance = %self.site.instance, pid, %error, before, "{what}: it is ignored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limit_is_not_over_it() {
        let limits = Polled { memory: Some(100), processes: Some(5) };
        assert_eq!(over(Usage { memory: 100, processes: 5 }, limits), None);
        assert_eq!(over(Usage { memory: 101, processes: 9 }, limits), Some(Over::Memory(101)));
        assert_eq!(over(Usage { memory: 1, processes: 6 }, limits), Some(Over::Processes(6)));
        assert_eq!(over(Usage { memory: u64::MAX, processes: u64::MAX }, Polled::default()), None);
    }
}
