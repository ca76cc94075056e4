//! Who comes with a browser: names and origins that are not ours are sent away, on every address that a browser can
//! reach, and on the control socket, which somebody may have put behind a port.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, Version, header};

use super::problem::Problem;

/// Refuses a request that a web page of somebody else has made.
///
/// # Errors
/// It calls us by another name, or says that it comes from elsewhere.
pub(super) fn check<B>(request: &Request<B>, address: Option<SocketAddr>) -> Result<(), Problem> {
    if !host_allowed(request, address) {
        let detail = "this name is not served here; use localhost or the listen address";
        return Err(Problem::forbidden("host_not_allowed", detail));
    }
    if !origin_allowed(request.headers(), address) {
        let detail = "web pages from elsewhere are not answered here";
        return Err(Problem::forbidden("origin_not_allowed", detail));
    }
    Ok(())
}

/// Whoever names an origin is a browser; a page that this address has served is all that is answered.
fn origin_allowed(headers: &HeaderMap, address: Option<SocketAddr>) -> bool {
    let own = |origin: &HeaderValue| {
        let authority = origin
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")));
        authority.is_some_and(|authority| name_allowed(authority, address))
    };
    let from_elsewhere =
        |site: &HeaderValue| !["same-origin", "none"].map(str::as_bytes).contains(&site.as_bytes());
    headers.get_all(header::ORIGIN).iter().all(own)
        && !headers.get_all("sec-fetch-site").iter().any(from_elsewhere)
}

/// Exactly one `Host`, and it is ours: a page's name may have been rebound to this address.
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

    #[test]
    fn only_pages_of_our_own_are_answered() {
        let asked = |header: &str, value: &str| {
            let request =
                Request::builder().header("host", "localhost:8080").header(header, value).body(()).unwrap();
            check(&request, None).is_ok()
        };
        for good in ["http://localhost:8080", "http://127.0.0.1:8080", "https://[::1]"] {
            assert!(asked("origin", good), "{good}");
        }
        for bad in ["null", "http://evil.tld", "http://localhost.evil.tld:8080", "file://", "localhost", ""] {
            assert!(!asked("origin", bad), "{bad}");
        }
        assert!(asked("sec-fetch-site", "same-origin") && asked("sec-fetch-site", "none"));
        assert!(!asked("sec-fetch-site", "cross-site") && !asked("sec-fetch-site", "same-site"));
    }
}
