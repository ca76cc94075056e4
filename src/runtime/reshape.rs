//! Bringing the running tree from one set of settings to another.
//!
//! Each supervisor whose definition differs is told its whole new definition at once and works out the rest itself
//! (`policy::Reform`); nobody else hears of it. Who moves from one supervisor to another is stopped there and gone
//! before it is started here: two supervisors never hold copies of the same worker.
//!
//! Deliberately absent: checks. Whoever calls this has settings that are known to be right.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Settings, WorkerSettings};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{Change, ChildKey, Phase, Refused, Reply, Request};
use crate::supervisor::{
    Asked, Branch, InstanceState, Node, Operator, Plane, Reforming, SupervisorMsg, Wanted, supervisor_states,
};

use super::handle::ActError;

/// Makes new settings from those in force; an error changes nothing.
pub type Edit = Box<dyn FnOnce(&Settings) -> Result<Settings, ActError> + Send>;

/// An edit and who waits for it.
pub(super) struct Editing {
    pub(super) edit: Edit,
    pub(super) reply: oneshot::Sender<Result<Arc<Settings>, ActError>>,
}

/// Works off edits one after the other, each on the settings that the one before left.
pub(super) async fn editor(
    plane: Arc<Plane>,
    mut current: Arc<Settings>,
    change_of: ChangeOf,
    mut edits: mpsc::Receiver<Editing>,
) {
    while let Some(Editing { edit, reply }) = edits.recv().await {
        let answer = match edit(&current) {
            Ok(new) => {
                let new = Arc::new(new);
                let reshape =
                    Reshape { plane: Arc::clone(&plane), old: current, new: Arc::clone(&new), change_of };
                current = Arc::clone(&new);
                let conflict = |refused| ActError::Conflict(format!("a supervisor refused: {refused:?}"));
                reshape.run().await.map(|()| new).map_err(conflict)
            }
            Err(error) => Err(error),
        };
        // An asker that has gone away needs no answer.
        let _ = reply.send(answer);
    }
}

/// What becomes of a worker whose settings differ.
pub(super) type ChangeOf = fn(&WorkerSettings, &WorkerSettings) -> Change;

/// One way from old to new.
pub(super) struct Reshape {
    pub(super) plane: Arc<Plane>,
    pub(super) old: Arc<Settings>,
    pub(super) new: Arc<Settings>,
    pub(super) change_of: ChangeOf,
}

impl Reshape {
    /// Returns once everybody has been told, and whoever moves has left its old place.
    ///
    /// # Errors
    /// A supervisor refused its definition; settings that were checked are never refused.
    pub(super) async fn run(self) -> Result<(), Refused> {
        let Some(root) = Node::of(&self.new) else { return Ok(()) };
        let before = homes(&self.old);
        let moved: HashSet<Name> = homes(&self.new)
            .into_iter()
            .filter(|(child, home)| before.get(child).is_some_and(|was| was != home))
            .map(|(child, _)| child)
            .collect();
        let counts: Vec<(String, Incarnation)> = self
            .new
            .workers
            .iter()
            .filter(|worker| moved.contains(&worker.name))
            .flat_map(|worker| worker.instance_ids().map(|id| id.to_string()))
            .map(|id| (id.clone(), self.plane.last_incarnation(&id)))
            .collect();
        self.learn();
        self.plane.plant(&root);
        let nodes = self.nodes(&root);
        let leave_out = |branch: &Branch| moved.contains(branch.name());
        let first = nodes.iter().filter(|node| self.differs(node)).map(|node| self.reform(node, leave_out));
        let answers = first.collect::<Vec<_>>();
        if moved.is_empty() {
            // A worker that takes its time to end holds up no further change.
            let plane = Arc::clone(&self.plane);
            tokio::spawn(async move {
                if let Err(refused) = settle(answers).await {
                    tracing::error!(?refused, "a supervisor refused its new definition; this is a bug");
                }
                clear_away(&plane);
            });
        } else {
            settle(answers).await?;
            clear_away(&self.plane);
        }
        self.enter(&nodes);
        // Who moves goes on counting.
        counts.iter().for_each(|(id, last)| self.plane.count_start(id, *last));
        let second = nodes.iter().filter(|node| node.children.iter().any(leave_out));
        settle(second.map(|node| self.reform(node, |_| false)).collect::<Vec<_>>()).await?;
        self.switch();
        Ok(())
    }

    /// The gate knows whom a start waits for before anybody is started.
    fn learn_gate(&self) {
        for worker in &self.new.workers {
            let turn = self.plane.gate.learn(&worker.name, &worker.after);
            self.plane.pass(turn);
        }
    }

    /// Newcomers are known before their first event; who moves keeps its place until it has left it.
    fn learn(&self) {
        self.learn_gate();
        let shown: HashMap<Name, Phase> =
            self.plane.board.supervisors().into_iter().map(|state| (state.name, state.phase)).collect();
        for mut state in supervisor_states(&self.new) {
            state.phase = shown.get(&state.name).copied().unwrap_or(state.phase);
            self.plane.board.put_supervisor(state);
        }
        let before = homes(&self.old);
        for (worker, home) in workers(&self.new).filter(|(worker, _)| !before.contains_key(&worker.name)) {
            self.admit(worker, &home);
        }
        for (worker, home) in
            workers(&self.new).filter(|(worker, home)| before.get(&worker.name) == Some(home))
        {
            self.admit(worker, &home);
        }
    }

    fn admit(&self, worker: &WorkerSettings, home: &Name) {
        self.plane.settle(&worker.name, home);
        for instance in worker.instance_ids() {
            if self.plane.board.instance(&instance).is_some() {
                self.plane.board.update(&instance, |entry| entry.critical = worker.critical);
                continue;
            }
            enter(&self.plane, &instance, worker, home);
        }
    }

    /// Whoever moved is entered anew at its new place.
    fn enter(&self, nodes: &[Arc<Node>]) {
        let homes = homes(&self.new);
        self.learn_gate();
        for node in nodes {
            for branch in &node.children {
                self.plane.settle(branch.name(), &node.settings.name);
            }
        }
        for worker in &self.new.workers {
            if let Some(home) = homes.get(&worker.name) {
                self.admit(worker, home);
            }
        }
        let order: Vec<InstanceId> =
            self.new.workers.iter().flat_map(|worker| worker.instance_ids()).collect();
        self.plane.board.arrange(&order);
    }

    /// Supervisors that are up and stay, the lowest last.
    fn nodes(&self, root: &Arc<Node>) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        root.visit(&mut |node| nodes.push(Arc::clone(node)));
        nodes
    }

    fn differs(&self, node: &Node) -> bool {
        let name = &node.settings.name;
        let before = self.old.supervisors.iter().find(|own| own.name == *name);
        let workers = |settings: &Settings| -> Vec<Arc<WorkerSettings>> {
            let all = settings.workers.iter();
            all.filter(|worker| node.settings.children.contains(&worker.name)).cloned().collect()
        };
        before.is_none_or(|own| **own != *node.settings) || workers(&self.old) != workers(&self.new)
    }

    /// Tells a supervisor its definition. One that is down is made from it when it starts.
    fn reform(&self, node: &Node, leave_out: impl Fn(&Branch) -> bool) -> Option<oneshot::Receiver<Reply>> {
        let address = self.plane.supervisor(&node.settings.name)?;
        let children = node.children.iter().filter(|branch| !leave_out(branch));
        let children = children.map(|branch| (branch.seed(&self.plane), self.change(branch))).collect();
        let (reply, answer) = oneshot::channel();
        let spec = node.spec(self.plane.seed);
        let reforming = Box::new(Reforming { spec, children, reply });
        address.send_message(SupervisorMsg::Reform(reforming)).ok()?;
        Some(answer)
    }

    fn change(&self, branch: &Branch) -> Change {
        match branch {
            Branch::Supervisor(_) => Change::Keep,
            Branch::Worker(_, new) => match self.old.workers.iter().find(|old| old.name == new.name) {
                Some(old) if old == new => Change::Keep,
                Some(old) => (self.change_of)(old, new),
                None => Change::Renew,
            },
        }
    }

    /// `enabled` is a wish of the file's, and is asked for like an operator's.
    fn switch(&self) {
        for new in &self.new.workers {
            let Some(old) = self.old.workers.iter().find(|old| old.name == new.name) else { continue };
            if old.enabled == new.enabled {
                continue;
            }
            let request: fn(ChildKey) -> Request =
                if new.enabled { |child| Request::Start { child } } else { |child| Request::Stop { child } };
            let by = format!("the configuration: enabled = {}", new.enabled);
            for instance in new.instance_ids().filter(|id| self.plane.wish(&id.to_string()).stopped.is_none())
            {
                self.ask(&instance, request, &by);
            }
        }
    }

    fn ask(&self, instance: &InstanceId, request: fn(ChildKey) -> Request, by: &str) {
        let home = self.plane.home(instance.worker()).and_then(|home| self.plane.supervisor(&home));
        let Some(home) = home else { return };
        // The answer is seen on the board.
        let (reply, _) = oneshot::channel();
        let by = Operator { by: by.to_owned(), at: Timestamp::now() };
        let asked = Asked { child: instance.to_string(), request: Box::new(request), by, reply };
        let _ = home.send_message(SupervisorMsg::Asked(Box::new(asked)));
    }
}

/// What a supervisor took with it when it left.
fn clear_away(plane: &Plane) {
    let (instances, supervisors) = plane.planted();
    for state in plane.board.instances() {
        if !instances.contains(&state.instance) {
            plane.forget(&state.instance);
        }
    }
    for state in plane.board.supervisors() {
        if !supervisors.contains(&state.name) {
            plane.leave(&state.name);
            plane.board.remove_supervisor(&state.name);
        }
    }
}

/// An instance that was never started comes onto the board and to the gate.
pub(super) fn enter(plane: &Plane, instance: &InstanceId, worker: &WorkerSettings, home: &Name) {
    for turn in plane.gate.expect(instance) {
        plane.pass(turn);
    }
    let mut entry = InstanceState::new(instance.clone(), home.clone(), "process", worker.critical);
    let wish = plane.wish(&instance.to_string());
    if let Some(by) = wish.stopped {
        (entry.wanted, entry.wanted_by) = (Wanted::Stopped, Some(by));
    } else if let Some((by, _)) = wish.paused {
        (entry.wanted, entry.wanted_by) = (Wanted::Paused, Some(by));
    } else if !worker.enabled {
        entry.wanted = Wanted::Stopped;
        let by = "the configuration: enabled = false".to_owned();
        entry.wanted_by = Some(Operator { by, at: Timestamp::now() });
    }
    plane.board.put(entry);
}

/// Which supervisor each child belongs to.
fn homes(settings: &Settings) -> HashMap<Name, Name> {
    let of = |own: &Arc<crate::config::SupervisorSettings>| {
        let name = own.name.clone();
        own.children.iter().map(move |child| (child.clone(), name.clone())).collect::<Vec<_>>()
    };
    settings.supervisors.iter().flat_map(of).collect()
}

fn workers(settings: &Settings) -> impl Iterator<Item = (&Arc<WorkerSettings>, Name)> {
    let homes = homes(settings);
    settings.workers.iter().filter_map(move |worker| Some((worker, homes.get(&worker.name)?.clone())))
}

async fn settle(answers: Vec<Option<oneshot::Receiver<Reply>>>) -> Result<(), Refused> {
    for answer in answers.into_iter().flatten() {
        match answer.await {
            Ok(Ok(_)) => {}
            // A supervisor that ends meanwhile is made from its new definition when it starts again.
            Ok(Err(Refused::ShuttingDown)) | Err(_) => {}
            Ok(Err(refused)) => return Err(refused),
        }
    }
    Ok(())
}
