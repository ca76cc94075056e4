//! Actor workers in a whole runtime, embedded in this process: what a panic, a bad `Drop` or code that never ends
//! means for the tree around it. What one worker promises by itself is tested beside its code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use regrow::exit::Exit;
use regrow::policy::Phase;
use regrow::{
    Asker, CallError, Context, EventKind, Finished, InstanceState, Reply, Restored, Runtime, RuntimeHandle,
    StartError, Worker, WorkerError,
};

use crate::rig::PATIENCE;

/// Bytes of a message that nobody wants to keep.
const HUGE: usize = 5_000_000;

/// A worker that does as it is told.
struct Puppet {
    bombs: Vec<Bomb>,
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb in Drop");
    }
}

enum Do {
    Panic,
    Fail,
    PanicAtLength,
    FailAtLength,
    Bomb(Reply<()>),
    /// Never yields until it may.
    Spin(Arc<AtomicBool>, Reply<()>),
    Incarnation(Reply<u64>),
}

impl Worker for Puppet {
    type Config = ();
    type State = ();
    type Message = Do;

    async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        Ok(Self { bombs: Vec::new() })
    }

    async fn message(&mut self, message: Do, ctx: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Do::Panic => panic!("on the wire"),
            Do::Fail => Err("out of ink")?,
            Do::PanicAtLength => panic!("{}", "x".repeat(HUGE)),
            Do::FailAtLength => Err("x".repeat(HUGE))?,
            Do::Bomb(reply) => {
                self.bombs.push(Bomb);
                reply.send(());
            }
            Do::Spin(enough, began) => {
                began.send(());
                while !enough.load(Ordering::Relaxed) {}
            }
            Do::Incarnation(reply) => reply.send(ctx.incarnation().0),
        }
        Ok(())
    }
}

/// A runtime on a directory of its own; gone with it.
struct Guest {
    handle: RuntimeHandle,
    _dir: tempfile::TempDir,
}

impl Guest {
    async fn start(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let handle = Runtime::builder()
            .worker::<Puppet>("Puppet")
            .panic_hook()
            .toml(toml)
            .set("runtime.state_dir", dir.path().join("state").display().to_string())
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        handle.wait_ready(PATIENCE).await.unwrap();
        Self { handle, _dir: dir }
    }

    fn entry(&self, id: &str) -> InstanceState {
        self.handle.board().instance(&id.parse().unwrap()).unwrap()
    }

    /// Waits until an instance is as it should be.
    async fn until(&self, id: &str, like: impl Fn(&InstanceState) -> bool) -> InstanceState {
        let mut changes = self.handle.board().watch();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let entry = self.entry(id);
            if like(&entry) {
                return entry;
            }
            let change = tokio::time::timeout_at(end, changes.changed()).await;
            assert!(change.is_ok(), "waited in vain; it is {entry:?}");
        }
    }

    /// The number of the incarnation that answers, once one does.
    async fn answers(&self, id: &str) -> u64 {
        let address = self.handle.address::<Do>(id).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            match address.call(Do::Incarnation).await {
                Ok(number) => return number,
                Err(CallError::Restarting) if Instant::now() < end => tokio::task::yield_now().await,
                Err(error) => panic!("{id} does not answer: {error}"),
            }
        }
    }

    /// Lets a worker spin until it is enough; it has begun.
    async fn spins(&self, id: &str, enough: &Arc<AtomicBool>) {
        let address = self.handle.address::<Do>(id).unwrap();
        address.call(|began| Do::Spin(Arc::clone(enough), began)).await.unwrap();
    }

    async fn end(self) -> Finished {
        self.handle.shutdown(Asker("the test".to_owned())).await;
        tokio::time::timeout(PATIENCE, self.handle.finished()).await.expect("it ends")
    }
}

const ONE: &str = "[worker.puppet]\nactor = \"Puppet\"\nbackoff.first = \"0s\"\n";

#[tokio::test]
async fn b1_a_panic_is_answered_by_a_restart_and_stands_in_the_history() {
    let guest = Guest::start(ONE).await;
    let mut events = guest.handle.events();
    let puppet = guest.handle.address::<Do>("puppet").unwrap();
    assert_eq!(guest.entry("puppet").kind, "actor");
    puppet.cast(Do::Panic).unwrap();
    let entry = guest.until("puppet", |entry| entry.restarts == 1 && entry.ready).await;
    let last = entry.last_exit.unwrap();
    assert!(
        matches!(&last.exit, Exit::Panicked { message } if message.starts_with("on the wire at tests/it/faults_actor.rs:")),
        "{last:?}"
    );
    assert_eq!(guest.answers("puppet").await, 2);
    let kinds = [
        EventKind::WorkerExited,
        EventKind::WorkerStarting,
        EventKind::WorkerStarted,
        EventKind::WorkerReady,
    ];
    let mut seen = Vec::new();
    while seen.len() < kinds.len() {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
        // What is left of the boot comes before.
        if event.event.incarnation.is_some_and(|number| number.0 == 2) || event.event.kind == kinds[0] {
            seen.push(event.event.kind);
        }
    }
    assert_eq!(seen, kinds);
    puppet.cast(Do::Fail).unwrap();
    let entry = guest.until("puppet", |entry| entry.restarts == 2 && entry.ready).await;
    assert_eq!(entry.last_exit.unwrap().exit, Exit::Error { message: "out of ink".to_owned() });
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn b4_a_panic_in_drop_harms_neither_its_supervisor_nor_its_siblings() {
    let guest = Guest::start(&format!("{ONE}[worker.sibling]\nactor = \"Puppet\"\n")).await;
    let puppet = guest.handle.address::<Do>("puppet").unwrap();
    for restart in 1..=3 {
        puppet.call(Do::Bomb).await.unwrap();
        puppet.cast(if restart == 2 { Do::Fail } else { Do::Panic }).unwrap();
        guest.until("puppet", |entry| entry.restarts == restart && entry.ready).await;
        guest.answers("puppet").await;
    }
    puppet.call(Do::Bomb).await.unwrap();
    guest.handle.restart("puppet").await.unwrap();
    guest.until("puppet", |entry| entry.restarts == 4 && entry.ready).await;
    assert_eq!(guest.answers("sibling").await, 1);
    puppet.call(Do::Bomb).await.ok();
    assert_eq!(guest.end().await, Finished::Stopped);
}

/// An abort cannot be survived, so a build that aborts at every panic is refused before it is one. The compiler judges
/// the very file that refuses it.
#[test]
fn b5_a_build_that_aborts_at_a_panic_is_refused_with_what_to_do() {
    let compiled = |strategy: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
            .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--out-dir"])
            .arg(dir.path())
            .args(["-C", &format!("panic={strategy}")])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/worker/in_process/unwind.rs"))
            .output()
            .unwrap()
    };
    let refused = compiled("abort");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(text.contains("take `panic = \"abort\"` out of the profile in Cargo.toml"), "{text}");
    assert!(compiled("unwind").status.success());
}

#[tokio::test]
async fn b6_two_that_spin_delay_no_decision_and_siblings_go_on() {
    let text = "[defaults.worker]\nactor = \"Puppet\"\nbackoff.first = \"0s\"\n[worker.one]\nblocking = true\n[worker.two]\n[worker.other]\n";
    let guest = Guest::start(text).await;
    let enough = Arc::new(AtomicBool::new(false));
    for id in ["one", "two"] {
        guest.spins(id, &enough).await;
    }
    // The watchdog names the one that has no thread of its own.
    guest.until("two", |entry| entry.issues.iter().any(|issue| issue.contains("blocks its thread"))).await;
    assert!(guest.entry("one").issues.is_empty());
    guest.handle.address::<Do>("other").unwrap().cast(Do::Panic).unwrap();
    guest.until("other", |entry| entry.restarts == 1 && entry.ready).await;
    assert_eq!(guest.answers("other").await, 2);
    assert!(guest.handle.alive().await);
    enough.store(true, Ordering::Relaxed);
    guest.until("two", |entry| entry.issues.is_empty()).await;
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn b6_one_that_gets_no_thread_because_others_hold_them_all_is_left_alone() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) + 1;
    let spinners: Vec<String> = (0..threads).map(|n| format!("spin-{n}")).collect();
    let mut text = "[defaults.worker]\nactor = \"Puppet\"\n[worker.idle.probe.x]\nactor = {}\nperiod = \"100ms\"\ntimeout = \"25s\"\n".to_owned();
    for spinner in &spinners {
        text += &format!("[worker.{spinner}]\n");
    }
    let guest = Guest::start(&text).await;
    let mut events = guest.handle.events();
    let enough = Arc::new(AtomicBool::new(false));
    for spinner in &spinners {
        guest.spins(spinner, &enough).await;
    }
    let (mut found, mut spared) = (Vec::new(), false);
    while !spared || found.len() < threads {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().event.clone();
        let Some(who) = event.instance.map(|instance| instance.to_string()) else { continue };
        if event.kind == EventKind::HealthChanged && event.message.contains("blocks its thread") {
            found.push(who);
        } else if who == "idle" && event.message.contains("it gets no thread to answer on: spin-") {
            spared = true;
        }
    }
    found.sort();
    assert_eq!(found, spinners, "who holds a thread stands among the events, once");
    let note = |guest: &Guest| {
        guest
            .handle
            .status()
            .notes
            .iter()
            .any(|note| note.contains("held by code that does not yield (spin-"))
    };
    assert!(note(&guest));
    enough.store(true, Ordering::Relaxed);
    let idle = guest.until("idle", |idle| idle.all_issues().is_empty()).await;
    assert_eq!((idle.incarnation.0, idle.restarts), (1, 0), "nothing was done to it");
    let end = Instant::now() + PATIENCE;
    while note(&guest) {
        assert!(Instant::now() < end, "the note stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn b9_what_does_not_end_in_time_is_abandoned_and_blocks_nobody() {
    let text = format!("{ONE}stop.timeout = \"200ms\"\n[worker.sibling]\nactor = \"Puppet\"\n");
    let guest = Guest::start(&text).await;
    let enough = Arc::new(AtomicBool::new(false));
    guest.spins("puppet", &enough).await;
    guest.handle.restart("puppet").await.unwrap();
    let entry = guest.until("puppet", |entry| entry.incarnation.0 == 2 && entry.ready).await;
    assert_eq!(entry.last_exit.unwrap().exit, Exit::Abandoned);
    assert!(guest.handle.status().notes.iter().any(|note| note.contains("could not be ended: puppet")));
    assert_eq!(guest.answers("puppet").await, 2);
    assert_eq!(guest.answers("sibling").await, 1);
    enough.store(true, Ordering::Relaxed);
    let end = Instant::now() + PATIENCE;
    while guest.handle.status().notes.iter().any(|note| note.contains("could not be ended")) {
        assert!(Instant::now() < end, "it is still counted as left behind");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn b11_an_address_outlives_incarnations_and_says_why_nobody_answers() {
    let guest = Guest::start(ONE).await;
    let puppet = guest.handle.address::<Do>("puppet").unwrap();
    guest.handle.stop("puppet").await.unwrap();
    guest.until("puppet", |entry| entry.phase == Phase::Stopped).await;
    assert_eq!(puppet.call(Do::Incarnation).await, Err(CallError::Gone));
    guest.handle.start("puppet").await.unwrap();
    guest.until("puppet", |entry| entry.ready).await;
    assert_eq!(puppet.call(Do::Incarnation).await, Ok(2));
    let stale = guest.handle.board().stale();
    let enough = Arc::new(AtomicBool::new(false));
    guest.spins("puppet", &enough).await;
    puppet.cast(Do::Fail).unwrap();
    puppet.cast(Do::Fail).unwrap();
    puppet.cast(Do::Fail).unwrap();
    enough.store(true, Ordering::Relaxed);
    guest.until("puppet", |entry| entry.incarnation.0 == 3 && entry.ready).await;
    let end = Instant::now() + PATIENCE;
    while guest.handle.board().stale() < stale + 2 {
        assert!(Instant::now() < end, "{} are counted", guest.handle.board().stale() - stale);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(guest.entry("puppet").restarts, 2, "what was meant for the dead one killed nobody else");
}

#[tokio::test]
async fn two_runtimes_live_in_one_process() {
    let (first, second) = (Guest::start(ONE).await, Guest::start(ONE).await);
    first.handle.address::<Do>("puppet").unwrap().cast(Do::Panic).unwrap();
    first.until("puppet", |entry| entry.restarts == 1 && entry.ready).await;
    assert_eq!(second.entry("puppet").restarts, 0);
    assert_eq!(first.end().await, Finished::Stopped);
    assert_eq!(second.answers("puppet").await, 1);
    assert_eq!(second.end().await, Finished::Stopped);
}

#[tokio::test]
async fn a_name_that_the_program_does_not_register_is_a_problem_with_its_place() {
    let start = |text: &str| Runtime::builder().worker::<Puppet>("Puppet").toml(text).start();
    match start("[worker.it]\nactor = \"Pupet\"\n").await {
        Err(StartError::Config(text)) => {
            assert!(text.contains("this program registers no actor `Pupet`"), "{text}");
            assert!(text.contains("inline:2:9") && text.contains("`Puppet`"), "{text}");
        }
        other => panic!("{:?}", other.map(|_| "started")),
    }
    match start("[worker.it]\nactor = \"Puppet\"\nconfig = 3\n").await {
        Err(StartError::Config(text)) => {
            assert!(text.contains("`worker.it.config` must be a table"), "{text}")
        }
        other => panic!("{:?}", other.map(|_| "started")),
    }
}

#[tokio::test]
async fn a_runtime_ends_with_its_last_handle() {
    static STOPPED: AtomicU64 = AtomicU64::new(0);
    struct Last;
    impl Worker for Last {
        type Config = ();
        type State = ();
        type Message = ();

        async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
            Ok(Self)
        }

        async fn stop(&mut self, _: &Context<Self>) {
            STOPPED.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let builder = Runtime::builder().worker::<Last>("Last").toml("[worker.last]\nactor = \"Last\"\n");
    let state = dir.path().join("state").display().to_string();
    let handle = builder.set("runtime.state_dir", state).start().await.unwrap();
    handle.wait_ready(PATIENCE).await.unwrap();
    drop(handle);
    let end = Instant::now() + PATIENCE;
    while STOPPED.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < end, "it runs on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn b1_a_huge_message_is_cut_everywhere_and_the_place_stays() {
    let guest = Guest::start("[worker.it]\nactor = \"Puppet\"\nbackoff = { first = \"0s\" }\n").await;
    let mut events = guest.handle.events();
    for (restarts, (deed, told)) in
        [(Do::PanicAtLength, "(5000000 bytes in all) at "), (Do::FailAtLength, "(5000000 bytes in all)")]
            .into_iter()
            .enumerate()
    {
        let restarts = restarts as u64 + 1;
        guest.handle.address::<Do>("it").unwrap().cast(deed).unwrap();
        let it = guest.until("it", |it| it.restarts == restarts && it.ready).await;
        let exit = it.last_exit.unwrap().exit.to_string();
        assert!(
            exit.len() < 5_000 && exit.contains(told),
            "{} bytes: …{}",
            exit.len(),
            &exit[exit.len() - 99..]
        );
        loop {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap();
            let text = serde_json::to_string(&event).unwrap();
            assert!(text.len() < 20_000, "an event of {} bytes", text.len());
            if event.event.kind == EventKind::WorkerExited {
                break;
            }
        }
    }
    assert_eq!(guest.end().await, Finished::Stopped);
}
