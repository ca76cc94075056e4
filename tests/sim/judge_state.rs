//! What must hold when a fact has been dealt with: phases are true, deadlines are armed and kept, budgets are
//! what was counted, ends have led to what they should, and nothing has changed silently.

use regrow::exit::{Exit, StartFailure};
use regrow::policy::{AutoShutdown, ChildKey, Fact, Phase, Time};

use super::play::{Broken, Must, Play, Seen, Step, broken};
use super::rare::Rare;
use super::world::{Kid, Life};

/// A kill that was not answered for this long must show.
const STUCK_AT_LAST: Time = Time::from_secs(60);

impl Play {
    /// Everything that must hold after a fact has been dealt with.
    pub(crate) fn judge(&mut self, step: &Step, before: &[Seen]) -> Result<(), Broken> {
        self.judge_end(step)?;
        if self.world.finished {
            return Ok(());
        }
        self.judge_order()?;
        for at in 0..self.seen.len() {
            let seen = self.seen[at];
            let same = |old: &&Seen| old.key == seen.key && !step.removed.contains(&old.key);
            let old = before.iter().find(same).copied();
            self.judge_shown(step, &seen, old.as_ref())?;
            self.judge_child(step, &seen)?;
            self.judge_delay(&seen, old.as_ref())?;
            self.note_child(&seen, old.as_ref());
        }
        for (key, must) in &step.musts {
            self.judge_must(step, *key, *must)?;
        }
        self.judge_death(step)
    }

    /// S16: it ends for a reason, and only then.
    fn judge_end(&mut self, step: &Step) -> Result<(), Broken> {
        if !self.core.is_ending() {
            return if self.world.ending { broken("S11", || "it goes on".to_owned()) } else { Ok(()) };
        }
        if self.world.ending {
            return Ok(());
        }
        let boot = self.world.escalates() && !self.world.booted;
        match self.world.spec.auto_shutdown {
            _ if boot => self.tally.note(Rare::BootFails),
            AutoShutdown::AnySignificant => self.tally.note(Rare::AutoShutdownAny),
            AutoShutdown::AllSignificant => self.tally.note(Rare::AutoShutdownAll),
            AutoShutdown::Never => {
                return broken("S16", || format!("it ends by {:?}", step.fact));
            }
        }
        if step.died.is_none() && !boot {
            // An end that had to wait for a group is treated later; then somebody has significance.
            let significant = self.world.kids.iter().any(|kid| kid.spec.significant);
            if !significant && step.removed.is_empty() {
                return broken("S16", || format!("it ends by {:?}", step.fact));
            }
        }
        self.world.ending = true;
        Ok(())
    }

    fn judge_order(&mut self) -> Result<(), Broken> {
        // A child whose first start is still held back has no start to be known by.
        for at in 0..self.seen.len() {
            let key = self.seen[at].key;
            let (place, last) = (self.place_or_new(key), self.seen[at].incarnation);
            let kid = &mut self.world.kids[place];
            if kid.new && !kid.started {
                kid.last = regrow::id::Incarnation(last);
            }
        }
        let place = |key: ChildKey| self.seen.iter().position(|seen| seen.key == key);
        let old: Vec<_> = self.world.kids.iter().filter(|kid| !kid.new).map(|kid| place(kid.key)).collect();
        let ordered = old.iter().all(Option::is_some) && (self.world.is_simple() || old.is_sorted());
        if !ordered || self.seen.len() != self.world.kids.len() {
            return broken("S6", || "the start order has changed".to_owned());
        }
        if self.world.is_simple() || self.world.kids.iter().any(|kid| kid.new) {
            self.world.kids.sort_by_key(|kid| place(kid.key));
            for kid in &mut self.world.kids {
                kid.new = false;
            }
        }
        Ok(())
    }

    /// Nothing people see changes silently.
    fn judge_shown(&self, step: &Step, seen: &Seen, old: Option<&Seen>) -> Result<(), Broken> {
        let new = old.is_none() && seen.phase == Phase::Stopped;
        let same = new
            || old.is_some_and(|old| {
                (old.phase, old.next, old.incarnation, old.stopped, old.paused)
                    == (seen.phase, seen.next, seen.incarnation, seen.stopped, seen.paused)
            });
        if same || step.shown.contains(&seen.key) {
            return Ok(());
        }
        broken("changed", || format!("{old:?} became {seen:?} silently"))
    }

    /// S12, S13: every state is true and has a way out.
    fn judge_child(&self, step: &Step, seen: &Seen) -> Result<(), Broken> {
        let Some(kid) = self.world.kid(seen.key) else { return Ok(()) };
        let is = |phase: Phase| seen.phase == phase;
        let wrong = |why: &str| broken("S13", || format!("{} is {}: {why}", kid.spec.id, seen.phase.word()));
        if seen.incarnation != kid.last.0 {
            return wrong("its incarnation is another");
        }
        if seen.paused.map(|pause| pause.until) != kid.paused && !self.core.is_ending() {
            return wrong(&format!("it is shown as paused: {:?}, in truth {:?}", seen.paused, kid.paused));
        }
        if let Some(Some(until)) = kid.paused
            && !self.core.is_ending()
            && self.core.next_due().is_none_or(|due| due > until)
        {
            return wrong("no deadline for the end of its pause");
        }
        let true_phase = match kid.life {
            None => !matches!(seen.phase, Phase::Starting | Phase::Running | Phase::Stopping | Phase::Stuck),
            Some(Life { asked: Some(asked), .. }) => {
                is(Phase::Stopping) || is(Phase::Stuck) && asked.killed.is_some()
            }
            Some(Life { ready: Some(_), .. }) => is(Phase::Running),
            Some(Life { ready: None, .. }) => is(Phase::Starting),
        };
        if !true_phase {
            return wrong(&format!("in truth {:?}", kid.life));
        }
        self.judge_deadline(step, seen, kid)?;
        self.judge_budget(seen, kid)
    }

    /// Every deadline is armed, and kept.
    fn judge_deadline(&self, step: &Step, seen: &Seen, kid: &Kid) -> Result<(), Broken> {
        let now = self.world.now;
        let ticked = matches!(step.fact, Fact::Tick);
        let armed = |at: Time| self.core.next_due().is_some_and(|due| due <= at);
        let wrong = |invariant: &'static str, why: &str| {
            broken(invariant, || format!("{} is {}: {why}", kid.spec.id, seen.phase.word()))
        };
        let busy = self.world.kids.iter().any(|other| other.is_starting() || other.is_ending());
        let planned = seen.next.and_then(|next| next.at);
        match seen.phase {
            // A supervisor that ends stops it when its turn comes.
            Phase::Starting if self.world.ending => Ok(()),
            Phase::Starting => match kid.life.and_then(|life| life.start_until) {
                Some(until) if ticked && until <= now => wrong("S12", "its start has taken too long"),
                Some(until) if !armed(until) => wrong("S13", "no deadline for its start"),
                Some(_) | None => Ok(()),
            },
            Phase::Stopping => match kid.life.and_then(|life| life.asked) {
                Some(asked) => match (asked.killed, asked.kill_at) {
                    (None, Some(at)) if ticked && at <= now && !self.shares_deadline() => {
                        wrong("S12", "not killed")
                    }
                    (None, Some(at)) if !armed(at) && !self.shares_deadline() => {
                        wrong("S13", "no deadline for the kill")
                    }
                    (Some(at), _) if ticked && at + STUCK_AT_LAST <= now => {
                        wrong("S12", "not shown as stuck")
                    }
                    (Some(at), _) if !armed(at + STUCK_AT_LAST) => wrong("S13", "no deadline for stuck"),
                    (_, _) => Ok(()),
                },
                None => Ok(()),
            },
            Phase::Backoff => match planned {
                Some(at) if !armed(at) && at > now => wrong("S13", "no deadline for its restart"),
                Some(at) if at <= now && ticked && !busy => wrong("S13", "its restart is overdue"),
                Some(_) => Ok(()),
                None if busy || self.world.mailbox.iter().any(|key| *key == seen.key) => Ok(()),
                None => wrong("S13", "nothing will wake it"),
            },
            Phase::Quarantined => match planned {
                Some(at) if !armed(at) && at > now => wrong("S13", "no deadline for its trial"),
                Some(at) if at <= now && ticked && !busy => wrong("S13", "its trial is overdue"),
                Some(_) | None => Ok(()),
            },
            Phase::Waiting => self.judge_waiting(seen, kid, busy),
            Phase::Running if self.world.ending => Ok(()),
            Phase::Running => match planned {
                Some(at) if !armed(at) => wrong("S13", "no deadline for its trial"),
                Some(_) | None => Ok(()),
            },
            Phase::Stuck | Phase::Stopped | Phase::Done => Ok(()),
        }
    }

    /// R38: the children of a template that ends share one deadline, which the core may keep anywhere.
    fn shares_deadline(&self) -> bool {
        self.world.is_simple() && self.world.ending
    }

    fn judge_waiting(&self, seen: &Seen, kid: &Kid, busy: bool) -> Result<(), Broken> {
        let for_sibling = seen.waits_for.and_then(|key| self.phase_now(key));
        let wakes = match for_sibling {
            None => kid.held || busy || kid.paused.is_some(),
            Some(
                Phase::Backoff
                | Phase::Quarantined
                | Phase::Starting
                | Phase::Stopping
                | Phase::Stuck
                | Phase::Waiting,
            ) => true,
            // A trial on probation.
            Some(Phase::Running) => {
                let trial = |other: &Seen| Some(other.key) == seen.waits_for && other.next.is_some();
                busy || self.seen.iter().any(trial)
            }
            Some(Phase::Stopped | Phase::Done) => busy,
        };
        if wakes {
            return Ok(());
        }
        broken("S13", || format!("{} waits for {for_sibling:?}: nothing will wake it", kid.spec.id))
    }

    fn phase_now(&self, key: ChildKey) -> Option<Phase> {
        self.phase(key)
    }

    /// S3, S14: what is left of the budget is what the world has counted.
    fn judge_budget(&self, seen: &Seen, kid: &Kid) -> Result<(), Broken> {
        let limit = self.world.spec.intensity.max_restarts as usize;
        let left = seen.left as usize;
        if kid.unsure {
            return Ok(());
        }
        let good = if self.world.escalates() {
            let sure = self.world.recent(&self.world.events);
            let maybe = self.world.recent(&self.world.maybe);
            left <= limit.saturating_sub(sure) && left >= limit.saturating_sub(sure + maybe)
        } else {
            left == limit.saturating_sub(self.world.recent(&kid.events))
        };
        if !good && !self.world.ending {
            return broken("S14", || {
                format!(
                    "{}: {left} left of {limit}, counted {:?} {:?}",
                    kid.spec.id, kid.events, self.world.events
                )
            });
        }
        if seen.consecutive != kid.row && !self.world.ending {
            return broken("S15", || {
                format!("{}: {} restarts in a row, counted {}", kid.spec.id, seen.consecutive, kid.row)
            });
        }
        Ok(())
    }

    /// What a reported end had to lead to.
    fn judge_must(&self, step: &Step, key: ChildKey, must: Must) -> Result<(), Broken> {
        let Some(kid) = self.world.kid(key) else {
            return if must == Must::Rest || must == Must::Park {
                Ok(())
            } else {
                broken("S10", || format!("{key:?} is gone: {must:?}"))
            };
        };
        let phase = self.phase(key);
        let overruled = kid.stopped || self.core.is_ending() || !step.asked.is_empty();
        if overruled && must != Must::GiveUp {
            return Ok(());
        }
        let good = match must {
            Must::Park => phase == Some(Phase::Quarantined),
            Must::GiveUp => step.gave_up,
            Must::Hold => phase == Some(Phase::Waiting),
            Must::Restart => {
                !step.gave_up && matches!(phase, Some(Phase::Starting | Phase::Backoff | Phase::Waiting))
            }
            Must::Rest => matches!(phase, Some(Phase::Done | Phase::Stopped)),
        };
        let invariant = if matches!(must, Must::Park | Must::GiveUp) { "S4" } else { "S10" };
        if good {
            Ok(())
        } else {
            broken(invariant, || format!("{}: {must:?}, but it is {phase:?}", kid.spec.id))
        }
    }

    /// S10 for an end that nothing defers: it is reported if it is to be restarted, else it rests.
    fn judge_death(&mut self, step: &Step) -> Result<(), Broken> {
        let (Some((life, exit)), Some(key)) = (&step.died, step.subject) else { return Ok(()) };
        if matches!(step.fact, Fact::Ignored { .. })
            || life.asked.is_some()
            || life.call
            || step.ending_before
        {
            return Ok(());
        }
        let busy = self
            .world
            .kids
            .iter()
            .any(|other| other.key != key && (other.is_starting() || other.is_ending()));
        if busy && self.world.is_group() && life.ready.is_some() {
            self.tally.note(Rare::ExitInGroupRestart);
        }
        let Some(kid) = self.world.kid(key) else { return Ok(()) };
        let short = kid.ran.is_some_and(|ran| ran < kid.spec.min_uptime);
        if short {
            self.tally.note(Rare::TooShort);
        }
        let Some(kid) = self.world.kid(key) else { return Ok(()) };
        let failed = life.ready.is_none() || short;
        let end = if failed && !matches!(exit, Exit::StartFailed(_)) {
            Exit::StartFailed(StartFailure::TooShort { ended: Box::new(exit.clone()) })
        } else {
            exit.clone()
        };
        let gone = step.removed.contains(&key);
        if gone || busy || kid.stopped || !step.booted_before || self.core.is_ending() {
            return Ok(());
        }
        let wanted = kid.wants_restart(&end) || kid.is_fatal(&end);
        let told = kid.unsure || step.musts.iter().any(|(about, _)| *about == key);
        if wanted && !told {
            return broken("S10", || format!("{} ended by {end:?} and nothing follows", kid.spec.id));
        }
        if !wanted && !matches!(self.phase(key), Some(Phase::Done | Phase::Stopped) | None) {
            return broken("S10", || format!("{} ended by {end:?} and does not rest", kid.spec.id));
        }
        self.judge_significance(step, kid, !wanted && !failed)
    }

    /// R10, where nothing is deferred and the supervisor goes on.
    fn judge_significance(&self, step: &Step, kid: &Kid, rests: bool) -> Result<(), Broken> {
        if !kid.spec.significant || !rests {
            return Ok(());
        }
        let others = || self.world.kids.iter().filter(|other| other.key != kid.key && other.spec.significant);
        let must = match self.world.spec.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => {
                others().all(|other| matches!(self.phase(other.key), Some(Phase::Stopped | Phase::Done)))
            }
        };
        if must {
            return broken("S16", || {
                format!("{} ended by {:?} and the others go on", kid.spec.id, step.fact)
            });
        }
        Ok(())
    }

    /// Keeps the world's notes on what is seen, and judges a delay when it is first shown (S15).
    fn note_child(&mut self, seen: &Seen, old: Option<&Seen>) {
        let became = |phase: Phase| seen.phase == phase && old.is_none_or(|old| old.phase != phase);
        let waited = old.is_some_and(|old| old.phase == Phase::Waiting && old.waits_for.is_some());
        if waited && matches!(seen.phase, Phase::Starting | Phase::Running) {
            self.tally.note(Rare::WaitingReleased);
        }
        if became(Phase::Quarantined) {
            self.tally.note(Rare::Park);
        }
        if became(Phase::Stuck) {
            self.tally.note(Rare::Stuck);
        }
        let limit = self.world.spec.intensity.max_restarts;
        let Some(kid) = self.world.kid_mut(seen.key) else { return };
        if became(Phase::Waiting) && kid.held {
            self.tally.note(Rare::HeldStart);
        }
        let aside = matches!(seen.phase, Phase::Waiting | Phase::Stopped | Phase::Done | Phase::Backoff);
        kid.unsure |= (kid.parked || kid.again) && aside;
        kid.again &= seen.phase != Phase::Quarantined;
        if kid.unsure {
            (kid.row, kid.wait) = (seen.consecutive, None);
            if let Some(life) = kid.life.as_mut().filter(|_| seen.phase == Phase::Running) {
                life.trial = seen.next.is_some();
                kid.holds_at = seen.next.and_then(|next| next.at);
            }
            if seen.phase == Phase::Running && seen.consecutive == 0 && seen.left == limit {
                kid.events.clear();
                kid.unsure = false;
            }
        }
        kid.parked = seen.phase == Phase::Quarantined;
        if matches!(seen.phase, Phase::Stopped | Phase::Done | Phase::Quarantined) {
            (kid.wait, kid.not_before) = (None, None);
        }
    }

    /// S15: a delay is as long as it should be.
    pub(crate) fn judge_delay(&mut self, seen: &Seen, old: Option<&Seen>) -> Result<(), Broken> {
        let now = self.world.now;
        let Some(kid) = self.world.kid_mut(seen.key) else { return Ok(()) };
        let Some(at) = seen.next.and_then(|next| next.at).filter(|_| seen.phase == Phase::Backoff) else {
            return Ok(());
        };
        if old.is_some_and(|old| old.next == seen.next) {
            return Ok(());
        }
        kid.not_before = Some(at);
        let Some((least, most)) = kid.wait.take() else { return Ok(()) };
        let wait = at.saturating_sub(now);
        if kid.wishes.start || (wait >= least && wait <= most) {
            if kid.row > 2 && least > kid.spec.backoff.first {
                self.tally.note(Rare::BackoffGrows);
            }
            if most >= kid.spec.backoff.max && kid.row > 2 {
                self.tally.note(Rare::BackoffAtMax);
            }
            return Ok(());
        }
        broken("S15", || format!("{} waits {wait:?}, not {least:?} to {most:?}", kid.spec.id))
    }
}
