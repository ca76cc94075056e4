//! Several workers stopped or restarted by one order: nobody loses what it depends on while it still works.
//!
//! Whoever needs another (`after`, also through others, and the siblings before it where a supervisor starts one after
//! the other) is stopped before that other one is, wave by wave; who needs nobody, and whom nobody needs, does not wait.
//! A restart starts them again once all are down, in the contrary order, each wave once the one before it is ready or
//! will not be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::config::Settings;
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{Phase, Request, RestartStrategy};
use crate::supervisor::{InstanceState, Plane};

use super::handle::{Act, Asker};
use super::pass::{Wanting, owner, tell};

/// How deep everybody stands: below all whom it needs. A supervisor stands where the deepest one below it does.
pub(super) struct Needs(HashMap<Name, usize>);

impl Needs {
    /// As the settings say.
    pub(super) fn of(settings: &Settings) -> Self {
        let after: Vec<(Name, Vec<Name>)> =
            settings.workers.iter().map(|worker| (worker.name.clone(), worker.after.clone())).collect();
        let children: HashMap<&Name, &[Name]> =
            settings.supervisors.iter().map(|one| (&one.name, one.children.as_slice())).collect();
        let mut pairs = Vec::new();
        for supervisor in settings.supervisors.iter().filter(|one| starts_in_turn(one.strategy)) {
            for pair in supervisor.children.windows(2) {
                if let [elder, next] = pair {
                    pairs.push((below(elder, &children), below(next, &children)));
                }
            }
        }
        let mut needs = Self::from(&after, &pairs);
        for supervisor in &settings.supervisors {
            let own =
                below(&supervisor.name, &children).into_iter().filter_map(|name| needs.0.get(name)).max();
            if let Some(depth) = own.copied() {
                needs.0.insert(supervisor.name.clone(), depth);
            }
        }
        needs
    }

    /// From those whom each one names, and from pairs of elder and younger ones. Who needs nobody, and whom nobody
    /// needs, is not in it.
    fn from(after: &[(Name, Vec<Name>)], pairs: &[(Vec<&Name>, Vec<&Name>)]) -> Self {
        let mut numbers: HashMap<&Name, usize> = HashMap::new();
        for (name, needed) in after {
            for name in needed.iter().chain((!needed.is_empty()).then_some(name)) {
                let next = numbers.len();
                numbers.entry(name).or_insert(next);
            }
        }
        for name in pairs.iter().flat_map(|(elder, next)| elder.iter().chain(next)) {
            let next = numbers.len();
            numbers.entry(name).or_insert(next);
        }
        // A joint between the two sides of a pair: one line to each instead of one from each to each.
        let joints = numbers.len();
        let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); joints + pairs.len()];
        let mut open = vec![0_usize; needed_by.len()];
        let mut needs = |who: usize, whom: usize| {
            needed_by[whom].push(who);
            open[who] += 1;
        };
        for (name, needed) in after {
            needed.iter().for_each(|whom| needs(numbers[name], numbers[whom]));
        }
        for (joint, (elder, next)) in pairs.iter().enumerate() {
            elder.iter().for_each(|whom| needs(joints + joint, numbers[*whom]));
            next.iter().for_each(|who| needs(numbers[*who], joints + joint));
        }
        let mut depth = vec![0; needed_by.len()];
        let mut free: Vec<usize> = (0..open.len()).filter(|at| open[*at] == 0).collect();
        // Whoever were in a circle, which is refused with the file, would stand at the top.
        while let Some(at) = free.pop() {
            for who in &needed_by[at] {
                depth[*who] = depth[*who].max(depth[at] + 1);
                open[*who] -= 1;
                if open[*who] == 0 {
                    free.push(*who);
                }
            }
        }
        Self(numbers.into_iter().map(|(name, at)| (name.clone(), depth[at])).collect())
    }

    /// Those of these workers who may need one another, in the order in which they are stopped: each wave once the one
    /// before it is down. None where all would be in one.
    pub(super) fn waves(&self, workers: &HashSet<Name>) -> Vec<HashSet<Name>> {
        let mut waves: BTreeMap<Reverse<usize>, HashSet<Name>> = BTreeMap::new();
        for worker in workers {
            if let Some(depth) = self.0.get(worker) {
                waves.entry(Reverse(*depth)).or_default().insert(worker.clone());
            }
        }
        if waves.len() < 2 { Vec::new() } else { waves.into_values().collect() }
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

/// Whom a worker is stopped by that is restarted in its turn: it is to be seen that nobody wants it to stay down.
pub(crate) fn restarting(by: &str) -> String {
    format!("{by} (restart)")
}

/// One that was asked, as it was then.
struct Told<'a> {
    child: &'a InstanceId,
    /// A supervisor has none.
    incarnation: Option<Incarnation>,
    paused: bool,
}

/// How one is.
struct Now {
    incarnation: Option<Incarnation>,
    phase: Phase,
    ready: bool,
}

impl Now {
    /// Whether it was started since.
    fn is_newer(&self, told: &Told<'_>) -> bool {
        self.incarnation > told.incarnation
    }
}

impl Orderly {
    /// Sees it through. Who wants something else of one of them meanwhile has it, and the others go on.
    pub(super) async fn run(self) {
        let mut waves: Vec<Vec<Told<'_>>> = Vec::new();
        for wave in &self.waves {
            if self.until(waves.last(), Self::is_down).await.is_none() {
                return;
            }
            let told: Vec<Told<'_>> = wave.iter().filter_map(|child| self.stop(child)).collect();
            waves.push(told);
        }
        if self.act != Act::Restart || self.until(waves.last(), Self::is_down).await.is_none() {
            return;
        }
        let mut before = None;
        for wave in waves.iter().rev() {
            if self.until(before, Self::is_settled).await.is_none() {
                return;
            }
            let goes_on =
                |told: &&Told<'_>| self.holds(told.child) && (told.paused || !self.is_paused(told.child));
            for told in wave.iter().filter(goes_on) {
                self.ask(told.child, Box::new(|child| Request::Start { child }));
            }
            before = Some(wave);
        }
    }

    /// Has one stopped, unless somebody has asked for the contrary since. Who is parked is let be until it starts: that
    /// is a trial.
    fn stop<'a>(&self, child: &'a InstanceId) -> Option<Told<'a>> {
        let now = self.look(child).filter(|_| self.holds(child))?;
        if self.act == Act::Stop || now.phase != Phase::Quarantined {
            self.ask(child, Box::new(|child| Request::Stop { child }));
        }
        Some(Told { child, incarnation: now.incarnation, paused: self.is_paused(child) })
    }

    /// How an instance is, or a supervisor. `None`: it is not there any more.
    fn look(&self, child: &InstanceId) -> Option<Now> {
        let board = &self.plane.board;
        let instance = |now: &InstanceState| Now {
            incarnation: Some(now.incarnation),
            phase: now.phase,
            ready: now.ready,
        };
        let supervisor = |phase| Now { incarnation: None, phase, ready: true };
        board.read(child, instance).or_else(|| board.supervisor_phase(child.worker()).map(supervisor))
    }

    /// Whether nobody has asked for the contrary since.
    fn holds(&self, child: &InstanceId) -> bool {
        let stopped = self.plane.wish(&child.to_string()).stopped.is_some();
        stopped == (self.act == Act::Stop)
    }

    fn is_paused(&self, child: &InstanceId) -> bool {
        self.plane.wish(&child.to_string()).paused.is_some()
    }

    fn ask(&self, child: &InstanceId, request: Wanting) {
        let by = if self.act == Act::Restart { Asker(restarting(&self.by.0)) } else { self.by.clone() };
        let told =
            owner(&self.plane, child).and_then(|(home, address)| tell(&address, &home, child, request, &by));
        if let Err(error) = told {
            tracing::warn!(worker = %child, %error, "an orderly {} does without it", self.act.word());
        }
    }

    /// Waits until all of a wave are so. `None`: the runtime is gone.
    async fn until(&self, wave: Option<&Vec<Told<'_>>>, is_so: fn(&Self, &Told<'_>) -> bool) -> Option<()> {
        let mut left: Vec<&Told<'_>> = wave.into_iter().flatten().collect();
        let mut changes = self.plane.board.watch();
        loop {
            changes.borrow_and_update();
            left.retain(|told| !is_so(self, told));
            if left.is_empty() {
                return Some(());
            }
            changes.changed().await.ok()?;
        }
    }

    /// Whether nothing of it runs that was asked to end. For one that cannot be killed nobody waits.
    fn is_down(&self, told: &Told<'_>) -> bool {
        let runs = |phase| matches!(phase, Phase::Starting | Phase::Running | Phase::Stopping);
        let now = self.look(told.child);
        now.is_none_or(|now| now.is_newer(told) || !runs(now.phase)) || !self.holds(told.child)
    }

    /// Whether it is ready, or will not be by itself.
    fn is_settled(&self, told: &Told<'_>) -> bool {
        let now = self.look(told.child);
        // A supervisor was seen down, and has no number of its own.
        let newer = |now: &Now| now.incarnation.is_none() || now.is_newer(told);
        let settled = |now: Now| match now.phase {
            Phase::Running => now.ready && newer(&now),
            // It was asked to start a moment ago, and its supervisor may not have heard it yet.
            Phase::Stopped | Phase::Starting | Phase::Stopping => false,
            // The gate holds it; also those who wait for it.
            Phase::Waiting => true,
            Phase::Backoff | Phase::Quarantined | Phase::Done | Phase::Stuck => newer(&now),
        };
        now.is_none_or(settled) || !self.holds(told.child) || self.is_paused(told.child)
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
        let all: Vec<(Name, Vec<Name>)> = all.iter().map(one).collect();
        Needs::from(&all, &[])
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
            [vec!["web"], vec!["api", "job"], vec!["db"]],
            "whoever needs nobody is in no wave"
        );
        assert_eq!(waves(&needs, &["db", "web"]), [["web"], ["db"]], "also through one who goes on");
        assert_eq!(waves(&needs, &["own", "job", "api"]), [[""; 0]; 0]);
    }

    #[test]
    fn elder_siblings_are_needed_by_all_of_the_younger_ones() {
        let [a, b, c, d, own] = ["a", "b", "c", "d", "own"].map(name);
        let needs = Needs::from(&[(own, Vec::new())], &[(vec![&a, &b], vec![&c]), (vec![&c], vec![&d])]);
        assert_eq!(waves(&needs, &["a", "b", "c", "d", "own"]), [vec!["d"], vec!["c"], vec!["a", "b"]]);
    }

    #[test]
    fn ten_thousand_in_a_row_are_ten_thousand_waves() {
        let all: Vec<Name> = (0..10_000).map(|at| name(&format!("w{at}"))).collect();
        let pairs: Vec<(Vec<&Name>, Vec<&Name>)> =
            all.windows(2).map(|pair| (vec![&pair[0]], vec![&pair[1]])).collect();
        let waves = Needs::from(&[], &pairs).waves(&all.iter().cloned().collect());
        assert_eq!((waves.len(), waves[0].contains(&all[9_999])), (10_000, true));
    }
}
