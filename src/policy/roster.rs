//! Who is there, in start order.
//!
//! Children live in slots that are used again; start order is a linked list through the slots, so that adding,
//! removing and finding a neighbour cost the same with ten children and with a hundred thousand. A number
//! that only grows (`rank`) answers «which of two was started first» without walking the list.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::child::Child;
use super::fact::ChildKey;

#[derive(Debug, Clone)]
struct Slot {
    child: Option<Child>,
    /// Of the child that is in it, or of the next one; a message to an earlier one is recognised by it.
    key: ChildKey,
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
    /// Appends a child.
    pub(super) fn append(&mut self, child: Child) -> ChildKey {
        let key = self.free.pop().unwrap_or_else(|| self.new_slot());
        self.by_id.insert(child.spec.id.clone(), key);
        self.slots[key.at()].child = Some(child);
        self.link(key);
        key
    }

    /// Takes a child out; its slot is free for the next one.
    pub(super) fn remove(&mut self, key: ChildKey) -> Option<Child> {
        let slot = self.slot_mut(key)?;
        let child = slot.child.take()?;
        slot.key = key.next();
        self.unlink(key);
        if self.by_id.get(&child.spec.id) == Some(&key) {
            self.by_id.remove(&child.spec.id);
        }
        self.free.push(key.next());
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
        self.slot(key)?.child.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: ChildKey) -> Option<&mut Child> {
        self.slot_mut(key)?.child.as_mut()
    }

    pub(super) fn key(&self, id: &str) -> Option<ChildKey> {
        self.by_id.get(id).copied()
    }

    /// Who is in this slot.
    pub(super) fn key_at(&self, slot: u32) -> Option<ChildKey> {
        let slot = self.slots.get(slot as usize)?;
        slot.child.as_ref().map(|_| slot.key)
    }

    /// Its place in start order, as a number that only orders.
    pub(super) fn rank(&self, key: ChildKey) -> u64 {
        self.slot(key).map_or(0, |slot| slot.rank)
    }

    pub(super) fn first(&self) -> Option<ChildKey> {
        self.first
    }

    pub(super) fn last(&self) -> Option<ChildKey> {
        self.last
    }

    pub(super) fn after(&self, key: ChildKey) -> Option<ChildKey> {
        self.slot(key)?.after
    }

    pub(super) fn before(&self, key: ChildKey) -> Option<ChildKey> {
        self.slot(key)?.before
    }

    /// In start order.
    pub(super) fn keys(&self) -> impl Iterator<Item = ChildKey> + '_ {
        std::iter::successors(self.first, |key| self.after(*key))
    }

    fn slot(&self, key: ChildKey) -> Option<&Slot> {
        self.slots.get(key.at()).filter(|slot| slot.key == key)
    }

    fn slot_mut(&mut self, key: ChildKey) -> Option<&mut Slot> {
        self.slots.get_mut(key.at()).filter(|slot| slot.key == key)
    }

    fn new_slot(&mut self) -> ChildKey {
        let key = ChildKey::first(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        self.slots.push(Slot { child: None, key, rank: 0, before: None, after: None });
        key
    }

    fn link(&mut self, key: ChildKey) {
        self.ranks += 1;
        let rank = self.ranks;
        let before = self.last.replace(key);
        match before {
            Some(before) => self.slots[before.at()].after = Some(key),
            None => self.first = Some(key),
        }
        let slot = &mut self.slots[key.at()];
        (slot.rank, slot.before, slot.after) = (rank, before, None);
    }

    fn unlink(&mut self, key: ChildKey) {
        let slot = &self.slots[key.at()];
        let (before, after) = (slot.before, slot.after);
        match before {
            Some(before) => self.slots[before.at()].after = after,
            None => self.first = after,
        }
        match after {
            Some(after) => self.slots[after.at()].before = before,
            None => self.last = before,
        }
    }
}
