//! The incidents that are kept: so many, in the order in which they began, and each found at once by its id.
//!
//! Ten thousand workers that crash together open ten thousand incidents, and the supervisor that starts them again
//! writes in each of them: to look through a thousand for every line took longer than all their restarts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::recovery::Incident;

/// Incidents that are kept. Of those that are closed and written down the oldest go first; they are in the store.
const MOST: usize = 1000;

/// So many at the very most, where they come faster than they can be written down: beyond it the oldest are lost.
const MOST_EVER: usize = 16 * MOST;

/// The book. Incidents are numbered in it, those of an earlier runtime downwards.
#[derive(Debug, Default)]
pub(super) struct Casebook {
    all: BTreeMap<i64, Page>,
    numbers: HashMap<Arc<str>, i64>,
    /// Those that are not written down as they are now.
    changed: BTreeSet<i64>,
    /// Closed, and written down as they are: the store has them, so that they may go.
    kept: BTreeSet<i64>,
    /// How many went that nobody will find again.
    lost: u64,
}

/// One incident, and whether it is written down: the sets are touched only where that changes, which of a crash loop's
/// many lines is the first.
#[derive(Debug)]
struct Page {
    incident: Incident,
    stands: Stands,
}

/// How an incident stands to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Written down as it is, or about to be; it is open, or nobody has said yet that it is there.
    Written,
    /// Among the changed.
    Changed,
    /// Among the kept.
    Kept,
}

impl Casebook {
    /// One that has just begun. An open one and one that is not written down stay, but not without end.
    pub(super) fn open(&mut self, incident: Incident) {
        while self.all.len() >= MOST
            && let Some(number) = self.kept.first().copied()
        {
            self.remove(number);
        }
        if self.all.len() >= MOST_EVER {
            self.lose_one();
        }
        let number = self.all.last_key_value().map_or(0, |(last, _)| last + 1);
        self.put(number, incident, Stands::Changed);
    }

    /// One that is older than all that are kept; false: there is no room for it. `changed`: it is not written down so.
    pub(super) fn recall(&mut self, incident: Incident, changed: bool) -> bool {
        if self.all.len() >= MOST {
            return false;
        }
        let number = self.all.first_key_value().map_or(0, |(first, _)| first - 1);
        let stands = match (changed, incident.is_open()) {
            (true, _) => Stands::Changed,
            (false, false) => Stands::Kept,
            (false, true) => Stands::Written,
        };
        self.put(number, incident, stands);
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<&Incident> {
        self.all.get(self.numbers.get(id)?).map(|page| &page.incident)
    }

    /// Changes one; `None`: it is not there any more.
    pub(super) fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Incident) -> T) -> Option<T> {
        let number = *self.numbers.get(id)?;
        let Self { all, changed, kept, .. } = self;
        let page = all.get_mut(&number)?;
        let before = std::mem::replace(&mut page.stands, Stands::Changed);
        if before != Stands::Changed {
            changed.insert(number);
        }
        if before == Stands::Kept {
            kept.remove(&number);
        }
        Some(change(&mut page.incident))
    }

    /// Whether some are not written down as they are now.
    pub(super) fn waits(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Some of those, the oldest first, which are about to be.
    pub(super) fn take_changed(&mut self, most: usize) -> Vec<Incident> {
        let some: Vec<i64> = self.changed.iter().take(most).copied().collect();
        some.iter()
            .filter_map(|number| {
                self.changed.remove(number);
                let page = self.all.get_mut(number)?;
                page.stands = Stands::Written;
                Some(page.incident.clone())
            })
            .collect()
    }

    /// One has been written down, or could not be.
    pub(super) fn written(&mut self, id: &str, done: bool) {
        let Some(number) = self.numbers.get(id).copied() else { return };
        let Some(page) = self.all.get_mut(&number).filter(|page| page.stands == Stands::Written) else {
            return;
        };
        if !done {
            page.stands = Stands::Changed;
            self.changed.insert(number);
        } else if !page.incident.is_open() {
            page.stands = Stands::Kept;
            self.kept.insert(number);
        }
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Incident> {
        self.all.values().rev().map(|page| &page.incident)
    }

    fn put(&mut self, number: i64, incident: Incident, stands: Stands) {
        // An id that is known already means the newer of the two.
        if let Some(before) = self.numbers.get(&incident.id).copied() {
            self.remove(before);
        }
        match stands {
            Stands::Written => {}
            Stands::Changed => _ = self.changed.insert(number),
            Stands::Kept => _ = self.kept.insert(number),
        }
        self.numbers.insert(Arc::clone(&incident.id), number);
        self.all.insert(number, Page { incident, stands });
    }

    fn lose_one(&mut self) {
        let closed = self.all.iter().find(|(_, page)| !page.incident.is_open());
        let Some((number, page)) = closed.or_else(|| self.all.first_key_value()) else { return };
        self.lost += 1;
        if self.lost.is_power_of_two() {
            let (lost, id) = (self.lost, &page.incident.id);
            tracing::error!(lost, %id, "incidents come faster than they can be written down; the oldest are lost");
        }
        self.remove(*number);
    }

    fn remove(&mut self, number: i64) {
        self.changed.remove(&number);
        self.kept.remove(&number);
        if let Some(page) = self.all.remove(&number) {
            self.numbers.remove(&page.incident.id);
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

    fn of(count: usize) -> Casebook {
        let mut book = Casebook::default();
        (0..count).for_each(|id| book.open(incident(id)));
        book
    }

    fn close(book: &mut Casebook, id: &str) {
        book.change(id, |incident| incident.close(Outcome::Ok, "it holds", Timestamp::UNIX_EPOCH));
    }

    fn write_all(book: &mut Casebook) -> Vec<String> {
        let all = book.take_changed(usize::MAX);
        all.iter().for_each(|incident| book.written(&incident.id, true));
        all.iter().map(|incident| incident.id.to_string()).collect()
    }

    #[test]
    fn the_oldest_that_is_closed_and_written_down_makes_room() {
        let mut book = of(MOST);
        for id in ["i9", "i7"] {
            close(&mut book, id);
        }
        assert_eq!(write_all(&mut book).len(), MOST);
        for (new, gone) in [(MOST, "i7"), (MOST + 1, "i9")] {
            assert!(book.get(gone).is_some());
            book.open(incident(new));
            assert!(book.get(gone).is_none() && book.all.len() == MOST, "{gone}");
        }
        assert_eq!(book.numbers.len(), MOST);
        assert_eq!(book.change("i9", |_| ()), None);
    }

    #[test]
    fn of_many_that_begin_at_once_every_beginning_and_every_end_is_written_down() {
        let many = 10 * MOST;
        let mut book = of(many);
        assert_eq!(book.all.len(), many, "who is open stays");
        (0..many).for_each(|id| close(&mut book, &format!("i{id}")));
        let first: Vec<_> =
            book.take_changed(64).iter().map(|one| (one.id.to_string(), one.is_open())).collect();
        assert_eq!((first.len(), &first[0]), (64, &("i0".to_owned(), false)));
        book.written("i0", false);
        assert_eq!(write_all(&mut book).len(), many - 63, "what could not be written is not forgotten");
        assert!(!book.waits());
        book.open(incident(many));
        assert!(book.all.len() <= MOST && book.lost == 0);
    }

    #[test]
    fn what_changes_while_it_is_written_is_written_again() {
        let mut book = of(1);
        let _ = book.take_changed(1);
        close(&mut book, "i0");
        book.written("i0", true);
        assert!(book.waits() && book.kept.is_empty());
        assert_eq!(write_all(&mut book), ["i0"]);
        assert_eq!(book.kept.len(), 1);
    }

    #[test]
    fn without_a_disk_there_is_an_end_and_what_is_lost_is_counted() {
        let mut book = of(MOST_EVER);
        close(&mut book, "i5");
        book.open(incident(MOST_EVER));
        assert!(book.get("i5").is_none() && book.get("i0").is_some(), "a closed one goes before an open one");
        book.open(incident(MOST_EVER + 1));
        assert!(book.get("i0").is_none());
        assert_eq!((book.all.len(), book.lost), (MOST_EVER, 2));
    }

    #[test]
    fn those_of_an_earlier_runtime_stand_before_all_others_until_there_is_no_room() {
        let mut book = Casebook::default();
        book.open(incident(5));
        assert!(book.recall(incident(4), false) && book.recall(incident(3), true));
        let ids: Vec<&str> = book.newest_first().map(|incident| &*incident.id).collect();
        assert_eq!(ids, ["i5", "i4", "i3"]);
        assert_eq!(write_all(&mut book), ["i3", "i5"]);
        assert!(!of(MOST).recall(incident(MOST), false));
    }
}
