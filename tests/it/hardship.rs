//! Machines that run short or break: disks that fill up or fail, limits on processes, each undone on drop; and how
//! slow a machine is just now.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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

impl TinyDisk {
    /// Changes its options, such as `ro`.
    pub(crate) fn remount(&self, options: &str) {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.dir.path()).status();
        assert!(status.unwrap().success(), "remount {options}");
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

/// How slow the machine itself is while a test runs, so that a bound on time tells a slow regrow from a busy machine.
pub(crate) struct Yardstick {
    enough: Arc<AtomicBool>,
    measuring: JoinHandle<Duration>,
}

impl Yardstick {
    /// Starts and awaits a bare process again and again, beside the test.
    pub(crate) fn begin() -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&enough);
        let measuring = std::thread::spawn(move || {
            let mut worst = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert!(Command::new("true").status().unwrap().success());
                worst = worst.max(began.elapsed());
                std::thread::park_timeout(Duration::from_millis(20));
            }
            worst
        });
        Self { enough, measuring }
    }

    /// What a quiet machine may take, and on top of it what twenty of the slowest bare processes took here.
    pub(crate) fn allows(self, quiet: Duration) -> Duration {
        self.enough.store(true, Ordering::Relaxed);
        self.measuring.thread().unpark();
        quiet + 20 * self.measuring.join().unwrap()
    }
}
