//! Routes that bring workers of templates into the tree and take them out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::config::Added;
use crate::id::Name;
use crate::runtime::Asker;

use super::super::actions::{Before, Goal, Verb};
use super::super::peer::{Peer, Role};
use super::super::problem::Problem;
use super::Api;
use super::act::{Asked, Passed, keyed, through};

/// `POST /api/v1/workers`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    template: String,
    id: String,
    #[serde(default)]
    params: BTreeMap<String, String>,
}

pub(super) async fn add(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Asked {
    peer.require(Role::Operator)?;
    let body = body.map_err(|error| Problem::invalid(error.body_text()))?;
    let added = parse(&body)?;
    let request = format!("add {} {} {:?}", added.template, added.id, added.params);
    through(async move { keyed(&api, &peer, &headers, &request, || grow(&api, &peer, added)).await }).await
}

/// What cannot be a name is the name of nothing.
fn unnamed(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_name", detail)
}

fn parse(body: &[u8]) -> Result<Added, Problem> {
    let wanted = r#"this route wants {"template": "NAME", "id": "NAME", "params": {"x": "text"}}"#;
    let AddBody { template, id, params } =
        serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("{wanted}: {error}")))?;
    let name = |what: &str, text: &str| {
        Name::try_new(text).map_err(|error| Problem::invalid(format!("`{what}` is no name: {error}")))
    };
    let template =
        Name::try_new(&template).map_err(|error| unnamed(format!("this is no template's name: {error}")))?;
    Ok(Added { id: name("id", &id)?, template, params })
}

async fn grow(api: &Api, peer: &Peer, added: Added) -> Result<Passed, Problem> {
    let target = format!("{} of template {}", added.id, added.template);
    let instances = api.runtime.add(added, Asker(peer.name.clone())).await?;
    let states = instances.iter().filter_map(|instance| api.runtime.board().instance(instance));
    let instances = states.map(|state| Before::from(&state).anew().to(Goal::Up)).collect();
    Ok(Passed::new(Verb::Add, target, instances))
}

/// `DELETE /api/v1/workers/{id}`
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Asked {
    peer.require(Role::Operator)?;
    let Path(id) = id.map_err(|error| Problem::invalid(error.body_text()))?;
    let id = Name::try_new(&id).map_err(|error| unnamed(format!("this is no worker's name: {error}")))?;
    through(async move {
        keyed(&api, &peer, &headers, &format!("remove {id}"), || shrink(&api, &peer, id.clone())).await
    })
    .await
}

async fn shrink(api: &Api, peer: &Peer, id: Name) -> Result<Passed, Problem> {
    let own = api.runtime.board().instances().into_iter().filter(|state| *state.instance.worker() == id);
    let instances = own.map(|state| Before::from(&state).to(Goal::Gone)).collect();
    api.runtime.remove(id.clone(), Asker(peer.name.clone())).await?;
    Ok(Passed::new(Verb::Remove, id.to_string(), instances))
}
