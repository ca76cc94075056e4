//! Actor workers: regrow beside a bare tokio task and a bare ractor actor, in turn, in one run.
//!
//! The floors do the same work without a tree: a tokio task that catches its panic and starts over, a ractor actor that
//! its supervisor spawns again. They have no budget, no events and no status. Absolute figures drift on a shared
//! machine, so what counts is the ratio.
//!
//! `benches/run actors` calls this. Modes: `latency rate mass memory call spin`; beside them `tokio`, `ractor` and `regrow`
//! leave the others out.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "measurements are printed; what fails ends the run"
)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use regrow::{Context, Reply, Restored, Runtime, RuntimeHandle, Worker, WorkerError, WorkerRef};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

static READY: std::sync::Mutex<Option<UnboundedSender<usize>>> = std::sync::Mutex::new(None);

/// Says that worker `index` is ready (again).
fn ready(index: usize) {
    if let Some(ready) = READY.lock().unwrap().as_ref() {
        let _ = ready.send(index);
    }
}

fn listen() -> UnboundedReceiver<usize> {
    let (sender, receiver) = unbounded_channel();
    *READY.lock().unwrap() = Some(sender);
    receiver
}

enum Do {
    Panic,
    Fail,
    Spin(Duration),
    Tick(Reply<Duration>),
    Echo(Reply<()>),
}

struct Crasher;

impl Worker for Crasher {
    type Config = settings::Index;
    type State = ();
    type Message = Do;

    async fn start(_: Context<Self>, index: settings::Index, _: Restored<()>) -> Result<Self, WorkerError> {
        ready(index.index);
        Ok(Self)
    }

    async fn message(&mut self, message: Do, _: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Do::Panic => panic!("crash"),
            Do::Fail => Err("crash")?,
            Do::Spin(long) => {
                let began = Instant::now();
                while began.elapsed() < long {
                    std::hint::spin_loop();
                }
            }
            Do::Tick(reply) => {
                let began = Instant::now();
                tokio::time::sleep(Duration::from_millis(10)).await;
                reply.send(began.elapsed().saturating_sub(Duration::from_millis(10)));
            }
            Do::Echo(reply) => reply.send(()),
        }
        Ok(())
    }
}

mod settings {
    #[derive(serde::Deserialize)]
    pub(crate) struct Index {
        pub(crate) index: usize,
    }
}

/// A regrow runtime with so many workers.
struct Regrow {
    handle: RuntimeHandle,
    workers: Vec<WorkerRef<Do>>,
    _dir: tempfile::TempDir,
}

impl Regrow {
    async fn start(count: usize, extra: &str) -> Self {
        let mut text = String::from(
            "[supervisor.root]\nintensity = { max_restarts = 100000, within = \"100ms\" }\n[defaults.worker]\nactor = \"Crasher\"\nbackoff.first = \"0s\"\n",
        );
        for index in 0..count {
            let more = if index < 2 { extra } else { "" };
            writeln!(text, "[worker.w{index}]\nconfig = {{ index = {index} }}\n{more}").unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        let builder = Runtime::builder().worker::<Crasher>("Crasher").panic_hook().toml(text);
        let handle = builder
            .set("runtime.state_dir", dir.path().join("s").display().to_string())
            .start()
            .await
            .unwrap();
        handle.wait_ready(Duration::from_secs(60)).await.unwrap();
        let workers = (0..count).map(|index| handle.address(&format!("w{index}")).unwrap()).collect();
        Self { handle, workers, _dir: dir }
    }

    fn crash(&self, index: usize, panics: bool) {
        let message = || if panics { Do::Panic } else { Do::Fail };
        // Ready is said before the mailbox's owner has returned to it, never after it is closed.
        self.workers[index].cast(message()).unwrap();
    }

    async fn end(self) {
        self.handle.shutdown(regrow::Asker("the bench".to_owned())).await;
        self.handle.finished().await;
    }
}

/// The floor: a task that catches its panic and starts over.
struct Tokio(Vec<UnboundedSender<bool>>);

impl Tokio {
    fn start(count: usize) -> Self {
        let spawn = |index| {
            let (crash, mut crashes) = unbounded_channel::<bool>();
            tokio::spawn(async move {
                loop {
                    ready(index);
                    let Some(panics) = crashes.recv().await else { return };
                    let body = || {
                        if panics {
                            panic!("crash")
                        }
                    };
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(body));
                    tokio::task::yield_now().await;
                }
            });
            crash
        };
        Self((0..count).map(spawn).collect())
    }
}

/// The peer: an actor that its supervisor spawns again.
struct Plain;

enum Say {
    Crash(bool),
    Echo(ractor::RpcReplyPort<()>),
}

impl Actor for Plain {
    type Msg = Say;
    type State = ();
    type Arguments = usize;

    async fn pre_start(&self, _: ActorRef<Say>, index: usize) -> Result<(), ActorProcessingErr> {
        ready(index);
        Ok(())
    }

    async fn handle(&self, _: ActorRef<Say>, message: Say, (): &mut ()) -> Result<(), ActorProcessingErr> {
        match message {
            Say::Crash(true) => panic!("crash"),
            Say::Crash(false) => Err("crash".into()),
            Say::Echo(reply) => Ok(reply.send(())?),
        }
    }
}

struct Over;

enum Ask {
    Crash(usize, bool),
}

impl Actor for Over {
    type Msg = Ask;
    type State = (HashMap<ActorId, usize>, Vec<ActorRef<Say>>);
    type Arguments = usize;

    async fn pre_start(
        &self,
        myself: ActorRef<Ask>,
        count: usize,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut state = (HashMap::new(), Vec::new());
        for index in 0..count {
            let (child, _) = Plain::spawn_linked(None, Plain, index, myself.get_cell()).await?;
            state.0.insert(child.get_id(), index);
            state.1.push(child);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Ask>,
        ask: Ask,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Ask::Crash(index, panics) = ask;
        Ok(state.1[index].send_message(Say::Crash(panics))?)
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Ask>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(cell, _) = event
            && let Some(index) = state.0.remove(&cell.get_id())
        {
            let (child, _) = Plain::spawn_linked(None, Plain, index, myself.get_cell()).await?;
            state.0.insert(child.get_id(), index);
            state.1[index] = child;
        }
        Ok(())
    }
}

/// Whoever can be crashed.
enum Who {
    Regrow(Regrow),
    Tokio(Tokio),
    Ractor(ActorRef<Ask>),
}

impl Who {
    async fn all(count: usize, ready: &mut UnboundedReceiver<usize>) -> Vec<(&'static str, Self)> {
        let words: Vec<String> = std::env::args().collect();
        let named = |name: &str| words.iter().any(|word| word == name);
        let wanted = |name: &str| named(name) || !["tokio", "ractor", "regrow"].into_iter().any(named);
        let mut all = Vec::new();
        if wanted("tokio") {
            all.push(("tokio", Self::Tokio(Tokio::start(count))));
        }
        if wanted("ractor") {
            all.push(("ractor", Self::Ractor(Over::spawn(None, Over, count).await.unwrap().0)));
        }
        if wanted("regrow") {
            all.push(("regrow", Self::Regrow(Regrow::start(count, "").await)));
        }
        for _ in 0..all.len() * count {
            ready.recv().await.unwrap();
        }
        all
    }

    fn crash(&self, index: usize, panics: bool) {
        match self {
            Self::Regrow(regrow) => regrow.crash(index, panics),
            Self::Tokio(tokio) => tokio.0[index].send(panics).unwrap(),
            Self::Ractor(over) => over.send_message(Ask::Crash(index, panics)).unwrap(),
        }
    }

    async fn end(self) {
        match self {
            Self::Regrow(regrow) => regrow.end().await,
            Self::Tokio(_) => {}
            Self::Ractor(over) => over.stop(None),
        }
    }
}

/// Processor time that this process has used, on all threads.
fn processor() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = text.rsplit_once(") ").unwrap().1;
    let ticks = after_name.split(' ').skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum::<u64>();
    // The kernel's unit for all programs.
    Duration::from_millis(ticks * 10)
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

async fn latency() {
    let mut readies = listen();
    let all = Who::all(64, &mut readies).await;
    for panics in [true, false] {
        for (name, who) in &all {
            let mut took = Vec::new();
            for round in 0..6000_usize {
                let began = Instant::now();
                who.crash(round * 7919 % 64, panics);
                readies.recv().await.unwrap();
                took.push(began.elapsed());
            }
            took.drain(..1000);
            took.sort_unstable();
            let what = if panics { "panic" } else { "error" };
            println!(
                "latency {what} {name:<7} p50 {:.1} µs, p99 {:.1} µs",
                quantile(&took, 0.5),
                quantile(&took, 0.99)
            );
        }
    }
    for (_, who) in all {
        who.end().await;
    }
}

async fn rate() {
    let mut readies = listen();
    let all = Who::all(64, &mut readies).await;
    for panics in [true, false] {
        for (name, who) in &all {
            let (total, began, used) = (60_000, Instant::now(), processor());
            (0..64).for_each(|index| who.crash(index, panics));
            for done in 0..total {
                let index = readies.recv().await.unwrap();
                if done + 64 < total {
                    who.crash(index, panics);
                }
            }
            let what = if panics { "panic" } else { "error" };
            println!(
                "rate {what} {name:<7} {:.0} restarts/s, {:.1} µs of processors each",
                f64::from(total) / began.elapsed().as_secs_f64(),
                (processor() - used).as_secs_f64() * 1e6 / f64::from(total)
            );
        }
    }
    for (_, who) in all {
        who.end().await;
    }
}

async fn mass() {
    let mut readies = listen();
    let all = Who::all(10_000, &mut readies).await;
    for (name, who) in &all {
        let (mut took, used) = (Vec::new(), processor());
        for _ in 0..5 {
            let began = Instant::now();
            (0..10_000).for_each(|index| who.crash(index, true));
            for _ in 0..10_000 {
                readies.recv().await.unwrap();
            }
            took.push(began.elapsed());
        }
        took.sort_unstable();
        println!(
            "mass {name:<7} {:.1} ms for 10,000, {:.1} µs of processors each",
            quantile(&took, 0.5) / 1e3,
            (processor() - used).as_secs_f64() * 1e6 / 5e4
        );
    }
    for (_, who) in all {
        who.end().await;
    }
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn memory() {
    let before = resident();
    let regrow = Regrow::start(10_000, "").await;
    println!("memory regrow  {} bytes per idle worker", resident().saturating_sub(before) / 10_000);
    regrow.end().await;
}

async fn call() {
    let regrow = Regrow::start(1, "").await;
    let (plain, _) = Plain::spawn(None, Plain, 0).await.unwrap();
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..20_000 {
        let began = Instant::now();
        regrow.workers[0].call(Do::Echo).await.unwrap();
        took[0].push(began.elapsed());
        let began = Instant::now();
        ractor::call!(plain, Say::Echo).unwrap();
        took[1].push(began.elapsed());
    }
    took.iter_mut().for_each(|took| took.sort_unstable());
    let [regrow_p50, ractor_p50] = [quantile(&took[0], 0.5), quantile(&took[1], 0.5)];
    println!(
        "call regrow {regrow_p50:.2} µs, ractor {ractor_p50:.2} µs, ratio {:.2}",
        regrow_p50 / ractor_p50
    );
    plain.stop(None);
    regrow.end().await;
}

async fn spin() {
    for (what, extra) in [("on the plane", ""), ("blocking = true", "blocking = true")] {
        let regrow = Regrow::start(8, extra).await;
        regrow.workers[..2].iter().for_each(|worker| worker.cast(Do::Spin(Duration::from_secs(3))).unwrap());
        let (began, mut control, mut others) = (Instant::now(), Vec::new(), Vec::new());
        while began.elapsed() < Duration::from_millis(2800) {
            let asked = Instant::now();
            assert!(regrow.handle.alive().await);
            control.push(asked.elapsed());
            others.push(regrow.workers[7].call(Do::Tick).await.unwrap());
        }
        control.sort_unstable();
        others.sort_unstable();
        println!(
            "spin {what}: control answers p50 {:.2} p99 {:.2} max {:.2} ms, its timers are late by {:.2} ms at most; others' timers max {:.2} ms",
            quantile(&control, 0.5) / 1e3,
            quantile(&control, 0.99) / 1e3,
            quantile(&control, 1.0) / 1e3,
            regrow.handle.info().lag().as_secs_f64() * 1e3,
            quantile(&others, 1.0) / 1e3
        );
        regrow.end().await;
    }
}

fn main() {
    const PEERS: [&str; 4] = ["--bench", "tokio", "ractor", "regrow"];
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !PEERS.contains(&word.as_str())).collect();
    let wanted = |mode: &str| words.is_empty() || words.iter().any(|word| word == mode);
    // Panics of the floors are measured without a word on stderr; those of workers never come here.
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("memory") {
            memory().await;
        }
        if wanted("latency") {
            latency().await;
        }
        if wanted("rate") {
            rate().await;
        }
        if wanted("mass") {
            mass().await;
        }
        if wanted("call") {
            call().await;
        }
        if wanted("spin") {
            spin().await;
        }
    });
}
