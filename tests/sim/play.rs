//! One supervision core and its world, fact by fact.
//!
//! A fact goes to the world first (who really died, what was asked), then to the core; every action is judged
//! before it changes the world, and then what people see of every child is judged ([`super::judge`]).

use std::fmt::Write as _;

use regrow::exit::Exit;
use regrow::policy::{
    Action, Actions, ChildKey, ChildSpec, Done, Fact, Pause, Phase, Planned, ReportKind, Supervisor, Time,
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
    pub(crate) paused: Option<Pause>,
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
    /// Down until its pause is over.
    Hold,
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
                paused: view.paused,
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
            let line = |s: &Seen| format!("{}:{}#{}", s.key.slot(), s.phase.word(), s.incarnation);
            let all: Vec<String> = self.seen.iter().map(line).collect();
            writeln!(log, "{:>14}= {} due {:?}", "", all.join(" "), self.core.next_due()).unwrap();
        }
        self.judge(&step, &before)
    }

    /// Judges one action, then lets it happen.
    fn act(&mut self, step: &mut Step, action: &Action) -> Result<(), Broken> {
        match action {
            Action::Start { child, incarnation } => {
                let at = self.place_or_new(*child);
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
            Action::Retry { child } => {
                self.world.mailbox.push_back(*child);
                Ok(())
            }
            Action::Report { kind, child, incarnation: _, exit } => {
                self.report(step, *kind, *child, exit.as_ref())
            }
            // The schedules of this simulator bring no new definitions.
            Action::Added { child } | Action::Respec { child, .. } => {
                broken("S19", || format!("{child:?} changed and nobody asked for it"))
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
                if reply.is_ok()
                    && asker.is_some_and(|asker| asker.call)
                    && let Some(kid) = subject.and_then(|key| self.world.kid_mut(key))
                {
                    kid.stopped = false;
                    // Accepted, and held back: it comes true later.
                    kid.wishes.start |= !kid.lives();
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
            Action::Recovery { .. } => Ok(()),
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
        if self.world.removed.iter().any(|gone| gone.slot() == key.slot()) {
            self.tally.note(Rare::SlotReused);
        }
        (kid.wishes.start, kid.wishes.call) = (!kid.stopped, true);
        // Those added in one step stand in the order of their adding, which need not be that of their starts.
        let rank = |key: ChildKey| self.core.children().position(|other| other == key);
        let behind = |other: &Kid| other.new && rank(other.key) > rank(key);
        let at = self.world.kids.iter().position(behind).unwrap_or(self.world.kids.len());
        self.world.kids.insert(at, kid);
        at
    }

    fn removed(&mut self, step: &Step, key: ChildKey, musts: &[(ChildKey, Must)]) -> Result<(), Broken> {
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
        self.world.removed.push(key);
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
        if kid.paused.is_some() && kid.wants_restart(exit) {
            kid.again |= kid.tried;
            self.tally.note(Rare::PausedEnd);
            return Some(Must::Hold);
        }
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
