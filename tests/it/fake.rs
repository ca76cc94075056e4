//! A runtime made of a board, a journal and a thread that answers orders: what the API and the command line see
//! of a real one, without a process in it.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use regrow::config::{Settings, Sources, load};
use regrow::event::{Cause, Event, EventKind};
use regrow::exit::Exit;
use regrow::http::Servers;
use regrow::id::{Incarnation, InstanceId, Name};
use regrow::policy::{Phase, Plan};
use regrow::runtime::{Act, ActError, Order, RuntimeHandle, RuntimeInfo, Target};
use regrow::supervisor::{Board, InstanceState, LastExit, Moment, NextAction, SupervisorState, Wanted};
use regrow::telemetry::Journal;
use tokio::sync::mpsc;

/// What the orders thread has seen.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) acts: AtomicU32,
    pub(crate) shutdowns: AtomicU32,
}

pub(crate) struct Fake {
    pub(crate) board: Board,
    pub(crate) journal: Journal,
    pub(crate) seen: Arc<Seen>,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) servers: Option<Servers>,
}

const CONFIG: &str = r#"
[runtime]
name = "orders"
state_dir = "@STATE@"
[supervisor.root]
children = ["ingest", "web"]
[supervisor.ingest]
strategy = "rest_for_one"
children = ["broker", "parser"]
[worker.broker]
command = ["./broker", "--quiet", "two words"]
critical = true
[worker.parser]
command = ["python3", "-m", "parser"]
instances = 2
[worker.web]
command = ["./web"]
[http]
listen = "127.0.0.1:0"
"#;

pub(crate) fn name(text: &str) -> Name {
    Name::try_new(text).unwrap()
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn settings(state_dir: &std::path::Path) -> Settings {
    let text = CONFIG.replace("@STATE@", &state_dir.display().to_string());
    // A pool may not be known to this build's loader; the fake does not need it.
    let text = text.replace("instances = 2\n", "");
    load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{}", problems.render(false))).settings
}

impl Fake {
    /// Four instances: one ready, one in backoff, one parked, one stopped by ann.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::in_folder(folder, "state", change)
    }

    pub(crate) fn in_folder(
        folder: tempfile::TempDir,
        below: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let state_dir = folder.path().join(below);
        std::fs::create_dir_all(&state_dir).unwrap();
        let mut settings = settings(&state_dir);
        change(&mut settings);
        let (board, journal) = (Board::new(), Journal::new());
        fill(&board);
        let (orders, queue) = mpsc::channel(16);
        let seen = Arc::new(Seen::default());
        answer(queue, board.clone(), journal.clone(), Arc::clone(&seen));
        let mut info = RuntimeInfo::new(settings);
        info.started_at = Moment::past(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(11_045));
        let handle = RuntimeHandle::new(board.clone(), journal.clone(), Arc::new(info), orders);
        let servers = Some(Servers::start(handle).unwrap());
        Self { board, journal, seen, folder, servers }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.state_dir().join("regrow.sock")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Where TCP is served.
    pub(crate) fn tcp(&self) -> std::net::SocketAddr {
        self.servers.as_ref().unwrap().public_address().unwrap()
    }

    /// Sends a request to the control socket, and returns status, head and body.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        exchange(&mut stream, &request(method, path, headers, body))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// Runs the program against this runtime.
    pub(crate) fn regrow(&self, args: &[&str]) -> Output {
        let socket = self.socket();
        let mut all = vec!["--socket", socket.to_str().unwrap()];
        all.extend(args);
        regrow(&all)
    }
}

/// Runs the program.
pub(crate) fn regrow(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_regrow"))
        .args(args)
        .env("TZ", "UTC")
        .env_remove("REGROW_CONTROL")
        .output()
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn code(&self) -> String {
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}{length}\r\n{body}")
}

/// Sends text and reads the whole answer.
pub(crate) fn exchange(stream: &mut (impl Read + Write), text: &str) -> Answer {
    // A server that answers early and closes is allowed to.
    let _ = stream.write_all(text.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Answer { status, head: head.to_owned(), body }
}

fn unchunk(mut rest: &str) -> String {
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        out.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    out
}

/// Waits for something that another thread brings about.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn fill(board: &Board) {
    let now = jiff::Timestamp::now();
    let ago = |seconds| now - jiff::SignedDuration::from_secs(seconds);
    let mut broker = InstanceState::new(id("broker"), name("ingest"), "process", true);
    broker.phase = Phase::Running;
    broker.ready = true;
    broker.pid = Some(std::process::id());
    broker.incarnation = Incarnation(1);
    broker.started_at = Some(ago(252));
    broker.since = ago(250);
    broker.budget_left = 10;
    broker.output.lines.store(12_345, Ordering::Relaxed);
    broker.output.bytes.store(1_300_000, Ordering::Relaxed);

    let mut backoff = InstanceState::new(id("parser/0"), name("ingest"), "process", false);
    backoff.phase = Phase::Backoff;
    backoff.incarnation = Incarnation(3);
    backoff.restarts = 2;
    backoff.restarts_by_cause.insert(Cause::Crash.into(), 2);
    (backoff.soft_restarts.ok, backoff.soft_restarts.failed) = (1, 1);
    backoff.since = ago(1);
    backoff.budget_left = 8;
    backoff.last_exit = Some(Box::new(LastExit {
        backtrace: None,
        exit: Exit::Exited { code: 1 },
        code: Some(1),
        incarnation: Incarnation(3),
        message: "exited with code 1: \u{1b}[31mboom\u{7}".to_owned(),
        at: ago(1),
    }));
    let hour = Moment::ahead(now + jiff::SignedDuration::from_secs(3600));
    backoff.next_action = Some(NextAction { what: Plan::SoftRestart, at: Some(hour) });

    let mut parked = InstanceState::new(id("parser/1"), name("ingest"), "process", false);
    parked.phase = Phase::Quarantined;
    parked.incarnation = Incarnation(11);
    parked.restarts = 10;
    parked.restarts_by_cause.insert(Cause::Oom.into(), 10);
    parked.since = ago(30);
    parked.issues.push("restart intensity is spent: 10 restarts in 5m".to_owned());
    parked.last_exit = Some(Box::new(LastExit {
        backtrace: None,
        exit: Exit::Oom,
        code: None,
        incarnation: Incarnation(11),
        message: "killed: out of memory".to_owned(),
        at: ago(30),
    }));

    let mut stopped = InstanceState::new(id("web"), name("root"), "process", false);
    stopped.wanted = Wanted::Stopped;
    stopped.wanted_by = Some(regrow::supervisor::Operator { by: "ann".to_owned(), at: ago(600) });
    stopped.incarnation = Incarnation(1);
    stopped.since = ago(600);
    for state in [broker, backoff, parked, stopped] {
        board.put(state);
    }
    for (supervisor, parent, strategy, children) in [
        ("root", None, "one_for_one", vec!["ingest", "web"]),
        ("ingest", Some("root"), "rest_for_one", vec!["broker", "parser/0", "parser/1"]),
    ] {
        board.put_supervisor(SupervisorState {
            name: name(supervisor),
            parent: parent.map(name),
            strategy,
            on_exhausted: "quarantine",
            max_restarts: 10,
            within_seconds: 300.0,
            children: children.into_iter().map(ToOwned::to_owned).collect(),
            phase: Phase::Running,
            restarts: 0,
        });
    }
}

/// The thread that answers orders as a willing tree would.
fn answer(mut queue: mpsc::Receiver<Order>, board: Board, journal: Journal, seen: Arc<Seen>) {
    std::thread::spawn(move || {
        while let Some(order) = queue.blocking_recv() {
            match order {
                Order::Act { targets, act, by, reply } => {
                    let mut event =
                        Event::new(EventKind::ActionRequested, format!("{act:?} asked by {}", by.0));
                    event.data.insert("by".to_owned(), by.0.into());
                    journal.emit(event);
                    let missing = targets.iter().find(|target| instances(&board, target).is_empty());
                    let answer = match missing {
                        Some(target) => Err(ActError::NotFound(target.to_string())),
                        None => {
                            let ids: Vec<_> =
                                targets.iter().flat_map(|target| instances(&board, target)).collect();
                            ids.iter().for_each(|id| obey(&board, id, act));
                            Ok(ids)
                        }
                    };
                    // Whoever sees the number finds the order obeyed.
                    seen.acts.fetch_add(1, Ordering::SeqCst);
                    let _ = reply.send(answer);
                }
                Order::Mend { reply, .. } => {
                    let _ = reply.send(Err(ActError::ShuttingDown));
                }
                Order::Edit { reply, .. } => {
                    let _ = reply.send(Err(ActError::ShuttingDown));
                }
                Order::Shutdown { .. } | Order::Kill { .. } => {
                    seen.shutdowns.fetch_add(1, Ordering::SeqCst);
                }
                Order::Ping { reply } => {
                    let _ = reply.send(());
                }
            }
        }
    });
}

fn instances(board: &Board, target: &Target) -> Vec<InstanceId> {
    let all = board.instances().into_iter();
    let fits = |state: &InstanceState| match target {
        Target::All => true,
        Target::Worker(name) => state.instance.worker() == name,
        Target::Instance(id) => state.instance == *id,
        Target::Supervisor(name) => state.supervisor == *name,
    };
    all.filter(fits).map(|state| state.instance).collect()
}

fn obey(board: &Board, id: &InstanceId, act: Act) {
    // `web` never comes up, so that a wait can run out.
    let never = id.to_string() == "web";
    board.update(id, |state| match act {
        Act::Stop => {
            state.phase = Phase::Stopped;
            state.wanted = Wanted::Stopped;
            state.ready = false;
            state.pid = None;
        }
        Act::Pause { .. } => state.wanted = Wanted::Paused,
        Act::Resume => state.wanted = Wanted::Running,
        Act::Signal(_) | Act::Reload | Act::Roll { .. } | Act::Scale { .. } => {}
        Act::Start | Act::Restart | Act::ResetFailed => {
            state.incarnation = state.incarnation.next();
            state.wanted = Wanted::Running;
            state.phase = if never { Phase::Starting } else { Phase::Running };
            state.ready = !never;
            state.next_action = None;
            state.pid = Some(std::process::id());
            state.started_at = Some(jiff::Timestamp::now());
        }
    });
}
