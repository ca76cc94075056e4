//! A rolling restart, step by step.

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

    fn begins(&self, roll: &mut Roll) -> bool {
        roll.concerns_somebody(|id| self.0.get(id).cloned())
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
    let (mut world, mut roll) = (World::of(2), roll(2, 1));
    world.want(0, Wanted::Stopped);
    assert!(world.begins(&mut roll));
    world.want(1, Wanted::Paused);
    assert!(!world.begins(&mut roll));
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
fn who_is_stopped_meanwhile_is_left_so_and_who_is_paused_was_not_replaced() {
    let but = Outcome::AllBut(vec![id(1)]);
    for (wanted, outcome) in [(Wanted::Stopped, Outcome::Done), (Wanted::Paused, but)] {
        let (mut world, mut roll) = (World::of(2), Roll::new((0..2).map(id), None, 1, HOLD));
        assert!(world.begins(&mut roll));
        assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
        world.up(0, 2);
        world.want(1, wanted);
        assert_eq!(world.next(&mut roll), Step::Over(outcome));
    }
}

#[test]
fn a_worker_that_is_paused_while_its_copy_comes_up_is_not_replaced() {
    let (mut world, mut roll) = (World::of(2), roll(2, 1));
    assert!(world.begins(&mut roll));
    assert_eq!(world.next(&mut roll), Step::Grow);
    world.up(2, 1);
    (0..3).for_each(|index| world.want(index, Wanted::Paused));
    let why = "w/0 and 1 more were paused meanwhile".to_owned();
    assert_eq!(world.next(&mut roll), Step::Shrink(Outcome::Failed(why)));
}

#[test]
fn a_pause_ends_it_where_nobody_starts_the_new_one_any_more() {
    let (mut world, mut roll) = (World::of(2), Roll::new((0..2).map(id), None, 1, HOLD));
    assert!(world.begins(&mut roll));
    assert_eq!(world.next(&mut roll), Step::Restart(id(0)));
    world.set(0, 1, Phase::Stopping, None);
    world.want(0, Wanted::Paused);
    assert!(matches!(world.next(&mut roll), Step::Wait(Some(_))), "it is started again once it is down");
    world.set(0, 1, Phase::Backoff, None);
    world.want(0, Wanted::Paused);
    let why = "w/0 was paused meanwhile".to_owned();
    assert_eq!(world.next(&mut roll), Step::Over(Outcome::Failed(why)));
}

#[test]
fn who_was_paused_before_is_left_alone() {
    let (mut world, mut roll) = (World::of(2), Roll::new((0..2).map(id), None, 1, HOLD));
    world.want(0, Wanted::Paused);
    assert!(world.begins(&mut roll));
    assert_eq!(world.next(&mut roll), Step::Restart(id(1)));
    world.up(1, 2);
    assert_eq!(world.next(&mut roll), Step::Over(Outcome::Done));
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
