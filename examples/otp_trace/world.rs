//! A small world around the core: processes that start and end at once as a trace scripts them.
//!
//! OTP starts and stops its children inside one call. Here the same order comes from answering every action
//! before the next message is taken from the mailbox.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use regrow::exit::Exit;
use regrow::id::Incarnation;
use regrow::policy::{
    Action, Actions, ChildKey, Ended, Fact, Phase, Reply, ReportKind, RestartStrategy, StopHow, Supervisor,
};

use super::term;

type Process = (ChildKey, Incarnation);

/// What the trace says about children, whatever supervisor runs them.
#[derive(Default)]
pub(crate) struct Scripts {
    pub(crate) outcomes: HashMap<String, VecDeque<String>>,
    pub(crate) on_stop: HashMap<String, String>,
    generations: HashMap<String, u64>,
}

/// A retry that the supervisor has sent to itself.
pub(crate) struct Parked {
    key: ChildKey,
    /// OTP's message names the child, or in a pool its last process.
    id: Option<String>,
    /// In which life: a process of an earlier one means nothing to a pool.
    epoch: u64,
}

/// One supervisor with its processes.
pub(crate) struct World {
    pub(crate) core: Supervisor,
    pub(crate) template: String,
    alive: HashMap<Process, bool>,
    names: HashMap<Process, String>,
    ids: HashMap<ChildKey, String>,
    last_up: HashMap<ChildKey, Process>,
    mailbox: VecDeque<Fact>,
    /// The child whose exit is being treated, with the name of its process.
    subject: Option<(ChildKey, String)>,
    stop_errors: Vec<String>,
    stubborn: bool,
    pub(crate) replies: Vec<Reply>,
    pub(crate) ended: Option<Ended>,
    /// Pool children waiting for a retry as OTP counts them.
    pub(crate) restarting: i64,
}

impl World {
    pub(crate) fn new(core: Supervisor, template: String) -> Self {
        Self {
            core,
            template,
            alive: HashMap::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
            last_up: HashMap::new(),
            mailbox: VecDeque::new(),
            subject: None,
            stop_errors: Vec::new(),
            stubborn: false,
            replies: Vec::new(),
            ended: None,
            restarting: 0,
        }
    }

    pub(crate) fn is_simple(&self) -> bool {
        self.core.spec().strategy == RestartStrategy::SimpleOneForOne
    }

    pub(crate) fn is_alive(&self, process: Process) -> bool {
        self.alive.get(&process).copied().unwrap_or(false)
    }

    /// A process ends by itself; its supervisor will hear of it.
    pub(crate) fn die(&mut self, (child, incarnation): Process, exit: Exit) {
        self.alive.insert((child, incarnation), false);
        self.mailbox.push_back(Fact::Exited { child, incarnation, exit });
    }

    /// The child that waits for a retry of this process's restart, in a pool.
    pub(crate) fn is_retrying(&self, process: Process) -> bool {
        let waits = self.core.child(process.0).is_some_and(|view| view.phase == Phase::Backoff);
        waits && self.last_up.get(&process.0) == Some(&process)
    }

    pub(crate) fn name(&self, key: ChildKey) -> Option<&String> {
        self.names.get(self.last_up.get(&key)?)
    }
}

/// What one command needs besides the world.
pub(crate) struct Step<'a> {
    pub(crate) now: Duration,
    pub(crate) scripts: &'a mut Scripts,
    pub(crate) parked: &'a mut VecDeque<Parked>,
    pub(crate) last: &'a mut HashMap<String, (u64, Process)>,
    pub(crate) epoch: u64,
    pub(crate) out: &'a mut Vec<String>,
}

impl World {
    /// Delivers a fact and all that follows from it.
    pub(crate) fn tell(&mut self, step: &mut Step<'_>, fact: Fact) {
        let actions = self.core.on_fact(step.now, fact);
        self.carry_out(step, actions);
    }

    /// Takes every message that is in the mailbox.
    pub(crate) fn drain(&mut self, step: &mut Step<'_>) {
        while let Some(fact) = self.mailbox.pop_front() {
            if self.ended.is_some() {
                return;
            }
            if let Fact::Exited { child, incarnation, .. } = &fact {
                let name = self.names.get(&(*child, *incarnation)).cloned().unwrap_or_default();
                self.subject = Some((*child, name));
            }
            self.tell(step, fact);
            self.subject = None;
        }
    }

    /// Delivers the oldest parked retry.
    pub(crate) fn retry(&mut self, step: &mut Step<'_>, parked: &Parked) {
        let key = match &parked.id {
            None if parked.epoch != step.epoch => return,
            None => parked.key,
            Some(id) => {
                let Some(key) = self.core.key(id) else { return };
                key
            }
        };
        if self.is_simple() && self.core.child(key).is_some_and(|view| view.phase == Phase::Backoff) {
            self.restarting -= 1;
        }
        self.tell(step, Fact::Retry { child: key });
    }

    fn carry_out(&mut self, step: &mut Step<'_>, actions: Actions) {
        let mut answers = VecDeque::new();
        self.act(step, actions, &mut answers);
        loop {
            let actions = if let Some(answer) = answers.pop_front() {
                self.core.on_fact(step.now, answer)
            } else if std::mem::take(&mut self.stubborn) {
                self.core.on_fact(self.core.next_due().unwrap_or(step.now), Fact::Tick)
            } else {
                return;
            };
            self.act(step, actions, &mut answers);
        }
    }

    fn act(&mut self, step: &mut Step<'_>, actions: Actions, answers: &mut VecDeque<Fact>) {
        for action in actions {
            match action {
                Action::Start { child, incarnation } => {
                    answers.push_back(self.start(step, (child, incarnation)))
                }
                Action::Stop { child, incarnation, how } => {
                    answers.extend(self.stop(step, (child, incarnation), how));
                }
                Action::Retry { child } => self.park(step, child),
                Action::Report { kind, child, incarnation, exit } => {
                    self.report(step, kind, (child, incarnation), exit.as_ref());
                }
                Action::Changed { .. }
                | Action::Added { .. }
                | Action::Respec { .. }
                | Action::Removed { .. }
                | Action::Recovery { .. }
                | Action::Booted => {}
                Action::Reply { reply, .. } => self.replies.push(reply),
                Action::Finished { ended } => self.finish(step, ended),
            }
        }
    }

    fn start(&mut self, step: &mut Step<'_>, process: Process) -> Fact {
        let (child, incarnation) = process;
        let id = self.core.child(child).map(|view| view.spec.id.to_string()).unwrap_or_default();
        let generation = step.scripts.generations.entry(id.clone()).or_default();
        *generation += 1;
        let name = format!("{id}#{generation}");
        let next = step.scripts.outcomes.get_mut(&id).and_then(VecDeque::pop_front);
        let outcome = next.unwrap_or_else(|| "ok".to_owned());
        step.out.push(format!("start {name} {}", outcome));
        self.ids.insert(child, id.clone());
        match outcome.as_str() {
            "ok" => {
                self.names.insert(process, name);
                self.alive.insert(process, true);
                self.last_up.insert(child, process);
                step.last.insert(id, (step.epoch, process));
                Fact::Ready { child, incarnation }
            }
            "ignore" => Fact::Ignored { child, incarnation },
            other => Fact::StartFailed { child, incarnation, exit: term::start_failure(other) },
        }
    }

    fn stop(&mut self, step: &mut Step<'_>, process: Process, how: StopHow) -> Option<Fact> {
        let (child, incarnation) = process;
        let word = match how {
            StopHow::Graceful => "shutdown",
            StopHow::Kill => "kill",
        };
        step.out.push(format!("signal {} {word}", self.names.get(&process).cloned().unwrap_or_default()));
        if let Some(at) = self.mailbox.iter().position(|fact| is_exit_of(fact, process)) {
            return self.mailbox.remove(at);
        }
        let id = self.ids.get(&child).cloned().unwrap_or_default();
        let manner = step.scripts.on_stop.get(&id).map_or("comply", String::as_str);
        let exit = match (how, manner.strip_prefix("exit:")) {
            (StopHow::Kill, _) => Exit::Killed,
            (StopHow::Graceful, Some(reason)) => term::exit(reason),
            (StopHow::Graceful, None) if manner == "ignore" => {
                self.stubborn = true;
                return None;
            }
            (StopHow::Graceful, None) => Exit::Stopped,
        };
        self.alive.insert(process, false);
        Some(Fact::Exited { child, incarnation, exit })
    }

    fn park(&mut self, step: &mut Step<'_>, key: ChildKey) {
        let id = self.ids.get(&key).cloned().unwrap_or_default();
        if self.is_simple() {
            self.restarting += 1;
            step.out.push(format!("park {}", self.name(key).cloned().unwrap_or_default()));
            step.parked.push_back(Parked { key, id: None, epoch: step.epoch });
        } else {
            step.out.push(format!("park {id}"));
            step.parked.push_back(Parked { key, id: Some(id), epoch: step.epoch });
        }
    }

    /// Who OTP's report names: the process, where the child's record still holds one, else the child.
    fn report(&mut self, step: &mut Step<'_>, kind: ReportKind, process: Process, exit: Option<&Exit>) {
        let id = if self.is_simple() { Some(&self.template) } else { self.ids.get(&process.0) };
        let id = id.cloned().unwrap_or_default();
        let one =
            !matches!(self.core.spec().strategy, RestartStrategy::OneForAll | RestartStrategy::RestForOne);
        let subject = self.subject.clone().filter(|(key, _)| *key == process.0).map(|(_, name)| name);
        let reason = exit.map(term::reason).unwrap_or_default();
        let line = match kind {
            ReportKind::ChildTerminated => {
                format!("report child_terminated {} {reason}", self.names.get(&process).unwrap_or(&id))
            }
            ReportKind::ShutdownError if self.is_simple() && self.core.is_ending() => {
                self.stop_errors.push(reason);
                return;
            }
            ReportKind::ShutdownError => {
                format!("report shutdown_error {} {reason}", self.names.get(&process).unwrap_or(&id))
            }
            ReportKind::StartError => {
                format!("report start_error {} {reason}", subject.filter(|_| one).unwrap_or(id))
            }
            ReportKind::GaveUp => {
                format!("report shutdown {} reached_max_restart_intensity", subject.unwrap_or(id))
            }
        };
        step.out.push(line);
    }

    /// A pool's errors are told once for each reason.
    fn finish(&mut self, step: &mut Step<'_>, ended: Ended) {
        self.stop_errors.sort_unstable();
        self.stop_errors.dedup();
        for reason in std::mem::take(&mut self.stop_errors) {
            step.out.push(format!("report shutdown_error {} {reason}", self.template));
        }
        self.ended = Some(ended);
    }
}

fn is_exit_of(fact: &Fact, process: Process) -> bool {
    matches!(fact, Fact::Exited { child, incarnation, .. } if (*child, *incarnation) == process)
}
