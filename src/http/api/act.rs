//! Routes that ask for something: passed on to the runtime, answered with 202 and where to look.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::Next;
use jiff::Timestamp;
use serde::Deserialize;

use crate::id::InstanceId;
use crate::runtime::{Act, Asker, Target, is_alone};
use crate::supervisor::{InstanceState, Wanted};

use super::super::actions::{Action, Before, Goal, Known, Verb};
use super::super::dto::{Accepted, ActionState};
use super::super::peer::{Peer, Role};
use super::super::{problem::Problem, snapshot};
use super::look::{supervisor_name, worker_target};
use super::{Api, ask, json};

/// The control plane takes an order in microseconds; one that takes this long is stuck.
const PASS_ON: Duration = Duration::from_secs(5);

/// Longest `?wait=`; a client asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// While somebody waits, it is looked at this often even if nothing seems to change.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Longest `Idempotency-Key`.
const LONGEST_KEY: usize = 255;

pub(super) type Asked = Result<Response<Body>, Problem>;

/// What was passed on.
pub(super) struct Passed {
    pub(super) verb: Verb,
    /// On whom, for people.
    pub(super) target: String,
    pub(super) instances: Vec<Before>,
    /// What else the answer says.
    pub(super) more: serde_json::Map<String, serde_json::Value>,
}

impl Passed {
    pub(super) fn new(verb: Verb, target: String, instances: Vec<Before>) -> Self {
        Self { verb, target, instances, more: serde_json::Map::new() }
    }
}

pub(super) async fn worker(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    let Path((id, verb)) = path.map_err(|error| Problem::invalid(error.body_text()))?;
    let act = ask::act(&verb, &body)?;
    let target = worker_target(Ok(Path(id)))?;
    submit(&api, &peer, &headers, vec![target], act).await
}

/// `POST /api/v1/several/{verb}` `{"targets": ["db", "sup:ingest"]}` and what else the verb takes: one order.
pub(super) async fn several(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    verb: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    let Path(verb) = verb.map_err(|error| Problem::invalid(error.body_text()))?;
    let (targets, act) = ask::several(&verb, &body)?;
    submit(&api, &peer, &headers, targets, act).await
}

pub(super) async fn supervisor(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    let Path((name, verb)) = path.map_err(|error| Problem::invalid(error.body_text()))?;
    let act = ask::act(&verb, &body)?;
    let target = Target::Supervisor(supervisor_name(Ok(Path(name)))?);
    submit(&api, &peer, &headers, vec![target], act).await
}

pub(super) async fn all(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    verb: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    let Path(verb) = verb.map_err(|error| Problem::invalid(error.body_text()))?;
    submit(&api, &peer, &headers, vec![Target::All], ask::act(&verb, &body)?).await
}

pub(super) async fn shutdown(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    peer.require(Role::Admin)?;
    ask::nothing(&body)?;
    let asker = Asker(peer.name.clone());
    soon(async move {
        let action = || async { Ok(Passed::new(Verb::Shutdown, "the runtime".to_owned(), Vec::new())) };
        let answer = keyed(&api, &peer, &headers, "shutdown", action).await?;
        // Ordered after the answer was made: the end of the runtime ends this server too.
        api.runtime.shutdown(asker).await;
        Ok(answer)
    })
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    wait: Option<String>,
}

/// `GET /api/v1/actions/{id}?wait=30s`: answers once it is done, or after the wait.
pub(super) async fn outcome(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    waiting: Result<Query<Waiting>, QueryRejection>,
) -> Asked {
    let Path(id) = id.map_err(|error| Problem::invalid(error.body_text()))?;
    let Query(waiting) = waiting.map_err(|error| Problem::invalid(error.body_text()))?;
    let limit = match waiting.wait.as_deref().map(crate::units::parse_duration) {
        None => Duration::ZERO,
        Some(Ok(limit)) => limit.min(LONGEST_WAIT),
        Some(Err(error)) => return Err(Problem::invalid(format!("wait: {error}"))),
    };
    let action = api.actions.get(&id).ok_or_else(|| {
        Problem::not_found("no such action; only the last thousand of this runtime are remembered")
    })?;
    let mut changes = api.runtime.board().watch();
    let mut stopped = api.stopped();
    let until = tokio::time::Instant::now() + limit;
    loop {
        changes.borrow_and_update();
        let view = action.view(&api.runtime);
        let over = tokio::time::Instant::now() >= until;
        if view.state != ActionState::Running || over || *stopped.borrow() {
            // What somebody was told is so after a kill, too.
            api.runtime.incidents_settled().await;
            api.runtime.events_settled().await;
            return Ok(json(&view));
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = stopped.changed() => {}
            // An outcome may be one of time alone: that somebody still runs.
            () = tokio::time::sleep_until(until.min(tokio::time::Instant::now() + LOOK_AGAIN)) => {}
        }
    }
}

/// Holds the answer to whoever asked for something back until the event that says so is kept: what was promised is not
/// lost with a kill of the runtime. The end of the runtime keeps its events by itself, and ends this server.
pub(super) async fn kept(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response<Body> {
    let asks = !matches!(*request.method(), Method::GET | Method::HEAD);
    let ends = request.uri().path() == "/shutdown";
    let response = next.run(request).await;
    if asks && !ends && response.status().is_success() {
        api.runtime.events_settled().await;
    }
    response
}

async fn submit(api: &Arc<Api>, peer: &Peer, headers: &HeaderMap, targets: Vec<Target>, act: Act) -> Asked {
    peer.require(Role::Operator)?;
    let request = format!("{act:?} {}", named(&targets));
    let (api, peer, headers) = (Arc::clone(api), peer.clone(), headers.clone());
    soon(async move { keyed(&api, &peer, &headers, &request, || pass_on(&api, &peer, targets, act)).await })
        .await
}

fn named(targets: &[Target]) -> String {
    targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Asks the runtime, and notes how every instance was before.
async fn pass_on(api: &Api, peer: &Peer, targets: Vec<Target>, act: Act) -> Result<Passed, Problem> {
    let before: Vec<(bool, Vec<InstanceState>)> = targets
        .iter()
        .map(|target| {
            let states = snapshot::resolve(&api.runtime, target).unwrap_or_default();
            (matches!(target, Target::Supervisor(_)), states)
        })
        .collect();
    let named = named(&targets);
    let instances = api.runtime.act_on(targets, act, Asker(peer.name.clone())).await?;
    let mut meant: Vec<Before> = Vec::new();
    let mut seen = HashSet::new();
    for (whole, before) in before {
        let own = meant_of(whole, &before, &instances, act);
        meant.extend(own.into_iter().filter(|one| seen.insert(one.id().clone())));
    }
    Ok(Passed::new(Verb::Act(act), named, meant))
}

/// Those of one target, which may be a whole supervisor, as they were before.
pub(super) fn meant_of(
    whole: bool,
    before: &[InstanceState],
    instances: &[InstanceId],
    act: Act,
) -> Vec<Before> {
    if let Act::Scale { instances: wanted } = act {
        let known = |id: &InstanceId| before.iter().any(|state| state.instance == *id);
        let new = instances.iter().filter(|id| !known(id)).cloned().map(Before::unborn);
        let goal = |state: &InstanceState| {
            let leaves = state.instance.index().unwrap_or(0) >= wanted;
            Before::from(state).to(if leaves { Goal::Gone } else { Goal::Asked })
        };
        before.iter().map(goal).chain(new).collect()
    } else if whole {
        // Of a supervisor, everybody below it is meant, but for whom it leaves down.
        let comes = |state: &&InstanceState| {
            act == Act::Stop || state.wanted != Wanted::Stopped || instances.contains(&state.instance)
        };
        before.iter().filter(comes).map(Before::from).collect()
    } else {
        remembered(before, instances)
    }
}

fn remembered(before: &[InstanceState], instances: &[InstanceId]) -> Vec<Before> {
    before.iter().filter(|state| instances.contains(&state.instance)).map(Before::from).collect()
}

/// Sees a change through also if whoever asked for it hangs up meanwhile: half of one is worse than none, and its key is
/// good for whoever asks again.
pub(super) async fn through(work: impl Future<Output = Asked> + Send + 'static) -> Asked {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        let detail = format!("the request broke off inside: {error}; this is a bug");
        Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail))
    })
}

/// The same for what should take no time: whoever waits is told so, and the order stands.
async fn soon(work: impl Future<Output = Asked> + Send + 'static) -> Asked {
    let late = |_| {
        Err(Problem::busy(
            "the control loop has not answered yet; the order stands: ask again with the same Idempotency-Key, or look",
        ))
    };
    tokio::time::timeout(PASS_ON, through(work)).await.unwrap_or_else(late)
}

/// Runs `action` once for each `Idempotency-Key`.
pub(super) async fn keyed<F>(
    api: &Arc<Api>,
    peer: &Peer,
    headers: &HeaderMap,
    request: &str,
    action: impl FnOnce() -> F,
) -> Asked
where
    F: Future<Output = Result<Passed, Problem>>,
{
    let key = idempotency_key(headers)?;
    let _turn = match &key {
        Some(_) => Some(api.actions.keyed.lock().await),
        None => None,
    };
    if let Some(key) = &key {
        match api.actions.known(key, request) {
            Known::New => {}
            Known::Same(before) => return accepted(&before),
            Known::Other => {
                let detail = "this Idempotency-Key was used for another request";
                return Err(Problem::new(StatusCode::CONFLICT, "key_reused", detail));
            }
        }
    }
    // Before anything was done: whoever asked later is known by that.
    let at = Timestamp::now();
    let Passed { verb, target, instances, more } = action().await?;
    let note = plain_after_all(api, verb, &instances);
    let action = Action::new(verb, target, peer.name.clone(), at, instances).with(more).with_note(note);
    let action = action.with_warning(forgotten(api, verb));
    accepted(&api.actions.remember(action, key.map(|key| (key, request.to_owned()))))
}

/// A worker that is alone has nobody who works while it is restarted.
fn plain_after_all(api: &Api, verb: Verb, instances: &[Before]) -> Option<&'static str> {
    let Verb::Act(act @ (Act::Roll { .. } | Act::Reload)) = verb else { return None };
    let settings = api.runtime.info().settings();
    let rolls = |one: &Before| matches!(act.meant_for(&settings, one.worker()), Act::Roll { .. });
    let plain = instances.iter().any(|one| rolls(one) && is_alone(&settings, one.worker()));
    plain.then_some(
        "one instance and no port to share its work on: it is restarted plainly and is down meanwhile",
    )
}

/// What lasts over restarts of the runtime, if the disk takes it.
fn forgotten(api: &Api, verb: Verb) -> Option<String> {
    let info = api.runtime.info();
    let why = match verb {
        Verb::Act(
            Act::Start | Act::Stop | Act::Restart | Act::Pause { .. } | Act::Resume | Act::Scale { .. },
        ) => info.forgetful(),
        Verb::Remove => {
            return info.unwritten().map(|why| {
                format!(
                    "it is gone, and that could not be written down ({why}): it comes back with the next runtime; \
                     make room in the state directory, and the next add or remove writes down all of them"
                )
            });
        }
        Verb::Act(Act::ResetFailed | Act::Signal(_) | Act::Reload | Act::Roll { .. })
        | Verb::Apply
        | Verb::Add
        | Verb::Recover
        | Verb::Approve
        | Verb::Shutdown => None,
    }?;
    Some(format!(
        "it is done, and could not be written down ({why}): it is forgotten if regrow ends before it could; \
         make room in the state directory, it is tried again every second"
    ))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= LONGEST_KEY => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => Err(Problem::invalid("an Idempotency-Key is 1 to 255 visible ASCII characters")),
    }
}

fn accepted(action: &Action) -> Asked {
    let body = Accepted {
        ok: true,
        action_id: action.id.clone(),
        message: action.message(),
        warning: action.warning.clone(),
    };
    let mut answer = action.more.clone();
    if let Ok(serde_json::Value::Object(body)) = serde_json::to_value(&body) {
        answer.extend(body);
    }
    let mut response = json(&answer);
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/actions/{}", action.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
