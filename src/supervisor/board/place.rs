//! One instance's place on the board, found once instead of at every change, and its entry, in which the last end is
//! put into words only when somebody looks.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::event::Ended;
use crate::exit::Exit;
use crate::id::{Incarnation, InstanceId};

use super::{Board, InstanceState, LastExit, lock};

/// What stands on the board about one instance.
pub(in super::super) struct Entry {
    pub(in super::super) state: InstanceState,
    /// The last end, until somebody looks.
    pub(in super::super) end: Option<End>,
}

/// An end as it was told.
pub(in super::super) struct End {
    pub(in super::super) incarnation: Incarnation,
    pub(in super::super) at: Timestamp,
    pub(in super::super) code: Option<i32>,
    pub(in super::super) ended: Arc<Ended>,
}

impl From<InstanceState> for Entry {
    fn from(state: InstanceState) -> Self {
        Self { state, end: None }
    }
}

impl Entry {
    /// How it ended last, whether that is in words yet or not.
    pub(in super::super) fn exit(&self) -> Option<&Exit> {
        let told = self.state.last_exit.as_ref().map(|last| &last.exit);
        self.end.as_ref().map(|end| &end.ended.exit).or(told)
    }

    /// Everything, the last end too.
    pub(in super::super) fn whole(&mut self) -> &mut InstanceState {
        if let Some(End { incarnation, at, code, ended }) = self.end.take() {
            let (message, exit) = (ended.how(), ended.exit.clone());
            let backtrace = self.state.last_exit.take().and_then(|before| before.lends_stack(&exit));
            let last = LastExit { exit, code, incarnation, message, at, backtrace };
            self.state.last_exit = Some(Box::new(last));
        }
        &mut self.state
    }
}

/// Where an instance stands. It is looked for again only after places have changed.
pub(in super::super) struct Place {
    id: InstanceId,
    /// The entry, and the arrangement in which it was found.
    found: Option<(u64, Arc<Mutex<Entry>>)>,
}

impl Place {
    /// The place of this instance, wherever that is.
    pub(in super::super) fn of(id: InstanceId) -> Self {
        Self { id, found: None }
    }
}

impl Board {
    /// Shows every instance, in the order of the file, without copying any. What looks must be quick: it holds up
    /// whoever would change the one that it looks at.
    pub fn visit(&self, mut look: impl FnMut(&InstanceState)) {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.instances.iter().for_each(|entry| look(lock(entry).whole()));
    }

    /// Reads something of one instance's state, without a copy of all of it.
    pub(crate) fn read<T>(&self, id: &InstanceId, read: impl FnOnce(&InstanceState) -> T) -> Option<T> {
        let slots = self.shared.slots.read().unwrap_or_else(PoisonError::into_inner);
        let at = slots.by_id.get(id).copied()?;
        Some(read(lock(&slots.instances[at]).whole()))
    }

    /// Changes one instance's state; [`Board::bump`] wakes who waits for a change. Unknown ids are ignored.
    pub(in super::super) fn at<T>(
        &self,
        place: &mut Place,
        change: impl FnOnce(&mut Entry) -> T,
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

    #[test]
    fn an_end_is_in_words_once_somebody_looks() {
        let board = Board::new();
        let id = put(&board, "a");
        let ended = Ended {
            exit: crate::exit::Exit::Exited { code: 3 },
            hint: Some("look there".to_owned()),
            asked: false,
            class: None,
            lived: None,
            next: None,
        };
        let (at, ended) = (Timestamp::UNIX_EPOCH, Arc::new(ended));
        let end = End { incarnation: Incarnation(7), at, code: Some(3), ended };
        board.at(&mut Place::of(id.clone()), |entry| entry.end = Some(end));
        let last = board.instance(&id).unwrap().last_exit.unwrap();
        assert_eq!((last.incarnation, last.at), (Incarnation(7), Timestamp::UNIX_EPOCH));
        assert_eq!((last.message.as_str(), last.code), ("exited with code 3 (look there)", Some(3)));
        assert_eq!(board.instances()[0].last_exit, Some(last));
    }

    fn put(board: &Board, name: &str) -> InstanceId {
        let id = InstanceId::single(Name::try_new(name).unwrap());
        board.put(InstanceState::new(id.clone(), Name::root(), "actor", false));
        id
    }

    #[test]
    fn a_place_follows_its_instance_over_every_change_of_the_board() {
        let board = Board::new();
        let mut place = Place::of(InstanceId::single(Name::try_new("b").unwrap()));
        assert_eq!(board.at(&mut place, |entry| entry.state.restarts += 1), None, "it is not there yet");
        let (a, b) = (put(&board, "a"), put(&board, "b"));
        assert!(board.at(&mut place, |entry| entry.state.restarts += 1).is_some());
        board.arrange(&[b.clone(), a.clone()]);
        board.remove(&a);
        assert!(board.at(&mut place, |entry| entry.state.restarts += 1).is_some());
        assert_eq!(board.instance(&b).unwrap().restarts, 2);
        board.remove(&b);
        assert_eq!(board.at(&mut place, |entry| entry.state.restarts += 1), None, "it is gone");
        put(&board, "b");
        assert!(board.at(&mut place, |entry| entry.state.restarts += 5).is_some());
        assert_eq!(board.instance(&b).unwrap().restarts, 5);
    }
}
