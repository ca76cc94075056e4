//! A configuration says what it means: defaults, layers, order, and an explanation that can be read again.

use std::ffi::OsString;
use std::time::Duration;

use regrow::config::{ReadyWhen, Settings, Sources, StopTo, load};
use regrow::policy::{OnExhausted, Restart, RestartStrategy};

fn settings(text: &str) -> Settings {
    match load(&Sources::text(text)) {
        Ok(loaded) => loaded.settings,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

fn children(settings: &Settings, name: &str) -> Vec<String> {
    let supervisor = settings.supervisors.iter().find(|supervisor| supervisor.name.as_str() == name);
    supervisor.unwrap().children.iter().map(ToString::to_string).collect()
}

#[test]
fn two_lines_are_a_complete_file() {
    let settings = settings("[worker.web]\ncommand = [\"./web\"]\n");
    let root = &settings.supervisors[0];
    assert_eq!((root.name.as_str(), root.strategy), ("root", RestartStrategy::OneForOne));
    assert_eq!((root.intensity.max_restarts, root.intensity.within), (10, Duration::from_secs(300)));
    assert_eq!(root.on_exhausted, OnExhausted::Quarantine);
    let retry = root.retry.unwrap();
    assert_eq!((retry.first, retry.every), (Duration::from_secs(30), Duration::from_secs(900)));
    let web = &settings.workers[0];
    assert_eq!(web.command, ["./web"]);
    assert_eq!((web.restart, web.ready.clone()), (Restart::Permanent, ReadyWhen::Started));
    assert_eq!((web.stop.signal, web.stop.to), (15, StopTo::Main));
    assert_eq!(web.stop.timeout, Duration::from_secs(10));
    assert_eq!(web.backoff.first, Duration::from_millis(200));
    assert_eq!(web.verify, Duration::from_secs(10));
    assert_eq!(web.cwd, std::env::current_dir().unwrap());
    assert_eq!(settings.http.listen.unwrap().to_string(), "127.0.0.1:8080");
    assert!(!settings.http.listen_explicit);
    assert_eq!(settings.runtime.control.mode, 0o600);
    assert!(settings.runtime.state_dir.is_absolute());
    assert_eq!(settings.warnings, Vec::<String>::new());
}
