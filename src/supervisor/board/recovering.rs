//! What people see of an instance's recovery.

use std::sync::Arc;

use crate::recovery::{Incident, Outcome, Strategy};

use super::Moment;

/// An open incident, as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovering {
    /// Its id.
    pub incident: Arc<str>,
    /// Its cause.
    pub cause: Arc<str>,
    /// The step that is under way.
    pub strategy: Option<Strategy>,
    /// What goes on, in one word.
    pub stage: &'static str,
    /// Until when.
    pub until: Option<Moment>,
}

impl Recovering {
    /// Whether it works again and must only hold for the incident to be over.
    #[must_use]
    pub fn verifies(&self) -> bool {
        self.stage == "verifying"
    }
}

/// Upper ends of the buckets in seconds: from a restart at once to half an hour of steps.
pub const INCIDENT_BUCKETS: [f64; 11] = [0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// How long something took, each time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// How often.
    pub count: u64,
    /// The same by how long, in the order of [`INCIDENT_BUCKETS`]; each counts in one.
    pub buckets: [u64; INCIDENT_BUCKETS.len()],
    /// All together, in seconds.
    pub sum_seconds: f64,
}

impl Spread {
    fn add(&mut self, seconds: f64) {
        self.count += 1;
        self.sum_seconds += seconds;
        if let Some(at) = INCIDENT_BUCKETS.iter().position(|end| seconds <= *end) {
            self.buckets[at] += 1;
        }
    }

    fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_seconds += other.sum_seconds;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, more)| *own += more);
    }
}

/// The incidents of an instance that ended well: how long it took to see them and to heal it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Recovered {
    /// From the first evidence to the incident.
    pub detection: Spread,
    /// From the incident to the verified recovery.
    pub recovery: Spread,
}

impl Recovered {
    /// One more, if it ended well.
    pub(crate) fn add(&mut self, incident: &Incident) {
        if incident.closed.as_ref().is_some_and(|closed| closed.outcome == Outcome::Ok) {
            self.detection.add(incident.detection_seconds.unwrap_or(0.0));
            self.recovery.add(incident.recovery_seconds().unwrap_or(0.0));
        }
    }

    /// Those of somebody else, too.
    pub(crate) fn join(&mut self, other: &Self) {
        self.detection.join(&other.detection);
        self.recovery.join(&other.recovery);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn incidents_that_ended_well_are_counted_by_how_long_they_took() {
        let (from, mut recovered) = (Timestamp::from_second(10).unwrap(), Recovered::default());
        for (seconds, outcome) in [(2, Outcome::Ok), (4000, Outcome::Ok), (3, Outcome::Failed)] {
            let mut incident = Incident::open("i1", "web", "hang", "lost", from);
            incident.detection_seconds = Some(0.2);
            incident.close(outcome, "", Timestamp::from_second(10 + seconds).unwrap());
            recovered.add(&incident);
        }
        assert_eq!((recovered.recovery.count, recovered.recovery.sum_seconds), (2, 4002.0));
        assert_eq!((recovered.recovery.buckets[4], recovered.recovery.buckets.iter().sum::<u64>()), (1, 1));
        assert_eq!(recovered.detection.buckets[2], 2);
    }
}
