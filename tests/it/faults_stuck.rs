//! Processes that nobody can kill: asleep in the kernel on a disk that does not answer.

use std::fs;

use rustix::process::Signal;

use crate::faults_process::pids;
use crate::rig::{Rig, left_out, root_or_skip, send};

/// A worker that hangs in the kernel, writing to a disk that is frozen, and what else there is.
fn hanging(others: &str) -> (Rig, FrozenDisk) {
    let mut rig = Rig::new(&format!(
        "[worker.disk]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/starts; while :; do dd if=/dev/zero of={{dir}}/mnt/x bs=4k count=1 conv=fsync 2>/dev/null; done\"]\n\
         stop = {{ timeout = \"300ms\" }}\n{others}"
    ));
    let disk = FrozenDisk::make(&rig);
    rig.launch();
    rig.wait("it writes", || rig.path("mnt/x").exists());
    disk.freeze();
    rig.wait("it hangs in the kernel", || hangs(pids(&rig)[0]));
    (rig, disk)
}

#[test]
fn a8_a_worker_in_uninterruptible_sleep_is_stuck_and_gets_no_second_copy() {
    if !root_or_skip("a frozen file system") || !frozen_disk_possible() {
        return;
    }
    let (rig, disk) =
        hanging("[worker.web]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {dir}/web; exec sleep 999\"]\n");
    rig.ok(&["restart", "disk"]);
    rig.wait_phase("disk", "stuck");
    assert_eq!(rig.witness("starts").len(), 1, "no second copy");
    let web: u32 = rig.witness("web")[0].parse().unwrap();
    send(web, Signal::KILL);
    rig.wait("others are unaffected", || rig.witness("web").len() == 2);
    disk.thaw();
    rig.wait("it recovers when the disk thaws", || rig.witness("starts").len() == 2);
}

#[test]
fn a8_a_survivor_that_cannot_be_killed_is_shown_as_stuck_until_it_is_gone() {
    if !root_or_skip("a frozen file system") || !frozen_disk_possible() {
        return;
    }
    let (mut rig, disk) = hanging("[supervisor.root]\nintensity = { max_restarts = 1, within = \"5m\" }\n");
    rig.kill_runtime();
    rig.launch();
    rig.wait_phase("disk", "stuck");
    let disk_now = rig.worker("disk");
    assert!(disk_now["issues"].to_string().contains("cannot be killed"), "{disk_now}");
    assert_eq!(disk_now["status"], "stuck");
    // What an operator wants meanwhile is remembered, and hides nothing.
    rig.ok(&["stop", "disk"]);
    rig.ok(&["start", "disk"]);
    assert_eq!(rig.worker("disk")["phase"], "stuck");
    assert_eq!(rig.witness("starts").len(), 1, "no second copy");
    let told = rig.ok(&["events", "--kind", "worker.stuck", "-o", "name"]);
    assert_eq!(told.lines().count(), 1, "{told}");
    disk.thaw();
    rig.wait("its successor starts when the disk thaws", || rig.witness("starts").len() == 2);
    rig.wait_status("disk", "healthy");
    assert_eq!(rig.worker("disk")["issues"], serde_json::json!([]));
}

fn hangs(shell: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|text| text.contains(") D "))
    })
}

fn frozen_disk_possible() -> bool {
    let tools = ["mkfs.ext4", "fsfreeze", "mount", "losetup"];
    let have = tools.iter().all(|tool| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .iter()
            .any(|dir| std::path::Path::new(dir).join(tool).exists())
    });
    if !have {
        left_out(&format!("a frozen file system needs {tools:?}"));
    }
    have
}

/// A small ext4 in a file that can be frozen: what is written to it hangs in the kernel, deaf to SIGKILL.
struct FrozenDisk {
    mount: std::path::PathBuf,
}

impl FrozenDisk {
    fn make(rig: &Rig) -> Self {
        let (image, mount) = (rig.path("disk.img"), rig.path("mnt"));
        fs::create_dir(&mount).unwrap();
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", &image.display().to_string()]);
        run("mount", &["-o", "loop", &image.display().to_string(), &mount.display().to_string()]);
        Self { mount }
    }

    fn freeze(&self) {
        run("fsfreeze", &["-f", &self.mount.display().to_string()]);
    }

    fn thaw(&self) {
        run("fsfreeze", &["-u", &self.mount.display().to_string()]);
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        let mount = self.mount.display().to_string();
        let _ = std::process::Command::new("fsfreeze")
            .args(["-u", &mount])
            .stderr(std::process::Stdio::null())
            .status();
        let _ = std::process::Command::new("umount").args(["-l", &mount]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
