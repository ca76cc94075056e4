//! `/workers/{id}/state`: a worker's own state, put away and brought back.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;

use crate::event::{Event, EventKind};
use crate::id::InstanceId;
use crate::policy::Phase;
use crate::supervisor::InstanceState;
use crate::worker::{Move, StateRoom};

use super::super::dto::{StateView, StatesBody};
use super::super::peer::{Peer, Role};
use super::super::{problem::Problem, snapshot};
use super::look::worker_target;
use super::{Api, json};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Wanted {
    archive: Option<String>,
}

pub(super) async fn show(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let states = of(&api, id)?;
    on_disk(&api, states, |_, _| Ok(())).await
}

pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    peer.require(Role::Operator)?;
    let Path((id, verb)) = path.map_err(|error| Problem::invalid(error.body_text()))?;
    // Wished for first, looked at then: whoever starts after the look makes the wish void.
    let room = |state: &InstanceState| StateRoom::new(&api.runtime.info().state_dir, &state.instance.slug());
    let wishes: Vec<_> = of(&api, Ok(Path(id.clone())))?
        .iter()
        .map(|state| (state.instance.clone(), room(state).wish()))
        .collect();
    let states = of(&api, Ok(Path(id)))?;
    if let Some(up) = states.iter().find(|state| !is_down(state)) {
        let text =
            format!("{} runs with its state: stop it first, with `regrow stop {}`", up.instance, up.instance);
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", text));
    }
    let wanted: Wanted = if body.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?
    };
    for state in &states {
        let mut event =
            Event::new(EventKind::ActionRequested, format!("state {verb}, asked for by {}", peer.name));
        event.worker = Some(state.instance.worker().clone());
        event.instance = Some(state.instance.clone());
        api.runtime.journal().emit(event);
    }
    match verb.as_str() {
        "archive" => {
            let work = move |instance: &InstanceId, is_down: &dyn Fn() -> bool| {
                wish_of(&wishes, instance)?.archive(is_down).map(drop)
            };
            on_disk(&api, states, work).await
        }
        "restore" => {
            let work = move |instance: &InstanceId, is_down: &dyn Fn() -> bool| {
                wish_of(&wishes, instance)?.restore(wanted.archive.as_deref(), is_down).map(drop)
            };
            on_disk(&api, states, work).await
        }
        other => Err(Problem::not_found(format!("a state can be archived and restored, not `{other}`"))),
    }
}

fn wish_of<'a>(wishes: &'a [(InstanceId, Move)], instance: &InstanceId) -> std::io::Result<&'a Move> {
    let found = wishes.iter().find(|(wished, _)| wished == instance).map(|(_, wish)| wish);
    found.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

fn of(api: &Api, id: Result<Path<String>, PathRejection>) -> Result<Vec<InstanceState>, Problem> {
    let target = worker_target(id)?;
    let unknown = || Problem::not_found(format!("no worker or instance is called `{target}`"));
    snapshot::resolve(&api.runtime, &target).ok_or_else(unknown)
}

/// Nothing of it runs, and nothing is about to by itself.
fn is_down(state: &InstanceState) -> bool {
    match state.phase {
        Phase::Stopped | Phase::Done => state.pid.is_none(),
        Phase::Waiting
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping
        | Phase::Backoff
        | Phase::Quarantined
        | Phase::Stuck => false,
    }
}

/// Does something with each state and shows what is there then. A slow disk holds up this answer and no other.
async fn on_disk(
    api: &Arc<Api>,
    states: Vec<InstanceState>,
    work: impl Fn(&InstanceId, &dyn Fn() -> bool) -> std::io::Result<()> + Send + 'static,
) -> Result<Response<Body>, Problem> {
    let api = Arc::clone(api);
    let done = tokio::task::spawn_blocking(move || {
        let view = |state: &InstanceState| {
            let instance = &state.instance;
            let room = StateRoom::new(&api.runtime.info().state_dir, &instance.slug());
            let is_down = || api.runtime.board().instance(instance).as_ref().is_none_or(is_down);
            work(instance, &is_down)?;
            let size = room.size()?;
            Ok(StateView {
                instance: instance.to_string(),
                identity: room.identity()?,
                path: room.path().display().to_string(),
                files: size.files,
                bytes: size.bytes,
                archives: room.archives()?,
            })
        };
        states.iter().map(view).collect::<std::io::Result<Vec<_>>>()
    });
    let failed = |text: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text);
    match done.await.map_err(|error| failed(error.to_string()))? {
        Ok(items) => Ok(json(&StatesBody { schema: "regrow.state/1".to_owned(), items, next_cursor: None })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = format!("{error}; `regrow state show` lists what there is");
            Err(Problem::new(StatusCode::NOT_FOUND, "no_archive", text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            Err(Problem::new(StatusCode::CONFLICT, "conflict", format!("{error}; stop it first")))
        }
        Err(error) => Err(failed(format!("the state directory cannot be changed: {error}"))),
    }
}
