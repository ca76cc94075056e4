//! Asking a tree to end, killing it, and being sure that nothing of it is left.

use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::StopTo;
use crate::id::InstanceId;
use crate::worker::WorkerReport;
use crate::worker::unix::{poll_ended, send_signal, send_signal_to_group, wait_pidfd};

use super::children;
use super::company::Company;
use super::end::Asked;
use super::layout::take_fence;
use super::life::{Life, NUDGE, Run, note};
use super::reserve::is_exhaustion;
use super::rounds::Daemon;
use super::tree::{self, Reach, Target};

/// First and longest pause between looks at a tree that is being killed.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// First pause between kills of a main process that does not die: it is in an uninterruptible wait.
const KILL_PAUSE: Duration = Duration::from_millis(100);

impl Life {
    /// A stop was asked for: the signal comes at once, or once those who choose among its kind have had the time to
    /// leave it out. Nobody had chosen one that was never ready.
    pub(super) fn drain_and_ask(&self, run: &mut Run) {
        let drain = self.site.settings.stop.drain;
        if drain.is_zero() || !run.ready || run.asked != Asked::Nothing {
            return self.ask(run);
        }
        run.asked = Asked::Stop;
        run.drained = Some(Instant::now() + drain);
    }

    /// Sends the stop signal, and CONT behind it: a stopped process could not hear it.
    pub(super) fn ask(&self, run: &mut Run) {
        run.asked = run.asked.max(Asked::Stop);
        run.drained = None;
        let stop = &self.site.settings.stop;
        // A daemon has a group of its own.
        let leader = run.first.as_ref().filter(|_| run.daemon == Daemon::No).unwrap_or(&run.main);
        let by_group = match stop.to {
            StopTo::Main => Ok(false),
            StopTo::Group => send_signal_to_group(&leader.pidfd, stop.signal)
                .and_then(|()| send_signal_to_group(&leader.pidfd, libc::SIGCONT))
                .map(|()| true),
        };
        match by_group {
            Ok(true) => {}
            Ok(false) if run.company.is_some() => {
                // Whose children they are can be seen only as long as it lives.
                let (company, main, signals) =
                    (run.company.clone(), run.main.pidfd.clone(), [stop.signal, libc::SIGCONT]);
                let instance = self.site.instance.clone();
                run.jobs.push(self.job(move || {
                    company.iter().for_each(Company::look);
                    signals.into_iter().for_each(|signal| tell(&instance, &main, signal));
                }));
            }
            Ok(false) => {
                self.signal(&run.main.pidfd, stop.signal);
                self.signal(&run.main.pidfd, libc::SIGCONT);
            }
            Err(_) => {
                let (pid, signals) = (leader.pid, [stop.signal, libc::SIGCONT]);
                run.jobs.push(self.job(move || tree::signal_group(pid, &signals)));
            }
        }
    }

    /// Kills the tree, and says when to do it again: who is in an uninterruptible wait dies once that is over, but
    /// who is forked meanwhile must be killed too.
    pub(super) fn kill(&self, run: &mut Run) {
        run.asked = Asked::Kill;
        run.drained = None;
        // Who was taken over is in no cgroup of ours.
        let reach = if run.kill_again.is_none() && !run.adopted { Reach::Cgroup } else { Reach::Everywhere };
        let pause = run.kill_again.map_or(KILL_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        run.kill_again = Some((Instant::now() + pause, pause));
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.clone());
        if cgroup.is_some() {
            self.signal(&run.main.pidfd, libc::SIGKILL);
        }
        run.jobs.retain_mut(|job| job.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        if !run.jobs.is_empty() {
            // One that hangs would not be helped by another.
            return self.site.host.pool.nudge();
        }
        let (target, main, host) = (self.target(run), run.main.pidfd.clone(), self.site.host.clone());
        run.jobs.push(self.job(move || {
            host.reserve.lend(|| tree::kill(&target, cgroup.as_deref(), reach));
            if let Err(error) = send_signal(&main, libc::SIGKILL)
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                tracing::warn!(%error, "cannot kill a worker's main process");
            }
        }));
    }

    /// Runs something that looks for processes, on a spawning thread.
    pub(super) fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, done) = oneshot::channel();
        // Whoever asked may be gone with the runtime.
        self.site.host.pool.run(move |_| answer.send(work()).map_or_else(drop, drop));
        done
    }

    async fn done<T>(&self, mut job: oneshot::Receiver<T>) -> Option<T> {
        loop {
            tokio::select! {
                done = &mut job => return done.ok(),
                () = tokio::time::sleep(NUDGE) => self.site.host.pool.nudge(),
            }
        }
    }

    pub(super) fn signal(&self, pidfd: &OwnedFd, signal: i32) {
        tell(&self.site.instance, pidfd, signal);
    }

    pub(super) fn target(&self, run: &Run) -> Target {
        let leader = run.first.as_ref().unwrap_or(&run.main).pid;
        self.site.target.with(Some(leader), Some(run.main.pid)).among(run.company.as_ref())
    }

    /// Returns once nothing of the tree lives, killing what is left, for as long as that takes.
    pub(super) async fn settle(&mut self, run: &mut Run) {
        // A search that began before must not go on into the next incarnation, nor see the fence in our hands.
        for job in std::mem::take(&mut run.jobs) {
            self.done(job).await;
        }
        // Nobody keeps the number of one that was taken over: it may be a stranger's by now.
        let target = if run.adopted {
            self.site.target.with(None, None).among(run.company.as_ref())
        } else {
            self.target(run)
        };
        let mut pause = FIRST_PAUSE;
        let mut told = run.asked == Asked::Kill;
        // The second look decides: the first one can meet what is just going.
        let mut looks = 0;
        while !self.is_empty(&target, run.asked).await {
            looks += 1;
            if looks > 1 {
                let found = self.sweep(target.clone()).await;
                if found > 0 && !std::mem::replace(&mut told, true) {
                    self.tell(run.n, WorkerReport::Leftovers { count: Some(found) });
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                Some(command) = self.commands.recv() => note(&mut run.asked, command),
            }
        }
    }

    /// Whether nothing of the tree lives any more; takes the fence if so.
    pub(super) async fn is_empty(&mut self, target: &Target, asked: Asked) -> bool {
        if self.others_live(target, asked).await {
            return false;
        }
        let Some(ground) = &mut self.ground else { return true };
        if let Some(cgroup) = &ground.cgroup {
            // A cgroup that somebody removed is empty.
            if cgroup.populated().unwrap_or(false) {
                return false;
            }
        }
        if ground.fence.is_some() {
            return true;
        }
        let layout = &self.site.layout;
        let taken = self.site.host.reserve.with(is_exhaustion, || take_fence(&layout.out));
        self.site.host.reserve.refill();
        match taken {
            Ok(Some(fence)) => {
                // Where descriptors are short the next start takes it again: nobody else does meanwhile.
                ground.fence = Some(fence).filter(|_| self.site.host.reserve.is_whole());
                true
            }
            Ok(None) => false,
            // An empty cgroup is enough to report the end: the next start asks the fence before it does anything. Else
            // not known is not empty.
            Err(error) if is_exhaustion(&error) => ground.cgroup.is_some(),
            Err(error) => {
                // It was removed: nobody can be asked, and the next start makes it anew.
                tracing::warn!(instance = %self.site.instance, %error, "its fence is gone");
                self.ground = None;
                true
            }
        }
    }

    /// Whether anybody is found in `/proc`. Mostly nobody has to be looked at; a look can take long, for whoever waits
    /// for its memory holds up who reads its environment. Where there is a cgroup it is worth one when the tree is to
    /// end: who has left that by itself, as a login does, has mostly left the session and the output, too.
    async fn others_live(&self, target: &Target, asked: Asked) -> bool {
        let alone = self.ground.as_ref().is_some_and(|ground| ground.cgroup.is_none());
        let by_descent = self.site.host.adopts && (alone || asked != Asked::Nothing);
        let orphans = if by_descent { children::orphans() } else { Vec::new() };
        if orphans.is_empty() && !target.had_company() {
            return false;
        }
        let target = target.clone();
        let found = move || target.has_company() || orphans.into_iter().any(|pid| target.owns_orphan(pid));
        // Not known is not empty.
        tokio::task::spawn_blocking(found).await.unwrap_or(true)
    }

    /// Ends one that cannot be watched, and all that it has started: without a way to see its end it must not live.
    pub(super) async fn end_unwatched(&mut self, pid: u32, pidfd: &OwnedFd) {
        let target = self.site.target.with(Some(pid), Some(pid));
        let mut pause = FIRST_PAUSE;
        self.signal(pidfd, libc::SIGKILL);
        self.sweep(target.clone()).await;
        while !poll_ended(pidfd) || !self.is_empty(&target, Asked::Kill).await {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.sweep(target.clone()).await;
        }
        if let Err(error) = wait_pidfd(pidfd) {
            tracing::debug!(instance = %self.site.instance, %error, "its status cannot be taken");
        }
        self.site.host.record.ended(&self.site.instance);
    }

    /// Kills what is left, on a spawning thread; answers how many were found.
    async fn sweep(&self, target: Target) -> u32 {
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.clone());
        let host = self.site.host.clone();
        let job =
            self.job(move || host.reserve.lend(|| tree::kill(&target, cgroup.as_deref(), Reach::Everywhere)));
        self.done(job).await.unwrap_or(0)
    }
}

fn tell(instance: &InstanceId, pidfd: &OwnedFd, signal: i32) {
    match send_signal(pidfd, signal) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
        Err(error) => tracing::warn!(%instance, signal, %error, "cannot signal it"),
    }
}
