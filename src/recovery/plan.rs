//! One step, spelled out before it is taken: what `recover --dry-run` prints.

use std::fmt;
use std::time::Duration;

use super::strategy::Strategy;
use crate::units::format_duration;

/// One thing that will be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanLine {
    /// What can be seen of it is written down first.
    Evidence {
        /// At most this long.
        within: Duration,
    },
    /// Siblings that are stopped with it, last first.
    StopSiblings {
        /// Their ids.
        who: Vec<String>,
    },
    /// Asked to end.
    Ask {
        /// The signal's name; `None` for an actor.
        signal: Option<String>,
        /// Killed after this long.
        patience: Duration,
    },
    /// Killed with its whole tree.
    Kill,
    /// Something else is done.
    Do {
        /// In words, without secrets.
        what: String,
        /// Given up after this long.
        timeout: Duration,
    },
    /// Its directory is put away.
    Archive {
        /// As many old ones are kept.
        keep: u32,
    },
    /// Its directory is put away as another identity's.
    Recreate {
        /// As many old ones are kept.
        keep: u32,
    },
    /// Started again.
    Start {
        /// Which start of it this is.
        incarnation: u64,
        /// Ready within this time.
        ready_within: Duration,
    },
    /// Siblings that are started with it, first first.
    StartSiblings {
        /// Their ids.
        who: Vec<String>,
    },
    /// Well for this long.
    Verify {
        /// How long.
        hold: Duration,
    },
    /// Left down, and tried again later.
    Park {
        /// When; `None`: by hand only.
        retry: Option<Duration>,
    },
    /// It cannot be done, and why.
    Impossible {
        /// In words.
        reason: String,
    },
}

/// A step with no choice left in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Plan {
    /// To whom.
    pub instance: String,
    /// What.
    pub strategy: Strategy,
    /// How.
    pub lines: Vec<PlanLine>,
}

impl fmt::Display for PlanLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evidence { within } => {
                write!(f, "write down what can be seen of it, for at most {}", format_duration(*within))
            }
            Self::StopSiblings { who } => write!(f, "stop with it, in this order: {}", who.join(", ")),
            Self::Ask { signal: Some(signal), patience } => {
                let patience = format_duration(*patience);
                write!(f, "send {signal} to it, and kill its whole process tree after {patience}")
            }
            Self::Ask { signal: None, patience } => {
                write!(f, "ask it to stop, and end it after {}", format_duration(*patience))
            }
            Self::Kill => f.write_str("kill its whole process tree at once"),
            Self::Do { what, timeout } => write!(f, "{what}, for at most {}", format_duration(*timeout)),
            Self::Archive { keep } => {
                write!(
                    f,
                    "put its state away ({keep} old ones are kept; `regrow state restore` brings one back)"
                )
            }
            Self::Recreate { keep } => {
                write!(
                    f,
                    "begin a new identity: no state and no restarts behind it; what the old one kept is put away ({keep} \
                     old ones are kept; `regrow state restore` brings one back by its name only)"
                )
            }
            Self::Start { incarnation, ready_within } => {
                write!(
                    f,
                    "start incarnation {incarnation}, to be ready within {}",
                    format_duration(*ready_within)
                )
            }
            Self::StartSiblings { who } => write!(f, "start after it, in this order: {}", who.join(", ")),
            Self::Verify { hold } => write!(f, "watch it: it must be well for {}", format_duration(*hold)),
            Self::Park { retry: Some(retry) } => {
                write!(f, "leave it down, and try it again in {}", format_duration(*retry))
            }
            Self::Park { retry: None } => {
                f.write_str("leave it down until somebody says `regrow reset-failed`")
            }
            Self::Impossible { reason } => write!(f, "nothing: {reason}"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {}:", self.strategy, self.instance)?;
        for (line, n) in self.lines.iter().zip(1u32..) {
            writeln!(f, "  {n}. {line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_like_a_list_of_what_will_happen() {
        let plan = Plan {
            instance: "parser/1".to_owned(),
            strategy: Strategy::SoftRestart,
            lines: vec![
                PlanLine::Evidence { within: Duration::from_secs(2) },
                PlanLine::Ask { signal: Some("TERM".to_owned()), patience: Duration::from_secs(10) },
                PlanLine::Start { incarnation: 8, ready_within: Duration::from_secs(30) },
                PlanLine::Verify { hold: Duration::from_secs(10) },
            ],
        };
        assert_eq!(
            plan.to_string(),
            "soft_restart of parser/1:\n  1. write down what can be seen of it, for at most 2s\n  2. send TERM to it, \
             and kill its whole process tree after 10s\n  3. start incarnation 8, to be ready within 30s\n  4. watch it: \
             it must be well for 10s\n"
        );
    }
}
