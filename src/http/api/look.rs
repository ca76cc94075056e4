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
use super::{Api, json};

/// Items in one answer of a list.
const MOST_ITEMS: usize = 10_000;

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
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
    filter: Option<String>,
}

pub(super) async fn workers(
    State(api): State<Arc<Api>>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let Query(page) = page.map_err(|error| Problem::invalid(error.body_text()))?;
    let limit = page.limit.unwrap_or(MOST_ITEMS).clamp(1, MOST_ITEMS);
    let terms = page.filter.as_deref().map(parse_filter).transpose()?.unwrap_or_default();
    let all = snapshot::status(&api.runtime).workers;
    let begin = match &page.cursor {
        None => 0,
        Some(cursor) => all.iter().position(|worker| worker.instance == *cursor).map_or(0, |at| at + 1),
    };
    let mut rest = all.into_iter().skip(begin).filter(|worker| terms.iter().all(|term| term.fits(worker)));
    let items: Vec<_> = rest.by_ref().take(limit).collect();
    let next_cursor = rest.next().and(items.last().map(|last| last.instance.clone()));
    Ok(json(&WorkersBody { schema: "regrow.workers/1".to_owned(), items, next_cursor }))
}

pub(super) async fn worker(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let states = snapshot::resolve(&api.runtime, &target)
        .ok_or_else(|| Problem::not_found(format!("no worker or instance is called `{target}`")))?;
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

/// One term of a filter: `health:dead`, `sup:ingest`, or a part of the instance's name.
struct Term {
    key: Key,
    value: String,
}

enum Key {
    Health,
    Status,
    Phase,
    Supervisor,
    Worker,
    Instance,
}

fn parse_filter(text: &str) -> Result<Vec<Term>, Problem> {
    text.split_whitespace().take(16).map(parse_term).collect()
}

fn parse_term(text: &str) -> Result<Term, Problem> {
    let Some((key, value)) = text.split_once(':') else {
        return Ok(Term { key: Key::Instance, value: text.to_owned() });
    };
    let key = match key {
        "health" => Key::Health,
        "status" => Key::Status,
        "phase" => Key::Phase,
        "sup" | "supervisor" => Key::Supervisor,
        "worker" => Key::Worker,
        other => {
            let text = format!("unknown filter `{other}:`; there are health: status: phase: sup: worker:");
            return Err(Problem::invalid(text));
        }
    };
    Ok(Term { key, value: value.to_owned() })
}

impl Term {
    fn fits(&self, worker: &WorkerView) -> bool {
        match self.key {
            Key::Health => worker.health == self.value,
            Key::Status => worker.status == self.value,
            Key::Phase => worker.phase == self.value,
            Key::Supervisor => worker.supervisor == self.value,
            Key::Worker => worker.worker == self.value,
            Key::Instance => worker.instance.contains(&self.value),
        }
    }
}
