//! Workers of templates: they come and go while everything runs, and are there again after a restart.

use std::os::unix::net::UnixStream;

use crate::fake::{Answer, exchange, request, stderr};
use crate::rig::{Rig, alive};

const FILE: &str = r#"
[worker.fixed]
command = ["sleep", "999"]
[template.session]
command = ["sh", "-c", "echo $0 $USER_NAME >> {dir}/seen; exec sleep 999", "{param.user}"]
env.USER_NAME = "<{param.user}>"
params.user = "[a-z{} ;$]{1,9}"
max = 2
"#;

fn ask(rig: &Rig, method: &str, path: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    exchange(&mut stream, &request(method, path, "content-type: application/json\r\n", body))
}

#[test]
fn a_worker_comes_stays_over_a_restart_and_goes() {
    let mut rig = Rig::start(FILE);
    rig.wait_status("fixed", "healthy");
    rig.ok(&["add", "session", "u1", "user=ann", "--wait"]);
    rig.wait_status("u1", "healthy");
    rig.wait("it was given its value", || rig.witness("seen") == ["ann <ann>"]);
    assert_eq!(rig.worker("u1")["supervisor"], "root");
    let added = rig.ok(&["events", "--kind", "worker.added", "-o", "jsonl"]);
    assert!(added.contains("\"u1\""), "{added}");
    let file = rig.text(".regrow/added.json");
    assert!(file.contains("regrow.added/1") && file.contains("\"ann\""), "{file}");
    rig.ok(&["shutdown", "--wait"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("u1", "healthy");
    assert_eq!(rig.code(&["diff"]), 0, "it is no difference to the file");
    let pid = u32::try_from(rig.worker("u1")["pid"].as_u64().unwrap()).unwrap();
    rig.ok(&["remove", "u1", "--wait"]);
    assert!(!alive(pid));
    assert_eq!(rig.code(&["describe", "u1"]), 4);
    rig.kill_runtime();
    rig.launch();
    rig.wait_status("fixed", "healthy");
    assert_eq!(rig.code(&["describe", "u1"]), 4, "what was removed does not come back");
}

#[test]
fn a_number_that_was_asked_for_by_hand_outlasts_the_runtime_as_the_worker_does() {
    let mut rig = Rig::start(FILE);
    rig.ok(&["add", "session", "u1", "user=ann", "--wait"]);
    rig.ok(&["scale", "u1", "2", "--wait"]);
    rig.ok(&["shutdown", "--wait"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("u1/1", "healthy");
    assert_eq!(rig.code(&["diff"]), 0);
}

#[test]
fn a_value_is_never_read_as_anything_else() {
    let rig = Rig::start(FILE);
    rig.ok(&["add", "session", "u1", "user=$x; {w}", "--wait"]);
    rig.wait("it is as it was given", || rig.witness("seen") == ["$x; {w} <$x; {w}>"]);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_left() {
    let rig = Rig::start(FILE);
    rig.wait_status("fixed", "healthy");
    let refused = |arguments: &[&str], code: i32, says: &str| {
        let output = rig.regrow(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(says), "{says}: {}", stderr(&output));
    };
    refused(&["add", "sesion", "u1"], 4, "did you mean `session`?");
    refused(&["add", "session", "u1"], 2, "needs a value for `user`");
    refused(&["add", "session", "u1", "user=ANN"], 2, "must match `[a-z{} ;$]{1,9}` as a whole");
    refused(&["add", "session", "u1", "user=a", "x=1"], 2, "has no parameter `x`");
    refused(&["add", "session", "fixed", "user=a"], 1, "`fixed` is taken");
    refused(&["add", "session", "U 1", "user=a"], 2, "id");
    refused(&["add", "session", "u1", "user"], 2, "NAME=VALUE");
    refused(&["remove", "fixed"], 1, "stands in the configuration file");
    refused(&["remove", "nobody"], 4, "nobody");
    rig.ok(&["add", "session", "u1", "user=a"]);
    rig.ok(&["add", "session", "u2", "user=b"]);
    refused(&["add", "session", "u3", "user=c"], 1, "allows 2 workers");
    assert_eq!(rig.status()["totals"]["total_workers"], 3);
    // Over HTTP nothing but a template's name and values is taken.
    for body in [
        r#"{"template":"session","id":"u9","params":{"user":"a"},"command":["id"]}"#,
        r#"{"template":"session","id":"u9","params":{"user":["a"]}}"#,
        r#"{"template":"session","id":"../u9","params":{"user":"a"}}"#,
        "[]",
        "",
    ] {
        let answer = ask(&rig, "POST", "/api/v1/workers", body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{body}");
    }
    let answer = ask(&rig, "DELETE", "/api/v1/workers/u1", "");
    assert_eq!(answer.status, 202);
    rig.wait("it is gone", || rig.code(&["describe", "u1"]) == 4);
}

#[test]
fn a_template_that_changes_changes_its_workers() {
    let rig = Rig::start(FILE);
    rig.ok(&["add", "session", "u1", "user=ann", "--wait"]);
    let (fixed, first) = (rig.worker("fixed")["pid"].clone(), rig.worker("u1")["pid"].clone());
    rig.configure(&FILE.replace("<{param.user}>", "[{param.user}]"));
    let text = rig.ok(&["apply", "--wait"]);
    assert!(text.contains("~ template session") && text.contains("~ worker u1: restarts"), "{text}");
    rig.wait("it has its new settings", || rig.witness("seen") == ["ann <ann>", "ann [ann]"]);
    assert_ne!(rig.worker("u1")["pid"], first);
    assert_eq!(rig.worker("fixed")["pid"], fixed);
    let before = rig.worker("u1")["pid"].clone();
    for wrong in [
        FILE.split("[template").next().unwrap().to_owned(),
        FILE.replace("[a-z{} ;$]{1,9}", "[0-9]+"),
        FILE.to_owned() + "[worker.u1]\ncommand = [\"x\"]\n",
    ] {
        rig.configure(&wrong);
        let output = rig.regrow(&["apply"]);
        assert_eq!(output.status.code(), Some(6), "{output:?}");
        let said = stderr(&output);
        assert!(said.contains("worker u1, made of a template, does not fit"), "{said}");
        assert!(said.contains("`regrow remove` takes such a worker away"), "{said}");
        assert_eq!(rig.code(&["diff"]), 6, "it is no difference");
        assert_eq!(rig.worker("u1")["pid"], before);
    }
}

#[test]
fn who_does_not_fit_the_file_at_a_start_is_named_and_comes_back_with_it() {
    let mut rig = Rig::start(FILE);
    rig.ok(&["add", "session", "u1", "user=ann", "--wait"]);
    rig.ok(&["shutdown", "--wait"]);
    rig.wait_end();
    rig.configure(FILE.split("[template").next().unwrap());
    rig.launch();
    let notes = rig.status()["runtime"]["notes"].to_string();
    assert!(notes.contains("worker u1, made of a template, does not fit"), "{notes}");
    rig.configure(FILE);
    rig.ok(&["apply", "--wait"]);
    rig.wait_status("u1", "healthy");
    let notes = rig.status()["runtime"]["notes"].to_string();
    assert!(!notes.contains("does not fit"), "the note goes with its reason: {notes}");
}

#[test]
fn a_removal_that_cannot_be_written_down_says_so_and_the_note_goes_with_its_reason() {
    let rig = Rig::start(FILE);
    for id in ["u1", "u2"] {
        rig.ok(&["add", "session", id, "user=ann", "--wait"]);
    }
    let notes = || rig.status()["runtime"]["notes"].to_string();
    // Stands where the list is written before it is renamed.
    let in_the_way = rig.path(".regrow/added.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let out = rig.regrow(&["remove", "u1"]);
    let said = stderr(&out) + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("it comes back with the next runtime"), "{said}");
    assert!(notes().contains("added and removed could not be written down"), "{}", notes());
    std::fs::remove_dir(&in_the_way).unwrap();
    let out = rig.regrow(&["remove", "u2"]);
    let said = stderr(&out) + &String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && !said.contains("comes back"), "{said}");
    assert!(!notes().contains("could not be written down"), "{}", notes());
}
