//! The incidents that are kept: so many, in the order in which they began, and each found at once by its id.
//!
//! Ten thousand workers that crash together open ten thousand incidents, and the supervisor that starts them again
//! writes in each of them: to look through a thousand for every line took longer than all their restarts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::recovery::Incident;

/// Incidents that are kept. The closed ones that are oldest go first; what is older is in the store.
const MOST: usize = 1000;

/// The book. Incidents are numbered in it, those of an earlier runtime downwards.
#[derive(Debug, Default)]
pub(super) struct Casebook {
    all: BTreeMap<i64, Incident>,
    numbers: HashMap<Arc<str>, i64>,
    closed: BTreeSet<i64>,
}

impl Casebook {
    /// One that has just begun; if there are too many, the oldest that is closed goes, or else the oldest.
    pub(super) fn open(&mut self, incident: Incident) {
        if self.all.len() >= MOST {
            let oldest = self.all.first_key_value().map(|(number, _)| *number);
            if let Some(number) = self.closed.first().copied().or(oldest) {
                self.remove(number);
            }
        }
        let number = self.all.last_key_value().map_or(0, |(last, _)| last + 1);
        self.put(number, incident);
    }

    /// One that is older than all that are kept; false: there is no room for it.
    pub(super) fn recall(&mut self, incident: Incident) -> bool {
        if self.all.len() >= MOST {
            return false;
        }
        let number = self.all.first_key_value().map_or(0, |(first, _)| first - 1);
        self.put(number, incident);
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<&Incident> {
        self.all.get(self.numbers.get(id)?)
    }

    /// Changes one; `None`: it is not kept.
    pub(super) fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Incident) -> T) -> Option<T> {
        let number = *self.numbers.get(id)?;
        let incident = self.all.get_mut(&number)?;
        let done = change(incident);
        if incident.is_open() {
            self.closed.remove(&number);
        } else {
            self.closed.insert(number);
        }
        Some(done)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Incident> {
        self.all.values().rev()
    }

    fn put(&mut self, number: i64, incident: Incident) {
        if !incident.is_open() {
            self.closed.insert(number);
        }
        // An id that is known already means the newer of the two.
        if let Some(before) = self.numbers.insert(Arc::clone(&incident.id), number) {
            self.all.remove(&before);
            self.closed.remove(&before);
        }
        self.all.insert(number, incident);
    }

    fn remove(&mut self, number: i64) {
        self.closed.remove(&number);
        if let Some(incident) = self.all.remove(&number) {
            self.numbers.remove(&incident.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use crate::recovery::Outcome;

    use super::*;

    fn incident(id: usize) -> Incident {
        let at = Timestamp::UNIX_EPOCH;
        Incident::open(format!("i{id}"), "web".to_owned(), "crash", "it ended", at)
    }

    fn full() -> Casebook {
        let mut book = Casebook::default();
        (0..MOST).for_each(|id| book.open(incident(id)));
        book
    }

    #[test]
    fn the_oldest_closed_incident_makes_room_and_without_one_the_oldest() {
        let mut book = full();
        for id in ["i9", "i7"] {
            book.change(id, |incident| incident.close(Outcome::Ok, "it holds", Timestamp::UNIX_EPOCH));
        }
        for (new, gone) in [(MOST, "i7"), (MOST + 1, "i9"), (MOST + 2, "i0")] {
            assert!(book.get(gone).is_some());
            book.open(incident(new));
            assert!(book.get(gone).is_none() && book.all.len() == MOST, "{gone}");
        }
        assert_eq!(book.numbers.len(), MOST);
        assert_eq!(book.change("i9", |_| ()), None);
    }

    #[test]
    fn those_of_an_earlier_runtime_stand_before_all_others_until_there_is_no_room() {
        let mut book = Casebook::default();
        book.open(incident(5));
        assert!(book.recall(incident(4)) && book.recall(incident(3)));
        let ids: Vec<&str> = book.newest_first().map(|incident| &*incident.id).collect();
        assert_eq!(ids, ["i5", "i4", "i3"]);
        assert!(!full().recall(incident(MOST)));
    }
}
