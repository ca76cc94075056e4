//! What a worker keeps for itself is put away and brought back.

use serde_json::Value;

use crate::rig::Rig;

/// Adds a line to its own state on every start.
const COUNTING: &str = "[worker.web]\n\
    command = [\"sh\", \"-c\", \"echo x >> $REGROW_STATE_DIR/starts; cp $REGROW_STATE_DIR/starts {dir}/seen; exec sleep 999\"]\n";

fn show(rig: &Rig) -> Value {
    let shown: Value = serde_json::from_str(&rig.ok(&["state", "show", "web", "-o", "json"])).unwrap();
    shown["items"][0].clone()
}

#[test]
fn a_state_is_put_away_and_brought_back() {
    let rig = Rig::start(COUNTING);
    let seen = |lines: usize| rig.wait("it counted its starts", || rig.witness("seen").len() == lines);
    seen(1);
    rig.ok(&["restart", "web", "--wait"]);
    seen(2);
    let refused = rig.regrow(&["state", "archive", "web"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("stop it first"), "{text}");
    rig.ok(&["stop", "web", "--wait"]);
    assert!(rig.ok(&["state", "archive", "web"]).contains("PUT AWAY"));
    let empty = show(&rig);
    assert_eq!((&empty["files"], empty["archives"].as_array().unwrap().len()), (&0.into(), 1));
    rig.ok(&["start", "web", "--wait"]);
    seen(1);
    rig.ok(&["stop", "web", "--wait"]);
    rig.ok(&["state", "restore", "web"]);
    let back = show(&rig);
    assert_eq!((&back["bytes"], back["archives"].as_array().unwrap().len()), (&4.into(), 1));
    rig.ok(&["start", "web", "--wait"]);
    seen(3);
    let told = rig.ok(&["events", "--kind", "action.requested", "-o", "jsonl"]);
    assert!(told.contains("state archive") && told.contains("state restore"), "{told}");
    assert_eq!(rig.code(&["state", "show", "nobody"]), 4);
}
