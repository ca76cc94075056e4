//! What recovery shares over all supervisors of one runtime: the brake, what was learned, and the incidents.
//!
//! It decides about no child: it gives leave for a step or does not, says which of the allowed steps experience would
//! take, and keeps the record. Everything in here is quick and held under one lock; nothing waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::config::WorkerSettings;
use crate::id::InstanceId;
use crate::policy::Time;
use crate::recovery::learning::{Advice, Candidate, Case, Dice, Look, advise};
use crate::recovery::{
    Brake, BrakeChange, BrakeLimits, ErrorClass, Evidence, Finding, Incident, Learn, Outcome, Strategy,
};

use super::board::Recovered;
use super::casebook::Casebook;
use super::lesson::Lesson;
use super::lore::{Library, Lore};

/// Cases from which patterns are read.
const MOST_CASES: usize = 2000;
/// Lessons that wait to be written down; beyond that the oldest are known to this runtime alone.
const MOST_LESSONS: usize = 4096;

/// Who asks for leave, and for what.
pub(super) struct Question<'a> {
    pub(super) who: &'a InstanceId,
    pub(super) critical: bool,
    pub(super) learn: Learn,
    /// The class of its failure.
    pub(super) class: &'a str,
    /// Places of steps, the one whose turn it is first.
    pub(super) allowed: &'a [(usize, Strategy)],
    /// What the file says that a strategy costs, in seconds.
    pub(super) costs: &'a BTreeMap<Strategy, f64>,
}

/// The shared parts of recovery.
pub struct Healer {
    inner: Mutex<Inner>,
    /// Whether the user has names for failures: most have none, and an end must not wait for a lock.
    named: AtomicBool,
    /// Whether one of them goes by what was written.
    reads: AtomicBool,
}

struct Inner {
    brake: Brake,
    library: Library,
    dice: Dice,
    classes: Arc<[ErrorClass]>,
    numbers: HashMap<InstanceId, u64>,
    incidents: Casebook,
    cases: VecDeque<Case>,
    /// How much of their limits instances took when that was last looked at.
    memory: HashMap<InstanceId, f64>,
    /// Which step experience has put first, and why, for those who wait until it may begin.
    chosen: HashMap<InstanceId, (usize, String)>,
    /// How long incidents took, by instance.
    recovered: HashMap<String, Recovered>,
    /// Lessons that are not written down yet.
    lessons: VecDeque<Lesson>,
    /// What was learned elsewhere and is not written down yet.
    imports: Vec<Lore>,
    /// Begins every incident's id: when this life began, for people, and a number by chance, since two may begin within a
    /// second, and a clock may be set back.
    stamp: String,
    opened: u64,
    /// Counts what waits to be written down, from the beginning.
    revision: u64,
}

impl Healer {
    /// `host`: names where it learns.
    pub(crate) fn new(seed: u64, host: String) -> Self {
        let stamp = format!("{}-{:06x}", Timestamp::now().strftime("%Y%m%d-%H%M%S"), seed & 0xff_ffff);
        Self {
            named: AtomicBool::new(false),
            reads: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                brake: Brake::new(BrakeLimits::default()),
                library: Library::new(host),
                dice: Dice::new(seed),
                classes: Arc::default(),
                numbers: HashMap::new(),
                incidents: Casebook::default(),
                cases: VecDeque::new(),
                memory: HashMap::new(),
                chosen: HashMap::new(),
                recovered: HashMap::new(),
                lessons: VecDeque::new(),
                imports: Vec::new(),
                stamp,
                opened: 0,
                revision: 0,
            }),
        }
    }

    /// What the file says.
    pub(crate) fn configure(&self, limits: BrakeLimits, classes: Arc<[ErrorClass]>) {
        let mut inner = self.lock();
        inner.brake.set_limits(limits);
        self.named.store(!classes.is_empty(), Ordering::Relaxed);
        self.reads.store(classes.iter().any(|class| class.pattern.is_some()), Ordering::Relaxed);
        inner.classes = classes;
    }

    /// Whether a name of the user's goes by what a failure wrote.
    pub(super) fn reads_words(&self) -> bool {
        self.reads.load(Ordering::Relaxed)
    }

    /// How much of its limit an instance takes.
    pub(crate) fn note_memory(&self, who: &InstanceId, part: f64) {
        self.lock().memory.insert(who.clone(), part);
    }

    /// The same, as it was last.
    pub(super) fn memory_of(&self, who: &InstanceId) -> Option<f64> {
        self.lock().memory.get(who).copied()
    }

    /// The user's name for what a failure left, if one fits.
    pub(super) fn class_of(&self, evidence: impl FnOnce() -> Evidence) -> Option<Arc<str>> {
        if !self.named.load(Ordering::Relaxed) {
            return None;
        }
        let classes = Arc::clone(&self.lock().classes);
        evidence().class_of(&classes)
    }

    /// What is known of an instance's health.
    pub(super) fn judged(
        &self,
        now: Time,
        who: &InstanceId,
        unwell: bool,
        fleet: usize,
    ) -> Option<BrakeChange> {
        let mut inner = self.lock();
        let number = inner.number(who);
        inner.brake.judged(now, number, unwell, fleet)
    }

    /// An incarnation is over, and with it what is known of its health.
    pub(super) fn over(&self, now: Time, who: &InstanceId) {
        let mut inner = self.lock();
        if let Some(number) = inner.numbers.get(who).copied() {
            inner.brake.over(now, number);
        }
    }

    /// Whether the brake has gone off by time alone.
    pub(super) fn settle(&self, now: Time) -> Option<BrakeChange> {
        self.lock().brake.settle(now)
    }

    /// May a step be taken, and which?
    pub(super) fn ask(&self, now: Time, question: &Question<'_>) -> Result<(usize, String), &'static str> {
        let mut inner = self.lock();
        let number = inner.number(question.who);
        let leave = inner.brake.ask(now, number, question.critical);
        if !leave.is_given() {
            return Err(leave.reason());
        }
        Ok(inner.choose(question))
    }

    /// A step has come to its end, or is not taken now.
    pub(super) fn returned(&self, now: Time, who: &InstanceId, held: bool) -> Option<BrakeChange> {
        let mut inner = self.lock();
        let number = inner.number(who);
        inner.brake.ended(now, number, held)
    }

    /// An instance is gone for good.
    pub(super) fn forget(&self, now: Time, who: &InstanceId) {
        let mut inner = self.lock();
        inner.recovered.remove(&who.to_string());
        inner.memory.remove(who);
        inner.chosen.remove(who);
        if let Some(number) = inner.numbers.remove(who) {
            inner.brake.forget(now, number);
        }
    }

    /// An incident begins; answers its id and the class of the failure.
    pub(super) fn open(
        &self,
        who: &InstanceId,
        cause: &str,
        evidence: &Evidence,
        lasted: Time,
        named: Option<Arc<str>>,
    ) -> (Arc<str>, Arc<str>) {
        let mut inner = self.lock();
        inner.opened += 1;
        inner.chosen.remove(who);
        let id: Arc<str> = format!("{}-{}", inner.stamp, inner.opened).into();
        // It may have had its name from words that are not at hand any more.
        let class: Arc<str> = named.unwrap_or_else(|| evidence.key(&inner.classes));
        let mut incident =
            Incident::open(Arc::clone(&id), who.to_string(), cause, &evidence.message, Timestamp::now());
        incident.class = Some(Arc::clone(&class));
        incident.detection_seconds = Some(lasted.as_secs_f64());
        inner.revision += 1;
        inner.incidents.open(incident);
        (id, class)
    }

    /// Changes an incident.
    pub(super) fn on<T>(&self, id: &str, change: impl FnOnce(&mut Incident) -> T) -> Option<T> {
        let mut inner = self.lock();
        let changed = inner.incidents.change(id, change);
        inner.revision += u64::from(changed.is_some());
        changed
    }

    /// An incident is over.
    pub(super) fn close(&self, id: &str, outcome: Outcome, reason: &str, seconds: f64) {
        let closed = self.on(id, |incident| {
            incident.close_after(outcome, reason, Timestamp::now(), seconds);
            let mut took = Recovered::default();
            took.add(incident);
            (incident.instance.clone(), took)
        });
        if let Some((whose, took)) = closed {
            self.lock().recovered.entry(whose).or_default().join(&took);
        }
    }

    /// How long the incidents of an instance took that ended well.
    #[must_use]
    pub fn recovered(&self, instance: &str) -> Option<Recovered> {
        self.lock().recovered.get(instance).copied()
    }

    /// Something was seen.
    pub(super) fn found(&self, id: &str, sights: Vec<(&'static str, String)>) {
        let at = Timestamp::now();
        let _ = self.on(id, |incident| {
            for (what, text) in sights.into_iter().filter(|(_, text)| !text.trim().is_empty()) {
                incident.find(Finding { what: what.to_owned(), at, text });
            }
        });
    }

    /// A step against a class has ended: that is experience.
    pub(super) fn learn(&self, lesson: Lesson) {
        self.observe(&lesson);
        self.keep_lesson(lesson);
    }

    /// What an earlier runtime has learned.
    pub(crate) fn relearn(&self, lesson: Lesson) {
        self.observe(&lesson);
        if let Some(case) = lesson.case {
            self.note(case);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds fit the mantissa for the next million centuries")]
    fn observe(&self, lesson: &Lesson) {
        let Lesson { class, strategy, held, seconds, at, .. } = lesson;
        self.lock().library.learn(|known| known.observe(class, strategy, *held, *seconds, *at as f64));
    }

    /// It waits to be written down.
    pub(crate) fn keep_lesson(&self, lesson: Lesson) {
        let mut inner = self.lock();
        if inner.lessons.len() >= MOST_LESSONS {
            inner.lessons.pop_front();
        }
        inner.lessons.push_back(lesson);
        inner.revision += 1;
    }

    /// How much there was to be written down until now.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// Whether something waits to be written down.
    pub(crate) fn waits(&self) -> bool {
        let inner = self.lock();
        inner.incidents.waits() || !(inner.lessons.is_empty() && inner.imports.is_empty())
    }

    /// Some of the lessons that wait to be written down; they wait no more.
    pub(crate) fn lessons(&self, most: usize) -> Vec<Lesson> {
        let mut inner = self.lock();
        let some = inner.lessons.len().min(most);
        inner.lessons.drain(..some).collect()
    }

    /// Some of the incidents that wait to be written down as they are now; they wait no more.
    pub(crate) fn changed(&self, most: usize) -> Vec<Incident> {
        self.lock().incidents.take_changed(most)
    }

    /// An incident was written down as it was then, or could not be.
    pub(crate) fn written(&self, id: &str, done: bool) {
        self.lock().incidents.written(id, done);
    }

    /// Incidents of an earlier runtime, the newest first, and whether they are not written down as they are now.
    pub(crate) fn recall(&self, incidents: Vec<(Incident, bool)>) {
        let mut inner = self.lock();
        let Inner { incidents: book, recovered, .. } = &mut *inner;
        for (incident, changed) in incidents {
            let (whose, mut took) = (incident.instance.clone(), Recovered::default());
            took.add(&incident);
            if !book.recall(incident, changed) {
                break;
            }
            recovered.entry(whose).or_default().join(&took);
        }
    }

    /// A case that patterns may be read from.
    pub(super) fn note(&self, case: Case) {
        let mut inner = self.lock();
        if inner.cases.len() >= MOST_CASES {
            inner.cases.pop_front();
        }
        inner.cases.push_back(case);
    }

    /// Every incident that is kept, the newest first.
    #[must_use]
    pub fn incidents(&self) -> Vec<Incident> {
        self.lock().incidents.newest_first().cloned().collect()
    }

    /// One incident.
    #[must_use]
    pub fn incident(&self, id: &str) -> Option<Incident> {
        self.lock().incidents.get(id).cloned()
    }

    /// What is known of every strategy, by class of failure.
    #[must_use]
    pub fn strategies(&self) -> Vec<Look> {
        self.lock().library.all().look(wall_seconds())
    }

    /// Patterns, as something to put into the file of these workers.
    #[must_use]
    pub fn advice(&self, workers: &[Arc<WorkerSettings>]) -> Vec<Advice> {
        let inner = self.lock();
        let looks = inner.library.all().look(wall_seconds());
        let cases: Vec<Case> = inner.cases.iter().cloned().collect();
        drop(inner);
        let ladders: Vec<_> =
            workers.iter().filter_map(|one| Some((one.ladder.name()?, one.steps.as_deref()?))).collect();
        advise(&cases, &looks, &ladders)
    }

    /// All that was learned, to be carried elsewhere.
    #[must_use]
    pub fn lore(&self) -> Lore {
        self.lock().library.export()
    }

    /// Adds what was learned elsewhere; answers how much of it made no sense and was left out. What is known already is
    /// not counted again.
    ///
    /// # Errors
    /// It is of a kind that is not understood.
    pub fn import(&self, lore: Lore) -> Result<usize, String> {
        let mut inner = self.lock();
        let before = inner.library.export();
        let left_out = inner.library.import(lore.clone())?;
        let new = inner.library.export() != before;
        drop(inner);
        if new {
            self.keep_import(lore);
        }
        Ok(left_out)
    }

    /// The same for what is written down already.
    pub(crate) fn reimport(&self, lore: Lore) -> Result<usize, String> {
        self.lock().library.import(lore)
    }

    /// It waits to be written down.
    pub(crate) fn keep_import(&self, lore: Lore) {
        let mut inner = self.lock();
        inner.imports.push(lore);
        inner.revision += 1;
    }

    /// Everything from elsewhere that waits to be written down; it waits no more.
    pub(crate) fn imports(&self) -> Vec<Lore> {
        std::mem::take(&mut self.lock().imports)
    }

    /// Whether much of the fleet fell ill at once.
    #[must_use]
    pub fn brake_is_on(&self) -> bool {
        self.lock().brake.is_on()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn number(&mut self, who: &InstanceId) -> u64 {
        if let Some(number) = self.numbers.get(who) {
            return *number;
        }
        // Numbers of those who are gone are used again only once nobody has a higher one.
        let free = self.numbers.values().max().map_or(1, |most| most + 1);
        self.numbers.insert(who.clone(), free);
        free
    }

    fn choose(&mut self, question: &Question<'_>) -> (usize, String) {
        let first = question.allowed.first().map_or(0, |(place, _)| *place);
        let turn = "its turn in the ladder".to_owned();
        if question.learn == Learn::Off || question.allowed.len() < 2 {
            // It was chosen before, and has waited for its delay or an approval.
            let chosen = self.chosen.get(question.who).filter(|(place, _)| *place == first);
            return (first, chosen.map_or(turn, |(_, reason)| reason.clone()));
        }
        let candidates: Vec<Candidate> = question
            .allowed
            .iter()
            .map(|(_, strategy)| Candidate {
                strategy: strategy.clone(),
                cost: question.costs.get(strategy).copied(),
            })
            .collect();
        let auto = question.learn == Learn::Auto;
        let explore = auto && !question.critical;
        let choice =
            self.library.all().choose(question.class, &candidates, &mut self.dice, explore, wall_seconds());
        match choice {
            Some(choice) if auto => {
                let chosen = (question.allowed[choice.place].0, choice.reason);
                self.chosen.insert(question.who.clone(), chosen.clone());
                chosen
            }
            // What has never held is nothing to point at.
            Some(choice) if choice.place != 0 && choice.held > 0 => {
                (first, format!("{turn}; experience would take another: {}", choice.reason))
            }
            Some(_) | None => (first, turn),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds fit the mantissa for the next million centuries")]
fn wall_seconds() -> f64 {
    Timestamp::now().as_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_of_two_runtimes_that_begin_in_one_second_have_different_names() {
        let who = InstanceId::single(crate::id::Name::root());
        let evidence = Evidence {
            cause: None,
            exit_code: None,
            signal: None,
            probe: None,
            message: String::new(),
            named: None,
            lines: Vec::new(),
        };
        let open = |seed| Healer::new(seed, String::new()).open(&who, "crash", &evidence, Time::ZERO, None);
        let ids: std::collections::BTreeSet<_> = (1..=50).map(open).collect();
        assert_eq!(ids.len(), 50, "{ids:?}");
    }
}
