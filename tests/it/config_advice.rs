//! What `check` says of a file that is right: warnings, notes, and the defaults of the contract.

use regrow::config::{Loaded, Sources, load};

fn loaded(text: &str) -> Loaded {
    load(&Sources::text(text)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

#[test]
fn a_supervisor_that_follows_otp_is_told_so() {
    let otp = |worker: &str| {
        format!(
            "[supervisor.otp]\non_exhausted = \"escalate\"\nchildren = [\"x\"]\n\
             [worker.x]\ncommand = [\"x\"]\n{worker}\n"
        )
    };
    let exact = loaded(&otp("backoff.first = \"0s\"\nladder = \"none\""));
    assert_eq!(exact.notes, ["supervisor `otp` follows OTP's rules exactly"]);
    assert!(loaded(&otp("ladder = \"none\"")).notes.is_empty(), "a delay is an extension");
    assert!(loaded(&otp("backoff.first = \"0s\"")).notes.is_empty(), "a ladder is an extension");
    for extension in ["min_uptime = \"1s\"", "exit_codes.fatal = [78]"] {
        let text = otp(&format!("backoff.first = \"0s\"\nladder = \"none\"\n{extension}"));
        assert!(loaded(&text).notes.is_empty(), "{extension} is an extension");
    }
}

#[test]
fn a_backoff_that_empties_the_window_is_warned_of() {
    let worker = |backoff: &str| format!("[worker.x]\ncommand = [\"x\"]\nbackoff = {{ {backoff} }}\n");
    let text = worker("first = \"1m\", factor = 1, jitter = 0");
    let warnings = loaded(&text).settings.warnings;
    assert_eq!(
        warnings,
        [
            "worker `x` can never exhaust the intensity of supervisor `root`: 10 restarts take at least 540 s, \
          the window is 5m. Lower max_restarts or backoff, or widen `within`"
        ]
    );
    // Nine delays of 33 s fit into five minutes.
    assert!(loaded(&worker("first = \"33s\", factor = 1, jitter = 0")).settings.warnings.is_empty());
    assert!(!loaded(&worker("first = \"34s\", factor = 1, jitter = 0")).settings.warnings.is_empty());
    let together =
        format!("{text}[worker.y]\ncommand = [\"y\"]\n[supervisor.root]\non_exhausted = \"escalate\"\n");
    assert!(loaded(&together).settings.warnings.is_empty(), "counted together they can");
}

#[test]
fn what_will_not_work_as_meant_is_warned_of() {
    let text = "[worker.a]\ncommand = [\"x\"]\nenabled = false\n\
        [worker.b]\ncommand = [\"x\"]\nafter = [\"a\"]\nstop.timeout = \"1m\"\nbackoff.first = \"2m\"\n\
        [supervisor.root]\nintensity.max_restarts = 0\n";
    let warnings = loaded(text).settings.warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("waits for `a`, which is not enabled"));
    assert!(warnings[1].contains("may take 1m to stop"));
    assert!(warnings[2].contains("backoff.first (2m) is above backoff.max (1m)"));
}

#[test]
fn a_supervisor_that_ends_in_vain_is_warned_of() {
    let text = |root: &str, job: &str, significant: bool| {
        format!(
            "[supervisor.root]\nauto_shutdown = \"{root}\"\n[supervisor.job]\nchildren = [\"a\"]\nauto_shutdown = \"{job}\"\n\
             [worker.a]\ncommand = [\"x\"]\nrestart = \"transient\"\nsignificant = {significant}\n"
        )
    };
    let warnings = loaded(&text("never", "any_significant", true)).settings.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .starts_with("supervisor `job` ends by auto_shutdown, and the supervisor above starts it again")
    );
    let warnings = loaded(&text("any_significant", "never", false)).settings.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("supervisor `root` has auto_shutdown and no worker that is `significant`")
    );
    let own = "[supervisor.root]\nauto_shutdown = \"all_significant\"\n[worker.a]\ncommand = [\"x\"]\n\
               restart = \"temporary\"\nsignificant = true\n";
    assert!(loaded(own).settings.warnings.is_empty());
}

#[test]
fn a_control_socket_that_lets_nobody_in_is_warned_of() {
    let with = |control: &str| loaded(&format!("[runtime]\ncontrol = {{ {control} }}\n")).settings.warnings;
    assert!(with("group = \"ops\"")[0].contains("mode 0600 keeps its members out"));
    assert!(with("mode = \"0660\"")[0].contains("without `control.group` only regrow's own user and root"));
    assert!(with("group = \"ops\", mode = \"0660\"").is_empty() && with("mode = \"0600\"").is_empty());
}

/// OTP's `bad_combination`, all of them (rules R32).
#[test]
fn significant_needs_somebody_who_listens_and_an_end_that_is_final() {
    for auto_shutdown in ["never", "any_significant", "all_significant"] {
        for restart in ["permanent", "transient", "temporary"] {
            for significant in [true, false] {
                let text = format!(
                    "[supervisor.root]\nauto_shutdown = \"{auto_shutdown}\"\n\
                     [worker.x]\ncommand = [\"x\"]\nrestart = \"{restart}\"\nsignificant = {significant}\n"
                );
                let wrong = usize::from(auto_shutdown == "never") + usize::from(restart == "permanent");
                let found = load(&Sources::text(&text)).err().map_or(0, |diagnostics| diagnostics.count());
                assert_eq!(found, if significant { wrong } else { 0 }, "{text}");
            }
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let explained = loaded("[worker.web]\ncommand = [\"./web\"]\n[supervisor.other]\n").explain();
    let promised = r#"
shutdown_timeout = "25s"
control.mode = "0600"
strategy = "one_for_one"
intensity.max_restarts = 10
intensity.within = "5m"
on_exhausted = "quarantine"
retry_first = "30s"
retry_every = "15m"
auto_shutdown = "never"
restart = "permanent"
significant = false
critical = false
enabled = true
ready = "started"
start_timeout = "30s"
min_uptime = "0s"
stop.signal = "TERM"
stop.to = "main"
stop.timeout = "10s"
stop.unresponsive_timeout = "3s"
backoff.first = "200ms"
backoff.factor = 2.0
backoff.max = "1m"
backoff.jitter = 0.2
backoff.reset_after = "10m"
inherit_env = []
exit_codes.normal = [0]
exit_codes.fatal = []
log.to = "file"
log.max_size = "20MiB"
log.keep = 5
log.max_line = "64KiB"
log.on_full = "drop"
log.stderr = "merge"
ladder = "default"
verify = "10s"
probe_listen = ""
log.level = "info"
log.format = "text"
seed_names = true
"#;
    for line in promised.lines().filter(|line| !line.is_empty()) {
        assert!(explained.contains(&format!("\n{line}  # default\n")), "{line}\n{explained}");
    }
    assert!(explained.contains("# listen = \"127.0.0.1:8080\"  # default"), "{explained}");
}

#[test]
fn a_step_that_nobody_can_have_done_is_told() {
    let text = "[ladder.default]\nsteps = [{ do = \"scale_up\" }, { do = \"memory_cleanup\" }, { do = \"soft_restart\" }]\n\
        [worker.a]\ncommand = [\"x\"]\n[worker.b]\ncommand = [\"x\"]\non.memory_cleanup = { signal = \"HUP\" }\n";
    assert_eq!(
        loaded(text).notes,
        [
            "`scale_up` in ladder.default.steps is passed over by every worker: the number of its instances is fixed, \
             since it has no `pool`; `regrow scale` changes it"
        ],
        "one of them has the other step done"
    );
}
