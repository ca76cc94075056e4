//! The child actor: one per child, alive through all its incarnations.
//!
//! It owns the runner, drops what is stale, writes what is only for people (pid, status line) on the board,
//! and passes facts up. It decides nothing and never waits, so a worker that floods it delays nobody.

use std::sync::Arc;

use jiff::Timestamp;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::event::{Brief, Event, EventKind, Subject, What};
use crate::id::{Incarnation, Name};
use crate::policy::{ChildKey, Fact, StopHow};
use crate::worker::{Reporter, Runner, WorkerReport};

use super::actor::{MakeRunner, SupervisorMsg};
use super::plane::Plane;
use super::tree::Who;

/// One word of a worker moves its deadlines at most this far: a longer start or stop says so again.
const LONGEST_EXTENSION: std::time::Duration = std::time::Duration::from_secs(600);

/// What a child actor is told.
pub(crate) enum ChildMsg {
    /// Start this incarnation.
    Start(Incarnation),
    /// End this incarnation.
    Stop(Incarnation, StopHow),
    /// The next start, and all after it, are of a runner made anew.
    Remake(MakeRunner),
    /// Send this signal to what runs.
    Signal(i32),
    /// The runner tells something.
    Reported(Incarnation, WorkerReport),
}

/// What a child actor begins with.
pub(crate) struct ChildArguments {
    /// Its slot.
    pub(crate) key: ChildKey,
    /// Who it is.
    pub(crate) who: Who,
    /// Makes the runner, given where to report.
    pub(crate) make: MakeRunner,
    /// Where facts go.
    pub(crate) up: ActorRef<SupervisorMsg>,
    /// What is shared.
    pub(crate) plane: Arc<Plane>,
}

/// What a child actor keeps.
pub(crate) struct ChildState {
    key: ChildKey,
    who: Who,
    runner: Box<dyn Runner>,
    reporter: Reporter,
    /// Makes the runner of the next start, where its settings have changed.
    remake: Option<MakeRunner>,
    current: Incarnation,
    live: bool,
    up: ActorRef<SupervisorMsg>,
    plane: Arc<Plane>,
}

/// The actor; everything it keeps is in [`ChildState`].
pub(crate) struct ChildActor;

impl Actor for ChildActor {
    type Msg = ChildMsg;
    type State = ChildState;
    type Arguments = ChildArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ChildMsg>,
        arguments: ChildArguments,
    ) -> Result<ChildState, ActorProcessingErr> {
        let ChildArguments { key, who, make, up, plane } = arguments;
        let reporter: Reporter = Arc::new(move |incarnation, report| {
            // A child actor that is gone has nobody left to tell.
            let _ = myself.send_message(ChildMsg::Reported(incarnation, report));
        });
        let runner = make(Arc::clone(&reporter));
        Ok(ChildState {
            key,
            who,
            runner,
            reporter,
            remake: None,
            current: Incarnation::NONE,
            live: false,
            up,
            plane,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ChildMsg>,
        message: ChildMsg,
        state: &mut ChildState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChildMsg::Start(incarnation) => state.start(incarnation),
            ChildMsg::Stop(incarnation, how) => state.stop(incarnation, how),
            ChildMsg::Remake(make) => state.remake = Some(make),
            ChildMsg::Signal(signal) => state.signal(signal),
            ChildMsg::Reported(incarnation, report) => state.reported(incarnation, report),
        }
        Ok(())
    }
}

impl ChildState {
    fn start(&mut self, incarnation: Incarnation) {
        self.current = incarnation;
        self.live = true;
        if let Some(make) = self.remake.take() {
            self.runner = make(Arc::clone(&self.reporter));
        }
        self.runner.start(incarnation);
    }

    fn stop(&mut self, incarnation: Incarnation, how: StopHow) {
        if incarnation != self.current || !self.live {
            // It has ended already; the fact of that is on its way up.
            return;
        }
        match how {
            StopHow::Graceful => self.runner.stop(),
            StopHow::Kill => self.runner.kill(),
        }
    }

    fn signal(&mut self, signal: i32) {
        if self.live {
            self.runner.signal(signal);
        }
    }

    fn reported(&mut self, incarnation: Incarnation, report: WorkerReport) {
        let after_its_end = matches!(report, WorkerReport::LastWords { .. } | WorkerReport::Backtrace { .. });
        if !after_its_end && (incarnation != self.current || !self.live) {
            self.plane.board.count_stale();
            return;
        }
        match report {
            WorkerReport::Started { pid } => self.started(pid),
            WorkerReport::Adopted { pid } => self.adopted(pid),
            WorkerReport::Notes { texts } => self.on_board(|entry| entry.notes = texts),
            WorkerReport::Skipped => {
                self.live = false;
                self.pass(Fact::Ignored { child: self.key, incarnation });
            }
            WorkerReport::Ready => self.pass(Fact::Ready { child: self.key, incarnation }),
            WorkerReport::StartFailed { exit, hint } => {
                self.live = false;
                self.send(SupervisorMsg::Hint { child: self.key, incarnation, hint });
                self.pass(Fact::StartFailed { child: self.key, incarnation, exit });
            }
            WorkerReport::Exited { exit } => {
                self.live = false;
                self.pass(Fact::Exited { child: self.key, incarnation, exit });
            }
            WorkerReport::Extend { by } => {
                let by = by.min(LONGEST_EXTENSION);
                self.pass(Fact::Extend { child: self.key, incarnation, by });
            }
            WorkerReport::Hint { text } => {
                self.send(SupervisorMsg::Hint { child: self.key, incarnation, hint: Some(text) });
            }
            WorkerReport::LastWords { lines } => self.last_words(incarnation, &lines),
            WorkerReport::Backtrace { text } => self.backtrace(incarnation, text),
            WorkerReport::Unread { count } => self.plane.board.count_all_stale(count as u64),
            WorkerReport::Issue { text } => self.issue(&text),
            WorkerReport::IssueOver { text } => {
                self.on_board(|entry| entry.issues.retain(|known| *known != text))
            }
            WorkerReport::MainPid { pid } => self.on_board(|entry| entry.pid = Some(pid)),
            WorkerReport::Status { text } => self.on_board(|entry| entry.status_text = Some(text)),
            WorkerReport::Beat => self.on_board(|entry| entry.last_heartbeat_at = Some(Timestamp::now())),
            WorkerReport::Distress => self.issue("it says that it does not work (WATCHDOG=trigger)"),
            WorkerReport::Stopping => self.on_board(|entry| entry.status_text = Some("stopping".to_owned())),
            WorkerReport::Reloading => {
                self.on_board(|entry| entry.status_text = Some("reloading".to_owned()))
            }
            WorkerReport::Leftovers { count } => self.leftovers(count),
        }
    }

    fn started(&self, pid: Option<u32>) {
        self.on_board(|entry| {
            entry.pid = pid;
            entry.adopted = false;
            entry.started_at = Some(Timestamp::now());
            entry.status_text = None;
            entry.issues.clear();
        });
        let subject = match &self.who {
            Who::Worker(instance) => {
                let supervisor = self.plane.home(instance.worker()).unwrap_or_else(Name::root);
                Subject { supervisor, instance: Some(instance.clone()), nested: None }
            }
            Who::Supervisor(name) => Subject { supervisor: name.clone(), instance: None, nested: None },
        };
        let (subject, what) = (Arc::new(subject), What::Started(pid));
        self.plane.journal.tell(Timestamp::now(), Brief { subject, incarnation: self.current, what });
    }

    fn adopted(&self, pid: u32) {
        self.on_board(|entry| {
            entry.pid = Some(pid);
            entry.adopted = true;
            entry.started_at = Some(Timestamp::now());
            entry.status_text = None;
            entry.issues.clear();
        });
        let mut event = self.event(
            EventKind::RuntimeAdopted,
            format!(
                "taken over while it runs, pid {pid}: its pid_file names it, and it is the worker's program"
            ),
        );
        event.data.insert("pid".to_owned(), pid.into());
        self.plane.emit(event);
    }

    fn leftovers(&self, count: Option<u32>) {
        let who = count.map_or_else(|| "processes".to_owned(), |count| format!("{count} processes"));
        self.issue(&format!("its main process ended and left {who} behind, which are being killed"));
    }

    fn issue(&self, text: &str) {
        self.on_board(|entry| {
            if !entry.issues.iter().any(|known| known == text) {
                entry.issues.push(text.to_owned());
            }
        });
    }

    /// The last line explains most ends better than any exit code.
    fn last_words(&self, incarnation: Incarnation, lines: &[String]) {
        let Some(line) = lines.iter().rev().find(|line| !line.trim().is_empty()) else { return };
        self.on_board(|entry| {
            if let Some(last) = entry.last_exit.as_mut().filter(|last| last.incarnation == incarnation) {
                last.message = format!("{}; last output: {}", last.message, line.trim());
            }
        });
    }

    fn backtrace(&self, incarnation: Incarnation, text: String) {
        self.on_board(|entry| {
            if let Some(last) = entry.last_exit.as_mut().filter(|last| last.incarnation == incarnation) {
                last.backtrace = Some(Arc::from(text));
            }
        });
    }

    fn on_board(&self, change: impl FnOnce(&mut super::board::InstanceState)) {
        if let Who::Worker(instance) = &self.who {
            self.plane.board.update(instance, change);
        }
    }

    fn event(&self, kind: EventKind, message: String) -> Event {
        let mut event = Event::new(kind, message);
        event.incarnation = Some(self.current);
        match &self.who {
            Who::Worker(instance) => {
                event.worker = Some(instance.worker().clone());
                event.instance = Some(instance.clone());
                event.supervisor = self.plane.home(instance.worker());
            }
            Who::Supervisor(name) => event.supervisor = Some(name.clone()),
        }
        event
    }

    fn pass(&self, fact: Fact) {
        self.send(SupervisorMsg::Fact(fact));
    }

    fn send(&self, message: SupervisorMsg) {
        // A supervisor that is gone has taken this actor with it.
        let _ = self.up.send_message(message);
    }
}
