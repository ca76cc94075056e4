//! Health over HTTP: the instances with their scores, and one with what every probe of it found last.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Response;
use jiff::Timestamp;

use crate::telemetry::Pace;

use super::super::dto::{HealthBody, HealthDetail, HealthView, ProbeView, Totals, score_bound};
use super::super::metrics::roots;
use super::super::{problem::Problem, snapshot};
use super::look::worker_target;
use super::{Api, json};

/// How all of it is, in a few figures: for load balancers and people.
pub(super) async fn service(State(api): State<Arc<Api>>) -> Response<Body> {
    api.health()
}

pub(super) async fn workers(State(api): State<Arc<Api>>) -> Response<Body> {
    let now = Timestamp::now();
    let states = api.runtime.board().instances();
    let sampler = api.runtime.info().sampler();
    sampler.sweep(&roots(&states), Pace::FRESH);
    let views: Vec<_> = states.iter().map(|state| snapshot::worker(state, sampler, now)).collect();
    let totals = Totals::of(&views);
    let looks = api.runtime.info().looks();
    let workers = states
        .iter()
        .zip(&views)
        .map(|(state, view)| HealthView::new(view, &ProbeView::all(state, looks)))
        .collect();
    json(&HealthBody {
        total_workers: totals.total_workers,
        healthy_workers: totals.healthy_workers,
        warning_workers: totals.warning_workers,
        critical_workers: totals.critical_workers,
        workers,
    })
}

/// An instance; of a worker with several, all of them.
pub(super) async fn worker(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let states = snapshot::known(&api.runtime, &target)?;
    let now = Timestamp::now();
    let looks = api.runtime.info().looks();
    let mut details: Vec<_> = states
        .iter()
        .map(|state| {
            let view = snapshot::worker(state, api.runtime.info().sampler(), now);
            let probes = ProbeView::all(state, looks);
            HealthDetail { health: HealthView::new(&view, &probes), score_bound: score_bound(state), probes }
        })
        .collect();
    Ok(match details.as_slice() {
        [_] => json(&details.remove(0)),
        _ => json(&details),
    })
}
