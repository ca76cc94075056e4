//! A10, a pid that was used again: nobody is ever signalled who is not known to be a worker's process.
//!
//! A number alone says nothing: forced reuse meets the same pid and start time most of the time. So the source names
//! no call that signals by number, and a record that points at a stranger is not believed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::rig::{Rig, alive};

/// Calls that signal whoever has a number now.
const BY_NUMBER: [&str; 7] =
    ["kill_process(", "kill_process_group(", "libc::kill(", "SYS_kill", "tgkill", "killpg", "kill_current"];

fn sources(below: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn a10_no_process_is_signalled_by_its_number() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.iter().any(|(_, text)| text.contains("SYS_pidfd_send_signal")));
    for (path, text) in found {
        let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
        for (number, line) in code.enumerate() {
            let by_number = BY_NUMBER.iter().find(|call| line.contains(**call));
            assert_eq!(by_number, None, "{path}:{}", number + 1);
        }
    }
}

#[test]
fn a10_a_stranger_under_a_recorded_pid_is_left_alone() {
    // 1 is no process's inode; 0 is what kernels without pidfs inodes leave, where the environment decides.
    for inode in [1, 0] {
        let mut rig = Rig::new(
            "[worker.web]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {dir}/starts; exec sleep 999\"]\n\
             stop = { timeout = \"1s\" }\n",
        );
        let mut stranger = Command::new("sleep").arg("998").stdin(Stdio::null()).spawn().unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::create_dir_all(rig.path(".regrow")).unwrap();
        let record = format!("regrow-spawned/1 {} -\nweb 1 {} {inode}\n", boot.trim(), stranger.id());
        fs::write(rig.path(".regrow/spawned"), record).unwrap();
        rig.launch();
        rig.wait_status("web", "healthy");
        rig.ok(&["restart", "web", "--wait=20s"]);
        rig.ok(&["stop", "web", "--wait=20s"]);
        assert!(alive(stranger.id()), "a stranger was killed (recorded inode {inode})");
        assert!(rig.witness("starts").len() >= 2);
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
