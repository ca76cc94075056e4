//! TCP serves a few routes and nothing else, under no other name, however it is asked.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::net::TcpStream;

use crate::fake::{Answer, Fake, exchange, request};

fn tcp(fake: &Fake, text: &str) -> Answer {
    let mut stream = TcpStream::connect(fake.tcp()).unwrap();
    exchange(&mut stream, text)
}

fn control(fake: &Fake, text: &str) -> Answer {
    let mut stream = std::os::unix::net::UnixStream::connect(fake.socket()).unwrap();
    exchange(&mut stream, text)
}

#[test]
fn a_few_routes_are_open() {
    let fake = Fake::start();
    for path in [
        "/livez",
        "/readyz",
        "/health",
        "/metrics",
        "/metrics/json",
        "/metrics/prometheus",
        "/livez?verbose=1",
    ] {
        assert_eq!(tcp(&fake, &request("GET", path, "", "")).status, 200, "{path}");
    }
    assert_eq!(tcp(&fake, &request("HEAD", "/livez", "", "")).status, 200);
}

#[test]
fn health_tells_how_all_of_it_is_and_metrics_come_in_the_form_of_the_path() {
    let fake = Fake::start();
    let of_socket = control(&fake, &request("GET", "/health", "", "")).json();
    let of_tcp = tcp(&fake, &request("GET", "/health", "", "")).json();
    for health in [of_socket, of_tcp] {
        assert_eq!(health["status"], "unhealthy", "one is parked, one is down: {health}");
        let counts = ["total_workers", "healthy_workers", "warning_workers", "critical_workers"];
        assert_eq!(counts.map(|key| health[key].as_u64().unwrap()), [4, 1, 0, 2]);
        assert!(health["uptime_seconds"].as_f64().unwrap() >= 11_045.0, "{health}");
    }
    fake.board.remove(&crate::fake::id("parser/0"));
    fake.board.remove(&crate::fake::id("parser/1"));
    let health = control(&fake, &request("GET", "/health", "", "")).json();
    assert_eq!(health["status"], "healthy", "who was stopped by hand says nothing: {health}");
    let json = |path: &str| {
        let asked = "accept: text/plain\r\n";
        [control(&fake, &request("GET", path, asked, "")), tcp(&fake, &request("GET", path, asked, ""))]
    };
    for answer in json("/metrics/json") {
        assert_eq!(answer.json()["schema"], "regrow.metrics/1");
    }
    let wants_json = request("GET", "/metrics/prometheus", "accept: application/json\r\n", "");
    for answer in [control(&fake, &wants_json), tcp(&fake, &wants_json)] {
        assert!(answer.head.contains("text/plain; version=0.0.4") && answer.body.contains("# TYPE"));
    }
}

#[test]
fn everything_else_is_401_in_every_spelling() {
    let fake = Fake::start();
    let routes = [
        "/",
        "/health/",
        "/healthz",
        "/health/workers",
        "/openapi.json",
        "/login",
        "/api/v1/status",
        "/api/v1/tree",
        "/api/v1/workers",
        "/api/v1/workers/broker",
        "/api/v1/workers/broker/logs",
        "/api/v1/workers/broker/restart",
        "/api/v1/supervisors/root",
        "/api/v1/supervisors/root/stop",
        "/api/v1/all/stop",
        "/api/v1/several/stop",
        "/api/v1/events",
        "/api/v1/config",
        "/api/v1/actions/act-1",
        "/api/v1/shutdown",
        "/health/workers/broker/restart",
        "/nothing",
    ];
    for route in routes {
        let plain = route.to_owned();
        let variants = [
            plain.clone(),
            format!("{plain}/"),
            format!("/{plain}"),
            format!("/livez/..{plain}"),
            format!("/livez/%2e%2e{plain}"),
            plain.replace("status", "%73tatus"),
            format!("{plain}?token=x"),
            format!("{plain};x"),
        ];
        for path in variants {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
                let answer = tcp(&fake, &request(method, &path, "x-http-method-override: GET\r\n", ""));
                assert_eq!(answer.status, 401, "{method} {path}");
            }
        }
    }
    for path in ["/livez/", "//livez", "/LIVEZ", "/livez%00", "/%6civez", "/metrics/x"] {
        assert_eq!(tcp(&fake, &request("GET", path, "", "")).status, 401, "{path}");
    }
    assert_eq!(tcp(&fake, &request("POST", "/metrics", "", "")).status, 401);
    assert_eq!(
        tcp(&fake, &request("GET", "/api/v1/status", "authorization: Bearer x\r\n", "")).code(),
        "unauthorized"
    );
    assert_eq!(fake.seen.acts.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(fake.seen.shutdowns.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn other_names_are_403() {
    let fake = Fake::start();
    let port = fake.tcp().port();
    let ask = |head: &str| tcp(&fake, &format!("{head}connection: close\r\n\r\n")).status;
    assert_eq!(ask("GET /livez HTTP/1.1\r\nhost: evil.tld\r\n"), 403);
    assert_eq!(ask(&format!("GET /livez HTTP/1.1\r\nhost: evil.tld:{port}\r\n")), 403);
    assert_eq!(ask("GET /api/v1/status HTTP/1.1\r\nhost: evil.tld\r\n"), 403);
    assert_eq!(ask("GET http://evil.tld/livez HTTP/1.1\r\nhost: localhost\r\n"), 403);
    assert_eq!(ask("GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: evil.tld\r\n"), 403);
    assert_eq!(ask("GET /livez HTTP/1.1\r\nhost: localhost.evil.tld\r\n"), 403);
    assert_eq!(ask("GET /livez HTTP/1.1\r\n"), 403);
    assert_eq!(ask(&format!("GET /livez HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n")), 200);
    assert_eq!(ask("GET /livez HTTP/1.1\r\nhost: [::1]\r\n"), 200);
    assert_eq!(
        ask(&format!("GET http://localhost:{port}/livez HTTP/1.1\r\nhost: localhost:{port}\r\n")),
        200
    );
}

#[test]
fn pages_from_elsewhere_are_403_on_the_address_and_on_the_control_socket() {
    let fake = Fake::start();
    for origin in ["null", "http://evil.tld", "https://localhost.evil.tld"] {
        let head = format!("origin: {origin}\r\n");
        assert_eq!(tcp(&fake, &request("GET", "/livez", &head, "")).code(), "origin_not_allowed");
        for method in ["GET", "POST"] {
            let answer = control(&fake, &request(method, "/api/v1/workers/parser/restart", &head, ""));
            assert_eq!((answer.status, answer.code()), (403, "origin_not_allowed".to_owned()), "{origin}");
        }
    }
    let foreign = "GET /api/v1/status HTTP/1.1\r\nhost: evil.tld\r\nconnection: close\r\n\r\n";
    assert_eq!(control(&fake, foreign).code(), "host_not_allowed");
    let own = request("GET", "/livez", "origin: http://localhost:1\r\n", "");
    assert_eq!((tcp(&fake, &own).status, control(&fake, &own).status), (200, 200));
    assert_eq!(fake.seen.acts.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn a_taken_default_address_is_a_note_and_an_explicit_one_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let fake = Fake::with(|settings| {
        settings.http.listen = Some(address);
        settings.http.listen_explicit = false;
    });
    let notes = fake.get("/api/v1/status").json()["runtime"]["notes"].to_string();
    assert!(notes.contains(&address.to_string()), "{notes}");
    let folder = tempfile::tempdir().unwrap();
    let mut settings = crate::fake::settings(folder.path());
    settings.http.listen = Some(address);
    settings.http.listen_explicit = true;
    let error = regrow::http::Listeners::bind(&settings.http).unwrap_err().to_string();
    assert!(error.contains("http.listen") && error.contains(&address.to_string()), "{error}");
}

#[test]
fn the_probe_address_answers_by_any_name() {
    let fake = Fake::with(|settings| settings.http.probe_listen = Some(([127, 0, 0, 1], 0).into()));
    let address = fake.servers.as_ref().unwrap().probe_address().unwrap();
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        exchange(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: pod-7.svc\r\nconnection: close\r\n\r\n"))
            .status
    };
    assert_eq!((ask("/livez"), ask("/metrics"), ask("/api/v1/status")), (200, 200, 401));
}
