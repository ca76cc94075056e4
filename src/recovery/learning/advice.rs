//! Patterns in what went wrong, as TOML to paste.
//!
//! An advice names its evidence and its figure, and is given only where the pattern is plain: enough cases, and most
//! of them alike. Nothing is changed by itself.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::knowledge::Look;
use crate::recovery::ladder::{Ladder, Learn, Step};
use crate::recovery::strategy::Strategy;

/// Fewer cases are no pattern.
const ENOUGH: usize = 5;

/// An hour in fewer weeks is no hour of the week.
const WEEKS: usize = 3;

/// Seconds of an hour, and the hours of a week.
const HOUR: i64 = 3600;
const HOURS: i64 = 168;

/// From a Monday, 00:00 UTC, to the beginning of 1970, which was a Thursday.
const THURSDAY: i64 = 72 * HOUR;

/// One failure, with what could be measured when it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The worker.
    pub worker: String,
    /// The class of the failure.
    pub class: String,
    /// How long it had run, in seconds.
    pub ran: Option<f64>,
    /// Its memory, as a part of its limit.
    pub memory: Option<f64>,
    /// When it came, in seconds since 1970.
    pub at: i64,
}

impl Case {
    /// The week it came in, and the hours since its Monday, 00:00 UTC: 0 to 167.
    fn week_and_hour(&self) -> (i64, i64) {
        let hours = self.at.saturating_add(THURSDAY).div_euclid(HOUR);
        (hours.div_euclid(HOURS), hours.rem_euclid(HOURS))
    }
}

/// Something to put into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Why, with the figures.
    pub because: String,
    /// What.
    pub toml: String,
}

/// What the cases and the outcomes suggest, beside what the ladders in force, by name, do already.
#[must_use]
pub fn advise(cases: &[Case], looks: &[Look], ladders: &[(&str, &Ladder)]) -> Vec<Advice> {
    let mut groups: Vec<(&str, &str)> = cases.iter().map(|c| (c.worker.as_str(), c.class.as_str())).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut advices = Vec::new();
    for (worker, class) in groups {
        let group: Vec<&Case> = cases.iter().filter(|c| c.worker == worker && c.class == class).collect();
        advices.extend(recycle(worker, class, &group));
        advices.extend(hour(worker, class, &group));
    }
    advices.extend(looks.iter().filter_map(|look| useless(look, looks, ladders)));
    advices
}

/// It fails at about the same age each time: replace it before that.
fn recycle(worker: &str, class: &str, group: &[&Case]) -> Option<Advice> {
    let mut ages: Vec<f64> = group.iter().filter_map(|case| case.ran).filter(|age| *age >= 120.0).collect();
    if ages.len() < ENOUGH {
        return None;
    }
    ages.sort_unstable_by(f64::total_cmp);
    let (low, middle, high) = (ages[ages.len() / 10], ages[ages.len() / 2], ages[ages.len() * 9 / 10]);
    // Alike: most ages lie within a third of the middle.
    if high - low > middle / 1.5 {
        return None;
    }
    let full: Vec<f64> = group.iter().filter_map(|case| case.memory).collect();
    let leaks =
        full.len() >= ENOUGH && full.iter().filter(|part| **part >= 0.9).count() * 5 >= full.len() * 4;
    let with = if leaks { " with memory above 90 %" } else { "" };
    let minutes = (low * 0.75 / 60.0).floor().max(1.0);
    Some(Advice {
        because: format!(
            "{worker} fails about {:.0} min after its start{with} («{class}», {} cases): replace it before that",
            middle / 60.0,
            ages.len()
        ),
        toml: format!("[worker.{worker}]\nrecycle.after = \"{minutes}m\"\n"),
    })
}

/// It fails at one hour of the week, week after week: something else happens then. However often it fails within one
/// hour, that is once.
fn hour(worker: &str, class: &str, group: &[&Case]) -> Option<Advice> {
    if group.len() < ENOUGH {
        return None;
    }
    let came: BTreeSet<(i64, i64)> = group.iter().map(|case| case.week_and_hour()).collect();
    let weeks_of = |hour: i64| came.iter().filter(|(_, at)| *at == hour).count();
    let (weeks, hour) = came.iter().map(|(_, hour)| (weeks_of(*hour), *hour)).max()?;
    if weeks < WEEKS || weeks * 3 < came.len() * 2 {
        return None;
    }
    let most = group.iter().filter(|case| case.week_and_hour().1 == hour).count();
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let day = days[usize::try_from(hour / 24).ok()?];
    let (from, to) = (hour % 24, hour % 24 + 1);
    Some(Advice {
        because: format!(
            "{most} of {} failures of {worker} («{class}») came on {day} between {from}:00 and {to}:00 UTC, \
             in {weeks} different weeks: see what runs then",
            group.len(),
        ),
        toml: format!("# no setting of {worker} changes this; look at what runs on {day} at {from}:00 UTC\n"),
    })
}

/// A step that never helps against a class is time lost before the one that does.
fn useless(look: &Look, all: &[Look], ladders: &[(&str, &Ladder)]) -> Option<Advice> {
    if look.attempts < 10 || look.interval.1 >= 0.35 {
        return None;
    }
    let (better, toml) = all
        .iter()
        .filter(|other| other.class == look.class && other.strategy != look.strategy)
        // It is taken where a ladder names it, and no sooner.
        .filter(|other| !other.strategy.is_destructive())
        .filter(|other| other.attempts >= ENOUGH as u64 && other.interval.0 > 0.5)
        .find_map(|other| {
            let mut all = ladders.iter();
            Some((other, all.find_map(|(name, ladder)| sooner(look, &other.strategy, name, ladder))?))
        })?;
    Some(Advice {
        because: format!(
            "{} held {} of {} times against «{}», {} held {} of {}",
            look.strategy,
            look.successes,
            look.attempts,
            look.class,
            better.strategy,
            better.successes,
            better.attempts
        ),
        toml,
    })
}

/// What makes a ladder take the better step before the hopeless one; nothing, if it does already or cannot.
fn sooner(hopeless: &Look, better: &Strategy, name: &str, ladder: &Ladder) -> Option<String> {
    let class = hopeless.class.as_str();
    let fits = |step: &Step| step.when.is_empty() || step.when.iter().any(|cause| **cause == *class);
    let place = |of: &Strategy| ladder.steps.iter().position(|step| step.run == *of && fits(step));
    let (first, later) = (place(better), place(&hopeless.strategy)?);
    let ordered = ladder.learn == Learn::Auto && first.is_some();
    if ordered || first.is_some_and(|first| first < later) {
        return None;
    }
    let words = class.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // A command of one's own is known here only if a step names it.
    let known = first.is_some() || !matches!(better, Strategy::Own(_));
    if words {
        let step = format!("{{ do = \"{better}\", when = [\"{class}\"] }}");
        known.then(|| format!("# before the other steps of [ladder.{name}]:\n# {step},\n"))
    } else {
        let toml = format!("# let experience order the steps:\n[ladder.{name}]\nlearn = \"auto\"\n");
        first.map(|_| toml)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::learning::wilson;

    /// `hour`: since a Monday.
    fn case(ran: f64, memory: f64, hour: i64) -> Case {
        Case {
            worker: "parser".to_owned(),
            class: "oom".to_owned(),
            ran: Some(ran),
            memory: Some(memory),
            at: 1_700_438_400 + hour * HOUR,
        }
    }

    #[test]
    fn a_leak_that_fills_up_in_forty_minutes_is_recycled_after_thirty() {
        let cases: Vec<Case> = (0..8).map(|n| case(2400.0 + f64::from(n), 0.95, 20 * i64::from(n))).collect();
        let advice = advise(&cases, &[], &[]);
        assert_eq!(advice.len(), 1);
        assert!(advice[0].because.contains("about 40 min after its start with memory above 90 %"));
        assert_eq!(advice[0].toml, "[worker.parser]\nrecycle.after = \"30m\"\n");
    }

    #[test]
    fn failures_without_a_pattern_give_no_advice() {
        let cases: Vec<Case> =
            (0..12).map(|n| case(300.0 * f64::from(n * n + 1), 0.3, 13 * i64::from(n))).collect();
        assert_eq!(advise(&cases, &[], &[]), []);
        assert_eq!(advise(&cases[..3], &[], &[]), []);
    }

    #[test]
    fn an_hour_of_the_week_is_named_that_comes_again_week_after_week() {
        let week = |n: i64, of: i64| case(100.0, 0.1, 27 + HOURS * (n % of));
        let weeks = |of: i64| (0..6).map(|n| week(n, of)).collect::<Vec<Case>>();
        let advice = advise(&weeks(3), &[], &[]);
        assert!(
            advice[0].because.contains("Tuesday between 3:00 and 4:00 UTC, in 3 different"),
            "{advice:?}"
        );
        assert_eq!(advise(&weeks(2), &[], &[]), [], "twice is no pattern");
        assert_eq!(advise(&weeks(1), &[], &[]), [], "one bad hour");
        // Hours of other weeks speak against it, however often it failed in the one hour.
        let other = |n: i64| case(100.0, 0.1, 50 + n);
        let mixed: Vec<Case> = weeks(3).into_iter().chain((0..3).map(other)).collect();
        assert_eq!(advise(&mixed, &[], &[]), []);
    }

    #[test]
    fn a_step_that_never_helps_is_named_beside_the_one_that_does() {
        let look = |strategy, successes, attempts| Look {
            class: "broker_gone".to_owned(),
            strategy,
            attempts,
            successes,
            interval: wilson(successes, attempts),
            mean_seconds: Some(5.0),
            best: false,
        };
        let looks = [look(Strategy::SoftRestart, 0, 12), look(Strategy::ConnectionReset, 11, 12)];
        let ladder = Ladder::default();
        let advice = advise(&[], &looks, &[("none", &Ladder::none()), ("default", &ladder)]);
        assert_eq!(advice.len(), 1);
        assert!(advice[0].toml.contains("steps of [ladder.default]"), "{advice:?}");
        assert!(advice[0].toml.contains("{ do = \"connection_reset\", when = [\"broker_gone\"] }"));
        assert_eq!(advise(&[], &looks, &[("none", &Ladder::none())]), [], "nobody takes that step");
    }

    #[test]
    fn only_what_changes_something_is_advised() {
        let look = |strategy, successes| Look {
            class: "probe p failed # times".to_owned(),
            strategy,
            attempts: 20,
            successes,
            interval: wilson(successes, 20),
            mean_seconds: None,
            best: false,
        };
        let own = Strategy::parse("fix").unwrap();
        let looks =
            [look(Strategy::SoftRestart, 0), look(Strategy::ConnectionReset, 20), look(own.clone(), 19)];
        let ladder = |learn, steps: &[&Strategy]| Ladder {
            steps: steps.iter().map(|run| Step::new((*run).clone())).collect(),
            learn,
            ..Ladder::default()
        };
        let toml = |ladder: &Ladder| {
            let advice = advise(&[], &looks, &[("web", ladder)]);
            advice.into_iter().map(|one| (one.because, one.toml)).next()
        };
        let (because, text) = toml(&ladder(Learn::Suggest, &[&Strategy::SoftRestart, &own])).unwrap();
        assert!(because.contains("fix held 19 of 20"), "the one that the ladder has: {because}");
        assert!(text.ends_with("[ladder.web]\nlearn = \"auto\"\n"), "{text}");
        for (learn, steps) in [
            (Learn::Auto, &[&Strategy::SoftRestart, &own][..]),
            (Learn::Suggest, &[&own, &Strategy::SoftRestart]),
            (Learn::Suggest, &[&Strategy::SoftRestart]),
        ] {
            assert_eq!(toml(&ladder(learn, steps)), None, "{learn:?} {steps:?}");
        }
    }
}
