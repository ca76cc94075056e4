//! Routes of the living configuration: read again and compared, read again and taken over.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Response};

use crate::config::{Change, Effect, Sign, Subject};
use crate::id::InstanceId;
use crate::runtime::{ApplyError, Asker, Comparison};
use crate::supervisor::InstanceState;
use crate::units::plural;

use super::super::actions::{Before, Goal, Verb};
use super::super::dto::{ChangesView, DiffBody};
use super::super::peer::{Peer, Role};
use super::super::problem::Problem;
use super::act::{Asked, Passed, keyed, through};
use super::{Api, ask, json};

/// `POST /api/v1/config/check`: also an answer if the file is wrong.
pub(super) async fn check(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response<Body>, Problem> {
    ask::nothing(&body)?;
    let schema = "regrow.diff/1".to_owned();
    let body = match api.runtime.compare().await {
        Ok(comparison) => DiffBody {
            schema,
            ok: true,
            same: comparison.changes.is_empty(),
            changes: ChangesView::from(&comparison),
            message: String::new(),
            problems: Vec::new(),
        },
        Err(ApplyError::Invalid(diagnostics)) => {
            let problems = diagnostics.problems();
            let problems = problems.iter().filter_map(|problem| serde_json::to_value(problem).ok()).collect();
            let generation = api.runtime.info().config_generation();
            let changes = ChangesView { config_generation: generation, ..ChangesView::default() };
            DiffBody { schema, ok: false, same: false, changes, message: diagnostics.render(false), problems }
        }
        Err(other @ (ApplyError::NoFile | ApplyError::Unread | ApplyError::Act(_))) => {
            return Err(other.into());
        }
    };
    Ok(json(&body))
}

/// `POST /api/v1/config/apply`
pub(super) async fn apply(
    State(api): State<Arc<Api>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Asked {
    peer.require(Role::Operator)?;
    ask::nothing(&body)?;
    through(async move { keyed(&api, &peer, &headers, "apply", || take_over(&api, &peer)).await }).await
}

async fn take_over(api: &Api, peer: &Peer) -> Result<Passed, Problem> {
    let before = api.runtime.board().instances();
    let comparison = api.runtime.apply(Asker(peer.name.clone())).await?;
    let after = api.runtime.board().instances();
    let named: HashSet<InstanceId> = {
        let settings = api.runtime.info().settings();
        settings.workers.iter().flat_map(|worker| worker.instance_ids()).collect()
    };
    let goals = |change| goals(change, &before, &after, &named);
    let more = match serde_json::to_value(ChangesView::from(&comparison)) {
        Ok(serde_json::Value::Object(more)) => more,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    Ok(Passed {
        verb: Verb::Apply,
        target: said(&comparison),
        instances: comparison.changes.iter().flat_map(goals).collect(),
        more,
    })
}

/// Where each instance of a changed worker is to come.
fn goals(
    change: &Change,
    before: &[InstanceState],
    after: &[InstanceState],
    named: &HashSet<InstanceId>,
) -> Vec<Before> {
    let Subject::Worker(name) = &change.subject else { return Vec::new() };
    let goal = match (change.effect, change.sign) {
        (Effect::Starts | Effect::Restarts, _) => Goal::Up,
        (Effect::Stops, Sign::Removed) => Goal::Gone,
        (Effect::Stops, Sign::Added | Sign::Changed) => Goal::Down,
        (
            Effect::StaysStopped
            | Effect::AfterPause
            | Effect::NextStart
            | Effect::InPlace
            | Effect::RuntimeRestart,
            _,
        ) => {
            return Vec::new();
        }
    };
    let own = |state: &&InstanceState| state.instance.worker() == name;
    let known: Vec<&InstanceState> = before.iter().filter(own).collect();
    let new = after.iter().filter(own).filter(|state| known.iter().all(|old| old.instance != state.instance));
    known
        .iter()
        .copied()
        .map(Before::from)
        .chain(new.map(|state| Before::from(state).anew()))
        .map(|before| {
            // One that goes by another number from now on does not come up again.
            let leaves = goal == Goal::Up && !named.contains(before.id());
            before.to(if leaves { Goal::Gone } else { goal })
        })
        .collect()
}

fn said(comparison: &Comparison) -> String {
    match (comparison.changes.len(), comparison.untouched) {
        (0, _) => "nothing differs".to_owned(),
        (count, untouched) => {
            let goes = if untouched == 1 { "goes" } else { "go" };
            let (changes, workers) = (plural(count as u64, "change"), plural(untouched as u64, "worker"));
            format!("{changes}, {workers} {goes} on untouched")
        }
    }
}
