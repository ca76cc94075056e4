//! Routes that only read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::Response;
use jiff::Timestamp;
use serde::Deserialize;

use crate::id::Name;
use crate::runtime::Target;

use super::super::dto::{DescribeBody, SupervisorView, TreeBody, WorkerView, WorkersBody, effective};
use super::super::{problem::Problem, snapshot};
use super::page::Page;
use super::{Api, json};

pub(super) async fn status(State(api): State<Arc<Api>>) -> Response<Body> {
    json(&snapshot::status(&api.runtime))
}

pub(super) async fn tree(State(api): State<Arc<Api>>) -> Response<Body> {
    json(&TreeBody::of(&snapshot::status(&api.runtime)))
}

pub(super) async fn config(State(api): State<Arc<Api>>) -> Response<Body> {
    json(&effective(&api.runtime.info().settings()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    pub(super) limit: Option<usize>,
    pub(super) cursor: Option<String>,
    pub(super) filter: Option<String>,
}

pub(super) async fn workers(
    State(api): State<Arc<Api>>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let keys = ["instance", "health", "status", "phase", "sup", "supervisor", "worker"];
    let page = Page::parse(ask.limit, ask.cursor.as_deref(), ask.filter.as_deref(), &keys)?;
    let all = snapshot::status(&api.runtime).workers;
    let has = |worker: &WorkerView, key: &str, value: &str| match key {
        "health" => worker.health == value,
        "status" => worker.status == value,
        "phase" => worker.phase == value,
        "sup" | "supervisor" => worker.supervisor == value,
        "worker" => worker.worker == value,
        _ => worker.instance.contains(value),
    };
    let (items, next_cursor) = page.cut(all, |worker| &worker.instance, has)?;
    Ok(json(&WorkersBody { schema: "regrow.workers/1".to_owned(), items, next_cursor }))
}

pub(super) async fn worker(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let states = snapshot::known(&api.runtime, &target)?;
    let items = states.iter().map(|state| snapshot::detail(&api.runtime, state)).collect();
    Ok(json(&DescribeBody { schema: "regrow.describe/1".to_owned(), items, next_cursor: None }))
}

pub(super) async fn supervisor(
    State(api): State<Arc<Api>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let name = supervisor_name(name)?;
    let found = api.runtime.board().supervisors().into_iter().find(|state| state.name == name);
    let state = found.ok_or_else(|| Problem::not_found(format!("no supervisor is called `{name}`")))?;
    let now = Timestamp::now();
    let children: Vec<WorkerView> = snapshot::resolve(&api.runtime, &Target::Supervisor(name))
        .unwrap_or_default()
        .iter()
        .map(|state| snapshot::worker(state, api.runtime.info().sampler(), now))
        .collect();
    Ok(json(&serde_json::json!({
        "schema": "regrow.supervisor/1",
        "supervisor": SupervisorView::from(&state),
        "workers": children,
    })))
}

/// `{id}`: a worker or an instance, with its `/` percent-encoded.
pub(super) fn worker_target(id: Result<Path<String>, PathRejection>) -> Result<Target, Problem> {
    let Path(text) = id.map_err(|error| Problem::invalid(error.body_text()))?;
    match text.parse::<Target>()? {
        Target::Supervisor(_) | Target::All => {
            let detail = "this route wants a worker or an instance";
            Err(Problem::new(axum::http::StatusCode::BAD_REQUEST, "wrong_target", detail))
        }
        target @ (Target::Worker(_) | Target::Instance(_)) => Ok(target),
    }
}

pub(super) fn supervisor_name(name: Result<Path<String>, PathRejection>) -> Result<Name, Problem> {
    let Path(text) = name.map_err(|error| Problem::invalid(error.body_text()))?;
    let wrap = |error| {
        let detail = format!("this is no supervisor's name: {error}");
        Problem::new(axum::http::StatusCode::BAD_REQUEST, "invalid_name", detail)
    };
    Name::try_new(&text).map_err(wrap)
}
