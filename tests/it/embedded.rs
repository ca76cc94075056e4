//! A runtime as a guest of another program: what it is asked from code, and what it leaves alone.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use regrow::policy::Phase;
use regrow::recovery::Strategy;
use regrow::{
    Asker, Builder, Context, Finished, Reply, Restart, Restored, Run, Runtime, Worker, WorkerError,
    WorkerSpec,
};
use rustix::process::{Resource, dumpable_behavior, getrlimit};
use serde::Deserialize;

use crate::guest::{Guest, until};
use crate::rig::PATIENCE;

struct Echo(Config);

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    word: String,
}

enum Say {
    Word(Reply<String>),
    Panic,
}

impl Worker for Echo {
    type Config = Config;
    type State = ();
    type Message = Say;

    async fn start(_: Context<Self>, config: Config, _: Restored<()>) -> Result<Self, WorkerError> {
        Ok(Self(config))
    }

    async fn message(&mut self, message: Say, _: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Say::Word(reply) => reply.send(self.0.word.clone()),
            Say::Panic => panic!("as told"),
        }
        Ok(())
    }
}

fn builder() -> Builder {
    Runtime::builder().worker::<Echo>("Echo")
}

const FILE: &str = r#"
[supervisor.front]
children = ["first"]
[worker.first]
actor = "Echo"
config.word = "one"
"#;

fn echo(name: &str, word: &str) -> WorkerSpec {
    let run = Run::Actor { actor: "Echo".to_owned(), config: serde_json::json!({ "word": word }) };
    WorkerSpec { run, ..WorkerSpec::actor(name, "Echo") }
}

async fn word(guest: &Guest, instance: &str) -> String {
    let address = guest.handle.address::<Say>(instance).unwrap().with_patience(PATIENCE);
    address.call(Say::Word).await.unwrap()
}

#[tokio::test]
async fn a_worker_that_was_spelled_out_is_one_like_any_other_until_it_is_taken_back() {
    let guest = Guest::ready(builder(), FILE).await;
    let spec = WorkerSpec {
        supervisor: "front".to_owned(),
        instances: Some(2),
        after: vec!["first".to_owned()],
        restart: Restart::Transient,
        ..echo("second", "two")
    };
    let ids = guest.handle.add_worker(spec.key("backoff.first", "0s")).await.unwrap();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["second/0", "second/1"]);
    for id in &ids {
        guest.until(id, |entry| entry.ready && entry.supervisor.as_str() == "front").await;
        assert_eq!(word(&guest, id).await, "two");
    }
    guest.handle.address::<Say>("second/1").unwrap().cast(Say::Panic).unwrap();
    guest.until("second/1", |entry| entry.ready && entry.restarts == 1).await;
    assert_eq!(guest.entry("first").restarts, 0);
    for none in [0, 1001] {
        let refused = guest.handle.scale("second", none).await.unwrap_err();
        assert!(matches!(refused, regrow::ActError::Unsuited(_)), "{refused}");
    }
    guest.handle.scale("second", 3).await.unwrap();
    guest.until("second/0", |_| guest.handle.board().instance(&"second/2".parse().unwrap()).is_some()).await;
    guest.handle.remove_worker("second").await.unwrap();
    until("all of it is gone", || {
        ["second/0", "second/1", "second/2"]
            .iter()
            .all(|id| guest.handle.board().instance(&id.parse().unwrap()).is_none())
    })
    .await;
    assert_eq!(word(&guest, "first").await, "one");
    // Another of the same name is another.
    guest.handle.add_worker(echo("second", "again")).await.unwrap();
    guest.until("second", |entry| entry.ready).await;
    assert_eq!(word(&guest, "second").await, "again");
    assert_eq!(guest.end().await, Finished::Stopped);
}

/// Counts its starts, in what it saves.
struct Counter(u64);

struct Count(Reply<u64>);

impl Worker for Counter {
    type Config = ();
    type State = u64;
    type Message = Count;

    async fn start(ctx: Context<Self>, (): (), restored: Restored<u64>) -> Result<Self, WorkerError> {
        let count = restored.saved().unwrap_or(0) + 1;
        ctx.save(&count).await?;
        Ok(Self(count))
    }

    async fn message(&mut self, Count(reply): Count, _: &Context<Self>) -> Result<(), WorkerError> {
        reply.send(self.0);
        Ok(())
    }
}

#[tokio::test]
async fn a_reset_and_a_new_one_know_nothing_of_what_an_actor_saved_and_a_restart_does() {
    const COUNTER: &str = "[worker.counter]\nactor = \"Counter\"\n[ladder.default]\nverify = \"50ms\"\n";
    let guest = Guest::ready(Runtime::builder().worker::<Counter>("Counter"), COUNTER).await;
    let of = |strategy: Strategy| {
        let (target, by) = ("counter".parse().unwrap(), Asker("a test".to_owned()));
        guest.handle.recover(target, strategy, by)
    };
    let steps = [
        (Strategy::SoftRestart, 2),
        (Strategy::Reset, 1),
        (Strategy::HardRestart, 2),
        (Strategy::Recreate, 1),
        (Strategy::SoftRestart, 2),
    ];
    for (start, (strategy, count)) in (2..).zip(steps) {
        of(strategy.clone()).await.unwrap();
        let up = |entry: &regrow::InstanceState| {
            entry.incarnation.0 == start && entry.phase == Phase::Running && entry.recovery.is_none()
        };
        guest.until("counter", up).await;
        let address = guest.handle.address::<Count>("counter").unwrap().with_patience(PATIENCE);
        assert_eq!(address.call(Count).await.unwrap(), count, "after {strategy}");
    }
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn a_process_can_be_spelled_out_too() {
    let guest = Guest::ready(builder(), FILE).await;
    guest.handle.add_worker(WorkerSpec::process("sleeper", ["sleep", "1000"])).await.unwrap();
    let entry = guest.until("sleeper", |entry| entry.ready).await;
    assert!(entry.pid.is_some() && entry.kind == "process");
    guest.handle.stop("sleeper").await.unwrap();
    guest.until("sleeper", |entry| entry.phase == Phase::Stopped).await;
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn what_is_wrong_with_a_worker_is_told_and_nothing_is_changed() {
    let guest = Guest::ready(builder(), FILE).await;
    let refused = async |spec: WorkerSpec| guest.handle.add_worker(spec).await.unwrap_err().to_string();
    assert!(refused(echo("first", "two")).await.contains("`first` is taken"));
    assert!(refused(WorkerSpec::actor("second", "Ehco")).await.contains("`Echo`"));
    assert!(refused(WorkerSpec::actor("second", "Echo")).await.contains("word"));
    assert!(refused(echo("second", "two").key("stop.timeuot", "1s")).await.contains("stop.timeuot"));
    let text = guest.handle.remove_worker("first").await.unwrap_err().to_string();
    assert!(text.contains("stands in the configuration file"), "{text}");
    assert!(guest.handle.remove_worker("second").await.is_err());
    assert_eq!(guest.handle.status().instances.len(), 1);
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn a_reading_of_the_file_leaves_it_alone_and_a_restart_forgets_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, state) = (dir.path().join("regrow.toml"), dir.path().join("state").display().to_string());
    std::fs::write(&file, FILE).unwrap();
    let start = || builder().file(&file).set("runtime.state_dir", state.clone()).start();
    let handle = start().await.unwrap();
    handle.add_worker(WorkerSpec { supervisor: "front".to_owned(), ..echo("second", "two") }).await.unwrap();
    handle.until("second", PATIENCE, |entry| entry.ready).await.unwrap();
    std::fs::write(&file, format!("{FILE}[worker.third]\nactor = \"Echo\"\nconfig.word = \"three\"\n"))
        .unwrap();
    handle.apply(Asker("a test".to_owned())).await.unwrap();
    handle.until("third", PATIENCE, |entry| entry.ready).await.unwrap();
    let second = handle.until("second", PATIENCE, |entry| entry.ready).await.unwrap();
    assert_eq!(second.incarnation.0, 1);
    // A file that takes its name is refused as a whole.
    std::fs::write(&file, format!("{FILE}[worker.second]\nactor = \"Echo\"\nconfig.word = \"2\"\n")).unwrap();
    let refused = handle.apply(Asker("a test".to_owned())).await.unwrap_err().to_string();
    assert!(refused.contains("`second` is taken"), "{refused}");
    std::fs::write(&file, FILE).unwrap();
    handle.shutdown(Asker("a test".to_owned())).await;
    assert_eq!(handle.finished().await, Finished::Stopped);
    // Whoever has waited for the end finds the directory free.
    let handle = start().await.unwrap();
    handle.wait_ready(PATIENCE).await.unwrap();
    assert_eq!(handle.status().instances.len(), 1);
    handle.shutdown(Asker("a test".to_owned())).await;
    assert_eq!(handle.finished().await, Finished::Stopped);
}

/// What of this process a guest must leave alone.
fn claims() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    // What is ignored and what is caught is the same for all threads.
    let signals = status.lines().filter(|line| line.starts_with("SigIgn") || line.starts_with("SigCgt"));
    let mut all: Vec<String> = signals.map(str::to_owned).collect();
    let limits = [Resource::Nofile, Resource::Fsize, Resource::Core, Resource::Nproc, Resource::Stack];
    all.extend(limits.map(|limit| format!("{limit:?} {:?}", getrlimit(limit))));
    all.push(format!("{:?}", dumpable_behavior().unwrap()));
    all.push(format!("{:?}", rustix::process::child_subreaper().unwrap()));
    all.push(std::fs::read_to_string("/proc/self/cgroup").unwrap());
    all.push(std::fs::read_to_string("/proc/self/oom_score_adj").unwrap());
    all
}

/// Alone in a process, since the others of this binary change some of it themselves.
#[test]
fn a_guest_takes_nothing_of_the_process_that_it_was_not_given() {
    const ALONE: &str = "REGROW_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test = "embedded::a_guest_takes_nothing_of_the_process_that_it_was_not_given";
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    // Low enough that a runtime of its own would raise it.
    let hard = getrlimit(Resource::Nofile).maximum;
    let low = rustix::process::Rlimit { current: Some(512), maximum: hard };
    rustix::process::setrlimit(Resource::Nofile, low).unwrap();
    let hooked = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&hooked);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match info.payload_as_str() {
        Some("as told") => drop(own.fetch_add(1, Ordering::SeqCst)),
        Some(_) | None => before(info),
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let before = claims();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "hush").unwrap();
        let text = format!(
            "{FILE}[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nsecrets.PASS = {{ file = {:?} }}\n[worker.sleeper.limits]\nmemory = \"100MiB\"\n",
            secret.display().to_string()
        );
        let start = |builder: Builder| {
            builder.toml(text.clone()).set("runtime.state_dir", dir.path().join("state").display().to_string()).start()
        };
        let handle = start(builder()).await.unwrap();
        handle.wait_ready(PATIENCE).await.unwrap();
        handle.address::<Say>("first").unwrap().cast(Say::Panic).unwrap();
        handle.until("first", PATIENCE, |first| first.ready && first.restarts == 1).await.unwrap();
        assert_eq!(claims(), before);
        assert_eq!(hooked.load(Ordering::SeqCst), 1, "the hook of the host sees the panic");
        assert!(handle.status().notes.iter().any(|note| note.contains("`Builder::private_memory`")));
        handle.shutdown(Asker("a test".to_owned())).await;
        assert_eq!(handle.finished().await, Finished::Stopped);
        assert_eq!(claims(), before);
        assert!(!tracing::dispatcher::has_been_set(), "a subscriber is the host's to install");
        struct Nobody;
        impl metrics::Recorder for Nobody {
            fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
            fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
            fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
            fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
                metrics::Counter::noop()
            }
            fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
                metrics::Gauge::noop()
            }
            fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
                metrics::Histogram::noop()
            }
        }
        assert!(metrics::set_global_recorder(Nobody).is_ok(), "a recorder is the host's to install");

        // Asked for, it takes them.
        let handle = start(builder().raise_limits().private_memory().panic_hook()).await.unwrap();
        handle.wait_ready(PATIENCE).await.unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
        assert_eq!(dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
        handle.address::<Say>("first").unwrap().cast(Say::Panic).unwrap();
        handle.until("first", PATIENCE, |first| first.ready && first.restarts == 1).await.unwrap();
        assert_eq!(hooked.load(Ordering::SeqCst), 1, "regrow's hook has it");
        handle.shutdown(Asker("a test".to_owned())).await;
        assert_eq!(handle.finished().await, Finished::Stopped);
    });
}
