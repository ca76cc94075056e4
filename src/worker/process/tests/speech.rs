//! What workers say: readiness, status, lies.

use std::time::Duration;

use crate::config::ReadyWhen;
use crate::exit::Exit;
use crate::id::Incarnation;
use crate::worker::WorkerReport;

use super::rig::{PLAIN, Rig, command, sh, signal};

/// Only Python can be asked to send datagrams on every machine with a shell; without it, what it would have shown
/// is left out.
fn can_speak() -> bool {
    let can = std::process::Command::new("python3").arg("-V").output().is_ok();
    if !can {
        println!("left out: what workers say needs python3");
    }
    can
}

/// Sends datagrams and stays.
fn speaker(messages: &str) -> crate::config::WorkerSettings {
    let script = format!(
        "import os,socket,sys,time\n\
         s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
         for m in {messages}:\n    s.sendto(m.encode(), os.environ['NOTIFY_SOCKET'])\n\
         time.sleep(1000)"
    );
    let mut settings = command(&["python3", "-c", &script]);
    settings.ready = ReadyWhen::Notify;
    settings
}

#[tokio::test]
async fn it_is_ready_when_it_says_so_and_everything_else_is_passed_on() {
    if !can_speak() {
        return;
    }
    let mut rig = Rig::new(speaker(
        "['STATUS=warming up', 'READY=1', 'WATCHDOG=1', 'EXTEND_TIMEOUT_USEC=2000000', 'RELOADING=1', 'READY=1', 'STOPPING=1']",
    ));
    rig.runner.start(Incarnation(1));
    assert!(matches!(rig.next().await, WorkerReport::Started { .. }));
    let expected = [
        WorkerReport::Status { text: "warming up".to_owned() },
        WorkerReport::Ready,
        WorkerReport::Beat,
        WorkerReport::Extend { by: Duration::from_secs(2) },
        WorkerReport::Reloading,
        WorkerReport::Ready,
        WorkerReport::Stopping,
    ];
    for report in expected {
        assert_eq!(rig.next().await, report);
    }
    rig.runner.kill();
    assert_eq!(rig.exit().await, Exit::Killed);
}

#[tokio::test]
async fn a_stranger_cannot_make_it_ready() {
    let mut settings = command(&["sleep", "1000"]);
    settings.ready = ReadyWhen::Notify;
    let mut rig = Rig::new(settings);
    rig.runner.start(Incarnation(1));
    assert!(matches!(rig.next().await, WorkerReport::Started { .. }));
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", rig.path("w/w/notify")).unwrap();
    rig.runner.stop();
    assert_eq!(rig.next().await, WorkerReport::Exited { exit: Exit::Stopped });
}

#[tokio::test]
async fn a_line_makes_it_ready_and_an_old_line_does_not() {
    let mut settings = sh("[ $REGROW_INCARNATION = 1 ] && echo listening on 80; exec sleep 1000");
    settings.ready = ReadyWhen::Log(regex::bytes::Regex::new("listening on").unwrap());
    let mut rig = Rig::with(settings, PLAIN);
    let pid = rig.up(1).await;
    signal(pid, libc::SIGKILL);
    assert_eq!(rig.exit().await, Exit::Signaled { signal: 9 });
    rig.runner.start(Incarnation(2));
    assert!(matches!(rig.next_but_noise().await, WorkerReport::Started { .. }));
    rig.runner.stop();
    assert_eq!(rig.next_but_noise().await, WorkerReport::Exited { exit: Exit::Stopped });
}

#[tokio::test]
async fn the_main_process_can_be_another_one() {
    if !can_speak() {
        return;
    }
    let script = "import os,socket,time\n\
         s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
         pid=os.fork()\n\
         if pid == 0:\n    time.sleep(1000)\n\
         s.sendto(f'MAINPID={pid}\\nREADY=1'.encode(), os.environ['NOTIFY_SOCKET'])\n\
         time.sleep(1000)";
    let mut settings = command(&["python3", "-c", script]);
    settings.ready = ReadyWhen::Notify;
    let mut rig = Rig::new(settings);
    rig.runner.start(Incarnation(1));
    assert!(matches!(rig.next().await, WorkerReport::Started { .. }));
    let WorkerReport::MainPid { pid } = rig.next().await else { panic!("no MAINPID") };
    assert_eq!(rig.next().await, WorkerReport::Ready);
    // Its end is the worker's end, and the one who forked it is a leftover.
    signal(pid, libc::SIGKILL);
    assert!(matches!(rig.next().await, WorkerReport::Leftovers { .. }));
    rig.exit().await;
}
