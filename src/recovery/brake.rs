//! A fleet that falls ill together is not restarted together.
//!
//! When a large part of all instances turns unwell within one window, the cause is hardly in each of them: the
//! network, a disk, a wrong probe, this machine. Restarting them all would turn a disturbance into an outage. The
//! brake then holds every ladder step but one, the canary's: if that one gets well, the steps helped and the others
//! follow; if it does not, the next canary waits for another window. The brake also bounds how many steps are under
//! way at once, and lets critical workers go first. It never holds a restart after an exit.
//!
//! Who is told to wait asks again: nothing here remembers a promise, so a lost answer costs one question.

use std::collections::BTreeMap;
use std::time::Duration;

/// `[recovery]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrakeLimits {
    /// Steps under way at once.
    pub max_parallel: u32,
    /// The part of all instances, 0 to 1, that may turn unwell in one window.
    pub max_unavailable: f64,
    /// Fewer than this are never a reason.
    pub min_failing: u32,
    /// The window.
    pub window: Duration,
}

impl Default for BrakeLimits {
    fn default() -> Self {
        Self { max_parallel: 4, max_unavailable: 0.5, min_failing: 5, window: Duration::from_secs(30) }
    }
}

/// The answer to «may I?».
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Yes.
    Go,
    /// Yes, and everybody waits for what comes of it.
    Canary,
    /// As many steps as may be are under way.
    Busy,
    /// A critical worker waits, too, and goes first.
    Critical,
    /// Others have waited for longer.
    Turn,
    /// Much of the fleet is ill, and one is being tried.
    Braked,
}

impl Leave {
    /// Whether the step may be taken.
    #[must_use]
    pub fn is_given(self) -> bool {
        matches!(self, Self::Go | Self::Canary)
    }

    /// Why not, in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Go => "it may go on",
            Self::Canary => "it may go on, as the only one",
            Self::Busy => "as many recoveries as `recovery.max_parallel` allows are under way",
            Self::Critical => "a critical worker goes first",
            Self::Turn => "others that have waited for longer go first",
            Self::Braked => "much of the fleet fell ill at once: one is tried, the others wait",
        }
    }
}

/// The brake went on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrakeChange {
    /// On: this many of so many fell ill within the window.
    On {
        /// How many.
        unwell: usize,
        /// Of how many.
        of: usize,
    },
    /// Off.
    Off,
}

/// One is unwell.
#[derive(Debug, Clone, Copy)]
struct Illness {
    /// Since when.
    since: Duration,
    /// When the incarnation ended that was; the one after it may be well, and nobody says so of one without checks.
    ended: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    critical: bool,
    since: Duration,
    asked: Duration,
}

impl Waiting {
    fn is_forgotten(&self, now: Duration) -> bool {
        now.saturating_sub(self.asked) >= FORGOTTEN
    }

    /// Who goes first: the critical ones, then who has waited for longest.
    fn rank(&self, who: u64) -> (bool, Duration, u64) {
        (!self.critical, self.since, who)
    }
}

/// Who asks and is not heard of for this long does not wait any more.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// The brake of one fleet. Instances are numbers here; the caller gives them.
#[derive(Debug, Clone)]
pub struct Brake {
    limits: BrakeLimits,
    /// Who is unwell.
    unwell: BTreeMap<u64, Illness>,
    /// How many there were when somebody was last judged.
    fleet: usize,
    waiting: BTreeMap<u64, Waiting>,
    under_way: BTreeMap<u64, Duration>,
    on: bool,
    canary: Option<u64>,
    next_canary: Duration,
}

impl Brake {
    /// A brake that is off.
    #[must_use]
    pub fn new(limits: BrakeLimits) -> Self {
        Self {
            limits,
            unwell: BTreeMap::new(),
            fleet: 0,
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
            on: false,
            canary: None,
            next_canary: Duration::ZERO,
        }
    }

    /// New limits.
    pub fn set_limits(&mut self, limits: BrakeLimits) {
        self.limits = limits;
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Steps under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// What is known of an instance's health. `fleet`: how many there are.
    pub fn judged(&mut self, now: Duration, who: u64, unwell: bool, fleet: usize) -> Option<BrakeChange> {
        self.fleet = fleet;
        self.forget_over(now);
        if unwell {
            // Whoever is so again within the window never got well.
            self.unwell.entry(who).or_insert(Illness { since: now, ended: None }).ended = None;
        } else {
            self.unwell.remove(&who);
        }
        self.weigh(now)
    }

    /// The incarnation of an instance has ended that its health was known of.
    pub fn over(&mut self, now: Duration, who: u64) {
        if let Some(illness) = self.unwell.get_mut(&who) {
            illness.ended.get_or_insert(now);
        }
    }

    /// Time alone may take it off: those who were unwell are gone, and nothing was heard of who came after them.
    pub fn settle(&mut self, now: Duration) -> Option<BrakeChange> {
        self.forget_over(now);
        if self.on { self.weigh(now) } else { None }
    }

    fn forget_over(&mut self, now: Duration) {
        let (window, canary) = (self.limits.window, self.canary);
        self.unwell.retain(|who, illness| {
            let over = illness.ended.is_some_and(|ended| now.saturating_sub(ended) >= window);
            !over || canary == Some(*who)
        });
    }

    /// An instance asks for leave to take a step.
    pub fn ask(&mut self, now: Duration, who: u64, critical: bool) -> Leave {
        let before = self.waiting.get(&who).filter(|waiting| !waiting.is_forgotten(now));
        let since = before.map_or(now, |waiting| waiting.since);
        let own = Waiting { critical, since, asked: now };
        self.waiting.insert(who, own);
        let answer = self.answer(now, who, own);
        if answer.is_given() {
            self.waiting.remove(&who);
            self.under_way.insert(who, now);
        }
        if answer == Leave::Canary {
            self.canary = Some(who);
        }
        answer
    }

    /// A step has come to its end.
    pub fn ended(&mut self, now: Duration, who: u64, held: bool) -> Option<BrakeChange> {
        self.under_way.remove(&who);
        self.waiting.remove(&who);
        if held {
            self.unwell.remove(&who);
        }
        if self.canary != Some(who) {
            return None;
        }
        self.canary = None;
        self.next_canary = now.saturating_add(self.limits.window);
        (held && std::mem::take(&mut self.on)).then(|| {
            // The others fell ill for the same reason; what healed one may be done to all.
            self.unwell.clear();
            BrakeChange::Off
        })
    }

    /// An instance is gone.
    pub fn forget(&mut self, now: Duration, who: u64) {
        self.unwell.remove(&who);
        let _ = self.ended(now, who, false);
    }

    fn answer(&mut self, now: Duration, who: u64, own: Waiting) -> Leave {
        if self.under_way.contains_key(&who) {
            return Leave::Go;
        }
        if self.on && (self.canary.is_some() || now < self.next_canary) {
            return Leave::Braked;
        }
        let most = usize::try_from(self.limits.max_parallel.max(1)).unwrap_or(usize::MAX);
        let free = most.saturating_sub(self.under_way.len());
        if free == 0 {
            return Leave::Busy;
        }
        self.waiting.retain(|_, waiting| !waiting.is_forgotten(now));
        if !own.critical && self.waiting.values().any(|waiting| waiting.critical) {
            return Leave::Critical;
        }
        // Who asks does so once a second: the place is theirs who have waited, not theirs who ask just now.
        let rank = own.rank(who);
        let before = self.waiting.iter().filter(|(other, waiting)| waiting.rank(**other) < rank).count();
        match (before >= if self.on { 1 } else { free }, self.on) {
            (true, _) => Leave::Turn,
            (false, true) => Leave::Canary,
            (false, false) => Leave::Go,
        }
    }

    fn weigh(&mut self, now: Duration) -> Option<BrakeChange> {
        let (since, fleet) = (now.saturating_sub(self.limits.window), self.fleet);
        let fresh = self.unwell.values().filter(|illness| illness.since >= since).count();
        if !self.on {
            let (on, unwell) = (self.is_too_many(fresh, fleet), fresh);
            self.on = on;
            return on.then_some(BrakeChange::On { unwell, of: fleet });
        }
        let over = !self.is_too_many(self.unwell.len(), fleet);
        self.on = !over;
        over.then(|| {
            self.canary = None;
            BrakeChange::Off
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a fleet has fewer than 2^52 instances")]
    fn is_too_many(&self, unwell: usize, fleet: usize) -> bool {
        let enough = unwell as u64 >= u64::from(self.limits.min_failing.max(1));
        enough && unwell as f64 > self.limits.max_unavailable * fleet as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn four_recover_at_once_and_the_fifth_waits() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..4 {
            assert_eq!(brake.ask(at(1), who, false), Leave::Go);
        }
        assert_eq!(brake.ask(at(1), 4, false), Leave::Busy);
        let _ = brake.ended(at(2), 0, true);
        assert_eq!(brake.ask(at(3), 4, false), Leave::Go);
    }

    #[test]
    fn a_critical_worker_that_waits_goes_before_everybody_else() {
        let mut brake = Brake::new(BrakeLimits { max_parallel: 1, ..BrakeLimits::default() });
        assert_eq!(brake.ask(at(1), 0, false), Leave::Go);
        assert_eq!(brake.ask(at(1), 1, false), Leave::Busy);
        assert_eq!(brake.ask(at(1), 2, true), Leave::Busy);
        let _ = brake.ended(at(2), 0, true);
        assert_eq!(brake.ask(at(2), 1, false), Leave::Critical);
        assert_eq!(brake.ask(at(2), 2, true), Leave::Go);
    }

    #[test]
    fn who_has_waited_for_longest_goes_first_and_nobody_starves() {
        let mut brake = Brake::new(BrakeLimits { max_parallel: 1, ..BrakeLimits::default() });
        assert_eq!(brake.ask(at(1), 0, false), Leave::Go);
        assert_eq!(brake.ask(at(1), 7, false), Leave::Busy);
        assert_eq!(brake.ask(at(2), 1, false), Leave::Busy);
        let _ = brake.ended(at(3), 0, true);
        assert_eq!(brake.ask(at(3), 0, false), Leave::Turn);
        assert_eq!(brake.ask(at(3), 1, false), Leave::Turn);
        assert_eq!(brake.ask(at(3), 7, false), Leave::Go);
        let _ = brake.ended(at(4), 7, true);
        // Who does not ask any more does not wait.
        assert_eq!(brake.ask(at(14), 5, false), Leave::Go);
    }

    #[test]
    fn who_was_healed_by_a_step_is_not_ill_any_more() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..5 {
            let _ = brake.judged(at(1), who, true, 10);
            let _ = brake.ask(at(1), who, false);
            let _ = brake.ended(at(2), who, true);
        }
        assert_eq!(brake.judged(at(3), 6, true, 10), None);
    }

    #[test]
    fn half_a_fleet_in_one_window_holds_all_but_one() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..5 {
            assert_eq!(brake.judged(at(who), who, true, 10), None);
        }
        assert_eq!(brake.judged(at(5), 5, true, 10), Some(BrakeChange::On { unwell: 6, of: 10 }));
        assert_eq!(brake.ask(at(6), 0, false), Leave::Canary);
        assert_eq!(brake.ask(at(6), 1, true), Leave::Braked);
        assert_eq!(brake.ended(at(20), 0, true), Some(BrakeChange::Off));
        assert_eq!(brake.ask(at(21), 1, true), Leave::Go);
    }

    #[test]
    fn a_canary_that_dies_is_followed_by_one_more_after_a_window() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..6 {
            let _ = brake.judged(at(0), who, true, 10);
        }
        assert_eq!(brake.ask(at(1), 0, false), Leave::Canary);
        assert_eq!(brake.ended(at(5), 0, false), None);
        assert_eq!(brake.ask(at(6), 1, false), Leave::Braked);
        assert_eq!(brake.ask(at(35), 1, false), Leave::Canary);
    }

    #[test]
    fn the_brake_goes_off_by_itself_when_they_get_well() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..6 {
            let _ = brake.judged(at(0), who, true, 10);
        }
        assert_eq!(brake.judged(at(3), 0, false, 10), Some(BrakeChange::Off));
        assert_eq!(brake.ask(at(3), 1, false), Leave::Go);
    }

    #[test]
    fn who_falls_ill_over_hours_is_no_reason_and_neither_are_four() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..10 {
            assert_eq!(brake.judged(at(who * 600), who, true, 10), None);
        }
        let mut small = Brake::new(BrakeLimits::default());
        assert!((0..4).all(|who| small.judged(at(1), who, true, 4).is_none()));
    }

    #[test]
    fn who_was_ill_once_counts_anew_the_next_time_also_if_nobody_said_that_it_was_well() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..10 {
            let _ = brake.judged(at(who * 600), who, true, 10);
            brake.over(at(who * 600 + 5), who);
        }
        let last: Vec<_> = (0..6).map(|who| brake.judged(at(900_000), who, true, 10)).collect();
        assert_eq!(last.last(), Some(&Some(BrakeChange::On { unwell: 6, of: 10 })), "{last:?}");
    }

    #[test]
    fn a_brake_goes_off_once_those_who_were_ill_are_gone_for_a_window_but_not_under_its_canary() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..6 {
            let _ = brake.judged(at(0), who, true, 10);
        }
        assert_eq!(brake.ask(at(1), 0, false), Leave::Canary);
        brake.over(at(2), 0);
        assert_eq!(brake.settle(at(40)), None, "the canary's step goes on");
        brake.over(at(40), 1);
        assert_eq!(brake.settle(at(69)), None);
        assert_eq!(brake.settle(at(70)), Some(BrakeChange::Off));
    }

    #[test]
    fn whoever_is_ill_again_in_its_next_incarnation_is_as_ill_as_before() {
        let mut brake = Brake::new(BrakeLimits::default());
        for who in 0..10 {
            let _ = brake.judged(at(who * 60), who, true, 10);
        }
        for second in 0..10 {
            brake.over(at(1000 + second), second);
            assert_eq!(brake.judged(at(1005 + second), second, true, 10), None, "nobody fell ill anew");
        }
    }

    proptest! {
        /// H4: never more steps under way than allowed, and one while the brake is on.
        #[test]
        fn the_fleet_is_limited(ops in prop::collection::vec((0u64..20, 0u8..4, 0u64..10), 1..300)) {
            let limits = BrakeLimits { max_parallel: 3, ..BrakeLimits::default() };
            let (mut brake, mut now) = (Brake::new(limits), 0);
            for (who, op, wait) in ops {
                now += wait;
                let (before, on) = (brake.under_way(), brake.is_on());
                match op {
                    0 => { let _ = brake.judged(at(now), who, true, 20); }
                    1 => { let _ = brake.judged(at(now), who, false, 20); }
                    2 => {
                        let answer = brake.ask(at(now), who, who % 5 == 0);
                        let more = brake.under_way() > before;
                        prop_assert!(!(more && on && answer != Leave::Canary));
                    }
                    _ => { let _ = brake.ended(at(now), who, who % 2 == 0); }
                }
                prop_assert!(brake.under_way() <= 3);
            }
        }
    }
}
