//! Whole trees: grandchildren, escapes, and fences that hold.

use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::worker::WorkerReport;

use super::rig::{NO_CGROUP, Rig, gone, left_out, lines, lives, sh, signal, until, ways};

/// A double fork into a session of its own: its parents end at once.
const ESCAPEE: &str = "(setsid sh -c 'echo $$ > escaped.new; mv escaped.new escaped; exec sleep 1000' &) ; ";

async fn escaped(rig: &Rig) -> u32 {
    lines(&rig.path("escaped"), 1).await[0].parse().unwrap()
}

#[tokio::test]
async fn a_kill_reaches_who_escaped_from_the_session() {
    for options in ways() {
        let mut rig = Rig::with(sh(&format!("{ESCAPEE} exec sleep 1000")), options);
        let pid = rig.up(1).await;
        let escapee = escaped(&rig).await;
        assert!(lives(escapee));
        rig.runner.kill();
        assert_eq!(rig.exit().await, Exit::Killed);
        assert!(!lives(pid) && !lives(escapee), "the end was told while somebody lived");
    }
}

#[tokio::test]
async fn leftovers_are_killed_before_the_end_is_told() {
    for options in ways() {
        let script = format!("{ESCAPEE} while [ ! -e escaped ]; do sleep 0.01; done; exit 5");
        let mut rig = Rig::with(sh(&script), options);
        rig.up(1).await;
        let report = rig.next_but_noise().await;
        assert_eq!(report, WorkerReport::Leftovers { count: Some(1) });
        assert_eq!(rig.exit().await, Exit::Exited { code: 5 });
        assert!(!lives(escaped(&rig).await));
    }
}

#[tokio::test]
async fn a_held_fence_forbids_a_start() {
    let mut rig = Rig::with(sh("exit 0"), NO_CGROUP);
    rig.up(1).await;
    rig.exit().await;
    rig.renew().await;
    let held = crate::worker::process::layout::take_fence(&rig.path("w/w/out")).unwrap().unwrap();
    // Somebody of an earlier incarnation: a process that inherited the open file.
    let mut child = std::process::Command::new("sleep").arg("1000").stdout(held).spawn().unwrap();
    rig.runner.start(Incarnation(2));
    let Exit::StartFailed(failure) = rig.exit().await else { panic!("a second copy ran") };
    assert!(matches!(failure, StartFailure::StillAlive { .. }), "{failure:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    rig.up(3).await;
}

#[tokio::test]
async fn a_tree_that_forks_all_the_time_dies_too() {
    for options in ways() {
        let script = "f() { (setsid sleep 1000 &); }; echo > up; while :; do f; sleep 0.001; done";
        let mut rig = Rig::with(sh(script), options);
        rig.up(1).await;
        lines(&rig.path("up"), 1).await;
        rig.runner.kill();
        assert_eq!(rig.exit().await, Exit::Killed);
        let target = rig.dir.path().join("w/w/state");
        let mark = format!("REGROW_STATE_DIR={}", target.canonicalize().unwrap().display());
        let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let pid: Option<u32> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            pid.is_some_and(lives) && environ.split(|byte| *byte == 0).any(|found| found == mark.as_bytes())
        });
        assert_eq!(left.count(), 0);
    }
}

#[tokio::test]
async fn cgroups_are_gone_when_the_host_is() {
    let mut rig = Rig::new(sh("exec sleep 1000"));
    let Some(root) = rig.host.cgroups.as_ref().map(|root| root.dir().to_owned()) else {
        return left_out("no cgroup can be made here");
    };
    let pid = rig.up(1).await;
    assert!(root.join("w").is_dir());
    signal(pid, libc::SIGKILL);
    rig.exit().await;
    gone(pid).await;
    drop(rig);
    until(|| (!root.exists()).then_some(())).await;
}

#[tokio::test]
async fn who_is_being_started_is_never_taken_for_a_leftover() {
    // Many short lives beside many killed trees: a child that has our descriptors for a moment must not be killed.
    let mut rigs: Vec<Rig> = (0..4).map(|_| Rig::with(sh("exec sleep 1000"), NO_CGROUP)).collect();
    let mut short = Rig::with(super::rig::command(&["true"]), NO_CGROUP);
    for n in 1..=40 {
        for rig in &mut rigs {
            rig.runner.start(Incarnation(n));
            rig.runner.kill();
        }
        short.up(n).await;
        assert_eq!(short.exit().await, Exit::Exited { code: 0 });
        for rig in &mut rigs {
            assert_eq!(rig.exit().await, Exit::Killed);
        }
    }
}

#[tokio::test]
async fn a_worker_that_nobody_supervises_any_more_is_killed_and_its_successor_starts() {
    for options in ways() {
        let mut rig = Rig::with(sh("trap '' TERM; while :; do sleep 0.01; done"), options);
        let orphan = rig.up(1).await;
        rig.renew().await;
        gone(orphan).await;
        rig.up(2).await;
        rig.runner.kill();
        rig.exit().await;
    }
}
