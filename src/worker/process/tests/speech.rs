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
        super::rig::left_out("what workers say needs python3");
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

/// A program that asks on its own socket, with what it was given, and writes the answers down.
fn caller(requests: &str) -> crate::config::WorkerSettings {
    let script = format!(
        "import http.client,json,os,socket,time\n\
         class C(http.client.HTTPConnection):\n    def connect(self):\n        self.sock=socket.socket(socket.AF_UNIX); self.sock.connect(os.environ['REGROW_SOCKET'])\n\
         def ask(method, what, body=None, token=os.environ['REGROW_TOKEN']):\n    c=C('w'); c.request(method,'/worker/v1/'+what,body,dict(Authorization='Bearer '+token)); r=c.getresponse(); return r.status, r.read()\n\
         {requests}\n\
         os.rename('answers.new','answers')\n\
         time.sleep(1000)"
    );
    let mut settings = command(&["python3", "-c", &script]);
    settings.ready = ReadyWhen::Notify;
    settings
}

#[tokio::test]
async fn over_its_own_socket_it_is_ready_beats_and_keeps_what_the_next_one_finds() {
    if !can_speak() {
        return;
    }
    let mut rig = Rig::new(caller(
        "w=open('answers.new','w')\n\
         print(ask('GET','state'), file=w)\n\
         print(ask('PUT','state','of '+os.environ['REGROW_INCARNATION'])[0], file=w)\n\
         print(ask('POST','heartbeat',json.dumps(dict(progress=1)))[0], file=w)\n\
         print(ask('POST','ready')[0], file=w)\n\
         w.close()",
    ));
    for (n, found) in [(1, "(404, b'"), (2, "(200, b'of 1')")] {
        rig.runner.start(Incarnation(n));
        assert!(matches!(rig.next_but_noise().await, WorkerReport::Started { .. }));
        assert_eq!(rig.next_but_noise().await, WorkerReport::Beat);
        let figures = WorkerReport::Figures { progress: Some(1.0), moved: true, metrics: Vec::new() };
        assert_eq!(rig.next_but_noise().await, figures);
        assert_eq!(rig.next_but_noise().await, WorkerReport::Ready);
        let answers = super::rig::lines(&rig.path("answers"), 4).await;
        assert!(answers[0].starts_with(found) && answers[1..] == ["200", "200", "200"], "{answers:?}");
        std::fs::remove_file(rig.path("answers")).unwrap();
        rig.runner.kill();
        assert_eq!(rig.exit().await, Exit::Killed);
    }
}

#[tokio::test]
async fn with_a_heartbeat_it_knows_that_it_is_the_one_who_is_to_beat() {
    let mut settings = sh("env > env.new; echo pid $$ >> env.new; mv env.new env; exec sleep 1000");
    settings.heartbeat = Some(crate::config::HeartbeatSettings::default());
    let mut rig = Rig::new(settings);
    rig.up(1).await;
    let env = super::rig::lines(&rig.path("env"), 6).await;
    let pid = env.iter().find_map(|line| line.strip_prefix("pid ")).unwrap();
    assert!(
        env.contains(&format!("WATCHDOG_PID={pid}")) && env.contains(&"WATCHDOG_USEC=10000000".to_owned()),
        "{env:?}"
    );
    rig.runner.kill();
    rig.exit().await;
}

#[tokio::test]
async fn a_flood_of_notifications_puts_off_none_of_its_limits() {
    if !can_speak() {
        return;
    }
    // Others than the main process: whether they are the worker's takes longer to find out than to send.
    let script = "import os,socket,time\n\
         s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n\
         if os.fork() == 0 or os.fork() == 0:\n    while True: s.sendto(b'WATCHDOG=1', os.environ['NOTIFY_SOCKET'])\n\
         kept = bytearray(300 << 20)\n\
         time.sleep(1000)";
    let mut settings = command(&["python3", "-c", script]);
    settings.isolation.limits.memory = Some(100 << 20);
    let mut rig = Rig::with(settings, super::rig::NO_CGROUP);
    rig.runner.start(Incarnation(1));
    let ended = tokio::time::timeout(super::rig::PATIENCE, rig.exit()).await;
    assert_eq!(ended.expect("its limit was never looked at"), Exit::Oom);
}
