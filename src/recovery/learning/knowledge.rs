//! All that is known, and the choice that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dice::Dice;
use super::outcomes::{Outcomes, wilson};
use crate::recovery::strategy::Strategy;

/// Kept classes. One is made of a message; a program that writes a new one every time must not fill the memory:
/// the class that was seen longest ago is forgotten.
const MAX_CLASSES: usize = 512;

/// How much more a likely success counts than a cheap one. A failed try costs its own time and that of the next
/// one; with 1 a strategy that is quick and useless would be tried first again and again.
const SHARPNESS: f64 = 2.0;

/// What a try takes, in seconds, where nothing is known of it.
const USUAL_SECONDS: f64 = 10.0;

/// A step that may be taken now.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which.
    pub strategy: Strategy,
    /// What the file says that it takes, in seconds.
    pub cost: Option<f64>,
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The candidate's place.
    pub place: usize,
    /// In words, with the figures.
    pub reason: String,
    /// How often it has held against this class.
    pub held: u64,
}

/// What is known of one strategy against one class, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// The class of failure.
    pub class: String,
    /// The strategy.
    pub strategy: Strategy,
    /// How often it was tried.
    pub attempts: u64,
    /// How often it held.
    pub successes: u64,
    /// Between these the true rate lies with 95 %.
    pub interval: (f64, f64),
    /// What one try takes.
    pub mean_seconds: Option<f64>,
    /// Whether it is the one that experience would take first of these; none is where none has ever held.
    pub best: bool,
}

/// What one class taught.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// By strategy.
    outcomes: BTreeMap<Strategy, Outcomes>,
    /// When it was last seen, in seconds of the wall clock.
    seen: f64,
}

/// All that is known. Serialised, it is what `strategies export` writes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Knowledge {
    classes: BTreeMap<Arc<str>, Known>,
}

impl Knowledge {
    /// A step against a failure of this class has ended.
    pub fn observe(&mut self, class: &Arc<str>, strategy: &Strategy, held: bool, seconds: f64, at: f64) {
        if !self.classes.contains_key(class) && self.classes.len() >= MAX_CLASSES {
            self.forget_oldest();
        }
        let known = self.classes.entry(Arc::clone(class)).or_default();
        known.seen = at.max(known.seen);
        known.outcomes.entry(strategy.clone()).or_default().observe(held, seconds, at);
    }

    /// Which of the candidates to try first; the first one is the ladder's own. `explore: false` takes the best known,
    /// never a sample, and nothing but the first that was never tried.
    #[must_use]
    pub fn choose(
        &self,
        class: &str,
        candidates: &[Candidate],
        dice: &mut Dice,
        explore: bool,
        at: f64,
    ) -> Option<Choice> {
        let known = self.classes.get(class);
        let mut best: Option<(usize, (bool, f64))> = None;
        for (place, candidate) in candidates.iter().enumerate() {
            if !explore && place != 0 && !is_tried(known, &candidate.strategy) {
                continue;
            }
            let (successes, failures) = weights(known, &candidate.strategy, at);
            let (a, b) = (1.0 + successes, 1.0 + failures);
            let chance = if explore { dice.beta(a, b) } else { a / (a + b) };
            // What has only ever failed may be quick at that, and is still no better than what has helped.
            let hope = explore || !is_hopeless(known, &candidate.strategy);
            let score = (hope, chance.powf(SHARPNESS) / self.cost(known, candidate));
            // On a tie the ladder's own order stands.
            if best.is_none_or(|(_, so_far)| score > so_far) {
                best = Some((place, score));
            }
        }
        let (place, _) = best?;
        let strategy = &candidates[place].strategy;
        let outcomes = known.and_then(|known| known.outcomes.get(strategy));
        let held = outcomes.map_or(0, Outcomes::held);
        Some(Choice { place, reason: self.reason(known, class, strategy), held })
    }

    /// Everything, for people; by class, the best first.
    #[must_use]
    pub fn look(&self, at: f64) -> Vec<Look> {
        let mut looks = Vec::new();
        for (class, known) in &self.classes {
            // What takes something away is never taken before its turn.
            let candidates: Vec<Candidate> = known
                .outcomes
                .keys()
                .filter(|strategy| !strategy.is_destructive())
                .map(|strategy| Candidate { strategy: strategy.clone(), cost: None })
                .collect();
            let best = self.choose(class, &candidates, &mut Dice::new(0), false, at);
            let best = best.map(|choice| &candidates[choice.place].strategy);
            for (strategy, outcomes) in &known.outcomes {
                looks.push(Look {
                    class: class.to_string(),
                    strategy: strategy.clone(),
                    attempts: outcomes.tried(),
                    successes: outcomes.held(),
                    interval: wilson(outcomes.held(), outcomes.tried()),
                    mean_seconds: outcomes.mean_seconds(),
                    best: best == Some(strategy) && outcomes.held() > 0,
                });
            }
        }
        looks
    }

    /// Adds what another host knows. What is not sound is left out; the answer is how many were.
    pub fn join(&mut self, other: Self) -> usize {
        self.take_in(other, Outcomes::joined)
    }

    /// Takes in what the same host knew at another time: of two counts of the same cases the longer one holds. What is
    /// not sound is left out; the answer is how many were.
    pub fn renew(&mut self, other: Self) -> usize {
        self.take_in(other, Outcomes::longer)
    }

    fn take_in(&mut self, other: Self, with: impl Fn(&Outcomes, &Outcomes) -> Outcomes) -> usize {
        let mut left_out = 0;
        for (class, theirs) in other.classes {
            if !theirs.seen.is_finite()
                || (!self.classes.contains_key(&class) && self.classes.len() >= MAX_CLASSES)
            {
                left_out += theirs.outcomes.len();
                continue;
            }
            let mine = self.classes.entry(class).or_default();
            mine.seen = mine.seen.max(theirs.seen);
            for (strategy, outcomes) in theirs.outcomes {
                if outcomes.is_sound() {
                    let known = mine.outcomes.entry(strategy).or_default();
                    *known = with(known, &outcomes);
                } else {
                    left_out += 1;
                }
            }
        }
        left_out
    }

    /// Strategies of which something is known, those of each class by themselves.
    #[must_use]
    pub fn size(&self) -> usize {
        self.classes.values().map(|known| known.outcomes.len()).sum()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// What a try of it takes: measured against this class, else against others, else as the file says.
    fn cost(&self, known: Option<&Known>, candidate: &Candidate) -> f64 {
        let here =
            known.and_then(|known| known.outcomes.get(&candidate.strategy)).and_then(Outcomes::mean_seconds);
        let elsewhere = || {
            let all = self.classes.values().filter_map(|known| known.outcomes.get(&candidate.strategy));
            let seconds: Vec<f64> = all.filter_map(Outcomes::mean_seconds).collect();
            let count = u32::try_from(seconds.len()).ok().filter(|count| *count > 0)?;
            Some(seconds.iter().sum::<f64>() / f64::from(count))
        };
        here.or_else(elsewhere).or(candidate.cost).unwrap_or(USUAL_SECONDS).max(0.1)
    }

    fn reason(&self, known: Option<&Known>, class: &str, strategy: &Strategy) -> String {
        let outcomes = known.and_then(|known| known.outcomes.get(strategy));
        match outcomes.filter(|outcomes| outcomes.tried() > 0) {
            None => format!("{strategy} was never tried against «{class}»"),
            Some(outcomes) => format!(
                "{strategy} held {} of {} times against «{class}», {:.1} s each",
                outcomes.held(),
                outcomes.tried(),
                outcomes.mean_seconds().unwrap_or(0.0)
            ),
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.classes.iter().min_by(|a, b| a.1.seen.total_cmp(&b.1.seen));
        if let Some(oldest) = oldest.map(|(class, _)| Arc::clone(class)) {
            self.classes.remove(&oldest);
        }
    }
}

fn is_tried(known: Option<&Known>, strategy: &Strategy) -> bool {
    let outcomes = known.and_then(|known| known.outcomes.get(strategy));
    outcomes.is_some_and(|outcomes| outcomes.tried() > 0)
}

/// Whether it was tried against this class and never held.
fn is_hopeless(known: Option<&Known>, strategy: &Strategy) -> bool {
    let outcomes = known.and_then(|known| known.outcomes.get(strategy));
    outcomes.is_some_and(|outcomes| outcomes.tried() > 0 && outcomes.held() == 0)
}

fn weights(known: Option<&Known>, strategy: &Strategy, at: f64) -> (f64, f64) {
    known.and_then(|known| known.outcomes.get(strategy)).map_or((0.0, 0.0), |outcomes| outcomes.weights(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate> {
        [Strategy::SoftRestart, Strategy::HardRestart]
            .map(|strategy| Candidate { strategy, cost: None })
            .to_vec()
    }

    fn taught() -> Knowledge {
        let mut knowledge = Knowledge::default();
        for n in 0..30 {
            knowledge.observe(&"hang".into(), &Strategy::SoftRestart, n % 10 == 0, 20.0, 0.0);
            knowledge.observe(&"hang".into(), &Strategy::HardRestart, n % 10 != 0, 8.0, 0.0);
        }
        knowledge
    }

    #[test]
    fn without_experience_a_critical_worker_gets_the_ladders_order() {
        let choice =
            Knowledge::default().choose("hang", &candidates(), &mut Dice::new(1), false, 0.0).unwrap();
        assert_eq!(choice.place, 0);
        let cheap = [
            Candidate { strategy: Strategy::SoftRestart, cost: None },
            Candidate { strategy: Strategy::MemoryCleanup, cost: Some(0.5) },
        ];
        let untried = |knowledge: &Knowledge| {
            knowledge.choose("hang", &cheap, &mut Dice::new(1), false, 0.0).unwrap().place
        };
        assert_eq!(untried(&Knowledge::default()), 0, "a step that is said to be cheap was never tried");
        let mut knowledge = Knowledge::default();
        knowledge.observe(&"hang".into(), &Strategy::SoftRestart, true, 10.0, 0.0);
        assert_eq!(untried(&knowledge), 0);
        knowledge.observe(&"hang".into(), &Strategy::MemoryCleanup, true, 0.5, 0.0);
        assert_eq!(untried(&knowledge), 1);
    }

    #[test]
    fn experience_takes_what_helps_and_says_why() {
        let choice = taught().choose("hang", &candidates(), &mut Dice::new(1), false, 0.0).unwrap();
        assert_eq!(
            (choice.place, choice.reason.as_str()),
            (1, "hard_restart held 27 of 30 times against «hang», 8.0 s each")
        );
    }

    #[test]
    fn what_takes_something_away_is_never_the_one_to_take_first() {
        let mut knowledge = taught();
        for _ in 0..30 {
            knowledge.observe(&"hang".into(), &Strategy::Reset, true, 0.1, 0.0);
        }
        let best: Vec<Strategy> =
            knowledge.look(0.0).into_iter().filter(|look| look.best).map(|look| look.strategy).collect();
        assert_eq!(best, [Strategy::HardRestart]);
    }

    #[test]
    fn a_sample_tries_what_is_hardly_known_now_and_then_and_the_best_mostly() {
        let (knowledge, mut dice) = (taught(), Dice::new(3));
        let mut third = candidates();
        third.push(Candidate { strategy: Strategy::MemoryCleanup, cost: Some(8.0) });
        let mut taken = [0u32; 3];
        for _ in 0..1000 {
            taken[knowledge.choose("hang", &third, &mut dice, true, 0.0).unwrap().place] += 1;
        }
        assert!(taken[1] > 700 && taken[2] > 20 && taken[0] < 20, "{taken:?}");
    }

    #[test]
    fn what_two_hosts_know_is_joined_and_nonsense_is_left_out() {
        let mut mine = taught();
        let text = serde_json::to_string(&taught()).unwrap();
        assert_eq!(mine.join(serde_json::from_str(&text).unwrap()), 0);
        assert_eq!(mine.look(0.0).iter().map(|look| look.attempts).sum::<u64>(), 120);
        let mut broken: serde_json::Value = serde_json::from_str(&text).unwrap();
        broken["classes"]["hang"]["outcomes"]["soft_restart"]["successes"] = (-1.0).into();
        assert_eq!(mine.join(serde_json::from_value(broken).unwrap()), 1);
    }

    #[test]
    fn what_one_host_knew_at_two_times_is_counted_once() {
        let mut later = taught();
        later.observe(&"hang".into(), &Strategy::SoftRestart, true, 20.0, 0.0);
        let mut mine = taught();
        assert_eq!(mine.renew(taught()), 0);
        assert_eq!(mine, taught());
        mine.renew(later.clone());
        assert_eq!(mine, later);
        mine.renew(taught());
        assert_eq!(mine, later);
    }

    #[test]
    fn what_never_helped_is_not_the_best_however_quick_it_fails() {
        let mut knowledge = Knowledge::default();
        for n in 0..9 {
            knowledge.observe(&"hang".into(), &Strategy::SoftRestart, true, 10.0, f64::from(n));
        }
        knowledge.observe(&"hang".into(), &Strategy::HardRestart, false, 0.0, 9.0);
        let choice = knowledge.choose("hang", &candidates(), &mut Dice::new(1), false, 9.0).unwrap();
        assert_eq!(choice.place, 0, "{}", choice.reason);
        let best: Vec<_> = knowledge.look(9.0).into_iter().filter(|look| look.best).collect();
        assert_eq!(best.iter().map(|look| &look.strategy).collect::<Vec<_>>(), [&Strategy::SoftRestart]);
        let mut hopeless = Knowledge::default();
        hopeless.observe(&"hang".into(), &Strategy::HardRestart, false, 0.0, 9.0);
        assert!(hopeless.look(9.0).iter().all(|look| !look.best));
    }

    #[test]
    fn a_program_that_invents_messages_fills_no_memory() {
        let mut knowledge = Knowledge::default();
        for n in 0..2000u32 {
            let class: Arc<str> = format!("class {n}").into();
            knowledge.observe(&class, &Strategy::SoftRestart, true, 1.0, f64::from(n));
        }
        assert_eq!(knowledge.classes.len(), MAX_CLASSES);
        assert!(knowledge.classes.contains_key("class 1999") && !knowledge.classes.contains_key("class 0"));
    }
}
