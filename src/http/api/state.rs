//! `/workers/{id}/state`: a worker's own state, put away and brought back.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;

use crate::event::{Event, EventKind};
use crate::policy::Phase;
use crate::supervisor::InstanceState;
use crate::worker::StateRoom;

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
    on_disk(&api, states, |_| Ok(())).await
}

pub(super) async fn change(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    peer.require(Role::Operator)?;
    let Path((id, verb)) = path.map_err(|error| Problem::invalid(error.body_text()))?;
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
        "archive" => on_disk(&api, states, |room| room.archive().map(drop)).await,
        "restore" => {
            on_disk(&api, states, move |room| room.restore(wanted.archive.as_deref()).map(drop)).await
        }
        other => Err(Problem::not_found(format!("a state can be archived and restored, not `{other}`"))),
    }
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
    api: &Api,
    states: Vec<InstanceState>,
    work: impl Fn(&StateRoom) -> std::io::Result<()> + Send + 'static,
) -> Result<Response<Body>, Problem> {
    let state_dir = api.runtime.info().state_dir.clone();
    let done = tokio::task::spawn_blocking(move || {
        let view = |state: &InstanceState| {
            let room = StateRoom::new(&state_dir, &state.instance.slug());
            work(&room)?;
            let size = room.size()?;
            Ok(StateView {
                instance: state.instance.to_string(),
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
        Err(error) => Err(failed(format!("the state directory cannot be changed: {error}"))),
    }
}
