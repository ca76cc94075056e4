//! S23 and S24: random lives in which everything may come at any moment: facts, operators' wishes, pauses and new
//! definitions. Whatever has happened, each request is answered once, also when the end comes between; a start at the
//! end of a pause goes on; and once the world is kind, nobody is left down for ever.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use proptest::prelude::*;
use regrow::exit::{Exit, StartFailure};
use regrow::id::Incarnation;
use regrow::policy::{
    Action, AutoShutdown, Change, ChildKey, Fact, Phase, Reform, ReformChild, Request, RequestId, Restart,
    RestartStrategy, RetryPark, StopHow, Supervisor, SupervisorSpec, Time,
};

use crate::sim::dice::Dice;
use crate::sim::tree::{self, FATAL, Tree, ms};

type Process = (ChildKey, Incarnation);

/// What is asked in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wishes {
    /// What people and files ask for.
    Operators,
    /// OTP's calls, too.
    All,
}

struct Life {
    core: Supervisor,
    tree: Tree,
    dice: Dice,
    now: Time,
    /// Who lives, and whether it is ready.
    alive: BTreeMap<Process, bool>,
    /// Who was asked to end.
    asked: BTreeSet<Process>,
    mail: Vec<Fact>,
    /// Requests that nobody has answered yet.
    open: HashSet<RequestId>,
    requests: u64,
    finished: bool,
    wishes: Wishes,
    story: Vec<String>,
}

impl Life {
    fn new(seed: u64, strategy: RestartStrategy, wishes: Wishes) -> Self {
        let mut dice = Dice::new(seed);
        let mut tree = tree::with_strategy(&mut dice, strategy);
        tree.spec.retry = Some(RetryPark { first: ms(500), every: ms(2_000) });
        let core = Supervisor::new(tree.spec.clone(), tree.children.clone()).unwrap();
        let story = vec![tree.to_string()];
        Self {
            core,
            tree,
            dice,
            now: ms(0),
            alive: BTreeMap::new(),
            asked: BTreeSet::new(),
            mail: Vec::new(),
            open: HashSet::new(),
            requests: 0,
            finished: false,
            wishes,
            story,
        }
    }

    fn tell(&mut self, fact: Fact) -> Result<(), String> {
        self.story.push(format!("{:?} {fact:?}", self.now));
        let may_end = matches!(fact, Fact::Tick | Fact::Request { request: Request::Resume { .. }, .. });
        let paused = |key: &ChildKey| self.core.child(*key).is_some_and(|view| view.paused.is_some());
        let paused: BTreeSet<ChildKey> = self.core.children().filter(|key| may_end && paused(key)).collect();
        let actions = self.core.on_fact(self.now, fact);
        let mut resumed = BTreeSet::new();
        for action in actions {
            self.story.push(format!("    {action:?}"));
            match action {
                Action::Start { child, incarnation } => {
                    if self.alive.keys().any(|(key, _)| *key == child) {
                        return Err("a second copy is started".to_owned());
                    }
                    self.alive.insert((child, incarnation), false);
                    if paused.contains(&child) {
                        resumed.insert((child, incarnation));
                    }
                }
                Action::Stop { child, incarnation, how } => {
                    let kill = how == StopHow::Kill;
                    if resumed.contains(&(child, incarnation)) && !self.core.is_ending() {
                        return Err("the start at the end of a pause is stopped at once".to_owned());
                    }
                    if !kill && !self.asked.insert((child, incarnation)) {
                        return Err("asked twice to end".to_owned());
                    }
                    self.asked.insert((child, incarnation));
                }
                Action::Retry { child } => self.mail.push(Fact::Retry { child }),
                Action::Reply { id, .. } => {
                    if !self.open.remove(&id) {
                        return Err(format!("{id:?} is answered twice"));
                    }
                }
                Action::Finished { .. } => self.finished = true,
                Action::Report { .. }
                | Action::Recovery { .. }
                | Action::Changed { .. }
                | Action::Added { .. }
                | Action::Respec { .. }
                | Action::Removed { .. }
                | Action::Booted => {}
            }
        }
        Ok(())
    }

    fn some(&mut self, all: &[Process]) -> Option<Process> {
        (!all.is_empty()).then(|| self.dice.pick(all))
    }

    fn end(&mut self, process: Process) -> Result<(), String> {
        let ready = self.alive.remove(&process).unwrap_or(false);
        let asked = self.asked.remove(&process);
        let (child, incarnation) = process;
        let code = self.dice.pick(&[0, 1, 1, 1, 2, FATAL]);
        let exit = if asked { self.dice.pick(&[0u8, 0, 0, 1]) } else { 1 };
        let exit = match exit {
            0 => Exit::Stopped,
            _ => Exit::Exited { code },
        };
        if !ready && !asked && self.dice.chance(60) {
            let failure = if self.dice.chance(20) {
                StartFailure::Resources { detail: String::new() }
            } else {
                StartFailure::BeforeReady { ended: Box::new(exit) }
            };
            return self.tell(Fact::StartFailed { child, incarnation, exit: Exit::StartFailed(failure) });
        }
        self.tell(Fact::Exited { child, incarnation, exit })
    }

    fn some_child(&mut self) -> Option<ChildKey> {
        let all: Vec<ChildKey> = self.core.children().collect();
        (!all.is_empty()).then(|| self.dice.pick(&all))
    }

    fn definition(&mut self) -> Reform {
        let mut children = Vec::new();
        for number in 0..7 {
            if self.dice.chance(25) {
                continue;
            }
            let template = self.dice.below(self.tree.children.len());
            let mut spec = self.tree.children[template].clone();
            spec.id = tree::id(number);
            spec.held = false;
            let change = self.dice.pick(&[Change::Keep, Change::Keep, Change::Update, Change::Renew]);
            children.push(ReformChild { spec, change });
        }
        if self.dice.chance(30) {
            children.reverse();
        }
        if self.dice.chance(30) {
            let other = self.dice.below(3);
            let other = tree::with_strategy(&mut self.dice, STRATEGIES[other]).spec;
            let never = AutoShutdown::Never;
            self.tree.spec = SupervisorSpec { retry: self.tree.spec.retry, auto_shutdown: never, ..other };
            let significant = |child: &mut ReformChild| child.spec.significant = false;
            children.iter_mut().for_each(significant);
            self.tree.children.iter_mut().for_each(|child| child.significant = false);
        }
        Reform { spec: self.tree.spec.clone(), children }
    }

    fn request(&mut self) -> Result<(), String> {
        let Some(child) = self.some_child() else { return Ok(()) };
        let most = if self.wishes == Wishes::All { 11 } else { 8 };
        let lasting = self.dice.chance(60).then(|| ms(self.dice.between(0, 30) * 100));
        let request = match self.dice.below(most) {
            0 => Request::Start { child },
            1 => Request::Stop { child },
            2 => Request::Restart { child },
            3 | 4 => Request::Pause { child, lasting },
            5 => Request::Resume { child },
            6 if self.tree.spec.strategy != RestartStrategy::SimpleOneForOne => {
                Request::Reform(Box::new(self.definition()))
            }
            6 | 7 => Request::ResetFailed { child },
            8 => Request::Terminate { child },
            9 => Request::Revive { child },
            _ => Request::Delete { child },
        };
        self.ask(request)
    }

    fn ask(&mut self, request: Request) -> Result<(), String> {
        if self.finished {
            return Ok(());
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        self.open.insert(id);
        self.tell(Fact::Request { id, request })
    }

    fn step(&mut self) -> Result<(), String> {
        let waiting: Vec<Process> = self
            .alive
            .iter()
            .filter(|(one, ready)| !**ready && !self.asked.contains(one))
            .map(|(one, _)| *one)
            .collect();
        let asked: Vec<Process> = self.asked.iter().copied().collect();
        let all: Vec<Process> = self.alive.keys().copied().collect();
        match self.dice.weighted(&[8, 5, 4, 3, 4, 5, 2]) {
            0 => match self.some(&waiting) {
                Some((child, incarnation)) => {
                    self.alive.insert((child, incarnation), true);
                    self.tell(Fact::Ready { child, incarnation })
                }
                None => Ok(()),
            },
            1 => self.some(&asked).map_or(Ok(()), |one| self.end(one)),
            2 => self.some(&all).map_or(Ok(()), |one| self.end(one)),
            3 if !self.mail.is_empty() => {
                let fact = self.mail.remove(0);
                self.tell(fact)
            }
            3 => Ok(()),
            4 => self.pass(),
            5 => self.request(),
            _ => {
                let Some(child) = self.some_child() else { return Ok(()) };
                let held = self.dice.chance(50);
                self.tell(Fact::Held { child, held })
            }
        }
    }

    /// Some time, with a tick at every deadline.
    fn pass(&mut self) -> Result<(), String> {
        let end = self.now + ms(self.dice.between(0, 40) * 50);
        self.pass_until(end)
    }

    fn pass_until(&mut self, end: Time) -> Result<(), String> {
        while let Some(due) = self.core.next_due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.tell(Fact::Tick)?;
        }
        self.now = end;
        Ok(())
    }

    /// Everything is answered well until there is nothing left to answer.
    fn calm(&mut self) -> Result<(), String> {
        for _ in 0..5_000 {
            let waiting = self.alive.iter().find(|(one, ready)| !**ready && !self.asked.contains(one));
            if let Some((child, incarnation)) = self.asked.iter().next().copied() {
                self.asked.remove(&(child, incarnation));
                self.alive.remove(&(child, incarnation));
                self.tell(Fact::Exited { child, incarnation, exit: Exit::Stopped })?;
            } else if let Some((&(child, incarnation), _)) = waiting {
                self.alive.insert((child, incarnation), true);
                self.tell(Fact::Ready { child, incarnation })?;
            } else if !self.mail.is_empty() {
                let fact = self.mail.remove(0);
                self.tell(fact)?;
            } else {
                return Ok(());
            }
        }
        Err("the world does not calm down".to_owned())
    }

    /// Nobody is paused or held any more, every start succeeds, and much time passes.
    fn be_kind(&mut self) -> Result<(), String> {
        self.calm()?;
        for child in self.core.children().collect::<Vec<_>>() {
            self.tell(Fact::Held { child, held: false })?;
            self.ask(Request::Resume { child })?;
            self.calm()?;
        }
        for _ in 0..80 {
            let end = self.now + ms(1_000);
            while let Some(due) = self.core.next_due().filter(|due| *due <= end) {
                self.now = due.max(self.now);
                self.tell(Fact::Tick)?;
                self.calm()?;
            }
            self.now = end;
        }
        Ok(())
    }

    fn nobody_is_left_down(&self) -> Result<(), String> {
        let views = || self.core.children().filter_map(|key| self.core.child(key));
        // Whoever says that trying is no use holds its group back until somebody comes.
        if self.finished || views().any(|view| view.fatal) {
            return Ok(());
        }
        for view in views() {
            let down = match view.phase {
                Phase::Running => false,
                Phase::Stopped if self.wishes == Wishes::All => false,
                Phase::Stopped => !view.stopped_by_operator,
                Phase::Done => view.spec.restart == Restart::Permanent,
                Phase::Waiting
                | Phase::Starting
                | Phase::Stopping
                | Phase::Backoff
                | Phase::Quarantined
                | Phase::Stuck => true,
            };
            if down {
                return Err(format!("{} stays {:?}", view.spec.id, view.phase));
            }
        }
        Ok(())
    }

    fn live(&mut self) -> Result<(), String> {
        self.tell(Fact::Boot)?;
        for _ in 0..self.dice.between(0, 120) {
            if self.finished {
                break;
            }
            self.step()?;
        }
        if self.dice.chance(50) {
            self.be_kind()?;
            self.nobody_is_left_down()?;
            if !self.finished && !self.open.is_empty() {
                return Err(format!("nobody answers {:?}", self.open));
            }
        }
        let end = if self.dice.chance(80) { Fact::Shutdown } else { Fact::Kill };
        self.tell(end)?;
        self.calm()?;
        match (self.finished, self.open.is_empty(), self.alive.is_empty()) {
            (true, true, true) => Ok(()),
            (_, false, _) => Err(format!("nobody answers {:?}", self.open)),
            (_, _, false) => Err(format!("{:?} outlive the end", self.alive)),
            (false, true, true) => Err("the end does not come".to_owned()),
        }
    }
}

/// One life; what went wrong, and its story.
pub(crate) fn one(seed: u64, strategy: usize, wishes: Wishes) -> Result<(), (String, String)> {
    let mut life = Life::new(seed, STRATEGIES[strategy], wishes);
    life.live().map_err(|why| (why, life.story.join("\n")))
}

fn lives(seed: u64, strategy: usize, wishes: Wishes) -> Result<(), TestCaseError> {
    one(seed, strategy, wishes).map_err(|(why, story)| {
        TestCaseError::fail(format!("seed {seed}, strategy {strategy}: {why}\n{story}"))
    })
}

const STRATEGIES: [RestartStrategy; 4] = [
    RestartStrategy::OneForOne,
    RestartStrategy::OneForAll,
    RestartStrategy::RestForOne,
    RestartStrategy::SimpleOneForOne,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s23_operators_pauses_and_new_definitions_leave_nobody_behind(seed: u64, strategy in 0..4usize) {
        lives(seed, strategy, Wishes::Operators)?;
    }

    #[test]
    fn s24_nor_do_the_calls_of_otp_between_them(seed: u64, strategy in 0..4usize) {
        lives(seed, strategy, Wishes::All)?;
    }
}
