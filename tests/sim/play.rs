//! One supervision core and its world, fact by fact.
//!
//! A fact goes to the world first (who really died, what was asked), then to the core; every action is judged
//! before it changes the world, and then what people see of every child is judged ([`super::judge`]).

use std::fmt::Write as _;

use regrow::exit::Exit;
use regrow::policy::{
    Action, Actions, ChildKey, ChildSpec, Done, Fact, Phase, Planned, ReportKind, Request, Supervisor, Time,
};

use super::rare::{Rare, Tally};
use super::tree::Tree;
use super::world::{Kid, Life, Root, World, is_shortage};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

/// What people see of a child.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    pub(crate) key: ChildKey,
    pub(crate) phase: Phase,
    pub(crate) incarnation: u64,
    pub(crate) next: Option<Planned>,
    pub(crate) stopped: bool,
    pub(crate) consecutive: u32,
    pub(crate) left: u32,
    pub(crate) waits_for: Option<ChildKey>,
}

/// What a reported end must lead to in the same step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Must {
    Park,
    GiveUp,
    Restart,
    Rest,
}

/// What the world knows of the fact of this step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) fact: Fact,
    /// The child it is about.
    pub(crate) subject: Option<ChildKey>,
    /// The incarnation that ended by it, as it was.
    pub(crate) died: Option<(Life, Exit)>,
    /// It speaks of what is long past.
    pub(crate) stale: bool,
    pub(crate) booted_before: bool,
    pub(crate) ending_before: bool,
    /// Whom unanswered requests were about.
    pub(crate) asked: Vec<ChildKey>,
    pub(crate) musts: Vec<(ChildKey, Must)>,
    pub(crate) shown: Vec<ChildKey>,
    pub(crate) removed: Vec<ChildKey>,
    pub(crate) gave_up: bool,
    pub(crate) started: usize,
}

/// Somebody who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) id: u64,
    pub(crate) about: Option<ChildKey>,
    /// By OTP's call to start a child again.
    pub(crate) call: bool,
}

/// A core, its world and what was last seen of it.
#[derive(Debug, Clone)]
pub(crate) struct Play {
    pub(crate) core: Supervisor,
    pub(crate) world: World,
    pub(crate) seen: Vec<Seen>,
    pub(crate) tally: Tally,
    pub(crate) next_request: u64,
    pub(crate) askers: Vec<Asker>,
    /// What happened, if anybody wants to read it.
    pub(crate) log: Option<String>,
}

pub(crate) fn broken(invariant: &'static str, detail: impl FnOnce() -> String) -> Result<(), Broken> {
    Err(Broken { invariant, detail: detail() })
}

impl Play {
    pub(crate) fn new(tree: &Tree) -> Self {
        let core = Supervisor::new(tree.spec.clone(), tree.children.clone()).expect("a valid tree");
        let mut world = World::new(tree.spec.clone());
        for key in core.children().collect::<Vec<_>>() {
            let spec: ChildSpec = core.child(key).unwrap().spec.clone();
            world.kids.push(Kid::new(key, spec));
        }
        let mut play = Self {
            core,
            world,
            seen: Vec::new(),
            tally: Tally::new(),
            next_request: 0,
            askers: Vec::new(),
            log: None,
        };
        play.seen = play.look();
        play
    }

    /// What people see now, in start order.
    fn look(&self) -> Vec<Seen> {
        let see = |key: ChildKey| {
            let view = self.core.child(key)?;
            Some(Seen {
                key,
                phase: view.phase,
                incarnation: view.incarnation.0,
                next: view.next,
                stopped: view.stopped_by_operator,
                consecutive: view.consecutive,
                left: view.budget_left,
                waits_for: view.waits_for,
            })
        };
        self.core.children().filter_map(see).collect()
    }

    pub(crate) fn phase(&self, key: ChildKey) -> Option<Phase> {
        self.seen.iter().find(|seen| seen.key == key).map(|seen| seen.phase)
    }

    /// Hands in one fact and judges everything that follows.
    pub(crate) fn step(&mut self, now: Time, fact: Fact) -> Result<(), Broken> {
        self.world.now = now;
        if let Some(log) = &mut self.log {
            writeln!(log, "{:>9.3}s  {fact:?}", now.as_secs_f64()).unwrap();
        }
        let mut step = self.prepare(fact);
        let over = self.world.finished;
        let actions = self.core.on_fact(now, step.fact.clone());
        if over && !actions.is_empty() {
            return broken("S16", || format!("actions after Finished: {actions:?}"));
        }
        if step.stale && !step.ending_before {
            self.judge_stale(&step, &actions)?;
        }
        for action in &actions {
            if let Some(log) = &mut self.log {
                writeln!(log, "{:>14}{action:?}", "").unwrap();
            }
            self.act(&mut step, action)?;
        }
        let before = std::mem::take(&mut self.seen);
        self.seen = self.look();
        if let Some(log) = &mut self.log {
            let line = |s: &Seen| format!("{}:{}#{}", s.key.0, s.phase.word(), s.incarnation);
            let all: Vec<String> = self.seen.iter().map(line).collect();
            writeln!(log, "{:>14}= {} due {:?}", "", all.join(" "), self.core.next_due()).unwrap();
        }
        self.judge(&step, &before)
    }

    /// What the fact itself does to the world.
    fn prepare(&mut self, fact: Fact) -> Step {
        let mut step = Step {
            subject: None,
            died: None,
            stale: false,
            booted_before: self.world.booted,
            ending_before: self.world.ending,
            asked: self.askers.iter().filter_map(|asker| asker.about).collect(),
            musts: Vec::new(),
            shown: Vec::new(),
            removed: Vec::new(),
            gave_up: false,
            started: 0,
            fact,
        };
        match &step.fact {
            Fact::Boot => {}
            Fact::Ready { child, incarnation } => {
                step.subject = Some(*child);
                step.stale = !self.world.lives(*child, *incarnation);
                self.ready(*child, step.stale);
            }
            Fact::Ignored { child, incarnation } => {
                step.subject = Some(*child);
                step.stale = !self.world.lives(*child, *incarnation);
                if !step.stale {
                    self.tally.note(Rare::IgnoredStart);
                    step.died = self.bury(*child, &Exit::Stopped);
                }
            }
            Fact::StartFailed { child, incarnation, exit } | Fact::Exited { child, incarnation, exit } => {
                step.subject = Some(*child);
                step.stale = !self.world.lives(*child, *incarnation);
                if step.stale {
                    self.tally.note(Rare::StaleExit);
                } else {
                    step.died = self.bury(*child, &exit.clone());
                }
            }
            Fact::Retry { child, token } => {
                step.subject = Some(*child);
                let posted = self.world.mailbox.iter().position(|entry| *entry == (*child, *token));
                step.stale = posted.is_none();
                posted.map(|at| self.world.mailbox.remove(at));
                if let Some(kid) = self.world.kid_mut(*child) {
                    kid.retried = true;
                }
                if self.phase(*child) != Some(Phase::Backoff) {
                    self.tally.note(Rare::StaleRetry);
                }
            }
            Fact::Tick => self.tick(),
            Fact::Held { child, held } => {
                step.subject = Some(*child);
                let waits = self.phase(*child) == Some(Phase::Waiting);
                if let Some(kid) = self.world.kid_mut(*child) {
                    if kid.held && !held && waits {
                        self.tally.note(Rare::HeldReleased);
                    }
                    kid.held = *held;
                }
            }
            Fact::Extend { child, incarnation, by } => {
                step.subject = Some(*child);
                step.stale = !self.world.lives(*child, *incarnation);
                let (child, until) = (*child, self.world.now + *by);
                if !step.stale {
                    self.extend(child, until);
                }
            }
            Fact::Request { id, request } => {
                let (id, request) = (id.0, request.clone());
                step.subject = self.wish(id, &request);
            }
            Fact::Shutdown => self.world.ending = true,
            Fact::Kill => {
                if self.world.ending && self.world.kids.iter().any(Kid::lives) {
                    self.tally.note(Rare::KillInShutdown);
                }
                self.world.ending = true;
                self.world.kill = true;
            }
        }
        self.suppose_retries(step.subject.filter(|_| matches!(step.fact, Fact::Retry { .. })));
        step
    }

    fn ready(&mut self, key: ChildKey, stale: bool) {
        let now = self.world.now;
        let crossed = self.world.kid(key).is_some_and(Kid::is_ending);
        if crossed && !stale {
            self.tally.note(Rare::ReadyAfterStop);
        }
        if let Some(kid) = self.world.kid_mut(key) {
            let verify = kid.spec.verify;
            if let Some(life) = kid.life.as_mut().filter(|life| !stale && life.asked.is_none()) {
                life.ready.get_or_insert(now);
                kid.holds_at = life.trial.then(|| now + verify);
            }
        }
        self.hold_trials();
    }

    /// An incarnation is dead.
    fn bury(&mut self, key: ChildKey, exit: &Exit) -> Option<(Life, Exit)> {
        let now = self.world.now;
        let stuck = self.phase(key) == Some(Phase::Stuck);
        let kid = self.world.kid_mut(key)?;
        let life = kid.life.take()?;
        kid.ran = life.ready.map(|ready| now.saturating_sub(ready));
        kid.tried = life.trial;
        kid.again = life.trial && life.asked.is_some();
        kid.holds_at = None;
        kid.wishes.stop = false;
        kid.ended |= life.asked.is_none() && !life.call;
        if stuck {
            self.tally.note(Rare::Thaw);
        }
        if life.asked.is_some() {
            self.tally.note(Rare::ExitWhileStopping);
        } else if life.ready.is_none() {
            self.tally.note(Rare::ExitBeforeReady);
        }
        Some((life, exit.clone()))
    }

    fn tick(&mut self) {
        match self.core.next_due() {
            Some(due) if due > self.world.now => self.tally.note(Rare::EarlyTick),
            Some(due) if due + std::time::Duration::from_secs(1) < self.world.now => {
                self.tally.note(Rare::LateTick);
            }
            Some(_) => {}
            None => self.tally.note(Rare::EarlyTick),
        }
        self.hold_trials();
    }

    /// Failed starts that may be tried again, and counted, by the fact of this step: those that are due, also
    /// if they have been waiting for a group.
    fn suppose_retries(&mut self, retried: Option<ChildKey>) {
        let now = self.world.now;
        for seen in self.seen.iter().filter(|seen| seen.phase == Phase::Backoff) {
            let others = self.world.mailbox.iter().any(|(key, _)| *key == seen.key);
            let delivered = self.world.kid(seen.key).is_some_and(|kid| kid.retried);
            let posted = others && retried != Some(seen.key) && !delivered;
            if seen.next.is_some_and(|next| next.at.map_or(!posted, |at| at <= now)) {
                self.world.maybe.push(now);
            }
        }
    }

    /// Trials that have held by now have a clean slate.
    fn hold_trials(&mut self) {
        let now = self.world.now;
        for kid in &mut self.world.kids {
            if kid.holds_at.is_some_and(|at| at <= now) {
                kid.holds_at = None;
                kid.events.clear();
                kid.row = 0;
                if let Some(life) = &mut kid.life {
                    life.trial = false;
                }
                self.tally.note(Rare::TrialHolds);
            }
        }
    }

    fn extend(&mut self, key: ChildKey, until: Time) {
        let Some(life) = self.world.kid_mut(key).and_then(|kid| kid.life.as_mut()) else { return };
        let deadline = match &mut life.asked {
            Some(asked) if asked.killed.is_none() => asked.kill_at.as_mut(),
            Some(_) => None,
            None if life.ready.is_none() => life.start_until.as_mut(),
            None => None,
        };
        if let Some(deadline) = deadline {
            if *deadline < until {
                *deadline = until;
                self.tally.note(Rare::Extended);
            }
        }
    }

    /// What a request allows.
    fn wish(&mut self, id: u64, request: &Request) -> Option<ChildKey> {
        self.world.unanswered.push(id);
        let subject = match request {
            Request::Add { .. } => None,
            Request::Terminate { child }
            | Request::Revive { child }
            | Request::Delete { child }
            | Request::Start { child }
            | Request::Stop { child }
            | Request::Restart { child }
            | Request::ResetFailed { child } => Some(*child),
        };
        let call = matches!(request, Request::Revive { .. });
        self.askers.push(Asker { id, about: subject, call });
        if self.world.ending {
            self.tally.note(Rare::RefusedWhileEnding);
            return subject;
        }
        let key = subject?;
        let phase = self.phase(key);
        self.note_request(request, phase);
        if matches!(request, Request::ResetFailed { .. }) && self.world.escalates() && phase.is_some() {
            self.world.events.clear();
        }
        let kid = self.world.kid_mut(key)?;
        match request {
            Request::Add { .. } | Request::Delete { .. } => {}
            Request::Terminate { .. } => kid.wishes.stop = true,
            Request::Revive { .. } => (kid.wishes.start, kid.wishes.call) = (true, true),
            Request::Start { .. } => {
                kid.stopped = false;
                kid.wishes.start = true;
            }
            Request::Stop { .. } => {
                kid.stopped = true;
                kid.wishes.start = false;
                kid.wishes.stop = true;
            }
            Request::Restart { .. } => {
                kid.stopped = false;
                kid.wishes.start = true;
                kid.wishes.stop = true;
            }
            Request::ResetFailed { .. } => {
                kid.row = 0;
                kid.events.clear();
                kid.wishes.start |= matches!(phase, Some(Phase::Quarantined | Phase::Backoff));
            }
        }
        subject
    }

    fn note_request(&mut self, request: &Request, phase: Option<Phase>) {
        match (request, phase) {
            (Request::Stop { .. }, Some(Phase::Backoff)) => self.tally.note(Rare::StopInBackoff),
            (Request::Restart { .. }, Some(Phase::Backoff)) => self.tally.note(Rare::RestartEndsWait),
            (Request::Terminate { .. }, Some(Phase::Backoff)) => self.tally.note(Rare::RetryCancelled),
            (Request::ResetFailed { .. }, Some(Phase::Quarantined)) => self.tally.note(Rare::ResetFailed),
            (Request::Start { .. }, Some(Phase::Stopping)) => self.tally.note(Rare::StartWhileStopping),
            (_, _) => {}
        }
    }

    /// Judges one action, then lets it happen.
    fn act(&mut self, step: &mut Step, action: &Action) -> Result<(), Broken> {
        match action {
            Action::Start { child, incarnation } => {
                let at = self.place_or_new(*child);
                let kid = &mut self.world.kids[at];
                if kid.new && !kid.started && incarnation.0 > kid.last.0 {
                    // Children of this slot may have come and gone within this step.
                    kid.last = regrow::id::Incarnation(incarnation.0 - 1);
                }
                self.judge_start(step, at, incarnation.0)?;
                let kid = &mut self.world.kids[at];
                // What several requests that had waited did to it within this step is not seen.
                if step.asked.contains(child) && kid.parked {
                    (kid.parked, kid.unsure) = (false, true);
                }
                step.started += 1;
                let call = self.askers.iter().any(|asker| asker.call && asker.about == Some(*child));
                self.world.kids[at].wishes.call |= call;
                self.world.born(at);
                // What was held back has lost its place in the order, where nobody depends on it.
                let freed = matches!(step.fact, Fact::Held { .. }) && !self.world.is_group();
                if let Some(life) = self.world.kids[at].life.as_mut().filter(|_| freed) {
                    life.wished = true;
                }
                Ok(())
            }
            Action::Stop { child, incarnation, how } => {
                let Some(at) = self.world.place(*child) else {
                    return broken("S12", || format!("stop of {child:?}, which is unknown"));
                };
                self.judge_stop(step, at, incarnation.0, *how)?;
                self.world.asked(at, *how);
                Ok(())
            }
            Action::Retry { child, token } => {
                self.world.mailbox.push_back((*child, *token));
                Ok(())
            }
            Action::Report { kind, child, incarnation: _, exit } => {
                self.report(step, *kind, *child, exit.as_ref())
            }
            Action::Changed { child } => {
                step.shown.push(*child);
                Ok(())
            }
            Action::Removed { child } => {
                // Its slot may be another child's before this step is over.
                let musts = std::mem::take(&mut step.musts);
                let (gone, others) = musts.into_iter().partition(|(key, _)| key == child);
                step.musts = others;
                step.removed.push(*child);
                self.removed(step, *child, &gone)
            }
            Action::Reply { id, reply } => {
                let Some(at) = self.world.unanswered.iter().position(|open| *open == id.0) else {
                    return broken("S18", || format!("{id:?} is answered twice or was never asked"));
                };
                self.world.unanswered.swap_remove(at);
                let subject = self.askers.iter().position(|asker| asker.id == id.0);
                let asker = subject.map(|at| self.askers.swap_remove(at));
                let subject = asker.and_then(|asker| asker.about);
                if reply.is_ok() && asker.is_some_and(|asker| asker.call) {
                    if let Some(kid) = subject.and_then(|key| self.world.kid_mut(key)) {
                        kid.stopped = false;
                        // Accepted, and held back: it comes true later.
                        kid.wishes.start |= !kid.lives();
                    }
                }
                match reply {
                    Ok(Done::Up(key, incarnation)) => {
                        let up = self.world.kid(*key).and_then(|kid| kid.life);
                        if up.is_none_or(|life| life.incarnation != *incarnation || life.ready.is_none()) {
                            return broken("S18", || format!("{key:?}#{incarnation} is said to be up"));
                        }
                    }
                    Ok(Done::Ok | Done::Ignored) => {}
                    Err(_) => {
                        if let Some(kid) = subject.and_then(|key| self.world.kid_mut(key)) {
                            kid.wishes.call = false;
                        }
                    }
                }
                Ok(())
            }
            Action::Booted => {
                if self.world.booted {
                    return broken("S6", || "booted twice".to_owned());
                }
                self.world.booted = true;
                if !matches!(step.fact, Fact::Boot) {
                    self.tally.note(Rare::BootedLate);
                }
                Ok(())
            }
            Action::Finished { .. } => {
                if let Some(kid) = self.world.kids.iter().find(|kid| kid.lives()) {
                    return broken("S16", || format!("finished while {:?} lives", kid.key));
                }
                if !self.core.is_ending() {
                    return broken("S16", || "finished without a reason".to_owned());
                }
                self.world.finished = true;
                Ok(())
            }
        }
    }

    /// Where it stands; a child that an `Add` has made is taken in.
    pub(crate) fn place_or_new(&mut self, key: ChildKey) -> usize {
        if let Some(at) = self.world.place(key) {
            return at;
        }
        let view = self.core.child(key).expect("a started child is there");
        let mut kid = Kid { stopped: view.stopped_by_operator, ..Kid::new(key, view.spec.clone()) };
        let slot = self.world.slots.get(key.0 as usize).copied().unwrap_or_default();
        if slot > kid.last {
            kid.last = slot;
            self.tally.note(Rare::SlotReused);
        }
        (kid.wishes.start, kid.wishes.call) = (!kid.stopped, true);
        self.world.kids.push(kid);
        self.world.kids.len() - 1
    }

    fn removed(&mut self, step: &Step, key: ChildKey, musts: &Vec<(ChildKey, Must)>) -> Result<(), Broken> {
        let overruled = self.core.is_ending() || !step.asked.is_empty() || step.subject == Some(key);
        if let Some((_, must)) = musts.iter().find(|(_, must)| *must != Must::Rest && !overruled) {
            return broken("S10", || format!("{key:?} is gone: {must:?}"));
        }
        let Some(at) = self.world.place(key) else {
            // Added, refused by its own start, and gone, all unseen.
            return Ok(());
        };
        let (kid, started) = (&self.world.kids[at], self.world.kids[at].started);
        if !started && !overruled {
            return broken("S10", || format!("{} is gone and was never started", kid.spec.id));
        }
        if self.world.kids[at].lives() {
            return broken("S1", || format!("{key:?} is removed and lives"));
        }
        self.tally.note(Rare::Removed);
        let slot = key.0 as usize;
        if self.world.slots.len() <= slot {
            self.world.slots.resize(slot + 1, regrow::id::Incarnation::NONE);
        }
        self.world.slots[slot] = self.world.kids[at].last;
        self.world.kids.remove(at);
        Ok(())
    }

    /// An end is judged by the core: what must follow (S3, S4, S10).
    fn report(
        &mut self,
        step: &mut Step,
        kind: ReportKind,
        key: ChildKey,
        exit: Option<&Exit>,
    ) -> Result<(), Broken> {
        match kind {
            ReportKind::ShutdownError => Ok(()),
            ReportKind::GaveUp => {
                let (sure, maybe) =
                    (self.world.recent(&self.world.events), self.world.recent(&self.world.maybe));
                let limit = self.world.spec.intensity.max_restarts as usize;
                if !self.world.escalates() || sure + maybe <= limit {
                    return broken("S4", || format!("gave up after {sure} + {maybe} events of {limit}"));
                }
                self.tally.note(Rare::GiveUp);
                step.gave_up = true;
                self.world.ending = true;
                Ok(())
            }
            ReportKind::ChildTerminated | ReportKind::StartError => {
                let Some(exit) = exit else {
                    return broken("S10", || format!("{kind:?} of {key:?} without an exit"));
                };
                if let Some(must) = self.verdict(key, kind, exit) {
                    step.musts.push((key, must));
                }
                Ok(())
            }
        }
    }

    fn verdict(&mut self, key: ChildKey, kind: ReportKind, exit: &Exit) -> Option<Must> {
        let (escalates, now, starts) = (self.world.escalates(), self.world.now, self.world.starts);
        let (limit, within) =
            (self.world.spec.intensity.max_restarts as usize, self.world.spec.intensity.within);
        let failed = kind == ReportKind::StartError;
        let kid = self.world.kid_mut(key)?;
        let shortage = is_shortage(exit);
        kid.wait = None;
        if kid.is_fatal(exit) {
            self.tally.note(Rare::FatalCode);
            kid.root = Some(Root { starts, sweeps: true });
            kid.parked = true;
            return Some(Must::Park);
        }
        if !kid.wants_restart(exit) {
            return Some(Must::Rest);
        }
        kid.root = Some(Root { starts, sweeps: !(failed && escalates) });
        if kid.ran.is_some_and(|ran| ran >= kid.spec.backoff.reset_after) {
            if kid.row > 0 {
                self.tally.note(Rare::BackoffReset);
            }
            kid.row = 0;
        }
        if kid.unsure && !escalates {
            return None;
        }
        kid.row += 1;
        let row = kid.row;
        kid.wait = (!shortage && !kid.unsure).then(|| kid.delay_bounds(row));
        if shortage {
            self.tally.note(Rare::Shortage);
            kid.again = kid.tried;
            return Some(Must::Restart);
        }
        if escalates {
            kid.again = kid.tried;
            if failed {
                // A retry that waited for a group may follow at once.
                self.world.maybe.push(now);
                return Some(Must::Restart);
            }
            self.world.events.push(now);
            if self.world.events.iter().any(|at| *at + within == now) {
                self.tally.note(Rare::WindowEdge);
            }
            let over = self.world.recent(&self.world.events) > limit;
            return Some(if over { Must::GiveUp } else { Must::Restart });
        }
        if kid.tried {
            self.tally.note(Rare::TrialFails);
            kid.parked = true;
            return Some(Must::Park);
        }
        if kid.events.iter().any(|at| *at + within == now) {
            self.tally.note(Rare::WindowEdge);
        }
        kid.events.push(now);
        let over = kid.events.iter().filter(|at| **at + within >= now).count() > limit;
        kid.parked |= over;
        Some(if over { Must::Park } else { Must::Restart })
    }

    /// All actions of a stale fact.
    fn judge_stale(&self, step: &Step, actions: &Actions) -> Result<(), Broken> {
        if actions.is_empty() {
            return Ok(());
        }
        broken("S2", || format!("the stale {:?} led to {actions:?}", step.fact))
    }
}
