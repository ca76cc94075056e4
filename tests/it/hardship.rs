//! Machines that run short or break: disks that fill up or fail, limits on processes. Each undoes itself on drop.

use std::fs;
use std::process::Command;

use crate::rig::left_out;

/// A tmpfs of a few pages; `None` where mounting is not allowed even to root.
pub(crate) struct TinyDisk {
    dir: tempfile::TempDir,
}

impl TinyDisk {
    pub(crate) fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("rgd").tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "regrow-test"])
            .arg(dir.path())
            .status()
            .unwrap();
        if !status.success() {
            left_out("mount is not allowed here");
            return None;
        }
        Some(Self { dir })
    }

    pub(crate) fn path(&self) -> String {
        self.dir.path().join("state").display().to_string()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// Whether a file can be made a file system here.
pub(crate) fn disk_tools() -> bool {
    let have =
        ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].iter().any(|path| std::path::Path::new(path).exists());
    if !have {
        left_out("a failing disk needs mkfs.ext4");
    }
    have
}

/// An ext4 in a file that turns read-only at its first error, as a dying disk does.
pub(crate) struct FailingDisk {
    dir: tempfile::TempDir,
    device: String,
}

impl FailingDisk {
    pub(crate) fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("rgd").tempdir().unwrap();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mnt"));
        fs::create_dir(&mount).unwrap();
        fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status().unwrap();
        let mounted = Command::new("mount")
            .args(["-o", "loop,errors=remount-ro"])
            .arg(&image)
            .arg(&mount)
            .status()
            .unwrap();
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let line = mounts.lines().find(|line| line.contains(&mount.display().to_string())).unwrap_or("");
        let device = line.split(' ').next().unwrap_or("").trim_start_matches("/dev/").to_owned();
        let disk = Self { dir, device };
        let trigger = std::path::Path::new(&disk.trigger()).exists();
        if !made.success() || !mounted.success() || !trigger {
            left_out("this machine cannot make a disk fail");
            return None;
        }
        Some(disk)
    }

    fn trigger(&self) -> String {
        format!("/sys/fs/ext4/{}/trigger_fs_error", self.device)
    }

    pub(crate) fn fail(&self) {
        fs::write(self.trigger(), "a test makes this disk fail").unwrap();
    }

    pub(crate) fn path(&self) -> String {
        self.dir.path().join("mnt/state").display().to_string()
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path().join("mnt")).status();
    }
}

/// A limit on the number of processes that can be tightened and lifted: the pids controller, v1 or v2.
pub(crate) struct ProcessLimit {
    dir: std::path::PathBuf,
}

impl ProcessLimit {
    /// Puts a process and all its threads under a limit that is not tight yet.
    pub(crate) fn over(pid: u32) -> Option<Self> {
        for root in ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"] {
            let dir = std::path::Path::new(root).join(format!("regrow-test-{pid}"));
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let limit = Self { dir };
            let usable = limit.dir.join("pids.max").exists();
            if usable && fs::write(limit.dir.join("cgroup.procs"), pid.to_string()).is_ok() {
                return Some(limit);
            }
        }
        left_out("no pids controller that can be written to");
        None
    }

    /// Nothing more may be started.
    pub(crate) fn tighten(&self) {
        fs::write(self.dir.join("pids.max"), "1").unwrap();
    }

    pub(crate) fn lift(&self) {
        fs::write(self.dir.join("pids.max"), "max").unwrap();
    }
}

impl Drop for ProcessLimit {
    fn drop(&mut self) {
        let parent = self.dir.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&parent, pid);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}
