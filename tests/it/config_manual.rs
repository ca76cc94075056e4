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
    let without = |key: &str| -> String {
        // What a strategy of one's own runs is no worker's.
        let mut strategy = false;
        let mut kept = String::new();
        for line in text.lines() {
            strategy = if line.starts_with('[') { line.starts_with("[strategy.") } else { strategy };
            if strategy || !line.starts_with(&format!("{key} = ")) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
        kept
    };
    // A worker is one of both.
    for text in [without("actor"), without("command")] {
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
