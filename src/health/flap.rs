//! Flap damping: who changes between well and not well again and again is not well in between.

use std::collections::VecDeque;
use std::time::Duration;

type Time = Duration;

/// Changes are counted over this long.
const WINDOW: Duration = Duration::from_secs(300);
/// So many changes in it, and it flaps.
const BEGINS: usize = 6;
/// So few, and it has calmed down.
const ENDS: usize = 2;

/// The changes of one incarnation between healthy and not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flap {
    changes: VecDeque<Time>,
    well: Option<bool>,
    flaps: bool,
}

impl Flap {
    /// How it is now, without damping. Whether it flaps.
    pub fn see(&mut self, own: Time, well: bool) -> bool {
        if self.well.replace(well).is_some_and(|before| before != well) {
            if self.changes.len() > BEGINS {
                self.changes.pop_front();
            }
            self.changes.push_back(own);
        }
        while self.changes.front().is_some_and(|at| own.saturating_sub(*at) >= WINDOW) {
            self.changes.pop_front();
        }
        self.flaps = match self.flaps {
            true => self.changes.len() > ENDS,
            false => self.changes.len() >= BEGINS,
        };
        self.flaps
    }

    /// Changes in the window.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes.len()
    }
}
