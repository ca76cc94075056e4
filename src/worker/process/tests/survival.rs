//! A runtime that is killed, played by this test binary run again with `REGROW_TEST_OWNER` set.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::config::StopSettings;
use crate::id::{Incarnation, InstanceId, Name};
use crate::worker::WorkerReport;
use crate::worker::process::{Cleared, HostOptions, OpenError, ProcessHost, Survivor, tree};
use crate::worker::unix::{pidfd_open, send_signal};

use super::rig::{NO_CGROUP, PLAIN, command, gone, lines, lives, runner, sh, until, ways};

const DIR: &str = "REGROW_TEST_OWNER";
const CGROUPS: &str = "REGROW_TEST_CGROUPS";
const ESCAPEE: &str = "(setsid sh -c 'echo $$ > escaped.new; mv escaped.new escaped; exec sleep 1000' &) ; ";

/// Not a test: the runtime that will be killed. Runs `SCRIPT` files of its directory, one worker each.
#[tokio::test]
#[ignore = "run by the tests below in a process of its own"]
async fn owner() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let options = HostOptions {
        cgroups: std::env::var_os(CGROUPS).is_some(),
        adopt_orphans: true,
        shared: false,
        raise_limits: true,
        step_aside: true,
        stdin: false,
        instances: 0,
    };
    let (host, _) = super::rig::host_at(dir, options);
    let mut workers = Vec::new();
    for name in ["plain", "deaf", "leaver"] {
        let Ok(script) = std::fs::read_to_string(dir.join(format!("{name}.sh"))) else { continue };
        let mut settings = sh(&script);
        settings.name = Name::try_new(name).unwrap();
        settings.cwd = dir.to_owned();
        let (mut runner, reports) = runner(&host, &std::sync::Arc::new(settings));
        runner.start(Incarnation(3));
        workers.push((runner, reports));
    }
    std::future::pending().await
}

/// Not a test of its own either: supervision in a process that has no descriptors left.
#[tokio::test]
#[ignore = "run by `a_restart_works_without_free_descriptors` in a process of its own"]
async fn starved() {
    if std::env::var_os(DIR).is_none() {
        return;
    }
    let mut rig = super::rig::Rig::with(sh("exec sleep 1000"), PLAIN);
    let mut pid = rig.up(1).await;
    let (soft, hard) = (Some(256), rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum);
    let limit = rustix::process::Rlimit { current: soft, maximum: hard };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    for n in 2..20 {
        super::rig::signal_by(pid, libc::SIGKILL);
        rig.exit().await;
        pid = rig.up(n).await;
    }
    drop(taken);
    rig.runner.kill();
    rig.exit().await;
}

#[tokio::test]
async fn a_restart_works_without_free_descriptors() {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["worker::process::tests::survival::starved", "--exact", "--ignored"]);
    passes(again.env(DIR, "yes"));
}

/// Runs one test in a process of its own. Nothing that ran would be a success, too.
pub(super) fn passes(again: &mut Command) {
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

struct Owner {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Owner {
    /// Also when a test has failed: it would wait for ever, and its workers would live on.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let homes = [self.dir.path().join("w")];
        for _ in 0..10 {
            for pid in tree::marked_below(&homes).into_values().flatten() {
                // Opened first, looked at then.
                if let Ok(pidfd) = pidfd_open(pid)
                    && tree::marked_below(&homes).into_values().flatten().any(|still| still == pid)
                {
                    let _ = send_signal(&pidfd, libc::SIGKILL);
                }
            }
        }
    }
}

fn owner_of(scripts: &[(&str, &str)], options: HostOptions) -> Owner {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("logs")).unwrap();
    for (name, script) in scripts {
        std::fs::write(dir.path().join(format!("{name}.sh")), script).unwrap();
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["worker::process::tests::survival::owner", "--exact", "--ignored", "--nocapture"]);
    again.env(DIR, dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    if options.cgroups {
        again.env(CGROUPS, "1");
    }
    Owner { child: again.spawn().unwrap(), dir }
}

async fn clear(host: &ProcessHost, survivor: &Survivor) -> Cleared {
    let stop = StopSettings { timeout: std::time::Duration::from_millis(300), ..sh("").stop };
    host.clear(survivor, &stop, std::future::pending()).await
}

fn named<'a>(survivors: &'a [Survivor], name: &str) -> &'a Survivor {
    survivors.iter().find(|survivor| survivor.instance.to_string() == name).expect("it was not found")
}

#[tokio::test]
async fn survivors_of_a_killed_runtime_are_found_and_ended() {
    for options in ways() {
        let mut owner = owner_of(
            &[
                ("plain", "echo $$ > plain; exec sleep 1000"),
                ("deaf", "trap '' TERM; echo $$ > deaf; while :; do sleep 0.01; done"),
                // Its main process is killed from outside together with the runtime.
                ("leaver", &format!("{ESCAPEE} echo $$ > leaver; exec sleep 1000")),
            ],
            options,
        );
        let at = |name: &str| owner.dir.path().join(name);
        let mut pids = Vec::new();
        for name in ["plain", "deaf", "leaver", "escaped"] {
            pids.push(lines(&at(name), 1).await[0].parse::<u32>().unwrap());
        }
        owner.child.kill().unwrap();
        super::rig::signal(pids[2], libc::SIGKILL);
        owner.child.wait().unwrap();
        gone(pids[2]).await;
        assert!(pids[..2].iter().all(|pid| lives(*pid)), "workers outlive a runtime");

        let (host, _) = super::rig::host_at(owner.dir.path(), options);
        let survivors = host.survivors();
        assert_eq!(survivors.len(), 3);
        let plain = named(survivors, "plain");
        assert_eq!((plain.pid, plain.incarnation), (Some(pids[0]), Some(Incarnation(3))));
        assert_eq!(named(survivors, "leaver").pid, None, "only others of its tree live");

        // Before they are cleared, no second copy can be started.
        let mut settings = command(&["true"]);
        settings.name = Name::try_new("deaf").unwrap();
        settings.cwd = owner.dir.path().to_owned();
        let (mut second, mut reports) = runner(&host, &std::sync::Arc::new(settings));
        second.start(Incarnation(4));
        let report = super::rig::next(&mut reports).await;
        assert!(matches!(report, WorkerReport::StartFailed { .. }), "{report:?}");

        assert_eq!(clear(&host, named(survivors, "plain")).await, Cleared::Stopped);
        assert_eq!(clear(&host, named(survivors, "deaf")).await, Cleared::Killed);
        assert_eq!(clear(&host, named(survivors, "leaver")).await, Cleared::Swept);
        for pid in pids {
            gone(pid).await;
        }
        second.start(Incarnation(5));
        let report = super::rig::next(&mut reports).await;
        assert!(matches!(report, WorkerReport::Started { .. }), "{report:?}");
    }
}

#[tokio::test]
async fn a_survivor_that_has_closed_its_output_and_left_its_session_is_found_without_a_cgroup() {
    // It ignores TERM, so it outlives its main process; it holds no fence, and its parents are gone.
    // It says its number itself, once it is what it is to be: in the middle of an exec nobody can tell whose it is.
    let script = "mkfifo never; (setsid sh -c 'trap \"\" TERM; echo $$ > half; mv half escaped; read -r it < never' \
                  </dev/null >/dev/null 2>&1 &); echo $$ > plain; exec sleep 1000";
    for main_dies in [false, true] {
        let mut owner = owner_of(&[("plain", script)], NO_CGROUP);
        let at = |name: &str| owner.dir.path().join(name);
        let main = lines(&at("plain"), 1).await[0].parse::<u32>().unwrap();
        let escaped = lines(&at("escaped"), 1).await[0].parse::<u32>().unwrap();
        owner.child.kill().unwrap();
        if main_dies {
            super::rig::signal(main, libc::SIGKILL);
        }
        owner.child.wait().unwrap();
        if main_dies {
            gone(main).await;
        }
        assert!(lives(escaped));
        let (host, _) = super::rig::host_at(owner.dir.path(), NO_CGROUP);
        assert_eq!(clear(&host, named(host.survivors(), "plain")).await, Cleared::Swept);
        assert!(!lives(escaped), "a second copy would run beside it (main dies: {main_dies})");
    }
}

#[tokio::test]
async fn whoever_a_living_runtime_minds_is_left_alone_also_once_its_directory_was_moved_away() {
    for options in ways() {
        let mut owner = owner_of(&[("plain", "echo $$ > plain; exec sleep 1000")], options);
        let path = owner.dir.path().to_owned();
        let plain = lines(&path.join("plain"), 1).await[0].parse::<u32>().unwrap();
        let moved = path.with_extension("moved");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::create_dir_all(path.join("logs")).unwrap();
        let second = ProcessHost::open(&path, options).err();
        assert!(matches!(second, Some(OpenError::Lives(pid)) if pid == owner.child.id()), "{second:?}");
        assert!(lives(plain));
        owner.child.kill().unwrap();
        owner.child.wait().unwrap();
        let (host, _) = super::rig::host_at(&path, options);
        clear(&host, named(host.survivors(), "plain")).await;
        assert!(!lives(plain), "of a runtime that is gone it is a survivor");
        std::fs::remove_dir_all(moved).unwrap();
    }
}

#[tokio::test]
async fn without_a_record_a_copy_of_a_pool_is_found_and_known_by_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("logs")).unwrap();
    let state = dir.path().canonicalize().unwrap().join("w/parser-0/state");
    std::fs::create_dir_all(&state).unwrap();
    let mut left = Command::new("sleep");
    left.arg("1000").env("REGROW_INSTANCE", "parser/0").env("REGROW_STATE_DIR", &state);
    let mut left = left.spawn().unwrap();
    let (host, _) = super::rig::host_at(dir.path(), NO_CGROUP);
    let parser = Name::try_new("parser").unwrap();
    let known = [0, 1].map(|index| InstanceId::of_pool(parser.clone(), index));
    let found = host.survivors()[0].clone().called(known.clone());
    let cleared = clear(&host, &found).await;
    left.kill().unwrap();
    left.wait().unwrap();
    assert_eq!((found.instance, cleared), (known[0].clone(), Cleared::Swept));
}

#[tokio::test]
async fn a_recorded_pid_that_is_a_strangers_now_is_nobody() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("logs")).unwrap();
    let mut stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    drop(super::rig::host_at(dir.path(), NO_CGROUP));
    let record = dir.path().join("spawned");
    let head = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, format!("{head}w 1 {} 1\nw/0 1 {} 0\n", stranger.id(), stranger.id())).unwrap();
    let (host, _) = super::rig::host_at(dir.path(), NO_CGROUP);
    assert!(host.survivors().is_empty());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn orphans_are_reaped_and_workers_keep_their_status() {
    // In the owner's process orphans are taken in; its zombies would show as its children.
    let script = "n=0; while [ $n -lt 20 ]; do (setsid sh -c 'exit 3' &); n=$((n+1)); done; echo > forked; exec sleep 1000";
    let mut owner = owner_of(&[("plain", script)], NO_CGROUP);
    lines(&owner.dir.path().join("forked"), 1).await;
    let id = owner.child.id();
    until(|| (zombies_of(id) == 0).then_some(())).await;
    owner.child.kill().unwrap();
    owner.child.wait().unwrap();
    let (host, _) = super::rig::host_at(owner.dir.path(), NO_CGROUP);
    let plain = InstanceId::single(Name::try_new("plain").unwrap());
    assert_eq!(host.survivors().iter().map(|found| &found.instance).collect::<Vec<_>>(), [&plain]);
    assert_eq!(clear(&host, &host.survivors()[0]).await, Cleared::Stopped);
}

pub(super) fn zombies_of(parent: u32) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    stats
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| {
            let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
            fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
        })
        .count()
}
