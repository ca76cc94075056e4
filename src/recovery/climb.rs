//! Which step of a ladder comes next, and why the others do not.
//!
//! A climb counts what was tried. It goes on over incidents that follow each other within `cooldown`, so that a
//! worker that falls ill again and again gets further up and does not begin anew each time; quiet time of that
//! length leads back to the first step. It never goes down otherwise, and it has an end: every attempt is counted,
//! so a ladder cannot loop.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::ladder::{Ladder, Step};
use super::strategy::{Strategy, Way};
use super::why::Why;

/// What a choice depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What is wrong.
    pub why: &'a Why,
    /// Whether it runs.
    pub up: bool,
    /// Whether it is so far gone that asking it is no use.
    pub deaf: bool,
    /// How many of it there are, where it is one of a pool.
    pub copies: Option<Copies>,
}

/// How many instances of a pool there are, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Now.
    pub now: u32,
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It is for other causes.
    OtherCause(Arc<str>),
    /// The worker cannot have it done.
    Unable(Arc<str>),
    /// It needs a worker that runs.
    Down,
    /// It needs a worker that listens.
    Deaf,
    /// The pool has as many instances as it may have.
    Full(u32),
    /// The pool has as few instances as it may have.
    Least(u32),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCause(cause) => write!(f, "it is not for {cause}"),
            Self::Unable(reason) => f.write_str(reason),
            Self::Down => f.write_str("it needs a worker that runs"),
            Self::Deaf => f.write_str("the worker has not answered for so long that asking it is no use"),
            Self::Full(max) => write!(f, "the pool has all of its {max} instances (pool.max)"),
            Self::Least(min) => write!(f, "the pool has no more than its least number, {min} (pool.min)"),
        }
    }
}

/// What may be done now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Places of steps: the one whose turn it is, then those that experience may prefer.
    pub allowed: SmallVec<[usize; 4]>,
    /// Steps that were passed over on the way.
    pub skipped: Vec<(usize, Skip)>,
}

/// How far up a ladder a worker is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Climb {
    used: SmallVec<[u32; 4]>,
    last: Option<Duration>,
}

impl Climb {
    /// After quiet time of `cooldown` the first step is the first again.
    pub fn settle(&mut self, ladder: &Ladder, now: Duration) {
        let quiet = self.last.is_some_and(|last| now.saturating_sub(last) >= ladder.cooldown);
        if quiet || self.used.len() > ladder.steps.len() {
            self.begin();
        }
    }

    /// The first step is the first again.
    pub fn begin(&mut self) {
        self.used.clear();
        self.last = None;
    }

    /// A step is taken.
    pub fn take(&mut self, place: usize, now: Duration) {
        if self.used.len() <= place {
            self.used.resize(place + 1, 0);
        }
        self.used[place] = self.used[place].saturating_add(1);
        self.last = Some(now);
    }

    /// Something of the climb was still going on.
    pub fn touch(&mut self, now: Duration) {
        if self.last.is_some() {
            self.last = Some(now);
        }
    }

    /// How often a step was taken.
    #[must_use]
    pub fn used(&self, place: usize) -> u32 {
        self.used.get(place).copied().unwrap_or(0)
    }

    /// When the first step will be the first again, if nothing happens until then.
    #[must_use]
    pub fn anew_at(&self, ladder: &Ladder) -> Option<Duration> {
        self.last.map(|last| last.saturating_add(ladder.cooldown))
    }

    /// What may be done about a worker that is unwell: the step whose turn it is, and behind it every later one that
    /// takes nothing away for good.
    #[must_use]
    pub fn options(&self, ladder: &Ladder, now: &Situation<'_>) -> Options {
        let mut options = Options::default();
        for (place, step) in ladder.steps.iter().enumerate() {
            if self.used(place) >= step.attempts {
                continue;
            }
            match skip(step, now) {
                Some(skip) if options.allowed.is_empty() => options.skipped.push((place, skip)),
                Some(_) => {}
                None if options.allowed.is_empty() => options.allowed.push(place),
                None if step.run.is_destructive() || step.approval.is_some() => {}
                None => options.allowed.push(place),
            }
        }
        options
    }

    /// The first step with a `when` that names this cause and that `tried` does not have yet: it runs before the
    /// plain restart after an exit, once per incident, however often it ran in earlier ones. A restart is no such step,
    /// because one follows anyway.
    #[must_use]
    pub fn before_restart(&self, ladder: &Ladder, now: &Situation<'_>, tried: &[usize]) -> Option<usize> {
        self.down_steps(ladder, now, tried).find(|place| !ladder.steps[*place].when.is_empty())
    }

    /// The next step that is no restart and that `tried` does not have yet: what is left once restarts are spent. More or
    /// fewer of what cannot run heals none of them.
    #[must_use]
    pub fn beyond_restarts(&self, ladder: &Ladder, now: &Situation<'_>, tried: &[usize]) -> Option<usize> {
        self.down_steps(ladder, now, tried).find(|place| !ladder.steps[*place].run.is_scaling())
    }

    fn down_steps<'a>(
        &'a self,
        ladder: &'a Ladder,
        now: &'a Situation<'a>,
        tried: &'a [usize],
    ) -> impl Iterator<Item = usize> + 'a {
        ladder.steps.iter().enumerate().filter_map(move |(place, step)| {
            let kind = !step.run.is_restart() && step.run != Strategy::Quarantine;
            let open = !tried.contains(&place);
            (kind && open && step.approval.is_none() && skip(step, now).is_none()).then_some(place)
        })
    }
}

fn skip(step: &Step, now: &Situation<'_>) -> Option<Skip> {
    if let Some(reason) = &step.unable {
        return Some(Skip::Unable(Arc::clone(reason)));
    }
    if !step.when.is_empty() && !now.why.is_named_in(&step.when) {
        return Some(Skip::OtherCause(now.why.word().into()));
    }
    if let Some(skip) = now.copies.and_then(|copies| copies.bound(&step.run)) {
        return Some(skip);
    }
    match step.run.way() {
        Way::WhileUp { down: false } if !now.up => Some(Skip::Down),
        Way::WhileUp { .. } | Way::Restart { .. } if now.deaf && step.run.is_soft() => Some(Skip::Deaf),
        Way::WhileUp { .. } | Way::Restart { .. } | Way::WhileDown | Way::Park => None,
    }
}

impl Copies {
    /// Why a step cannot change their number.
    #[must_use]
    pub fn bound(self, run: &Strategy) -> Option<Skip> {
        match run {
            Strategy::ScaleUp => (self.now >= self.max).then_some(Skip::Full(self.max)),
            Strategy::ScaleDown => (self.now <= self.min).then_some(Skip::Least(self.min)),
            Strategy::SoftRestart
            | Strategy::HardRestart
            | Strategy::Reset
            | Strategy::Recreate
            | Strategy::ConnectionReset
            | Strategy::MemoryCleanup
            | Strategy::Quarantine
            | Strategy::Own(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cause::Cause;
    use crate::recovery::Strategy;

    const NOW: Duration = Duration::from_secs(100);

    fn ladder(steps: impl IntoIterator<Item = Step>) -> Ladder {
        Ladder { steps: steps.into_iter().collect(), ..Ladder::default() }
    }

    fn climb_all(ladder: &Ladder, now: &Situation<'_>) -> Vec<usize> {
        let (mut climb, mut taken) = (Climb::default(), Vec::new());
        while let Some(place) = climb.options(ladder, now).allowed.first().copied() {
            climb.take(place, NOW);
            taken.push(place);
        }
        taken
    }

    #[test]
    fn the_default_ladder_asks_three_times_kills_twice_and_parks() {
        let why = Why::new(Cause::Hang, "lost");
        assert_eq!(
            climb_all(&Ladder::default(), &Situation { why: &why, up: true, deaf: false, copies: None }),
            [0, 0, 0, 1, 1, 2]
        );
        assert_eq!(
            climb_all(&Ladder::default(), &Situation { why: &why, up: true, deaf: true, copies: None }),
            [1, 1, 2]
        );
    }

    #[test]
    fn a_step_that_cannot_apply_is_skipped_with_its_reason() {
        let when: Arc<[Arc<str>]> = Arc::new(["queue_lost".into()]);
        let ladder = ladder([
            Step { when, ..Step::new(Strategy::ConnectionReset) },
            Step {
                unable: Some("there is no on.memory_cleanup".into()),
                ..Step::new(Strategy::MemoryCleanup)
            },
            Step::new(Strategy::SoftRestart),
        ]);
        let why = Why::new(Cause::Hang, "lost");
        let options =
            Climb::default().options(&ladder, &Situation { why: &why, up: true, deaf: false, copies: None });
        assert_eq!(options.allowed.as_slice(), [2]);
        let reasons: Vec<String> = options.skipped.iter().map(|(_, skip)| skip.to_string()).collect();
        assert_eq!(reasons, ["it is not for hang", "there is no on.memory_cleanup"]);
    }

    #[test]
    fn experience_never_reaches_what_the_ladder_has_not_come_to() {
        let ladder = ladder([
            Step::new(Strategy::SoftRestart),
            Step::new(Strategy::Reset),
            Step::new(Strategy::HardRestart),
            Step::new(Strategy::Quarantine),
        ]);
        let why = Why::new(Cause::Hang, "lost");
        let now = Situation { why: &why, up: true, deaf: false, copies: None };
        let mut climb = Climb::default();
        assert_eq!(climb.options(&ladder, &now).allowed.as_slice(), [0, 2]);
        climb.take(0, NOW);
        assert_eq!(climb.options(&ladder, &now).allowed.as_slice(), [1, 2]);
    }

    #[test]
    fn quiet_time_leads_back_to_the_first_step() {
        let (ladder, mut climb) = (Ladder::default(), Climb::default());
        climb.take(0, NOW);
        climb.settle(&ladder, NOW + ladder.cooldown - Duration::from_millis(1));
        assert_eq!(climb.used(0), 1);
        climb.settle(&ladder, NOW + ladder.cooldown);
        assert_eq!(climb.used(0), 0);
    }

    #[test]
    fn steps_for_a_cause_run_before_the_restart_and_once() {
        let when: Arc<[Arc<str>]> = Arc::new(["broker_gone".into()]);
        let own = Step { when, ..Step::new(Strategy::parse("flush-cache").unwrap()) };
        let ladder = ladder([Step::new(Strategy::SoftRestart), own, Step::new(Strategy::Reset)]);
        let why = Why { class: Some("broker_gone".into()), ..Why::new(Cause::Crash, "70") };
        let now = Situation { why: &why, up: false, deaf: false, copies: None };
        let climb = Climb::default();
        assert_eq!(climb.before_restart(&ladder, &now, &[]), Some(1));
        assert_eq!(climb.before_restart(&ladder, &now, &[1]), None);
        assert_eq!(climb.beyond_restarts(&ladder, &now, &[1]), Some(2));
        assert_eq!(climb.beyond_restarts(&ladder, &now, &[1, 2]), None);
    }

    #[test]
    fn a_pool_grows_and_shrinks_within_its_bounds() {
        let ladder = ladder([Step::new(Strategy::ScaleUp), Step::new(Strategy::ScaleDown)]);
        let why = Why::new(Cause::Slow, "slow");
        let of =
            |now| Situation { why: &why, up: true, deaf: true, copies: Some(Copies { now, min: 1, max: 3 }) };
        let told = |now| {
            let options = Climb::default().options(&ladder, &of(now));
            let skipped = options.skipped.iter().map(|(_, skip)| skip.to_string()).collect::<Vec<_>>();
            (options.allowed.to_vec(), skipped.join(""))
        };
        assert_eq!(
            told(2),
            (vec![0], String::new()),
            "what shrinks it takes something away, and waits for its turn"
        );
        assert_eq!(told(3), (vec![1], "the pool has all of its 3 instances (pool.max)".to_owned()));
        assert_eq!(told(1), (vec![0], String::new()));
        let mut climb = Climb::default();
        climb.take(0, NOW);
        let options = climb.options(&ladder, &of(1));
        assert!(options.allowed.is_empty());
        let reason = options.skipped[0].1.to_string();
        assert_eq!(reason, "the pool has no more than its least number, 1 (pool.min)");
    }

    #[test]
    fn a_number_is_changed_before_a_restart_for_its_cause_and_never_in_place_of_one() {
        let when: Arc<[Arc<str>]> = Arc::new(["oom".into()]);
        let ladder = ladder([Step { when, ..Step::new(Strategy::ScaleUp) }]);
        let why = Why::new(Cause::Oom, "killed");
        let now =
            Situation { why: &why, up: false, deaf: false, copies: Some(Copies { now: 1, min: 1, max: 2 }) };
        let climb = Climb::default();
        assert_eq!(climb.before_restart(&ladder, &now, &[]), Some(0));
        assert_eq!(climb.beyond_restarts(&ladder, &now, &[]), None);
    }

    proptest! {
        /// H6, and that it ends: in order, never down, never more often than allowed.
        #[test]
        fn a_ladder_is_climbed_in_order_and_has_an_end(
            kinds in prop::collection::vec((0usize..9, 0u32..4), 0..8), up: bool, deaf: bool,
        ) {
            let ladder = ladder(kinds.iter().map(|(k, n)| Step::new(Strategy::KNOWN[*k].clone()).times(*n)));
            let why = Why::new(Cause::Hang, "lost");
            let taken = climb_all(&ladder, &Situation { why: &why, up, deaf, copies: None });
            prop_assert!(taken.is_sorted());
            for (place, step) in ladder.steps.iter().enumerate() {
                let times = taken.iter().filter(|taken| **taken == place).count();
                prop_assert!(times == 0 || times == step.attempts as usize);
            }
        }
    }
}
