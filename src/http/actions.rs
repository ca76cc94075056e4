//! Actions: what was asked, the same answer for the same `Idempotency-Key`, and what became of it.
//!
//! The outcome is not stored but seen: an action is done when the board shows its instances where they were
//! asked to be. So it costs nothing until somebody asks, and it cannot disagree with `status`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::Phase;
use crate::runtime::{Act, RuntimeHandle, restarting};
use crate::supervisor::{InstanceState, RollState, Wanted};

use super::dto::{ActionInstance, ActionState, ActionView};
use super::mended;

/// Actions and keys remembered. A client that retries does so within seconds, not a thousand actions later.
const REMEMBERED: usize = 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Of instances.
    Act(Act),
    /// Taking the file over.
    Apply,
    /// A worker of a template.
    Add,
    /// Its end.
    Remove,
    /// A step of recovery.
    Recover,
    /// A step that waited for it may go on.
    Approve,
    /// Of the runtime.
    Shutdown,
}

impl Verb {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Act(act) => act.word(),
            Self::Apply => "apply",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Recover => "recover",
            Self::Approve => "approve",
            Self::Shutdown => "shutdown",
        }
    }
}

/// An instance as it was when it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    instance: InstanceId,
    incarnation: Incarnation,
    phase: Phase,
    goal: Goal,
    /// The incident that a step has opened.
    incident: Option<Arc<str>>,
}

/// Where an instance is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Where the verb brings it.
    Asked,
    /// A start after this one, ready.
    Up,
    /// Down.
    Down,
    /// Out of the tree.
    Gone,
}

impl Before {
    /// The same as if it had never run.
    pub(crate) fn anew(self) -> Self {
        Self { incarnation: Incarnation::NONE, ..self }
    }

    /// The same with another goal.
    pub(crate) fn to(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }

    /// The same with the incident that a step has opened.
    pub(crate) fn within(self, incident: Option<Arc<str>>) -> Self {
        Self { incident, ..self }
    }

    /// Which instance it is.
    pub(crate) fn id(&self) -> &InstanceId {
        &self.instance
    }

    /// Whose instance it is.
    pub(crate) fn worker(&self) -> &Name {
        self.instance.worker()
    }

    /// One that was not there.
    pub(crate) fn unborn(instance: InstanceId) -> Self {
        Self {
            instance,
            incarnation: Incarnation::NONE,
            phase: Phase::Stopped,
            goal: Goal::Asked,
            incident: None,
        }
    }
}

impl From<&InstanceState> for Before {
    fn from(state: &InstanceState) -> Self {
        Self {
            instance: state.instance.clone(),
            incarnation: state.incarnation,
            phase: state.phase,
            goal: Goal::Asked,
            incident: None,
        }
    }
}

/// One remembered action.
#[derive(Debug)]
pub(crate) struct Action {
    pub(crate) id: String,
    verb: Verb,
    target: String,
    by: String,
    at: Timestamp,
    instances: Vec<Before>,
    /// What else the first answer says.
    pub(crate) more: serde_json::Map<String, serde_json::Value>,
    /// What it cannot be, of what was asked.
    note: Option<&'static str>,
    /// What is not as it should be although it was done.
    pub(crate) warning: Option<String>,
}

impl Action {
    pub(crate) fn new(verb: Verb, target: String, by: String, at: Timestamp, instances: Vec<Before>) -> Self {
        let more = serde_json::Map::new();
        Self { id: new_id(), verb, target, by, at, instances, more, note: None, warning: None }
    }

    /// The same with more to say.
    pub(crate) fn with(self, more: serde_json::Map<String, serde_json::Value>) -> Self {
        Self { more, ..self }
    }

    /// Says that it is less than was asked.
    pub(crate) fn with_note(mut self, note: Option<&'static str>) -> Self {
        self.note = note;
        self
    }

    /// Says that it was done and something is wrong with it.
    pub(crate) fn with_warning(mut self, warning: Option<String>) -> Self {
        self.warning = warning;
        self
    }

    /// For people: `restart of parser asked by ann: parser/0, parser/1`.
    pub(crate) fn message(&self) -> String {
        let names: Vec<_> = self.instances.iter().take(8).map(|one| one.instance.to_string()).collect();
        let more = self.instances.len().saturating_sub(8);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match self.verb {
            Verb::Shutdown => format!("shutdown asked by {}", self.by),
            Verb::Apply => format!("apply asked by {}: {}", self.by, self.target),
            Verb::Approve => format!("the step of {} that waited is approved by {}", self.target, self.by),
            Verb::Act(_) | Verb::Add | Verb::Remove | Verb::Recover => {
                let note = self.note.map(|note| format!("; {note}")).unwrap_or_default();
                // Who was named is not told twice.
                let whom = if names.is_empty() || names.join(", ") == self.target {
                    String::new()
                } else {
                    format!(": {}{more}", names.join(", "))
                };
                format!("{} of {} asked by {}{whom}{note}", self.verb.word(), self.target, self.by)
            }
        }
    }

    /// What became of it.
    pub(crate) fn view(&self, runtime: &RuntimeHandle) -> ActionView {
        let instances: Vec<_> = self.instances.iter().map(|before| self.instance(before, runtime)).collect();
        let any = |state| instances.iter().any(|one: &ActionInstance| one.state == state);
        let state = match self.verb {
            Verb::Shutdown => ActionState::Running,
            Verb::Act(_) | Verb::Apply | Verb::Add | Verb::Remove | Verb::Recover | Verb::Approve => {
                // One that failed is no reason to hear nothing of the others.
                if any(ActionState::Running) {
                    ActionState::Running
                } else if any(ActionState::Failed) {
                    ActionState::Failed
                } else {
                    ActionState::Ok
                }
            }
        };
        ActionView {
            schema: "regrow.action/1".to_owned(),
            id: self.id.clone(),
            action: self.verb.word().to_owned(),
            target: self.target.clone(),
            by: self.by.clone(),
            requested_at: self.at,
            state,
            message: self.message(),
            instances,
        }
    }

    fn instance(&self, before: &Before, runtime: &RuntimeHandle) -> ActionInstance {
        let now = runtime.board().instance(&before.instance);
        let (state, message) = match (self.verb, before.goal) {
            (Verb::Shutdown, _) => (ActionState::Running, String::new()),
            (Verb::Act(Act::Stop), Goal::Asked)
                if now.as_ref().is_some_and(|now| now.is_wanted_since(self.at)) =>
            {
                (ActionState::Failed, "somebody started it again".to_owned())
            }
            // Down for the restart itself, which starts it once those before it are up: also one that had come up by
            // itself meanwhile.
            (Verb::Act(Act::Restart), Goal::Asked)
                if now.as_ref().is_some_and(|now| now.is_stopped_by(&restarting(&self.by), self.at)) =>
            {
                (ActionState::Running, "it is down, and is started again".to_owned())
            }
            (Verb::Act(act), Goal::Asked) => {
                let act = act.meant_for(&runtime.info().settings(), before.instance.worker());
                match runtime.board().roll(before.instance.worker()) {
                    Some(roll) if matches!(act, Act::Roll { .. }) => rolled(&roll, before, now.as_ref()),
                    Some(_) | None => progress(act, before, now.as_ref()),
                }
            }
            (Verb::Recover, Goal::Asked) => {
                mended::became(runtime, before.incident.as_deref(), self.at, now.as_ref())
            }
            (Verb::Apply | Verb::Add | Verb::Remove | Verb::Approve, Goal::Asked) => {
                (ActionState::Ok, String::new())
            }
            (Verb::Act(_) | Verb::Apply | Verb::Add | Verb::Remove | Verb::Recover | Verb::Approve, goal) => {
                reached(goal, before, now.as_ref())
            }
        };
        ActionInstance {
            instance: before.instance.to_string(),
            state,
            status: now.map_or("removed", |state| state.status()).to_owned(),
            message,
        }
    }
}

/// How far one instance is on the way to its goal.
fn reached(goal: Goal, before: &Before, now: Option<&InstanceState>) -> (ActionState, String) {
    match (goal, now) {
        (Goal::Gone | Goal::Down, None) => (ActionState::Ok, "it was removed".to_owned()),
        (_, None) => (ActionState::Failed, "it was removed".to_owned()),
        (_, Some(now)) if now.phase == Phase::Stuck => {
            (ActionState::Failed, "it cannot be killed".to_owned())
        }
        (Goal::Asked, Some(now)) => (ActionState::Ok, doing(now.phase).to_owned()),
        (Goal::Up, Some(now)) => started(before.incarnation, now),
        (Goal::Down, Some(now)) => stopped(now),
        (Goal::Gone, Some(now)) => (ActionState::Running, doing(now.phase).to_owned()),
    }
}

/// How far one instance is.
fn progress(act: Act, before: &Before, now: Option<&InstanceState>) -> (ActionState, String) {
    let Some(now) = now else {
        let fine = matches!(act, Act::Stop | Act::Scale { .. });
        let state = if fine { ActionState::Ok } else { ActionState::Failed };
        return (state, "it was removed".to_owned());
    };
    if now.phase == Phase::Stuck {
        return (ActionState::Failed, "it cannot be killed".to_owned());
    }
    match act {
        Act::Stop => stopped(now),
        Act::Pause { .. } | Act::Resume => intended(act, now),
        Act::Roll { .. } => started(before.incarnation, now),
        Act::Scale { .. } => started_or_running(before.incarnation, now),
        // It is known by then which of the two it was.
        Act::Reload | Act::Signal(_) => (ActionState::Ok, "the signal was sent".to_owned()),
        Act::Restart => started(before.incarnation, now),
        Act::Start => match before.phase {
            Phase::Running => (ActionState::Ok, "it was already running".to_owned()),
            Phase::Waiting
            | Phase::Starting
            | Phase::Stopping
            | Phase::Backoff
            | Phase::Quarantined
            | Phase::Stuck
            | Phase::Stopped
            | Phase::Done => started_or_running(before.incarnation, now),
        },
        Act::ResetFailed => match before.phase {
            Phase::Quarantined | Phase::Backoff => started(before.incarnation, now),
            Phase::Waiting
            | Phase::Starting
            | Phase::Running
            | Phase::Stopping
            | Phase::Stuck
            | Phase::Stopped
            | Phase::Done => (ActionState::Ok, "nothing had failed".to_owned()),
        },
    }
}

/// One instance of a rolling restart is where it should be once the whole is over.
fn rolled(roll: &RollState, before: &Before, now: Option<&InstanceState>) -> (ActionState, String) {
    let act = Act::Roll { max_unavailable: 1 };
    match (roll, progress(act, before, now)) {
        (RollState::UnderWay, (ActionState::Ok, message)) => (ActionState::Running, message),
        (RollState::Failed(why), (ActionState::Running, _)) => (ActionState::Failed, why.clone()),
        (RollState::Done, (ActionState::Running, _)) => match now.map(|now| (now.wanted, now.phase)) {
            Some((Wanted::Stopped, _)) => (ActionState::Ok, "it is stopped, and was left so".to_owned()),
            Some((Wanted::Paused, _)) => (ActionState::Ok, "it is paused, and was left alone".to_owned()),
            Some((Wanted::Running, Phase::Done)) => (ActionState::Ok, "its work is done".to_owned()),
            Some((Wanted::Running, phase)) => (ActionState::Running, doing(phase).to_owned()),
            None => (ActionState::Ok, "it was removed".to_owned()),
        },
        (RollState::UnderWay | RollState::Done | RollState::Failed(_), progress) => progress,
    }
}

/// Seen on the board as soon as its supervisor has heard of it.
fn intended(act: Act, now: &InstanceState) -> (ActionState, String) {
    let paused = now.wanted == Wanted::Paused;
    match (act, now.wanted) {
        (_, Wanted::Stopped) => (ActionState::Ok, "it is stopped".to_owned()),
        (Act::Pause { .. }, _) if paused => (ActionState::Ok, "nothing is done by itself".to_owned()),
        (Act::Resume, _) if !paused => (ActionState::Ok, format!("the pause is over; {}", goes_on(now))),
        (_, Wanted::Running | Wanted::Paused) => (ActionState::Running, doing(now.phase).to_owned()),
    }
}

fn stopped(now: &InstanceState) -> (ActionState, String) {
    let down = matches!(now.phase, Phase::Stopped | Phase::Done)
        || (now.phase == Phase::Quarantined && now.pid.is_none() && now.wanted == Wanted::Stopped);
    match (down, now.wanted) {
        (true, _) => (ActionState::Ok, "it is down".to_owned()),
        (false, Wanted::Running) if now.phase == Phase::Running => {
            (ActionState::Running, "it still runs".to_owned())
        }
        (false, _) => (ActionState::Running, doing(now.phase).to_owned()),
    }
}

fn started_or_running(before: Incarnation, now: &InstanceState) -> (ActionState, String) {
    if now.phase == Phase::Running && now.ready { (ActionState::Ok, up(now)) } else { started(before, now) }
}

/// A newer incarnation must be ready, or have done its work.
fn started(before: Incarnation, now: &InstanceState) -> (ActionState, String) {
    let newer = now.incarnation > before;
    match now.phase {
        Phase::Running if newer && now.ready && is_fresh(now) => {
            (ActionState::Running, "it has only just started".to_owned())
        }
        Phase::Running if newer && now.ready => (ActionState::Ok, up(now)),
        Phase::Done if newer => (ActionState::Ok, "its work is done".to_owned()),
        Phase::Quarantined if newer => {
            let why = now.last_exit.as_ref().map_or("", |last| last.message.as_str());
            (ActionState::Failed, format!("it was parked: {why}"))
        }
        Phase::Stopped if now.wanted == Wanted::Stopped && newer => {
            (ActionState::Failed, "somebody stopped it".to_owned())
        }
        Phase::Waiting if !now.waits_for.is_empty() => {
            (ActionState::Running, format!("it waits for {}", now.waits_for.join(", ")))
        }
        Phase::Waiting
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping
        | Phase::Backoff
        | Phase::Quarantined
        | Phase::Stuck
        | Phase::Stopped
        | Phase::Done => (ActionState::Running, doing(now.phase).to_owned()),
    }
}

/// A process that counts as ready as soon as it runs may end at once; who waits for it wants to know.
const HOLDS: SignedDuration = SignedDuration::from_millis(250);

fn is_fresh(now: &InstanceState) -> bool {
    now.kind == "process" && Timestamp::now().duration_since(now.since) < HOLDS
}

/// What it does, where it is not yet what was asked for.
fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "it waits for others",
        Phase::Starting => "it is starting",
        Phase::Running => "it runs and is not ready",
        Phase::Stopping => "it is being stopped",
        Phase::Backoff => "it waits for its next try",
        Phase::Quarantined => "it is parked",
        Phase::Stuck => "it cannot be killed",
        Phase::Stopped => "it is down",
        Phase::Done => "its work is done",
    }
}

/// What it does now, where that is all that was asked for.
fn goes_on(now: &InstanceState) -> String {
    if now.phase == Phase::Running && now.ready { up(now) } else { doing(now.phase).to_owned() }
}

fn up(now: &InstanceState) -> String {
    match now.pid {
        Some(pid) => format!("it runs as pid {pid}"),
        None => "it runs".to_owned(),
    }
}

/// The remembered actions.
#[derive(Default)]
pub(crate) struct Actions {
    kept: Mutex<Kept>,
    /// Held while an action with a key is being passed on, so that its twin waits for the answer.
    pub(crate) keyed: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    order: VecDeque<Arc<Action>>,
    keys: HashMap<String, (String, Arc<Action>)>,
    key_order: VecDeque<String>,
}

/// What is known of a key.
pub(crate) enum Known {
    /// Never seen.
    New,
    /// The same request before.
    Same(Arc<Action>),
    /// Another request before.
    Other,
}

impl Actions {
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Action>> {
        self.lock().order.iter().find(|action| action.id == id).cloned()
    }

    pub(crate) fn known(&self, key: &str, request: &str) -> Known {
        match self.lock().keys.get(key) {
            None => Known::New,
            Some((before, action)) if before == request => Known::Same(Arc::clone(action)),
            Some(_) => Known::Other,
        }
    }

    pub(crate) fn remember(&self, action: Action, key: Option<(String, String)>) -> Arc<Action> {
        let action = Arc::new(action);
        let mut kept = self.lock();
        if kept.order.len() == REMEMBERED {
            kept.order.pop_front();
        }
        kept.order.push_back(Arc::clone(&action));
        if let Some((key, request)) = key {
            if kept.key_order.len() == REMEMBERED
                && let Some(oldest) = kept.key_order.pop_front()
            {
                kept.keys.remove(&oldest);
            }
            kept.key_order.push_back(key.clone());
            kept.keys.insert(key, (request, Arc::clone(&action)));
        }
        action
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Random, so that an id of an earlier runtime cannot be mistaken for one of this.
fn new_id() -> String {
    let number = getrandom::u64().unwrap_or_else(|_| Timestamp::now().as_nanosecond() as u64);
    format!("act-{number:016x}")
}
