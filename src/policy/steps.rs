//! Small steps that every rule uses: changing a state, arming a deadline, answering who waits.

use std::time::Duration;

use crate::exit::Exit;

use super::action::{Action, Done, Refused, Reply};
use super::child::{Ask, Child, State, Wait};
use super::fact::{ChildKey, RequestId};
use super::machine::{Boot, Later, Supervisor};
use super::spec::{OnExhausted, RestartStrategy, Time};

impl Supervisor {
    pub(super) fn boot_is_over(&mut self) {
        if self.boot == Boot::UnderWay {
            self.boot = Boot::Over;
        }
    }

    pub(super) fn escalates(&self) -> bool {
        self.spec.on_exhausted == OnExhausted::Escalate
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self.spec.strategy, RestartStrategy::OneForAll | RestartStrategy::RestForOne)
    }

    pub(super) fn is_simple(&self) -> bool {
        self.spec.strategy == RestartStrategy::SimpleOneForOne
    }

    /// The only place where a child's state changes: counts, times and the list of changes follow.
    pub(super) fn set(&mut self, key: ChildKey, state: State) {
        let now = self.now;
        let Some(child) = self.roster.get_mut(key) else { return };
        self.waiting -= usize::from(child.waits_for().is_some());
        let phase = child.phase();
        let ran = matches!(child.state, State::Running | State::Ended { .. });
        let taken_down = ran && !matches!(state, State::Running | State::Ended { .. });
        child.state = state;
        self.waiting += usize::from(child.waits_for().is_some());
        if child.phase() != phase {
            child.since = now;
        }
        let asked = !child.asks.is_empty();
        if child.waits_without_end() {
            self.give_back(key, false);
        }
        self.touch(key);
        if asked {
            self.answer_who_would_wait_long(key);
        }
        if taken_down {
            self.note_taken_down(key);
        }
    }

    /// Whoever asked for a start hears at once when the child is held back, because the wait may be long, and
    /// when it will not be started at all.
    fn answer_who_would_wait_long(&mut self, key: ChildKey) {
        let reply = match self.roster.get(key).map(|child| &child.state) {
            Some(State::Waiting(Wait::Sibling(_) | Wait::Held | Wait::Paused)) => Ok(Done::Ok),
            Some(State::Stopped | State::Done | State::Parked { .. }) => {
                Err(Refused::StartFailed(Exit::Stopped))
            }
            Some(
                State::Waiting(Wait::Turn)
                | State::Backoff { .. }
                | State::Starting { .. }
                | State::Running
                | State::Stopping { .. }
                | State::Ended { .. },
            )
            | None => return,
        };
        self.answer_up(key, &reply);
    }

    /// Notes that people may see something new of it.
    pub(super) fn touch(&mut self, key: ChildKey) {
        let Some(child) = self.roster.get_mut(key) else { return };
        if !std::mem::replace(&mut child.touched, true) {
            self.touched.push(key);
        }
    }

    /// Arms or clears its deadline.
    pub(super) fn due(&mut self, key: ChildKey, at: Option<Time>) {
        self.timers.set(key.slot(), at);
    }

    pub(super) fn after_now(&self, wait: Duration) -> Time {
        self.now.checked_add(wait).unwrap_or(Time::MAX)
    }

    /// Down, and its deadline with it.
    pub(super) fn rest(&mut self, key: ChildKey, state: State) {
        self.due(key, None);
        self.set(key, state);
    }

    pub(super) fn resume_later(&mut self, child: ChildKey) {
        self.later.push_back(Later::Resume(child));
    }

    /// The child and its slot are gone.
    pub(super) fn remove(&mut self, key: ChildKey) {
        self.interrupt(key, "it is gone");
        self.release(key);
        self.procedure.leave(key, &self.roster);
        self.rest(key, State::Stopped);
        self.answer_down(key);
        self.pauses.clear(key.slot());
        self.cares.clear(key.slot());
        if let Some(child) = self.roster.remove(key) {
            self.out.push(Action::Removed { child: key });
            if let Some(id) = child.leaving {
                self.departed(id, 1);
            }
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.out.push(Action::Reply { id, reply });
    }

    /// Answers who waits for it to be down.
    pub(super) fn answer_down(&mut self, key: ChildKey) {
        self.answer(key, &Ok(Done::Ok), |ask| matches!(ask, Ask::Down(_)));
    }

    /// Answers who waits for a start of it.
    pub(super) fn answer_up(&mut self, key: ChildKey, reply: &Reply) {
        self.answer(key, reply, |ask| matches!(ask, Ask::Up(_)));
    }

    fn answer(&mut self, key: ChildKey, reply: &Reply, which: impl Fn(&Ask) -> bool) {
        let Some(child) = self.roster.get_mut(key) else { return };
        for ask in &child.asks {
            let (Ask::Up(id) | Ask::Down(id)) = *ask;
            if which(ask) {
                self.out.push(Action::Reply { id, reply: reply.clone() });
            }
        }
        child.asks.retain(|ask| !which(ask));
    }

    /// Those who waited for it wait for their turn instead.
    pub(super) fn release(&mut self, key: ChildKey) {
        let waiting = self.waiting_for(key);
        if !waiting.is_empty() {
            self.later.push_back(Later::Run);
        }
        for other in waiting {
            self.set(other, State::Waiting(Wait::Turn));
        }
    }

    /// Who waits for this child; free of cost while nobody waits for anybody.
    pub(super) fn waiting_for(&self, key: ChildKey) -> Vec<ChildKey> {
        if self.waiting == 0 {
            return Vec::new();
        }
        let waits = |other: &ChildKey| self.roster.get(*other).and_then(Child::waits_for) == Some(key);
        self.roster.keys().filter(waits).collect()
    }
}
