//! Several workers stopped or restarted by one order: nobody loses what it depends on while it still works.
//!
//! Whoever needs another (`after`, also through others, and the siblings before it where a supervisor starts one after
//! the other) is stopped before that other one is, wave by wave; those who need nobody of the others do not wait. A
//! restart starts them again once all are down, and the gate brings them up in their order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::Settings;
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{Phase, Request, RestartStrategy};
use crate::supervisor::Plane;

use super::handle::{Act, Asker};
use super::pass::{Wanting, owner, tell};

/// Who needs whom.
pub(super) struct Needs(HashMap<Name, Vec<Name>>);

impl Needs {
    /// As the settings say.
    pub(super) fn of(settings: &Settings) -> Self {
        let mut needs: HashMap<Name, Vec<Name>> =
            settings.workers.iter().map(|worker| (worker.name.clone(), worker.after.clone())).collect();
        let children: HashMap<&Name, &[Name]> =
            settings.supervisors.iter().map(|one| (&one.name, one.children.as_slice())).collect();
        for supervisor in settings.supervisors.iter().filter(|one| starts_in_turn(one.strategy)) {
            for pair in supervisor.children.windows(2) {
                let [before, next] = pair else { continue };
                let needed: Vec<Name> = below(before, &children).into_iter().cloned().collect();
                for worker in below(next, &children) {
                    needs.entry(worker.clone()).or_default().extend(needed.iter().cloned());
                }
            }
        }
        Self(needs)
    }

    /// Everybody whom this one needs, through others too.
    fn all(&self, worker: &Name) -> HashSet<&Name> {
        let mut found = HashSet::new();
        let mut left: Vec<&Name> = self.0.get(worker).into_iter().flatten().collect();
        while let Some(name) = left.pop() {
            if found.insert(name) {
                left.extend(self.0.get(name).into_iter().flatten());
            }
        }
        found
    }

    /// Those of these workers who need one another, in the order in which they are stopped: each wave once the one
    /// before it is down.
    pub(super) fn waves(&self, workers: &HashSet<Name>) -> Vec<HashSet<Name>> {
        let mut needed: HashMap<&Name, HashSet<&Name>> = HashMap::new();
        for worker in workers {
            for other in self.all(worker).into_iter().filter(|other| workers.contains(*other)) {
                needed.entry(other).or_default().insert(worker);
                needed.entry(worker).or_default();
            }
        }
        let mut waves = Vec::new();
        while !needed.is_empty() {
            // A circle is refused with the file; whoever were in one would be stopped together.
            let free: HashSet<&Name> =
                needed.iter().filter(|(_, by)| by.is_empty()).map(|(name, _)| *name).collect();
            let wave = if free.is_empty() { needed.keys().copied().collect() } else { free };
            needed.retain(|name, _| !wave.contains(*name));
            needed.values_mut().for_each(|by| by.retain(|other| !wave.contains(*other)));
            waves.push(wave.into_iter().cloned().collect());
        }
        waves
    }
}

/// Whether a child waits for its elder siblings.
fn starts_in_turn(strategy: RestartStrategy) -> bool {
    match strategy {
        RestartStrategy::RestForOne | RestartStrategy::OneForAll => true,
        RestartStrategy::OneForOne | RestartStrategy::SimpleOneForOne => false,
    }
}

/// The workers of a child: itself, or all below it.
fn below<'a>(child: &'a Name, children: &HashMap<&Name, &'a [Name]>) -> Vec<&'a Name> {
    let (mut found, mut left) = (Vec::new(), vec![child]);
    while let Some(name) = left.pop() {
        match children.get(name) {
            Some(own) => left.extend(own.iter()),
            None => found.push(name),
        }
    }
    found
}

/// A stop or restart that goes through its waves.
pub(super) struct Orderly {
    pub(super) plane: Arc<Plane>,
    pub(super) waves: Vec<Vec<InstanceId>>,
    pub(super) act: Act,
    pub(super) by: Asker,
}

impl Orderly {
    /// Sees it through. Who wants something else of one of them meanwhile has it, and the others go on.
    pub(super) async fn run(self) {
        let mut asked: Vec<(&InstanceId, Incarnation)> = Vec::new();
        for wave in &self.waves {
            if self.until_down(&asked).await.is_none() {
                return;
            }
            for child in wave.iter().filter(|child| self.holds(child)) {
                let before =
                    self.plane.board.instance(child).map_or(Incarnation::NONE, |now| now.incarnation);
                asked.push((child, before));
                self.ask(child, Box::new(|child| Request::Stop { child }));
            }
        }
        if self.act == Act::Restart && self.until_down(&asked).await.is_some() {
            for (child, _) in asked.iter().rev().filter(|(child, _)| self.holds(child)) {
                self.ask(child, Box::new(|child| Request::Start { child }));
            }
        }
    }

    /// Whether nobody has asked for the contrary since.
    fn holds(&self, child: &InstanceId) -> bool {
        let stopped = self.plane.wish(&child.to_string()).stopped.is_some();
        stopped == (self.act == Act::Stop)
    }

    fn ask(&self, child: &InstanceId, request: Wanting) {
        let told = owner(&self.plane, child)
            .and_then(|(home, address)| tell(&address, &home, child, request, &self.by));
        if let Err(error) = told {
            tracing::warn!(worker = %child, %error, "an orderly {} does without it", self.act.word());
        }
    }

    /// `None`: the runtime is gone.
    async fn until_down(&self, asked: &[(&InstanceId, Incarnation)]) -> Option<()> {
        let mut changes = self.plane.board.watch();
        loop {
            changes.borrow_and_update();
            if asked.iter().all(|(child, before)| self.is_down(child, *before)) {
                return Some(());
            }
            changes.changed().await.ok()?;
        }
    }

    /// Whether nothing of it runs that was asked to end. For one that cannot be killed nobody waits.
    fn is_down(&self, child: &InstanceId, before: Incarnation) -> bool {
        let runs = |phase| matches!(phase, Phase::Starting | Phase::Running | Phase::Stopping);
        let now = self.plane.board.instance(child);
        !self.holds(child) || now.is_none_or(|now| now.incarnation > before || !runs(now.phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::try_new(text).unwrap()
    }

    fn needs(all: &[(&str, &[&str])]) -> Needs {
        let one = |(who, after): &(&str, &[&str])| (name(who), after.iter().copied().map(name).collect());
        Needs(all.iter().map(one).collect())
    }

    fn waves(needs: &Needs, workers: &[&str]) -> Vec<Vec<String>> {
        let waves = needs.waves(&workers.iter().copied().map(name).collect());
        let sorted = |wave: HashSet<Name>| {
            let mut all: Vec<String> = wave.iter().map(ToString::to_string).collect();
            all.sort();
            all
        };
        waves.into_iter().map(sorted).collect()
    }

    #[test]
    fn who_needs_another_is_stopped_before_it() {
        let needs =
            needs(&[("db", &[]), ("api", &["db"]), ("web", &["api"]), ("job", &["db"]), ("own", &[])]);
        assert_eq!(
            waves(&needs, &["own", "db", "web", "api", "job"]),
            [vec!["job", "web"], vec!["api"], vec!["db"]],
            "whoever needs nobody is in no wave"
        );
        assert_eq!(waves(&needs, &["db", "web"]), [["web"], ["db"]], "also through one who goes on");
        assert_eq!(waves(&needs, &["own", "job", "api"]), [[""; 0]; 0]);
    }
}
