//! The exit codes of the contract, and errors that say what to do next.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use crate::fake::{Fake, regrow, stderr, stdout};

fn code(output: &std::process::Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn every_code_has_its_case() {
    let fake = Fake::start();
    let cases: [(&[&str], i32); 30] = [
        (&["status"], 0),
        (&["status", "broker", "--exit-code"], 0),
        (&["status", "--exit-code"], 3),
        (&["status", "ghost"], 4),
        (&["status", "sup:ghost"], 4),
        (&["status", "Not_A_Name"], 4),
        (&["stop", "sup:Not_A_Name"], 4),
        (&["is-active", "parser/first"], 4),
        (&["pause", "broker", "sup:a b"], 4),
        (&["remove", "Not_A_Name"], 4),
        (&["describe", "ghost"], 4),
        (&["describe", "sup:root"], 2),
        (&["logs", "ghost"], 4),
        (&["stop", "ghost"], 4),
        (&["stop"], 2),
        (&["explode"], 2),
        (&["restart", "broker", "--wait=soon"], 2),
        (&["is-active", "broker"], 0),
        (&["is-active", "parser/0"], 3),
        (&["is-active", "ghost"], 4),
        (&["is-failed", "parser/1"], 0),
        (&["is-failed", "broker"], 3),
        (&["is-failed", "--all"], 0),
        (&["is-active", "--all"], 3),
        (&["is-healthy"], 2),
        (&["is-healthy", "broker", "--all"], 2),
        (&["is-healthy", "broker"], 0),
        (&["is-healthy", "parser"], 3),
        (&["wait", "web", "--for", "ready", "--timeout", "100ms"], 3),
        (&["version"], 0),
    ];
    for (args, expected) in cases {
        let output = fake.regrow(args);
        assert_eq!(code(&output), expected, "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn an_answer_is_the_same_whether_somebody_reads_the_words_to_their_end_or_not() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "[worker.web]\ncomand = [\"sleep\", \"1\"]\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    let unread = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_regrow"));
        command.arg("--socket").arg(fake.socket()).args(args).stdout(writer);
        command.status().unwrap().code().unwrap()
    };
    for (args, expected) in [
        (&["is-healthy", "parser"] as &[&str], 3),
        (&["is-healthy", "parser", "-o", "json"], 3),
        (&["is-healthy", "broker"], 0),
        (&["status", "--exit-code"], 3),
        (&["status"], 0),
        (&["wait", "web", "--for", "ready", "--timeout", "100ms", "-o", "json"], 3),
        (&["check", wrong, "-o", "json"], 6),
        (&["start", "web", "--wait=300ms"], 8),
    ] {
        assert_eq!(unread(args), expected, "{args:?}");
    }
}

#[test]
fn a_mistyped_file_reaches_nobody_elses_runtime() {
    let fake = Fake::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".regrow")).unwrap();
    std::os::unix::fs::symlink(fake.socket(), folder.path().join(".regrow/regrow.sock")).unwrap();
    let ask = |name: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_regrow"));
        command.arg("-c").arg(folder.path().join(name)).arg("shutdown").env_remove("REGROW_CONTROL");
        command.output().unwrap()
    };
    let output = ask("web.tmol");
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert!(stderr(&output).contains("there is no file"), "{}", stderr(&output));
    std::fs::write(folder.path().join("web.toml"), "[worker.web]\ncommand = [\"sleep\", \"1\"]\n").unwrap();
    assert_eq!(code(&ask("web.toml")), 0, "its own is there");
}

#[test]
fn an_exit_code_is_the_same_where_nothing_can_be_said() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml");
    std::fs::write(&wrong, "[worker.web]\ncomand = [\"sleep\", \"1\"]\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    let cases: [(&[&str], i32); 5] = [
        (&["-c", wrong, "check"], 6),
        (&["-c", wrong, "start"], 6),
        (&["--socket", "nowhere.sock", "status"], 5),
        (&["restart", "web", "--max-unavailable", "1"], 2),
        (&["run", "--", "./no-such-program"], 127),
    ];
    for (args, expected) in cases {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_regrow"));
        command.args(args).current_dir(folder.path()).env_remove("XDG_RUNTIME_DIR");
        command.env("TMPDIR", folder.path()).stderr(full).stdout(std::process::Stdio::null());
        assert_eq!(command.status().unwrap().code(), Some(expected), "{args:?}");
    }
}

#[test]
fn names_alone_are_names_and_commas_separate() {
    let fake = Fake::start();
    for (args, expected) in [
        (&["is-active", "parser", "-o", "name"] as &[&str], "parser/0\nparser/1\n"),
        (&["is-active", "broker", "-o", "csv"], "instance,status\nbroker,healthy\n"),
        (&["restart", "parser/0", "--wait", "-o", "name"], "parser/0\n"),
    ] {
        assert_eq!(stdout(&fake.regrow(args)), expected, "{args:?}");
    }
    assert_eq!(stdout(&fake.regrow(&["why", "parser", "-o", "name"])), "parser/0\nparser/1\n");
    assert!(
        stdout(&fake.regrow(&["why", "parser", "-o", "csv"])).starts_with("instance,status,why\nparser/0,")
    );
}

#[test]
fn a_mistyped_name_is_answered_with_the_one_that_was_meant() {
    let fake = Fake::start();
    for verb in ["status", "describe", "why", "stop", "logs", "is-active"] {
        let output = fake.regrow(&[verb, "borker"]);
        assert_eq!(code(&output), 4, "{verb}");
        assert!(stderr(&output).contains("did you mean `broker`?"), "{verb}: {output:?}");
    }
}

#[test]
fn nobody_there_is_5_and_says_how_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("regrow.sock");
    let output = regrow(&["--socket", socket.to_str().unwrap(), "status"]);
    assert_eq!(code(&output), 5);
    let text = stderr(&output);
    assert!(text.contains(socket.to_str().unwrap()) && text.contains("regrow start"), "{text}");
    let file = folder.path().join("none.toml");
    assert_eq!(code(&regrow(&["-c", file.to_str().unwrap(), "status"])), 5);
}

#[test]
fn the_socket_is_found_through_the_configuration_even_a_broken_one() {
    let fake = Fake::start();
    let file = fake.folder.path().join("my.toml");
    let text = format!("[runtime]\nstate_dir = \"{}\"\nnot_a_key = 1\n", fake.state_dir().display());
    std::fs::write(&file, text).unwrap();
    assert_eq!(code(&regrow(&["-c", file.to_str().unwrap(), "is-active", "broker"])), 0);
}

#[test]
fn an_invalid_configuration_is_6() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(&file, "[worker.web]\ncomand = [\"x\"]\n").unwrap();
    let path = file.to_str().unwrap();
    for args in [vec!["check", path], vec!["-c", path, "start"], vec!["-c", path, "start", "--daemon"]] {
        let output = regrow(&args);
        assert_eq!(code(&output), 6, "{args:?}");
        assert!(stderr(&output).contains("comand"), "{}", stderr(&output));
    }
    let json = regrow(&["check", path, "-o", "json"]);
    assert_eq!(code(&json), 6);
    let body: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((&body["schema"], &body["ok"]), (&"regrow.check/1".into(), &false.into()));
    assert!(body["problems"].as_array().unwrap().iter().any(|problem| problem["line"] == 2));
}

#[test]
fn check_sums_up_and_explains() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("good.toml");
    std::fs::write(&file, "[worker.web]\ncommand = [\"/bin/true\"]\n").unwrap();
    let path = file.to_str().unwrap();
    let output = regrow(&["check", path]);
    assert_eq!(code(&output), 0);
    assert!(
        stdout(&output).ends_with(&format!("{path} is right: 1 worker, 1 supervisor\n")),
        "{}",
        stdout(&output)
    );
    assert!(stdout(&regrow(&["check", path, "--explain"])).contains("[worker.web]"));
}

#[test]
fn a_socket_that_may_not_be_used_is_7() {
    use std::os::unix::fs::PermissionsExt;
    // Root may do everything; then there is nothing to refuse.
    if rustix_is_root() {
        return;
    }
    let fake = Fake::start();
    std::fs::set_permissions(fake.socket(), std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(code(&fake.regrow(&["status"])), 7);
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

#[test]
fn help_names_every_verb_and_the_codes() {
    let text = stdout(&regrow(&["--help"]));
    for word in [
        "start",
        "stop",
        "restart",
        "status",
        "describe",
        "logs",
        "events",
        "history",
        "export",
        "backup",
        "reset-failed",
        "is-active",
        "is-failed",
        "is-healthy",
        "wait",
        "shutdown",
        "check",
        "run",
        "demo",
        "version",
        "completion",
        "8 --wait ran out",
    ] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert_eq!(code(&regrow(&[])), 2, "no verb is a usage error");
}

#[test]
fn completion_is_made_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = regrow(&["completion", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("reset-failed"), "{shell}");
    }
}
