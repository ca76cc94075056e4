//! Everything that was seen of one incarnation, and what follows from it.

use std::sync::Arc;
use std::time::Duration;

use crate::cause::Cause;
use crate::units::format_duration;

use super::flap::Flap;
use super::gauge::{Gauge, Mark};
use super::grade::{Grade, ProbeKind};
use super::heart::{Heart, HeartRules};
use super::score::{DEGRADED, HEALTHY, Term, score};
use super::streak::{Streak, Thresholds};
use super::verdict::{Health, Unwell, Verdict};
use super::work::{Ailment, Work, WorkRules};

type Time = Duration;

/// What is known of a probe before its first look.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeRules {
    /// Its name.
    pub name: Arc<str>,
    /// What it is for.
    pub kind: ProbeKind,
    /// How often before it counts.
    pub thresholds: Thresholds,
    /// How much it counts in the score.
    pub weight: f64,
    /// What its failure is the cause of.
    pub cause: Cause,
    /// It is there without being configured; alone it tells nothing of who watches.
    pub builtin: bool,
}

/// What is known of an instance before its first look.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordRules {
    /// Its probes.
    pub probes: Vec<ProbeRules>,
    /// How long it may be silent, once a heartbeat is expected.
    pub heart: HeartRules,
    /// Whether one is expected from readiness on, or only after the first.
    pub beats: bool,
    /// Marks of its working set, as a ratio of its limit.
    pub memory: Option<Mark>,
    /// What that ratio is of, in bytes, where there is no limit.
    pub memory_of: Option<u64>,
    /// Marks of its computing, as a ratio of the cores it may use.
    pub cpu: Option<Mark>,
    /// Marks of its work.
    pub work: WorkRules,
    /// The probe that makes it ready, where one does.
    pub ready_by: Option<usize>,
    /// How long a request to end may take if it gives no sign of life.
    pub patience: Duration,
}

/// What one look saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Which probe, by its place in [`RecordRules::probes`].
    pub probe: usize,
    /// When the look began, monotonic.
    pub began: Time,
    /// When it was over.
    pub ended: Time,
    /// What it says.
    pub grade: Grade,
    /// The same in words, one line.
    pub message: String,
    /// Figures it brought along.
    pub metrics: Vec<(String, f64)>,
}

/// What is known of one probe.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sheet {
    /// Its row.
    pub streak: Streak,
    /// The last look that counted.
    pub last: Option<Observation>,
    /// Looks that counted.
    pub looks: u64,
    /// Own time of the first failure of the row that stands or is under way.
    failing: Option<Time>,
}

/// What is known of one incarnation.
#[derive(Debug, Clone)]
pub struct Record {
    rules: Arc<RecordRules>,
    sheets: Vec<Sheet>,
    heart: Heart,
    // Made once there is something to be noted: most of a large fleet never has any of it.
    memory: Option<Box<Gauge>>,
    cpu: Option<Box<Gauge>>,
    work: Option<Box<Work>>,
    ready: bool,
    flap: Flap,
    /// Whether it can be seen at all.
    sight: Flap,
}

impl Record {
    /// An incarnation that nobody has looked at.
    #[must_use]
    pub fn new(rules: Arc<RecordRules>) -> Self {
        Self {
            sheets: vec![Sheet::default(); rules.probes.len()],
            heart: Heart::new(rules.heart),
            memory: None,
            cpu: None,
            work: None,
            ready: false,
            flap: Flap::default(),
            sight: Flap::default(),
            rules,
        }
    }

    /// It is ready: from now on it can be unwell.
    pub fn ready(&mut self, own: Time) {
        if !self.ready {
            // What failed while it was starting is no failure of the one that runs.
            let fails = |sheet: &&mut Sheet| sheet.streak.standing() == Some(Grade::Fail);
            for sheet in self.sheets.iter_mut().filter(fails) {
                *sheet = Sheet::default();
            }
            self.interrupt();
        }
        self.ready = true;
        if self.rules.beats {
            self.heart.arm(own);
        }
    }

    /// One look; unknown probes are ignored. Whether it may change the verdict: one more pass after another changes
    /// nothing.
    pub fn observe(&mut self, own: Time, seen: Observation) -> bool {
        let (Some(sheet), Some(rules)) = (self.sheets.get_mut(seen.probe), self.rules.probes.get(seen.probe))
        else {
            return false;
        };
        let passes = |grade: Option<Grade>| grade == Some(Grade::Pass);
        let passed = passes(sheet.streak.standing()) && passes(sheet.last.as_ref().map(|last| last.grade));
        let changes = !(passed && seen.grade == Grade::Pass);
        sheet.streak.take(seen.grade, rules.thresholds);
        sheet.failing = match seen.grade {
            Grade::Fail => sheet.failing.or(Some(own)),
            Grade::Pass | Grade::Warn | Grade::Error => None,
        };
        sheet.looks += 1;
        sheet.last = Some(seen);
        changes
    }

    /// The runtime did not look for a while: rows that were under way count no more.
    pub fn interrupt(&mut self) {
        for sheet in &mut self.sheets {
            sheet.streak.interrupt();
        }
    }

    /// Whether time alone may change the verdict: signs of life are expected.
    #[must_use]
    pub fn ticks(&self) -> bool {
        self.heart.silence(Duration::ZERO).is_some() || self.work.as_ref().is_some_and(|work| work.ticks())
    }

    /// Whether its heartbeat is late, its work stands still, or worse.
    pub fn is_late(&mut self, own: Time) -> bool {
        let late = matches!(self.heart.grade(own), Some(Grade::Warn | Grade::Fail));
        let work = self.work.as_mut().filter(|work| work.ticks());
        late || work.is_some_and(|work| !work.ailments(own).is_empty())
    }

    /// Its work, for whoever knows something of it.
    pub fn work(&mut self) -> &mut Work {
        let rules = &self.rules.work;
        self.work.get_or_insert_with(|| Box::new(Work::new(rules.clone())))
    }

    /// A sign of life.
    pub fn beat(&mut self, own: Time) {
        self.heart.beat(own);
    }

    /// It says itself that it does not work.
    pub fn distress(&mut self, own: Time) {
        self.heart.distress(own);
    }

    /// Its working set, as a ratio of its limit.
    pub fn read_memory(&mut self, own: Time, ratio: f64) {
        if let Some(mark) = self.rules.memory {
            self.memory.get_or_insert_with(|| Box::new(Gauge::new(mark))).read(own, ratio);
        }
    }

    /// Its computing, as a ratio of the cores it may use.
    pub fn read_cpu(&mut self, own: Time, ratio: f64) {
        if let Some(mark) = self.rules.cpu {
            self.cpu.get_or_insert_with(|| Box::new(Gauge::new(mark))).read(own, ratio);
        }
    }

    /// How its memory and its computing are; `None`: nobody has read them.
    #[must_use]
    pub fn figures(&self, own: Time) -> [Option<Grade>; 2] {
        [&self.memory, &self.cpu].map(|gauge| gauge.as_ref().and_then(|gauge| gauge.grade(own)))
    }

    /// What is known of each probe, in the order of the rules.
    pub fn sheets(&self) -> impl Iterator<Item = (&ProbeRules, &Sheet)> {
        self.rules.probes.iter().zip(&self.sheets)
    }

    /// Whether a probe is to be run now: a start-up check until it has passed, the others after it.
    #[must_use]
    pub fn wants(&self, probe: usize) -> bool {
        let kind = self.rules.probes.get(probe).map(|rules| rules.kind);
        match kind {
            Some(ProbeKind::Startup) => !self.passed(probe),
            Some(ProbeKind::Readiness | ProbeKind::Liveness) => self.started_up(),
            None => false,
        }
    }

    /// How it is.
    pub fn judge(&mut self, own: Time) -> Verdict {
        let ailments = self.work.as_mut().map(|work| work.ailments(own)).unwrap_or_default();
        let terms = self.terms(own, &ailments);
        let configured: Vec<Option<Grade>> = self
            .sheets()
            .filter(|(rules, _)| !rules.builtin && rules.kind != ProbeKind::Startup)
            .map(|(_, sheet)| sheet.streak.standing())
            .collect();
        let silent = configured.iter().all(Option::is_none);
        let score = score(&terms).filter(|_| self.ready && (configured.is_empty() || !silent));
        let doubtful = configured.iter().any(|grade| matches!(grade, None | Some(Grade::Error)));
        let unseen = !self.ready && self.rules.ready_by.is_some_and(|probe| self.broken(probe));
        let blind =
            unseen || !configured.is_empty() && configured.iter().all(|grade| *grade == Some(Grade::Error));
        // Who watches and breaks again and again does not work in between: that is one trouble, not one each time.
        let dim = !configured.is_empty() && !silent && self.sight.see(own, !blind);
        let unwell = self.unwell(own, &ailments).filter(|_| self.ready);
        let plain = match score {
            _ if unwell.is_some() => Health::Unhealthy,
            None => Health::Unknown,
            Some(score) if score < DEGRADED => Health::Unhealthy,
            Some(score) if score < HEALTHY => Health::Degraded,
            Some(_) if doubtful => Health::Unknown,
            Some(_) => Health::Healthy,
        };
        let flaps = match plain {
            Health::Healthy => self.flap.see(own, true),
            Health::Degraded | Health::Unhealthy => self.flap.see(own, false),
            Health::Unknown | Health::Dead => false,
        };
        let judged = unwell.is_none() && self.ready && score.is_none_or(|score| score >= DEGRADED);
        let looked = configured.is_empty() || !blind && configured.iter().all(Option::is_some);
        let beaten = !self.rules.beats || self.heart.has_beaten();
        let holds = judged && looked && beaten;
        let damped = flaps && plain == Health::Healthy;
        let mut issues = self.issues(own);
        issues.extend(ailments.iter().map(|ailment| {
            let weight = if ailment.grade == Grade::Fail { Weight::Grave } else { Weight::Slight };
            (weight, ailment.text.clone())
        }));
        if flaps {
            let changes = self.flap.changes();
            let text = format!("it changes between healthy and not: {changes} times in 5 minutes");
            issues.push((if damped { Weight::Grave } else { Weight::Slight }, text));
        }
        if dim {
            let changes = self.sight.changes();
            let text = format!("what looks at it works now and now not: {changes} changes in 5 minutes");
            issues.push((Weight::Slight, text));
        }
        let issues = in_order(issues, plain, unwell.as_ref());
        Verdict {
            health: if damped { Health::Degraded } else { plain },
            score: score.map(|score| if damped { score.min(HEALTHY - 0.01) } else { score }),
            unresponsive: unwell.as_ref().is_some_and(|unwell| unwell.patience.is_some()),
            accepts: !self.fails(ProbeKind::Readiness),
            holds,
            started: self.rules.ready_by.is_none_or(|probe| self.passed(probe)),
            terms,
            issues,
            unwell,
            blind,
            dim,
            unseen,
            flaps,
        }
    }

    fn passed(&self, probe: usize) -> bool {
        let standing = self.sheets.get(probe).and_then(|sheet| sheet.streak.standing());
        matches!(standing, Some(Grade::Pass | Grade::Warn))
    }

    fn broken(&self, probe: usize) -> bool {
        let standing = self.sheets.get(probe).and_then(|sheet| sheet.streak.standing());
        standing == Some(Grade::Error)
    }

    fn started_up(&self) -> bool {
        let startup = |probe: &usize| self.rules.probes[*probe].kind == ProbeKind::Startup;
        (0..self.rules.probes.len()).filter(startup).all(|probe| self.passed(probe))
    }

    fn fails(&self, kind: ProbeKind) -> bool {
        self.sheets().any(|(rules, sheet)| rules.kind == kind && sheet.streak.standing() == Some(Grade::Fail))
    }

    fn terms(&self, own: Time, ailments: &[Ailment]) -> Vec<Term> {
        let mut terms = Vec::with_capacity(self.sheets.len() + 1);
        for (rules, sheet) in self.sheets().filter(|(rules, _)| rules.kind != ProbeKind::Startup) {
            if let Some(result) = sheet.streak.standing() {
                let probe = rules.name.to_string();
                terms.push(Term { probe, kind: rules.kind, result, weight: rules.weight });
            }
        }
        let mut add = |probe: &str, result: Grade| {
            let probe = probe.to_owned();
            terms.push(Term { probe, kind: ProbeKind::Liveness, result, weight: 1.0 });
        };
        if let Some(result) = self.heart.grade(own) {
            add("heartbeat", result);
        }
        // A figure that is within its marks says nothing for the worker; one above them speaks against it.
        let above = |gauge: &Option<Box<Gauge>>| gauge.as_ref().and_then(|gauge| gauge.grade(own));
        for (name, grade) in [("memory", above(&self.memory)), ("cpu", above(&self.cpu))] {
            if let Some(result @ (Grade::Warn | Grade::Fail)) = grade {
                add(name, result);
            }
        }
        ailments.iter().for_each(|ailment| add(ailment.name, ailment.grade));
        terms
    }

    /// The gravest thing that must be answered.
    fn unwell(&self, own: Time, ailments: &[Ailment]) -> Option<Unwell> {
        if self.heart.grade(own) == Some(Grade::Fail) {
            let (message, lasted) = (self.silence(own), self.heart.silence(own).unwrap_or_default());
            let dead = self.heart.is_dead(own);
            let patience = (!self.heart.is_distressed()).then_some(self.rules.patience);
            return Some(Unwell { cause: Cause::Hang, message, patience, dead, lasted, looks: None });
        }
        let failing = self.sheets().find(|(rules, sheet)| {
            rules.kind == ProbeKind::Liveness && sheet.streak.standing() == Some(Grade::Fail)
        });
        if let Some((rules, sheet)) = failing {
            return Some(Unwell {
                cause: rules.cause,
                message: failed(rules, sheet),
                patience: (rules.cause == Cause::Hang).then_some(self.rules.patience),
                dead: false,
                lasted: sheet.failing.map_or(Duration::ZERO, |since| own.saturating_sub(since)),
                looks: Some(sheet.looks),
            });
        }
        let fails = |gauge: &&Gauge| gauge.grade(own) == Some(Grade::Fail);
        let (memory, cpu) = (self.memory.as_deref().filter(fails), self.cpu.as_deref().filter(fails));
        let (name, cause, gauge, of) = match (memory, cpu) {
            (Some(memory), _) => ("memory", Cause::Memory, memory, self.rules.memory_of),
            (None, Some(cpu)) => ("cpu", Cause::Cpu, cpu, None),
            (None, None) => {
                let grave = ailments.iter().find(|ailment| ailment.grade == Grade::Fail)?;
                let (cause, message, lasted) = (grave.cause, grave.text.clone(), grave.lasted);
                return Some(Unwell { cause, message, patience: None, dead: false, lasted, looks: None });
            }
        };
        let (message, lasted) = (above(name, gauge, own, of), gauge.lasted(own));
        Some(Unwell { cause, message, patience: None, dead: false, lasted, looks: None })
    }

    fn silence(&self, own: Time) -> String {
        if self.heart.is_distressed() {
            return "it says that it does not work".to_owned();
        }
        let silence = self.heart.silence(own).unwrap_or_default();
        format!("no heartbeat for {}", rounded(silence))
    }

    fn issues(&self, own: Time) -> Vec<(Weight, String)> {
        let mut issues = Vec::new();
        let weight = |fails: bool| if fails { Weight::Grave } else { Weight::Slight };
        if let Some(grade @ (Grade::Warn | Grade::Fail)) = self.heart.grade(own) {
            issues.push((weight(grade == Grade::Fail), self.silence(own)));
        }
        for (rules, sheet) in self.sheets() {
            issues.extend(issue(rules, sheet));
        }
        let gauges = [("memory", &self.memory, self.rules.memory_of), ("cpu", &self.cpu, None)];
        for (name, gauge, of) in gauges {
            if let Some(gauge) = gauge.as_deref().filter(|gauge| gauge.mark(own).is_some()) {
                issues.push((weight(gauge.grade(own) == Some(Grade::Fail)), above(name, gauge, own, of)));
            }
        }
        issues
    }
}

/// How much an issue has to do with how it is; the heaviest come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// It does not work.
    Grave,
    /// It does not work well.
    Slight,
    /// It failed, not often enough to count.
    Once,
    /// Whoever watches does not see.
    Blind,
}

/// The reason for its health first.
fn in_order(mut issues: Vec<(Weight, String)>, health: Health, unwell: Option<&Unwell>) -> Vec<String> {
    let unseen = health == Health::Unknown;
    issues.sort_by_key(|(weight, text)| {
        let reason = match unwell {
            Some(unwell) => *text == unwell.message,
            None => unseen && *weight == Weight::Blind,
        };
        (!reason, *weight)
    });
    issues.into_iter().map(|(_, text)| text).collect()
}

fn issue(rules: &ProbeRules, sheet: &Sheet) -> Option<(Weight, String)> {
    let last = sheet.last.as_ref()?;
    let standing = sheet.streak.standing();
    let weight = if rules.kind == ProbeKind::Liveness { Weight::Grave } else { Weight::Slight };
    Some(match (last.grade, standing) {
        // A slow start is no issue; only start_timeout ends it.
        (Grade::Fail, _) if rules.kind == ProbeKind::Startup => return None,
        (Grade::Fail, Some(Grade::Fail)) => (weight, failed(rules, sheet)),
        (Grade::Fail, _) => {
            let (failures, most) = (sheet.streak.failures(), rules.thresholds.failure);
            let text = format!("probe {} failed ({failures} of {most}): {}", rules.name, last.message);
            (Weight::Once, text)
        }
        (Grade::Warn, _) => (Weight::Slight, format!("probe {}: {}", rules.name, last.message)),
        (Grade::Error, _) => (Weight::Blind, format!("probe {} does not work: {}", rules.name, last.message)),
        (Grade::Pass, Some(Grade::Fail)) => {
            (weight, format!("probe {} has failed and passes again, not often enough yet", rules.name))
        }
        (Grade::Pass, _) => return None,
    })
}

fn failed(rules: &ProbeRules, sheet: &Sheet) -> String {
    let message = sheet.last.as_ref().map_or("", |last| last.message.as_str());
    match sheet.streak.failures() {
        0 => format!("probe {} failed: {message}", rules.name),
        1 => format!("probe {} failed: {message}", rules.name),
        times => format!("probe {} failed {times} times in a row: {message}", rules.name),
    }
}

/// `of`: what the ratio is of in bytes; `None`: its limit, which people know.
fn above(name: &str, gauge: &Gauge, own: Time, of: Option<u64>) -> String {
    let told = |ratio: Option<f64>| match of {
        None => format!("{:.0} %", ratio.unwrap_or_default() * 100.0),
        Some(bytes) => format!("{:.0} MiB", ratio.unwrap_or_default() * bytes as f64 / f64::from(1 << 20)),
    };
    let (value, lasted) = (told(gauge.value()), rounded(gauge.lasted(own)));
    format!("{name} at {value} for {lasted} (mark: {})", told(gauge.mark(own)))
}

/// For people: whole seconds, or milliseconds below ten of them.
pub(super) fn rounded(time: Duration) -> String {
    let whole = if time < Duration::from_secs(10) {
        Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / 100 * 100)
    } else {
        Duration::from_secs(time.as_secs())
    };
    format_duration(whole)
}
