//! What TCP serves: `/livez`, `/readyz`, `/metrics*` and, on a loopback address, `/health`, by exact path and method, and
//! 401 for everything else.
//!
//! It is a list of what is allowed and shares no router with the control socket, so that no spelling of a path
//! can reach a route that is not meant to be reached.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use axum::response::IntoResponse;

use crate::telemetry::PageFormat;

use super::api::Api;
use super::problem::Problem;
use super::visitor;

/// Which address this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `http.listen`: a browser can reach it, so the `Host` is checked.
    Public,
    /// `http.probe_listen`: for load balancers and scrapers, which call it by any name.
    Probe,
}

/// One TCP listener's answers.
pub(crate) struct Public {
    api: Arc<Api>,
    kind: Kind,
    address: Option<SocketAddr>,
}

impl Public {
    pub(crate) fn new(api: Arc<Api>, kind: Kind, address: Option<SocketAddr>) -> Self {
        Self { api, kind, address }
    }

    pub(crate) async fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if self.kind == Kind::Public
            && let Err(problem) = visitor::check(request, self.address)
        {
            return problem.into_response();
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Problem::unauthorized().into_response();
        }
        match request.uri().path() {
            "/livez" => self.api.livez().await,
            "/readyz" => self.api.readyz(),
            "/metrics" if self.metrics_are_open() => self.api.metrics(request.headers()).await,
            "/metrics/json" if self.is_for_this_machine() => self.api.metrics_as(PageFormat::Json).await,
            "/metrics/prometheus" if self.is_for_this_machine() => {
                self.api.metrics_as(PageFormat::Text).await
            }
            "/health" if self.is_for_this_machine() => self.api.health(),
            _ => Problem::unauthorized().into_response(),
        }
    }

    /// On an address that others reach, the metrics want a token.
    fn metrics_are_open(&self) -> bool {
        self.kind == Kind::Probe || self.is_for_this_machine()
    }

    fn is_for_this_machine(&self) -> bool {
        self.kind == Kind::Public && self.address.is_some_and(|address| address.ip().is_loopback())
    }
}

/// Bare answers of the health routes.
pub(crate) fn bare(good: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if !good {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
