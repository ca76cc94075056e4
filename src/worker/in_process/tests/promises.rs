//! What works: messages, state, tasks, orderly ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::exit::{Exit, StartFailure};
use crate::worker::WorkerReport;
use crate::worker::in_process::{
    Ask, CallError, CastError, Condition, Context, Outcome, Reply, Restored, Task, TaskError, Worker,
    WorkerError,
};

use super::rig::{Rig, until};

/// Counts, and keeps its count.
struct Counter {
    count: u64,
    was: &'static str,
}

enum Say {
    Add(u64),
    Total(Reply<u64>),
    Was(Reply<&'static str>),
    Save(Reply<()>),
    Fail,
    Finish,
    Hold(Reply<()>),
    Nothing(#[expect(dead_code, reason = "only its drop is of interest")] Reply<()>),
}

impl Worker for Counter {
    type Config = ();
    type State = u64;
    type Message = Say;
    const MAILBOX: usize = 10;

    async fn start(_: Context<Self>, (): (), restored: Restored<u64>) -> Result<Self, WorkerError> {
        let was = match &restored {
            Restored::Fresh => "fresh",
            Restored::Saved { .. } => "saved",
            Restored::Unreadable { .. } => "unreadable",
        };
        Ok(Self { count: restored.saved().unwrap_or(0), was })
    }

    async fn message(&mut self, message: Say, ctx: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Say::Add(more) => self.count += more,
            Say::Total(reply) => reply.send(self.count),
            Say::Was(reply) => reply.send(self.was),
            Say::Save(reply) => {
                ctx.save(&self.count).await?;
                reply.send(());
            }
            Say::Fail => Err(std::io::Error::other("the broker is gone"))?,
            Say::Finish => ctx.finish(),
            Say::Hold(reply) => {
                reply.send(());
                ctx.stopping().await;
            }
            Say::Nothing(_) => {}
        }
        Ok(())
    }

    async fn handle(&mut self, task: Task, _: &Context<Self>) -> Result<Outcome, TaskError> {
        if task.payload.is_empty() {
            return Err(TaskError::DeadLetter("empty".to_owned()));
        }
        Ok(Outcome { result: task.payload })
    }

    async fn snapshot(&mut self) -> Option<u64> {
        Some(self.count)
    }

    async fn health(&mut self) -> Condition {
        if self.count > 5 { Condition::Warn("many".to_owned()) } else { Condition::Pass }
    }
}

#[tokio::test]
async fn it_gets_its_messages_one_at_a_time_and_answers() {
    let rig = Rig::ready::<Counter>("").await;
    let counter = rig.address::<Say>();
    for more in 1..=4 {
        counter.cast(Say::Add(more)).unwrap();
    }
    assert_eq!(counter.call(Say::Total).await, Ok(10));
    assert_eq!(counter.call(Say::Was).await, Ok("fresh"));
    assert_eq!(counter.call(Say::Nothing).await, Err(CallError::Gone), "nobody knows of a tree here");
    assert!(rig.host.directory().address::<u8>(counter.instance()).is_err());
}

#[tokio::test]
async fn what_it_saved_is_there_after_a_crash_and_its_snapshot_after_a_stop() {
    let mut rig = Rig::ready::<Counter>("").await;
    let counter = rig.address::<Say>();
    counter.cast(Say::Add(3)).unwrap();
    counter.call(Say::Save).await.unwrap();
    counter.cast(Say::Add(4)).unwrap();
    counter.cast(Say::Fail).unwrap();
    assert_eq!(rig.end().await, Exit::Error { message: "the broker is gone".to_owned() });
    rig.start(2).await;
    assert_eq!(counter.call(Say::Total).await, Ok(3));
    counter.cast(Say::Add(6)).unwrap();
    assert_eq!(counter.call(Say::Total).await, Ok(9));
    rig.runner.stop();
    assert_eq!(rig.end().await, Exit::Stopped);
    rig.start(3).await;
    assert_eq!(counter.call(Say::Total).await, Ok(9));
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_told_and_is_no_crash_loop() {
    let mut rig = Rig::ready::<Counter>("").await;
    let counter = rig.address::<Say>();
    counter.call(Say::Save).await.unwrap();
    rig.runner.stop();
    rig.end().await;
    let file = rig.host.sites()[0].saved.dir().join("actor.saved");
    std::fs::write(file, "not ours").unwrap();
    rig.start(2).await;
    assert_eq!(counter.call(Say::Was).await, Ok("unreadable"));
}

#[tokio::test]
async fn snapshots_are_taken_while_it_runs() {
    let rig = Rig::ready::<Counter>("snapshot.every = \"100ms\"").await;
    rig.address::<Say>().cast(Say::Add(5)).unwrap();
    let site = &rig.host.sites()[0];
    until("a snapshot is written", || site.saved.any()).await;
}

#[tokio::test]
async fn long_work_hears_that_it_should_end() {
    let mut rig = Rig::ready::<Counter>("").await;
    rig.address::<Say>().call(Say::Hold).await.unwrap();
    rig.runner.stop();
    assert_eq!(rig.end().await, Exit::Stopped);
}

#[tokio::test]
async fn it_can_say_itself_that_it_is_done() {
    let rig = Rig::ready::<Counter>("").await;
    rig.address::<Say>().cast(Say::Finish).unwrap();
    assert_eq!(rig.end().await, Exit::Exited { code: 0 });
}

#[tokio::test]
async fn questions_and_tasks_come_between_messages() {
    let rig = Rig::ready::<Counter>("").await;
    let counter = rig.address::<Say>();
    counter.cast(Say::Add(7)).unwrap();
    counter.call(Say::Total).await.unwrap();
    let (reply, health) = tokio::sync::oneshot::channel();
    assert!(rig.host.ask(counter.instance(), Ask::Health(reply)).is_ok());
    assert_eq!(health.await, Ok(Condition::Warn("many".to_owned())));
    for (payload, done) in [("x", true), ("", false)] {
        let (reply, outcome) = tokio::sync::oneshot::channel();
        let ask = Ask::Task(Task::new("jobs", "any", payload), reply);
        assert!(rig.host.ask(counter.instance(), ask).is_ok());
        assert_eq!(outcome.await.unwrap().is_ok(), done);
    }
}

#[tokio::test]
async fn a_blocking_worker_runs_on_a_thread_of_its_own() {
    struct Named;
    impl Worker for Named {
        type Config = ();
        type State = ();
        type Message = Reply<String>;

        async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
            Ok(Self)
        }

        async fn message(&mut self, reply: Reply<String>, _: &Context<Self>) -> Result<(), WorkerError> {
            reply.send(std::thread::current().name().unwrap_or_default().to_owned());
            Ok(())
        }
    }
    let rig = Rig::ready::<Named>("blocking = true").await;
    assert_eq!(rig.address().call(|reply| reply).await, Ok("rg-it".to_owned()));
    let rig = Rig::ready::<Named>("").await;
    assert_eq!(rig.address().call(|reply| reply).await, Ok("regrow-worker".to_owned()));
}

#[tokio::test]
async fn its_config_is_its_own_type() {
    #[derive(serde::Deserialize)]
    struct Sizes {
        sizes: Vec<u32>,
    }
    struct Sized(u32);
    impl Worker for Sized {
        type Config = Sizes;
        type State = ();
        type Message = Reply<u32>;

        async fn start(_: Context<Self>, config: Sizes, _: Restored<()>) -> Result<Self, WorkerError> {
            Ok(Self(config.sizes.iter().sum()))
        }

        async fn message(&mut self, reply: Reply<u32>, _: &Context<Self>) -> Result<(), WorkerError> {
            reply.send(self.0);
            Ok(())
        }
    }
    let rig = Rig::ready::<Sized>("config = { sizes = [64, 256] }").await;
    assert_eq!(rig.address().call(|reply| reply).await, Ok(320_u32));
    let mut rig = Rig::new::<Sized>("");
    rig.runner.start(crate::id::Incarnation(1));
    let exit = rig.end().await;
    assert!(matches!(&exit, Exit::StartFailed(StartFailure::BeforeReady { .. })), "{exit}");
    assert!(exit.to_string().contains("missing field `sizes`"), "{exit}");
}

#[tokio::test]
async fn b8_a_full_mailbox_refuses_and_is_named() {
    let rig = Rig::ready::<Counter>("").await;
    let counter = rig.address::<Say>();
    counter.call(Say::Hold).await.unwrap();
    for _ in 0..10 {
        counter.cast(Say::Add(1)).unwrap();
    }
    assert_eq!(counter.cast(Say::Add(1)), Err(CastError::Full));
    assert_eq!(counter.call(Say::Total).await, Err(CallError::Full));
    let issue = rig.wait(|report| matches!(report, WorkerReport::Issue { .. })).await.1;
    assert!(matches!(issue, WorkerReport::Issue { text } if text.contains("mailbox fills up")));
}

/// A worker with a task beside it that shows whether it lives.
struct Parent;

static TASKS: AtomicU64 = AtomicU64::new(0);

struct Lives;

impl Drop for Lives {
    fn drop(&mut self) {
        TASKS.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Worker for Parent {
    type Config = ();
    type State = ();
    type Message = bool;

    async fn start(ctx: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        for _ in 0..3 {
            TASKS.fetch_add(1, Ordering::SeqCst);
            let lives = Lives;
            ctx.spawn(async move {
                let _lives = lives;
                std::future::pending().await
            });
        }
        Ok(Self)
    }

    async fn message(&mut self, panics: bool, ctx: &Context<Self>) -> Result<(), WorkerError> {
        if panics {
            ctx.spawn(async { panic!("beside") });
            return Ok(());
        }
        Err("enough".into())
    }
}

#[tokio::test]
async fn b10_tasks_that_it_spawned_are_gone_before_its_end_is_told() {
    let mut rig = Rig::ready::<Parent>("").await;
    let parent = rig.address::<bool>();
    assert_eq!(TASKS.load(Ordering::SeqCst), 3);
    parent.cast(false).unwrap();
    assert_eq!(rig.end().await, Exit::Error { message: "enough".to_owned() });
    assert_eq!(TASKS.load(Ordering::SeqCst), 0);
    rig.start(2).await;
    parent.cast(true).unwrap();
    let exit = rig.end().await;
    assert!(matches!(&exit, Exit::Panicked { message } if message.starts_with("beside at ")), "{exit}");
    assert_eq!(TASKS.load(Ordering::SeqCst), 0);
    rig.start(3).await;
    rig.runner.kill();
    assert_eq!(rig.end().await, Exit::Killed);
    assert_eq!(TASKS.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn b11_what_was_meant_for_a_dead_incarnation_never_reaches_the_next() {
    let mut rig = Rig::ready::<Counter>("").await;
    let counter = rig.address::<Say>();
    counter.call(Say::Hold).await.unwrap();
    counter.cast(Say::Add(1)).unwrap();
    counter.cast(Say::Add(1)).unwrap();
    let caller = tokio::spawn({
        let counter = counter.clone();
        async move { counter.call(Say::Total).await }
    });
    let site = Arc::clone(&rig.host.sites()[0]);
    until("the call waits", || site.inbox.look().now == 3).await;
    rig.runner.kill();
    let unread = rig.wait(|report| matches!(report, WorkerReport::Unread { .. })).await.1;
    assert_eq!(unread, WorkerReport::Unread { count: 3 });
    assert_eq!(rig.end().await, Exit::Killed);
    assert!(caller.await.unwrap().is_err());
    assert!(counter.cast(Say::Add(1)).is_err());
    rig.start(2).await;
    assert_eq!(counter.call(Say::Total).await, Ok(0));
}
