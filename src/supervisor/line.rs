//! The way to a supervisor: one queue for everything it is told, and one bell that wakes its actor.
//!
//! An actor that is woken for every message spends more on waking than on a restart. So what is told waits in a queue
//! of its own, in the order in which it came, and the actor is rung once for all that has come since it last looked.
//! The order is what rests on it: a retry without delay goes behind everything that was said before it (R22).
//!
//! Where the bell would have to wake a thread, and the one who speaks has time, it takes the turn itself instead
//! ([`super::turn`]): who finds the bell silent is the only one, until nothing waits any more.
//!
//! The queue is there before the actor is, and what is said meanwhile waits in it. It ends with the actor's state:
//! what still waits then is dropped, and with it the askers' ends of their questions.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ractor::{Actor, ActorRef, SpawnErr};

use crate::id::Incarnation;
use crate::policy::ChildKey;
use crate::worker::{Reporter, WorkerReport};

use super::actor::{SupervisorActor, SupervisorArguments, SupervisorMsg};
use super::turn::Desk;

/// Room for words that is kept; what ten thousand crashes at once have made is given back.
const ROOM: usize = 1024;

/// There is something in the queue.
pub(crate) struct Rung;

/// The supervisor is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// One word of a child's runner.
pub(super) struct Reported {
    pub(super) child: ChildKey,
    /// Whose: a child's place is used again.
    pub(super) seat: u64,
    pub(super) incarnation: Incarnation,
    pub(super) report: WorkerReport,
}

/// What waits in the queue.
pub(super) enum Word {
    Message(SupervisorMsg),
    Report(Reported),
}

/// The address of a supervisor; cheap to clone.
#[derive(Clone)]
pub(crate) struct Address(Arc<Line>);

#[derive(Default)]
struct Line {
    queue: Mutex<Queue>,
    bell: OnceLock<ActorRef<Rung>>,
    /// What the actor keeps, for as long as it lives.
    desk: OnceLock<Weak<Desk>>,
}

/// The ways in which the runner of a child reports.
pub(super) struct Reporters {
    line: Address,
    child: ChildKey,
    seat: u64,
}

impl Reporters {
    /// Says something for the child: what runs it does not.
    pub(super) fn report(&self, incarnation: Incarnation, report: WorkerReport) {
        let Self { ref line, child, seat } = *self;
        // A supervisor that is gone has ended the child, and wants to know nothing of it; so below.
        let _ = line.put(Word::Report(Reported { child, seat, incarnation, report }));
    }

    /// Rings.
    pub(super) fn ringing(&self) -> Reporter {
        let own = Self { line: self.line.clone(), ..*self };
        Arc::new(move |incarnation, report| own.report(incarnation, report))
    }

    /// Sees to it that what follows is done, on this thread.
    pub(super) fn doing(&self) -> Reporter {
        let Self { line, child, seat } = Self { line: self.line.clone(), ..*self };
        Arc::new(move |incarnation, report| {
            let word = Word::Report(Reported { child, seat, incarnation, report });
            if line.0.push(word).is_ok_and(|silent| silent) {
                line.0.attend();
            }
        })
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Word>,
    /// The actor knows that something waits.
    rung: bool,
    closed: bool,
}

impl Address {
    /// Brings a supervisor into being.
    pub(crate) async fn spawn(arguments: SupervisorArguments) -> Result<Self, SpawnErr> {
        let address = Self(Arc::default());
        SupervisorActor::spawn(None, SupervisorActor, (arguments, address.clone())).await?;
        Ok(address)
    }

    /// Says something. It is heard unless the supervisor ends before.
    pub(crate) fn send_message(&self, message: SupervisorMsg) -> Result<(), Gone> {
        self.put(Word::Message(message))
    }

    /// Where the runner of a child reports to.
    pub(super) fn reporters(&self, child: ChildKey, seat: u64) -> Reporters {
        Reporters { line: self.clone(), child, seat }
    }

    /// From now on others may take its turns.
    pub(super) fn settle(&self, desk: &Arc<Desk>) {
        // An actor starts once.
        let _ = self.0.desk.set(Arc::downgrade(desk));
    }

    /// The end of the line that the actor keeps.
    pub(super) fn listen(self, bell: ActorRef<Rung>) -> Ear {
        // An actor starts once.
        let _ = self.0.bell.set(bell);
        let ear = Ear { line: self.0, taken: VecDeque::new() };
        if ear.line.lock().rung {
            ear.line.ring();
        }
        ear
    }

    fn put(&self, word: Word) -> Result<(), Gone> {
        if self.0.push(word)? {
            self.0.ring();
        }
        Ok(())
    }

    /// Ends its actor as if it had failed.
    #[cfg(test)]
    pub(super) fn kill(&self) {
        if let Some(bell) = self.0.bell.get() {
            bell.kill();
        }
    }

    /// Ends its actor between two turns.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        if let Some(bell) = self.0.bell.get() {
            bell.stop(None);
        }
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a word at the end. True: the bell was silent, and whoever put it there must see to it.
    fn push(&self, word: Word) -> Result<bool, Gone> {
        let mut queue = self.lock();
        if queue.closed {
            return Err(Gone);
        }
        queue.waiting.push_back(word);
        Ok(!std::mem::replace(&mut queue.rung, true))
    }

    /// Takes the actor's turn. One that fails is the actor's, which is told by the next.
    fn attend(&self) {
        let desk = self.desk.get().and_then(Weak::upgrade);
        let turn = desk.map(|desk| catch_unwind(AssertUnwindSafe(|| desk.turn())));
        match turn {
            Some(Ok(Ok(_))) => {}
            Some(Ok(Err(_)) | Err(_)) | None => self.ring(),
        }
    }

    /// Before the actor is there it needs no bell: it looks first of all.
    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            // One that ends just now closes the queue itself.
            let _ = bell.send_message(Rung);
        }
    }
}

/// Where a supervisor hears what it is told.
pub(super) struct Ear {
    line: Arc<Line>,
    /// Taken over from the queue at once, so that who speaks waits for nobody.
    taken: VecDeque<Word>,
}

impl Ear {
    /// Where others speak.
    pub(super) fn address(&self) -> Address {
        Address(Arc::clone(&self.line))
    }

    /// Nothing is to be heard any more: the actor ends.
    pub(super) fn close(&self) {
        if let Some(bell) = self.line.bell.get() {
            bell.stop(None);
        }
    }

    /// Asks for another turn: there may be more.
    pub(super) fn again(&self) {
        self.line.ring();
    }

    /// The next word; once there is none, the next one that comes rings.
    pub(super) fn next(&mut self) -> Option<Word> {
        if let Some(word) = self.taken.pop_front() {
            return Some(word);
        }
        if self.taken.capacity() > ROOM {
            self.taken = VecDeque::new();
        }
        let mut queue = self.line.lock();
        if queue.waiting.is_empty() {
            queue.rung = false;
            return None;
        }
        std::mem::swap(&mut queue.waiting, &mut self.taken);
        drop(queue);
        self.taken.pop_front()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let mut queue = self.line.lock();
        queue.closed = true;
        let left = std::mem::take(&mut queue.waiting);
        drop(queue);
        // Who waits for an answer learns here that there is none.
        drop(left);
    }
}
