//! `recycle`: planned replacement of instances that are well, because of their age or their size.
//!
//! Every few seconds one look at all of them: pure arithmetic on when each was started, and one sweep over processes only
//! if somebody has a limit of memory. Who is due is replaced like in a rolling restart, one instance of a worker at a
//! time, and never while a rolling restart of the worker goes on. It is asked for like an operator's restart, so it
//! counts for nothing; a paused or stopped instance is left alone.
//!
//! A memory limit here is a wish, not a wall: between two looks a worker may grow past it. `limits.memory` is the wall.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::{RecycleSettings, WorkerSettings};
use crate::id::{Incarnation, InstanceId};
use crate::policy::Phase;
use crate::supervisor::{InstanceState, Plane, RollState, Wanted};
use crate::telemetry::{Pace, Root, Sampler};
use crate::units::{format_duration, format_size};

use super::handle::Asker;
use super::reshape::Editing;
use super::rolling::Hands;

/// How often everybody is looked at: fine enough for sizes, and an idle look costs microseconds.
const EVERY: Duration = Duration::from_secs(3);

/// One that could not be replaced is tried again after this: what stood in the way seldom goes within seconds.
const AGAIN: Duration = Duration::from_secs(300);

/// Why an instance is due.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Due {
    Age(Duration),
    Size { bytes: u64, most: u64 },
}

impl Due {
    fn text(&self) -> String {
        match self {
            Self::Age(age) => {
                format!("recycle: it has run for {}", format_duration(Duration::from_secs(age.as_secs())))
            }
            Self::Size { bytes, most } => {
                format!("recycle: {} of memory, the limit is {}", format_size(*bytes), format_size(*most))
            }
        }
    }
}

/// How long this incarnation may run: `after`, spread by the jitter, the same at every look.
fn lifetime(recycle: &RecycleSettings, seed: u64, instance: &InstanceId, n: Incarnation) -> Option<Duration> {
    let after = recycle.after?;
    let mut hash = seed ^ n.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in instance.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The upper bits of a last mix are even enough for a spread.
    hash = (hash ^ (hash >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = (hash >> 11) as f64 / (1u64 << 53) as f64;
    Some(after.mul_f64((1.0 + recycle.jitter * (2.0 * part - 1.0)).max(0.0)))
}

/// How long its incarnation has run, whatever the wall clock does.
fn age(state: &InstanceState) -> Option<Duration> {
    state.started_at?;
    Some(state.steady.started?.elapsed())
}

/// Whether it is due.
fn due(
    recycle: &RecycleSettings,
    lifetime: Option<Duration>,
    age: Duration,
    bytes: Option<u64>,
) -> Option<Due> {
    if lifetime.is_some_and(|lifetime| age >= lifetime) {
        return Some(Due::Age(age));
    }
    let (most, bytes) = (recycle.memory?, bytes?);
    (bytes >= most).then_some(Due::Size { bytes, most })
}

/// Looks at everybody for as long as the runtime lives.
pub(super) async fn watch(plane: Arc<Plane>, sampler: Sampler, edits: mpsc::Sender<Editing>) {
    let mut clock = tokio::time::interval(EVERY);
    let mut tried: HashMap<(InstanceId, Incarnation), Instant> = HashMap::new();
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let stirred = plane.journal.stirred();
        let workers: Vec<Arc<WorkerSettings>> =
            plane.workers().into_iter().filter(|worker| worker.recycle.is_some()).collect();
        if workers.is_empty() {
            // Whoever changes that leaves an event.
            stirred.await;
            clock.reset();
            continue;
        }
        tried.retain(|_, at| at.elapsed() < AGAIN);
        for (instance, n, due) in look(&plane, &sampler, &workers).await {
            let worker = instance.worker().clone();
            let busy = plane.board.roll(&worker) == Some(RollState::UnderWay);
            if busy || tried.contains_key(&(instance.clone(), n)) {
                continue;
            }
            tried.insert((instance.clone(), n), Instant::now());
            plane.board.set_roll(&worker, RollState::UnderWay);
            let hands = Hands { plane: Arc::clone(&plane), edits: edits.clone(), by: Asker(due.text()) };
            tokio::spawn(hands.replace(instance));
        }
    }
}

/// Who is due now.
async fn look(
    plane: &Plane,
    sampler: &Sampler,
    workers: &[Arc<WorkerSettings>],
) -> Vec<(InstanceId, Incarnation, Due)> {
    let states: Vec<(Arc<WorkerSettings>, InstanceState)> = plane
        .board
        .instances()
        .into_iter()
        .filter(|state| state.phase == Phase::Running && state.wanted == Wanted::Running)
        .filter_map(|state| {
            let worker = workers.iter().find(|worker| worker.name == *state.instance.worker())?;
            Some((Arc::clone(worker), state))
        })
        .collect();
    let measured = |worker: &WorkerSettings| worker.recycle.as_ref().is_some_and(|one| one.memory.is_some());
    let roots: Vec<Root> = states
        .iter()
        .filter(|(worker, _)| measured(worker))
        .filter_map(|(_, state)| Some((state.pid?, state.instance.clone())))
        .collect();
    // A sweep may take milliseconds; the control plane does not wait for it.
    let sizes = if roots.is_empty() {
        HashMap::new()
    } else {
        let sampler = sampler.clone();
        tokio::task::spawn_blocking(move || sizes(&sampler, &roots)).await.unwrap_or_default()
    };
    let is_due = |(worker, state): &(Arc<WorkerSettings>, InstanceState)| {
        let recycle = worker.recycle.as_ref()?;
        let age = age(state)?;
        let lifetime = lifetime(recycle, plane.seed, &state.instance, state.incarnation);
        let bytes = state.pid.and_then(|pid| sizes.get(&pid).copied());
        Some((age, (state.instance.clone(), state.incarnation, due(recycle, lifetime, age, bytes)?)))
    };
    oldest_first(states.iter().filter_map(is_due).collect())
}

/// One of a pool is replaced at a time: who has run longest is first, so that nobody's turn never comes.
fn oldest_first<T>(mut all: Vec<(Duration, T)>) -> Vec<T> {
    all.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    all.into_iter().map(|(_, one)| one).collect()
}

fn sizes(sampler: &Sampler, roots: &[Root]) -> HashMap<u32, u64> {
    sampler.sweep(roots, Pace::of(EVERY));
    roots.iter().filter_map(|(pid, _)| Some((*pid, sampler.working_set(*pid)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Name;

    fn id(index: u32) -> InstanceId {
        InstanceId::of_pool(Name::try_new("w").unwrap(), index)
    }

    fn recycle(after: Option<u64>, jitter: f64, memory: Option<u64>) -> RecycleSettings {
        RecycleSettings { after: after.map(Duration::from_secs), jitter, memory }
    }

    #[test]
    fn a_pool_that_was_started_together_is_not_replaced_together() {
        let hour = recycle(Some(3600), 0.1, None);
        let lives: Vec<Duration> =
            (0..50).filter_map(|index| lifetime(&hour, 7, &id(index), Incarnation(1))).collect();
        let (least, most) = (lives.iter().min().unwrap(), lives.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(3240) && *most <= Duration::from_secs(3960));
        assert!(*most - *least > Duration::from_secs(360), "{least:?} to {most:?}");
        let again = lifetime(&hour, 7, &id(0), Incarnation(1));
        assert_eq!(again, Some(lives[0]), "every look sees the same");
        assert_ne!(lifetime(&hour, 7, &id(0), Incarnation(2)), again);
    }

    #[test]
    fn of_those_who_are_due_the_oldest_is_replaced_first() {
        let all = [(3, "w/0"), (90, "w/1"), (50, "w/2")].map(|(age, who)| (Duration::from_secs(age), who));
        assert_eq!(oldest_first(all.to_vec()), ["w/1", "w/2", "w/0"]);
    }

    #[test]
    fn a_wall_clock_that_jumps_makes_nobody_older() {
        let mut state = InstanceState::new(id(0), Name::root(), "process", false);
        assert_eq!(age(&state), None);
        state.started_at = Some(jiff::Timestamp::now() - jiff::SignedDuration::from_hours(48));
        state.steady.started = Some(std::time::Instant::now());
        assert!(age(&state).unwrap() < Duration::from_secs(3600));
    }

    #[test]
    fn without_jitter_the_time_is_exact() {
        let exact = recycle(Some(60), 0.0, None);
        let life = lifetime(&exact, 7, &id(0), Incarnation(1));
        assert_eq!(life, Some(Duration::from_secs(60)));
        assert_eq!(due(&exact, life, Duration::from_secs(59), None), None);
        let age = Duration::from_secs(60);
        assert_eq!(due(&exact, life, age, None), Some(Due::Age(age)));
    }

    #[test]
    fn size_counts_from_its_limit_on_and_only_if_it_is_known() {
        let small = recycle(None, 0.1, Some(100));
        let age = Duration::from_secs(1);
        assert_eq!(due(&small, None, age, Some(99)), None);
        assert_eq!(due(&small, None, age, None), None);
        assert_eq!(due(&small, None, age, Some(100)), Some(Due::Size { bytes: 100, most: 100 }));
    }
}
