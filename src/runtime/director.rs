//! The director: the loop of the control plane outside the tree. It finds who is meant by an order, passes it
//! to the supervisor that decides, and ends the runtime.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::Settings;
use crate::event::{Event, EventKind};
use crate::id::{InstanceId, Name};
use crate::policy::{Ended, Fact, Phase};
use crate::supervisor::{Address, InstanceState, Operator, Outcome, Plane, SupervisorMsg, Wish};

use super::handle::{Act, ActError, Asker, Order, RuntimeInfo};
use super::intents::Intents;
use super::launch::Finished;
use super::orderly::{Needs, Orderly};
use super::pass::{owner, request, tell};
use super::remember;
use super::reshape::{Edit, Editing};
use super::survivors::Remains;
use super::target::Target;
use super::whom::Whom;

/// After the time for an orderly end is over, the killing may go on for this long without anybody dying before the
/// runtime leaves what cannot be killed behind and says so.
const LAST_GRACE: Duration = Duration::from_secs(10);

/// Who was reached, or why not everybody who was named.
type Answer = Result<Vec<InstanceId>, ActError>;

/// The loop and what it needs.
pub(super) struct Director {
    pub(super) plane: Arc<Plane>,
    pub(super) info: Arc<RuntimeInfo>,
    pub(super) intents: Arc<Mutex<Intents>>,
    pub(super) root: Address,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub(super) stopping: Option<Stopping>,
    pub(super) edits: mpsc::Sender<Editing>,
    /// What an earlier runtime left: it ends with this one at the latest.
    pub(super) remains: Remains,
}

/// How far an orderly end has come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stopping {
    /// Asked; killed at this time.
    Asked(Instant),
    /// Killed; given up at this time if as many are alive then.
    Killed(Instant, usize),
}

impl Director {
    /// Runs until the root supervisor has ended, and what an earlier runtime left.
    pub(super) async fn run(&mut self) -> Finished {
        let mut asked = true;
        let mut over = None;
        loop {
            if self.remains.is_settled()
                && let Some((ended, why)) = over.take()
            {
                return self.finished(ended, why);
            }
            let deadline = self.stopping.map(|stopping| match stopping {
                Stopping::Asked(at) | Stopping::Killed(at, _) => at,
            });
            tokio::select! {
                // In this order, so that the same scenario is the same again; outcomes are few.
                biased;
                outcome = self.outcomes.recv(), if over.is_none() => match outcome {
                    Some(Outcome::Booted) => crate::worker::unix::give_back(),
                    Some(Outcome::Finished(ended, why)) => {
                        self.say_it_ends(&ended, &why);
                        over = Some((ended, why));
                        self.end_remains();
                    }
                    // The root actor broke: without it nobody is supervised.
                    None => return Finished::GaveUp("the root supervisor broke; this is a bug".to_owned()),
                },
                order = self.orders.recv(), if asked => match order {
                    Some(order) => self.order(order),
                    None => {
                        asked = false;
                        self.shutdown(&Asker("nobody: every handle is gone".to_owned()));
                    }
                },
                () = sleep_until(deadline) => if let Some(left) = self.out_of_time() {
                    return left;
                },
                () = self.remains.settle_one() => {}
            }
        }
    }

    /// Returns when the last output of the workers is not to be waited for any longer: this long after somebody
    /// asked for the end. Workers that ended by themselves have all the time their readers need.
    pub(super) async fn out_of_patience(&mut self, finished: &Finished, patience: Duration) {
        if *finished == Finished::Done {
            loop {
                match self.orders.recv().await {
                    Some(Order::Shutdown { .. } | Order::Kill { .. }) => break,
                    // Nobody is left to act on; whoever asked sees his question dropped.
                    Some(
                        Order::Act { .. } | Order::Mend { .. } | Order::Edit { .. } | Order::Ping { .. },
                    ) => {}
                    None => std::future::pending().await,
                }
            }
        }
        tokio::time::sleep(patience).await;
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Act { targets, act, by, reply } => {
                if let Act::Scale { instances } = act {
                    return self.scale(&targets, instances, by, reply);
                }
                let (answer, wish) = match self.act(&targets, act, &by) {
                    Ok(done) => done,
                    Err(error) => (Err(error), false),
                };
                if wish {
                    return self.answer_once_kept(answer, reply);
                }
                // An asker that has gone away needs no answer.
                let _ = reply.send(answer);
            }
            Order::Mend { reply, .. } if self.stopping.is_some() => {
                let _ = reply.send(Err(ActError::ShuttingDown));
            }
            Order::Mend { mend, by, reply } => self.mend(mend, &by, reply),
            Order::Ping { reply } => {
                let _ = reply.send(());
            }
            Order::Edit { edit, reply } => self.edit(edit, reply),
            Order::Shutdown { by } => self.shutdown(&by),
            Order::Kill { by } => self.kill(&by),
        }
    }

    fn edit(&self, edit: Edit, reply: oneshot::Sender<Result<Arc<Settings>, ActError>>) {
        if self.stopping.is_some() {
            let _ = reply.send(Err(ActError::ShuttingDown));
            return;
        }
        if let Err(full) = self.edits.try_send(Editing { edit, reply }) {
            let busy = "too many changes wait for an earlier one to end; try again later".to_owned();
            let _ = full.into_inner().reply.send(Err(ActError::Conflict(busy)));
        }
    }

    /// The answer, with the instances that were reached, and whether a wish of somebody's is to be kept over restarts. What
    /// cannot be asked is refused before anything is done.
    fn act(&mut self, targets: &[Target], act: Act, by: &Asker) -> Result<(Answer, bool), ActError> {
        if self.stopping.is_some() {
            return Err(ActError::ShuttingDown);
        }
        let Whom { told, known, mut refused, by_target } = self.whom(targets, act, by)?;
        targets.iter().for_each(|target| self.announce(target, act, by));
        let meant: Vec<InstanceId> = known.iter().chain(&told).cloned().collect();
        let former: HashMap<InstanceId, Wish> =
            told.iter().map(|child| (child.clone(), lock(&self.intents).wish(&child.to_string()))).collect();
        // First: a supervisor that starts looks at what is wanted of each child.
        let wish = self.remember(&meant, act, by);
        let waves = self.waves(&told, act);
        let in_waves: HashSet<InstanceId> = waves.iter().flatten().cloned().collect();
        let mut reached = known;
        let mut rolls: Vec<Name> = Vec::new();
        for child in told {
            let meant = act.meant_for(&self.info.settings(), child.worker());
            let passed = match meant {
                _ if in_waves.contains(&child) => Ok(()),
                Act::Roll { .. } if rolls.contains(child.worker()) => Ok(()),
                Act::Roll { max_unavailable } => {
                    rolls.push(child.worker().clone());
                    self.roll(child.worker(), max_unavailable, by)
                }
                Act::Start
                | Act::Stop
                | Act::Restart
                | Act::ResetFailed
                | Act::Pause { .. }
                | Act::Resume
                | Act::Reload
                | Act::Scale { .. }
                | Act::Signal(_) => self.pass(&child, meant, by),
            };
            match passed {
                Ok(()) => reached.push(child),
                Err(error) => {
                    self.put_back(&child, former.get(&child));
                    refused = Some(error);
                }
            }
        }
        if !waves.is_empty() {
            tokio::spawn(Orderly { plane: Arc::clone(&self.plane), waves, act, by: by.clone() }.run());
        }
        match refused {
            Some(error) if reached.is_empty() => Err(error),
            // It ended meanwhile, and whoever named it must not take it for reached.
            Some(error) if Whom::misses_one(&by_target, &reached) => {
                let others = reached.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let text = format!("{error}; {} of {others} was asked and stands", act.word());
                Ok((Err(ActError::Conflict(text)), wish))
            }
            _ => Ok((Ok(reached), wish)),
        }
    }

    /// Those of them who are stopped before others are, in the order in which they are.
    fn waves(&self, children: &[InstanceId], act: Act) -> Vec<Vec<InstanceId>> {
        if children.len() < 2 || !matches!(act, Act::Stop | Act::Restart) {
            return Vec::new();
        }
        let workers = children.iter().map(|child| child.worker().clone()).collect();
        let waves = Needs::of(&self.info.settings()).waves(&workers);
        let of = |wave: &HashSet<Name>| {
            children.iter().filter(|child| wave.contains(child.worker())).cloned().collect()
        };
        waves.iter().map(of).collect()
    }

    /// A wish that was answered is not forgotten, whatever happens to the runtime.
    fn answer_once_kept(
        &self,
        answer: Result<Vec<InstanceId>, ActError>,
        reply: oneshot::Sender<Result<Vec<InstanceId>, ActError>>,
    ) {
        let kept = remember::kept(Arc::clone(&self.intents), Arc::clone(&self.info));
        tokio::spawn(async move {
            kept.await;
            // An asker that has gone away needs no answer.
            let _ = reply.send(answer);
        });
    }

    fn pass(&self, child: &InstanceId, act: Act, by: &Asker) -> Result<(), ActError> {
        let (home, address) = owner(&self.plane, child)?;
        let Some(request) = request(act) else { return self.signal(child, act, &address) };
        tell(&address, &home, child, request, by)
    }

    fn signal(&self, child: &InstanceId, act: Act, address: &Address) -> Result<(), ActError> {
        let Act::Signal(signal) = act else { return Ok(()) };
        self.hears(child, act)?;
        let message = SupervisorMsg::Signal { child: child.to_string(), signal };
        address.send_message(message).map_err(|_| ActError::Conflict(format!("{child} is just ending")))
    }

    /// Whether it can hear a signal, if that is what it is to be told.
    pub(super) fn hears(&self, child: &InstanceId, act: Act) -> Result<(), ActError> {
        if !matches!(act, Act::Signal(_)) {
            return Ok(());
        }
        let entry = self.plane.board.instance(child);
        if entry.as_ref().is_some_and(|entry| entry.kind == "actor") {
            return Err(ActError::Unsuited(format!(
                "{child} is an actor, and a signal is for a process: send it a message, or restart it"
            )));
        }
        if entry.is_none_or(|entry| entry.pid.is_none()) {
            return Err(ActError::Conflict(format!("{child} does not run, so nothing can hear a signal")));
        }
        Ok(())
    }

    /// The event that says what was asked of whom, and by whom.
    pub(super) fn requested(&self, target: &Target, action: &str, text: String, by: &Asker) -> Event {
        let mut event = Event::new(EventKind::ActionRequested, text);
        match target {
            Target::Worker(name) => {
                event.worker = Some(name.clone());
                let all = self.plane.gate.instances(name);
                event.instance = all.into_iter().next().filter(|only| only.index().is_none());
            }
            Target::Instance(instance) => {
                event.worker = Some(instance.worker().clone());
                event.instance = Some(instance.clone());
            }
            Target::Supervisor(_) | Target::All => {}
        }
        event.cause = Some(crate::event::Cause::Operator.into());
        event.data.insert("action".to_owned(), action.into());
        event.data.insert("by".to_owned(), by.0.clone().into());
        event
    }

    pub(super) fn announce(&self, target: &Target, act: Act, by: &Asker) {
        let text = format!("{} of {target} asked by {}", act.word(), by.0);
        let mut event = self.requested(target, act.word(), text, by);
        match act {
            Act::Signal(signal) => {
                event.data.insert("signal".to_owned(), crate::exit::signal_name(signal).into());
            }
            Act::Pause { lasting: Some(lasting) } => {
                event.data.insert("for_seconds".to_owned(), lasting.as_secs_f64().into());
            }
            Act::Roll { max_unavailable } => {
                event.data.insert("max_unavailable".to_owned(), max_unavailable.into());
            }
            Act::Pause { lasting: None }
            | Act::Start
            | Act::Stop
            | Act::Restart
            | Act::Resume
            | Act::Reload
            | Act::Scale { .. }
            | Act::ResetFailed => {}
        }
        self.plane.emit(event);
    }

    /// `stop` and `pause` last over restarts of the runtime; every wish to have it running ends the first, only
    /// `resume` the second.
    fn remember(&mut self, children: &[InstanceId], act: Act, by: &Asker) -> bool {
        let mut changed = false;
        let mut intents = lock(&self.intents);
        let operator = Operator { by: by.0.clone(), at: Timestamp::now() };
        for child in children.iter().map(ToString::to_string) {
            changed |= match act {
                Act::Stop => intents.stop(&child, operator.clone()),
                Act::Start | Act::Restart => intents.want(&child),
                Act::Pause { lasting } => {
                    let until =
                        lasting.map(|lasting| operator.at.saturating_add(lasting).unwrap_or(Timestamp::MAX));
                    intents.pause(&child, operator.clone(), until);
                    true
                }
                Act::Resume => intents.resume(&child),
                Act::ResetFailed | Act::Signal(_) | Act::Reload | Act::Roll { .. } | Act::Scale { .. } => {
                    false
                }
            };
            self.plane.set_wish(&child, intents.wish(&child));
        }
        changed
    }

    /// What a supervisor that has just ended was not told is not wanted either.
    fn put_back(&self, child: &InstanceId, former: Option<&Wish>) {
        let (child, wish) = (child.to_string(), former.cloned().unwrap_or_default());
        lock(&self.intents).put_back(&child, &wish);
        self.plane.set_wish(&child, wish);
    }

    fn shutdown(&mut self, by: &Asker) {
        if self.stopping.is_some() {
            return;
        }
        let timeout = self.end_remains();
        let text = format!(
            "shutting down, asked by {}: workers stop in reverse order of their start, at most {}",
            by.0,
            crate::units::format_duration(timeout)
        );
        self.plane.tell(EventKind::RuntimeStopping, text);
        self.send_root(Fact::Shutdown);
    }

    /// From now on there is this much time for an orderly end.
    fn end_remains(&mut self) -> Duration {
        let timeout = self.info.settings().runtime.shutdown_timeout;
        self.stopping.get_or_insert_with(|| Stopping::Asked(Instant::now() + timeout));
        self.remains.end();
        timeout
    }

    fn kill(&mut self, by: &Asker) {
        self.shutdown(by);
        self.remains.kill();
        self.stopping = Some(Stopping::Killed(Instant::now() + LAST_GRACE, self.alive().len()));
        self.plane
            .tell(EventKind::RuntimeStopping, format!("asked again by {}: what is left is killed", by.0));
        self.send_root(Fact::Kill);
    }

    fn out_of_time(&mut self) -> Option<Finished> {
        match self.stopping? {
            Stopping::Asked(_) => {
                self.kill(&Asker("runtime.shutdown_timeout".to_owned()));
                None
            }
            Stopping::Killed(_, before) => {
                let left = self.alive();
                if left.len() >= before {
                    return Some(Finished::Abandoned(left));
                }
                self.stopping = Some(Stopping::Killed(Instant::now() + LAST_GRACE, left.len()));
                None
            }
        }
    }

    fn alive(&self) -> Vec<String> {
        let instances = self.plane.board.instances();
        let alive =
            |entry: &&InstanceState| entry.pid.is_some() || entry.kind == "actor" && has_code(entry.phase);
        let own = instances.iter().filter(alive).map(|entry| entry.instance.to_string());
        // Also of those who are not in the file any more.
        let all: BTreeSet<String> = own.chain(self.remains.names()).collect();
        all.into_iter().collect()
    }

    /// That it ends though nobody has asked: whoever looks how far the start is must not take the end for it.
    fn say_it_ends(&self, ended: &Ended, why: &str) {
        match ended {
            Ended::GaveUp { .. } | Ended::BootFailed { .. } if self.stopping.is_none() => {
                self.plane.tell(EventKind::RuntimeStopping, why.to_owned());
            }
            Ended::GaveUp { .. } | Ended::BootFailed { .. } | Ended::Shutdown | Ended::AutoShutdown => {}
        }
    }

    /// What an earlier runtime left and nobody could kill is left behind once more.
    fn finished(&self, ended: Ended, why: String) -> Finished {
        let stuck = self.remains.names();
        match ended {
            Ended::GaveUp { .. } | Ended::BootFailed { .. } => Finished::GaveUp(why),
            Ended::Shutdown | Ended::AutoShutdown if !stuck.is_empty() => Finished::Abandoned(stuck),
            Ended::Shutdown => Finished::Stopped,
            Ended::AutoShutdown => Finished::Done,
        }
    }

    fn send_root(&self, fact: Fact) {
        // A root that is gone has reported its end, which the loop is about to read.
        let _ = self.root.send_message(SupervisorMsg::Fact(fact));
    }
}

/// Whether code of an actor worker runs in this phase.
fn has_code(phase: Phase) -> bool {
    match phase {
        Phase::Starting | Phase::Running | Phase::Stopping | Phase::Stuck => true,
        Phase::Waiting | Phase::Backoff | Phase::Quarantined | Phase::Stopped | Phase::Done => false,
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
