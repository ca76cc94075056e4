//! S19 and S20: what a new definition of a supervisor leads to, whatever its children were doing when it came.

use std::collections::BTreeMap;

use proptest::prelude::*;
use regrow::exit::Exit;
use regrow::id::Incarnation;
use regrow::policy::{
    Action, Change, ChildKey, ChildSpec, Fact, OnExhausted, Phase, Reform, ReformChild, Request, RequestId,
    RestartStrategy, Supervisor, Time,
};

use crate::invariants::plain;
use crate::sim::tree::{self, Tree, ms};

/// A core whose starts are acknowledged and whose stops are obeyed, with the living counted.
struct World {
    core: Supervisor,
    now: Time,
    alive: BTreeMap<ChildKey, Incarnation>,
    answers: Vec<bool>,
}

impl World {
    fn boot(tree: &Tree) -> Self {
        let core = Supervisor::new(tree.spec.clone(), tree.children.clone()).unwrap();
        let mut world = Self { core, now: ms(0), alive: BTreeMap::new(), answers: Vec::new() };
        world.tell(Fact::Boot);
        world
    }

    /// A fact, and everything the world answers to it.
    fn tell(&mut self, fact: Fact) {
        let mut facts = vec![fact];
        while let Some(fact) = facts.pop() {
            let actions = self.core.on_fact(self.now, fact);
            for action in actions {
                match action {
                    Action::Start { child, incarnation } => {
                        assert!(self.alive.insert(child, incarnation).is_none(), "two incarnations at once");
                        facts.insert(0, Fact::Ready { child, incarnation });
                    }
                    Action::Stop { child, incarnation, .. } => {
                        assert_eq!(
                            self.alive.remove(&child),
                            Some(incarnation),
                            "only the living are stopped"
                        );
                        facts.insert(0, Fact::Exited { child, incarnation, exit: Exit::Stopped });
                    }
                    Action::Retry { child } => facts.insert(0, Fact::Retry { child }),
                    Action::Reply { reply, .. } => self.answers.push(reply.is_ok()),
                    Action::Report { .. }
                    | Action::Changed { .. }
                    | Action::Added { .. }
                    | Action::Respec { .. }
                    | Action::Removed { .. }
                    | Action::Recovery { .. }
                    | Action::Booted
                    | Action::Finished { .. } => {}
                }
            }
        }
    }

    fn ask(&mut self, request: Request) {
        self.tell(Fact::Request { id: RequestId(1), request });
    }

    fn crash(&mut self, at: usize) {
        let key = self.core.children().nth(at);
        if let Some((child, incarnation)) = key.and_then(|key| self.alive.remove_entry(&key)) {
            self.tell(Fact::Exited { child, incarnation, exit: Exit::Exited { code: 1 } });
        }
    }

    fn pass(&mut self, time: Time) {
        self.now += time;
        self.tell(Fact::Tick);
    }

    fn ids(&self) -> Vec<String> {
        let views = self.core.children().filter_map(|key| self.core.child(key));
        views.map(|view| view.spec.id.to_string()).collect()
    }

    fn of(&self, id: &str) -> Option<(Phase, Incarnation)> {
        let view = self.core.child(self.core.key(id)?)?;
        Some((view.phase, view.incarnation))
    }
}

fn definition(tree: &Tree, children: Vec<(ChildSpec, Change)>) -> Request {
    let children = children.into_iter().map(|(spec, change)| ReformChild { spec, change }).collect();
    Request::Reform(Box::new(Reform { spec: tree.spec.clone(), children }))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![Just(Change::Keep), Just(Change::Update), Just(Change::Renew)]
}

const STRATEGIES: [RestartStrategy; 3] =
    [RestartStrategy::OneForOne, RestartStrategy::OneForAll, RestartStrategy::RestForOne];

proptest! {
    #[test]
    fn s19_a_new_definition_is_a_fresh_start_for_what_changed_and_nothing_for_what_did_not(
        strategy in prop::sample::select(&STRATEGIES[..]),
        crashes in prop::collection::vec((0..5usize, 0..400u64), 0..12),
        stopped in prop::option::of(0..5usize),
        named in prop::collection::vec((0..8usize, change(), 1..9_000u64), 0..8),
    ) {
        let tree = plain(strategy, 5, OnExhausted::Quarantine);
        let mut world = World::boot(&tree);
        for (at, later) in crashes {
            world.crash(at);
            world.pass(ms(later));
        }
        if let Some(child) = stopped.and_then(|at| world.core.children().nth(at)) {
            world.ask(Request::Stop { child });
        }
        world.answers.clear();
        let mut seen = std::collections::HashSet::new();
        let new: Vec<(ChildSpec, Change)> = named
            .into_iter()
            .filter(|(number, _, _)| seen.insert(*number))
            .map(|(number, change, verify)| {
                let spec = ChildSpec { id: tree::id(number), verify: ms(verify), ..tree.children[0].clone() };
                (spec, change)
            })
            .collect();
        let before: BTreeMap<String, (Phase, Incarnation)> =
            world.ids().into_iter().filter_map(|id| Some((id.clone(), world.of(&id)?))).collect();
        let intent = |world: &World, id: &str| {
            world.core.key(id).and_then(|key| world.core.child(key)).is_some_and(|view| view.stopped_by_operator)
        };
        let wanted_down: Vec<String> = world.ids().into_iter().filter(|id| intent(&world, id)).collect();
        world.ask(definition(&tree, new.clone()));
        prop_assert_eq!(&world.answers, &[true]);
        let ids: Vec<String> = new.iter().map(|(spec, _)| spec.id.to_string()).collect();
        prop_assert_eq!(world.ids(), ids.clone());
        for (spec, change) in &new {
            let (phase, incarnation) = world.of(&spec.id).unwrap();
            match before.get(&*spec.id) {
                None if !wanted_down.contains(&spec.id.to_string()) => prop_assert!(
                    matches!(phase, Phase::Running | Phase::Waiting), "{} is {phase:?}", spec.id
                ),
                None => {}
                Some((Phase::Running, was)) if *change != Change::Renew => {
                    prop_assert_eq!((phase, incarnation), (Phase::Running, *was), "{} was touched", &spec.id);
                }
                Some((Phase::Running, was)) => {
                    prop_assert_eq!((phase, incarnation), (Phase::Running, was.next()), "{}", &spec.id);
                }
                Some(_) => {}
            }
            if *change != Change::Keep {
                let verify = world.core.key(&spec.id).and_then(|key| world.core.child(key)).unwrap().spec.verify;
                prop_assert!(verify == spec.verify || !before.contains_key(&*spec.id));
            }
        }
        prop_assert_eq!(
            world.ids().into_iter().filter(|id| intent(&world, id)).collect::<Vec<_>>(),
            ids.iter().filter(|id| wanted_down.contains(id)).cloned().collect::<Vec<_>>(),
            "an operator's intent is his"
        );
    }

    #[test]
    fn s19_a_definition_that_is_refused_changes_nothing(
        strategy in prop::sample::select(&STRATEGIES[..]),
        crashes in prop::collection::vec((0..5usize, 0..400u64), 0..6),
    ) {
        let tree = plain(strategy, 5, OnExhausted::Quarantine);
        let mut world = World::boot(&tree);
        for (at, later) in crashes {
            world.crash(at);
            world.pass(ms(later));
        }
        let looks = |world: &World| world.ids().into_iter().map(|id| world.of(&id)).collect::<Vec<_>>();
        let (before, alive) = (looks(&world), world.alive.clone());
        let twice = vec![(tree.children[0].clone(), Change::Renew), (tree.children[0].clone(), Change::Renew)];
        world.answers.clear();
        world.ask(definition(&tree, twice));
        prop_assert_eq!((&world.answers[..], looks(&world), &world.alive), (&[false][..], before, &alive));
    }

    #[test]
    fn s20_however_often_a_pool_is_scaled_it_has_as_many_as_asked_last_and_the_lowest_numbers(
        strategy in prop::sample::select(&STRATEGIES[..]),
        steps in prop::collection::vec((0..9usize, prop::option::of(0..9usize)), 1..12),
    ) {
        let tree = plain(strategy, 1, OnExhausted::Quarantine);
        let mut world = World::boot(&tree);
        let pool = |count: usize| -> Vec<(ChildSpec, Change)> {
            let one = |number| ChildSpec { id: tree::id(number), ..tree.children[0].clone() };
            (0..count).map(|number| (one(number), Change::Keep)).collect()
        };
        for (count, crash) in steps {
            let before: Vec<_> = (0..9).map(|number| world.of(&tree::id(number))).collect();
            world.ask(definition(&tree, pool(count)));
            prop_assert_eq!(world.ids().len(), count);
            let ids: Vec<String> = (0..count).map(|number| tree::id(number).to_string()).collect();
            prop_assert_eq!(world.ids(), ids);
            for (number, was) in before.iter().enumerate().take(count) {
                if let Some((Phase::Running, _)) = was {
                    prop_assert_eq!(&world.of(&tree::id(number)), was, "who stays is not touched");
                }
            }
            if let Some(at) = crash {
                world.crash(at);
                world.pass(ms(70_000));
            }
        }
    }
}
