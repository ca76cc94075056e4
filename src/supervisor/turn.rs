//! One turn of a supervisor: it hears what it was told since the last one, and does what follows.
//!
//! **Whose thread.** Most turns are the actor's, on the control plane. But whoever brings the word of an actor worker's
//! end stands on the worker plane with nothing else to do, and waking a thread for it, which then wakes that plane for
//! the start, takes longer than all the rest of a restart. Such a thread takes the turn itself. It changes nothing of what
//! is decided: the words are the same, in the same order, and one turn at a time is taken; what a turn starts runs where
//! it always does, since the control plane is entered for as long as it lasts. Measured side by side on two cores, that
//! made the restart of a panicked worker three times as quick.
//!
//! A turn that panics is a fault of ours. The one after it finds out, and the actor fails as if it had been its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::policy::Fact;

use super::actor::SupervisorState;
use super::line::Word;

/// Words that are heard in one turn, before others on the control plane have theirs: a quarter of a millisecond.
const TOGETHER: usize = 64;

/// An alarm this late is no matter of a busy moment.
const LATE: Duration = Duration::from_millis(500);

/// What waits to be read is read within this.
const HEAR_OUT: Duration = Duration::from_millis(200);

/// Whether everything was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing waits.
    All,
    /// There is more, and the actor was rung for it.
    More,
}

/// A turn has panicked, and nobody knows what it left undone.
#[derive(Debug, thiserror::Error)]
#[error("a turn of this supervisor has failed; this is a bug")]
pub(super) struct Broken;

/// Everything that a supervisor keeps, for whoever has its turn.
pub(crate) struct Desk {
    state: Mutex<SupervisorState>,
    control: Handle,
}

impl Desk {
    /// A desk on this control plane.
    pub(super) fn new(state: SupervisorState) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), control: Handle::current() })
    }

    /// Takes a turn, wherever it is called.
    pub(super) fn turn(&self) -> Result<Heard, Broken> {
        let _entered = self.control.enter();
        Ok(self.state.lock().map_err(|_| Broken)?.take_turn())
    }

    /// The actor has ended.
    pub(super) fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).disarm();
    }
}

impl SupervisorState {
    fn take_turn(&mut self) -> Heard {
        (self.now, self.at) = (self.plane.now(), Timestamp::now());
        let mut heard = 0;
        while heard < TOGETHER
            && let Some(word) = self.ear.next()
        {
            heard += 1;
            match word {
                Word::Message(message) => self.told(message),
                Word::Report(reported) => self.reported(reported),
            }
        }
        self.set_alarm();
        self.show();
        if heard < TOGETHER {
            return Heard::All;
        }
        self.ear.again();
        Heard::More
    }

    /// The alarm went off. If that is late, this process stood still: what came in time meanwhile, such as that a worker is
    /// ready, is heard before anybody is judged.
    pub(super) fn due(&mut self) {
        let due = self.alarm.take().map_or(self.now, |(due, _)| due);
        if self.now.saturating_sub(due) < LATE || std::mem::replace(&mut self.heard_out, true) {
            self.heard_out = false;
            return self.fact(Fact::Tick);
        }
        self.alarm_at(due, Instant::now() + HEAR_OUT);
    }
}
