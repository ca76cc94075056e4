//! What workers were like, and copies of what is kept.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::fake::Fake;
use crate::rig::Rig;

/// The first sample comes after a second, the next ones every ten; a loaded machine takes its time.
const SAMPLED: Duration = Duration::from_secs(120);

const TWO: &str = "[worker.web]\ncommand = [\"sleep\", \"999\"]\ninstances = 2\n";

fn history(rig: &Rig, worker: &str) -> Vec<Value> {
    let text = rig.ok(&["history", worker, "-o", "jsonl"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn history_goes_on_over_a_restart_of_the_runtime() {
    let mut rig = Rig::start(TWO);
    rig.wait_status("web/0", "healthy");
    let healthy =
        |rig: &Rig| history(rig, "web/0").iter().filter(|point| point["status"] == "healthy").count();
    rig.wait_at_most(SAMPLED, "a sample was kept", || healthy(&rig) > 0);
    let before = history(&rig, "web/0");
    let point = before.iter().find(|point| point["status"] == "healthy").unwrap();
    assert_eq!((&point["score"], &point["samples"]), (&Value::from(1.0), &Value::from(1)));
    assert!(point["memory_bytes"].as_u64().unwrap() > 0, "{point}");
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_at_most(SAMPLED, "the next runtime adds its own", || {
        history(&rig, "web/0").len() > before.len()
    });
    assert_eq!(history(&rig, "web/0")[..before.len()], before[..]);
    let all: Value = serde_json::from_str(&rig.ok(&["history", "-o", "json"])).unwrap();
    let table = rig.ok(&["export", "history", "-o", "csv"]);
    assert!(table.starts_with("instance,at,") && table.contains("\nweb/0,"), "{table}");
    assert!(rig.ok(&["export", "history", "--json"]).starts_with('{'));
    assert_eq!(rig.code(&["export", "strategies", "-o", "csv"]), 2);
    assert_eq!((&all["schema"], all["items"].as_array().unwrap().len()), (&"regrow.history/1".into(), 2));
    let exported: Value = serde_json::from_str(&rig.ok(&["export", "history", "--json"])).unwrap();
    assert_eq!(exported["items"][1]["instance"], "web/1");
    assert!(rig.ok(&["history", "web"]).contains("MOSTLY"));
    assert!(rig.ok(&["history"]).contains("web/1"));
    assert_eq!(rig.code(&["history", "nobody"]), 4);
}

#[test]
fn a_backup_holds_what_was_kept_and_can_be_gone_back_to() {
    let mut rig = Rig::start(TWO);
    rig.wait_status("web/0", "healthy");
    rig.ok(&["stop", "web/1", "--wait"]);
    let copy = rig.path("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("added.json"), "of an older copy").unwrap();
    std::fs::write(copy.join("state.db"), "open to all").unwrap();
    let made = rig.ok(&["backup", copy.to_str().unwrap()]);
    assert!(!copy.join("added.json").exists(), "it has nothing of another copy");
    for name in ["state.db", "samples.db", "intents.json"] {
        let mode = std::fs::metadata(copy.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert!(made.contains("state.db, samples.db, intents.json"), "{made}");
    let own = rig.path(".regrow");
    let refused = rig.regrow(&["backup", own.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(own.join("state.db-wal").exists(), "what is in use was not touched");
    let stopped = |rig: &Rig| rig.ok(&["events", "--since", "1h", "--kind", "worker.stopped", "-o", "name"]);
    assert_eq!(stopped(&rig).lines().count(), 1);
    let here: Value = serde_json::from_str(&rig.ok(&["backup", "-o", "json"])).unwrap();
    let dir = here["dir"].as_str().unwrap();
    assert!(std::path::Path::new(dir).join("state.db").exists(), "{here}");
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    for name in ["state.db", "samples.db", "intents.json"] {
        std::fs::copy(copy.join(name), rig.path(".regrow").join(name)).unwrap();
    }
    rig.launch();
    rig.wait_status("web/0", "healthy");
    assert_eq!(rig.worker("web/1")["status"], "stopped");
    assert_eq!(stopped(&rig).lines().count(), 1, "the end of the first runtime came after the backup");
}

#[test]
fn a_runtime_that_keeps_nothing_says_so() {
    let fake = Fake::start();
    for (method, path) in [
        ("GET", "/api/v1/history"),
        ("GET", "/health/workers/broker/history?hours=1"),
        ("POST", "/api/v1/backup"),
    ] {
        let answer = fake.ask(method, path, "", "");
        assert_eq!(answer.status, 409, "{path}: {}", answer.body);
        assert!(answer.body.contains("no_store"), "{}", answer.body);
    }
    assert_eq!(fake.get("/api/v1/history?hours=-1").status, 400);
    assert_eq!(fake.get("/health/workers/nobody/history").status, 404);
}
