//! `/history`, `/health/workers/{id}/history` and `/backup`: what was kept.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::id::InstanceId;
use crate::runtime::{BackupError, Target};
use crate::store::{Point, StoreError};
use crate::supervisor::InstanceState;

use super::super::dto::{BackupBody, HistoryBody, InstanceHistory, InstancePoint, WorkerHistory};
use super::super::peer::{Peer, Role};
use super::super::{problem::Problem, snapshot};
use super::look::worker_target;
use super::page::Page;
use super::{Api, ask, json};

/// Without `hours`.
const USUAL: f64 = 24.0;

/// A year: more than is ever kept.
const MOST: f64 = 8784.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    hours: Option<f64>,
    worker: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
    filter: Option<String>,
}

impl Ask {
    fn hours(&self) -> Result<f64, Problem> {
        let hours = self.hours.unwrap_or(USUAL);
        if hours > 0.0 && hours <= MOST {
            Ok(hours)
        } else {
            Err(Problem::invalid(format!("hours is more than 0 and at most {MOST}, not {hours}")))
        }
    }
}

pub(super) async fn all(
    State(api): State<Arc<Api>>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let hours = ask.hours()?;
    let target = match &ask.worker {
        None => Target::All,
        Some(text) => worker_target(Ok(Path(text.clone())))?,
    };
    let keys = ["instance", "worker", "status"];
    let page = Page::parse(ask.limit, ask.cursor.as_deref(), ask.filter.as_deref(), &keys)?;
    let all: Vec<(String, InstanceState)> = snapshot::known(&api.runtime, &target)?
        .into_iter()
        .map(|state| (state.instance.to_string(), state))
        .collect();
    let has = |(id, state): &(String, InstanceState), key: &str, value: &str| match key {
        "worker" => state.instance.worker().as_str() == value,
        "status" => state.status() == value,
        _ => id.contains(value),
    };
    // Before anything is read: what an instance was like in a week is ten thousand points.
    let (states, next_cursor) = page.cut(all, |(id, _)| id, has)?;
    let items = read(&api, states.into_iter().map(|(_, state)| state).collect(), hours).await?;
    Ok(json(&HistoryBody { schema: "regrow.history/1".to_owned(), hours, items, next_cursor }))
}

pub(super) async fn of_worker(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let hours = ask.hours()?;
    let mut points: Vec<InstancePoint> = Vec::new();
    for InstanceHistory { instance, points: own, .. } in
        read(&api, snapshot::known(&api.runtime, &target)?, hours).await?
    {
        points.extend(own.into_iter().map(|point| InstancePoint { instance: instance.clone(), point }));
    }
    points.sort_by_key(|point| point.point.at);
    Ok(json(&WorkerHistory { worker_id: target.to_string(), hours, points }))
}

async fn read(api: &Api, states: Vec<InstanceState>, hours: f64) -> Result<Vec<InstanceHistory>, Problem> {
    let back = SignedDuration::try_from_secs_f64(hours * 3600.0).unwrap_or(SignedDuration::MAX);
    let since = Timestamp::now().checked_sub(back).unwrap_or(Timestamp::MIN);
    let instances = snapshot::ids(&states);
    let found = api.runtime.history(&instances, since).await.map_err(|error| unreadable(&error))?;
    let item = |(instance, points): (InstanceId, Vec<Point>)| InstanceHistory {
        worker: instance.worker().to_string(),
        instance: instance.to_string(),
        points: points.into_iter().map(Into::into).collect(),
    };
    Ok(instances.into_iter().zip(found.ok_or_else(nothing)?).map(item).collect())
}

fn nothing() -> Problem {
    let text = "this runtime keeps no history: it was started without a file and without runtime.state_dir";
    Problem::new(StatusCode::CONFLICT, "no_store", text)
}

fn unreadable(error: &StoreError) -> Problem {
    let text = format!("the history cannot be read from samples.db: {error}");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", text)
}

pub(super) async fn backup(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    peer.require(Role::Operator)?;
    ask::nothing(&body)?;
    let runtime = api.runtime.clone();
    // What somebody has seen happen is in the copy.
    runtime.events_settled().await;
    let made = tokio::task::spawn_blocking(move || runtime.backup()).await;
    // Nobody else may read these pages for days: from now on `status` names it, and a fresh file takes its place.
    if let (Ok(Err(BackupError::Store(StoreError::Damaged(_)))), Some(store)) = (&made, api.runtime.store()) {
        let looked = store.look_over().await;
        let _ =
            looked.inspect_err(|error| tracing::warn!(%error, "a damaged store could not be looked over"));
    }
    let failed = |text: String| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text);
    match made.map_err(|error| failed(error.to_string()))? {
        Ok(made) => Ok(json(&BackupBody::from(made))),
        Err(BackupError::Nothing) => Err(nothing()),
        Err(error @ BackupError::Store(StoreError::Full)) => {
            Err(Problem::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", error.to_string()))
        }
        Err(error @ (BackupError::Store(_) | BackupError::Disk { .. })) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string()))
        }
    }
}
