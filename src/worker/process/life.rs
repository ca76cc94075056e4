//! The task of one instance: it waits, and reports. Nothing in here blocks.
//!
//! An incarnation goes through three steps: *launch* (a spawning thread works, we wait), *watch* (the process
//! lives) and *settle* (its main process has ended; nothing of its tree may be left before that is told). The
//! way from the end of a process to the report of it is one system call for the cgroup, two for the fence and
//! one for the status.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::ReadyWhen;
use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::recovery::redact;
use crate::worker::mailbox::Receiver;
use crate::worker::notify::Notification;
use crate::worker::talk::Call;
use crate::worker::unix::{Ended, wait_pidfd};
use crate::worker::{Reporter, WorkerReport};

use super::company::Company;
use super::daemon::end_of;
use super::end::{Asked, meaning};
use super::failure::of_io;
use super::hear::Ignored;
use super::main_process::Main;
use super::recipe;
use super::rounds::{Daemon, Over, Rounds, Seen};
use super::site::{Ground, Site};
use super::start::{OnLine, Started, start};

/// A pool that answers nothing for this long is looked after.
pub(super) const NUDGE: Duration = Duration::from_millis(200);
/// An end this soon after the start is worth a hint about what the worker was not given.
const SOON: Duration = Duration::from_secs(1);

/// What a runner can be told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Command {
    Start(Incarnation),
    Stop,
    Signal(i32),
    /// Its probe has passed.
    Ready,
    Kill,
}

/// The task.
pub(super) struct Life {
    pub(super) site: Arc<Site>,
    pub(super) report: Reporter,
    pub(super) commands: Receiver<Command>,
    pub(super) ground: Option<Ground>,
    /// Notes were told of the incarnation before.
    noted: bool,
    /// One of its incarnations has ended.
    ended: bool,
    /// Reads what the incarnation before wrote last.
    pub(super) draining: Option<JoinHandle<()>>,
    /// Bounds what is written down about notifications that are ignored.
    pub(super) ignored: Ignored,
}

/// One incarnation.
pub(super) struct Run {
    pub(super) n: Incarnation,
    pub(super) main: Main,
    /// The process that was started, once another one is the main process. Its zombie is kept to the end, so
    /// that the number of its session cannot be used again.
    pub(super) first: Option<Main>,
    pub(super) asked: Asked,
    /// When it gets its stop signal, if others are given time to stop choosing it.
    pub(super) drained: Option<Instant>,
    pub(super) ready: bool,
    pub(super) began: Instant,
    pub(super) line: Option<oneshot::Receiver<()>>,
    pub(super) oom_kills: Option<u64>,
    pub(super) forks: Option<u64>,
    /// When to kill once more, and how long to wait after that.
    pub(super) kill_again: Option<(Instant, Duration)>,
    /// Searches for processes that are on their way.
    pub(super) jobs: Vec<oneshot::Receiver<()>>,
    /// Whether the main process is another one than was started.
    pub(super) daemon: Daemon,
    /// It ran before we came, as nobody's child of ours.
    pub(super) adopted: bool,
    /// Those around it, then.
    pub(super) company: Option<Company>,
    /// The limit it is being killed for.
    pub(super) over: Option<Over>,
    pub(super) rounds: Rounds,
    /// Its notify socket could not be read; it is tried again at this time.
    pub(super) deaf: Option<Instant>,
}

/// What is not as usual with one that ran already.
const TAKEN_OVER: [&str; 2] = [
    "taken over while it ran: limits, and the reading of its output, begin with its next start",
    "processes that it had started before end with it if they are below it or in a session that it leads; others are not known to regrow",
];

/// Why waiting for an incarnation is over.
enum Watched {
    Ended,
    /// The runner was dropped: nobody will ever stop it but us.
    Dropped,
}

enum Event {
    Command(Option<Command>),
    Ended,
    Line(bool),
    Said(io::Result<Notification>),
    Called(Call),
    SaysReady(Incarnation),
    Due(Due),
    Seen(Option<Seen>),
}

/// What has its time.
#[derive(Clone, Copy)]
enum Due {
    Round,
    KillAgain,
    Drained,
    Hears,
}

impl Life {
    pub(super) fn new(site: Arc<Site>, report: Reporter, commands: Receiver<Command>) -> Self {
        Self {
            site,
            report,
            commands,
            ground: None,
            noted: false,
            ended: false,
            draining: None,
            ignored: Ignored::default(),
        }
    }

    /// Lives as long as its runner, and begins once an earlier runner of the instance has left nothing behind.
    pub(super) fn run(self) -> impl Future<Output = ()> + Send {
        // A future has room for what it is given twice, once as it comes.
        let mut life = Box::new(self);
        async move {
            let site = Arc::clone(&life.site);
            let turn = site.host.turn(&site.instance);
            let held = turn.lock().await;
            life.obey().await;
            if let Some(draining) = life.draining.take() {
                // What went wrong in it has been reported for what it is.
                let _ = draining.await;
            }
            drop(life);
            drop(held);
            site.host.end_turn(&site.instance, turn);
        }
    }

    async fn obey(&mut self) {
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Start(n) => self.incarnation(n).await,
                // They crossed the end of what they were meant for.
                Command::Stop | Command::Signal(_) | Command::Ready | Command::Kill => {}
            }
        }
    }

    async fn incarnation(&mut self, n: Incarnation) {
        let mut asked = Asked::Nothing;
        match Box::pin(self.launch(n, &mut asked)).await {
            Ok(mut run) => {
                run.asked = asked;
                self.live(run).await;
            }
            Err(failure) => {
                self.tell(n, WorkerReport::StartFailed { exit: Exit::StartFailed(failure), hint: None });
            }
        }
    }

    async fn live(&mut self, mut run: Box<Run>) {
        let pid = run.main.pid;
        let started = if run.adopted {
            WorkerReport::Adopted { pid }
        } else {
            WorkerReport::Started { pid: Some(pid) }
        };
        self.tell(run.n, started);
        if run.adopted || matches!(self.site.settings.ready, ReadyWhen::Started) && run.daemon == Daemon::No {
            self.ready(&mut run);
        }
        self.plan_round(&mut run);
        match run.asked {
            Asked::Nothing => {}
            Asked::Stop => self.ask(&mut run),
            Asked::Kill => self.kill(&mut run),
        }
        match self.watch(&mut run).await {
            Watched::Ended => {}
            Watched::Dropped => return Box::pin(self.abandoned(run)).await,
        }
        // What comes seldom, and never while the worker lives, takes its memory when it comes.
        Box::pin(self.settle(&mut run)).await;
        self.ended(run);
    }

    /// Ends what nobody is responsible for any more, and tells nobody.
    async fn abandoned(&mut self, mut run: Box<Run>) {
        tracing::warn!(instance = %self.site.instance, "nobody supervises it any more: it is killed");
        self.kill(&mut run);
        while let Some((again, _)) = run.kill_again {
            tokio::select! {
                () = run.main.ended() => break,
                () = tokio::time::sleep_until(again) => self.kill(&mut run),
            }
        }
        self.settle(&mut run).await;
        self.reaped(&run);
    }

    async fn launch(&mut self, n: Incarnation, asked: &mut Asked) -> Result<Box<Run>, StartFailure> {
        let (on_line, line) = self.line_watch().await;
        let began = Instant::now();
        let (answer, mut outcome) = oneshot::channel();
        let (site, ground, report) = (self.site.clone(), self.ground.take(), self.report.clone());
        self.site.host.pool.run(move |tools| {
            // Nobody waits any more if the runtime ends; then the process is found by the next one.
            drop(answer.send(start(&site, (ground, &report), n, on_line, tools)));
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
        let adopted = started.as_ref().is_ok_and(|started| started.adopted);
        self.tell_notes(n, adopted);
        let Started { pid, pidfd, registered, oom_kills, forks, adopted, company } = started?;
        let main = match Main::watch(pid, pidfd.clone(), registered) {
            Ok(main) => main,
            Err(error) => {
                Box::pin(self.end_unwatched(pid, &pidfd)).await;
                return Err(of_io("cannot watch the new process", &error));
            }
        };
        let ready = false;
        let daemon = match self.site.settings.daemon.pid_file {
            Some(_) if !adopted => Daemon::Awaited { alone: false },
            Some(_) | None => Daemon::No,
        };
        Ok(Box::new(Run {
            n,
            main,
            first: None,
            asked: Asked::Nothing,
            drained: None,
            ready,
            began,
            line,
            oom_kills,
            forks,
            kill_again: None,
            jobs: Vec::new(),
            daemon,
            adopted,
            company,
            over: None,
            rounds: Rounds::default(),
            deaf: None,
        }))
    }

    /// How its limits are held; or that none of that is so yet, because it was taken over.
    fn tell_notes(&mut self, n: Incarnation, adopted: bool) {
        let told = self.ground.as_ref().map(|ground| ground.bounds.told.clone()).unwrap_or_default();
        let texts = if adopted { Vec::from(TAKEN_OVER.map(str::to_owned)) } else { told };
        if std::mem::replace(&mut self.noted, !texts.is_empty()) || !texts.is_empty() {
            self.tell(n, WorkerReport::Notes { texts });
        }
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

    async fn watch(&mut self, run: &mut Run) -> Watched {
        loop {
            match self.next(run).await {
                // Nobody is known that could be asked: what is left is killed.
                Event::Command(Some(command @ (Command::Stop | Command::Kill)))
                    if run.daemon == (Daemon::Awaited { alone: true }) =>
                {
                    note(&mut run.asked, command);
                    return Watched::Ended;
                }
                Event::Command(Some(Command::Stop)) => self.drain_and_ask(run),
                Event::Due(Due::Drained) => self.ask(run),
                Event::Command(Some(Command::Signal(signal))) => self.signal(&run.main.pidfd, signal),
                Event::Command(Some(Command::Ready)) => self.probed(run),
                Event::Command(Some(Command::Kill)) | Event::Due(Due::KillAgain) => self.kill(run),
                Event::Due(Due::Round) => self.look(run),
                Event::Due(Due::Hears) => run.deaf = None,
                Event::Seen(seen) => {
                    if !Box::pin(self.seen(run, seen)).await {
                        return Watched::Ended;
                    }
                }
                Event::Command(Some(Command::Start(n))) => {
                    tracing::error!(instance = %self.site.instance, %n, "told to start while an incarnation lives");
                }
                Event::Command(None) => return Watched::Dropped,
                Event::Line(true) => self.ready(run),
                Event::Line(false) => run.line = None,
                Event::Said(Ok(said)) => Box::pin(self.said(run, said)).await,
                Event::Said(Err(error)) => self.cannot_hear(run, &error),
                Event::Called(call) => call.serve(),
                Event::SaysReady(n) => Box::pin(self.says_ready(run, n)).await,
                Event::Ended if self.leaves_a_daemon(run) => {}
                Event::Ended => {
                    Box::pin(self.hear_out(run)).await;
                    return Watched::Ended;
                }
            }
        }
    }

    /// The next thing that happens. What the worker says comes last, since it may say it without end: that delays neither
    /// a command nor its end, and none of its own limits and deadlines.
    async fn next(&mut self, run: &mut Run) -> Event {
        let due = run.due();
        let (at, due) = due.map_or_else(|| (None, Due::Round), |(at, due)| (Some(at), due));
        let (line, answer) = (&mut run.line, &mut run.rounds.answer);
        let alone = run.daemon == Daemon::Awaited { alone: true };
        let (ground, hears) = (self.ground.as_ref(), run.deaf.is_none());
        tokio::select! {
            biased;
            command = self.commands.recv() => Event::Command(command),
            () = run.main.ended(), if !alone => Event::Ended,
            found = async { line.as_mut()?.await.ok() }, if line.is_some() => Event::Line(found.is_some()),
            seen = async { answer.as_mut()?.await.ok() }, if answer.is_some() => Event::Seen(seen),
            () = tokio::time::sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => Event::Due(due),
            said = async { ground?.notify.recv().await.into() }, if hears && ground.is_some() => match said {
                Some(said) => Event::Said(said),
                None => Event::Due(Due::KillAgain),
            },
            call = async { ground?.talk.accept().await.into() }, if ground.is_some() => match call {
                Some(call) => Event::Called(call),
                None => Event::Due(Due::KillAgain),
            },
            n = async { ground?.talk.said_ready().await.into() }, if ground.is_some() => match n {
                Some(n) => Event::SaysReady(n),
                None => Event::Due(Due::KillAgain),
            },
        }
    }

    /// Takes the status of who ended, so that no zombie stays, and forgets it.
    fn reaped(&self, run: &Run) -> Option<Ended> {
        let status = wait_pidfd(&run.main.pidfd).unwrap_or_else(|error| {
            // ECHILD: one that never was our child.
            tracing::debug!(instance = %self.site.instance, %error, "its status cannot be taken");
            end_of(run.main.pid, &run.main.pidfd)
        });
        if let Some(first) = &run.first
            && let Err(error) = wait_pidfd(&first.pidfd)
        {
            tracing::debug!(instance = %self.site.instance, %error, "the first process's status is gone");
        }
        self.site.host.record.ended(&self.site.instance);
        status
    }

    fn ended(&mut self, run: Box<Run>) {
        let status = self.reaped(&run);
        let now = self.ground.as_ref().and_then(Ground::oom_kills);
        let oom = || self.site.host.oom.explains(now, run.oom_kills);
        let exit = match run.over {
            Some(Over::Memory(_)) => Exit::Oom,
            // Its main process may have ended by itself, when it saw the others die.
            Some(Over::Processes(_)) => Exit::Killed,
            None => meaning(status, run.asked, self.site.settings.stop.signal, oom),
        };
        let refused = self.refused_forks(&run);
        let killed_by_us = run.over.is_some();
        let soonest = !std::mem::replace(&mut self.ended, true);
        let Run { n, ready, asked, began, main, first, rounds, daemon, .. } = *run;
        let awaited = matches!(daemon, Daemon::Awaited { .. }) && !ready;
        let refused = refused.or(rounds.no_daemon.filter(|_| awaited));
        drop((main.registered, first));
        if !ready && (asked == Asked::Nothing || killed_by_us) {
            let exit = Exit::StartFailed(StartFailure::BeforeReady { ended: Box::new(exit) });
            self.tell(n, WorkerReport::StartFailed { exit, hint: refused.or_else(|| self.hint()) });
        } else {
            let soon = soonest && began.elapsed() < SOON && exit.code().is_some_and(|code| code != 0);
            if let Some(text) = refused.or_else(|| self.hint().filter(|_| soon)) {
                self.tell(n, WorkerReport::Hint { text });
            }
            if let (Exit::Stopped, Some(Ended::Code(code))) = (&exit, status) {
                self.tell(n, WorkerReport::Code { code });
            }
            self.tell(n, WorkerReport::Exited { exit });
        }
        self.drain(n);
    }

    /// Reads the last words without holding up the next start.
    fn drain(&mut self, n: Incarnation) {
        let Some(ground) = &self.ground else { return };
        let (out, err) = (ground.out.drain(), ground.err.as_ref().map(|err| err.drain()));
        let (report, site) = (self.report.clone(), Arc::clone(&self.site));
        self.draining = Some(tokio::spawn(async move {
            let mut lines = out.await;
            if let Some(err) = err {
                lines.extend(err.await);
            }
            let hush = |line| redact(&site.host.hush(&site.settings.name, line), &[]);
            let lines: Vec<String> = lines.into_iter().map(hush).collect();
            if !lines.is_empty() {
                report(n, WorkerReport::LastWords { lines });
            }
        }));
    }

    /// What was not passed explains a program that ran and failed.
    fn hint(&self) -> Option<String> {
        recipe::hint(&self.site.settings, &self.site.host.env)
    }

    pub(super) fn tell(&self, n: Incarnation, report: WorkerReport) {
        (self.report)(n, report);
    }
}

impl Run {
    /// What is due next. One timer serves all: each of its own would cost every worker that waits.
    fn due(&self) -> Option<(Instant, Due)> {
        let again = self.kill_again.map(|(at, _)| at);
        let all = [
            (self.rounds.next, Due::Round),
            (again, Due::KillAgain),
            (self.drained, Due::Drained),
            (self.deaf, Due::Hears),
        ];
        all.into_iter().filter_map(|(at, due)| Some((at?, due))).min_by_key(|(at, _)| *at)
    }
}

pub(super) fn note(asked: &mut Asked, command: Command) {
    match command {
        Command::Stop => *asked = (*asked).max(Asked::Stop),
        Command::Kill => *asked = Asked::Kill,
        // There is nothing yet that could hear it.
        Command::Signal(_) | Command::Ready => {}
        Command::Start(n) => tracing::error!(%n, "told to start while an incarnation is under way"),
    }
}

fn lost_thread() -> StartFailure {
    StartFailure::System { detail: "the spawning thread ended in the middle of the start".to_owned() }
}
