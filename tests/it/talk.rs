//! What a worker tells over its own socket, and what becomes of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use serde_json::Value;

use crate::rig::{Rig, root_or_skip};

/// Asks on its own socket.
const ASK: &str = r#"
import http.client, json, os, socket, time
class Own(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["REGROW_SOCKET"])
def ask(method, what, body=None):
    own = Own("w")
    own.request(method, "/worker/v1/" + what, body, dict(Authorization="Bearer " + os.environ["REGROW_TOKEN"]))
    answer = own.getresponse()
    return answer.status, answer.read()
def start():
    open("{dir}/starts", "a").write(str(os.getpid()) + "\n")
"#;

fn python(body: &str) -> String {
    format!("[\"python3\", \"-c\", '''{ASK}{body}''']")
}

fn detail(rig: &Rig) -> Value {
    let body: Value = serde_json::from_str(&rig.ok(&["describe", "web", "-o", "json"])).unwrap();
    body["items"][0].clone()
}

#[test]
fn what_it_tells_is_shown_and_its_errors_are_counted() {
    let command = python(
        r#"
assert ask("POST", "ready")[0] == 200
beat = dict(status="at row 7", progress=7, metrics=dict(rows=7.5))
assert ask("POST", "heartbeat", json.dumps(beat))[0] == 200
assert ask("POST", "error", json.dumps(dict([("class", "broker_gone"), ("message", "no broker")])))[0] == 200
start()
time.sleep(999)
"#,
    );
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = {command}\nready = \"notify\"\nthreshold.errors_per_minute.warn = 0.2\n\
         heartbeat = {{ interval = \"10m\", late = \"20m\", lost = \"30m\", dead = \"40m\" }}\n"
    ));
    rig.wait_status("web", "degraded");
    let web = detail(&rig);
    let told = &web["told"];
    assert_eq!((&told["progress"], &told["metrics"]["rows"]), (&7.0.into(), &7.5.into()), "{web}");
    assert_eq!((&told["errors"], &told["last_error"]["class"]), (&1.into(), &"broker_gone".into()), "{web}");
    assert_eq!(web["status_text"], "at row 7", "{web}");
    assert_eq!(web["issues"][0], "1 error in 5m, 0.2 a minute", "{web}");
    assert!(web["last_heartbeat_at"].is_string(), "{web}");
    let page = rig.ok(&["describe", "web"]);
    assert!(page.contains("progress 7, rows 7.5") && page.contains("1 error, the last"), "{page}");
    assert!(page.contains("broker_gone: no broker"), "{page}");
}

#[test]
fn a_worker_that_beats_and_does_not_move_is_healed() {
    let command = python(
        r#"
ask("POST", "ready")
start()
row = 0
while True:
    row += 0 if os.path.exists("{dir}/stall") else 1
    ask("POST", "heartbeat", json.dumps(dict(progress=row)))
    time.sleep(0.2)
"#,
    );
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = {command}\nready = \"notify\"\nthreshold.progress.crit = \"8s\"\n"
    ));
    rig.wait_status("web", "healthy");
    fs::write(rig.path("stall"), "").unwrap();
    rig.wait_at_most(Duration::from_secs(90), "another one runs", || {
        let started = rig.witness("starts").len() == 2;
        if started {
            fs::remove_file(rig.path("stall")).unwrap();
        }
        started
    });
    rig.wait_status("web", "healthy");
    let last = rig.worker("web")["last_exit"]["message"].as_str().unwrap().to_owned();
    assert!(last.contains("no progress for"), "{last}");
}

#[test]
fn the_class_that_it_gives_its_failure_is_the_one_that_ladders_know() {
    let command = python(
        r#"
start()
ask("POST", "error", json.dumps(dict([("class", "broker_gone"), ("message", "no broker")])))
raise SystemExit(7)
"#,
    );
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = {command}\nready = \"notify\"\n\
         [[error_class]]\nname = \"broker_gone\"\nexit_code = 99\n"
    ));
    let causes = || rig.ok(&["incidents", "-o", "json"]);
    rig.wait("its incident has the name", || causes().contains("broker_gone"));
}

#[test]
fn a_worker_of_another_user_has_a_socket_and_a_state_of_its_own() {
    if !root_or_skip("running a worker as another user") {
        return;
    }
    let command = python(
        r#"
assert ask("PUT", "state", "kept " + os.environ["REGROW_INCARNATION"])[0] == 200
assert ask("POST", "ready")[0] == 200
print(ask("GET", "state"), flush=True)
time.sleep(999)
"#,
    );
    let mut rig =
        Rig::new(&format!("[worker.web]\ncommand = {command}\nready = \"notify\"\nuser = \"nobody\"\n"));
    fs::set_permissions(rig.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    rig.launch();
    rig.wait_status("web", "healthy");
    rig.wait("it read what it had kept", || rig.ok(&["logs", "web"]).contains("(200, b'kept 1')"));
    for below in ["talk", "state/worker.saved"] {
        let found = fs::symlink_metadata(rig.path(format!(".regrow/w/web/{below}"))).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (65534, 0o600), "{below}");
    }
}
