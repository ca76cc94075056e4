//! One child of a supervisor: its runner, and what its words mean.
//!
//! A child is a part of its supervisor and no actor of its own. It was one: between two actors of one thread every order
//! and every word cost a message, six for each restart. Measured on the same machine, actor workers restarted 30,000
//! (panics) and 44,000 times a second (errors) in that shape and 53,000 and 118,000 times in this one, and an idle worker
//! took 15.9 KB instead of 9.5. What an actor gave is given here too: a runner that panics costs its own child one
//! incarnation and nobody else anything.
//!
//! A child owns the runner, drops what is stale, writes what is
//! only for people (pid, status line) on the board, and hands on facts. It decides nothing and never waits, so a worker
//! that floods it delays nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;

use crate::event::{Brief, CauseName, Event, EventKind, Subject, What};
use crate::exit::Exit;
use crate::health::Vital;
use crate::id::{Incarnation, InstanceId};
use crate::policy::{ChildKey, Fact, Phase, StopHow};
use crate::recovery::Outcome;
use crate::worker::{Done, Job, Runner, WorkerReport};

use super::actor::{MakeRunner, SupervisorState};
use super::board::{InstanceState, Place, Told, Trouble};
use super::ends::HeldEnd;
use super::gate::Latch;
use super::line::{Reported, Reporters};
use super::plane::Count;
use super::recovery::OpenIncident;
use super::tree::Who;

/// How an issue of processes that are left begins.
const LEFT: &str = "its main process ended and left";
/// One word of a worker moves its deadlines at most this far: a longer start or stop says so again.
const LONGEST_EXTENSION: std::time::Duration = std::time::Duration::from_secs(600);

/// One child: what runs it, and what people are told about it.
pub(super) struct Slot {
    /// Whose it is: a message to an earlier one in the same slot is nothing to it.
    pub(super) key: ChildKey,
    pub(super) who: Who,
    /// The same, for events.
    pub(super) subject: Arc<Subject>,
    /// Where it stands on the board.
    pub(super) place: Option<Place>,
    /// Where its readiness is noted, once that was looked for.
    pub(super) latch: Option<Latch>,
    /// Its last start, which outlives its supervisor.
    pub(super) counted: Arc<Count>,
    pub(super) make: MakeRunner,
    /// Tells it from others that had the same key.
    pub(super) seat: u64,
    /// Why the next start happens.
    pub(super) cause: Option<CauseName>,
    /// It is replaced as its file says, and for no cause.
    pub(super) planned: bool,
    /// The next start is the first of an identity, whatever its number.
    pub(super) first: bool,
    /// The user's name for what is wrong with this start of it.
    pub(super) class: Option<(Incarnation, Arc<str>)>,
    /// What a person can do about the last failed start.
    pub(super) hint: Option<String>,
    /// The code that its end as asked had.
    pub(super) code: Option<i32>,
    /// What its probes say against it.
    pub(super) complaint: Option<String>,
    /// The fleet's brake has heard that it is unwell.
    pub(super) was_unwell: bool,
    /// Something looks at it from outside, by its newest definition.
    pub(super) to_watch: bool,
    /// The same of what runs: who looks has heard of it.
    pub(super) watched: bool,
    /// How the newest incarnation was told to end, until it has.
    pub(super) stop: Stop,
    /// An end that is held until its last words are there.
    pub(super) held: Option<Box<HeldEnd>>,
    /// The incident that is open.
    pub(super) incident: Option<Box<OpenIncident>>,
    /// The incident of those who watch it and cannot see, and since which start of it.
    pub(super) blind: Option<(Arc<str>, Incarnation)>,
    /// The phase that people were told last.
    pub(super) told: Phase,
    pub(super) running: Running,
}

/// How an incarnation was told to end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stop {
    /// It was not.
    #[default]
    Not,
    /// It was asked.
    Asked,
    /// It was asked, and killed when its time was over.
    Late,
    /// It was asked, and killed when its supervisor had no more time.
    Hurried,
    /// It was killed.
    Killed,
}

impl Stop {
    /// After one more word. `hurried`: its supervisor has no more time.
    pub(super) fn told(self, how: StopHow, hurried: bool) -> Self {
        match (how, self) {
            (StopHow::Graceful, _) => Self::Asked,
            (StopHow::Kill, Self::Asked) if hurried => Self::Hurried,
            (StopHow::Kill, Self::Asked) => Self::Late,
            (StopHow::Kill, Self::Not) => Self::Killed,
            (StopHow::Kill, Self::Late | Self::Hurried | Self::Killed) => self,
        }
    }

    /// Why it was killed though it had been asked.
    pub(super) fn why_killed(self) -> Option<&'static str> {
        match self {
            Self::Late => Some("it did not end within stop.timeout"),
            Self::Hurried => Some("it did not end before the time for the end of its supervisor was over"),
            Self::Not | Self::Asked | Self::Killed => None,
        }
    }
}

/// What runs a child.
pub(super) struct Running {
    /// `None` once it has failed: the next start makes another.
    runner: Option<Box<dyn Runner>>,
    reporters: Reporters,
    /// The next start is of a runner made anew.
    remake: bool,
    current: Incarnation,
    live: bool,
}

impl Running {
    pub(super) fn new(make: &MakeRunner, reporters: Reporters) -> Self {
        let runner = Some(made(make, &reporters));
        Self { runner, reporters, remake: false, current: Incarnation::NONE, live: false }
    }

    /// The next start, and all after it, are of a runner made anew.
    pub(super) fn remake(&mut self) {
        self.remake = true;
    }

    /// Asks something of the runner. One that panics is a fault of ours: it is dropped, which ends what it runs, and
    /// what ran is taken for lost.
    fn ask(&mut self, deed: impl FnOnce(&mut dyn Runner)) {
        let Some(runner) = self.runner.as_deref_mut() else { return };
        if catch_unwind(AssertUnwindSafe(|| deed(runner))).is_err() {
            self.fail();
        }
    }

    /// Whether this incarnation is alive, as far as is known.
    pub(super) fn runs(&self, incarnation: Incarnation) -> bool {
        self.live && self.current == incarnation
    }

    fn fail(&mut self) {
        if let Some(runner) = self.runner.take() {
            // The runner itself is broken; that its end breaks too changes nothing.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(runner)));
        }
        let exit = Exit::Error { message: "what runs it failed; this is a bug".to_owned() };
        self.reporters.report(self.current, WorkerReport::Exited { exit });
    }

    fn start(&mut self, make: &MakeRunner, incarnation: Incarnation) {
        self.current = incarnation;
        self.live = true;
        if std::mem::take(&mut self.remake) || self.runner.is_none() {
            // The one before ends before the next begins.
            self.runner = None;
            match catch_unwind(AssertUnwindSafe(|| made(make, &self.reporters))) {
                Ok(runner) => self.runner = Some(runner),
                Err(_) => return self.fail(),
            }
        }
        self.ask(|runner| runner.start(incarnation));
    }

    fn stop(&mut self, incarnation: Incarnation, how: StopHow) {
        if incarnation != self.current || !self.live {
            // It has ended already; the fact of that is on its way.
            return;
        }
        match how {
            StopHow::Graceful => self.ask(|runner| runner.stop()),
            StopHow::Kill => self.ask(|runner| runner.kill()),
        }
    }

    fn set_ready(&mut self, incarnation: Incarnation) {
        if self.live && incarnation == self.current {
            self.ask(|runner| runner.set_ready());
        }
    }

    /// Does something for a step of recovery.
    pub(super) fn perform(&mut self, job: Job, done: Done) {
        self.ask(|runner| runner.perform(job, done));
    }

    pub(super) fn signal(&mut self, signal: i32) {
        if self.live {
            self.ask(|runner| runner.signal(signal));
        }
    }
}

impl SupervisorState {
    pub(super) fn start(&mut self, child: ChildKey, incarnation: Incarnation) {
        if let Some(slot) = self.slot_mut(child) {
            slot.running.start(&slot.make, incarnation);
        }
    }

    pub(super) fn stop(&mut self, child: ChildKey, incarnation: Incarnation, how: StopHow) {
        if let Some(slot) = self.slot_mut(child) {
            slot.running.stop(incarnation, how);
        }
    }

    pub(super) fn signal(&mut self, child: &str, signal: i32) {
        if let Some(slot) = self.core.key(child).and_then(|key| self.slot_mut(key)) {
            slot.running.signal(signal);
        }
    }

    /// Its probe has passed.
    pub(super) fn probed(&mut self, instance: &InstanceId, incarnation: Incarnation) {
        if let Some(slot) = self.core.key(&instance.to_string()).and_then(|key| self.slot_mut(key)) {
            slot.running.set_ready(incarnation);
        }
    }

    /// Tells whoever watches what becomes of a child.
    pub(super) fn vital(&self, child: ChildKey, incarnation: Incarnation, vital: Vital) {
        let watched = self.slot(child).filter(|slot| slot.watched);
        if let Some(Who::Worker(instance)) = watched.map(|slot| &slot.who) {
            self.plane.vital(instance, incarnation, vital);
        }
    }

    /// Its newest definition has something look at it, and it may run already.
    pub(super) fn watch_from_now_on(&mut self, child: ChildKey) {
        let Some(slot) = self.slot_mut(child) else { return };
        let begins = slot.to_watch && !slot.watched && slot.running.live;
        if !begins {
            return;
        }
        slot.watched = true;
        let incarnation = slot.running.current;
        self.vital(child, incarnation, Vital::Begun { pid: None });
        if self.core.child(child).is_some_and(|view| view.phase == Phase::Running) {
            self.vital(child, incarnation, Vital::Ready);
        }
    }

    /// The runner of a child says something.
    pub(super) fn reported(&mut self, reported: Reported) {
        let Reported { child, seat, incarnation, report } = reported;
        if let WorkerReport::Backtrace { instance, led_to, text } = &report {
            return self.plane.board.stack_came(instance, incarnation, led_to, text);
        }
        let at = self.at;
        // Whoever sat there before is forgotten, and so is what it still says.
        let Some(slot) = self.slot_mut(child).filter(|slot| slot.seat == seat) else { return };
        let running = &mut slot.running;
        let after_its_end = matches!(report, WorkerReport::LastWords { .. });
        if !after_its_end && (incarnation != running.current || !running.live) {
            self.plane.board.count_stale();
            return;
        }
        if let Some(vital) = vital(&report) {
            if matches!(vital, Vital::Begun { .. }) {
                slot.watched = slot.to_watch;
            }
            self.vital(child, incarnation, vital);
        }
        if matches!(report, WorkerReport::StartFailed { .. } | WorkerReport::Exited { .. }) {
            self.sees_again(child, Outcome::Interrupted, "the incarnation that could not be seen is over");
            self.leftovers_are_gone(child);
        }
        let Some(running) = self.slot_mut(child).map(|slot| &mut slot.running) else { return };
        match report {
            WorkerReport::Started { pid } => self.started(child, incarnation, pid),
            WorkerReport::Adopted { pid } => self.adopted(child, incarnation, pid),
            WorkerReport::Notes { texts } => self.note(child, |entry| entry.notes = texts),
            WorkerReport::Skipped => {
                running.live = false;
                self.fact(Fact::Ignored { child, incarnation });
            }
            WorkerReport::Ready => self.fact(Fact::Ready { child, incarnation }),
            WorkerReport::StartFailed { exit, hint } => {
                running.live = false;
                self.start_failed(child, incarnation, exit, hint);
            }
            WorkerReport::Exited { exit } => {
                running.live = false;
                self.exited(child, incarnation, exit);
            }
            WorkerReport::Extend { by } => {
                let by = by.min(LONGEST_EXTENSION);
                self.fact(Fact::Extend { child, incarnation, by });
            }
            WorkerReport::Code { code } => {
                if let Some(slot) = self.slot_mut(child) {
                    slot.code = Some(code);
                }
            }
            WorkerReport::Hint { text } => self.hint(child, incarnation, Some(text)),
            WorkerReport::LastWords { lines } => {
                self.words_came(child, incarnation, &lines);
                self.last_words(child, incarnation, &lines);
                self.words_are_evidence(child, incarnation, &lines);
            }
            WorkerReport::Unread { count } => self.plane.board.count_all_stale(count as u64),
            WorkerReport::Issue { text } => self.issue(child, &text),
            WorkerReport::Finding { text } => self.found(child, incarnation, text),
            WorkerReport::IssueOver { text } => {
                self.note(child, |entry| entry.issues.retain(|known| *known != text));
            }
            WorkerReport::MainPid { pid } => self.note(child, |entry| entry.pid = Some(pid)),
            WorkerReport::Status { text } => self.note(child, |entry| entry.status_text = Some(text)),
            WorkerReport::Beat => self.note(child, |entry| entry.last_heartbeat_at = Some(at)),
            WorkerReport::Figures { progress, metrics, .. } => self.hears(child, |told| {
                told.progress = progress.or(told.progress);
                if !metrics.is_empty() {
                    told.figures = metrics;
                }
            }),
            WorkerReport::Trouble { class, message } => self.hears(child, |told| {
                told.troubles += 1;
                told.trouble = Some(Trouble { class, message, at });
            }),
            WorkerReport::Distress => self.issue(child, "it says that it does not work (WATCHDOG=trigger)"),
            WorkerReport::Stopping => {
                self.note(child, |entry| entry.status_text = Some("stopping".to_owned()))
            }
            WorkerReport::Reloading => {
                self.note(child, |entry| entry.status_text = Some("reloading".to_owned()));
            }
            WorkerReport::Leftovers { count } => self.leftovers(child, count),
            // Written on the board above.
            WorkerReport::Backtrace { .. } => {}
        }
    }

    pub(super) fn hint(&mut self, child: ChildKey, incarnation: Incarnation, hint: Option<String>) {
        let current = self.core.child(child).is_some_and(|view| view.incarnation == incarnation);
        if let Some(slot) = self.slot_mut(child).filter(|_| current) {
            slot.hint = hint;
        }
    }

    fn started(&mut self, child: ChildKey, incarnation: Incarnation, pid: Option<u32>) {
        let at = self.at;
        self.on_board(child, |entry| begin(entry, at, pid, false));
        let Some(slot) = self.slot(child) else { return };
        let subject = match &slot.who {
            Who::Worker(_) => Arc::clone(&slot.subject),
            // It tells of itself.
            Who::Supervisor(name) => {
                Arc::new(Subject { supervisor: name.clone(), instance: None, nested: None })
            }
        };
        self.plane.journal.tell(at, Brief { subject, incarnation, what: What::Started(pid) });
        self.unread.set(true);
    }

    fn adopted(&mut self, child: ChildKey, incarnation: Incarnation, pid: u32) {
        let at = self.at;
        self.on_board(child, |entry| begin(entry, at, Some(pid), true));
        let Some(slot) = self.slot(child) else { return };
        let text = format!(
            "taken over while it runs, pid {pid}: its pid_file names it, and it is the worker's program"
        );
        let what = What::Said(EventKind::RuntimeAdopted, text.into());
        let mut event: Event = Brief { subject: Arc::clone(&slot.subject), incarnation, what }.event();
        event.data.insert("pid", pid.into());
        self.plane.emit(event);
    }

    fn found(&mut self, child: ChildKey, incarnation: Incarnation, text: String) {
        let Some(slot) = self.slot(child) else { return };
        let what = What::Said(EventKind::HealthChanged, text.into());
        self.plane.emit(Brief { subject: Arc::clone(&slot.subject), incarnation, what }.event());
    }

    fn leftovers(&mut self, child: ChildKey, count: Option<u32>) {
        let who = match count {
            None => "processes behind, which are".to_owned(),
            Some(1) => "1 process behind, which is".to_owned(),
            Some(count) => format!("{count} processes behind, which are"),
        };
        self.issue(child, &format!("{LEFT} {who} being killed"));
    }

    /// Its end is told once all of it is.
    fn leftovers_are_gone(&mut self, child: ChildKey) {
        let left = |issue: &String| issue.starts_with(LEFT);
        // Every end comes by here, and hardly any has left something.
        if self.on_board(child, |entry| entry.issues.iter().any(left)) == Some(true) {
            self.note(child, |entry| entry.issues.retain(|issue| !left(issue)));
        }
    }

    fn hears(&mut self, child: ChildKey, change: impl FnOnce(&mut Told)) {
        self.note(child, |entry| change(Arc::make_mut(entry.told.get_or_insert_default())));
    }

    fn issue(&mut self, child: ChildKey, text: &str) {
        self.note(child, |entry| {
            if !entry.issues.iter().any(|known| known == text) {
                entry.issues.push(text.to_owned());
            }
        });
    }

    /// The last line explains most ends better than any exit code.
    fn last_words(&mut self, child: ChildKey, incarnation: Incarnation, lines: &[String]) {
        let Some(line) = lines.iter().rev().find(|line| !line.trim().is_empty()) else { return };
        self.on_entry(child, |entry| {
            if let Some(last) =
                entry.whole().last_exit.as_mut().filter(|last| last.incarnation == incarnation)
            {
                last.message = format!("{}; last output: {}", last.message, line.trim());
            }
        });
    }

    fn note(&mut self, child: ChildKey, change: impl FnOnce(&mut InstanceState)) {
        let _ = self.on_board(child, change);
    }
}

fn made(make: &MakeRunner, reporters: &Reporters) -> Box<dyn Runner> {
    let mut runner = make(reporters.ringing());
    runner.lend(&reporters.doing());
    runner
}

/// What a report says to whoever watches.
fn vital(report: &WorkerReport) -> Option<Vital> {
    match report {
        WorkerReport::Started { pid } => Some(Vital::Begun { pid: *pid }),
        WorkerReport::Adopted { pid } => Some(Vital::Begun { pid: Some(*pid) }),
        WorkerReport::MainPid { pid } => Some(Vital::Main { pid: *pid }),
        WorkerReport::Beat => Some(Vital::Beat),
        WorkerReport::Distress => Some(Vital::Distress),
        WorkerReport::Figures { moved: true, .. } => Some(Vital::Moved),
        WorkerReport::Trouble { .. } => Some(Vital::Trouble),
        WorkerReport::Skipped | WorkerReport::StartFailed { .. } | WorkerReport::Exited { .. } => {
            Some(Vital::Ended)
        }
        WorkerReport::Notes { .. }
        | WorkerReport::Figures { .. }
        | WorkerReport::Ready
        | WorkerReport::Code { .. }
        | WorkerReport::Hint { .. }
        | WorkerReport::LastWords { .. }
        | WorkerReport::Issue { .. }
        | WorkerReport::Finding { .. }
        | WorkerReport::IssueOver { .. }
        | WorkerReport::Unread { .. }
        | WorkerReport::Backtrace { .. }
        | WorkerReport::Extend { .. }
        | WorkerReport::Status { .. }
        | WorkerReport::Stopping
        | WorkerReport::Reloading
        | WorkerReport::Leftovers { .. } => None,
    }
}

/// What is known of an incarnation that just came to be.
fn begin(entry: &mut InstanceState, at: Timestamp, pid: Option<u32>, adopted: bool) {
    entry.pid = pid;
    entry.adopted = adopted;
    entry.started_at = Some(at);
    entry.steady.started = Some(std::time::Instant::now());
    entry.status_text = None;
    entry.told = None;
    entry.issues.clear();
}
