//! `regrow import`: `tests/it/import/FORMAT/FILE` against `FILE.toml`, for every format.
//!
//! Thresholds and steps of recovery are looked for by name: they are active in builds that have them.
//!
//! Each file is taken over with exit 0, what comes of it passes `check`, and every word of it stands in the output.
//! After a wanted change, `REGROW_ACCEPT=1 cargo test --test it import` writes the new outputs; read the diff.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regrow::config::{Sources, load};

use crate::fake::{stderr, stdout};

const FOLDER: &str = "tests/it/import";

/// What stands in the outputs for the folder of the input.
const HERE: &str = "/HERE";

fn import(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
    command.arg("import").args(arguments).env("NO_COLOR", "1").output().unwrap()
}

/// The files of a format, each with the drop-ins that lie beside it.
fn inputs(format: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(FOLDER).join(format)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.extension().is_none_or(|ending| ending != "toml"));
    files.sort();
    files
}

/// How often each word occurs: letters, digits, and what paths and versions are made of.
fn words(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for word in text.split(|c: char| !(c.is_alphanumeric() || "_/-".contains(c))) {
        if word.chars().any(char::is_alphanumeric) {
            *found.entry(word.to_owned()).or_default() += 1;
        }
    }
    found
}

/// Words of the input that the output does not have, or not as often.
fn lost(input: &str, output: &str) -> Vec<String> {
    let kept = words(output);
    let is_lost = |(word, count): &(String, usize)| kept.get(word).copied().unwrap_or(0) < *count;
    words(input).into_iter().filter(is_lost).map(|(word, count)| format!("{word} ({count})")).collect()
}

/// `exact`: what comes of a file is the same in every build.
fn every_file_of(format: &str, exact: bool) {
    let accept = std::env::var_os("REGROW_ACCEPT").is_some();
    let here = std::path::absolute(Path::new(FOLDER).join(format)).unwrap().display().to_string();
    let mut wrong = Vec::new();
    let files = inputs(format);
    assert!(files.len() >= 12, "{format} has {} files", files.len());
    for file in files {
        let name = file.display().to_string();
        let made = import(&[&name]);
        if made.status.code() != Some(0) {
            wrong.push(format!("--- {name}: {:?}\n{}", made.status.code(), stderr(&made)));
            continue;
        }
        let output = stdout(&made);
        if let Err(problems) = load(&Sources::text(output.as_str())) {
            wrong.push(format!("--- {name} does not pass check\n{problems}"));
        }
        let lost = lost(&std::fs::read_to_string(&file).unwrap(), &output);
        if !lost.is_empty() {
            wrong.push(format!("--- {name} lost {}\n{output}", lost.join(", ")));
        }
        if !exact {
            continue;
        }
        let output = output.replace(&here, HERE);
        let mut expected = file.clone().into_os_string();
        expected.push(".toml");
        if accept {
            std::fs::write(&expected, &output).unwrap();
        } else if !alike(&std::fs::read_to_string(&expected).unwrap_or_default(), &output) {
            wrong.push(format!("--- {name} becomes\n{output}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same text; where the place of the files stands in it, whose length breaks the lines, the same words.
fn alike(expected: &str, output: &str) -> bool {
    let words = |text: &str| {
        let mut words: Vec<String> =
            text.split_whitespace().filter(|word| *word != "#").map(str::to_owned).collect();
        words.sort();
        words
    };
    expected == output || (output.contains(HERE) && words(expected) == words(output))
}

#[test]
fn supervisord_is_taken_over() {
    every_file_of("supervisord", true);
}

#[test]
fn systemd_is_taken_over() {
    every_file_of("systemd", true);
}

#[test]
fn pm2_is_taken_over() {
    every_file_of("pm2", true);
}

#[test]
fn procfiles_are_taken_over() {
    every_file_of("procfile", true);
}

#[test]
fn settings_of_worker_monitors_are_taken_over() {
    every_file_of("monitor", false);
    let recovery = stdout(&import(&[&format!("{FOLDER}/monitor/worker_recovery.yaml")]));
    let thresholds = stdout(&import(&[&format!("{FOLDER}/monitor/thresholds.conf")]));
    let flat = stdout(&import(&[&format!("{FOLDER}/monitor/monitor.json")]));
    for (output, line) in [
        (&recovery, "\nbackoff.first = \"10s\"  # retry_delay: 10\n"),
        (&recovery, "\nintensity.max_restarts = 3  # max_retries: 3\n"),
        (&recovery, "# left: queue_size: 100"),
        (&thresholds, "\nintensity.max_restarts = 3  # max_restart_attempts = 3\n"),
        (&thresholds, "# left: heartbeat_timeout = 120"),
        (&flat, "# left: \"colour\": \"red\" (regrow knows no such key)"),
    ] {
        assert!(output.contains(line), "{line} is not in\n{output}");
    }
    for (output, setting) in [
        (&recovery, "threshold.cpu.warn = 0.9"),
        (&recovery, "threshold.memory.warn_bytes = \"1GiB\""),
        (
            &recovery,
            "steps = [{ do = \"soft_restart\", attempts = 3 }, { do = \"hard_restart\", attempts = 2 }, \
             { do = \"quarantine\" }]",
        ),
        (&thresholds, "threshold.cpu.warn = 0.8"),
        (&thresholds, "threshold.memory.warn = 0.85"),
        (&thresholds, "cooldown = \"5m\""),
    ] {
        where_known(output, setting);
    }
}

/// A setting stands there, as it is or, in a build without its key, as a comment with that reason.
fn where_known(output: &str, setting: &str) {
    let lines: Vec<&str> = output.lines().collect();
    let active = lines.iter().any(|line| line.starts_with(setting));
    let left = lines.windows(2).any(|pair| {
        pair[0] == format!("# left: {setting}") && pair[1].contains("this build has no such key yet")
    });
    assert!(active || left, "{setting} is not in\n{output}");
}

#[test]
fn a_watchdog_becomes_a_heartbeat() {
    let output = stdout(&import(&[&format!("{FOLDER}/watchdog/watchdog.service")]));
    for setting in [
        "heartbeat.interval = \"15s\"",
        "heartbeat.late = \"22500ms\"",
        "heartbeat.lost = \"30s\"",
        "heartbeat.dead = \"1m\"",
    ] {
        where_known(&output, setting);
    }
    assert!(load(&Sources::text(output.as_str())).is_ok(), "{output}");
}

#[test]
fn many_files_become_one_and_name_each_other() {
    let file = |name: &str| format!("{FOLDER}/{name}");
    let (unit, first, second) = (
        file("systemd/web.service"),
        file("systemd/web.service.d/10-port.conf"),
        file("systemd/web.service.d/20-limits.conf"),
    );
    let alone = stdout(&import(&[&unit]));
    assert!(alone.contains("# left: ") && alone.contains("10-port.conf\n"), "{alone}");
    // Drop-ins count by name, however they are named.
    let with = stdout(&import(&[&unit, &second, &first]));
    assert!(with.contains("command = [\"/srv/web\", \"--port\", \"8080\"]"), "{with}");
    assert!(with.contains("limits.memory = \"1GiB\"") && !with.contains("was not read"), "{with}");
    let chain = stdout(&import(&[&file("systemd/chain-a.service"), &file("systemd/chain-b.service")]));
    assert!(chain.contains("\nafter = [\"chain-b\"]  # After=chain-b.service\n"), "{chain}");
    // A circle is cut, and told.
    assert!(
        chain.contains("# left: after = [\"chain-a\"]") && chain.contains("wait for each other"),
        "{chain}"
    );
    let mixed = stdout(&import(&[
        &file("procfile/node.Procfile"),
        &file("systemd/node.service"),
        &file("monitor/worker_recovery.yaml"),
    ]));
    assert!(load(&Sources::text(mixed.as_str())).is_ok(), "{mixed}");
    for line in [
        "[worker.web]",
        "[worker.node]",
        "inherit_env = [\"*\"]",
        "backoff.first = \"10s\"",
        "stop.to = \"group\"",
    ] {
        assert_eq!(mixed.matches(&format!("\n{line}")).count(), 1, "{line} in\n{mixed}");
    }
}

#[test]
fn a_file_that_is_there_is_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("regrow.toml");
    let (input, shown) = (format!("{FOLDER}/procfile/node.Procfile"), to.display().to_string());
    let made = import(&[&input, "--to", &shown]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    assert!(stdout(&made).contains("1 worker, everything has its equal"), "{made:?}");
    assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o022, 0);
    std::fs::write(&to, "mine").unwrap();
    let refused = import(&[&input, "--to", &shown]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--force"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "mine");
    assert_eq!(import(&[&input, "--to", &shown, "--force"]).status.code(), Some(0));
    assert!(std::fs::read_to_string(&to).unwrap().contains("[worker.web]"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    let checked = Command::new(env!("CARGO_BIN_EXE_regrow")).args(["check", &shown]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[test]
fn what_others_may_not_read_they_may_not_read_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("web.service"), folder.path().join("regrow.toml"));
    std::fs::write(&from, "[Service]\nExecStart=/bin/web\nEnvironment=TOKEN=secret\n").unwrap();
    std::fs::set_permissions(&from, std::fs::Permissions::from_mode(0o600)).unwrap();
    for force in [&[] as &[&str], &["--force"]] {
        let files = [from.to_str().unwrap(), "--to", to.to_str().unwrap()];
        let made = import(&[&files[..], force].concat());
        assert_eq!(made.status.code(), Some(0), "{made:?}");
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_place_and_code() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &[u8], code: i32, says: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let made = import(&[&path.display().to_string()]);
        assert_eq!(made.status.code(), Some(code), "{name}: {made:?}");
        assert!(stderr(&made).contains(says), "{name}: {made:?}");
        assert!(made.stdout.is_empty(), "{name}: {made:?}");
    };
    check("a.conf", b"[program:a]\ncommand=x\nnonsense\n", 6, "a.conf:3:9");
    check("b.service", b"[Service\nExecStart=/bin/x\n", 6, "b.service:1:9");
    check("c.json", b"{\n  \"apps\": [ { \"script\": x } ]\n}", 6, "c.json:2:25");
    check("d.js", b"module.exports = makeConfig();\n", 6, "node -p");
    check("e.yaml", b"apps:\n  - script: a\n - b\n", 6, "e.yaml:3");
    check("f.json", b"{ \"apps\": 3 }", 6, "there are no apps");
    check("g.conf", b"[program:a]\ncommand=\xff\xfe\n", 6, "g.conf:2:9");
    check("h.conf", b"[supervisord]\nnodaemon=true\n", 4, "nothing that regrow could run");
    check("i.timer", b"[Timer]\nOnCalendar=daily\n", 4, "nothing that regrow could run");
    check("Procfile", b"# nothing\n", 4, "nothing that regrow could run");
    check("j.txt", b"what is this\n", 2, "--format");
    check("k.toml", b"[worker.a]\n", 2, "regrow check");
    let none = import(&[&folder.path().join("none.conf").display().to_string()]);
    assert_eq!(none.status.code(), Some(4), "{none:?}");
    let both = import(&[
        &folder.path().join("a.conf").display().to_string(),
        &folder.path().join("c.json").display().to_string(),
    ]);
    assert!(stderr(&both).contains("a.conf:3:9") && stderr(&both).contains("c.json:2:25"), "{both:?}");
}

#[test]
fn json_has_the_workers_what_was_left_and_the_file() {
    let made = import(&[&format!("{FOLDER}/pm2/express.config.js"), "-o", "json"]);
    let body: serde_json::Value = serde_json::from_str(&stdout(&made)).unwrap();
    assert_eq!(body["schema"], "regrow.import/1");
    assert_eq!(body["workers"], serde_json::json!(["api", "worker"]));
    assert!(body["toml"].as_str().unwrap().contains("[worker.api]"));
    let left = body["left"].as_array().unwrap();
    assert!(
        left.iter().any(|left| left["text"] == "merge_logs: true" && left["reason"].is_string()),
        "{body}"
    );
}

#[test]
fn what_stands_for_no_bound_and_for_the_machine_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        stdout(&import(&[&path.display().to_string()]))
    };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let made = write("a.conf", "[program:a]\ncommand=/bin/a --node %(host_node_name)s\n");
    assert!(made.contains("[worker.a]") && made.contains(name.trim()), "{made}");
    let made = write("b.service", "[Service]\nExecStart=/bin/b\nTimeoutStartSec=infinity\n");
    assert!(made.contains("start_timeout = \"1d\""), "{made}");
    let made = write("c.yaml", "check_interval: 30\nrecovery:\n  cooldown: 300\n");
    assert!(made.contains("cooldown = \"5m\""), "{made}");
}
