//! A rolling restart: every instance of a worker is replaced while the others go on.
//!
//! First one copy more is started, at the lowest free index, so that no moment has fewer than before. Then one old
//! instance after the other is restarted: a supervisor shows it as not ready, waits out its `stop.drain` and only then
//! signals it. Before the next one's turn the new incarnation must be ready and have held for `verify`. At the end the
//! copy goes. If a new one does not become ready, the roll ends there: those that were not reached yet stay as they are.
//!
//! What to do next is a pure decision on what the board shows; the task around it only waits for the board to change.
//! An operator's stop or pause of an instance outweighs the roll, that of its supervisor ends it, and so does the end
//! of the runtime. One that neither starts nor stops and does not get on for two minutes ends it, too.
//!
//! A worker with one instance gets no copy unless it has ports: who declared one instance may rely on it to be the
//! only one. It is down while it is restarted, and the answer says so; the new one must hold like any other.

use std::collections::VecDeque;
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
            most: most.max(1) as usize,
            hold,
        }
    }

    /// Whether anybody is to be replaced at all.
    pub(super) fn concerns_somebody(&self, seen: impl Fn(&InstanceId) -> Option<Seen>) -> bool {
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
            let Some(state) = seen(&next).filter(|state| !state.needs_none()) else { continue };
            self.under_way.push(Asked::new(next.clone(), Some(state.incarnation), now));
            return Step::Restart(next);
        }
        if self.under_way.is_empty() { self.over(Outcome::Done) } else { Step::Wait(wait) }
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
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::id::Name;

    const HOLD: Duration = Duration::from_secs(1);

    fn id(index: u32) -> InstanceId {
        InstanceId::of_pool(Name::try_new("w").unwrap(), index)
    }

    #[derive(Default)]
    struct World(HashMap<InstanceId, Seen>);

    impl World {
        fn of(count: u32) -> Self {
            let mut world = Self::default();
            (0..count).for_each(|index| world.up(index, 1));
            world
        }

        fn set(&mut self, index: u32, incarnation: u64, phase: Phase, ready_for: Option<Duration>) {
            let last = "exit code 1".to_owned();
            let incarnation = Incarnation(incarnation);
            let (wanted, orphan_of) = (Wanted::Running, None);
            self.0.insert(id(index), Seen { incarnation, phase, ready_for, wanted, orphan_of, last });
        }

        fn up(&mut self, index: u32, incarnation: u64) {
            self.set(index, incarnation, Phase::Running, Some(HOLD));
        }

        fn next(&self, roll: &mut Roll) -> Step {
            self.next_at(roll, 0)
        }

        fn next_at(&self, roll: &mut Roll, seconds: u64) -> Step {
            roll.next(Duration::from_secs(seconds), |id| self.0.get(id).cloned())
        }

        fn want(&mut self, index: u32, wanted: Wanted) {
            self.0.get_mut(&id(index)).unwrap().wanted = wanted;
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_neither_shortens_nor_lengthens_the_hold() {
        let hour = jiff::SignedDuration::from_hours(1);
        let mut state = InstanceState::new(id(0), Name::root(), "process", false);
        (state.phase, state.ready) = (Phase::Running, true);
        state.since = jiff::Timestamp::now() - hour;
        assert!(Seen::new(&state, None).ready_for.unwrap() < Duration::from_secs(1800));
        state.since = jiff::Timestamp::now() + hour;
        state.steady.entered = state.steady.entered.checked_sub(HOLD).unwrap();
        assert!(Seen::new(&state, None).ready_for.unwrap() >= HOLD);
    }

    #[test]
    fn nobody_who_is_stopped_or_paused_is_to_be_replaced() {
        let (mut world, roll) = (World::of(2), roll(2, 1));
        let concerns = |world: &World| roll.concerns_somebody(|id| world.0.get(id).cloned());
        world.want(0, Wanted::Stopped);
        assert!(concerns(&world));
        world.want(1, Wanted::Paused);
        assert!(!concerns(&world));
    }

    fn roll(count: u32, most: u32) -> Roll {
        Roll::new((0..count).map(id), Some(id(count)), most, HOLD)
    }

    #[test]
    fn nobody_is_stopped_before_one_more_is_ready_and_has_held() {
        let (mut world, mut roll) = (World::of(2), roll(2, 1));
        assert_eq!(world.next(&mut roll), Step::Grow);
        world.set(2, 0, Phase::Waiting, None);
        assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
        world.set(2, 1, Phase::Starting, None);
        assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
        world.set(2, 1, Phase::Running, Some(HOLD / 4));
        assert_eq!(world.next(&mut roll), Step::Wait(Some(HOLD * 3 / 4)));
        world.up(2, 1);
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
    }

    #[test]
    fn each_new_one_is_ready_before_the_next_old_one_is_asked_and_the_copy_goes_last() {
        let (mut world, mut roll) = (World::of(2), roll(2, 1));
        assert_eq!(world.next(&mut roll), Step::Grow);
        world.up(2, 1);
        for index in 0..2 {
            assert_eq!(world.next(&mut roll), Step::Restart(id(index)));
            assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)), "it has not even been asked");
            world.set(index, 1, Phase::Stopping, None);
            assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
            world.set(index, 2, Phase::Starting, None);
            assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
            world.up(index, 2);
        }
        assert_eq!(world.next(&mut roll), Step::Shrink(Outcome::Done));
    }

    #[test]
    fn a_copy_whose_index_was_used_before_counts_like_any_other() {
        let (mut world, mut roll) = (World::of(2), roll(2, 1));
        world.set(2, 4, Phase::Stopping, None);
        assert_eq!(world.next(&mut roll), Step::Grow);
        assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
        world.set(2, 5, Phase::Starting, None);
        assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
        world.up(2, 5);
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
    }

    #[test]
    fn as_many_as_allowed_go_at_once() {
        let (mut world, mut roll) = (World::of(4), roll(4, 2));
        assert_eq!(world.next(&mut roll), Step::Grow);
        world.up(4, 1);
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
        assert_eq!(world.next(&mut roll), Step::Restart(id(1)));
        assert_eq!(world.next(&mut roll), Step::Wait(Some(PATIENCE)));
        world.up(1, 2);
        assert_eq!(world.next(&mut roll), Step::Restart(id(2)));
    }

    #[test]
    fn when_the_first_new_one_fails_every_old_one_stays() {
        let (mut world, mut roll) = (World::of(2), roll(2, 1));
        assert_eq!(world.next(&mut roll), Step::Grow);
        world.set(2, 1, Phase::Backoff, None);
        let why = "the new w/2 did not come up: exit code 1".to_owned();
        assert_eq!(world.next(&mut roll), Step::Shrink(Outcome::Failed(why)));
    }

    #[test]
    fn when_a_new_one_does_not_last_the_rest_stays() {
        let (mut world, mut roll) = (World::of(3), Roll::new((0..3).map(id), None, 1, HOLD));
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
        world.set(0, 3, Phase::Running, Some(Duration::ZERO));
        let why = "the new w/0 did not last: exit code 1".to_owned();
        assert_eq!(world.next(&mut roll), Step::Over(Outcome::Failed(why)));
    }

    #[test]
    fn a_stop_or_a_pause_by_an_operator_outweighs_it() {
        for wanted in [Wanted::Stopped, Wanted::Paused] {
            let (mut world, mut roll) = (World::of(2), Roll::new((0..2).map(id), None, 1, HOLD));
            assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
            world.up(0, 2);
            world.want(1, wanted);
            assert_eq!(
                world.next(&mut roll),
                Step::Over(Outcome::Done),
                "who is {wanted:?} is left as it is"
            );
        }
    }

    #[test]
    fn one_that_was_taken_out_meanwhile_needs_no_replacement() {
        let (mut world, mut roll) = (World::of(2), Roll::new((0..2).map(id), None, 1, HOLD));
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
        world.0.remove(&id(0));
        assert_eq!(world.next(&mut roll), Step::Restart(id(1)));
    }

    #[test]
    fn it_ends_when_its_supervisor_is_down() {
        let (mut world, mut roll) = (World::of(2), roll(2, 1));
        assert_eq!(world.next(&mut roll), Step::Grow);
        world.up(2, 1);
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
        world.set(0, 1, Phase::Stopped, None);
        world.0.get_mut(&id(0)).unwrap().orphan_of = Some(Name::try_new("lab").unwrap());
        let why = "supervisor lab is down".to_owned();
        assert_eq!(world.next(&mut roll), Step::Shrink(Outcome::Failed(why)));
    }

    #[test]
    fn one_that_only_waits_ends_it_and_one_that_starts_slowly_does_not() {
        let (mut world, mut roll) = (World::of(1), Roll::new([id(0)], None, 1, HOLD));
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
        world.set(0, 2, Phase::Starting, None);
        assert!(matches!(world.next_at(&mut roll, 1_000), Step::Wait(Some(_))));
        assert!(matches!(world.next_at(&mut roll, 2_000), Step::Wait(Some(_))));
        world.set(0, 1, Phase::Waiting, None);
        assert!(matches!(world.next_at(&mut roll, 2_001), Step::Wait(Some(_))));
        assert_eq!(world.next_at(&mut roll, 2_061), Step::Wait(Some(Duration::from_secs(60))));
        let why = "w/0 did not get on: waiting for 2m".to_owned();
        assert_eq!(world.next_at(&mut roll, 2_121), Step::Over(Outcome::Failed(why)));
    }
}
