//! Supervisors under supervisors: pure cores that speak to each other as the real ones do.
//!
//! What a shell does is little: a `Start` of a child supervisor boots a core, its `Booted` is the acknowledgement,
//! its `Finished` the end; a `Stop` becomes `Shutdown` or `Kill`. Workers live, fail and obey as the dice say.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use regrow::exit::Exit;
use regrow::id::Incarnation;
use regrow::policy::{
    Action, Actions, ChildKey, ChildKind, ChildSpec, Ended, Fact, Shutdown, StopHow, Supervisor,
    SupervisorSpec, Time,
};

use super::dice::Dice;
use super::tree;

/// Names a supervisor of the tree for as long as it lives.
type Id = usize;

/// Who is behind a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    Worker { ready: bool },
    Supervisor(Id),
}

struct Node {
    core: Supervisor,
    parent: Option<(Id, ChildKey, Incarnation)>,
    depth: usize,
    living: BTreeMap<(ChildKey, Incarnation), Behind>,
}

/// A whole tree.
pub(crate) struct Nest {
    dice: Dice,
    now: Time,
    nodes: BTreeMap<Id, Node>,
    mail: VecDeque<(Id, Fact)>,
    born: Id,
    /// Most descendants that ever lived at once.
    pub(crate) most: usize,
}

impl Nest {
    /// A tree whose root has booted.
    pub(crate) fn new(seed: u64) -> Self {
        let mut nest = Self {
            dice: Dice::new(seed),
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            mail: VecDeque::new(),
            born: 0,
            most: 0,
        };
        nest.found(None, 0);
        nest.deliver();
        nest
    }

    /// Workers and supervisors that live below the root.
    pub(crate) fn descendants(&self) -> usize {
        self.nodes.values().map(|node| node.living.len()).sum()
    }

    /// Whether the root has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Something happens to somebody.
    pub(crate) fn disturb(&mut self) {
        let workers: Vec<(Id, ChildKey, Incarnation, bool)> = self
            .nodes
            .iter()
            .flat_map(|(id, node)| {
                node.living.iter().filter_map(|((key, incarnation), behind)| match behind {
                    Behind::Worker { ready } => Some((*id, *key, *incarnation, *ready)),
                    Behind::Supervisor(_) => None,
                })
            })
            .collect();
        self.now += Duration::from_millis(self.dice.between(0, 400));
        if workers.is_empty() || self.dice.chance(30) {
            self.tick();
        } else {
            let (id, child, incarnation, ready) = workers[self.dice.below(workers.len())];
            if ready || self.dice.chance(20) {
                self.end(id, child, incarnation, Exit::Signaled { signal: 9 });
            } else {
                self.acknowledge(id, child, incarnation);
            }
        }
        self.deliver();
    }

    /// The root is asked to end, and the world is kind until it has; gives the facts it took.
    pub(crate) fn shut_down(&mut self) -> usize {
        let root = self.nodes.keys().next().copied();
        self.mail.extend(root.map(|root| (root, Fact::Shutdown)));
        let mut turns = 0;
        while !self.is_over() && turns < 5_000 {
            turns += 1;
            self.deliver();
            self.now += Duration::from_millis(50);
            self.tick();
        }
        turns
    }

    fn found(&mut self, parent: Option<(Id, ChildKey, Incarnation)>, depth: usize) -> Id {
        let mut tree = tree::any(&mut self.dice);
        tree.spec = SupervisorSpec { auto_shutdown: regrow::policy::AutoShutdown::Never, ..tree.spec };
        for child in &mut tree.children {
            let kind = if depth < 3 { child.kind } else { ChildKind::Worker };
            *child = ChildSpec { kind, significant: false, held: false, stopped: false, ..child.clone() };
        }
        let core = Supervisor::new(tree.spec, tree.children).expect("a valid tree");
        let id = self.born;
        self.born += 1;
        self.nodes.insert(id, Node { core, parent, depth, living: BTreeMap::new() });
        self.mail.push_back((id, Fact::Boot));
        id
    }

    fn tick(&mut self) {
        let due = |node: &Node| node.core.next_due().is_some_and(|due| due <= self.now);
        let due: Vec<Id> = self.nodes.iter().filter(|(_, node)| due(node)).map(|(id, _)| *id).collect();
        self.mail.extend(due.into_iter().map(|id| (id, Fact::Tick)));
    }

    fn deliver(&mut self) {
        while let Some((id, fact)) = self.mail.pop_front() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let actions = node.core.on_fact(self.now, fact);
            self.obey(id, actions);
            self.most = self.most.max(self.descendants());
        }
    }

    fn obey(&mut self, id: Id, actions: Actions) {
        for action in actions {
            match action {
                Action::Start { child, incarnation } => self.start(id, child, incarnation),
                Action::Stop { child, incarnation, how } => self.stop(id, child, incarnation, how),
                Action::Retry { child } => self.mail.push_back((id, Fact::Retry { child })),
                Action::Booted => {
                    if let Some((parent, child, incarnation)) = self.nodes[&id].parent {
                        self.mail.push_back((parent, Fact::Ready { child, incarnation }));
                    }
                }
                Action::Finished { ended } => self.finished(id, &ended),
                Action::Report { .. }
                | Action::Changed { .. }
                | Action::Added { .. }
                | Action::Respec { .. }
                | Action::Removed { .. }
                | Action::Recovery { .. }
                | Action::Reply { .. } => {}
            }
        }
    }

    fn start(&mut self, id: Id, child: ChildKey, incarnation: Incarnation) {
        let node = &self.nodes[&id];
        assert!(
            !node.living.keys().any(|(key, _)| *key == child),
            "S1: a second incarnation of {child:?} under supervisor {id}"
        );
        let depth = node.depth;
        let kind = node.core.child(child).map_or(ChildKind::Worker, |view| view.spec.kind);
        let behind = match kind {
            ChildKind::Worker => Behind::Worker { ready: false },
            ChildKind::Supervisor => {
                Behind::Supervisor(self.found(Some((id, child, incarnation)), depth + 1))
            }
        };
        self.nodes.get_mut(&id).unwrap().living.insert((child, incarnation), behind);
        if behind == (Behind::Worker { ready: false }) && self.dice.chance(70) {
            self.acknowledge(id, child, incarnation);
        }
    }

    fn acknowledge(&mut self, id: Id, child: ChildKey, incarnation: Incarnation) {
        self.nodes.get_mut(&id).unwrap().living.insert((child, incarnation), Behind::Worker { ready: true });
        self.mail.push_back((id, Fact::Ready { child, incarnation }));
    }

    fn stop(&mut self, id: Id, child: ChildKey, incarnation: Incarnation, how: StopHow) {
        match self.nodes[&id].living.get(&(child, incarnation)) {
            Some(Behind::Worker { .. }) => {
                // Who may take for ever does not.
                let forever =
                    self.nodes[&id].core.child(child).is_some_and(|c| c.spec.shutdown == Shutdown::Infinity);
                if how == StopHow::Kill || forever || self.dice.chance(80) {
                    self.end(id, child, incarnation, Exit::Stopped);
                }
            }
            Some(Behind::Supervisor(below)) => {
                let fact = if how == StopHow::Kill { Fact::Kill } else { Fact::Shutdown };
                self.mail.push_back((*below, fact));
            }
            // Its end is on the way.
            None => {}
        }
    }

    fn end(&mut self, id: Id, child: ChildKey, incarnation: Incarnation, exit: Exit) {
        self.nodes.get_mut(&id).unwrap().living.remove(&(child, incarnation));
        self.mail.push_back((id, Fact::Exited { child, incarnation, exit }));
    }

    fn finished(&mut self, id: Id, ended: &Ended) {
        let node = self.nodes.remove(&id).unwrap();
        assert!(node.living.is_empty(), "S16: supervisor {id} has finished and {:?} live", node.living);
        let exit = match ended {
            Ended::Shutdown | Ended::AutoShutdown => Exit::Stopped,
            Ended::GaveUp { .. } => Exit::Error { message: String::from("gave up") },
            Ended::BootFailed { exit, .. } => exit.clone(),
        };
        if let Some((parent, child, incarnation)) = node.parent
            && let Some(above) = self.nodes.get_mut(&parent)
        {
            above.living.remove(&(child, incarnation));
            self.mail.push_back((parent, Fact::Exited { child, incarnation, exit }));
        }
    }
}
