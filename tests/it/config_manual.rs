//! `config/default.toml` is the manual and the defaults at once, and `config/regrow.toml` is what newcomers run.

use regrow::config::{Sources, load};

/// The manual with its examples switched on: a line that begins with `#` and no space is one.
pub(crate) fn with_examples(manual: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    manual.lines().map(|line| on(line) + "\n").collect()
}

fn manual() -> &'static str {
    include_str!("../../config/default.toml")
}

#[test]
fn every_example_of_the_manual_is_accepted() {
    // Names that the examples take from elsewhere.
    let text = with_examples(manual()).replace("after = [\"broker-proxy\"]", "after = [\"web\"]")
        + "[worker.web]\n[supervisor.ingest]\n";
    let without = |keys: &[&str]| -> String {
        // What a strategy of one's own runs is no worker's.
        let mut strategy = false;
        let mut kept = String::new();
        for line in text.lines() {
            strategy = if line.starts_with('[') { line.starts_with("[strategy.") } else { strategy };
            if strategy || !keys.iter().any(|key| line.starts_with(&format!("{key} = "))) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        kept
    };
    // A worker is one of both, and there is a fixed number of it or a pool.
    for text in [without(&["actor", "pool.min", "pool.max"]), without(&["command", "instances"])] {
        if let Err(diagnostics) = load(&Sources::text(text)) {
            panic!("{diagnostics}");
        }
    }
}

#[test]
fn the_manual_given_as_a_file_changes_nothing() {
    let worker = "\n[worker.web]\ncommand = [\"x\"]\n";
    let plain = load(&Sources::text(worker)).unwrap().settings;
    let mut given = load(&Sources::text(manual().to_owned() + worker)).unwrap().settings;
    assert!(given.http.listen_explicit, "whoever copies the manual names the address");
    given.http.listen_explicit = false;
    assert_eq!(given, plain);
}

#[test]
fn the_tour_works_and_gives_no_warnings() {
    let loaded = load(&Sources { file: Some("config/regrow.toml".into()), ..Sources::default() });
    let loaded = loaded.unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert_eq!(loaded.settings.warnings, Vec::<String>::new());
    assert!(loaded.settings.workers.len() >= 8);
    let folder = std::env::current_dir().unwrap().join("config");
    assert_eq!(loaded.settings.base_dir, folder);
    assert_eq!(loaded.settings.runtime.state_dir, folder.join(".regrow"));
}

#[test]
fn the_thresholds_of_the_seeds_are_one_include_away() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = include_str!("../../config/seed-thresholds.toml");
    std::fs::write(folder.path().join("seed-thresholds.toml"), seeds).unwrap();
    let main = folder.path().join("regrow.toml");
    std::fs::write(&main, "include = [\"seed-thresholds.toml\"]\n[worker.web]\ncommand = [\"x\"]\n").unwrap();
    let loaded = load(&Sources { file: Some(main), ..Sources::default() });
    let settings = loaded.unwrap_or_else(|diagnostics| panic!("{diagnostics}")).settings;
    assert_eq!(settings.warnings, Vec::<String>::new());
    let web = &settings.workers[0];
    assert_eq!((web.threshold.cpu.warn, web.threshold.cpu.crit), (0.80, Some(0.95)));
    assert_eq!(web.threshold.memory.warn_bytes, Some(1 << 30));
    assert_eq!(web.backoff.first, std::time::Duration::from_secs(10));
    assert_eq!(settings.supervisors[0].intensity.max_restarts, 3);
    // Every figure of theirs is there under the name that it had.
    for key in [
        "check_interval: 30",
        "health_check_interval = 30",
        "timeout: 5",
        "failure_threshold: 3",
        "heartbeat_timeout = 120",
        "cpu_threshold = 80.0",
        "cpu_percent: 90",
        "cpu_percent > 90",
        "memory_threshold = 85.0",
        "memory_percent > 85",
        "memory_mb: 1024",
        "gpu_memory_percent > 90",
        "error_rate: 0.1",
        "error_rate > 0.05",
        "error_rate_threshold = 0.3",
        "queue_backlog_threshold = 100",
        "queue_size: 100",
        "retry_delay: 10",
        "max_retries: 3",
        "max_restart_attempts = 3",
        "restart_cooldown = 300",
        "default: soft_restart",
        "emergency: hard_restart",
        "escalation_timeout: 300",
    ] {
        assert!(seeds.contains(key), "{key} is missing");
    }
}
