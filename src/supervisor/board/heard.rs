//! What an instance left behind at its last end, and what it says of itself while it runs.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::id::{Incarnation, InstanceId};

/// How the last incarnation ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastExit {
    /// How.
    pub exit: Exit,
    /// The code it ended with, where there is one, also if it ended as it was asked to.
    pub code: Option<i32>,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// For people: the end in words and the last line of output.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// The stack of a panic, where one was walked.
    pub backtrace: Option<Arc<str>>,
}

impl LastExit {
    /// The stack of a panic is there. Walking one takes longer than a restart, so an incarnation that ended in the same
    /// way may have gone meanwhile, and its own was not walked.
    fn stack_came(&mut self, of: Incarnation, led_to: &Exit, text: &str) {
        if self.incarnation == of {
            self.backtrace = Some(Arc::from(text));
        } else if self.backtrace.is_none() && self.exit.itself() == led_to.itself() {
            self.backtrace = Some(lent(of, text));
        }
    }

    /// The stack for a later end, if that is the same.
    pub(super) fn lends_stack(&self, later: &Exit) -> Option<Arc<str>> {
        let own = self.backtrace.as_ref().filter(|_| self.exit.itself() == later.itself())?;
        Some(if own.starts_with(LENT) { Arc::clone(own) } else { lent(self.incarnation, own) })
    }
}

/// How a stack begins that was walked in an earlier incarnation.
const LENT: &str = "as in incarnation ";

fn lent(of: Incarnation, text: &str) -> Arc<str> {
    format!("{LENT}{of}, which ended in the same way:\n{text}").into()
}

impl super::Board {
    /// The stack of the panic that ended this incarnation.
    pub(in super::super) fn stack_came(
        &self,
        instance: &InstanceId,
        of: Incarnation,
        led_to: &Exit,
        text: &str,
    ) {
        self.update(instance, |entry| {
            if let Some(last) = &mut entry.last_exit {
                last.stack_came(of, led_to, text);
            }
        });
    }
}

/// What the incarnation that runs has told over its own socket.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// How far it is, in a measure of its own.
    pub progress: Option<f64>,
    /// Figures by name, as it told them last.
    pub figures: Vec<(String, f64)>,
    /// What went wrong in it last.
    pub trouble: Option<Trouble>,
    /// How often something did.
    pub troubles: u64,
}

/// Something that went wrong in a worker, by its own word.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// The class that it gave it.
    pub class: Option<String>,
    /// In words.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.class {
            Some(class) if self.message.is_empty() => f.write_str(class),
            Some(class) => write!(f, "{class}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(incarnation: u64, message: &str) -> LastExit {
        LastExit {
            exit: Exit::Panicked { message: message.to_owned() },
            code: None,
            incarnation: Incarnation(incarnation),
            message: String::new(),
            at: Timestamp::UNIX_EPOCH,
            backtrace: None,
        }
    }

    #[test]
    fn the_stack_of_an_end_that_came_too_late_stands_for_the_same_end() {
        let mut last = end(3, "a at x.rs:1");
        last.stack_came(Incarnation(2), &end(2, "b at x.rs:2").exit, "other");
        assert_eq!(last.backtrace, None, "another end");
        last.stack_came(Incarnation(1), &end(1, "a at x.rs:1").exit, "frames");
        let lent = "as in incarnation 1, which ended in the same way:\nframes";
        assert_eq!(last.backtrace.as_deref(), Some(lent));
        assert_eq!(last.lends_stack(&end(4, "b at x.rs:2").exit), None);
        assert_eq!(last.lends_stack(&end(4, "a at x.rs:1").exit).as_deref(), Some(lent), "said once");
        last.stack_came(Incarnation(3), &last.exit.clone(), "own frames");
        assert_eq!(last.backtrace.as_deref(), Some("own frames"), "its own is better");
    }
}
