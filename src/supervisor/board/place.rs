//! One instance's place on the board, found once instead of at every change.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::InstanceId;

use super::{Board, InstanceState, lock};

/// Where an instance stands. It is looked for again only after places have changed.
pub(in super::super) struct Place {
    id: InstanceId,
    /// The entry, and the arrangement in which it was found.
    found: Option<(u64, Arc<Mutex<InstanceState>>)>,
}

impl Place {
    /// The place of this instance, wherever that is.
    pub(in super::super) fn of(id: InstanceId) -> Self {
        Self { id, found: None }
    }
}

impl Board {
    /// Changes one instance's state; [`Board::bump`] wakes who waits for a change. Unknown ids are ignored.
    pub(in super::super) fn at<T>(
        &self,
        place: &mut Place,
        change: impl FnOnce(&mut InstanceState) -> T,
    ) -> Option<T> {
        let places = self.shared.places.load(Ordering::Acquire);
        if place.found.as_ref().is_none_or(|(known, _)| *known != places) {
            let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
            let at = slots.by_id.get(&place.id).copied();
            place.found = at.map(|at| (places, Arc::clone(&slots.instances[at])));
        }
        let (_, entry) = place.found.as_ref()?;
        Some(change(&mut lock(entry)))
    }
}

#[cfg(test)]
mod tests {
    use crate::id::Name;

    use super::*;

    fn put(board: &Board, name: &str) -> InstanceId {
        let id = InstanceId::single(Name::try_new(name).unwrap());
        board.put(InstanceState::new(id.clone(), Name::root(), "actor", false));
        id
    }

    #[test]
    fn a_place_follows_its_instance_over_every_change_of_the_board() {
        let board = Board::new();
        let mut place = Place::of(InstanceId::single(Name::try_new("b").unwrap()));
        assert_eq!(board.at(&mut place, |entry| entry.restarts += 1), None, "it is not there yet");
        let (a, b) = (put(&board, "a"), put(&board, "b"));
        assert!(board.at(&mut place, |entry| entry.restarts += 1).is_some());
        board.arrange(&[b.clone(), a.clone()]);
        board.remove(&a);
        assert!(board.at(&mut place, |entry| entry.restarts += 1).is_some());
        assert_eq!(board.instance(&b).unwrap().restarts, 2);
        board.remove(&b);
        assert_eq!(board.at(&mut place, |entry| entry.restarts += 1), None, "it is gone");
        put(&board, "b");
        assert!(board.at(&mut place, |entry| entry.restarts += 5).is_some());
        assert_eq!(board.instance(&b).unwrap().restarts, 5);
    }
}
