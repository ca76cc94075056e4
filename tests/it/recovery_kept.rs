//! What recovery tells, and what of it is still so after the runtime was killed.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::rig::Rig;

const WEB: &str = r#"
[worker.web]
command = ["sleep", "1000"]
[ladder.default]
verify = "50ms"
"#;

/// What the control socket serves at this path.
fn get(rig: &Rig, path: &str) -> Value {
    let mut socket = UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

fn ids(body: &Value) -> Vec<String> {
    let items = body["items"].as_array().unwrap();
    items.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_outcome_that_somebody_was_told_outlives_a_kill() {
    const ROUNDS: usize = 6;
    let mut rig = Rig::start(WEB);
    for round in 1..=ROUNDS {
        rig.wait_status("web", "healthy");
        rig.ok(&["recover", "web", "--action", "hard_restart", "--wait=30s"]);
        rig.kill_runtime();
        rig.launch();
        let all = || get(&rig, "/api/v1/incidents?limit=100");
        rig.wait("earlier incidents are known", || ids(&all()).len() >= round);
        let all = all();
        assert_eq!(ids(&all).into_iter().collect::<BTreeSet<_>>().len(), round, "{all}");
        for one in all["items"].as_array().unwrap() {
            assert_eq!(one["outcome"], "ok", "after round {round}: {one}");
        }
    }
    only_what_was_asked_for_is_listed(&rig, ROUNDS);
}

fn only_what_was_asked_for_is_listed(rig: &Rig, closed: usize) {
    let count = |query: &str| ids(&get(rig, &format!("/api/v1/incidents?{query}"))).len();
    assert_eq!((count("open=true"), count("open=false"), count("worker=web")), (0, closed, closed));
    assert_eq!(rig.ok(&["incidents", "--open", "-o", "name"]), "");
    assert_eq!(rig.code(&["incidents", "--worker", "nobody"]), 4);
    let stranger = get(rig, "/api/v1/incidents?opened=true");
    assert_eq!(stranger["status"], 400, "{stranger}");
}
