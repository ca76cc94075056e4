//! Pools: a step of recovery makes one more or one less of a kind, within bounds, whoever else does the same meanwhile,
//! and is judged by how the sick one is then. The shell is played here: it changes the definition and answers later.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::recover::{sick, verdict, well};
use super::*;
use crate::health::Health;
use crate::id::Incarnation;
use crate::policy::*;
use crate::recovery::{Ladder, Outcome, Step, Strategy};

const MIN: u32 = 1;
const MAX: u32 = 4;

/// What a run must have seen, or it proves less than it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rare {
    Grown,
    Shrunk,
    Full,
    Least,
    Overtaken,
    LeavesByItsOwnStep,
    LeavesSick,
    NewcomerIsLate,
    EndsMeanwhile,
    BeforeARestart,
    Helped,
    DidNotHelp,
}

const ALL: [Rare; 12] = [
    Rare::Grown,
    Rare::Shrunk,
    Rare::Full,
    Rare::Least,
    Rare::Overtaken,
    Rare::LeavesByItsOwnStep,
    Rare::LeavesSick,
    Rare::NewcomerIsLate,
    Rare::EndsMeanwhile,
    Rare::BeforeARestart,
    Rare::Helped,
    Rare::DidNotHelp,
];

/// Something that the shell does for a step, which takes its time; the step may be over before it is done.
struct Task {
    child: ChildKey,
    task: TaskNumber,
    more: bool,
}

/// One pool, its supervisor, and the shell between them.
struct Pool {
    core: Supervisor,
    now: Time,
    ladder: Arc<Ladder>,
    number: u32,
    requests: u64,
    /// Who lives, and whether its start is unanswered.
    live: HashMap<ChildKey, (Incarnation, bool)>,
    stopping: HashSet<ChildKey>,
    gathering: Vec<(ChildKey, TaskNumber)>,
    mail: Vec<ChildKey>,
    tasks: Vec<Task>,
    log: Vec<String>,
    seen: HashSet<Rare>,
}

fn spec(index: u32, ladder: &Arc<Ladder>) -> ChildSpec {
    ChildSpec {
        ladder: Some(Arc::clone(ladder)),
        pool: Some(PoolOf { worker: "w".into(), min: MIN, max: MAX }),
        ..child(&format!("w/{index}"))
    }
}

impl Pool {
    fn of(number: u32, steps: impl IntoIterator<Item = Step>) -> Self {
        let ladder = Arc::new(Ladder { steps: steps.into_iter().collect(), ..Ladder::default() });
        let children = (0..number).map(|index| spec(index, &ladder)).chain([child("other")]).collect();
        let owner = Sim::spec(RestartStrategy::OneForOne, OnExhausted::Quarantine, 3);
        let mut pool = Self {
            core: Supervisor::new(owner, children).expect("a valid specification"),
            now: secs(1000),
            ladder,
            number,
            requests: 0,
            live: HashMap::new(),
            stopping: HashSet::new(),
            gathering: Vec::new(),
            mail: Vec::new(),
            tasks: Vec::new(),
            log: Vec::new(),
            seen: HashSet::new(),
        };
        pool.tell(Fact::Boot);
        pool.answer();
        pool.log.clear();
        pool
    }

    fn key(&self, index: u32) -> ChildKey {
        self.core.key(&format!("w/{index}")).expect("one of the pool")
    }

    fn open(&self, key: ChildKey) -> bool {
        self.core.child(key).is_some_and(|view| view.care.is_some())
    }

    fn name(&self, key: ChildKey) -> String {
        self.core.child(key).map_or_else(|| "gone".to_owned(), |view| view.spec.id.to_string())
    }

    fn tell(&mut self, fact: Fact) {
        for action in self.core.on_fact(self.now, fact) {
            match action {
                Action::Start { child, incarnation } => {
                    assert!(!self.live.contains_key(&child), "never two at once");
                    self.live.insert(child, (incarnation, true));
                    let name = self.name(child);
                    self.log.push(format!("start {name}#{incarnation}"));
                }
                Action::Stop { child, incarnation, .. } => {
                    if self.stopping.insert(child) {
                        let name = self.name(child);
                        self.log.push(format!("stop {name}#{incarnation}"));
                    }
                }
                Action::Recovery { child, act, .. } => self.act(child, *act),
                Action::Removed { child } => {
                    assert!(!self.live.contains_key(&child), "the removed do not live")
                }
                Action::Retry { child } => self.mail.push(child),
                Action::Report { .. }
                | Action::Changed { .. }
                | Action::Booted
                | Action::Added { .. }
                | Action::Respec { .. }
                | Action::Reply { .. }
                | Action::Finished { .. } => {}
            }
        }
        self.is_whole();
    }

    /// As many as the shell has said, with the lowest numbers, and within the bounds.
    fn is_whole(&self) {
        let all: Vec<String> = self.core.children().map(|key| self.name(key)).collect();
        let stay = |id: &&String| {
            let view = self.core.key(id).and_then(|key| self.core.child(key));
            id.starts_with("w/") && view.is_some_and(|view| !view.stopped_by_operator)
        };
        let mut pool: Vec<String> = all.iter().filter(stay).cloned().collect();
        pool.sort();
        let wanted: Vec<String> = (0..self.number).map(|index| format!("w/{index}")).collect();
        assert_eq!(pool, wanted);
        assert!((MIN..=MAX).contains(&self.number), "{}", self.number);
    }

    fn act(&mut self, child: ChildKey, act: RecoveryAct) {
        match act {
            RecoveryAct::Ask { question, allowed } => {
                let place = allowed.first().map_or(0, |(place, _)| *place);
                self.tell(Fact::Leave { child, question, answer: Ok((place, String::new())) });
            }
            RecoveryAct::Do { task, work: Work::Gather, .. } => self.gathering.push((child, task)),
            RecoveryAct::Do { task, work: Work::Carry(strategy), .. } => {
                assert!(strategy.is_scaling(), "no other step of these ladders is carried out");
                self.tasks.push(Task { child, task, more: strategy == Strategy::ScaleUp });
            }
            RecoveryAct::Skipped { strategy, reason } => {
                self.seen.extend(reason.contains("pool.max").then_some(Rare::Full));
                self.seen.extend(reason.contains("pool.min").then_some(Rare::Least));
                self.log.push(format!("skipped {strategy} ({reason})"));
            }
            RecoveryAct::Began { strategy, .. } => self.log.push(format!("began {strategy}")),
            RecoveryAct::Ended { strategy, outcome, text } => {
                if strategy.is_scaling() {
                    let rare = match outcome {
                        Outcome::Ok => Some(Rare::Helped),
                        Outcome::Failed => Some(Rare::DidNotHelp),
                        Outcome::Skipped => Some(Rare::Overtaken),
                        Outcome::Interrupted => {
                            text.contains("its own step").then_some(Rare::LeavesByItsOwnStep)
                        }
                    };
                    self.seen.extend(rare);
                    self.seen.extend(text.contains("it ended").then_some(Rare::EndsMeanwhile));
                    self.seen.extend(text.contains("was not ready").then_some(Rare::NewcomerIsLate));
                }
                self.log.push(format!("ended {strategy}: {}", outcome.word()));
            }
            RecoveryAct::Closed { outcome, text } => {
                self.seen.extend((text == "it is taken away").then_some(Rare::LeavesSick));
                self.log.push(format!("closed: {} ({text})", outcome.word()));
            }
            RecoveryAct::Opened { .. }
            | RecoveryAct::Return { .. }
            | RecoveryAct::Waits { .. }
            | RecoveryAct::TrialHeld { .. }
            | RecoveryAct::Breaker { .. } => {}
        }
    }

    /// Somebody has the number changed; nobody but who comes or goes hears of it.
    fn scale(&mut self, number: u32) {
        let stay: HashSet<ChildKey> = (0..number.min(self.number)).map(|index| self.key(index)).collect();
        let before = (self.live.clone(), self.stopping.clone());
        self.number = number;
        let all = (0..number).map(|index| spec(index, &self.ladder)).chain([child("other")]);
        let children = all.map(|spec| ReformChild { spec, change: Change::Keep }).collect();
        let reform = Reform { spec: self.core.spec().clone(), children };
        self.requests += 1;
        let id = RequestId(self.requests);
        self.tell(Fact::Request { id, request: Request::Reform(Box::new(reform)) });
        for key in stay {
            assert_eq!(self.live.get(&key), before.0.get(&key), "who stays is not touched");
            assert_eq!(self.stopping.contains(&key), before.1.contains(&key), "who stays is not touched");
        }
    }

    /// The shell does what a step wants; `late`: the newcomer is not ready in time.
    fn work(&mut self, at: usize, late: bool) {
        let Task { child, task, more } = self.tasks.remove(at);
        let next = if more { self.number + 1 } else { self.number - 1 };
        if !(MIN..=MAX).contains(&next) {
            let result = Err(Undone::Unfit("overtaken".to_owned()));
            return self.tell(Fact::Performed { child, task, result });
        }
        let down = self.core.child(child).is_some_and(|view| view.phase == Phase::Backoff);
        self.seen.extend(down.then_some(Rare::BeforeARestart));
        self.seen.insert(if more { Rare::Grown } else { Rare::Shrunk });
        self.scale(next);
        let result = if late { Err(Undone::Failed("w was not ready".to_owned())) } else { Ok(()) };
        self.tell(Fact::Performed { child, task, result });
    }

    /// Starts and stops are answered, and whoever is looked at was.
    fn answer(&mut self) {
        for (child, task) in std::mem::take(&mut self.gathering) {
            self.tell(Fact::Performed { child, task, result: Ok(()) });
        }
        for child in std::mem::take(&mut self.mail) {
            self.tell(Fact::Retry { child });
        }
        let stopping: Vec<ChildKey> = self.stopping.drain().collect();
        for child in stopping {
            if let Some((incarnation, _)) = self.live.remove(&child) {
                self.tell(Fact::Exited { child, incarnation, exit: crate::exit::Exit::Stopped });
            }
        }
        let starting: Vec<ChildKey> =
            self.live.iter().filter(|(_, (_, starts))| *starts).map(|(child, _)| *child).collect();
        for child in starting {
            if let Some((incarnation, starts)) = self.live.get_mut(&child) {
                *starts = false;
                let incarnation = *incarnation;
                self.tell(Fact::Ready { child, incarnation });
            }
        }
    }

    fn judge(&mut self, child: ChildKey, verdict: &Arc<crate::health::Verdict>) {
        if let Some((incarnation, _)) = self.live.get(&child) {
            let incarnation = *incarnation;
            self.tell(Fact::Judged { child, incarnation, verdict: Arc::clone(verdict) });
        }
    }

    fn end(&mut self, child: ChildKey) {
        self.stopping.remove(&child);
        if let Some((incarnation, _)) = self.live.remove(&child) {
            self.tell(Fact::Exited { child, incarnation, exit: crash() });
        }
    }

    fn pass(&mut self, time: Time) {
        let end = self.now + time;
        while let Some(due) = self.core.next_due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.tell(Fact::Tick);
        }
        self.now = end;
    }

    fn did(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }
}

fn up() -> Step {
    Step::new(Strategy::ScaleUp)
}

fn down() -> Step {
    Step::new(Strategy::ScaleDown)
}

#[test]
fn one_more_helps_the_sick_one_if_it_is_well_then_and_holds() {
    let mut pool = Pool::of(2, [up(), Step::new(Strategy::SoftRestart)]);
    let first = pool.key(0);
    pool.judge(first, &sick());
    pool.answer();
    assert_eq!(pool.did(), "began scale_up");
    pool.work(0, false);
    pool.answer();
    assert_eq!(pool.did(), "start w/2#1");
    pool.judge(first, &well());
    pool.pass(secs(10));
    assert_eq!(pool.did(), "ended scale_up: ok, closed: ok (well for 10s)");
    let view = pool.core.child(first).unwrap();
    assert_eq!((view.incarnation.0, view.budget_left), (1, 3), "it went on, and nothing counts");
}

#[test]
fn one_more_that_does_not_help_is_followed_by_the_next_step() {
    let mut pool = Pool::of(2, [up(), Step::new(Strategy::SoftRestart)]);
    let first = pool.key(0);
    pool.judge(first, &sick());
    pool.answer();
    pool.work(0, false);
    pool.answer();
    pool.pass(secs(9));
    pool.judge(first, &sick());
    pool.pass(secs(1));
    assert_eq!(
        pool.did(),
        "began scale_up, start w/2#1, ended scale_up: failed, began soft_restart, stop w/0#1"
    );
}

#[test]
fn at_its_bounds_a_pool_has_other_steps() {
    let mut pool = Pool::of(MAX, [up(), down()]);
    let key = pool.key(0);
    pool.judge(key, &sick());
    pool.answer();
    assert_eq!(
        pool.did(),
        "skipped scale_up (the pool has all of its 4 instances (pool.max)), began scale_down"
    );
    let mut pool = Pool::of(MIN, [down(), Step::new(Strategy::SoftRestart)]);
    let key = pool.key(0);
    pool.judge(key, &sick());
    let did = pool.did();
    assert!(did.starts_with("skipped scale_down (the pool has no more than its least number, 1"), "{did}");
    assert!(did.contains("began soft_restart"), "{did}");
}

#[test]
fn whoever_is_overtaken_on_the_way_is_passed_over_and_that_is_no_failure() {
    let mut pool = Pool::of(3, [up(), Step::new(Strategy::SoftRestart)]);
    let (first, second) = (pool.key(0), pool.key(1));
    pool.judge(first, &sick());
    pool.judge(second, &sick());
    pool.answer();
    let _ = pool.did();
    pool.work(0, false);
    pool.work(0, false);
    assert_eq!(pool.did(), "start w/3#1, ended scale_up: skipped");
    assert_eq!(pool.number, 4);
    pool.judge(first, &well());
    pool.pass(secs(10));
    let did = pool.did();
    assert!(did.contains("ended scale_up: ok, closed: ok"), "{did}");
    assert!(
        did.contains("began soft_restart, stop w/1#1"),
        "what did not help it is followed by the next step: {did}"
    );
}

#[test]
fn one_less_may_be_the_sick_one_itself_and_its_incident_ends_with_it() {
    let mut pool = Pool::of(2, [down()]);
    let key = pool.key(1);
    pool.judge(key, &sick());
    pool.answer();
    pool.work(0, false);
    let did = pool.did();
    assert!(did.contains("ended scale_down: interrupted, closed: interrupted (its own step made"), "{did}");
    assert!(did.ends_with("stop w/1#1"), "{did}");
    pool.answer();
    assert_eq!(pool.core.key("w/1"), None);
}

#[test]
fn a_cause_that_a_step_names_has_one_more_made_before_the_restart() {
    let when: Arc<[Arc<str>]> = Arc::new(["crash".into()]);
    let mut pool = Pool::of(1, [Step { when, ..up() }]);
    let key = pool.key(0);
    pool.end(key);
    assert_eq!(pool.did(), "began scale_up");
    pool.work(0, false);
    assert_eq!(pool.did(), "start w/1#1, began soft_restart, start w/0#2");
    pool.answer();
    pool.pass(secs(10));
    assert_eq!(pool.did(), "ended soft_restart: ok, ended scale_up: ok, closed: ok (well for 10s)");
}

#[test]
fn by_hand_it_is_refused_at_the_bounds() {
    let mut pool = Pool::of(MAX, []);
    let child = pool.key(0);
    let ask = |pool: &mut Pool, strategy: Strategy| {
        let request = Request::Recover { child, step: Box::new(Step::new(strategy)), by: "ann".into() };
        let actions = pool.core.on_fact(pool.now, Fact::Request { id: RequestId(99), request });
        actions
            .iter()
            .any(|action| matches!(action, Action::Reply { reply: Err(Refused::CannotRecover(_)), .. }))
    };
    assert!(ask(&mut pool, Strategy::ScaleUp));
    assert!(!ask(&mut pool, Strategy::ScaleDown));
}

/// Small numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or(0)
    }
}

/// Facts in any order, steps that take their time, and operators who scale meanwhile; then all is well, and it comes to
/// rest with every incident closed.
fn life(seed: u64) -> HashSet<Rare> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let when: Arc<[Arc<str>]> = Arc::new(["crash".into()]);
    let steps = match seed % 3 {
        0 => vec![up().times(3), down(), Step::new(Strategy::SoftRestart)],
        1 => vec![down().times(2), up(), Step::new(Strategy::HardRestart)],
        _ => vec![Step { when, ..up() }, up(), down(), Step::new(Strategy::Quarantine)],
    };
    let mut pool = Pool::of(1 + u32::try_from(seed % 4).unwrap_or(0), steps);
    for _ in 0..120 {
        let child = pool.key(u32::try_from(dice.below(u64::from(pool.number))).unwrap_or(0));
        match dice.below(16) {
            0..=3 => pool.judge(child, &sick()),
            4 => pool.judge(child, &verdict(Health::Unknown, None)),
            5 | 6 => pool.judge(child, &well()),
            7 => pool.end(child),
            8 | 9 if !pool.tasks.is_empty() => {
                let at = dice.index(pool.tasks.len());
                let late = dice.below(4) == 0;
                pool.work(at, late);
            }
            10 => {
                let number = MIN + u32::try_from(dice.below(u64::from(MAX))).unwrap_or(0);
                pool.scale(number);
            }
            11 | 12 => pool.pass(secs(dice.below(15))),
            _ => pool.answer(),
        }
    }
    for _ in 0..60 {
        pool.answer();
        while !pool.tasks.is_empty() {
            pool.work(0, false);
        }
        let all: Vec<ChildKey> = pool.core.children().collect();
        for child in &all {
            let parked = pool.core.child(*child).is_some_and(|view| view.phase == Phase::Quarantined);
            if parked {
                pool.requests += 1;
                let (id, child) = (RequestId(pool.requests), *child);
                pool.tell(Fact::Request { id, request: Request::ResetFailed { child } });
            }
            pool.judge(*child, &well());
        }
        pool.pass(secs(10));
    }
    let all: Vec<ChildKey> = pool.core.children().collect();
    for child in all {
        let name = pool.name(child);
        assert!(!pool.open(child), "seed {seed}: the incident of {name} stays open");
        assert_eq!(pool.core.child(child).unwrap().phase, Phase::Running, "seed {seed}: {name}");
    }
    pool.seen
}

#[test]
fn no_life_of_a_pool_leaves_its_bounds_and_every_rare_state_is_reached() {
    let mut seen = HashSet::new();
    for seed in 0..600 {
        seen.extend(life(seed));
    }
    let missing: Vec<Rare> = ALL.into_iter().filter(|rare| !seen.contains(rare)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
