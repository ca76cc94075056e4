//! The state directory goes wrong: it fills up, cannot be written, is removed, belongs to somebody else. Supervision
//! goes on, nothing runs twice, and what is wrong is told until it is not.

use std::fs;

use crate::hardship::TinyDisk;
use crate::rig::{Rig, root_or_skip};

/// Appends its pid on every start.
const WITNESS: &str = r#"["sh", "-c", "echo $$ >> {dir}/starts; exec sleep 999"]"#;

fn pids(rig: &Rig) -> Vec<u32> {
    rig.witness("starts").iter().filter_map(|line| line.trim().parse().ok()).collect()
}

fn notes(rig: &Rig) -> String {
    rig.status()["runtime"]["notes"].to_string()
}

/// Takes every inode that is left; answers how many.
fn use_up_inodes(dir: &str) -> usize {
    (0..).take_while(|number| fs::write(format!("{dir}/filler{number}"), "").is_ok()).count()
}

fn give_back_inodes(dir: &str, count: usize) {
    (0..count).for_each(|number| fs::remove_file(format!("{dir}/filler{number}")).unwrap());
}

#[test]
fn a_stop_that_could_not_be_written_down_says_so_and_is_tried_until_it_is() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=4m,nr_inodes=64") else { return };
    let mut rig = Rig::start(&format!(
        "[runtime]\nstate_dir = \"{}\"\n[worker.web]\ncommand = {WITNESS}\n[worker.b]\ncommand = [\"sleep\", \"999\"]\n",
        disk.path()
    ));
    rig.wait_status("web", "healthy");
    let taken = use_up_inodes(&disk.path());
    let stopped = rig.regrow(&["stop", "web"]);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    let warned = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(warned.contains("could not be written down") && warned.contains("No space left"), "{warned}");
    assert!(notes(&rig).contains("could not be written down"));
    give_back_inodes(&disk.path(), taken);
    rig.wait("it is written down", || !notes(&rig).contains("could not be written down"));
    let quiet = rig.regrow(&["stop", "b"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    rig.kill_runtime();
    rig.launch();
    assert_eq!(rig.worker("web")["status"], "stopped", "{}", rig.worker("web"));
    assert_eq!(pids(&rig).len(), 1, "it was not started again");
}
