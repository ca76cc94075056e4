//! The task of one instance: it waits, and reports. Nothing in here blocks.
//!
//! An incarnation goes through three steps: *launch* (a spawning thread works, we wait), *watch* (the process
//! lives) and *settle* (its main process has ended; nothing of its tree may be left before that is told). The
//! way from the end of a process to the report of it is one system call for the cgroup, two for the fence and
//! one for the status.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::{ReadyWhen, StopTo};
use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::worker::notify::{Notification, NotifyMessage};
use crate::worker::unix::{
    pidfd_open, poll_ended, send_signal, send_signal_to_group, wait_pidfd, watch_pidfd,
};
use crate::worker::{Reporter, WorkerReport};

use super::children::{self, Registered};
use super::end::{Asked, meaning};
use super::failure::of_io;
use super::layout::take_fence;
use super::site::{Ground, Site};
use super::start::{OnLine, Started, start};
use super::tree::{self, Target};

/// A pool that answers nothing for this long is looked after.
const NUDGE: Duration = Duration::from_millis(200);
/// First and longest pause between looks at a tree that is being killed.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// An end this soon after the start is worth a hint about what the worker was not given.
const SOON: Duration = Duration::from_secs(1);
/// Datagrams that are still read when the process has ended already: what it said last counts, a flood does not.
const LAST_WORDS_READ: usize = 16;

/// What a runner can be told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Start(Incarnation),
    Stop,
    Kill,
}

/// The task.
pub(super) struct Life {
    site: Arc<Site>,
    report: Reporter,
    commands: mpsc::UnboundedReceiver<Command>,
    ground: Option<Ground>,
    /// Reads what the incarnation before wrote last.
    draining: Option<JoinHandle<()>>,
}

/// A main process that is watched.
struct Main {
    pid: u32,
    pidfd: Arc<OwnedFd>,
    events: AsyncFd<Arc<OwnedFd>>,
    /// Keeps the reaper away from its status.
    registered: Registered,
}

/// One incarnation.
struct Run {
    n: Incarnation,
    main: Main,
    /// The process that was started, once another one is the main process. Its zombie is kept to the end, so
    /// that the number of its session cannot be used again.
    first: Option<Main>,
    asked: Asked,
    ready: bool,
    began: Instant,
    line: Option<oneshot::Receiver<()>>,
    oom_kills: Option<u64>,
    /// When to kill once more, and how long to wait after that.
    kill_again: Option<(Instant, Duration)>,
    /// Searches for processes that are on their way.
    jobs: Vec<oneshot::Receiver<()>>,
}

/// Why waiting for an incarnation is over.
enum Watched {
    Ended,
    /// The runner was dropped: the process is left alone.
    Dropped,
}

enum Event {
    Command(Option<Command>),
    Ended,
    Line(bool),
    Said(io::Result<Notification>),
    KillAgain,
}

impl Life {
    pub(super) fn new(site: Arc<Site>, report: Reporter, commands: mpsc::UnboundedReceiver<Command>) -> Self {
        Self { site, report, commands, ground: None, draining: None }
    }

    /// Lives as long as its runner.
    pub(super) async fn run(mut self) {
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Start(n) => self.incarnation(n).await,
                // They crossed the end of what they were meant for.
                Command::Stop | Command::Kill => {}
            }
        }
    }

    async fn incarnation(&mut self, n: Incarnation) {
        let mut asked = Asked::Nothing;
        match self.launch(n, &mut asked).await {
            Ok(run) => self.live(Run { asked, ..run }).await,
            Err(failure) => self.start_failed(n, Exit::StartFailed(failure)),
        }
    }

    async fn live(&mut self, mut run: Run) {
        self.tell(run.n, WorkerReport::Started { pid: Some(run.main.pid) });
        if matches!(self.site.settings.ready, ReadyWhen::Started) {
            self.ready(&mut run);
        }
        match run.asked {
            Asked::Nothing => {}
            Asked::Stop => self.ask(&mut run),
            Asked::Kill => self.kill(&mut run),
        }
        match self.watch(&mut run).await {
            Watched::Ended => {}
            Watched::Dropped => return,
        }
        self.settle(&mut run).await;
        self.ended(run);
    }

    // ------------------------------------------------------------------ launch

    async fn launch(&mut self, n: Incarnation, asked: &mut Asked) -> Result<Run, StartFailure> {
        let (on_line, line) = self.line_watch().await;
        let began = Instant::now();
        let (answer, mut outcome) = oneshot::channel();
        let (site, ground) = (self.site.clone(), self.ground.take());
        self.site.host.pool.run(move |tools| {
            // Nobody waits any more if the runtime ends; then the process is found by the next one.
            drop(answer.send(start(&site, ground, n, on_line, tools)));
        });
        let (ground, started) = loop {
            tokio::select! {
                biased;
                outcome = &mut outcome => break outcome.unwrap_or_else(|_| (None, Err(lost_thread()))),
                Some(command) = self.commands.recv() => note(asked, command),
                () = tokio::time::sleep(NUDGE) => self.site.host.pool.nudge(),
            }
        };
        self.ground = ground;
        let Started { pid, pidfd, registered, oom_kills } = started?;
        let main = Main::watch(pid, pidfd.clone(), registered).map_err(|error| {
            // Without a way to see its end it must not live.
            self.signal(&pidfd, libc::SIGKILL);
            of_io("cannot watch the new process", &error)
        })?;
        let ready = false;
        Ok(Run {
            n,
            main,
            first: None,
            asked: Asked::Nothing,
            ready,
            began,
            line,
            oom_kills,
            kill_again: None,
            jobs: Vec::new(),
        })
    }

    /// For readiness by a line of output: what the incarnation before wrote must be read before.
    async fn line_watch(&mut self) -> (Option<OnLine>, Option<oneshot::Receiver<()>>) {
        if !matches!(self.site.settings.ready, ReadyWhen::Log(_)) {
            return (None, None);
        }
        if let Some(draining) = self.draining.take()
            && let Err(error) = draining.await
        {
            tracing::error!(%error, "reading a worker's last words failed");
        }
        let (found, line) = oneshot::channel();
        // The incarnation may be over by then.
        (Some(Box::new(move || found.send(()).unwrap_or_default())), Some(line))
    }

    // ------------------------------------------------------------------- watch

    async fn watch(&mut self, run: &mut Run) -> Watched {
        loop {
            match self.next(run).await {
                Event::Command(Some(Command::Stop)) => self.ask(run),
                Event::Command(Some(Command::Kill)) | Event::KillAgain => self.kill(run),
                Event::Command(Some(Command::Start(n))) => {
                    tracing::error!(instance = %self.site.instance, %n, "told to start while an incarnation lives");
                }
                Event::Command(None) => return Watched::Dropped,
                Event::Line(true) => self.ready(run),
                Event::Line(false) => run.line = None,
                Event::Said(Ok(said)) => self.said(run, said),
                Event::Said(Err(error)) => {
                    tracing::warn!(instance = %self.site.instance, %error, "its notify socket is broken");
                    self.ground = None;
                }
                Event::Ended => {
                    self.hear_out(run).await;
                    return Watched::Ended;
                }
            }
        }
    }

    /// The next thing that happens. Commands and the end first: a worker that floods its socket delays neither.
    async fn next(&mut self, run: &mut Run) -> Event {
        let again = run.kill_again.map(|(at, _)| at);
        let line = &mut run.line;
        let ground = self.ground.as_ref();
        tokio::select! {
            biased;
            command = self.commands.recv() => Event::Command(command),
            () = run.main.ended() => Event::Ended,
            found = async { line.as_mut()?.await.ok() }, if line.is_some() => Event::Line(found.is_some()),
            said = async { ground?.notify.recv().await.into() }, if ground.is_some() => match said {
                Some(said) => Event::Said(said),
                None => Event::KillAgain,
            },
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => Event::KillAgain,
        }
    }

    /// A worker that says `READY=1` and ends at once was ready.
    async fn hear_out(&mut self, run: &mut Run) {
        if run.line.as_mut().is_some_and(|line| line.try_recv().is_ok()) {
            self.ready(run);
        }
        for _ in 0..LAST_WORDS_READ {
            let Some(ground) = &self.ground else { return };
            let Some(Ok(said)) = now(ground.notify.recv()).await else { return };
            self.said(run, said);
        }
    }

    fn ready(&self, run: &mut Run) {
        run.ready = true;
        run.line = None;
        self.tell(run.n, WorkerReport::Ready);
    }

    fn said(&self, run: &mut Run, said: Notification) {
        if !self.is_ours(run, said.pid) {
            tracing::warn!(instance = %self.site.instance, pid = said.pid, uid = said.uid, "a notification from outside of the worker's tree is ignored");
            return;
        }
        for message in said.messages {
            self.heed(run, message);
        }
        // Last: the sender waits until everything it said is dealt with.
        drop(said.barrier);
    }

    fn heed(&self, run: &mut Run, message: NotifyMessage) {
        let report = match message {
            NotifyMessage::Ready => match (&self.site.settings.ready, run.ready) {
                (ReadyWhen::Notify, _) | (ReadyWhen::Started | ReadyWhen::Log(_), true) => {
                    return self.ready(run);
                }
                (ReadyWhen::Started | ReadyWhen::Log(_), false) => return,
            },
            NotifyMessage::Reloading => WorkerReport::Reloading,
            NotifyMessage::Stopping => WorkerReport::Stopping,
            NotifyMessage::Beat => WorkerReport::Beat,
            NotifyMessage::Distress => WorkerReport::Distress,
            NotifyMessage::Status(text) => WorkerReport::Status { text },
            NotifyMessage::Extend(by) => WorkerReport::Extend { by },
            NotifyMessage::MainPid(pid) => return self.change_main(run, pid),
            NotifyMessage::Barrier => return,
        };
        self.tell(run.n, report);
    }

    /// Whether a process belongs to this incarnation's tree, by the cgroup if there is one, else by descent.
    fn is_ours(&self, run: &Run, pid: u32) -> bool {
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.as_ref());
        pid == run.main.pid || cgroup.is_some_and(|cgroup| cgroup.holds(pid)) || self.target(run).owns(pid)
    }

    fn change_main(&self, run: &mut Run, pid: u32) {
        if pid == run.main.pid {
            return;
        }
        // Opened first, checked then: the descriptor cannot change whom it means.
        let main = pidfd_open(pid).and_then(|pidfd| {
            if !self.is_ours(run, pid) || poll_ended(&pidfd) {
                return Err(io::Error::other("it is none of the worker's processes"));
            }
            Main::watch(pid, Arc::new(pidfd), children::register(pid))
        });
        match main {
            Ok(main) => {
                let before = std::mem::replace(&mut run.main, main);
                run.first.get_or_insert(before);
                self.tell(run.n, WorkerReport::MainPid { pid });
            }
            Err(error) => {
                tracing::warn!(instance = %self.site.instance, pid, %error, "MAINPID= is ignored");
            }
        }
    }

    // ------------------------------------------------------------ stop and kill

    /// Sends the stop signal, and CONT behind it: a stopped process could not hear it.
    fn ask(&self, run: &mut Run) {
        run.asked = run.asked.max(Asked::Stop);
        let stop = &self.site.settings.stop;
        let leader = run.first.as_ref().unwrap_or(&run.main);
        let by_group = match stop.to {
            StopTo::Main => Ok(false),
            StopTo::Group => send_signal_to_group(&leader.pidfd, stop.signal)
                .and_then(|()| send_signal_to_group(&leader.pidfd, libc::SIGCONT))
                .map(|()| true),
        };
        match by_group {
            Ok(true) => {}
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
    fn kill(&self, run: &mut Run) {
        run.asked = Asked::Kill;
        let pause =
            run.kill_again.map_or(Duration::from_millis(100), |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
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
        let (target, main) = (self.target(run), run.main.pidfd.clone());
        run.jobs.push(self.job(move || {
            tree::kill(&target, cgroup.as_deref());
            if let Err(error) = send_signal(&main, libc::SIGKILL)
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                tracing::warn!(%error, "cannot kill a worker's main process");
            }
        }));
    }

    /// Runs something that looks for processes, on a spawning thread.
    fn job<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (answer, done) = oneshot::channel();
        // Whoever asked may be gone with the runtime.
        self.site.host.pool.run(move |_| drop(answer.send(work()).ok()));
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

    fn signal(&self, pidfd: &OwnedFd, signal: i32) {
        match send_signal(pidfd, signal) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => {
                tracing::warn!(instance = %self.site.instance, signal, %error, "cannot signal it");
            }
        }
    }

    fn target(&self, run: &Run) -> Target {
        let leader = run.first.as_ref().unwrap_or(&run.main).pid;
        self.site.target.with(Some(leader), Some(run.main.pid))
    }

    // ------------------------------------------------------------------ settle

    /// Returns once nothing of the tree lives, killing what is left, for as long as that takes.
    async fn settle(&mut self, run: &mut Run) {
        // A search that began before must not go on into the next incarnation, nor see the fence in our hands.
        for job in std::mem::take(&mut run.jobs) {
            self.done(job).await;
        }
        let target = self.target(run);
        let mut pause = FIRST_PAUSE;
        let mut told = run.asked == Asked::Kill;
        // The second look decides: the first one can meet what is just going.
        let mut looks = 0;
        while !self.is_empty(&target) {
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
    fn is_empty(&mut self, target: &Target) -> bool {
        let Some(ground) = &mut self.ground else { return true };
        if let Some(cgroup) = &ground.cgroup {
            // A cgroup that somebody removed is empty.
            if cgroup.populated().unwrap_or(false) {
                return false;
            }
        } else if self.site.host.adopts && children::orphans().into_iter().any(|pid| target.owns_orphan(pid))
        {
            return false;
        }
        if ground.fence.is_some() {
            return true;
        }
        let layout = &self.site.layout;
        match self.site.host.reserve.with(super::reserve::is_exhaustion, || take_fence(&layout.out)) {
            Ok(Some(fence)) => {
                ground.fence = Some(fence);
                true
            }
            Ok(None) => false,
            Err(error) => {
                // It was removed: nobody can be asked, and the next start makes it anew.
                tracing::warn!(instance = %self.site.instance, %error, "its fence is gone");
                self.ground = None;
                true
            }
        }
    }

    /// Kills what is left, on a spawning thread; answers how many were found.
    async fn sweep(&self, target: Target) -> u32 {
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.clone());
        let job = self.job(move || tree::kill(&target, cgroup.as_deref()));
        self.done(job).await.unwrap_or(0)
    }

    // --------------------------------------------------------------------- end

    fn ended(&mut self, run: Run) {
        let status = wait_pidfd(&run.main.pidfd).unwrap_or_else(|error| {
            // ECHILD: a MAINPID= that never was our child.
            tracing::debug!(instance = %self.site.instance, %error, "its status cannot be taken");
            None
        });
        if let Some(first) = &run.first
            && let Err(error) = wait_pidfd(&first.pidfd)
        {
            tracing::debug!(instance = %self.site.instance, %error, "the first process's status is gone");
        }
        let cgroup = self.ground.as_ref().and_then(|ground| ground.cgroup.as_deref());
        let oom = || self.site.host.oom.explains(cgroup, run.oom_kills);
        let exit = meaning(status, run.asked, self.site.settings.stop.signal, oom);
        let Run { n, ready, asked, began, main, first, .. } = run;
        drop((main.registered, first));
        self.site.host.record.ended(&self.site.instance);
        if !ready && asked == Asked::Nothing {
            let failure = StartFailure::BeforeReady { ended: Box::new(exit) };
            self.start_failed(n, Exit::StartFailed(failure));
        } else {
            let soon = began.elapsed() < SOON && exit.code().is_some_and(|code| code != 0);
            if let (true, Some(text)) = (soon, self.hint()) {
                self.tell(n, WorkerReport::Hint { text });
            }
            self.tell(n, WorkerReport::Exited { exit });
        }
        self.drain(n);
    }

    /// Reads the last words without holding up the next start.
    fn drain(&mut self, n: Incarnation) {
        let Some(ground) = &self.ground else { return };
        let (out, err) = (ground.out.drain(), ground.err.as_ref().map(|err| err.drain()));
        let report = self.report.clone();
        self.draining = Some(tokio::spawn(async move {
            let mut lines = out.await;
            if let Some(err) = err {
                lines.extend(err.await);
            }
            if !lines.is_empty() {
                report(n, WorkerReport::LastWords { lines });
            }
        }));
    }

    fn start_failed(&self, n: Incarnation, exit: Exit) {
        self.tell(n, WorkerReport::StartFailed { exit, hint: self.hint() });
    }

    fn hint(&self) -> Option<String> {
        self.site.recipe.as_ref().ok()?.hint()
    }

    fn tell(&self, n: Incarnation, report: WorkerReport) {
        (self.report)(n, report);
    }
}

impl Main {
    fn watch(pid: u32, pidfd: Arc<OwnedFd>, registered: Registered) -> io::Result<Self> {
        let events = watch_pidfd(pidfd.clone())?;
        Ok(Self { pid, pidfd, events, registered })
    }

    /// Waits until it has ended.
    async fn ended(&self) {
        loop {
            match self.events.readable().await {
                Ok(_) if poll_ended(&self.pidfd) => return,
                Ok(mut guard) => guard.clear_ready(),
                // The reactor is gone, and this task is about to be.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

/// What a future answers without waiting. A timeout of zero would round up to a timer tick.
async fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn note(asked: &mut Asked, command: Command) {
    match command {
        Command::Stop => *asked = (*asked).max(Asked::Stop),
        Command::Kill => *asked = Asked::Kill,
        Command::Start(n) => tracing::error!(%n, "told to start while an incarnation is under way"),
    }
}

fn lost_thread() -> StartFailure {
    StartFailure::System { detail: "the spawning thread ended in the middle of the start".to_owned() }
}
