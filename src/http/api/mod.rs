//! The routes of the control socket.

mod act;
mod ask;
mod config;
mod events;
mod grow;
mod health;
mod history;
mod logs;
mod look;
mod page;
mod recover;
mod state;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
};
use tokio::sync::{mpsc, watch};

use jiff::Timestamp;

use crate::runtime::RuntimeHandle;
use crate::telemetry::PageFormat;

use super::actions::Actions;
use super::dto::{ServiceHealth, WorkerView};
use super::{body, metrics, problem::Problem, public};

/// What every route works on.
pub(crate) struct Api {
    runtime: RuntimeHandle,
    actions: Actions,
    stopped: watch::Receiver<bool>,
}

impl Api {
    pub(crate) fn new(runtime: RuntimeHandle, stopped: watch::Receiver<bool>) -> Self {
        Self { runtime, actions: Actions::default(), stopped }
    }

    /// 200 while the runtime's loops turn; never depends on a worker.
    pub(crate) async fn livez(&self) -> Response<Body> {
        public::bare(self.runtime.alive().await)
    }

    /// 200 while every enabled critical worker is ready.
    pub(crate) fn readyz(&self) -> Response<Body> {
        public::bare(self.runtime.is_ready())
    }

    /// How all of it is.
    pub(crate) fn health(&self) -> Response<Body> {
        let now = Timestamp::now();
        let states = self.runtime.board().instances();
        let views: Vec<_> = states.iter().map(|state| WorkerView::new(state, now)).collect();
        let info = self.runtime.info();
        json(&ServiceHealth::new(&views, info.started_at.wall(), info.version, now))
    }

    /// The metrics page, in the form that the scraper wants.
    pub(crate) async fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        self.metrics_as(PageFormat::accepted(accept)).await
    }

    /// The metrics page in this form.
    pub(crate) async fn metrics_as(&self, format: PageFormat) -> Response<Body> {
        let users = crate::telemetry::user_series();
        let format = match format {
            // The user's series come as plain text, which every scraper takes as well.
            PageFormat::OpenMetrics if users.is_some() => PageFormat::Text,
            format @ (PageFormat::Text | PageFormat::OpenMetrics | PageFormat::Json) => format,
        };
        let mut page = metrics::scrape(&self.runtime).render(format);
        if format == PageFormat::Text {
            page.push_str(users.as_deref().unwrap_or_default());
        }
        let mut response = Response::new(Body::from(page));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        response
    }

    /// Ends with the servers; a stream selects on it.
    fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.clone()
    }
}

/// Every route.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let bare = Router::new()
        .route("/livez", get(async |State(api): State<Arc<Api>>| api.livez().await))
        .route("/readyz", get(async |State(api): State<Arc<Api>>| api.readyz()))
        .route(
            "/metrics",
            get(async |State(api): State<Arc<Api>>, headers: HeaderMap| api.metrics(&headers).await),
        )
        .route(
            "/metrics/json",
            get(async |State(api): State<Arc<Api>>| api.metrics_as(PageFormat::Json).await),
        )
        .route(
            "/metrics/prometheus",
            get(async |State(api): State<Arc<Api>>| api.metrics_as(PageFormat::Text).await),
        )
        .route("/health", get(health::service))
        .route("/health/workers", get(health::workers))
        .route("/health/workers/{id}", get(health::worker))
        .route("/health/worker/{id}", get(health::worker))
        .route("/health/workers/{id}/history", get(history::of_worker));
    let looks = Router::new()
        .route("/status", get(look::status))
        .route("/tree", get(look::tree))
        .route("/workers", get(look::workers).post(grow::add))
        .route("/workers/{id}", get(look::worker).delete(grow::remove))
        .route("/workers/{id}/logs", get(logs::logs))
        .route("/workers/{id}/state", get(state::show))
        .route("/workers/{id}/why", get(recover::why))
        .route("/incidents", get(recover::incidents))
        .route("/incidents/{id}", get(recover::incident))
        .route("/strategies", get(recover::strategies))
        .route("/strategies/export", get(recover::export))
        .route("/supervisors/{name}", get(look::supervisor))
        .route("/config", get(look::config))
        .route("/events", get(events::events))
        .route("/history", get(history::all))
        .route("/actions/{id}", get(act::outcome));
    let acts = Router::new()
        .route("/workers/{id}/recover", post(recover::recover))
        .route("/incidents/{id}/approve", post(recover::approve))
        // What may come in is bounded below, for all of them.
        .route("/strategies/import", post(recover::import).layer(DefaultBodyLimit::disable()))
        .route("/workers/{id}/{verb}", post(act::worker))
        .route("/workers/{id}/state/{verb}", post(state::change))
        .route("/supervisors/{name}/{verb}", post(act::supervisor))
        .route("/all/{verb}", post(act::all))
        .route("/several/{verb}", post(act::several))
        .route("/config/check", post(config::check))
        .route("/config/apply", post(config::apply))
        .route("/shutdown", post(act::shutdown))
        .route("/backup", post(history::backup));
    let all = looks.merge(acts).route_layer(from_fn_with_state(Arc::clone(&api), act::kept));
    bare.nest("/api/v1", all)
        .fallback(async || Problem::not_found("there is no such route here; `/api/v1/status` is one that is"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this route wants another method",
            )
        })
        .layer(from_fn(body::check))
        .with_state(api)
}

/// JSON with its type.
fn json<T: serde::Serialize>(value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string()).into_response()
        }
    }
}

/// A stream of server-sent events, fed through the returned sender.
fn event_stream() -> (mpsc::Sender<Bytes>, Response<Body>) {
    // As many chunks as a slow client may have under way; the feeder waits for it beyond that.
    let (feed, chunks) = mpsc::channel(64);
    let mut response = Response::new(Body::new(body::Stream(chunks)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (feed, response)
}

/// Says so, so that a dead client is noticed and its place is free again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
