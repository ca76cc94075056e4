//! Ends: every way a process can end, told apart.

use std::sync::Arc;

use crate::config::{ReadyWhen, StopTo};
use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::worker::WorkerReport;
use crate::worker::mailbox::mailbox;
use crate::worker::process::life::Life;
use crate::worker::process::site::Site;
use crate::worker::unix::pidfd_open;

use super::rig::{NO_CGROUP, Rig, command, gone, lines, sh, signal, ways};

#[tokio::test]
async fn every_kind_of_end_is_told_as_it_was() {
    let cases = [
        ("exit 0", Exit::Exited { code: 0 }),
        ("exit 42", Exit::Exited { code: 42 }),
        ("kill -KILL $$", Exit::Signaled { signal: 9 }),
        ("kill -USR1 $$", Exit::Signaled { signal: 10 }),
    ];
    for (script, exit) in cases {
        let mut rig = Rig::new(sh(script));
        rig.up(1).await;
        assert_eq!(rig.exit().await, exit, "{script}");
    }
}

#[tokio::test]
async fn who_ends_when_asked_is_stopped() {
    for (script, to) in [("exec sleep 1000", StopTo::Main), ("sleep 1000; true", StopTo::Group)] {
        let mut settings = sh(&format!("echo > up; {script}"));
        settings.stop.to = to;
        let mut rig = Rig::new(settings);
        rig.up(1).await;
        lines(&rig.path("up"), 1).await;
        rig.runner.stop();
        assert_eq!(rig.exit().await, Exit::Stopped, "{script}");
    }
}

#[tokio::test]
async fn a_stop_that_overtakes_the_start_still_ends_it() {
    let mut rig = Rig::new(command(&["sleep", "1000"]));
    rig.runner.start(Incarnation(1));
    rig.runner.stop();
    assert_eq!(rig.exit().await, Exit::Stopped);
}

#[tokio::test]
async fn who_ignores_the_signal_is_killed() {
    for options in ways() {
        let mut rig = Rig::with(
            sh("trap 'echo asked >> asked' TERM; echo > up; while :; do sleep 0.01; done"),
            options,
        );
        rig.up(1).await;
        lines(&rig.path("up"), 1).await;
        rig.runner.stop();
        lines(&rig.path("asked"), 1).await;
        rig.runner.kill();
        assert_eq!(rig.exit().await, Exit::Killed);
    }
}

#[tokio::test]
async fn a_stopped_process_can_be_asked_and_killed() {
    let mut rig = Rig::new(command(&["sleep", "1000"]));
    let pid = rig.up(1).await;
    signal(pid, libc::SIGSTOP);
    rig.runner.stop();
    assert_eq!(rig.exit().await, Exit::Stopped, "CONT follows the signal");
    let pid = rig.up(2).await;
    signal(pid, libc::SIGSTOP);
    rig.runner.kill();
    assert_eq!(rig.exit().await, Exit::Killed);
}

#[tokio::test]
async fn an_end_before_ready_is_a_failed_start() {
    let mut settings = sh("exit 0");
    settings.ready = ReadyWhen::Notify;
    let failure = Rig::new(settings).start_failure().await;
    assert_eq!(failure, StartFailure::BeforeReady { ended: Box::new(Exit::Exited { code: 0 }) });
}

#[tokio::test]
async fn what_no_kernel_holds_back_is_counted_and_killed() {
    let mut hungry = command(&["python3", "-c", "import time\nkept = bytearray(300 << 20)\ntime.sleep(999)"]);
    hungry.isolation.limits.memory = Some(100 << 20);
    let mut many = sh("for i in 1 2 3 4 5 6; do sleep 1000 & done; wait");
    many.isolation.limits.processes = Some(5);
    for (settings, end, word) in
        [(hungry, Exit::Oom, "limits.memory"), (many, Exit::Killed, "limits.processes")]
    {
        let mut rig = Rig::with(settings, NO_CGROUP);
        rig.runner.start(Incarnation(1));
        let WorkerReport::Notes { texts } = rig.next().await else { panic!("nothing was told") };
        assert!(texts[0].contains(word) && texts[0].contains("polled"), "{texts:?}");
        let mut hints = Vec::new();
        let exit = loop {
            match rig.next().await {
                WorkerReport::Hint { text } => hints.push(text),
                WorkerReport::Exited { exit } => break exit,
                _ => {}
            }
        };
        assert_eq!(exit, end);
        assert!(hints[0].contains(word), "{hints:?}");
    }
}

#[tokio::test]
async fn memory_that_forks_share_is_counted_once() {
    let mut forks = command(&[
        "python3",
        "-c",
        "import os,time\nkept = bytearray(60 << 20)\n[os.fork() == 0 and time.sleep(999) for _ in range(4)]\nopen('up','w').write('x' + chr(10))\ntime.sleep(999)",
    ]);
    forks.isolation.limits.memory = Some(150 << 20);
    let mut rig = Rig::with(forks, NO_CGROUP);
    let pid = rig.up(1).await;
    lines(&rig.path("up"), 1).await;
    let target = super::super::tree::Target::new(&"w".parse().unwrap(), &rig.path("state"), &rig.path("out"))
        .with(Some(pid), Some(pid));
    let usage = super::super::tree::usage(&target, pid, None, Some(150 << 20));
    assert_eq!(usage.processes, 5);
    assert!((60 << 20..150 << 20).contains(&usage.memory), "{usage:?}");
    rig.runner.kill();
    assert_eq!(rig.exit().await, Exit::Killed);
}

#[tokio::test]
async fn the_last_words_follow_the_end() {
    let mut rig = Rig::new(sh("echo first; echo last >&2; exit 1"));
    rig.up(1).await;
    rig.exit().await;
    let WorkerReport::LastWords { lines } = rig.next().await else { panic!("no last words") };
    assert_eq!(lines, ["first", "last"]);
}

#[tokio::test]
async fn the_last_words_give_no_secret_away() {
    let mut rig =
        Rig::new(sh("echo REGROW_TOKEN=$REGROW_TOKEN; echo Authorization: Bearer abcdefgh >&2; exit 1"));
    rig.up(1).await;
    rig.exit().await;
    let WorkerReport::LastWords { lines } = rig.next().await else { panic!("no last words") };
    assert_eq!(lines, ["REGROW_TOKEN=(hidden)", "Authorization: Bearer (hidden)"]);
}

#[tokio::test]
async fn closing_its_output_is_no_end() {
    for options in ways() {
        let mut rig = Rig::with(sh("exec >&- 2>&-; echo > closed; exec sleep 1000"), options);
        let pid = rig.up(1).await;
        lines(&rig.path("closed"), 1).await;
        assert!(super::rig::lives(pid));
        rig.runner.stop();
        assert_eq!(rig.exit().await, Exit::Stopped);
        rig.up(2).await;
        rig.runner.kill();
        rig.exit().await;
    }
}

#[tokio::test]
async fn one_that_cannot_be_watched_is_ended_with_all_that_it_started() {
    let rig = Rig::with(sh("exit 0"), NO_CGROUP);
    let (instance, settings) = ("w".parse().unwrap(), rig.settings.clone());
    let site = Site::new(rig.host.clone(), instance, settings, Arc::default());
    let (_commands, inbox) = mailbox();
    let mut life = Life::new(Arc::new(site), Arc::new(|_, _| {}), inbox);
    let script = "sleep 1000 & echo $! > below.new; mv below.new below; exec sleep 1000";
    let mut child = std::process::Command::new("setsid");
    child.args(["sh", "-c", script]).current_dir(rig.dir.path());
    let mut child = child.spawn().unwrap();
    let below = lines(&rig.path("below"), 1).await[0].parse().unwrap();
    let pidfd = pidfd_open(child.id()).unwrap();
    life.end_unwatched(child.id(), &pidfd).await;
    assert!(child.wait().is_err(), "its status was taken");
    gone(below).await;
}
