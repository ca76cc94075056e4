//! `regrow::testing`: a runtime under paused time that does the same in every run, and faults on purpose.

use std::time::Duration;

use regrow::exit::{Exit, StartFailure};
use regrow::policy::Phase;
use regrow::ractor::{Actor, ActorProcessingErr, ActorRef};
use regrow::testing::{Fault, Stage, StageError};
use regrow::{
    Builder, CallError, Context, EventKind, Finished, Reply, Restored, Runtime, Worker, WorkerError,
    WorkerSpec,
};

/// Counts what it is told; knows nothing of faults.
struct Counter(u64);

enum Say {
    Add(u64),
    Total(Reply<u64>),
}

impl Worker for Counter {
    type Config = ();
    type State = u64;
    type Message = Say;

    async fn start(_: Context<Self>, (): (), restored: Restored<u64>) -> Result<Self, WorkerError> {
        Ok(Self(restored.saved().unwrap_or(0)))
    }

    async fn message(&mut self, message: Say, ctx: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Say::Add(more) => {
                self.0 += more;
                ctx.save(&self.0).await?;
            }
            Say::Total(reply) => reply.send(self.0),
        }
        Ok(())
    }
}

/// The same without a memory, as a plain ractor actor.
struct Plain;

impl Actor for Plain {
    type Msg = Say;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Say>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(&self, _: ActorRef<Say>, message: Say, sum: &mut u64) -> Result<(), ActorProcessingErr> {
        match message {
            Say::Add(more) => *sum += more,
            Say::Total(reply) => reply.send(*sum),
        }
        Ok(())
    }
}

fn builder(toml: &str) -> Builder {
    Runtime::builder().worker::<Counter>("Counter").ractor("Plain", |(): (), _| Ok((Plain, ()))).toml(toml)
}

async fn stage(toml: &str) -> Stage {
    Stage::start(builder(toml)).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Both kinds of actors: every fault works the same on each.
const BOTH: [&str; 2] = ["Counter", "Plain"];

fn one(actor: &str, keys: &str) -> String {
    format!("[worker.it]\nactor = \"{actor}\"\nbackoff = {{ first = \"5s\", jitter = 0.0 }}\n{keys}\n")
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_an_error_strike_at_once_and_are_answered() {
    for actor in BOTH {
        let stage = stage(&one(actor, "")).await;
        stage.until("it", |it| it.ready).await.unwrap();
        stage.inject("it", Fault::Panic("no network".to_owned())).unwrap();
        let it = stage.until("it", |it| it.ready && it.restarts == 1).await.unwrap();
        let last = it.last_exit.unwrap();
        assert!(
            matches!(&last.exit, Exit::Panicked { message } if message.starts_with("no network")),
            "{last:?}"
        );
        stage.inject("it", Fault::Error("no paper".to_owned())).unwrap();
        let it = stage.until("it", |it| it.ready && it.restarts == 2).await.unwrap();
        assert_eq!(it.last_exit.unwrap().exit, Exit::Error { message: "no paper".to_owned() });
        assert_eq!(
            stage.now(),
            Duration::from_secs(5),
            "the pause before a second restart, and nothing else"
        );
        assert_eq!(stage.end().await, Finished::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_runs_into_its_time_limit() {
    for actor in BOTH {
        let stage = stage(&one(actor, "start_timeout = \"30s\"")).await;
        stage.until("it", |it| it.ready).await.unwrap();
        stage.inject("it", Fault::SlowStart(Duration::from_secs(20))).unwrap();
        let began = stage.now();
        stage.handle().restart("it").await.unwrap();
        stage.until("it", |it| it.ready && it.incarnation.0 == 2).await.unwrap();
        assert_eq!(stage.now() - began, Duration::from_secs(20), "slow, but in time");
        stage.inject("it", Fault::SlowStart(Duration::from_secs(40))).unwrap();
        stage.handle().restart("it").await.unwrap();
        let it = stage.until("it", |it| it.ready && it.incarnation.0 == 4).await.unwrap();
        assert_eq!(it.last_exit.unwrap().exit, Exit::StartTimeout);
        assert_eq!(stage.end().await, Finished::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_in_the_start_is_a_failed_start() {
    for actor in BOTH {
        let stage = stage(&one(actor, "")).await;
        stage.until("it", |it| it.ready).await.unwrap();
        stage.inject_at_start("it", Fault::Error("no licence".to_owned())).unwrap();
        stage.handle().restart("it").await.unwrap();
        let it = stage.until("it", |it| it.ready && it.incarnation.0 == 3).await.unwrap();
        let error = Box::new(Exit::Error { message: "no licence".to_owned() });
        assert_eq!(it.last_exit.unwrap().exit, Exit::StartFailed(StartFailure::BeforeReady { ended: error }));
        assert_eq!(stage.end().await, Finished::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn code_that_blocks_is_named_and_left_behind() {
    for actor in BOTH {
        let stage = stage(&one(actor, "stop.timeout = \"2s\"")).await;
        stage.until("it", |it| it.ready).await.unwrap();
        let address = stage.handle().address::<Say>("it").unwrap();
        stage.inject("it", Fault::Block(Duration::from_secs(60))).unwrap();
        assert_eq!(address.call(Say::Total).await, Err(CallError::Timeout));
        let blocks = |issue: &String| issue.contains("blocks its thread");
        stage.until("it", |it| it.issues.iter().any(blocks)).await.unwrap();
        stage.handle().restart("it").await.unwrap();
        let it = stage.until("it", |it| it.ready && it.incarnation.0 == 2).await.unwrap();
        assert_eq!(it.last_exit.unwrap().exit, Exit::Abandoned);
        let left = |stage: &Stage| {
            stage.handle().status().notes.iter().any(|note| note.contains("could not be ended"))
        };
        assert!(left(&stage));
        stage.pass(Duration::from_secs(60)).await;
        assert!(!left(&stage), "it came back when its time was over");
        assert_eq!(stage.end().await, Finished::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn code_that_blocks_for_a_while_goes_on_after_it() {
    let stage = stage(&one("Counter", "")).await;
    stage.until("it", |it| it.ready).await.unwrap();
    let address = stage.handle().address::<Say>("it").unwrap();
    stage.inject("it", Fault::Block(Duration::from_secs(3))).unwrap();
    address.cast(Say::Add(7)).unwrap();
    assert_eq!(address.call(Say::Total).await, Ok(7));
    assert_eq!(stage.now(), Duration::from_secs(3));
    let it = stage.until("it", |it| it.issues.is_empty()).await.unwrap();
    assert_eq!((it.incarnation.0, it.restarts), (1, 0));
    assert_eq!(stage.end().await, Finished::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_was_taken_and_never_comes() {
    for actor in BOTH {
        let stage = stage(&one(actor, "")).await;
        stage.until("it", |it| it.ready).await.unwrap();
        let address = stage.handle().address::<Say>("it").unwrap();
        stage.inject("it", Fault::LostMessage).unwrap();
        stage.inject("it", Fault::LostMessage).unwrap();
        assert_eq!(address.cast(Say::Add(1)), Ok(()));
        assert_eq!(address.call(Say::Total).await, Err(CallError::Timeout));
        address.cast(Say::Add(10)).unwrap();
        assert_eq!(address.call(Say::Total).await, Ok(10));
        assert_eq!(stage.end().await, Finished::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_on_disk_outlives_what_strikes() {
    let stage = stage(&one("Counter", "")).await;
    stage.until("it", |it| it.ready).await.unwrap();
    let address = stage.handle().address::<Say>("it").unwrap();
    address.cast(Say::Add(7)).unwrap();
    assert_eq!(address.call(Say::Total).await, Ok(7));
    stage.inject("it", Fault::Panic("gone".to_owned())).unwrap();
    stage.until("it", |it| it.ready && it.restarts == 1).await.unwrap();
    assert_eq!(address.call(Say::Total).await, Ok(7));
    assert_eq!(stage.end().await, Finished::Stopped);
}

#[tokio::test(start_paused = true)]
async fn who_keeps_failing_is_parked_and_tried_again_without_anybody_waiting() {
    let budget =
        "[supervisor.root]\nintensity = { max_restarts = 5, within = \"1h\" }\nretry_first = \"30s\"\n";
    let stage = stage(&format!("{}{budget}", one("Counter", ""))).await;
    stage.until("it", |it| it.ready).await.unwrap();
    for n in 0..40 {
        stage.inject_at_start("it", Fault::Error(format!("no licence, {n}"))).unwrap();
    }
    stage.inject("it", Fault::Error("out".to_owned())).unwrap();
    let parked = stage.until_moment(|moment| moment.kind == EventKind::WorkerParked).await.unwrap();
    assert_eq!(parked.instance.map(|id| id.to_string()).as_deref(), Some("it"));
    let it = stage.until("it", |it| it.phase == Phase::Quarantined).await.unwrap();
    let tried = it.incarnation;
    let began = stage.now();
    stage.until("it", |it| it.incarnation > tried).await.unwrap();
    assert_eq!(stage.now() - began, Duration::from_secs(30), "{}", stage.script());
    assert_eq!(stage.end().await, Finished::Stopped);
}

const SHOP: &str = r#"
[supervisor.root]
strategy = "rest_for_one"
children = ["store", "front"]
[supervisor.front]
strategy = "one_for_all"
children = ["till", "shelf"]
[defaults.worker]
backoff = { first = "1s", jitter = 0.5 }
[worker.store]
actor = "Counter"
[worker.till]
actor = "Plain"
instances = 3
[worker.shelf]
actor = "Counter"
after = ["till"]
stop.timeout = "3s"
"#;

/// Some of everything; the jitter is part of it.
async fn play() -> String {
    let stage = stage(SHOP).await;
    let ready = async |id: &str| stage.until(id, |it| it.ready).await.unwrap();
    ready("shelf").await;
    for (id, fault) in [
        ("till/1", Fault::Panic("jammed".to_owned())),
        ("shelf", Fault::Block(Duration::from_secs(20))),
        ("store", Fault::Error("flooded".to_owned())),
        ("till/0", Fault::SlowStart(Duration::from_secs(7))),
        ("till/2", Fault::Error("out of paper".to_owned())),
    ] {
        stage.inject(id, fault).unwrap();
        stage.pass(Duration::from_millis(2500)).await;
        ready("shelf").await;
    }
    stage.handle().stop("till/1").await.unwrap();
    stage.until("till/1", |it| it.phase == Phase::Stopped).await.unwrap();
    stage.handle().start("till/1").await.unwrap();
    ready("shelf").await;
    stage.inject("till/1", Fault::Panic("jammed again".to_owned())).unwrap();
    stage.pass(Duration::from_secs(600)).await;
    let script = stage.script();
    assert_eq!(stage.end().await, Finished::Stopped);
    script
}

#[tokio::test(start_paused = true)]
async fn the_same_scenario_is_the_same_again() {
    let first = play().await;
    assert!(first.lines().count() > 60, "{first}");
    for _ in 0..3 {
        assert_eq!(play().await, first);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_added_on_the_stage_can_be_struck_too() {
    let stage = stage(&one("Counter", "")).await;
    stage.until("it", |it| it.ready).await.unwrap();
    let spec = WorkerSpec { after: vec!["it".to_owned()], ..WorkerSpec::actor("late", "Plain") };
    stage.handle().add_worker(spec).await.unwrap();
    stage.until("late", |late| late.ready).await.unwrap();
    stage.inject("late", Fault::Error("no paper".to_owned())).unwrap();
    stage.until("late", |late| late.ready && late.restarts == 1).await.unwrap();
    stage.handle().remove_worker("late").await.unwrap();
    stage.until_moment(|moment| moment.kind == EventKind::WorkerRemoved).await.unwrap();
    assert_eq!(stage.end().await, Finished::Stopped);
}

#[tokio::test]
async fn a_clock_that_runs_is_refused() {
    let refused = Stage::start(builder("")).await.map(|_| ());
    assert!(matches!(refused, Err(StageError::NotPaused)), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_no_actor_or_not_there_is_named() {
    let refused = Stage::start(builder("[worker.sleeper]\ncommand = [\"sleep\", \"9\"]\n")).await.map(|_| ());
    assert!(refused.is_err_and(|error| error.to_string().ends_with("these are processes: sleeper")));
    let stage = stage(&one("Counter", "")).await;
    let missing = stage.inject("that", Fault::LostMessage).map_err(|error| error.to_string());
    assert!(missing.is_err_and(|text| text.contains("`that`")));
    let in_vain = stage.until("it", |it| it.restarts == 1).await.unwrap_err();
    assert!(in_vain.to_string().contains("worker.ready it #1"), "{in_vain}");
}
