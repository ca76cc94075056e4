//! What a core may do: each start and each stop where it is asked for.
//!
//! The rules are stated over the world's own list of who lives, never over the core's state; what people see of
//! a child (phase, plan, budget) is itself judged against the world.

use regrow::policy::{ChildKey, Fact, Phase, Restart, Shutdown, StopHow};

use super::play::{Broken, Play, Step, broken};
use super::rare::Rare;
use super::world::{Kid, Life};

impl Play {
    /// S1, S6, S8, S9, S10, S11, S15: whether this start may be.
    pub(crate) fn judge_start(&mut self, step: &Step, at: usize, incarnation: u64) -> Result<(), Broken> {
        let kid = &self.world.kids[at];
        let name = || format!("start of {}#{incarnation}", kid.spec.id);
        if step.ending_before || self.world.finished {
            return broken("S11", || format!("{} after the end has begun", name()));
        }
        if let Some(life) = kid.life {
            return broken("S1", || format!("{} while #{} lives", name(), life.incarnation));
        }
        if incarnation != kid.last.0 + 1 {
            return broken("S1", || format!("{} after #{}", name(), kid.last));
        }
        if kid.held {
            return broken("S6", || format!("{} while what it needs is not ready", name()));
        }
        if kid.wishes.start || self.is_asked_about(kid.key) {
            return Ok(());
        }
        if kid.paused.is_some() {
            return broken("S18", || format!("{} while it is paused", name()));
        }
        if kid.stopped {
            return broken("S18", || format!("{} against an operator's stop", name()));
        }
        if kid.spec.restart == Restart::Temporary && kid.ended {
            return broken("S10", || format!("{}: temporary, and it has ended", name()));
        }
        if !self.world.is_group() && kid.not_before.is_some_and(|at| at > self.world.now) {
            return broken("S15", || format!("{} before its delay is over", name()));
        }
        if !self.world.is_group() && kid.wait.is_some_and(|(least, _)| !least.is_zero()) {
            return broken("S15", || format!("{} without a delay", name()));
        }
        // At boot one waits for the other under `escalate`, and an end waits for the boot.
        let waits = matches!(self.phase(kid.key), Some(Phase::Waiting | Phase::Backoff));
        let turn = self.world.escalates() && waits;
        if !self.world.is_group() && step.booted_before && !turn && !self.concerns(step, kid) {
            return broken("S7", || format!("{} by {:?}", name(), step.fact));
        }
        let boot = self.world.escalates() && !self.world.booted && kid.root.is_none();
        if self.world.is_group() || (boot && !self.world.is_simple()) {
            self.judge_start_order(at)?;
        }
        Ok(())
    }

    /// Whether a request about it is unanswered: one that had to wait for a group comes true much later.
    fn is_asked_about(&self, key: ChildKey) -> bool {
        self.askers.iter().any(|asker| asker.about == Some(key))
    }

    /// Whether the fact is about this child.
    fn concerns(&self, step: &Step, kid: &Kid) -> bool {
        step.subject == Some(kid.key) || matches!(step.fact, Fact::Tick)
    }

    fn judge_start_order(&self, at: usize) -> Result<(), Broken> {
        let kids = &self.world.kids;
        let id = &kids[at].spec.id;
        // Each parked child is tried by itself, whatever its siblings do, also where it is left to the core whether a
        // start is a trial; and nobody waits for an operator's start.
        let ordered = |life: Life| !life.trial && !life.wished;
        let blocks = |kid: &&Kid| kid.is_starting() && !kid.unsure && kid.life.is_some_and(ordered);
        if let Some(earlier) = kids[..at].iter().find(blocks).filter(|_| !kids[at].parked) {
            return broken("S6", || format!("start of {id} before {} is ready", earlier.spec.id));
        }
        for (place, root) in kids.iter().enumerate() {
            let Some(event) = root.root.filter(|event| event.sweeps && self.world.touches(place, at)) else {
                continue;
            };
            let older = |kid: &&Kid| kid.life.is_some_and(|life| life.born < event.starts && !life.spared);
            let touched = kids.iter().enumerate().filter(|(other, _)| self.world.touches(place, *other));
            if let Some(left) = touched.map(|(_, kid)| kid).find(older) {
                return broken("S8", || {
                    format!(
                        "start of {id} while {} still lives, after the end of {}",
                        left.spec.id, root.spec.id
                    )
                });
            }
        }
        Ok(())
    }

    /// S5, S7, S9, S12: whether this stop may be.
    pub(crate) fn judge_stop(
        &mut self,
        step: &Step,
        at: usize,
        incarnation: u64,
        how: StopHow,
    ) -> Result<(), Broken> {
        let kid = &self.world.kids[at];
        let now = self.world.now;
        let name = || format!("{how:?} stop of {}#{incarnation}", kid.spec.id);
        let Some(life) = kid.life.filter(|life| life.incarnation.0 == incarnation) else {
            return broken("S12", || format!("{}, which does not live", name()));
        };
        if let Some(asked) = life.asked {
            let early = asked.kill_at.is_none_or(|at| at > now) && !self.world.kill;
            if how == StopHow::Graceful || asked.killed.is_some() || (early && !self.world.is_simple()) {
                return broken("S12", || format!("{} again", name()));
            }
            self.tally.note(Rare::KillAfterTerm);
            return Ok(());
        }
        let brutal = kid.spec.shutdown == Shutdown::BrutalKill || self.world.kill;
        if brutal != (how == StopHow::Kill) {
            return broken("S12", || format!("{} of {:?}", name(), kid.spec.shutdown));
        }
        let ending = self.core.is_ending();
        let late = life.ready.is_none() && life.start_until.is_some_and(|until| until <= now);
        // An end that this very step has begun may have begun after this action.
        let before = step.ending_before || matches!(step.fact, Fact::Shutdown | Fact::Kill);
        if late && !before {
            self.tally.note(Rare::StartTimeout);
            return Ok(());
        }
        if (kid.wishes.stop || self.is_asked_about(kid.key)) && !before {
            return Ok(());
        }
        if kid.paused.is_some() && !ending {
            return broken("S18", || format!("{} while it is paused", name()));
        }
        let caused = (0..self.world.kids.len())
            .any(|place| self.world.kids[place].root.is_some() && self.world.touches(place, at));
        if !(ending || caused && self.world.is_group()) {
            return broken("S9", || format!("{} by {:?}", name(), step.fact));
        }
        if !self.world.is_simple()
            && let Some(later) = self.world.kids[at + 1..]
                .iter()
                .find(|kid| kid.life.is_some_and(|life| ending || !life.spared))
        {
            return broken("S5", || format!("{} while {} lives", name(), later.spec.id));
        }
        if !ending {
            if self.world.kids.iter().any(|kid| kid.lives() && kid.paused.is_some()) {
                self.tally.note(Rare::Spared);
            }
            self.tally.note(Rare::GroupRestart);
        }
        Ok(())
    }
}
