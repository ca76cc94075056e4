//! What helped against which failure, and what to try first next time.
//!
//! For every class of failure and every strategy the outcomes and their cost in seconds are kept, and fade: the
//! world changes, and what was right last month may be wrong now. The order of the allowed steps is drawn by
//! Thompson sampling: each strategy's chance of success is sampled from what is known of it, so that one that is
//! hardly known is tried now and then, and one that is known to be good nearly always. Success is weighed against
//! its cost in measured seconds.
//!
//! ```text
//! dice       random numbers that a seed repeats       outcomes  what is known of one strategy, fading
//! knowledge  all of it, and the choice                advice    patterns, as TOML to paste
//! ```
//!
//! Two limits are not this room's to widen: it chooses among what it is given (the ladder's steps that are allowed
//! now), and on critical workers it never explores: they get the best known, not a sample.

mod advice;
mod dice;
mod knowledge;
mod outcomes;

pub use advice::{Advice, Case, advise};
pub use dice::Dice;
pub use knowledge::{Candidate, Choice, Knowledge, Known, Look};
pub use outcomes::{Outcomes, wilson};
