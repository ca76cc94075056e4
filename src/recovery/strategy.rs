//! What can be done about a sick worker.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Name;

/// A recovery strategy: one of the contract's, or the user's own by its name.
///
/// ```
/// use regrow::recovery::Strategy;
/// assert_eq!(Strategy::parse("graceful_restart").unwrap(), Strategy::SoftRestart);
/// assert_eq!(Strategy::parse("flush-cache").unwrap().to_string(), "flush-cache");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// Asked to end, then started again.
    SoftRestart,
    /// Killed with its whole tree, then started again.
    HardRestart,
    /// Stopped, its state archived, started afresh.
    Reset,
    /// Stopped, and a new one with nothing of the old in its place.
    Recreate,
    /// One more instance.
    ScaleUp,
    /// One instance less.
    ScaleDown,
    /// Its connections made anew while it runs.
    ConnectionReset,
    /// Its memory trimmed while it runs.
    MemoryCleanup,
    /// Stopped and parked.
    Quarantine,
    /// `[strategy.NAME]`.
    Own(Name),
}

/// How a strategy is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Stop (or kill) and start.
    Restart {
        /// Without asking first.
        kill: bool,
    },
    /// Stop, something done while it is down, start.
    WhileDown,
    /// Something done while it runs. `down`: it makes sense on one that is down, too.
    WhileUp {
        /// Whether it may be done while the worker is down.
        down: bool,
    },
    /// Stop, and leave it.
    Park,
}

impl Strategy {
    /// Those that the contract names, in its order.
    pub const KNOWN: [Self; 9] = [
        Self::SoftRestart,
        Self::HardRestart,
        Self::Reset,
        Self::Recreate,
        Self::ScaleUp,
        Self::ScaleDown,
        Self::ConnectionReset,
        Self::MemoryCleanup,
        Self::Quarantine,
    ];

    /// The strategy with this name, a synonym's included; any other name is that of one's own. `None`: no name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = match text {
            "restart" | "graceful_restart" => "soft_restart",
            "emergency" => "hard_restart",
            "scale_recovery" => "scale_up",
            other => other,
        };
        let known = Self::KNOWN.into_iter().find(|known| known.word() == text);
        known.or_else(|| Name::try_new(text).ok().map(Self::Own))
    }

    /// Its name.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::SoftRestart => "soft_restart",
            Self::HardRestart => "hard_restart",
            Self::Reset => "reset",
            Self::Recreate => "recreate",
            Self::ScaleUp => "scale_up",
            Self::ScaleDown => "scale_down",
            Self::ConnectionReset => "connection_reset",
            Self::MemoryCleanup => "memory_cleanup",
            Self::Quarantine => "quarantine",
            Self::Own(name) => name.as_str(),
        }
    }

    /// How it is carried out.
    #[must_use]
    pub fn way(&self) -> Way {
        match self {
            Self::SoftRestart => Way::Restart { kill: false },
            Self::HardRestart => Way::Restart { kill: true },
            Self::Reset | Self::Recreate => Way::WhileDown,
            Self::ConnectionReset | Self::MemoryCleanup => Way::WhileUp { down: false },
            // Others of the pool are started or stopped, whether it runs or not.
            Self::ScaleUp | Self::ScaleDown | Self::Own(_) => Way::WhileUp { down: true },
            Self::Quarantine => Way::Park,
        }
    }

    /// Whether it is a restart and nothing more.
    #[must_use]
    pub fn is_restart(&self) -> bool {
        matches!(self.way(), Way::Restart { .. })
    }

    /// Whether it changes how many instances there are.
    #[must_use]
    pub fn is_scaling(&self) -> bool {
        match self {
            Self::ScaleUp | Self::ScaleDown => true,
            Self::SoftRestart
            | Self::HardRestart
            | Self::Reset
            | Self::Recreate
            | Self::ConnectionReset
            | Self::MemoryCleanup
            | Self::Quarantine
            | Self::Own(_) => false,
        }
    }

    /// Whether it takes something away for good; taken only where the ladder has come to it.
    #[must_use]
    pub fn is_destructive(&self) -> bool {
        match self {
            Self::Reset | Self::Recreate | Self::ScaleDown | Self::Quarantine => true,
            Self::SoftRestart
            | Self::HardRestart
            | Self::ScaleUp
            | Self::ConnectionReset
            | Self::MemoryCleanup
            | Self::Own(_) => false,
        }
    }

    /// Whether it needs a worker that still listens.
    #[must_use]
    pub fn is_soft(&self) -> bool {
        match self {
            Self::SoftRestart | Self::ConnectionReset | Self::MemoryCleanup => true,
            Self::HardRestart
            | Self::Reset
            | Self::Recreate
            | Self::ScaleUp
            | Self::ScaleDown
            | Self::Quarantine
            | Self::Own(_) => false,
        }
    }
}

impl Strategy {
    /// The name of one of the user's own.
    #[must_use]
    pub fn own(&self) -> Option<&Name> {
        match self {
            Self::Own(name) => Some(name),
            Self::SoftRestart
            | Self::HardRestart
            | Self::Reset
            | Self::Recreate
            | Self::ScaleUp
            | Self::ScaleDown
            | Self::ConnectionReset
            | Self::MemoryCleanup
            | Self::Quarantine => None,
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Serialize for Strategy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Strategy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no strategy; names are a-z 0-9 - _"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_reads_back_and_so_do_the_synonyms() {
        for strategy in Strategy::KNOWN {
            assert_eq!(Strategy::parse(strategy.word()), Some(strategy.clone()));
        }
        for (synonym, meant) in [
            ("restart", Strategy::SoftRestart),
            ("graceful_restart", Strategy::SoftRestart),
            ("emergency", Strategy::HardRestart),
            ("scale_recovery", Strategy::ScaleUp),
        ] {
            assert_eq!(Strategy::parse(synonym), Some(meant));
        }
        assert_eq!(Strategy::parse("Not a name"), None);
    }
}
