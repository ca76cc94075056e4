//! The director's part in targets: who is meant by one, and what cannot be done to it.

use jiff::Timestamp;

use crate::id::{InstanceId, Name};
use crate::supervisor::{Operator, Wanted};

use super::director::Director;
use super::handle::{Act, ActError, Asker};
use super::target::Target;

impl Director {
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
                let known = self.plane.board.instance(instance).is_some();
                if known { Ok(vec![instance.clone()]) } else { Err(missing()) }
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
            (
                Act::Pause { .. }
                | Act::Resume
                | Act::Signal(_)
                | Act::Reload
                | Act::Roll { .. }
                | Act::Scale { .. },
                Target::Supervisor(name),
            ) => Err(ActError::Unsuited(format!(
                "{} takes workers, and sup:{name} is a supervisor; name those of its workers that are meant",
                act.word()
            ))),
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

    /// A temporary worker that has had its one run: only a stop means something for it, namely that the next runtime
    /// does not run it either.
    pub(super) fn act_on_spent(&self, child: &InstanceId, act: Act, by: &Asker) -> Result<(), ActError> {
        if act != Act::Stop {
            return Err(ActError::Conflict(format!(
                "{child} has had its one run (restart = \"temporary\"), so there is nothing to {}; \
                 a changed definition or the next runtime runs it again",
                act.word()
            )));
        }
        self.plane.board.update(child, |entry| {
            entry.wanted = Wanted::Stopped;
            entry.wanted_by = Some(Operator { by: by.0.clone(), at: Timestamp::now() });
        });
        Ok(())
    }
}
