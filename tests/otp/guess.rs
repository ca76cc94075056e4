//! What the generator believes about the supervisor it writes for: just enough of OTP to aim well.
//!
//! This is no model and decides nothing: the answers come from Erlang.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::sim::dice::Dice;

/// The word behind `sup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Only the one that ended.
    One,
    /// All.
    All,
    /// The one that ended and those behind it.
    Rest,
    /// Children of a template.
    Simple,
}

impl Strategy {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::One => "one_for_one",
            Self::All => "one_for_all",
            Self::Rest => "rest_for_one",
            Self::Simple => "simple_one_for_one",
        }
    }
}

/// What a start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It starts.
    Ok,
    /// It says there is nothing to start.
    Ignore,
    /// It returns an error.
    Error,
    /// It raises one.
    Crash,
    /// It says somebody else has started it.
    Already,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Ignore => "ignore",
            Self::Error => "error",
            Self::Crash => "crash",
            Self::Already => "already",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Up,
    Down,
    Parked,
}

#[derive(Debug, Clone)]
struct Child {
    id: String,
    restart: String,
    significant: bool,
    at: At,
}

/// Who is probably up.
#[derive(Debug, Clone)]
pub(crate) struct Guess {
    pub(crate) strategy: Strategy,
    pub(crate) intensity: usize,
    period: u64,
    auto: &'static str,
    declared: Vec<Child>,
    children: Vec<Child>,
    scripts: HashMap<String, VecDeque<Outcome>>,
    restarts: Vec<u64>,
    /// Ids whose restart is parked, oldest first.
    pub(crate) parked: VecDeque<String>,
    /// Ids that were declared or started once.
    pub(crate) known: BTreeSet<String>,
    /// Those of them that ignore a shutdown.
    pub(crate) stubborn: BTreeSet<String>,
    /// Whether the supervisor has ended.
    pub(crate) over: bool,
    added: usize,
}

impl Guess {
    pub(crate) fn new(strategy: Strategy, intensity: usize, period: u64, auto: &'static str) -> Self {
        Self {
            strategy,
            intensity,
            period,
            auto,
            declared: Vec::new(),
            children: Vec::new(),
            scripts: HashMap::new(),
            restarts: Vec::new(),
            parked: VecDeque::new(),
            known: BTreeSet::new(),
            stubborn: BTreeSet::new(),
            over: true,
            added: 0,
        }
    }

    pub(crate) fn declare(&mut self, id: &str, words: &str) {
        self.declared.push(child(id, words));
    }

    pub(crate) fn declared(&self) -> usize {
        if self.strategy == Strategy::Simple { self.added } else { self.declared.len() + self.added }
    }

    pub(crate) fn boot(&mut self) {
        self.over = false;
        self.restarts.clear();
        self.children = if self.strategy == Strategy::Simple { Vec::new() } else { self.declared.clone() };
        for index in 0..self.children.len() {
            let id = self.children[index].id.clone();
            match self.outcome(&id) {
                Outcome::Ok => self.children[index].at = At::Up,
                Outcome::Ignore => {}
                Outcome::Error | Outcome::Crash | Outcome::Already => {
                    self.stop();
                    return;
                }
            }
        }
    }

    pub(crate) fn script(&mut self, id: &str, outcomes: &[Outcome]) {
        self.scripts.insert(id.to_owned(), outcomes.iter().copied().collect());
    }

    pub(crate) fn exit(&mut self, id: &str, reason: &str, now: u64) {
        let Some(index) = self.children.iter().position(|c| c.id == id && c.at == At::Up) else {
            return;
        };
        let fine = matches!(reason, "normal" | "shutdown" | "shutdown_term");
        let restart = self.children[index].restart.as_str();
        if restart == "permanent" || (restart == "transient" && !fine) {
            self.restart(index, now);
            return;
        }
        let significant = self.children[index].significant;
        self.children[index].at = At::Down;
        let others = self.children.iter().any(|c| c.significant && c.at != At::Down);
        self.children.retain(|c| c.id != id || c.restart != "temporary" && self.strategy != Strategy::Simple);
        if significant && (self.auto == "any_significant" || (self.auto == "all_significant" && !others)) {
            self.stop();
        }
    }

    fn restart(&mut self, index: usize, now: u64) {
        self.restarts.retain(|at| at + self.period >= now);
        self.restarts.push(now);
        if self.restarts.len() > self.intensity {
            self.stop();
            return;
        }
        let affected: Vec<String> = match self.strategy {
            Strategy::One | Strategy::Simple => vec![self.children[index].id.clone()],
            Strategy::All => self.children.iter().map(|c| c.id.clone()).collect(),
            Strategy::Rest => self.children[index..].iter().map(|c| c.id.clone()).collect(),
        };
        let alone = matches!(self.strategy, Strategy::One | Strategy::Simple);
        self.children.retain(|c| alone || !affected.contains(&c.id) || c.restart != "temporary");
        for c in &mut self.children {
            if affected.contains(&c.id) {
                c.at = At::Down;
            }
        }
        for id in affected {
            let Some(index) = self.children.iter().position(|c| c.id == id) else {
                continue;
            };
            match self.outcome(&id) {
                Outcome::Ok => self.children[index].at = At::Up,
                Outcome::Ignore => {}
                Outcome::Error | Outcome::Crash | Outcome::Already => {
                    self.children[index].at = At::Parked;
                    self.parked.push_back(id);
                    return;
                }
            }
        }
    }

    pub(crate) fn retry(&mut self, now: u64) {
        let Some(id) = self.parked.pop_front() else {
            return;
        };
        if let Some(index) = self.children.iter().position(|c| c.id == id && c.at == At::Parked) {
            self.restart(index, now);
        }
    }

    pub(crate) fn call(&mut self, verb: &str, id: &str) {
        let Some(index) = self.children.iter().position(|c| c.id == id) else {
            return;
        };
        match (verb, self.children[index].at) {
            ("terminate", _) => {
                self.children[index].at = At::Down;
                if self.children[index].restart == "temporary" || self.strategy == Strategy::Simple {
                    self.children.remove(index);
                }
            }
            ("restart", At::Down) if self.strategy != Strategy::Simple => {
                if self.outcome(id) == Outcome::Ok {
                    self.children[index].at = At::Up;
                }
            }
            ("delete", At::Down) if self.strategy != Strategy::Simple => {
                self.children.remove(index);
            }
            (_, At::Up | At::Down | At::Parked) => {}
        }
    }

    pub(crate) fn start(&mut self, id: &str, words: &str) {
        if self.over || (self.strategy != Strategy::Simple && self.children.iter().any(|c| c.id == id)) {
            return;
        }
        self.added += 1;
        if self.outcome(id) == Outcome::Ok {
            let mut new = if self.strategy == Strategy::Simple {
                Child { id: id.to_owned(), ..self.declared[0].clone() }
            } else {
                child(id, words)
            };
            new.at = At::Up;
            self.children.push(new);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.children.clear();
        self.over = true;
    }

    /// Whether it ignores a shutdown, by itself or as all children of its template do.
    pub(crate) fn is_stubborn(&self, id: &str) -> bool {
        self.stubborn.contains(id) || self.stubborn.contains("*")
    }

    pub(crate) fn any(&self, dice: &mut Dice) -> Option<String> {
        (!self.children.is_empty()).then(|| self.children[dice.below(self.children.len())].id.clone())
    }

    pub(crate) fn all_up(&self) -> Vec<String> {
        let up = self.children.iter().filter(|c| c.at == At::Up).map(|c| c.id.clone());
        let mut seen = BTreeSet::new();
        up.filter(|id| seen.insert(id.clone())).collect()
    }

    pub(crate) fn any_up(&self, dice: &mut Dice) -> Option<String> {
        let up = self.all_up();
        (!up.is_empty()).then(|| up[dice.below(up.len())].clone())
    }

    pub(crate) fn any_parked(&self, dice: &mut Dice) -> Option<String> {
        self.any_that_is(At::Parked, dice)
    }

    pub(crate) fn any_down(&self, dice: &mut Dice) -> Option<String> {
        self.any_that_is(At::Down, dice)
    }

    fn any_that_is(&self, at: At, dice: &mut Dice) -> Option<String> {
        let those: Vec<&Child> = self.children.iter().filter(|c| c.at == at).collect();
        (!those.is_empty()).then(|| those[dice.below(those.len())].id.clone())
    }

    /// The second of the oldest restart that still counts.
    pub(crate) fn oldest_restart(&self) -> Option<u64> {
        self.restarts.first().copied()
    }

    fn outcome(&mut self, id: &str) -> Outcome {
        self.scripts.get_mut(id).and_then(VecDeque::pop_front).unwrap_or(Outcome::Ok)
    }
}

fn child(id: &str, words: &str) -> Child {
    let restart = words.split(' ').nth(1).unwrap_or("permanent").to_owned();
    Child { id: id.to_owned(), restart, significant: words.ends_with("significant"), at: At::Down }
}
