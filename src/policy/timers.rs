//! One deadline per child, in an indexed binary heap.
//!
//! A child never waits for two things at once, so its slot number names its deadline: setting it again moves
//! the entry instead of leaving a dead one behind. The heap is therefore never longer than the number of
//! children, however often they are restarted.

use super::spec::Time;

const ABSENT: u32 = u32::MAX;

/// The deadlines of all children of one supervisor.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    heap: Vec<(Time, u32)>,
    place: Vec<u32>,
}

impl Timers {
    /// Sets or moves the deadline of `slot`; `None` clears it.
    pub(super) fn set(&mut self, slot: u32, at: Option<Time>) {
        match at {
            None => self.clear(slot),
            Some(at) => self.put(slot, at),
        }
    }

    /// Forgets the deadline of `slot`.
    pub(super) fn clear(&mut self, slot: u32) {
        if let Some(at) = self.place_of(slot) {
            self.remove_at(at);
        }
    }

    /// The deadline of `slot`.
    pub(super) fn get(&self, slot: u32) -> Option<Time> {
        self.place_of(slot).map(|at| self.heap[at].0)
    }

    /// The earliest deadline.
    pub(super) fn earliest(&self) -> Option<Time> {
        self.heap.first().map(|entry| entry.0)
    }

    /// Takes the earliest deadline that has come; ties in slot order, so that replays agree.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<u32> {
        let (at, slot) = *self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove_at(0);
        Some(slot)
    }

    fn place_of(&self, slot: u32) -> Option<usize> {
        self.place.get(slot as usize).filter(|at| **at != ABSENT).map(|at| *at as usize)
    }

    fn put(&mut self, slot: u32, at: Time) {
        let place = self.place_of(slot).unwrap_or_else(|| {
            if self.place.len() <= slot as usize {
                self.place.resize(slot as usize + 1, ABSENT);
            }
            self.heap.push((at, slot));
            self.heap.len() - 1
        });
        self.heap[place] = (at, slot);
        self.settle(place);
    }

    fn remove_at(&mut self, at: usize) {
        let (_, slot) = self.heap.swap_remove(at);
        self.place[slot as usize] = ABSENT;
        if at < self.heap.len() {
            self.settle(at);
        }
    }

    /// Moves the entry at `at` up or down until the heap holds again, and notes where everybody is.
    fn settle(&mut self, mut at: usize) {
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            at = self.swap(at, (at - 1) / 2);
        }
        while let Some(child) = self.smaller_child(at) {
            at = self.swap(at, child);
        }
        self.note(at);
    }

    fn smaller_child(&self, at: usize) -> Option<usize> {
        let left = 2 * at + 1;
        let child =
            [left, left + 1].into_iter().filter(|c| *c < self.heap.len()).min_by_key(|c| self.heap[*c])?;
        (self.heap[child] < self.heap[at]).then_some(child)
    }

    fn swap(&mut self, from: usize, to: usize) -> usize {
        self.heap.swap(from, to);
        self.note(from);
        to
    }

    fn note(&mut self, at: usize) {
        let slot = self.heap[at].1;
        self.place[slot as usize] = u32::try_from(at).unwrap_or(ABSENT);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn deadlines_come_in_order_and_none_is_lost(ops in prop::collection::vec((0u32..12, 0u64..40, 0u8..4), 1..200)) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, Time> = BTreeMap::new();
            for (slot, at, op) in ops {
                let at = Duration::from_millis(at);
                if op == 0 {
                    timers.clear(slot);
                    model.remove(&slot);
                } else if op == 1 {
                    let due = model.iter().map(|(s, t)| (*t, *s)).min().filter(|(t, _)| *t <= at).map(|(_, s)| s);
                    prop_assert_eq!(timers.pop_due(at), due);
                    due.map(|s| model.remove(&s));
                } else {
                    timers.set(slot, Some(at));
                    model.insert(slot, at);
                }
                prop_assert_eq!(timers.earliest(), model.values().min().copied());
                prop_assert_eq!(timers.heap.len(), model.len());
                for slot in 0..12 {
                    prop_assert_eq!(timers.get(slot), model.get(&slot).copied());
                }
            }
        }
    }
}
