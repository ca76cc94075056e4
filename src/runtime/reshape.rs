//! Bringing the running tree from one set of settings to another.
//!
//! Each supervisor whose definition differs is told its whole new definition at once and works out the rest itself
//! (`policy::Reform`); nobody else hears of it. Who moves from one supervisor to another is stopped there and gone
//! before it is started here: two supervisors never hold copies of the same worker.
//!
//! Deliberately absent: checks. Whoever calls this has settings that are known to be right.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Settings, WorkerSettings};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{Change, ChildKey, Phase, Refused, Reply, Request, Restart};
use crate::supervisor::{
    Asked, Branch, InstanceState, Node, Operator, Plane, Reforming, SupervisorMsg, Wanted, Wish,
    supervisor_states,
};

use super::director::lock;
use super::handle::{ActError, RuntimeInfo};
use super::intents::Intents;
use super::remember::save_elsewhere;

/// Makes new settings from those in force; an error changes nothing.
pub type Edit = Box<dyn FnOnce(&Settings) -> Result<Settings, ActError> + Send>;

/// An edit and who waits for it.
pub(super) struct Editing {
    pub(super) edit: Edit,
    pub(super) reply: oneshot::Sender<Result<Arc<Settings>, ActError>>,
}

/// Works off edits one after the other, each on the settings that the one before left.
pub(super) struct Editor {
    pub(super) plane: Arc<Plane>,
    pub(super) info: Arc<RuntimeInfo>,
    pub(super) intents: Arc<Mutex<Intents>>,
}

impl Editor {
    pub(super) async fn run(self, mut edits: mpsc::Receiver<Editing>) {
        while let Some(Editing { edit, reply }) = edits.recv().await {
            let old = self.info.settings();
            let answer = match edit(&old) {
                Ok(new) => self.reshape(old, Arc::new(new)).await,
                Err(error) => Err(error),
            };
            // An asker that has gone away needs no answer.
            let _ = reply.send(answer);
        }
    }

    async fn reshape(&self, old: Arc<Settings>, new: Arc<Settings>) -> Result<Arc<Settings>, ActError> {
        self.info.put_settings(Arc::clone(&new));
        let renamed = self.rename_wishes(&old, &new);
        let forgotten = self.forget_wishes(&old, &new);
        if renamed || forgotten || lock(&self.intents).forget_old_numbers(&new) {
            save_elsewhere(&self.intents, &self.info);
        }
        let plane = Arc::clone(&self.plane);
        let spent = HashSet::new();
        let reshape = Reshape { plane, old, new: Arc::clone(&new), change_of, spent };
        let conflict = |refused| ActError::Conflict(format!("a supervisor refused: {refused:?}"));
        reshape.run().await.map(|()| new).map_err(conflict)
    }

    /// A worker that comes to be numbered goes on as its first copy, and the other way round: what somebody wants of
    /// the one is wanted of the other.
    fn rename_wishes(&self, old: &Settings, new: &Settings) -> bool {
        let mut changed = false;
        for now in &new.workers {
            let before = old.workers.iter().find(|old| old.name == now.name);
            let Some(before) = before.filter(|before| before.numbered != now.numbered) else { continue };
            let (Some(from), Some(to)) = (before.instance_ids().next(), now.instance_ids().next()) else {
                continue;
            };
            let (from, to) = (from.to_string(), to.to_string());
            let mut intents = lock(&self.intents);
            if intents.rename(&from, &to) {
                self.plane.set_wish(&from, Wish::default());
                self.plane.set_wish(&to, intents.wish(&to));
                changed = true;
            }
        }
        changed
    }

    /// Who comes back under the name of one that was removed is another: nobody has stopped it.
    fn forget_wishes(&self, old: &Settings, new: &Settings) -> bool {
        let ids = |settings: &Settings| -> HashSet<String> {
            let instances = settings.workers.iter().flat_map(|worker| worker.instance_ids());
            let supervisors = settings.supervisors.iter().map(|own| own.name.to_string());
            instances.map(|id| id.to_string()).chain(supervisors).collect()
        };
        let mut changed = false;
        for gone in ids(old).difference(&ids(new)) {
            self.plane.set_wish(gone, Wish::default());
            let mut intents = lock(&self.intents);
            let (stopped, paused) = (intents.want(gone), intents.resume(gone));
            changed |= stopped || paused;
        }
        changed
    }
}

/// Whether a worker whose settings differ goes on with them or needs a new process.
fn change_of(old: &WorkerSettings, new: &WorkerSettings) -> Change {
    if Settings::needs_restart(old, new) { Change::Renew } else { Change::Update }
}

/// What becomes of a worker whose settings differ.
pub(super) type ChangeOf = fn(&WorkerSettings, &WorkerSettings) -> Change;

/// So long a move waits for who leaves beyond the time that they have for it; whoever takes longer cannot be killed.
const LEAVE: Duration = Duration::from_secs(120);

/// One way from old to new.
pub(super) struct Reshape {
    pub(super) plane: Arc<Plane>,
    pub(super) old: Arc<Settings>,
    pub(super) new: Arc<Settings>,
    pub(super) change_of: ChangeOf,
    /// Temporary workers whose one run is over: nothing of their settings has changed, so nothing is to be done.
    pub(super) spent: HashSet<InstanceId>,
}

impl Reshape {
    /// Returns once everybody has been told, and whoever moves has left its old place.
    ///
    /// # Errors
    /// A supervisor refused its definition; settings that were checked are never refused.
    pub(super) async fn run(mut self) -> Result<(), Refused> {
        let Some(root) = Node::of(&self.new) else { return Ok(()) };
        let moved = self.moved();
        self.spent = self.spent(&moved);
        self.learn(&moved);
        if moved.is_empty() {
            self.plane.plant(&root);
            let answers = self.tell(&root, &self.old, |node| self.differs(node));
            self.enter(&root);
            // A worker that takes its time to end holds up no further change.
            let plane = Arc::clone(&self.plane);
            tokio::spawn(async move {
                if let Err(refused) = settle(answers).await {
                    tracing::error!(?refused, "a supervisor refused its new definition; this is a bug");
                }
                clear_away(&plane, true);
            });
        } else {
            self.relocate(&root, &moved).await?;
        }
        self.switch();
        Ok(())
    }

    /// First a tree without them, and once nothing of them is left the whole one: also a supervisor that is only now
    /// coming into being must not start them before.
    async fn relocate(&self, root: &Arc<Node>, moved: &HashSet<Name>) -> Result<(), Refused> {
        let rest = root.without(moved);
        self.plane.plant(&rest);
        let counts = self.counts();
        match tokio::time::timeout(
            time_to_leave(&self.old, moved),
            settle(self.tell(&rest, &self.old, |node| self.differs(node))),
        )
        .await
        {
            Ok(settled) => settled?,
            // Its new runner waits for the old one anyway; only what people are told may be of both.
            Err(_) => tracing::error!(?moved, "who moves does not end and is started at its new place"),
        }
        // Who moves comes onto the board anew.
        clear_away(&self.plane, false);
        self.plane.plant(root);
        // A supervisor that moved has gone from the board with its old place.
        self.show_supervisors();
        self.enter(root);
        // Who moves goes on counting.
        for (id, last) in counts.iter().filter(|(id, _)| self.plane.last_incarnation(id) == Incarnation::NONE)
        {
            self.plane.count_start(id, *last);
        }
        // All others know their settings by now.
        let concerns = |node: &Node| node.children.iter().any(|branch| moved.contains(branch.name()));
        settle(self.tell(root, &self.new, concerns)).await
    }

    fn spent(&self, moved: &HashSet<Name>) -> HashSet<InstanceId> {
        let same = |worker: &&Arc<WorkerSettings>| {
            self.old.workers.iter().any(|old| old == *worker) && !moved.contains(&worker.name)
        };
        let temporary = self.new.workers.iter().filter(|worker| worker.restart == Restart::Temporary);
        let ids = temporary.filter(same).flat_map(|worker| worker.instance_ids());
        ids.filter(|id| self.plane.board.instance(id).is_none() || self.plane.is_spent(id)).collect()
    }

    /// Who has another supervisor now, or another name: `web` and `web/0` are two children of whom only one may run.
    fn moved(&self) -> HashSet<Name> {
        let before = homes(&self.old);
        let now = homes(&self.new).into_iter();
        let moved = now.filter(|(child, home)| before.get(child).is_some_and(|was| was != home));
        let numbered: HashMap<&Name, bool> =
            self.old.workers.iter().map(|old| (&old.name, old.numbered)).collect();
        let renamed = |new: &&Arc<WorkerSettings>| {
            numbered.get(&new.name).is_some_and(|numbered| *numbered != new.numbered)
        };
        let renamed = self.new.workers.iter().filter(renamed).map(|new| new.name.clone());
        moved.map(|(child, _)| child).chain(renamed).collect()
    }

    /// How far everybody's starts have come.
    fn counts(&self) -> Vec<(String, Incarnation)> {
        let ids = self.new.workers.iter().flat_map(|worker| worker.instance_ids().map(|id| id.to_string()));
        let counted = ids.map(|id| (id.clone(), self.plane.last_incarnation(&id)));
        counted.filter(|(_, last)| *last != Incarnation::NONE).collect()
    }

    /// Tells those supervisors their definitions that it concerns.
    fn tell(
        &self,
        root: &Arc<Node>,
        before: &Settings,
        concerns: impl Fn(&Node) -> bool,
    ) -> Vec<Option<oneshot::Receiver<Reply>>> {
        let before: HashMap<&Name, &Arc<WorkerSettings>> =
            before.workers.iter().map(|worker| (&worker.name, worker)).collect();
        let mut answers = Vec::new();
        root.visit(&mut |node| {
            if concerns(node) {
                answers.push(self.reform(node, &before));
            }
        });
        answers
    }

    /// The gate knows whom a start waits for before anybody is started.
    fn learn_gate(&self) {
        for worker in &self.new.workers {
            let turn = self.plane.gate.learn(&worker.name, &worker.after);
            self.plane.pass(turn);
        }
    }

    /// Newcomers are known before their first event; who moves keeps its place until it has left it.
    fn learn(&self, moved: &HashSet<Name>) {
        self.learn_gate();
        self.show_supervisors();
        let before = homes(&self.old);
        for (worker, home) in workers(&self.new).filter(|(worker, _)| !before.contains_key(&worker.name)) {
            self.admit(worker, &home);
        }
        let stays = |name: &Name| before.contains_key(name) && !moved.contains(name);
        for (worker, home) in workers(&self.new).filter(|(worker, _)| stays(&worker.name)) {
            self.admit(worker, &home);
        }
    }

    fn show_supervisors(&self) {
        let shown: HashMap<Name, Phase> =
            self.plane.board.supervisors().into_iter().map(|state| (state.name, state.phase)).collect();
        for mut state in supervisor_states(&self.new) {
            state.phase = shown.get(&state.name).copied().unwrap_or(state.phase);
            self.plane.board.put_supervisor(state);
        }
    }

    fn admit(&self, worker: &WorkerSettings, home: &Name) {
        self.plane.settle(&worker.name, home);
        for instance in worker.instance_ids().filter(|id| !self.spent.contains(id)) {
            if self.plane.board.instance(&instance).is_some() && !self.plane.is_spent(&instance) {
                self.plane.board.update(&instance, |entry| entry.critical = worker.critical);
                continue;
            }
            enter(&self.plane, &instance, worker, home);
        }
    }

    /// Whoever moved is entered anew at its new place.
    fn enter(&self, root: &Arc<Node>) {
        let homes = homes(&self.new);
        self.learn_gate();
        root.visit(&mut |node| {
            for branch in &node.children {
                self.plane.settle(branch.name(), &node.settings.name);
            }
        });
        for worker in &self.new.workers {
            if let Some(home) = homes.get(&worker.name) {
                self.admit(worker, home);
            }
        }
        let order: Vec<InstanceId> =
            self.new.workers.iter().flat_map(|worker| worker.instance_ids()).collect();
        self.plane.board.arrange(&order);
    }

    fn differs(&self, node: &Node) -> bool {
        let name = &node.settings.name;
        let before = self.old.supervisors.iter().find(|own| own.name == *name);
        let own: HashSet<&Name> = node.settings.children.iter().collect();
        let workers = |settings: &Settings| -> Vec<Arc<WorkerSettings>> {
            settings.workers.iter().filter(|worker| own.contains(&worker.name)).cloned().collect()
        };
        before.is_none_or(|own| **own != *node.settings) || workers(&self.old) != workers(&self.new)
    }

    /// Tells a supervisor its definition. One that is down is made from it when it starts.
    fn reform(
        &self,
        node: &Node,
        before: &HashMap<&Name, &Arc<WorkerSettings>>,
    ) -> Option<oneshot::Receiver<Reply>> {
        let address = self.plane.supervisor(&node.settings.name)?;
        let change = |branch: &Branch| match branch {
            Branch::Supervisor(_) => Change::Keep,
            Branch::Worker(_, new) => match before.get(&new.name) {
                Some(old) if old.differs_in_number_only(new) => Change::Keep,
                Some(old) => (self.change_of)(old, new),
                None => Change::Renew,
            },
        };
        let named = |branch: &&Branch| match branch {
            Branch::Supervisor(_) => true,
            Branch::Worker(instance, _) => !self.spent.contains(instance),
        };
        let children = node.children.iter().filter(named);
        let children = children.map(|branch| (branch.seed(&self.plane), change(branch))).collect();
        let (reply, answer) = oneshot::channel();
        let spec = node.spec(self.plane.seed);
        let reforming = Box::new(Reforming { spec, children, reply });
        address.send_message(SupervisorMsg::Reform(reforming)).ok()?;
        Some(answer)
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
            let by = format!("{BY_THE_FILE}{}", new.enabled);
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
        let asked = Asked::new(instance.to_string(), Box::new(request), by, reply);
        let _ = home.send_message(SupervisorMsg::Asked(Box::new(asked)));
    }
}

/// Who asks, where the file does.
pub(super) const BY_THE_FILE: &str = "the configuration: enabled = ";

/// How long those who move, and everybody below them, may take to leave one after the other.
fn time_to_leave(settings: &Settings, moved: &HashSet<Name>) -> Duration {
    let homes = homes(settings);
    let moves = |worker: &&Arc<WorkerSettings>| {
        let above = std::iter::successors(Some(&worker.name), |name| homes.get(*name));
        above.take(settings.supervisors.len() + 1).any(|name| moved.contains(name))
    };
    let own = |worker: &Arc<WorkerSettings>| {
        worker.stop.drain.saturating_add(worker.stop.timeout).saturating_mul(worker.copies())
    };
    let workers = settings.workers.iter().filter(moves).map(own);
    workers.fold(LEAVE, Duration::saturating_add)
}

/// What a supervisor took with it when it left. Who `may_end` below one that is there is shown until it is gone.
fn clear_away(plane: &Plane, may_end: bool) {
    let (instances, supervisors) = plane.planted();
    for state in plane.board.instances() {
        let up = matches!(state.phase, Phase::Starting | Phase::Running | Phase::Stopping | Phase::Stuck);
        let leaves = may_end && up && supervisors.contains(&state.supervisor);
        if !instances.contains(&state.instance) && !leaves {
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
    let mut entry = InstanceState::new(instance.clone(), home.clone(), worker.kind(), worker.critical);
    entry.probed = !worker.probes.is_empty();
    let wish = plane.wish(&instance.to_string());
    if let Some(by) = wish.stopped {
        (entry.wanted, entry.wanted_by) = (Wanted::Stopped, Some(by));
    } else if let Some((by, _)) = wish.paused {
        (entry.wanted, entry.wanted_by) = (Wanted::Paused, Some(by));
    } else if !worker.enabled {
        entry.wanted = Wanted::Stopped;
        let by = format!("{BY_THE_FILE}false");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn a_move_waits_as_long_as_those_who_move_may_take_one_after_the_other() {
        let worker = |name: &str, timeout: &str, more: &str| {
            format!("[worker.{name}]\ncommand = [\"x\"]\nstop.timeout = \"{timeout}\"\n{more}\n")
        };
        let text = "[supervisor.x]\nchildren = [\"y\", \"a\"]\n[supervisor.y]\nchildren = [\"b\"]\n"
            .to_owned()
            + &worker("a", "10m", "")
            + &worker("b", "1m", "instances = 3\nstop.drain = \"30s\"")
            + &worker("c", "1h", "");
        let settings = load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let minutes = |names: &[&str]| {
            let moved = names.iter().map(|name| Name::try_new(name).unwrap()).collect();
            time_to_leave(&settings, &moved).as_secs_f64() / 60.0
        };
        assert_eq!(minutes(&["a"]), 2.0 + 10.0);
        assert_eq!(minutes(&["y"]), 2.0 + 3.0 * 1.5);
        assert_eq!(
            minutes(&["x"]),
            2.0 + 10.0 + 3.0 * 1.5,
            "who is below a supervisor that moves leaves with it"
        );
    }
}
