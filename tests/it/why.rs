//! What `why` answers to those who ask why nothing is done.

use crate::rig::Rig;

#[test]
fn a_degraded_worker_says_what_is_wrong_and_why_no_step_is_taken() {
    let rig = Rig::start(
        r#"
[worker.w]
command = ["sleep", "1000"]
probe.r = { kind = "readiness", exec = ["false"], period = "200ms", failure_threshold = 1 }
"#,
    );
    rig.wait_status("w", "degraded");
    let why = rig.ok(&["why", "w"]);
    assert!(why.contains("probe r failed") && why.contains("no recovery: a readiness probe"), "{why}");
}

#[test]
fn a_worker_that_was_never_started_again_is_not_said_to_have_been() {
    let rig =
        Rig::start("[worker.w]\ncommand = [\"sh\", \"-c\", \"exit 9\"]\nexit_codes = { fatal = [9] }\n");
    rig.wait_status("w", "quarantined");
    let why = rig.ok(&["why", "w"]);
    assert!(why.contains("its exit code says that a restart cannot help"), "{why}");
    assert!(!why.contains("starting it again"), "{why}");
}
