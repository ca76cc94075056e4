//! An end, and the last words that come a moment after it.
//!
//! A restart never waits for output. Where the user has given names to failures by what they wrote (`[[error_class]]` with
//! `match`), the name decides what is done before the restart: then, and only then, an end is held until the last words
//! are there, or for a fifth of a second.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::exit::Exit;
use crate::id::Incarnation;
use crate::policy::{ChildKey, Fact, Phase};

use super::actor::{SupervisorMsg, SupervisorState};
use super::tree::Who;

/// So long at most. A worker that wrote nothing says no last words.
const PATIENCE: Duration = Duration::from_millis(200);

/// An end that is not told yet.
#[derive(Debug, Clone)]
pub(super) struct HeldEnd {
    incarnation: Incarnation,
    exit: Exit,
    /// What the runner said with a start that failed.
    failed: Option<Option<String>>,
}

impl SupervisorState {
    /// It ended by itself, or was asked to.
    pub(super) fn exited(&mut self, child: ChildKey, incarnation: Incarnation, exit: Exit) {
        self.end_comes(child, HeldEnd { incarnation, exit, failed: None });
    }

    /// It ended before it was ready.
    pub(super) fn start_failed(
        &mut self,
        child: ChildKey,
        incarnation: Incarnation,
        exit: Exit,
        hint: Option<String>,
    ) {
        self.end_comes(child, HeldEnd { incarnation, exit, failed: Some(hint) });
    }

    fn end_comes(&mut self, child: ChildKey, end: HeldEnd) {
        // A thread of somebody else's may bring the word of an end; those of processes come on our own.
        let Some(runtime) = Handle::try_current().ok().filter(|_| self.has_words_to_come(child)) else {
            return self.end_is_known(child, end, &[]);
        };
        let incarnation = end.incarnation;
        let own = self.ear.address();
        runtime.spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            // A supervisor that is gone has no use for it.
            let _ = own.send_message(SupervisorMsg::NoWords(child, incarnation));
        });
        if let Some(slot) = self.slot_mut(child) {
            slot.held = Some(Box::new(end));
        }
    }

    /// A process that was not asked to end, whose words may have a name.
    fn has_words_to_come(&self, child: ChildKey) -> bool {
        if !self.plane.healer.reads_words() {
            return false;
        }
        let Some(Who::Worker(instance)) = self.slot(child).map(|slot| &slot.who) else { return false };
        let is_process = self.plane.board.instance(instance).is_some_and(|entry| entry.kind == "process");
        let asked = self.core.child(child).is_some_and(|view| view.phase == Phase::Stopping);
        is_process && !asked
    }

    /// The last words are there, or there are none.
    pub(super) fn words_came(&mut self, child: ChildKey, incarnation: Incarnation, lines: &[String]) {
        let held =
            self.slot_mut(child).and_then(|slot| slot.held.take_if(|end| end.incarnation == incarnation));
        if let Some(end) = held {
            self.end_is_known(child, *end, lines);
        }
    }

    fn end_is_known(&mut self, child: ChildKey, end: HeldEnd, lines: &[String]) {
        let HeldEnd { incarnation, exit, failed } = end;
        let hint = failed.clone().flatten();
        self.classify(child, incarnation, &exit, hint.iter().chain(lines).cloned().collect());
        match failed {
            Some(hint) => {
                self.hint(child, incarnation, hint);
                self.fact(Fact::StartFailed { child, incarnation, exit });
            }
            None => self.fact(Fact::Exited { child, incarnation, exit }),
        }
    }
}
