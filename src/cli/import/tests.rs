//! Whatever stands in a file: no panic, and what comes of it passes `check`.

use proptest::prelude::*;

use super::collect::{Source, collect};
use super::settle::settle;
use crate::config::{Sources, load};

/// Takes a text over; nothing is said of one that is refused.
fn holds(name: &str, text: &str) -> Result<(), TestCaseError> {
    let source = Source {
        name: name.into(),
        here: "/here".into(),
        text: text.into(),
        mode: 0o644,
        drop_ins: Vec::new(),
    };
    let Ok(mut form) = collect(&[source], None) else { return Ok(()) };
    let written = match settle(&mut form, &[]) {
        Ok(written) => written,
        Err(problems) => return Err(TestCaseError::fail(format!("{text}\n{problems}"))),
    };
    match load(&Sources::text(written.as_str())) {
        Ok(_) => Ok(()),
        Err(problems) => Err(TestCaseError::fail(format!("{text}\n{written}\n{problems}"))),
    }
}

const NAMES: [&str; 10] = [
    "a.conf",
    "a.ini",
    "Procfile",
    "a.service",
    "a@.service",
    "a.service.d/b.conf",
    "a.json",
    "a.js",
    "a.yaml",
    "a",
];

const KEYS: [&str; 36] = [
    "command",
    "numprocs",
    "numprocs_start",
    "environment",
    "stopsignal",
    "umask",
    "exitcodes",
    "startsecs",
    "stopwaitsecs",
    "stdout_logfile_maxbytes",
    "user",
    "directory",
    "ExecStart",
    "Environment",
    "RestartSec",
    "RestartSteps",
    "RestartMaxDelaySec",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "TimeoutSec",
    "TimeoutStopSec",
    "UMask",
    "User",
    "MemoryMax",
    "CPUQuota",
    "TasksMax",
    "LimitNOFILE",
    "Nice",
    "KillSignal",
    "WorkingDirectory",
    "PassEnvironment",
    "SuccessExitStatus",
    "RestartPreventExitStatus",
    "After",
    "ExecReload",
    "WatchdogSec",
];

const HEADS: [&str; 4] = ["[program:b]", "[group:b]", "[Service]", "[Unit]"];

const VALUES: [&str; 14] = [
    "%(process_num)02d",
    "80%(process_num)02d",
    "%i",
    "${A}",
    "$A",
    "a.service",
    "a,b",
    "/bin/x",
    "infinity",
    "-1",
    "1e300",
    "a=b",
    "\"a=b c\" d=e",
    "%(ENV_X)s",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~äß]{0,20}",
        "[0-9]{1,20}[smhdwMGKy%]?",
        prop::sample::select(&VALUES[..]).prop_map(str::to_owned),
    ]
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (prop::sample::select(&KEYS[..]), value()).prop_map(|(key, value)| format!("{key}={value}\n")),
        1 => prop::sample::select(&HEADS[..]).prop_map(|head| format!("{head}\n")),
    ]
}

const APP_KEYS: [&str; 24] = [
    "name",
    "script",
    "args",
    "interpreter",
    "node_args",
    "instances",
    "exec_mode",
    "cwd",
    "env",
    "max_memory_restart",
    "restart_delay",
    "kill_timeout",
    "min_uptime",
    "exp_backoff_restart_delay",
    "stop_exit_codes",
    "increment_var",
    "instance_var",
    "namespace",
    "uid",
    "max_retries",
    "retry_delay",
    "cpu_percent",
    "check_interval",
    "default",
];

const APP_VALUES: [&str; 16] = [
    "1",
    "\"a\"",
    "[1, \"b\"]",
    "{}",
    "{\"A\": \"b\", \"PORT\": 1}",
    "null",
    "true",
    "-1.5e300",
    "\"1G\"",
    "\"5s\"",
    "\"PORT\"",
    "\"a b | c {x}\"",
    "99999999999999999999",
    "[[[]]]",
    "0",
    "\"80%\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn of_any_text(
        name in prop::sample::select(&NAMES[..]),
        text in "[\\[\\]{}:=,'\"`\\\\ \n\t#;%$()a-zäß0-9@|&*<>!-]{0,60}",
    ) {
        holds(name, &text)?;
    }

    #[test]
    fn of_any_values_of_known_keys(
        name in prop::sample::select(&NAMES[..6]),
        lines in prop::collection::vec(line(), 0..12),
    ) {
        let head = if name.contains(".service") { "[Service]\nExecStart=/bin/x\n" } else { "[program:a]\ncommand=x\n" };
        holds(name, &format!("{head}{}", lines.concat()))?;
    }

    #[test]
    fn of_any_app(
        name in prop::sample::select(&["a.json", "a.js", "a.yaml"][..]),
        pairs in prop::collection::vec(
            (prop::sample::select(&APP_KEYS[..]), prop::sample::select(&APP_VALUES[..])),
            0..12,
        ),
    ) {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        let own = std::iter::once("\"script\": \"x\"".to_owned()).chain(pairs.clone()).collect::<Vec<_>>().join(", ");
        let head = if name == "a.js" { "module.exports = " } else { "" };
        let pairs = pairs.join(", ");
        holds(name, &format!("{head}{{\"apps\": [{{{own}}}, {{{pairs}}}]}}"))?;
        holds(name, &format!("{head}{{{pairs}}}"))?;
    }
}

#[test]
fn a_time_beyond_all_measure_is_taken_for_a_long_one() {
    holds("a.service", "[Service]\nExecStart=/bin/x\nWatchdogSec=10000000000000000000\n").unwrap();
}

#[test]
fn a_line_break_in_what_is_left_stays_in_its_comment() {
    holds("a.service", "[Service]\nExecStart=/bin/x\nEnvironment=\\n\n").unwrap();
}
