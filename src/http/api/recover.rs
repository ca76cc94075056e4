//! Recovery: incidents, steps by hand, what was learned, and why something is as it is.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use serde::Deserialize;

use crate::id::InstanceId;
use crate::recovery::Strategy;
use crate::recovery::learning::Look;
use crate::runtime::{Act, Asker, Target, TargetError};
use crate::supervisor::Lore;

use super::super::actions::{Before, Verb};
use super::super::dto::{
    AdviceView, IncidentBody, IncidentView, IncidentsBody, PlanView, PlansBody, StrategiesBody, WhyBody,
};
use super::super::peer::{Peer, Role};
use super::super::{problem::Problem, snapshot, why};
use super::act::{Asked, Passed, keyed, meant_of, through};
use super::look::{Ask, worker_target};
use super::page::Page;
use super::{Api, json};

/// The body of `/recover`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recover {
    /// A strategy, or a synonym of one.
    action: String,
    /// Only says what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/workers/{id}/recover`
pub(super) async fn recover(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    let target = worker_target(id)?;
    let Recover { action, dry_run } = serde_json::from_slice(&body).map_err(|error| {
        Problem::invalid(format!("a body such as {{\"action\": \"soft_restart\"}}: {error}"))
    })?;
    let Some(strategy) = Strategy::parse(&action) else {
        return Err(Problem::invalid(unknown(&action)));
    };
    if dry_run {
        let items = api.runtime.plans(&target, &strategy)?.into_iter().map(PlanView::from).collect();
        return Ok(json(&PlansBody { schema: "regrow.recover/1".to_owned(), items }));
    }
    peer.require(Role::Operator)?;
    let request = format!("recover {strategy} {target}");
    let asker = Asker(peer.name.clone());
    through(async move {
        keyed(&api, &peer, &headers, &request, async || {
            let before = snapshot::resolve(&api.runtime, &target).unwrap_or_default();
            let named = target.to_string();
            let reached = api.runtime.recover_each(target.clone(), strategy.clone(), asker.clone()).await?;
            if strategy.is_scaling() && matches!(target, Target::Worker(_)) {
                let all: Vec<InstanceId> = reached.into_iter().map(|(instance, _)| instance).collect();
                let act = Act::Scale { instances: u32::try_from(all.len()).unwrap_or(u32::MAX) };
                return Ok(Passed::new(Verb::Act(act), named, meant_of(true, &before, &all, act)));
            }
            let opened: HashMap<InstanceId, Option<Arc<str>>> = reached.into_iter().collect();
            let meant = before.iter().filter_map(|state| {
                opened.get(&state.instance).map(|incident| Before::from(state).within(incident.clone()))
            });
            Ok(Passed::new(Verb::Recover, named, meant.collect()))
        })
        .await
    })
    .await
}

fn unknown(action: &str) -> String {
    let shown: String = action.escape_debug().take(64).collect();
    let known: Vec<&str> = Strategy::KNOWN.iter().map(Strategy::word).collect();
    format!("`{shown}` is no recovery strategy; there are {} and those of the file", known.join(", "))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// A worker or an instance.
    worker: Option<String>,
    /// Only those that go on.
    open: Option<bool>,
    limit: Option<usize>,
    cursor: Option<String>,
    filter: Option<String>,
}

/// Incidents in one answer if nobody says how many: each brings its evidence along.
const USUAL: usize = 100;

/// `GET /api/v1/incidents`
pub(super) async fn incidents(
    State(api): State<Arc<Api>>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let Query(which) = which.map_err(|error| Problem::invalid(error.body_text()))?;
    let mut filter = which.filter.unwrap_or_default();
    if let Some(worker) = &which.worker {
        filter.push_str(&format!(" worker:{worker}"));
    }
    if let Some(open) = which.open {
        filter.push_str(&format!(" open:{open}"));
    }
    let limit = which.limit.unwrap_or(USUAL);
    let keys = ["instance", "worker", "cause", "class", "outcome", "open", "id"];
    let page = Page::parse(Some(limit), which.cursor.as_deref(), Some(&filter), &keys)?;
    let all: Vec<IncidentView> =
        api.runtime.healer().incidents().into_iter().map(IncidentView::from).collect();
    let has = |one: &IncidentView, key: &str, value: &str| match key {
        "worker" => one.worker == value || one.instance == value,
        "cause" => one.cause == value,
        "class" => one.class.as_deref() == Some(value),
        "outcome" => one.outcome.as_deref() == Some(value),
        "open" => value == if one.closed_at.is_none() { "true" } else { "false" },
        "id" => one.id == value,
        _ => one.instance.contains(value),
    };
    let (items, next_cursor) = page.cut(all, |one| &one.id, has)?;
    if items.is_empty()
        && let Some(name) = &which.worker
    {
        // Of one that is gone there may be incidents; of one that never was there are none.
        let target = name.parse().map_err(|error: TargetError| Problem::invalid(error.to_string()))?;
        snapshot::known(&api.runtime, &target)?;
    }
    api.runtime.incidents_settled().await;
    Ok(json(&IncidentsBody { schema: "regrow.incidents/1".to_owned(), items, next_cursor }))
}

/// `GET /api/v1/incidents/{id}`
pub(super) async fn incident(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let Path(id) = id.map_err(|error| Problem::invalid(error.body_text()))?;
    let found = api.runtime.healer().incident(&id).ok_or_else(no_incident)?;
    api.runtime.incidents_settled().await;
    Ok(json(&IncidentBody { schema: "regrow.incident/1".to_owned(), incident: found.into() }))
}

fn no_incident() -> Problem {
    Problem::not_found("there is no such incident; `regrow incidents` lists those that are kept")
}

/// The body of `/approve`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    /// The step that was seen to wait, and no other one.
    strategy: Option<String>,
}

/// `POST /api/v1/incidents/{id}/approve`
pub(super) async fn approve(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    let Path(id) = id.map_err(|error| Problem::invalid(error.body_text()))?;
    peer.require(Role::Operator)?;
    let Approve { strategy } = if body.is_empty() {
        Approve::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            Problem::invalid(format!("no body, or one such as {{\"strategy\": \"reset\"}}: {error}"))
        })?
    };
    let parse = |word: String| Strategy::parse(&word).ok_or_else(|| Problem::invalid(unknown(&word)));
    let step = strategy.map(parse).transpose()?;
    api.runtime.healer().incident(&id).ok_or_else(no_incident)?;
    let request = match &step {
        Some(step) => format!("approve {id} {step}"),
        None => format!("approve {id}"),
    };
    through(async move {
        keyed(&api, &peer, &headers, &request, async || {
            api.runtime.approve_step(&id, step.clone(), Asker(peer.name.clone())).await?;
            Ok(Passed::new(Verb::Approve, id.clone(), Vec::new()))
        })
        .await
    })
    .await
}

/// `GET /api/v1/strategies`
pub(super) async fn strategies(
    State(api): State<Arc<Api>>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let Query(ask) = ask.map_err(|error| Problem::invalid(error.body_text()))?;
    let page = Page::parse(
        ask.limit,
        ask.cursor.as_deref(),
        ask.filter.as_deref(),
        &["class", "class", "strategy"],
    )?;
    let healer = api.runtime.healer();
    // Of a class there are several: together with the strategy it is a name.
    let all: Vec<(String, Look)> = healer
        .strategies()
        .into_iter()
        .map(|look| (format!("{} {}", look.strategy, look.class), look))
        .collect();
    let has = |(_, look): &(String, Look), key: &str, value: &str| match key {
        "strategy" => look.strategy.word() == value,
        _ => look.class.contains(value),
    };
    let (items, next_cursor) = page.cut(all, |(name, _)| name, has)?;
    let advice =
        healer.advice(&api.runtime.info().settings().workers).into_iter().map(AdviceView::from).collect();
    api.runtime.incidents_settled().await;
    Ok(json(&StrategiesBody {
        schema: "regrow.strategies/1".to_owned(),
        items: items.into_iter().map(|(_, look)| look).collect(),
        advice,
        next_cursor,
    }))
}

/// `GET /api/v1/strategies/export`: all that was learned, for another host.
pub(super) async fn export(State(api): State<Arc<Api>>) -> Response<Body> {
    api.runtime.incidents_settled().await;
    json(&api.runtime.healer().lore())
}

/// `POST /api/v1/strategies/import`
pub(super) async fn import(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Response<Body>, Problem> {
    peer.require(Role::Operator)?;
    let lore: Lore = serde_json::from_slice(&body)
        .map_err(|error| Problem::invalid(format!("this is no export of strategies: {error}")))?;
    let left_out = api
        .runtime
        .healer()
        .import(lore)
        .map_err(|why| Problem::invalid(format!("this is no export of strategies: {why}")))?;
    // What somebody was told is so after a kill, too.
    api.runtime.incidents_settled().await;
    let unkept = match api.runtime.store() {
        Some(store) => store.trouble(),
        None => Some("there is no store".to_owned()),
    };
    let warning = unkept.map(|why| {
        format!(
            "it is known, and could not be written down ({why}): it is forgotten if regrow ends before it could; \
             make room in the state directory, it is tried again every second"
        )
    });
    let mut response = json(&serde_json::json!({
        "schema": "regrow.strategies.import/1", "ok": true, "left_out": left_out, "warning": warning,
    }));
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

/// `GET /api/v1/workers/{id}/why`
pub(super) async fn why(
    State(api): State<Arc<Api>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Problem> {
    let target = worker_target(id)?;
    let states = snapshot::resolve(&api.runtime, &target)
        .ok_or_else(|| Problem::not_found(format!("no worker or instance is called `{target}`")))?;
    let items = states.iter().map(|state| why::of(&api.runtime, state)).collect();
    api.runtime.incidents_settled().await;
    Ok(json(&WhyBody { schema: "regrow.why/1".to_owned(), items }))
}
