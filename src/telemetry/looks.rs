//! What probes found last, and how long they took: for `describe`, for health over HTTP and for the metrics.
//!
//! One short lock per look; whoever reads copies. An instance that is gone is left out by who reads and forgotten at the
//! next look at anybody after that.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Looks by result, in the order of [`Grade::ALL`], those of earlier runtimes too.
    pub counts: [u64; 4],
    /// Looks by how long they took, in the order of [`LOOK_BUCKETS`]; each counts in one.
    pub buckets: [u64; LOOK_BUCKETS.len()],
    /// All that they took together, in seconds.
    pub sum_seconds: f64,
}

/// How many looks there were.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LookTally {
    /// By result, in the order of [`Grade::ALL`].
    pub counts: [u64; 4],
    /// By how long they took, in the order of [`LOOK_BUCKETS`].
    pub buckets: [u64; LOOK_BUCKETS.len()],
    /// All that they took together, in seconds.
    pub sum_seconds: f64,
}

type Probes = BTreeMap<Arc<str>, LookState>;

/// The looks of one runtime; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Looks(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    probes: HashMap<InstanceId, Probes>,
    /// Those of earlier runtimes, of probes that have not looked yet.
    earlier: BTreeMap<InstanceId, BTreeMap<Arc<str>, LookTally>>,
}

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
        let mut all = self.lock();
        let All { probes, earlier } = &mut *all;
        let state =
            probes.entry(instance.clone()).or_default().entry(Arc::clone(probe)).or_insert_with(|| {
                let before = earlier.get_mut(instance).and_then(|earlier| earlier.remove(probe));
                LookState::new(incarnation, before.unwrap_or_default())
            });
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
        let all = self.lock();
        let probes = all.probes.get(instance).into_iter().flatten();
        probes.map(|(name, state)| (Arc::clone(name), state.clone())).collect()
    }

    /// Forgets an instance that is gone for good.
    pub(crate) fn keep(&self, there: impl Fn(&InstanceId) -> bool) {
        let mut all = self.lock();
        all.probes.retain(|instance, _| there(instance));
        all.earlier.retain(|instance, _| there(instance));
    }

    /// What a probe has behind it from earlier runtimes.
    pub(crate) fn precede(&self, instance: &InstanceId, probe: &str, before: LookTally) {
        let mut all = self.lock();
        if let Some(state) = all.probes.get_mut(instance).and_then(|probes| probes.get_mut(probe)) {
            return state.add(&before);
        }
        all.earlier.entry(instance.clone()).or_default().insert(Arc::from(probe), before);
    }

    /// What every probe of an instance has behind it, those of earlier runtimes too.
    pub(crate) fn tallies(&self) -> BTreeMap<InstanceId, Vec<(Arc<str>, LookTally)>> {
        let all = self.lock();
        let mut found: BTreeMap<InstanceId, Vec<(Arc<str>, LookTally)>> = BTreeMap::new();
        for (instance, probes) in &all.probes {
            let tallies = probes.iter().map(|(name, state)| (Arc::clone(name), state.tally()));
            found.entry(instance.clone()).or_default().extend(tallies);
        }
        for (instance, earlier) in &all.earlier {
            let tallies = earlier.iter().map(|(name, tally)| (Arc::clone(name), tally.clone()));
            found.entry(instance.clone()).or_default().extend(tallies);
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookState {
    fn new(incarnation: Incarnation, before: LookTally) -> Self {
        let LookTally { counts, buckets, sum_seconds } = before;
        Self {
            incarnation,
            result: Grade::Error,
            message: String::new(),
            metrics: Vec::new(),
            at: Timestamp::UNIX_EPOCH,
            seconds: 0.0,
            counts,
            buckets,
            sum_seconds,
        }
    }

    fn add(&mut self, before: &LookTally) {
        self.counts.iter_mut().zip(before.counts).for_each(|(count, more)| *count += more);
        self.buckets.iter_mut().zip(before.buckets).for_each(|(count, more)| *count += more);
        self.sum_seconds += before.sum_seconds;
    }

    fn tally(&self) -> LookTally {
        LookTally { counts: self.counts, buckets: self.buckets, sum_seconds: self.sum_seconds }
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

    #[test]
    fn counts_of_an_earlier_runtime_go_on_whenever_they_are_known() {
        let (looks, web) = (Looks::default(), InstanceId::single(Name::try_new("web").unwrap()));
        let pass = Observation {
            probe: 1,
            began: Duration::from_secs(1),
            ended: Duration::from_secs(1),
            grade: Grade::Pass,
            message: String::new(),
            metrics: Vec::new(),
        };
        let before = || LookTally { counts: [5, 0, 0, 0], sum_seconds: 2.0, ..LookTally::default() };
        let (early, late): (Arc<str>, Arc<str>) = (Arc::from("early"), Arc::from("late"));
        looks.note(&web, Incarnation(1), &early, &pass);
        looks.precede(&web, "early", before());
        looks.precede(&web, "late", before());
        assert_eq!(looks.of(&web).len(), 1, "one that has not looked has seen nothing");
        let counts = |looks: &Looks| -> Vec<u64> {
            looks.tallies()[&web].iter().map(|(_, tally)| tally.counts[0]).collect()
        };
        assert_eq!(counts(&looks), [6, 5]);
        looks.note(&web, Incarnation(1), &late, &pass);
        assert_eq!(counts(&looks), [6, 6]);
        looks.keep(|_| false);
        assert!(looks.tallies().is_empty());
    }
}
