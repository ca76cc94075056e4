//! Invariants under random schedules: every answer of the world may come at any time, in any order, or be
//! crossed by an exit, a request, a deadline or the end.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::super::*;
use super::{Sim, child, code, crash, secs};
use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;

type Process = (ChildKey, Incarnation);

#[derive(Default)]
struct World {
    /// Whoever may have something alive, and whether its start is still unanswered.
    live: HashMap<Process, bool>,
    asked: HashSet<Process>,
    mail: Vec<Fact>,
    open: HashSet<RequestId>,
    requests: u64,
    ending: bool,
    finished: bool,
    now: Time,
    starts: HashMap<ChildKey, Incarnation>,
    /// Whom somebody has asked something about that may come true later.
    wished: HashSet<ChildKey>,
}

const CHILDREN: [&str; 6] =
    ["a", "b transient backoff", "c held", "d temporary", "e backoff uptime", "f transient infinity"];

fn make(strategy: u8, quarantine: bool) -> Supervisor {
    let strategy = [RestartStrategy::OneForOne, RestartStrategy::OneForAll, RestartStrategy::RestForOne]
        [usize::from(strategy % 3)];
    let exhausted = if quarantine { OnExhausted::Quarantine } else { OnExhausted::Escalate };
    let spec = Sim::spec(strategy, exhausted, 4);
    Supervisor::new(spec, CHILDREN.iter().map(|words| child(words)).collect()).expect("a valid specification")
}

/// Who is in this slot, or somebody who is not there.
fn in_slot(core: &Supervisor, slot: u8) -> ChildKey {
    let first = ChildKey::first(slot.into());
    core.children().find(|key| key.slot() == first.slot()).unwrap_or(first)
}

impl World {
    fn tell(&mut self, core: &mut Supervisor, fact: Fact) {
        let before = looks(core);
        let hands_off: HashSet<ChildKey> =
            before.iter().filter(|(_, looks)| looks.4.is_some()).map(|(key, _)| *key).collect();
        let actions = core.on_fact(self.now, fact);
        assert!(!self.finished || actions.is_empty(), "nothing follows the end");
        let mut changed = HashSet::new();
        let mut removed = HashSet::new();
        for action in actions {
            if let Action::Start { child, .. } | Action::Stop { child, how: StopHow::Graceful, .. } = action {
                let paused =
                    hands_off.contains(&child) && core.child(child).is_some_and(|v| v.paused.is_some());
                // Who is on its way out of the definition is meant to be down.
                let out = core.child(child).is_some_and(|v| v.stopped_by_operator);
                let asked = out || self.wished.contains(&child);
                assert!(!paused || asked || core.is_ending(), "nobody touches who is paused");
                if matches!(action, Action::Stop { .. }) {
                    // What was begun before a pause (a new definition that an earlier pause had put off) comes to its end.
                    self.wished.insert(child);
                }
            }
            assert!(!self.finished, "Finished is the last action");
            match action {
                Action::Start { child, incarnation } => self.start(child, incarnation),
                Action::Stop { child, incarnation, .. } => {
                    self.asked.insert((child, incarnation));
                }
                Action::Retry { child } => self.mail.push(Fact::Retry { child }),
                Action::Reply { id, .. } => assert!(self.open.remove(&id), "each request is answered once"),
                Action::Changed { child } => assert!(changed.insert(child), "a change is told once"),
                Action::Removed { child } => {
                    assert!(!self.live.keys().any(|(key, _)| *key == child), "the removed do not live");
                    removed.insert(child);
                }
                Action::Finished { .. } => self.finished = true,
                Action::Added { .. }
                | Action::Respec { .. }
                | Action::Report { .. }
                | Action::Recovery { .. }
                | Action::Booted => {}
            }
        }
        self.ending |= core.is_ending();
        for (key, looks) in looks(core) {
            let differs = before.get(&key) != Some(&looks);
            assert!(removed.contains(&key) || differs == changed.contains(&key), "changes are told exactly");
        }
    }

    fn start(&mut self, child: ChildKey, incarnation: Incarnation) {
        assert!(!self.ending, "nothing starts once the end began");
        assert!(!self.live.keys().any(|(key, _)| *key == child), "never two incarnations at once");
        let last = self.starts.insert(child, incarnation).unwrap_or(Incarnation::NONE);
        assert!(incarnation > last, "incarnations only rise");
        self.live.insert((child, incarnation), true);
    }

    fn some_process(&self, pick: u8) -> Option<Process> {
        let mut all: Vec<_> = self.live.keys().copied().collect();
        all.sort_unstable();
        all.get(usize::from(pick) % all.len().max(1)).copied()
    }

    fn end_of(&mut self, (child, incarnation): Process, kind: u8) -> Fact {
        let starting = self.live.remove(&(child, incarnation)).unwrap_or(false);
        let asked = self.asked.remove(&(child, incarnation));
        let exit = match kind % 6 {
            0 if asked => Exit::Stopped,
            1 => code(0),
            2 => code(78),
            3 if asked => Exit::Killed,
            _ => crash(),
        };
        if starting && kind.is_multiple_of(2) {
            let failure = if kind.is_multiple_of(4) {
                StartFailure::Resources { detail: String::new() }
            } else {
                StartFailure::System { detail: String::new() }
            };
            return Fact::StartFailed { child, incarnation, exit: Exit::StartFailed(failure) };
        }
        Fact::Exited { child, incarnation, exit }
    }

    fn request(&mut self, core: &mut Supervisor, what: u8, who: u8) {
        let child = in_slot(core, who % 8);
        let request = match what % 11 {
            0 => {
                Request::Add { spec: Box::new(super::child(["g", "h temporary", "a"][usize::from(who % 3)])) }
            }
            1 => Request::Terminate { child },
            2 => Request::Revive { child },
            3 => Request::Delete { child },
            4 => Request::Start { child },
            5 => Request::Stop { child },
            6 => Request::Restart { child },
            7 => Request::Pause { child, lasting: (who < 128).then(|| secs(u64::from(who % 9))) },
            8 => Request::Resume { child },
            9 => Request::Reform(Box::new(some_definition(core.spec(), who))),
            _ => Request::ResetFailed { child },
        };
        if let Request::Reform(reform) = &request {
            // Who is no longer named has to go, paused or not; who is replaced before a pause is started again in it.
            let asked = |v: ChildView<'_>| {
                let named = reform.children.iter().find(|child| child.spec.id == v.spec.id);
                named.is_none_or(|child| child.change != Change::Keep && v.paused.is_none())
            };
            let gone = core.children().filter(|key| core.child(*key).is_some_and(asked));
            self.wished.extend(gone);
        } else if !matches!(request, Request::Pause { .. } | Request::Resume { .. }) {
            self.wished.insert(child);
        } else if self.open.is_empty()
            && core.child(child).is_some_and(|v| ![Phase::Stopping, Phase::Stuck].contains(&v.phase))
        {
            // Whatever was asked before has come true; only a restart may still be under way, also of one that could not
            // be killed until now.
            self.wished.remove(&child);
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        if !self.finished {
            self.open.insert(id);
        }
        self.tell(core, Fact::Request { id, request });
    }

    fn step(&mut self, core: &mut Supervisor, (op, who, what): (u8, u8, u8)) {
        match op % 16 {
            0..=4 => {
                let starting = self.some_process(who).filter(|process| self.live[process]);
                if let Some(process) = starting.filter(|_| what % 8 != 0) {
                    self.live.insert(process, false);
                    self.tell(core, Fact::Ready { child: process.0, incarnation: process.1 });
                }
            }
            5..=8 => {
                if let Some(process) = self.some_process(who) {
                    let fact = self.end_of(process, what);
                    self.tell(core, fact);
                }
            }
            9 => {
                if !self.mail.is_empty() {
                    let fact = self.mail.remove(0);
                    self.tell(core, fact);
                }
            }
            10 | 11 => {
                self.now += secs(u64::from(what % 12));
                self.tell(core, Fact::Tick);
            }
            12 | 13 => self.request(core, what, who),
            14 => {
                let child = in_slot(core, who % 8);
                self.tell(core, Fact::Held { child, held: what % 2 == 0 });
            }
            _ => {
                let stale = Incarnation(u64::from(what % 3));
                let child =
                    if what % 2 == 0 { in_slot(core, who % 8) } else { ChildKey::first(u32::from(who % 8)) };
                if !self.live.contains_key(&(child, stale)) {
                    let before = looks(core);
                    self.tell(core, Fact::Exited { child, incarnation: stale, exit: crash() });
                    assert_eq!(before, looks(core), "a stale fact changes nothing");
                }
            }
        }
    }

    /// Answers everything well until nothing is left to answer.
    fn calm(&mut self, core: &mut Supervisor) {
        for _ in 0..10_000 {
            let next =
                self.live.iter().find(|(process, starting)| **starting || self.asked.contains(process));
            if let Some((process, _)) = next.map(|(process, starting)| (*process, *starting)) {
                if self.asked.remove(&process) {
                    self.live.remove(&process);
                    let (child, incarnation) = process;
                    self.tell(core, Fact::Exited { child, incarnation, exit: Exit::Stopped });
                } else {
                    self.live.insert(process, false);
                    self.tell(core, Fact::Ready { child: process.0, incarnation: process.1 });
                }
            } else if !self.mail.is_empty() {
                let fact = self.mail.remove(0);
                self.tell(core, fact);
            } else {
                return;
            }
        }
        panic!("the world does not calm down");
    }
}

/// The usual children but some, one changed, in another order, and one more.
fn some_definition(spec: &SupervisorSpec, pick: u8) -> Reform {
    let mut children: Vec<ReformChild> = CHILDREN
        .iter()
        .zip(0u8..)
        .filter(|(_, at)| (pick >> (at % 5)) & 1 == 0 || *at == pick % 6)
        .map(|(words, at)| {
            let change = [Change::Keep, Change::Update, Change::Renew][usize::from((at ^ pick) % 3)];
            ReformChild { spec: child(words), change }
        })
        .collect();
    if pick.is_multiple_of(3) {
        children.reverse();
    }
    children.push(ReformChild { spec: child("n backoff"), change: Change::Keep });
    Reform { spec: spec.clone(), children }
}

type Looks = HashMap<ChildKey, (Phase, Option<Planned>, Incarnation, bool, Option<Pause>, bool)>;

fn looks(core: &Supervisor) -> Looks {
    core.children()
        .filter_map(|key| core.child(key).map(|view| (key, view)))
        .map(|(key, view)| {
            let stopped = view.stopped_by_operator;
            (key, (view.phase, view.next, view.incarnation, stopped, view.paused, view.outdated))
        })
        .collect()
}

/// With nothing under way, whoever waits has something that will wake it.
fn nobody_is_forgotten(core: &Supervisor) {
    for key in core.children() {
        let Some(view) = core.child(key) else { continue };
        match view.phase {
            Phase::Waiting => {
                let blocker = view.waits_for.and_then(|key| core.child(key));
                assert!(
                    view.paused.is_some() && blocker.is_none()
                        || view.next.map(|next| next.what) == Some(Plan::WaitDependency),
                    "a turn that never comes"
                );
                if let Some(blocker) = blocker {
                    let open = matches!(blocker.phase, Phase::Backoff | Phase::Quarantined | Phase::Waiting)
                        || blocker.next.map(|next| next.what) == Some(Plan::Verify);
                    assert!(open, "{} waits for {:?}", view.spec.id, blocker.phase);
                }
            }
            Phase::Backoff => {
                assert!(view.next.and_then(|next| next.at).is_some(), "a backoff without an end")
            }
            Phase::Starting | Phase::Stopping | Phase::Stuck => panic!("still under way"),
            Phase::Running | Phase::Quarantined | Phase::Stopped | Phase::Done => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_breaks_an_invariant(
        strategy: u8,
        quarantine: bool,
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..160),
        kill: bool,
    ) {
        let mut core = make(strategy, quarantine);
        let mut world = World { now: secs(1000), ..World::default() };
        world.tell(&mut core, Fact::Boot);
        for step in steps {
            world.step(&mut core, step);
        }
        world.calm(&mut core);
        if !world.finished {
            nobody_is_forgotten(&core);
            prop_assert!(world.open.is_empty(), "every request is answered");
        }
        world.tell(&mut core, if kill { Fact::Kill } else { Fact::Shutdown });
        world.calm(&mut core);
        prop_assert!(world.finished && world.live.is_empty() && world.open.is_empty());
        prop_assert_eq!(core.next_due(), None);
    }
}
