//! Who is there, in start order.
//!
//! Children live in slots that are used again; start order is a linked list through the slots, so that adding,
//! removing and finding a neighbour cost the same with ten children and with a hundred thousand. A number
//! that only grows (`rank`) answers «which of two was started first» without walking the list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::id::Incarnation;

use super::child::Child;
use super::fact::ChildKey;

#[derive(Debug, Clone)]
struct Slot {
    child: Option<Child>,
    /// How many children this slot has had; a message to an earlier one is recognised by it.
    life: u64,
    /// Newest incarnation of the slot's last child: the count goes on with the next one.
    last: Incarnation,
    rank: u64,
    before: Option<ChildKey>,
    after: Option<ChildKey>,
}

/// All children of one supervisor.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    slots: Vec<Slot>,
    free: Vec<ChildKey>,
    by_id: HashMap<Arc<str>, ChildKey>,
    first: Option<ChildKey>,
    last: Option<ChildKey>,
    ranks: u64,
}

impl Roster {
    /// Appends a child; `make` is given the incarnation from which it counts on.
    pub(super) fn append(&mut self, make: impl FnOnce(Incarnation) -> Child) -> ChildKey {
        let key = self.free.pop().unwrap_or_else(|| self.new_slot());
        let slot = &mut self.slots[key.0 as usize];
        let child = make(slot.last);
        slot.life += 1;
        self.by_id.insert(child.spec.id.clone(), key);
        slot.child = Some(child);
        self.link(key);
        key
    }

    /// Takes a child out; its slot is free for the next one.
    pub(super) fn remove(&mut self, key: ChildKey) -> Option<Child> {
        let child = self.slots.get_mut(key.0 as usize)?.child.take()?;
        self.unlink(key);
        self.slots[key.0 as usize].last = child.incarnation;
        if self.by_id.get(&child.spec.id) == Some(&key) {
            self.by_id.remove(&child.spec.id);
        }
        self.free.push(key);
        Some(child)
    }

    /// Makes it the last in start order.
    pub(super) fn move_to_end(&mut self, key: ChildKey) {
        if self.last != Some(key) {
            self.unlink(key);
            self.link(key);
        }
    }

    /// Puts these first, in this order; whoever is not among them keeps its place behind them.
    pub(super) fn arrange(&mut self, order: &[ChildKey]) {
        if self.keys().take(order.len()).eq(order.iter().copied()) {
            return;
        }
        let named: HashSet<ChildKey> = order.iter().copied().collect();
        let rest: Vec<ChildKey> = self.keys().filter(|key| !named.contains(key)).collect();
        for key in order.iter().chain(&rest) {
            self.move_to_end(*key);
        }
    }

    pub(super) fn get(&self, key: ChildKey) -> Option<&Child> {
        self.slots.get(key.0 as usize)?.child.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: ChildKey) -> Option<&mut Child> {
        self.slots.get_mut(key.0 as usize)?.child.as_mut()
    }

    pub(super) fn key(&self, id: &str) -> Option<ChildKey> {
        self.by_id.get(id).copied()
    }

    pub(super) fn life(&self, key: ChildKey) -> u64 {
        self.slots.get(key.0 as usize).map_or(0, |slot| slot.life)
    }

    /// Its place in start order, as a number that only orders.
    pub(super) fn rank(&self, key: ChildKey) -> u64 {
        self.slots.get(key.0 as usize).map_or(0, |slot| slot.rank)
    }

    pub(super) fn first(&self) -> Option<ChildKey> {
        self.first
    }

    pub(super) fn last(&self) -> Option<ChildKey> {
        self.last
    }

    pub(super) fn after(&self, key: ChildKey) -> Option<ChildKey> {
        self.slots.get(key.0 as usize)?.after
    }

    pub(super) fn before(&self, key: ChildKey) -> Option<ChildKey> {
        self.slots.get(key.0 as usize)?.before
    }

    /// In start order.
    pub(super) fn keys(&self) -> impl Iterator<Item = ChildKey> + '_ {
        std::iter::successors(self.first, |key| self.after(*key))
    }

    fn new_slot(&mut self) -> ChildKey {
        let key = ChildKey(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.push(Slot {
            child: None,
            life: 0,
            last: Incarnation::NONE,
            rank: 0,
            before: None,
            after: None,
        });
        key
    }

    fn link(&mut self, key: ChildKey) {
        self.ranks += 1;
        let rank = self.ranks;
        let before = self.last.replace(key);
        match before {
            Some(before) => self.slots[before.0 as usize].after = Some(key),
            None => self.first = Some(key),
        }
        let slot = &mut self.slots[key.0 as usize];
        (slot.rank, slot.before, slot.after) = (rank, before, None);
    }

    fn unlink(&mut self, key: ChildKey) {
        let slot = &self.slots[key.0 as usize];
        let (before, after) = (slot.before, slot.after);
        match before {
            Some(before) => self.slots[before.0 as usize].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.slots[after.0 as usize].before = before,
            None => self.last = before,
        }
    }
}
