//! `init`: from an empty directory to a runtime whose status is green.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use crate::fake::{stderr, stdout};
use crate::rig::{Rig, left_out, send};

/// A rig whose directory is empty.
fn empty() -> Rig {
    let rig = Rig::new("");
    std::fs::remove_file(rig.path("regrow.toml")).unwrap();
    rig
}

/// `regrow ARGS…` in the rig's directory, without a terminal.
fn regrow(rig: &Rig, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
    command.args(arguments).current_dir(rig.path("")).env("NO_COLOR", "1").stdin(Stdio::null());
    command.env("REGROW__HTTP__LISTEN", "").output().unwrap()
}

/// Ends a runtime in the background, also when its test fails.
struct Background(u32);

impl Background {
    fn of(rig: &Rig) -> Self {
        let status: serde_json::Value =
            serde_json::from_str(&stdout(&regrow(rig, &["status", "-o", "json"]))).unwrap();
        Self(u32::try_from(status["runtime"]["pid"].as_u64().unwrap()).unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        send(self.0, Signal::TERM);
    }
}

#[test]
fn three_workers_from_nothing_are_green_and_the_file_is_right() {
    let rig = empty();
    let made = regrow(&rig, &["init", "--workers", "3", "--start"]);
    let text = stdout(&made);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let runtime = Background::of(&rig);
    assert!(text.contains("wrote regrow.toml: 3 workers"), "{text}");
    assert_eq!(text.matches(" healthy ").count(), 3, "{text}");
    assert!(text.contains("3 workers: 3 healthy"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains("/tmp")), "{text}");
    let checked = regrow(&rig, &["check"]);
    assert!(checked.status.success(), "{checked:?}");
    assert!(!stdout(&checked).contains("warning"), "{checked:?}");
    assert_eq!(regrow(&rig, &["status", "--exit-code"]).status.code(), Some(0));
    assert!(
        rig.text("regrow.toml").lines().filter(|line| line.starts_with('#')).count() > 15,
        "it explains itself"
    );
    assert_eq!(regrow(&rig, &["shutdown", "--wait"]).status.code(), Some(0));
    drop(runtime);
}

#[test]
fn a_file_that_is_there_is_never_touched() {
    let rig = empty();
    std::fs::write(rig.path("regrow.toml"), "mine").unwrap();
    let refused = regrow(&rig, &["init", "--yes"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("already") && stderr(&refused).contains("-c OTHER.toml"),
        "{refused:?}"
    );
    assert_eq!(rig.text("regrow.toml"), "mine");
    let other = regrow(&rig, &["init", "--yes", "-c", "other.toml"]);
    assert_eq!(other.status.code(), Some(0), "{other:?}");
    assert_eq!(regrow(&rig, &["check", "other.toml"]).status.code(), Some(0));
}

#[test]
fn without_a_terminal_the_flags_are_named_and_nothing_is_written() {
    let rig = empty();
    let refused = regrow(&rig, &["init"]);
    assert_eq!(refused.status.code(), Some(2));
    for flag in ["--yes", "--workers", "--from"] {
        assert!(stderr(&refused).contains(flag), "{refused:?}");
    }
    assert!(!rig.path("regrow.toml").exists());
}

#[test]
fn a_procfile_becomes_a_worker_a_line_whether_it_is_found_or_named() {
    let rig = empty();
    std::fs::write(rig.path("Procfile"), "web: ./serve --port $PORT\nclock: sleep 1000\n").unwrap();
    let found = regrow(&rig, &["init", "--yes", "-o", "json"]);
    let body: serde_json::Value = serde_json::from_str(&stdout(&found)).unwrap();
    assert_eq!((&body["schema"], &body["started"]), (&"regrow.init/1".into(), &false.into()));
    assert_eq!(body["workers"][1]["command"], serde_json::json!(["sleep", "1000"]));
    assert_eq!(body["workers"][0]["source"], "Procfile, line 1");
    assert!(rig.text("regrow.toml").contains("env = { PORT = \"5000\" }"));
    std::fs::write(rig.path("commands"), "# mine\nsleep 1000\npython3 tick.py\n").unwrap();
    let named = regrow(&rig, &["init", "--from", "commands", "-c", "b.toml", "-o", "json"]);
    let body: serde_json::Value = serde_json::from_str(&stdout(&named)).unwrap();
    assert_eq!((&body["workers"][0]["name"], &body["workers"][1]["name"]), (&"sleep".into(), &"tick".into()));
    std::fs::write(rig.path("supervisord.conf"), "[program:web]\ncommand=x\n").unwrap();
    let other = regrow(&rig, &["init", "--from", "supervisord.conf", "-c", "c.toml"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(
        stderr(&other).contains("regrow import supervisord.conf") && !rig.path("c.toml").exists(),
        "{other:?}"
    );
}

#[test]
fn a_start_that_is_not_green_says_so() {
    let rig = empty();
    std::fs::write(rig.path("commands"), "./no-such-program\n").unwrap();
    let made = regrow(&rig, &["init", "--from", "commands", "--start"]);
    let _runtime = Background::of(&rig);
    assert_eq!(made.status.code(), Some(1), "{made:?}");
    assert!(stderr(&made).contains("regrow describe no-such-program"), "{made:?}");
    assert!(stdout(&made).contains("program not found"), "{made:?}");
}

#[test]
fn a_worker_that_falls_right_after_its_start_is_not_green() {
    let rig = empty();
    std::fs::write(rig.path("commands"), "sleep 0.05; exit 3\n").unwrap();
    let made = regrow(&rig, &["init", "--from", "commands", "--start"]);
    let _runtime = Background::of(&rig);
    assert_eq!(made.status.code(), Some(1), "{made:?}");
    assert!(stdout(&made).contains("exited with code 3"), "{made:?}");
}

#[test]
fn on_a_terminal_at_most_five_questions_lead_to_a_running_tree() {
    if !std::path::Path::new("/usr/bin/script").exists() {
        return left_out("a terminal needs `script`");
    }
    let rig = empty();
    let mut command = Command::new("/usr/bin/script");
    command.args(["-qec", &format!("{} init", env!("CARGO_BIN_EXE_regrow")), "/dev/null"]);
    command.current_dir(rig.path("")).env("NO_COLOR", "1").env("REGROW__HTTP__LISTEN", "");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let answers = "orders\nsleep 1000\necho \"$HOME\"; sleep 1000\n\nn\nLANG, TERM\ny\n";
    child.stdin.as_mut().unwrap().write_all(answers.as_bytes()).unwrap();
    rig.wait("it runs", || regrow(&rig, &["status", "--exit-code"]).status.success());
    let _runtime = Background::of(&rig);
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches('?').count(), 5, "{text}");
    let file = rig.text("regrow.toml");
    for line in [
        "name = \"orders\"",
        "command = [\"sleep\", \"1000\"]",
        "command = [\"/bin/sh\", \"-c\", \"echo \\\"$HOME\\\"; sleep 1000\"]",
        "restart = \"transient\"",
        "inherit_env = [\"LANG\", \"TERM\"]",
    ] {
        assert!(file.contains(line), "{line} is not in\n{file}");
    }
    assert!(text.contains("2 workers: 2 healthy"), "{text}");
}
