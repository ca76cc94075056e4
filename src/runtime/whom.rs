//! The director's part in targets: who is meant by one, and what cannot be done to it.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::config::Settings;
use crate::id::{InstanceId, Name};
use crate::policy::Phase;
use crate::supervisor::{Operator, Wanted};

use super::director::Director;
use super::handle::{Act, ActError, Asker};
use super::pass::owner;
use super::target::Target;

/// Whom an order means.
#[derive(Default)]
pub(super) struct Whom {
    /// Those that are to be told.
    pub(super) told: Vec<InstanceId>,
    /// Those of whom nothing but the wish is to be noted.
    pub(super) known: Vec<InstanceId>,
    /// Why it is not all of them.
    pub(super) refused: Option<ActError>,
    /// Who is meant by each of the targets.
    pub(super) by_target: Vec<Vec<InstanceId>>,
}

impl Whom {
    /// Whether one of the targets is without anybody who was reached.
    pub(super) fn misses_one(by_target: &[Vec<InstanceId>], reached: &[InstanceId]) -> bool {
        let reached: HashSet<&InstanceId> = reached.iter().collect();
        let missed =
            |meant: &Vec<InstanceId>| !meant.is_empty() && meant.iter().all(|one| !reached.contains(one));
        by_target.iter().any(missed)
    }
}

impl Director {
    /// Whom an order means, each once. If one of its targets is not there, or nobody of one can be asked, nothing is done
    /// for any.
    pub(super) fn whom(&self, targets: &[Target], act: Act, by: &Asker) -> Result<Whom, ActError> {
        let mut all = Vec::new();
        for target in targets {
            let children = self.meant(target, act)?;
            self.suits(target, act)?;
            self.can_roll(&children, act)?;
            all.push((target, children));
        }
        // Whoever is below a supervisor that is meant as well is asked together with it.
        all.sort_by_key(|(target, _)| !matches!(target, Target::Supervisor(_)));
        let whole = self.told_as_a_whole(targets, act);
        let (mut whom, mut seen) = (Whom::default(), HashSet::new());
        for (target, children) in all {
            let (mut any, mut refused) = (false, None);
            whom.by_target.push(children.clone());
            for child in children {
                if !seen.insert(child.clone()) {
                    any = true;
                    continue;
                }
                match self.takes(&child, (target, act), &whole, by) {
                    Ok(true) => whom.told.push(child),
                    Ok(false) => whom.known.push(child),
                    Err(error) => {
                        refused = Some(error);
                        continue;
                    }
                }
                any = true;
            }
            match refused {
                Some(error) if !any => return Err(error),
                Some(_) => whom.refused = refused,
                None => {}
            }
        }
        Ok(whom)
    }

    /// The supervisors that are stopped with everybody below them.
    fn told_as_a_whole(&self, targets: &[Target], act: Act) -> HashSet<Name> {
        let named = |target: &Target| match target {
            Target::Supervisor(name) => self.plane.board.family(name),
            Target::Worker(_) | Target::Instance(_) | Target::All => Vec::new(),
        };
        if matches!(act, Act::Stop | Act::Restart) {
            targets.iter().flat_map(named).collect()
        } else {
            HashSet::new()
        }
    }

    /// Whether somebody is to be told; false: noting the wish is all that is to be done.
    fn takes(
        &self,
        child: &InstanceId,
        (target, act): (&Target, Act),
        whole: &HashSet<Name>,
        by: &Asker,
    ) -> Result<bool, ActError> {
        if self.plane.is_spent(child) {
            return self.act_on_spent(child, act, by).map(|()| false);
        }
        match owner(&self.plane, child) {
            Ok((home, _)) if whole.contains(&home) => {
                if act == Act::Stop {
                    self.note_stopped(child, by);
                }
                Ok(false)
            }
            Ok(_) => {
                self.hears(child, act.meant_for(&self.info.settings(), child.worker()))?;
                Ok(true)
            }
            Err(ActError::Conflict(_)) if act == Act::Stop => {
                self.note_stopped(child, by);
                Ok(false)
            }
            // Its supervisor is being started, and with it everybody who is wanted.
            Err(ActError::Conflict(_)) if act == Act::Start && is_below(target, child) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The children that a target means, each an id under its supervisor.
    pub(super) fn children(&self, target: &Target) -> Result<Vec<InstanceId>, ActError> {
        let missing = || ActError::NotFound(target.to_string());
        match target {
            Target::Worker(name) => {
                let mut all = self.plane.gate.instances(name);
                let settings = self.info.settings();
                let own = settings.workers.iter().find(|worker| worker.name == *name);
                let spent = own.into_iter().flat_map(|worker| worker.instance_ids());
                all.extend(spent.filter(|id| self.plane.is_spent(id)));
                all.sort();
                if all.is_empty() { Err(missing()) } else { Ok(all) }
            }
            Target::Instance(instance) => {
                let known = |id: &InstanceId| self.plane.board.instance(id).is_some();
                let found = Some(instance.clone()).filter(known).or_else(|| instance.plain().filter(known));
                found.map(|id| vec![id]).ok_or_else(missing)
            }
            Target::Supervisor(name) if *name == Name::root() => Err(ActError::Unsuited(
                "the root supervisor is the runtime itself: use `--all` for its workers, or `regrow shutdown`".to_owned(),
            )),
            Target::Supervisor(name) => {
                let known = self.plane.board.supervisors().iter().any(|entry| entry.name == *name);
                if known { Ok(vec![InstanceId::single(name.clone())]) } else { Err(missing()) }
            }
            Target::All => Ok(self.plane.board.instances().into_iter().map(|entry| entry.instance).collect()),
        }
    }

    /// What cannot be done to such a target is refused before anything is.
    pub(super) fn suits(&self, target: &Target, act: Act) -> Result<(), ActError> {
        match (act, target) {
            (_, Target::Supervisor(name)) if !is_for_supervisors(act) && self.below(name).is_empty() => {
                Err(ActError::Unsuited(format!("{} takes workers, and sup:{name} has none", act.word())))
            }
            (
                Act::Start
                | Act::Stop
                | Act::Restart
                | Act::ResetFailed
                | Act::Pause { .. }
                | Act::Resume
                | Act::Signal(_)
                | Act::Reload
                | Act::Roll { .. }
                | Act::Scale { .. },
                Target::Worker(_) | Target::Instance(_) | Target::Supervisor(_) | Target::All,
            ) => Ok(()),
        }
    }

    /// The same, of those whom an action for all is meant for: who is switched off, and whom nobody has started by
    /// hand, is not called up along with the others.
    pub(super) fn meant(&self, target: &Target, act: Act) -> Result<Vec<InstanceId>, ActError> {
        let mut children = self.children(target)?;
        if let (Target::Supervisor(name), false) = (target, is_for_supervisors(act)) {
            children = self.below(name);
        }
        // Told by itself it would leave down whom somebody has stopped below it.
        if let (Target::Supervisor(name), Act::Start) = (target, act) {
            children.extend(self.plane.board.family(name).into_iter().skip(1).map(InstanceId::single));
            children.extend(self.below(name));
        }
        let calls_up = match act {
            Act::Start | Act::Restart | Act::Roll { .. } | Act::Reload | Act::ResetFailed => true,
            Act::Stop | Act::Pause { .. } | Act::Resume | Act::Scale { .. } | Act::Signal(_) => false,
        };
        if calls_up && matches!(target, Target::All | Target::Supervisor(_)) {
            let settings = self.info.settings();
            let off: HashSet<&Name> =
                settings.workers.iter().filter(|worker| !worker.enabled).map(|worker| &worker.name).collect();
            children.retain(|child| !off.contains(child.worker()) || self.is_wanted(child));
        }
        if !matches!(target, Target::Instance(_)) {
            let settings = self.info.settings();
            let rolls =
                |child: &InstanceId| matches!(act.meant_for(&settings, child.worker()), Act::Roll { .. });
            children.retain(|child| !rolls(child) || !is_spare(&settings, child));
        }
        Ok(children)
    }

    /// Every instance below a supervisor.
    fn below(&self, name: &Name) -> Vec<InstanceId> {
        let family: HashSet<Name> = self.plane.board.family(name).into_iter().collect();
        let all = self.plane.board.instances().into_iter();
        all.filter(|entry| family.contains(&entry.supervisor)).map(|entry| entry.instance).collect()
    }

    fn is_wanted(&self, child: &InstanceId) -> bool {
        self.plane.board.instance(child).is_some_and(|entry| entry.wanted == Wanted::Running)
    }

    /// A rolling restart begins with one copy more. Where that cannot be it is refused before anything is done: nobody
    /// who asks for one wants the old one to go first without a word. The same where it would replace nobody, or where
    /// an earlier one is under way.
    pub(super) fn can_roll(&self, children: &[InstanceId], act: Act) -> Result<(), ActError> {
        let settings = self.info.settings();
        let rolls = |worker: &Name| matches!(act.meant_for(&settings, worker), Act::Roll { .. });
        let idle: Option<Vec<ActError>> = children
            .iter()
            .map(|child| self.has_nothing_to_replace(child).filter(|_| rolls(child.worker())))
            .collect();
        if let Some(first) = idle.and_then(|all| all.into_iter().next()) {
            return Err(first);
        }
        let runs: HashSet<&Name> =
            children.iter().filter(|child| self.is_wanted(child)).map(InstanceId::worker).collect();
        for worker in settings.workers.iter().filter(|worker| runs.contains(&worker.name)) {
            let rolls = rolls(&worker.name);
            if rolls {
                self.rolls_already(&worker.name)?;
            }
            if let (true, Some(why)) = (rolls, settings.copy_trouble(worker)) {
                let (name, next) = (&worker.name, worker.instances);
                return Err(ActError::Conflict(format!(
                    "a rolling restart of {name} begins with one copy more, {name}/{next}, and {why}. \
                     Nothing was restarted; `regrow restart {name}` does it without one"
                )));
            }
        }
        Ok(())
    }

    /// Why a rolling restart would do nothing for this one: it leaves alone whoever is meant to be.
    fn has_nothing_to_replace(&self, child: &InstanceId) -> Option<ActError> {
        let entry = self.plane.board.instance(child).filter(|_| !self.plane.is_spent(child))?;
        let worker = child.worker();
        let why = match entry.wanted {
            Wanted::Paused => {
                format!("is paused: `regrow resume {worker}` first, or `regrow restart {worker}`")
            }
            Wanted::Stopped => format!("is stopped: `regrow start {worker}` starts it"),
            Wanted::Running if entry.phase == Phase::Done => {
                format!("has done its work: `regrow restart {worker}` runs it again")
            }
            Wanted::Running => return None,
        };
        Some(ActError::Conflict(format!("nothing is there for a rolling restart to replace; {child} {why}")))
    }

    /// A temporary worker that has had its one run: only a stop means something for it, namely that the next runtime
    /// does not run it either, and the end of a pause.
    pub(super) fn act_on_spent(&self, child: &InstanceId, act: Act, by: &Asker) -> Result<(), ActError> {
        let wish = self.plane.wish(&child.to_string());
        if act == Act::Resume && wish.paused.is_some() {
            self.plane.board.update(child, |entry| {
                entry.wanted = if wish.stopped.is_some() { Wanted::Stopped } else { Wanted::Running };
                entry.wanted_by = wish.stopped.clone();
            });
            return Ok(());
        }
        if act != Act::Stop {
            return Err(ActError::Conflict(format!(
                "{child} has had its one run (restart = \"temporary\"), so there is nothing to {}; \
                 a changed definition or the next runtime runs it again",
                act.word()
            )));
        }
        self.note_stopped(child, by);
        Ok(())
    }

    /// It is down, and nobody decides for it: that it is to stay so is only shown.
    pub(super) fn note_stopped(&self, child: &InstanceId, by: &Asker) {
        self.plane.board.update(child, |entry| {
            entry.wanted = Wanted::Stopped;
            entry.wanted_by = Some(Operator { by: by.0.clone(), at: Timestamp::now() });
        });
    }
}

/// Whether a supervisor is meant, and this is not itself.
fn is_below(target: &Target, child: &InstanceId) -> bool {
    match target {
        Target::Supervisor(name) => child.worker() != name,
        Target::Worker(_) | Target::Instance(_) | Target::All => false,
    }
}

/// Whether it is the copy more of a rolling restart, which may still be on its way out when the next one begins.
fn is_spare(settings: &Settings, child: &InstanceId) -> bool {
    let own = settings.workers.iter().find(|worker| worker.name == *child.worker());
    own.is_some_and(|own| child.index().is_some_and(|index| index >= own.instances))
}

/// Whether a supervisor is told it as a whole; all else is done to every worker below it.
fn is_for_supervisors(act: Act) -> bool {
    match act {
        Act::Start | Act::Stop | Act::Restart | Act::ResetFailed => true,
        Act::Pause { .. }
        | Act::Resume
        | Act::Signal(_)
        | Act::Reload
        | Act::Roll { .. }
        | Act::Scale { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_which_nobody_was_reached_is_missed() {
        let ids =
            |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<InstanceId>>();
        let targets = [ids(&["a"]), ids(&["pool/0", "pool/1"]), ids(&[])];
        assert!(!Whom::misses_one(&targets, &ids(&["pool/1", "a"])));
        assert!(Whom::misses_one(&targets, &ids(&["pool/0", "pool/1"])));
        assert!(Whom::misses_one(&targets, &ids(&["a"])));
    }
}
