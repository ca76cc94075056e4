//! What a worker may say, and who may say it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::mpsc::{Receiver, channel};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::worker::WorkerReport;

/// A socket whose incarnation 3 may speak, served as a runner would.
struct Rig {
    dir: tempfile::TempDir,
    talk: Arc<Talk>,
    token: Token,
    told: Receiver<(Incarnation, WorkerReport)>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let (tell, told) = channel();
        let report: Reporter = Arc::new(move |n, report| drop(tell.send((n, report))));
        let talk = Arc::new(Talk::bind(&dir.path().join("talk"), state, report).unwrap());
        let served = Arc::clone(&talk);
        tokio::spawn(async move {
            loop {
                served.accept().await.serve();
            }
        });
        let rig = Self { dir, talk, token: Token::fresh().unwrap(), told };
        rig.admit(3, rig.token.clone());
        rig
    }

    fn admit(&self, n: u64, token: Token) {
        self.talk.admit(Incarnation(n), token, Box::new(|text| text.replace("hunter2", "[secret]")));
    }

    async fn raw(&self, request: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = UnixStream::connect(self.dir.path().join("talk")).await.unwrap();
        // Who is refused early hangs up early.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let all = async { while stream.read_buf(&mut answer).await.is_ok_and(|count| count > 0) {} };
        tokio::time::timeout(Duration::from_secs(30), all).await.expect("it answers");
        let head = memchr::memmem::find(&answer, b"\r\n\r\n").expect("a whole head");
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer.split_off(head + 4))
    }

    async fn ask_as(&self, token: &str, method: &str, what: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let head = format!(
            "{method} /worker/v1/{what} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    async fn ask(&self, method: &str, what: &str, body: &str) -> (u16, String) {
        let (status, body) = self.ask_as(self.token.secret(), method, what, body.as_bytes()).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn told(&self) -> Vec<WorkerReport> {
        self.told
            .try_iter()
            .map(|(n, report)| {
                assert_eq!(n, Incarnation(3));
                report
            })
            .collect()
    }
}

#[tokio::test]
async fn a_heartbeat_says_that_it_lives_and_how_far_it_is() {
    let rig = Rig::new();
    assert_eq!(rig.ask("POST", "heartbeat", "").await.0, 200);
    assert_eq!(rig.told(), [WorkerReport::Beat]);
    let body = r#"{"status":"row 7 of hunter2\u001b","progress":7,"metrics":{"rows":7.5,"a/hunter2":-1}}"#;
    for moved in [true, false] {
        assert_eq!(rig.ask("POST", "heartbeat", body).await, (200, "{\"ok\":true}".to_owned()));
        let figures = vec![("a/[secret]".to_owned(), -1.0), ("rows".to_owned(), 7.5)];
        let expected = [
            WorkerReport::Beat,
            WorkerReport::Status { text: "row 7 of [secret] ".to_owned() },
            WorkerReport::Figures { progress: Some(7.0), moved, metrics: figures },
        ];
        assert_eq!(rig.told(), expected);
    }
}

#[tokio::test]
async fn readiness_and_errors_are_passed_on() {
    let rig = Rig::new();
    assert_eq!(rig.ask("POST", "ready", "").await.0, 200);
    let ready = tokio::time::timeout(Duration::from_secs(30), rig.talk.said_ready()).await;
    assert_eq!(ready.unwrap(), Incarnation(3));
    assert_eq!(rig.ask("POST", "error", r#"{"class":"broker_gone","message":"no hunter2"}"#).await.0, 200);
    let trouble =
        WorkerReport::Trouble { class: Some("broker_gone".to_owned()), message: "no [secret]".to_owned() };
    assert_eq!(rig.told(), [trouble]);
    assert_eq!(rig.ask("POST", "error", r#"{"class":"db:hunter2"}"#).await.0, 200);
    let trouble = WorkerReport::Trouble { class: Some("db:[secret]".to_owned()), message: String::new() };
    assert_eq!(rig.told(), [trouble], "a class is shown, too");
}

#[tokio::test]
async fn who_has_no_token_of_this_incarnation_speaks_for_nobody() {
    let rig = Rig::new();
    let (status, body) =
        rig.raw(b"POST /worker/v1/ready HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n").await;
    assert!(status == 401 && String::from_utf8_lossy(&body).contains("REGROW_TOKEN"));
    let strangers =
        [Token::fresh().unwrap().secret().to_owned(), String::new(), rig.token.secret()[..31].to_owned()];
    for token in &strangers {
        assert_eq!(rig.ask_as(token, "POST", "heartbeat", b"").await.0, 401);
    }
    let next = Token::fresh().unwrap();
    rig.admit(4, next.clone());
    assert_eq!(rig.ask("POST", "heartbeat", "").await.0, 401, "the one before is over");
    assert_eq!(rig.ask_as(next.secret(), "PUT", "state", b"x").await.0, 200);
    assert_eq!(rig.told().len(), 0);
    assert_eq!(format!("{next:?}"), "Token(…)");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_what_would() {
    let rig = Rig::new();
    for (method, what, body, status, says) in [
        ("GET", "heartbeat", "", 405, "POST /worker/v1/heartbeat"),
        ("DELETE", "state", "", 405, "GET what is kept"),
        ("POST", "lease", "{}", 404, "/worker/v1/heartbeat"),
        ("POST", "heartbeat", "{", 400, "EOF"),
        ("POST", "heartbeat", r#"{"state":"x"}"#, 400, "unknown field `state`"),
        ("POST", "heartbeat", r#"{"metrics":{"a b":1}}"#, 400, "no name of a figure"),
        ("POST", "error", r#"{"class":""}"#, 400, "no name of an error class"),
    ] {
        let (found, text) = rig.ask(method, what, body).await;
        assert!(found == status && text.contains(says), "{method} {what}: {found} {text}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("\"m{n}\":1")).collect();
    let (status, text) =
        rig.ask("POST", "heartbeat", &format!("{{\"metrics\":{{{}}}}}", many.join(","))).await;
    assert!(status == 400 && text.contains("at most 32"), "{text}");
    assert_eq!(rig.ask("POST", "error", &"x".repeat(70_000)).await.0, 413);
    assert_eq!(rig.told().len(), 0);
}

#[tokio::test]
async fn a_state_is_kept_whole_and_a_broken_one_is_put_aside() {
    let rig = Rig::new();
    let state = rig.dir.path().join("state");
    assert_eq!(rig.ask("GET", "state", "").await.0, 404);
    for bytes in [&b"\x00\xff first"[..], b"", &vec![7; 3 << 20]] {
        assert_eq!(rig.ask_as(rig.token.secret(), "PUT", "state", bytes).await.0, 200);
        let kept = rig.ask_as(rig.token.secret(), "GET", "state", b"").await;
        assert!(kept.0 == 200 && kept.1 == bytes);
    }
    let file = state.join("worker.saved");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    let mut torn = std::fs::read(&file).unwrap();
    torn.truncate(torn.len() / 2);
    std::fs::write(&file, torn).unwrap();
    let (status, text) = rig.ask("GET", "state", "").await;
    assert!(status == 500 && text.contains("worker.saved.unreadable"), "{text}");
    assert_eq!(rig.ask("GET", "state", "").await.0, 404);
}

#[tokio::test]
async fn a_link_in_the_place_of_its_state_leads_nowhere() {
    let rig = Rig::new();
    let (state, other) = (rig.dir.path().join("state"), rig.dir.path().join("other"));
    std::fs::write(&other, "precious").unwrap();
    for link in [true, false] {
        let _ = std::fs::remove_file(state.join("worker.saved"));
        if link {
            std::os::unix::fs::symlink(&other, state.join("worker.saved")).unwrap();
        } else {
            std::fs::hard_link(&other, state.join("worker.saved")).unwrap();
        }
        std::os::unix::fs::symlink(&other, state.join("worker.saved.new")).unwrap();
        assert_eq!(rig.ask("GET", "state", "").await.0, 500);
        assert_eq!(rig.ask("PUT", "state", "mine").await.0, 200);
        assert_eq!(std::fs::read(&other).unwrap(), b"precious");
        assert_eq!(rig.ask("GET", "state", "").await, (200, "mine".to_owned()));
    }
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn one_that_stalls_holds_up_nobody_and_more_than_a_few_wait_for_their_turn() {
    let rig = Rig::new();
    let mut stalled = Vec::new();
    for _ in 0..CONNECTIONS - 1 {
        let mut stream = UnixStream::connect(rig.dir.path().join("talk")).await.unwrap();
        stream.write_all(b"POST /worker/v1/he").await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(rig.ask("POST", "heartbeat", "").await.0, 200);
    stalled.push(UnixStream::connect(rig.dir.path().join("talk")).await.unwrap());
    let late = rig.ask("POST", "heartbeat", "");
    let leave = async { drop(stalled) };
    let (late, ()) = tokio::join!(late, leave);
    assert_eq!(late.0, 200);
}

#[tokio::test]
async fn who_is_refused_is_heard_out_and_may_ask_again() {
    let rig = Rig::new();
    let mut stream = UnixStream::connect(rig.dir.path().join("talk")).await.unwrap();
    let head = |token: &str| {
        format!(
            "POST /worker/v1/heartbeat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n"
        )
    };
    for (token, status) in [("stale", "401"), (rig.token.secret(), "200")] {
        stream.write_all(head(token).as_bytes()).await.unwrap();
        // Whoever sends it apart lets the other side get on meanwhile.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"{}").await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains('}') {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it was closed: {status}");
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}
