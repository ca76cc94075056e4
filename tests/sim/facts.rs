//! What a fact does to the world before the core hears of it: who has died, what was asked, what is overdue.

use regrow::exit::Exit;
use regrow::policy::{ChildKey, Fact, Phase, Request, Time};

use super::play::{Asker, Play, Seen, Step};
use super::rare::Rare;
use super::world::{Kid, Life};

impl Play {
    /// What the fact itself does to the world.
    pub(crate) fn prepare(&mut self, fact: Fact) -> Step {
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
            Fact::Retry { child } => {
                step.subject = Some(*child);
                let posted = self.world.mailbox.iter().position(|entry| entry == child);
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
            // Not in any schedule: whom a verdict ends, the model would have to be told.
            Fact::Judged { child, incarnation, .. } | Fact::Classed { child, incarnation, .. } => {
                step.subject = Some(*child);
                step.stale = !self.world.lives(*child, *incarnation);
            }
            Fact::Leave { child, .. } | Fact::Performed { child, .. } => step.subject = Some(*child),
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
        let now = self.world.now;
        for kid in &mut self.world.kids {
            if matches!(kid.paused, Some(Some(until)) if until <= now) && kid.resume(now) {
                self.tally.note(Rare::PauseOver);
            }
        }
        self.hold_trials();
    }

    /// Failed starts that may be tried again, and counted, by the fact of this step: those that are due, also
    /// if they have been waiting for a group.
    fn suppose_retries(&mut self, retried: Option<ChildKey>) {
        let now = self.world.now;
        let oldest = now.saturating_sub(self.world.spec.intensity.within);
        self.world.maybe.retain(|at| *at >= oldest);
        self.world.events.retain(|at| *at >= oldest);
        for seen in self.seen.iter().filter(|seen| seen.phase == Phase::Backoff) {
            let others = self.world.mailbox.iter().any(|key| *key == seen.key);
            let delivered = self.world.kid(seen.key).is_some_and(|kid| kid.retried);
            let posted = others && retried != Some(seen.key) && !delivered;
            if seen.next.is_some_and(|next| next.at.map_or(!posted, |at| at <= now)) {
                self.world.maybe.push(now);
            }
        }
        // Nothing waits for a group any more once everybody has come to rest.
        let moves = |seen: &Seen| matches!(seen.phase, Phase::Starting | Phase::Stopping | Phase::Stuck);
        if !self.seen.iter().any(moves) {
            for seen in self.seen.iter().filter(|seen| seen.phase != Phase::Backoff) {
                if let Some(kid) = self.world.kid_mut(seen.key).filter(|_| retried != Some(seen.key)) {
                    kid.retried = false;
                }
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
        if let Some(deadline) = deadline
            && *deadline < until
        {
            *deadline = until;
            self.tally.note(Rare::Extended);
        }
    }

    /// What a request allows.
    fn wish(&mut self, id: u64, request: &Request) -> Option<ChildKey> {
        self.world.unanswered.push(id);
        let subject = match request {
            Request::Add { .. } | Request::Reform(_) => None,
            Request::Terminate { child }
            | Request::Revive { child }
            | Request::Delete { child }
            | Request::Start { child }
            | Request::Stop { child }
            | Request::Restart { child }
            | Request::Pause { child, .. }
            | Request::Resume { child }
            | Request::Recover { child, .. }
            | Request::Approve { child }
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
        let now = self.world.now;
        let kid = self.world.kid_mut(key)?;
        match request {
            Request::Pause { lasting, .. } => kid.pause(lasting.map(|lasting| now + lasting)),
            Request::Resume { .. } => drop(kid.resume(now)),
            Request::Add { .. } | Request::Reform(_) | Request::Delete { .. } => {}
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
            // In no schedule of this model; what recovery does is judged in tests/it/recovery.rs.
            Request::Approve { .. } => {}
            Request::Restart { .. } | Request::Recover { .. } => {
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
            (Request::Pause { .. }, Some(Phase::Backoff)) => self.tally.note(Rare::PausedInBackoff),
            (Request::Start { .. }, Some(Phase::Stopping)) => self.tally.note(Rare::StartWhileStopping),
            (_, _) => {}
        }
    }
}
