//! Patterns in what went wrong, as TOML to paste.
//!
//! An advice names its evidence and its figure, and is given only where the pattern is plain: enough cases, and most
//! of them alike. Nothing is changed by itself.

use super::knowledge::Look;

/// Fewer cases are no pattern.
const ENOUGH: usize = 5;

/// One failure, with what could be measured when it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The worker.
    pub worker: String,
    /// The class of the failure.
    pub class: String,
    /// How long it had run, in seconds.
    pub ran: Option<f64>,
    /// Its memory, as a part of its limit.
    pub memory: Option<f64>,
    /// Hours since Monday 00:00 UTC, 0 to 167.
    pub hour_of_week: u8,
}

/// Something to put into the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Why, with the figures.
    pub because: String,
    /// What.
    pub toml: String,
}

/// What the cases and the outcomes suggest.
#[must_use]
pub fn advise(cases: &[Case], looks: &[Look]) -> Vec<Advice> {
    let mut groups: Vec<(&str, &str)> = cases.iter().map(|c| (c.worker.as_str(), c.class.as_str())).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut advices = Vec::new();
    for (worker, class) in groups {
        let group: Vec<&Case> = cases.iter().filter(|c| c.worker == worker && c.class == class).collect();
        advices.extend(recycle(worker, class, &group));
        advices.extend(hour(worker, class, &group));
    }
    advices.extend(looks.iter().filter_map(|look| useless(look, looks)));
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

/// It fails at one hour of the week: something else happens then.
fn hour(worker: &str, class: &str, group: &[&Case]) -> Option<Advice> {
    if group.len() < ENOUGH {
        return None;
    }
    let mut by_hour = [0usize; 168];
    for case in group {
        by_hour[usize::from(case.hour_of_week % 168)] += 1;
    }
    let (hour, most) = by_hour.iter().enumerate().max_by_key(|(_, count)| **count)?;
    if *most < ENOUGH || most * 3 < group.len() * 2 {
        return None;
    }
    let day = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"][hour / 24];
    let at = hour % 24;
    Some(Advice {
        because: format!(
            "{most} of {} failures of {worker} («{class}») came on {day} between {at}:00 and {}:00 UTC: see what runs then",
            group.len(),
            at + 1
        ),
        toml: format!("# no setting of {worker} changes this; look at what runs on {day} at {at}:00 UTC\n"),
    })
}

/// A step that never helps against a class is time lost before the one that does.
fn useless(look: &Look, all: &[Look]) -> Option<Advice> {
    let hopeless = look.attempts >= 10 && look.interval.1 < 0.35;
    let better = all
        .iter()
        .filter(|other| other.class == look.class && other.strategy != look.strategy)
        .find(|other| other.attempts >= ENOUGH as u64 && other.interval.0 > 0.5)?;
    let words = look.class.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let toml = if words {
        format!(
            "# before the other steps of the ladder:\n# {{ do = \"{}\", when = [\"{}\"] }},\n",
            better.strategy, look.class
        )
    } else {
        "# let experience order the steps:\n[ladder.default]\nlearn = \"auto\"\n".to_owned()
    };
    hopeless.then(|| Advice {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::learning::wilson;
    use crate::recovery::strategy::Strategy;

    fn case(ran: f64, memory: f64, hour: u8) -> Case {
        Case {
            worker: "parser".to_owned(),
            class: "oom".to_owned(),
            ran: Some(ran),
            memory: Some(memory),
            hour_of_week: hour,
        }
    }

    #[test]
    fn a_leak_that_fills_up_in_forty_minutes_is_recycled_after_thirty() {
        let cases: Vec<Case> = (0..8).map(|n| case(2400.0 + f64::from(n), 0.95, 20 * n as u8)).collect();
        let advice = advise(&cases, &[]);
        assert_eq!(advice.len(), 1);
        assert!(advice[0].because.contains("about 40 min after its start with memory above 90 %"));
        assert_eq!(advice[0].toml, "[worker.parser]\nrecycle.after = \"30m\"\n");
    }

    #[test]
    fn failures_without_a_pattern_give_no_advice() {
        let cases: Vec<Case> =
            (0..12).map(|n| case(300.0 * f64::from(n * n + 1), 0.3, 13 * n as u8)).collect();
        assert_eq!(advise(&cases, &[]), []);
        assert_eq!(advise(&cases[..3], &[]), []);
    }

    #[test]
    fn an_hour_of_the_week_is_named() {
        let cases: Vec<Case> = (0..6).map(|n| case(100.0 + f64::from(n), 0.1, 27)).collect();
        let advice = advise(&cases, &[]);
        assert!(advice[0].because.contains("Tuesday between 3:00 and 4:00 UTC"), "{advice:?}");
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
        let advice = advise(&[], &looks);
        assert_eq!(advice.len(), 1);
        assert!(advice[0].toml.contains("{ do = \"connection_reset\", when = [\"broker_gone\"] }"));
    }
}
