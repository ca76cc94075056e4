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
    let named = settings.supervisors.iter().filter(|supervisor| supervisor.name.as_str() == name);
    named.flat_map(|supervisor| &supervisor.children).map(ToString::to_string).collect()
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

#[test]
fn whoever_no_list_names_is_the_roots_in_order_of_appearance() {
    let settings = settings(
        "[worker.z]\ncommand = [\"x\"]\n[supervisor.group]\nchildren = [\"m\"]\n\
         [worker.m]\ncommand = [\"x\"]\n[worker.a]\ncommand = [\"x\"]\n[supervisor.root]\nchildren = [\"a\"]\n",
    );
    assert_eq!(children(&settings, "root"), ["a", "z", "group"]);
    assert_eq!(children(&settings, "group"), ["m"]);
    let names: Vec<&str> = settings.supervisors.iter().map(|supervisor| supervisor.name.as_str()).collect();
    assert_eq!(names, ["root", "group"]);
}

#[test]
fn after_sorts_one_for_one_lists_as_little_as_possible() {
    let settings = settings(
        r#"
        defaults.worker.command = ["x"]
        [supervisor.front]
        children = ["web"]
        [supervisor.back]
        children = ["db"]
        [worker.first]
        [worker.web]
        after = ["db"]
        [worker.db]
        [worker.last]
        "#,
    );
    assert_eq!(children(&settings, "root"), ["back", "front", "first", "last"]);
    assert_eq!(settings.workers[1].after[0].as_str(), "db");
}

#[test]
fn later_layers_win_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("regrow.toml");
    std::fs::create_dir(folder.path().join("workers.d")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "regrow.toml",
        r#"
        include = ["workers.d/*.toml", "none.d/*.toml"]
        [defaults.worker]
        env = { A = "default", B = "default" }
        stop.timeout = "1s"
        [worker.web-1]
        command = ["from", "main"]
        env = { B = "main" }
        [supervisor.root]
        children = ["web-1"]
        "#,
    );
    write("workers.d/b.toml", "[worker.web-1]\nstart_timeout = \"2s\"\nrestart = \"never\"\n");
    write("workers.d/a.toml", "[worker.web-1]\nstart_timeout = \"3s\"\ncommand = [\"from\", \"include\"]\n");
    write("workers.d/.hidden.toml", "broken");
    let sources = Sources {
        file: Some(main),
        base: None,
        env: env(&[
            ("REGROW__WORKER__WEB_1__RESTART", "on-failure"),
            ("REGROW__WORKER__WEB_1__AFTER", "[]"),
            ("REGROW__WORKER__WEB_1__READY__LOG", "up"),
            ("REGROW__SUPERVISOR__ROOT__INTENSITY__MAX_RESTARTS", "3"),
            ("REGROW__HTTP__LISTEN", "127.0.0.1:1"),
            ("REGROW_WORKER", "not ours"),
            ("STATE_DIRECTORY", "/var/lib/regrow"),
        ]),
        flags: vec![("http.listen".into(), "127.0.0.1:2".into())],
        inline: None,
        interval: None,
        actors: None,
    };
    let loaded = load(&sources).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let worker = &loaded.settings.workers[0];
    assert_eq!(worker.command, ["from", "include"]);
    assert_eq!(worker.start_timeout, Duration::from_secs(2), "b after a");
    assert_eq!(worker.restart, Restart::Transient, "the environment over files");
    assert_eq!((worker.env["A"].as_str(), worker.env["B"].as_str()), ("default", "main"));
    assert_eq!(worker.stop.timeout, Duration::from_secs(1));
    assert!(matches!(&worker.ready, ReadyWhen::Log(regex) if regex.as_str() == "up"));
    assert_eq!(worker.cwd, folder.path());
    assert_eq!(loaded.settings.supervisors[0].intensity.max_restarts, 3);
    assert_eq!(loaded.settings.http.listen.unwrap().port(), 2, "flags over the environment");
    assert!(loaded.settings.http.listen_explicit);
    assert_eq!(loaded.settings.runtime.state_dir.to_str(), Some("/var/lib/regrow"));
    assert_eq!(loaded.files.len(), 3);
    let explained = loaded.explain();
    assert!(explained.contains("restart = \"transient\"  # REGROW__WORKER__WEB_1__RESTART\n"), "{explained}");
    assert!(explained.contains("workers.d/b.toml:2\n"), "{explained}");
    assert!(explained.contains("state_dir = \"/var/lib/regrow\"  # $STATE_DIRECTORY\n"), "{explained}");
    assert!(explained.contains("listen = \"127.0.0.1:2\"  # command line\n"), "{explained}");
}
