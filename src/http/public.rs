//! What TCP serves: `/livez`, `/readyz` and `/metrics`, by exact path and method, and 401 for everything else.
//!
//! It is a list of what is allowed and shares no router with the control socket, so that no spelling of a path
//! can reach a route that is not meant to be reached.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use axum::response::IntoResponse;

use super::api::Api;
use super::problem::Problem;

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
        if self.kind == Kind::Public && !host_allowed(request, self.address) {
            let detail = "this name is not served here; use localhost or the listen address";
            return Problem::forbidden("host_not_allowed", detail).into_response();
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Problem::unauthorized().into_response();
        }
        match request.uri().path() {
            "/livez" => self.api.livez().await,
            "/readyz" => self.api.readyz(),
            "/metrics" if self.metrics_are_open() => self.api.metrics(request.headers()).await,
            _ => Problem::unauthorized().into_response(),
        }
    }

    /// On an address that others reach, the metrics want a token.
    fn metrics_are_open(&self) -> bool {
        self.kind == Kind::Probe || self.address.is_some_and(|address| address.ip().is_loopback())
    }
}

/// Guards against a web page whose name was rebound to this address: exactly one `Host`, and it is ours.
fn host_allowed<B>(request: &Request<B>, address: Option<SocketAddr>) -> bool {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    match (one_host(request.headers()), in_uri) {
        (Hosts::Many, _) => false,
        (Hosts::None, None) => request.version() == Version::HTTP_10,
        (Hosts::None, Some(uri)) => name_allowed(uri, address),
        (Hosts::One(host), None) => name_allowed(host, address),
        (Hosts::One(host), Some(uri)) => name_allowed(host, address) && name_allowed(uri, address),
    }
}

enum Hosts<'a> {
    None,
    One(&'a str),
    Many,
}

fn one_host(headers: &HeaderMap) -> Hosts<'_> {
    let mut all = headers.get_all(header::HOST).iter();
    match (all.next(), all.next()) {
        (None, _) => Hosts::None,
        // A name that is no text is as bad as two.
        (Some(one), None) => one.to_str().map_or(Hosts::Many, Hosts::One),
        (Some(_), Some(_)) => Hosts::Many,
    }
}

fn name_allowed(text: &str, address: Option<SocketAddr>) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    if text.contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || address.is_some_and(|address| address.ip() == ip),
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case("localhost."),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> bool {
        name_allowed(text, Some(SocketAddr::from(([10, 0, 0, 7], 8080))))
    }

    #[test]
    fn only_our_own_names_are_served() {
        for good in
            ["localhost", "localhost:8080", "LOCALHOST", "127.0.0.1:1", "[::1]:8080", "[::1]", "10.0.0.7:80"]
        {
            assert!(allowed(good), "{good}");
        }
        for bad in
            ["evil.tld", "evil.tld:8080", "localhost.evil.tld", "x@localhost", "10.0.0.8", "", "a b", "[::2]"]
        {
            assert!(!allowed(bad), "{bad}");
        }
    }

    #[test]
    fn two_hosts_are_refused() {
        let twice =
            Request::builder().header("host", "localhost").header("host", "evil.tld").body(()).unwrap();
        assert!(!host_allowed(&twice, None));
        let absolute =
            Request::builder().uri("http://evil.tld/livez").header("host", "localhost").body(()).unwrap();
        assert!(!host_allowed(&absolute, None));
    }
}
