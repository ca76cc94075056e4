//! What probes found last, and how long they took: for `describe`, for health over HTTP and for the metrics.
//!
//! One short lock per look; whoever reads copies. An instance that is gone is left out by who reads and forgotten at the
//! next look at anybody after that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::health::{Grade, Observation};
use crate::id::{Incarnation, InstanceId};

/// Upper ends of the buckets in seconds: from a local socket to the longest usual deadline.
pub const LOOK_BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What is known of one probe of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct LookState {
    /// Which start of the instance was looked at.
    pub incarnation: Incarnation,
    /// What the last look said.
    pub result: Grade,
    /// The same in words.
    pub message: String,
    /// Figures it brought along.
    pub metrics: Vec<(String, f64)>,
    /// When it was over.
    pub at: Timestamp,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Looks by result, in the order of [`Grade::ALL`], since the runtime began.
    pub counts: [u64; 4],
    /// Looks by how long they took, in the order of [`LOOK_BUCKETS`]; each counts in one.
    pub buckets: [u64; LOOK_BUCKETS.len()],
    /// All that they took together, in seconds.
    pub sum_seconds: f64,
}

type Probes = BTreeMap<Arc<str>, LookState>;

/// The looks of one runtime; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<BTreeMap<InstanceId, Probes>>>);

impl Looks {
    /// Notes a look.
    pub(crate) fn note(
        &self,
        instance: &InstanceId,
        incarnation: Incarnation,
        probe: &Arc<str>,
        seen: &Observation,
    ) {
        let seconds = seen.ended.saturating_sub(seen.began).as_secs_f64();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(instance) {
            all.insert(instance.clone(), BTreeMap::new());
        }
        let Some(probes) = all.get_mut(instance) else { return };
        if !probes.contains_key(probe) {
            probes.insert(Arc::clone(probe), LookState::new(incarnation));
        }
        let Some(state) = probes.get_mut(probe) else { return };
        (state.incarnation, state.result, state.seconds) = (incarnation, seen.grade, seconds);
        state.message.clone_from(&seen.message);
        state.metrics.clone_from(&seen.metrics);
        state.at = Timestamp::now();
        state.sum_seconds += seconds;
        if let Some(at) = Grade::ALL.iter().position(|grade| *grade == seen.grade) {
            state.counts[at] += 1;
        }
        if let Some(at) = LOOK_BUCKETS.iter().position(|end| seconds <= *end) {
            state.buckets[at] += 1;
        }
    }

    /// Every probe of an instance, by name.
    #[must_use]
    pub fn of(&self, instance: &InstanceId) -> Vec<(Arc<str>, LookState)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let probes = all.get(instance).into_iter().flatten();
        probes.map(|(name, state)| (Arc::clone(name), state.clone())).collect()
    }

    /// Forgets an instance that is gone for good.
    pub(crate) fn keep(&self, there: impl Fn(&InstanceId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|instance, _| there(instance));
    }
}

impl LookState {
    fn new(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            result: Grade::Error,
            message: String::new(),
            metrics: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            counts: [0; 4],
            buckets: [0; LOOK_BUCKETS.len()],
            sum_seconds: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::Name;

    #[test]
    fn looks_are_counted_by_result_and_by_how_long_they_took() {
        let (looks, web) = (Looks::default(), InstanceId::single(Name::try_new("web").unwrap()));
        let look = |millis: u64, grade| Observation {
            probe: 1,
            began: Duration::from_secs(1),
            ended: Duration::from_millis(1000 + millis),
            grade,
            message: "words".to_owned(),
            metrics: Vec::new(),
        };
        let name = Arc::from("alive");
        looks.note(&web, Incarnation(1), &name, &look(3, Grade::Pass));
        looks.note(&web, Incarnation(2), &name, &look(60_000, Grade::Fail));
        let state = looks.of(&web).remove(0).1;
        assert_eq!((state.counts, state.result), ([1, 0, 1, 0], Grade::Fail));
        assert_eq!((state.buckets[1], state.buckets.iter().sum::<u64>()), (1, 1));
        assert!((state.sum_seconds - 60.003).abs() < 1e-9);
        looks.keep(|_| false);
        assert!(looks.of(&web).is_empty());
    }
}
