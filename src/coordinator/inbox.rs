//! What becomes of incarnations, on its way to the coordinator: the newest of each instance, and one bell.
//!
//! Whoever tells it is the control plane, in the middle of a restart: one lock and one look into a map are all that it
//! may cost, and a worker that restarts or beats a hundred thousand times a second fills no queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::health::Vital;
use crate::id::{Incarnation, InstanceId};

/// What is new of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    pub(super) incarnation: Incarnation,
    /// It began, with this process.
    pub(super) begun: Option<Option<u32>>,
    pub(super) main: Option<u32>,
    pub(super) ready: bool,
    /// The last word it said of itself: well, or not.
    pub(super) says: Option<bool>,
    /// It has moved.
    pub(super) moved: bool,
    /// So many things went wrong in it.
    pub(super) troubles: u32,
    pub(super) ended: bool,
}

impl News {
    fn of(incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            begun: None,
            main: None,
            ready: false,
            says: None,
            moved: false,
            troubles: 0,
            ended: false,
        }
    }

    fn add(&mut self, vital: Vital) {
        match vital {
            Vital::Begun { pid } => self.begun = Some(pid),
            Vital::Main { pid } => self.main = Some(pid),
            Vital::Ready => self.ready = true,
            Vital::Beat => self.says = Some(true),
            Vital::Moved => self.moved = true,
            Vital::Trouble => self.troubles = self.troubles.saturating_add(1),
            Vital::Distress => self.says = Some(false),
            Vital::Ended => self.ended = true,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    news: HashMap<InstanceId, News>,
    rung: bool,
}

/// Where it waits; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inbox(Arc<Mutex<State>>);

impl Inbox {
    /// Puts something in. Whether the coordinator must be rung.
    pub(crate) fn put(&self, instance: &InstanceId, incarnation: Incarnation, vital: Vital) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.news.get_mut(instance) {
            Some(news) => {
                if news.incarnation != incarnation {
                    *news = News::of(incarnation);
                }
                news.add(vital);
            }
            None => {
                let mut news = News::of(incarnation);
                news.add(vital);
                state.news.insert(instance.clone(), news);
            }
        }
        !std::mem::replace(&mut state.rung, true)
    }

    /// Everything that is new; only when that is nothing, the next word rings. Whoever takes something looks again.
    pub(super) fn take(&self) -> HashMap<InstanceId, News> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.rung = !state.news.is_empty();
        std::mem::take(&mut state.news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Name;

    #[test]
    fn the_newest_incarnation_stands_for_all_before_it_and_one_ring_for_many_words() {
        let (inbox, web) = (Inbox::default(), InstanceId::single(Name::try_new("web").unwrap()));
        assert!(inbox.put(&web, Incarnation(1), Vital::Begun { pid: Some(7) }));
        assert!(!inbox.put(&web, Incarnation(1), Vital::Ready));
        assert!(!inbox.put(&web, Incarnation(1), Vital::Distress));
        assert!(!inbox.put(&web, Incarnation(2), Vital::Begun { pid: Some(8) }));
        assert!(!inbox.put(&web, Incarnation(2), Vital::Beat));
        let news = inbox.take();
        let expected = News { begun: Some(Some(8)), says: Some(true), ..News::of(Incarnation(2)) };
        assert_eq!(news.get(&web), Some(&expected));
        assert!(!inbox.put(&web, Incarnation(2), Vital::Ended), "who has taken something looks again");
        assert_eq!(inbox.take().len(), 1);
        assert!(inbox.take().is_empty());
        assert!(inbox.put(&web, Incarnation(3), Vital::Ended), "nothing was left: the next word rings");
    }
}
