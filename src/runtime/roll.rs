//! A rolling restart: every instance of a worker is replaced while the others go on.
//!
//! First one copy more is started, at the lowest free index, so that no moment has fewer than before. Then one old
//! instance after the other is restarted: a supervisor shows it as not ready, waits out its `stop.drain` and only then
//! signals it. Before the next one's turn the new incarnation must be ready and have held for `verify`. At the end the
//! copy goes. If a new one does not become ready, the roll ends there: those that were not reached yet stay as they are.
//!
//! What to do next is a pure decision on what the board shows; the task around it only waits for the board to change.
//! An operator's stop or pause of an instance outweighs the roll, that of its supervisor ends it, and so does the end
//! of the runtime. One that neither starts nor stops and does not get on for two minutes ends it, too. Who is paused
//! meanwhile runs on as it was: the end names it, and where nobody else was replaced either, it has failed.
//!
//! A worker with one instance gets no copy unless it has ports: who declared one instance may rely on it to be the
//! only one. It is down while it is restarted, and the answer says so; the new one must hold like any other.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::Phase;
use crate::supervisor::{InstanceState, Wanted};

/// How long an instance may wait for something that is not its own start or stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the board shows of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) incarnation: Incarnation,
    pub(super) phase: Phase,
    /// Since when this incarnation is ready.
    pub(super) ready_for: Option<Duration>,
    pub(super) wanted: Wanted,
    /// The supervisor above it that is down: nothing below it starts.
    pub(super) orphan_of: Option<Name>,
    /// How the incarnation before ended, in words.
    pub(super) last: String,
}

impl Seen {
    pub(super) fn new(state: &InstanceState, orphan_of: Option<Name>) -> Self {
        let ready_for = state.steady.entered.elapsed();
        Self {
            incarnation: state.incarnation,
            phase: state.phase,
            ready_for: (state.ready && state.phase == Phase::Running).then_some(ready_for),
            wanted: state.wanted,
            orphan_of,
            last: state.last_exit.as_ref().map(|last| last.message.clone()).unwrap_or_default(),
        }
    }

    /// Who is meant to be down or left alone, or has done its work, needs no replacement.
    fn needs_none(&self) -> bool {
        self.wanted != Wanted::Running || self.phase == Phase::Done
    }

    /// It is on its way by itself, within limits of its own.
    fn moves(&self) -> bool {
        match self.phase {
            Phase::Starting => self.wanted == Wanted::Running,
            Phase::Stopping => true,
            Phase::Waiting
            | Phase::Running
            | Phase::Backoff
            | Phase::Quarantined
            | Phase::Stuck
            | Phase::Stopped
            | Phase::Done => false,
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Have one copy more.
    Grow,
    /// Restart this one.
    Restart(InstanceId),
    /// Wait until the board changes, or this long.
    Wait(Option<Duration>),
    /// Have one copy less, then it is over.
    Shrink(Outcome),
    /// It is over.
    Over(Outcome),
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every instance was replaced.
    Done,
    /// The same but for these, which somebody paused meanwhile.
    AllBut(Vec<InstanceId>),
    /// Nobody was to be replaced: they are stopped, paused or done.
    Nothing,
    /// One did not come up, or somebody decided otherwise.
    Failed(String),
}

/// One rolling restart.
#[derive(Debug)]
pub(super) struct Roll {
    /// Those whose turn has not come.
    queue: VecDeque<InstanceId>,
    /// Those that were asked.
    under_way: Vec<Asked>,
    /// The copy more: wanted, asked for, up.
    copy: Copy,
    /// Those that were paused already when it began.
    paused: HashSet<InstanceId>,
    /// Those that somebody paused before their turn came.
    passed: Vec<InstanceId>,
    /// Somebody was restarted.
    replaced: bool,
    /// How many may be down at once.
    most: usize,
    /// How long a new incarnation must be ready before it counts.
    hold: Duration,
}

/// One that was asked.
#[derive(Debug, Clone)]
struct Asked {
    instance: InstanceId,
    /// Which incarnation it was then; `None`: it is the copy, whose index may have been used before.
    before: Option<Incarnation>,
    /// Where it was seen last, and since when it has been there.
    at: Option<(Incarnation, Phase)>,
    since: Duration,
}

impl Asked {
    fn new(instance: InstanceId, before: Option<Incarnation>, now: Duration) -> Self {
        Self { instance, before, at: None, since: now }
    }

    /// How far it is. Whoever only waits does so for a while and not for ever.
    fn look(&mut self, now: Duration, seen: Option<Seen>, hold: Duration) -> Progress {
        let at = seen.as_ref().map(|seen| (seen.incarnation, seen.phase));
        if self.at != at || seen.as_ref().is_some_and(Seen::moves) {
            (self.at, self.since) = (at, now);
        }
        let phase = seen.as_ref().map(|seen| seen.phase.word());
        let progress = match self.before {
            None => arrival(&self.instance, seen, hold),
            Some(before) => progress(&self.instance, before, seen, hold),
        };
        match (progress, phase) {
            (Progress::Wait(None), Some(phase)) => {
                let left = PATIENCE.saturating_sub(now.saturating_sub(self.since));
                if left.is_zero() {
                    let waited = crate::units::format_duration(PATIENCE);
                    return Progress::Failed(format!(
                        "{} did not get on: {phase} for {waited}",
                        self.instance
                    ));
                }
                Progress::Wait(Some(left))
            }
            (progress, _) => progress,
        }
    }
}

#[derive(Debug, Clone)]
enum Copy {
    None,
    Wanted(InstanceId),
    Asked(Asked),
    Up,
}

impl Roll {
    /// A roll of these instances, in this order; `copy` is the one more.
    pub(super) fn new(
        instances: impl IntoIterator<Item = InstanceId>,
        copy: Option<InstanceId>,
        most: u32,
        hold: Duration,
    ) -> Self {
        Self {
            queue: instances.into_iter().collect(),
            under_way: Vec::new(),
            copy: copy.map_or(Copy::None, Copy::Wanted),
            paused: HashSet::new(),
            passed: Vec::new(),
            replaced: false,
            most: most.max(1) as usize,
            hold,
        }
    }

    /// Whether anybody is to be replaced at all. Who is paused now is left alone, and that is no news.
    pub(super) fn concerns_somebody(&mut self, seen: impl Fn(&InstanceId) -> Option<Seen>) -> bool {
        let is_paused = |one: &&InstanceId| seen(one).is_some_and(|state| state.wanted == Wanted::Paused);
        self.paused = self.queue.iter().filter(is_paused).cloned().collect();
        self.queue.iter().any(|one| seen(one).is_some_and(|state| !state.needs_none()))
    }

    /// The next step, at this time since the roll began.
    pub(super) fn next(&mut self, now: Duration, seen: impl Fn(&InstanceId) -> Option<Seen>) -> Step {
        match &mut self.copy {
            Copy::Wanted(copy) => {
                self.copy = Copy::Asked(Asked::new(copy.clone(), None, now));
                return Step::Grow;
            }
            Copy::Asked(copy) => match copy.look(now, seen(&copy.instance), self.hold) {
                Progress::Up => self.copy = Copy::Up,
                Progress::Wait(wait) => return Step::Wait(wait),
                Progress::Failed(why) => return self.over(Outcome::Failed(why)),
            },
            Copy::None | Copy::Up => {}
        }
        let mut wait: Option<Duration> = None;
        let mut still = Vec::new();
        for mut asked in std::mem::take(&mut self.under_way) {
            match asked.look(now, seen(&asked.instance), self.hold) {
                Progress::Up => {}
                Progress::Wait(more) => {
                    wait = [wait, more].into_iter().flatten().min();
                    still.push(asked);
                }
                Progress::Failed(why) => return self.over(Outcome::Failed(why)),
            }
        }
        self.under_way = still;
        while self.under_way.len() < self.most {
            let Some(next) = self.queue.pop_front() else { break };
            let Some(state) = seen(&next) else { continue };
            if state.wanted == Wanted::Paused && !self.paused.contains(&next) {
                self.passed.push(next);
                continue;
            }
            if state.needs_none() {
                continue;
            }
            self.replaced = true;
            self.under_way.push(Asked::new(next.clone(), Some(state.incarnation), now));
            return Step::Restart(next);
        }
        if self.under_way.is_empty() { self.over(self.outcome()) } else { Step::Wait(wait) }
    }

    /// At the end. Who was stopped meanwhile begins anew some day; who was paused runs on as it was.
    fn outcome(&self) -> Outcome {
        match (self.replaced, &self.passed[..]) {
            (true, []) => Outcome::Done,
            (false, []) => Outcome::Nothing,
            (true, [..]) => Outcome::AllBut(self.passed.clone()),
            (false, [one]) => Outcome::Failed(format!("{one} was paused meanwhile")),
            (false, [one, more @ ..]) => {
                Outcome::Failed(format!("{one} and {} more were paused meanwhile", more.len()))
            }
        }
    }

    fn over(&self, outcome: Outcome) -> Step {
        match self.copy {
            Copy::Asked(_) | Copy::Up => Step::Shrink(outcome),
            Copy::None | Copy::Wanted(_) => Step::Over(outcome),
        }
    }
}

enum Progress {
    Up,
    Wait(Option<Duration>),
    Failed(String),
}

/// How far the copy is. Its index may have been used before, so its count says nothing, and an earlier one of its name
/// may still be on its way out.
fn arrival(copy: &InstanceId, seen: Option<Seen>, hold: Duration) -> Progress {
    let Some(seen) = seen else { return Progress::Failed(format!("{copy} was removed meanwhile")) };
    if let Some(above) = &seen.orphan_of {
        return Progress::Failed(format!("supervisor {above} is down"));
    }
    if seen.wanted == Wanted::Stopped && seen.phase != Phase::Stopping {
        return Progress::Failed(format!("{copy} was stopped meanwhile"));
    }
    if seen.wanted == Wanted::Paused && !matches!(seen.phase, Phase::Starting | Phase::Running) {
        return Progress::Failed(format!("{copy} was paused meanwhile"));
    }
    match seen.phase {
        Phase::Running => match seen.ready_for {
            Some(ready) if ready >= hold => Progress::Up,
            Some(ready) => Progress::Wait(Some(hold.saturating_sub(ready))),
            None => Progress::Wait(None),
        },
        Phase::Backoff | Phase::Quarantined => {
            Progress::Failed(format!("the new {copy} did not come up: {}", seen.last))
        }
        Phase::Done => Progress::Failed(format!("the new {copy} ended: {}", seen.last)),
        Phase::Stuck => Progress::Failed(format!("{copy} cannot be killed")),
        Phase::Waiting | Phase::Starting | Phase::Stopping | Phase::Stopped => Progress::Wait(None),
    }
}

/// How far an instance is on its way from the incarnation `before` to the next one.
fn progress(instance: &InstanceId, before: Incarnation, seen: Option<Seen>, hold: Duration) -> Progress {
    // Who was taken out by somebody needs no replacement.
    let Some(seen) = seen else { return Progress::Up };
    if let Some(above) = &seen.orphan_of {
        return Progress::Failed(format!("supervisor {above} is down"));
    }
    if seen.wanted == Wanted::Stopped {
        return Progress::Failed(format!("{instance} was stopped meanwhile"));
    }
    if seen.incarnation > before.next() {
        return Progress::Failed(format!("the new {instance} did not last: {}", seen.last));
    }
    let new = seen.incarnation > before;
    // Nobody starts it again; what the roll has stopped already comes up all the same.
    let up = matches!(seen.phase, Phase::Starting | Phase::Running | Phase::Done);
    if seen.wanted == Wanted::Paused && seen.phase != Phase::Stopping && !(new && up) {
        return Progress::Failed(format!("{instance} was paused meanwhile"));
    }
    match seen.phase {
        Phase::Running if new => match seen.ready_for {
            Some(ready) if ready >= hold => Progress::Up,
            Some(ready) => Progress::Wait(Some(hold.saturating_sub(ready))),
            None => Progress::Wait(None),
        },
        Phase::Backoff | Phase::Quarantined if new => {
            Progress::Failed(format!("the new {instance} did not come up: {}", seen.last))
        }
        Phase::Stuck => Progress::Failed(format!("{instance} cannot be killed")),
        Phase::Done if new => Progress::Up,
        Phase::Waiting
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping
        | Phase::Backoff
        | Phase::Quarantined
        | Phase::Stopped
        | Phase::Done => Progress::Wait(None),
    }
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
