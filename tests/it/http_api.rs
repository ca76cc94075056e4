//! The control socket: shapes to the letter, errors with codes, actions that can be repeated and followed.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use regrow::event::{Event, EventKind};
use serde_json::Value;

use crate::fake::{Fake, eventually, exchange, id, request};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Field names in the order in which they stand in the text.
fn keys_in_order(text: &str, names: &[&str]) -> bool {
    let mut from = 0;
    names.iter().all(|name| match text[from..].find(&format!("\"{name}\":")) {
        Some(at) => {
            from += at;
            true
        }
        None => false,
    })
}

#[test]
fn status_has_the_contracts_shape() {
    let fake = Fake::start();
    let answer = fake.get("/api/v1/status");
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["schema"], "regrow.status/1");
    let mut runtime = keys(&body["runtime"]);
    runtime.sort_unstable();
    assert_eq!(runtime, ["config_generation", "host", "name", "notes", "pid", "started_at", "version"]);
    assert_eq!(
        body["totals"],
        serde_json::json!({"total_workers": 4, "healthy_workers": 1, "warning_workers": 0, "critical_workers": 2, "restarts_total": 12})
    );
    let worker_keys = [
        "worker",
        "instance",
        "supervisor",
        "kind",
        "phase",
        "health",
        "activity",
        "status",
        "score",
        "issues",
        "wanted",
        "ready",
        "adopted",
        "pid",
        "incarnation",
        "restarts",
        "started_at",
        "uptime_seconds",
        "cpu_percent",
        "memory_bytes",
        "last_heartbeat_at",
        "last_exit",
        "breaker",
        "critical",
        "next_action",
    ];
    assert!(keys_in_order(&answer.body, &worker_keys), "{}", answer.body);
    for worker in body["workers"].as_array().unwrap() {
        assert_eq!(keys(worker).len(), worker_keys.len());
    }
    let broker = &body["workers"][0];
    assert_eq!(
        (&broker["status"], &broker["score"], &broker["health"]),
        (&"healthy".into(), &1.0.into(), &"healthy".into())
    );
    assert!(broker["memory_bytes"].as_u64().unwrap() > 0 && broker["cpu_percent"].as_f64().is_some());
    let parked = &body["workers"][2];
    assert_eq!((&parked["status"], &parked["health"]), (&"quarantined".into(), &"dead".into()));
    assert_eq!(parked["last_exit"]["signal"], "KILL");
    let backoff = &body["workers"][1];
    assert_eq!(backoff["next_action"]["do"], "soft_restart");
    assert_eq!(backoff["last_exit"]["code"], 1);
    assert_eq!(backoff["memory_bytes"], Value::Null, "unknown is null, never 0");
    let web = &body["workers"][3];
    assert_eq!(
        (&web["status"], &web["score"], &web["wanted"]),
        (&"stopped".into(), &Value::Null, &"stopped".into())
    );
}

#[test]
fn the_tree_nests_in_start_order() {
    let body = Fake::start().get("/api/v1/tree").json();
    let root = &body["items"][0];
    assert_eq!((&root["type"], &root["name"]), (&"supervisor".into(), &"root".into()));
    assert_eq!(root["children"][0]["name"], "ingest");
    assert_eq!(root["children"][0]["children"][2]["instance"], "parser/1");
    assert_eq!(root["children"][1]["instance"], "web");
}

#[test]
fn workers_can_be_paged_and_filtered() {
    let fake = Fake::start();
    let first = fake.get("/api/v1/workers?limit=3").json();
    assert_eq!(first["items"].as_array().unwrap().len(), 3);
    assert_eq!(first["next_cursor"], "parser/1");
    let rest = fake.get("/api/v1/workers?limit=3&cursor=parser%2F1").json();
    assert_eq!(rest["items"][0]["instance"], "web");
    assert_eq!(rest["next_cursor"], Value::Null);
    let dead = fake.get("/api/v1/workers?filter=health:dead%20sup:ingest").json();
    assert_eq!(dead["items"].as_array().unwrap().len(), 2);
    assert_eq!(fake.get("/api/v1/workers?filter=colour:red").code(), "invalid_request");
}

#[test]
fn one_worker_means_all_its_instances() {
    let fake = Fake::start();
    let both = fake.get("/api/v1/workers/parser").json();
    assert_eq!(both["schema"], "regrow.describe/1");
    assert_eq!(both["items"].as_array().unwrap().len(), 2);
    let one = fake.get("/api/v1/workers/parser%2F1").json();
    assert_eq!(one["items"][0]["instance"], "parser/1");
    assert_eq!(one["items"][0]["restarts_by_cause"]["oom"], 10);
    assert!(one["items"][0]["log_path"].as_str().unwrap().ends_with("logs/parser-1.log"));
    let supervisor = fake.get("/api/v1/supervisors/ingest").json();
    assert_eq!(supervisor["workers"].as_array().unwrap().len(), 3);
    assert_eq!(fake.get("/api/v1/supervisors/nope").code(), "not_found");
}

#[test]
fn hostile_ids_are_refused_and_make_no_file() {
    let fake = Fake::start();
    let long = "a".repeat(5000);
    let hostile = [
        "..%2F..%2Fetc%2Fpasswd",
        "%00",
        "%ff",
        &long,
        "%D1%80arser",
        ".",
        "..",
        "a%2F..",
        "A",
        "a__b",
        "a%2F1%2F2",
    ];
    for id in hostile {
        for (method, path) in [
            ("GET", format!("/api/v1/workers/{id}")),
            ("GET", format!("/api/v1/workers/{id}/logs")),
            ("POST", format!("/api/v1/workers/{id}/restart")),
        ] {
            let answer = fake.ask(method, &path, "", "");
            assert!([400, 404].contains(&answer.status), "{method} {path}: {answer:?}");
            answer.code();
        }
    }
    let files: Vec<_> =
        std::fs::read_dir(fake.state_dir()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["regrow.sock"]);
    assert_eq!(fake.seen.acts.load(Ordering::SeqCst), 0);
}

#[test]
fn an_action_is_accepted_and_can_be_followed() {
    let fake = Fake::start();
    let answer = fake.ask("POST", "/api/v1/workers/parser%2F0/restart", "", "");
    assert_eq!(answer.status, 202);
    let body = answer.json();
    assert_eq!(keys(&body), ["action_id", "message", "ok"]);
    assert_eq!(body["ok"], true);
    let location = format!("/api/v1/actions/{}", body["action_id"].as_str().unwrap());
    assert!(answer.head.contains(&format!("location: {location}")), "{}", answer.head);
    let outcome = fake.get(&format!("{location}?wait=5s")).json();
    assert_eq!((&outcome["schema"], &outcome["state"]), (&"regrow.action/1".into(), &"ok".into()));
    assert_eq!(outcome["instances"][0]["instance"], "parser/0");
    assert_eq!(fake.get("/api/v1/actions/act-0").code(), "not_found");
}

#[test]
fn an_outcome_waits_for_the_board() {
    let fake = Fake::start();
    let body = fake.ask("POST", "/api/v1/workers/web/start", "", "").json();
    let path = format!("/api/v1/actions/{}", body["action_id"].as_str().unwrap());
    assert_eq!(fake.get(&path).json()["state"], "running");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fake.get(&format!("{path}?wait=20s")).json());
        std::thread::sleep(Duration::from_millis(50));
        fake.board.update(&id("web"), |state| {
            state.phase = regrow::policy::Phase::Running;
            state.ready = true;
        });
        assert_eq!(waiting.join().unwrap()["state"], "ok");
    });
}

#[test]
fn the_same_key_acts_once() {
    let fake = Fake::start();
    let key = "idempotency-key: k1\r\n";
    let first = fake.ask("POST", "/api/v1/workers/broker/restart", key, "").json();
    let again = fake.ask("POST", "/api/v1/workers/broker/restart", key, "").json();
    assert_eq!(first["action_id"], again["action_id"]);
    assert_eq!(fake.seen.acts.load(Ordering::SeqCst), 1);
    let other = fake.ask("POST", "/api/v1/workers/broker/stop", key, "");
    assert_eq!((other.status, other.code().as_str()), (409, "key_reused"));
    let empty = fake.ask("POST", "/api/v1/workers/broker/stop", "idempotency-key: \r\n", "");
    assert_eq!(empty.status, 400);
}

#[test]
fn unknown_targets_routes_and_methods_have_codes() {
    let fake = Fake::start();
    assert_eq!(fake.ask("POST", "/api/v1/workers/ghost/restart", "", "").code(), "not_found");
    assert_eq!(fake.ask("POST", "/api/v1/workers/broker/explode", "", "").code(), "not_found");
    assert_eq!(fake.get("/api/v2/status").code(), "not_found");
    let wrong = fake.ask("DELETE", "/api/v1/status", "", "");
    assert_eq!((wrong.status, wrong.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(fake.get("/api/v1/workers/broker/restart").status, 405);
}

#[test]
fn bodies_are_small_json_or_refused() {
    let fake = Fake::start();
    let json = "content-type: application/json\r\n";
    assert_eq!(fake.ask("POST", "/api/v1/all/stop", json, "{}").status, 202);
    assert_eq!(fake.ask("POST", "/api/v1/all/stop", json, "{").code(), "invalid_request");
    let several = |body: &str| fake.ask("POST", "/api/v1/several/stop", json, body);
    assert_eq!(several(r#"{"targets":["broker","web"]}"#).status, 202);
    assert_eq!(several(r#"{"targets":["broker","borker"]}"#).code(), "not_found");
    assert_eq!(several(r#"{"targets":[]}"#).code(), "invalid_request");
    let plain = fake.ask("POST", "/api/v1/all/stop", "content-type: text/plain\r\n", "{}");
    assert_eq!((plain.status, plain.code().as_str()), (415, "not_json"));
    let deep = "[".repeat(30_000);
    assert_eq!(fake.ask("POST", "/api/v1/all/stop", json, &deep).status, 400);
    let large = format!("\"{}\"", "x".repeat(70_000));
    assert_eq!(fake.ask("POST", "/api/v1/all/stop", json, &large).status, 413);
}

#[test]
fn a_body_that_would_be_passed_over_is_refused() {
    let fake = Fake::start();
    let json = "content-type: application/json\r\n";
    for path in ["config/apply", "config/check", "backup", "shutdown", "all/stop"] {
        let answer = fake.ask("POST", &format!("/api/v1/{path}"), json, "{\"dry_run\":true}");
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{path}");
        assert!(answer.body.contains("unknown field `dry_run`"), "{path}: {}", answer.body);
    }
    assert_eq!(fake.seen.shutdowns.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn health_routes_are_bare() {
    let fake = Fake::start();
    for path in ["/livez", "/readyz"] {
        let answer = fake.get(path);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
    fake.board.update(&id("broker"), |state| state.ready = false);
    assert_eq!(fake.get("/readyz").status, 503, "a critical worker is not ready");
    assert_eq!(fake.get("/livez").status, 200, "never depends on a worker");
}

#[test]
fn events_stream_from_where_the_client_was() {
    let fake = Fake::start();
    for number in 1..=3 {
        fake.journal.emit(Event::new(EventKind::WorkerReady, format!("event {number}")));
    }
    let mut stream = UnixStream::connect(fake.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request("GET", "/api/v1/events", "last-event-id: 1\r\n", "").as_bytes()).unwrap();
    let mut lines = BufReader::new(stream)
        .lines()
        .map(Result::unwrap)
        .filter(|line| line.starts_with("id: ") || line.starts_with("data: "));
    assert_eq!(lines.next().unwrap(), "id: 2");
    assert!(lines.next().unwrap().contains("\"schema\":\"regrow.event/1\",\"seq\":2"));
    assert_eq!(lines.next().unwrap(), "id: 3");
    lines.next();
    fake.journal.emit(Event::new(EventKind::WorkerExited, "event 4"));
    assert_eq!(lines.next().unwrap(), "id: 4");
    let event: Value = serde_json::from_str(lines.next().unwrap().strip_prefix("data: ").unwrap()).unwrap();
    let mut names = keys(&event);
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "at",
            "cause",
            "data",
            "incarnation",
            "incident",
            "instance",
            "kind",
            "message",
            "schema",
            "seq",
            "supervisor",
            "worker"
        ]
    );
    let list = fake
        .ask("GET", "/api/v1/events?kind=worker.exited&since_seq=1", "accept: application/json\r\n", "")
        .json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[test]
fn logs_are_tailed_filtered_and_followed() {
    let fake = Fake::start();
    let folder = fake.state_dir().join("logs");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("web.log");
    std::fs::write(&path, "one\ntwo\nthree\nopen").unwrap();
    let lines = |query: &str| {
        let body = fake.get(&format!("/api/v1/workers/web/logs{query}")).json();
        body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["line"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("?tail=2"), ["three", "open"]);
    assert_eq!(lines("?grep=t.o"), ["two"]);
    assert_eq!(fake.get("/api/v1/workers/web/logs?grep=(").code(), "invalid_request");
    let mut stream = UnixStream::connect(fake.socket()).unwrap();
    stream
        .write_all(
            request("GET", "/api/v1/workers/web/logs?tail=2", "accept: text/event-stream\r\n", "").as_bytes(),
        )
        .unwrap();
    let mut data =
        BufReader::new(stream).lines().map(Result::unwrap).filter(|line| line.starts_with("data: "));
    assert!(data.next().unwrap().contains("three"));
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"ed\n").unwrap();
    assert!(data.next().unwrap().contains("opened"));
}

#[test]
fn shutdown_is_passed_on_and_the_socket_goes_with_the_servers() {
    let mut fake = Fake::start();
    assert_eq!(fake.ask("POST", "/api/v1/shutdown", "", "").status, 202);
    eventually("the shutdown", || fake.seen.shutdowns.load(Ordering::SeqCst) == 1);
    fake.servers.take();
    assert!(!fake.socket().exists());
}

#[test]
fn a_deep_state_directory_still_has_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let deep = format!("state/{}", "d".repeat(120));
    let fake = Fake::in_folder(folder, &deep, |_| {});
    let socket = fake.folder.path().join(&deep).join("regrow.sock");
    assert!(socket.exists());
    let output = crate::fake::regrow(&["--socket", socket.to_str().unwrap(), "is-active", "broker"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_socket_of_a_dead_runtime_is_replaced_and_anything_else_is_not() {
    let mut fake = Fake::start();
    fake.servers.take();
    std::os::unix::net::UnixListener::bind(fake.socket()).map(drop).unwrap();
    assert!(fake.socket().exists(), "left by a dead runtime");
    let mode = |path: &std::path::Path| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777
    };
    let folder = std::mem::replace(&mut fake.folder, tempfile::tempdir().unwrap());
    let again = Fake::in_folder(folder, "state", |_| {});
    assert_eq!(mode(&again.socket()), 0o600);
}

#[test]
fn stalled_clients_hold_up_nobody() {
    let fake = Fake::start();
    let mut idle: Vec<_> = (0..100).map(|_| UnixStream::connect(fake.socket()).unwrap()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost:").unwrap();
    }
    assert_eq!(fake.get("/livez").status, 200);
    let mut huge = UnixStream::connect(fake.socket()).unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    assert_eq!(exchange(&mut huge, &head).status, 431);
}
