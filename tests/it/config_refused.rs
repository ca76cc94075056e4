//! Files that `apply` does not take over under what runs: wrong ones, emptied ones, and what is no file.

use serde_json::Value;

use crate::config_live::{config, events, other, page, pid, stays, up};
use crate::fake::stderr;
use crate::rig::Rig;

#[test]
fn c5_a_wrong_file_changes_nothing_and_says_so() {
    let good = stays("a", "") + &stays("b", "");
    let rig = Rig::start(&good);
    up(&rig, &["a", "b"]);
    let before = (pid(&rig, "a"), pid(&rig, "b"), config(&rig));
    let wrong = [
        ("[worker.a\n".to_owned(), "regrow.toml:1"),
        (other("a", "") + &stays("b", "comand = 1"), "unknown key `worker.b.comand`"),
        (other("a", "") + &stays("b", "") + &stays("b", ""), "regrow.toml:"),
        (other("a", "after = [\"b\"]") + &stays("b", "after = [\"a\"]"), "wait for each other"),
        (other("a", "") + "[supervisor.x]\nchildren = [\"a\", \"nobody\"]\n" + &stays("b", ""), "nobody"),
    ];
    for (file, says) in &wrong {
        rig.configure(file);
        for verb in [vec!["diff"], vec!["apply"], vec!["apply", "--dry-run"]] {
            let output = rig.regrow(&verb);
            assert_eq!(output.status.code(), Some(6), "{verb:?} {file}");
            assert!(stderr(&output).contains(says), "{says}: {}", stderr(&output));
        }
        assert_eq!((pid(&rig, "a"), pid(&rig, "b"), config(&rig)), before);
    }
    assert!(page(&rig, "GET", "/metrics").contains("regrow_config_last_reload_successful 0\n"));
    let rejected = events(&rig, "config.rejected");
    assert_eq!(rejected.len(), wrong.len(), "each apply, and no dry run");
    assert!(rejected[1]["message"].as_str().unwrap().contains("unknown key"), "{}", rejected[1]["message"]);
    assert_eq!(rejected[1]["data"]["problems"][0]["line"], 6);
    assert_eq!(rig.status()["runtime"]["config_generation"], 1);
    rig.configure(&good);
    assert!(rig.ok(&["apply"]).contains("nothing differs"));
    assert!(page(&rig, "GET", "/metrics").contains("regrow_config_last_reload_successful 1\n"));
}

#[test]
fn a_file_that_was_emptied_stops_nobody_and_one_that_lost_its_workers_does() {
    let rig = Rig::start(&(stays("a", "") + &stays("b", "")));
    up(&rig, &["a", "b"]);
    let before = (pid(&rig, "a"), pid(&rig, "b"));
    for text in ["", "# later\n"] {
        std::fs::write(rig.path("regrow.toml"), text).unwrap();
        for verb in ["apply", "diff"] {
            let output = rig.regrow(&[verb]);
            assert_eq!(output.status.code(), Some(6), "{verb}: {output:?}");
            let said = stderr(&output);
            assert!(said.contains("2 workers of it would be stopped"), "{said}");
            assert!(said.contains("leave the line `[runtime]` in it"), "{said}");
        }
    }
    assert_eq!((pid(&rig, "a"), pid(&rig, "b")), before);
    assert_eq!(events(&rig, "config.rejected").len(), 2);
    rig.configure("[runtime]\n");
    assert!(rig.ok(&["apply", "--wait"]).contains("- worker a: stops"));
    rig.wait("nobody is left", || rig.status()["workers"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_is_refused_and_holds_up_nobody() {
    let rig = Rig::start(&stays("a", ""));
    up(&rig, &["a"]);
    let (file, kept) = (rig.path("regrow.toml"), rig.path("kept.toml"));
    std::fs::rename(&file, &kept).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    // By the socket: the command would look at the file as well.
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_regrow"))
        .arg("--socket")
        .arg(rig.path(".regrow/regrow.sock"))
        .args(["apply", "-o", "json"])
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&shown["schema"], &shown["ok"]), (&"regrow.apply/1".into(), &false.into()), "{shown}");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(6), "{said}");
    assert!(said.contains("it is a FIFO"), "{said}");
    std::fs::rename(&kept, &file).unwrap();
    assert_eq!(rig.code(&["apply"]), 0, "nothing of that is left");
}
