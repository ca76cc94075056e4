//! What goes wrong inside of a worker, by the numbers of the fault catalogue. What needs a tree stands in
//! `tests/it/faults_actor.rs`.

use std::panic::{panic_any, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::exit::{Exit, StartFailure};
use crate::worker::WorkerReport;
use crate::worker::in_process::{Context, Registry, Reply, Restored, Worker, WorkerError};

use super::rig::{Rig, until};

/// Does what it is told, at the place that its config names.
struct Bad {
    drops: Option<Bomb>,
    started: Instant,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Where {
    in_start: bool,
    in_drop: bool,
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb in Drop");
    }
}

enum Do {
    Panic(&'static str),
    Payload,
    PastTheHook,
    PayloadThatPanics,
    Local,
    Fail,
    Spin(mpsc::Receiver<()>),
    Deadlock,
    Alive(Reply<Instant>),
    HoldBomb,
    FailBesideABlockedTask,
    ErrorThatPanics,
    CatchInDrop,
}

/// Panics and catches that itself.
struct Catches;

impl Drop for Catches {
    fn drop(&mut self) {
        assert!(std::panic::catch_unwind(|| panic!("caught inside")).is_err());
    }
}

/// Panics when it is asked what it is.
#[derive(Debug)]
struct Mute;

impl std::fmt::Display for Mute {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words");
    }
}

impl std::error::Error for Mute {}

impl Worker for Bad {
    type Config = Where;
    type State = ();
    type Message = Do;

    async fn start(_: Context<Self>, place: Where, _: Restored<()>) -> Result<Self, WorkerError> {
        assert!(!place.in_start, "not today");
        Ok(Self { drops: place.in_drop.then(|| Bomb), started: Instant::now() })
    }

    async fn message(&mut self, message: Do, ctx: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Do::Panic(text) => panic!("{text}"),
            Do::Payload => panic_any(42_u64),
            Do::PastTheHook => resume_unwind(Box::new(1_u8)),
            Do::PayloadThatPanics => panic_any(Bomb),
            Do::Local => {
                let _local = Bomb;
                tokio::task::yield_now().await;
            }
            Do::Fail => Err("it failed")?,
            Do::Spin(until) => while until.try_recv() == Err(mpsc::TryRecvError::Empty) {},
            Do::Deadlock => {
                static LOCK: Mutex<()> = Mutex::new(());
                let _first = LOCK.lock();
                let _second = LOCK.try_lock().map_err(|_| ());
                // Two threads that wait for each other, played by one that waits for nobody.
                loop {
                    std::thread::park();
                }
            }
            Do::Alive(reply) => reply.send(self.started),
            Do::HoldBomb => self.drops = Some(Bomb),
            Do::FailBesideABlockedTask => {
                let (tell, told) = mpsc::channel();
                let (wake, woken) = tokio::sync::oneshot::channel();
                // Woken from a thread that is none of the plane's, since the task may be about to block this one.
                std::thread::spawn(move || told.recv().map(|()| wake.send(())));
                ctx.spawn(async move {
                    let _ = tell.send(());
                    loop {
                        std::thread::park();
                    }
                });
                woken.await?;
                Err("it failed")?;
            }
            Do::CatchInDrop => {
                let _local = Catches;
                panic!("the outer one");
            }
            Do::ErrorThatPanics => panic_any(WorkerError::from(Mute)),
        }
        Ok(())
    }

    async fn stop(&mut self, _: &Context<Self>) {
        if self.drops.is_some() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn panic_text(exit: &Exit) -> String {
    match exit {
        Exit::Panicked { message } => message.clone(),
        other => panic!("no panic: {other}"),
    }
}

async fn ends_with(keys: &str, what: Do) -> Exit {
    let rig = Rig::ready::<Bad>(keys).await;
    rig.address::<Do>().cast(what).unwrap();
    rig.end().await
}

#[tokio::test]
async fn b1_a_panic_is_told_with_its_message_and_place_and_the_next_incarnation_works() {
    let mut rig = Rig::ready::<Bad>("").await;
    let bad = rig.address::<Do>();
    bad.cast(Do::Panic("no such file")).unwrap();
    let text = panic_text(&rig.end().await);
    assert!(text.starts_with("no such file at src/worker/in_process/tests/faults.rs:"), "{text}");
    rig.start(2).await;
    assert!(bad.call(Do::Alive).await.is_ok());
}

/// The stack of what ends a worker with these keys, and the end. Stacks are rationed over the whole process, and other
/// tests panic as well.
async fn stack_of(keys: &str, what: impl Fn() -> Do) -> (String, Exit) {
    for incarnation in 1..60 {
        let mut rig = Rig::new::<Bad>(keys);
        rig.start(incarnation).await;
        rig.address::<Do>().cast(what()).unwrap();
        rig.end().await;
        let stack = tokio::time::timeout(
            Duration::from_secs(1),
            rig.wait(|report| matches!(report, WorkerReport::Backtrace { .. })),
        );
        if let Ok((_, WorkerReport::Backtrace { text, led_to, .. })) = stack.await {
            return (text, led_to);
        }
    }
    panic!("no stack was ever walked");
}

#[tokio::test]
async fn the_stack_of_a_panic_comes_after_its_end_and_shows_the_workers_own_code() {
    let (text, led_to) = stack_of("", || Do::Panic("look where")).await;
    // Without debug symbols, what was inlined has no name of its own.
    assert!(text.contains("regrow::worker::in_process"), "{text}");
    assert!(!text.contains("core::panicking") && !text.contains("catch_unwind"), "{text}");
    assert!(panic_text(&led_to).starts_with("look where at "), "{led_to}");
}

#[tokio::test]
async fn a_panic_in_drop_after_an_error_has_a_stack_and_shows_who_was_dropped() {
    let (text, led_to) = stack_of("config = { in_drop = true }", || Do::Fail).await;
    assert!(text.contains("Bomb"), "{text}");
    assert!(
        matches!(&led_to, Exit::Error { message } if message.starts_with("it failed; then a Drop")),
        "{led_to}"
    );
}

#[tokio::test]
async fn a_panic_that_is_caught_while_another_unwinds_is_not_told_in_its_place() {
    let text = panic_text(&ends_with("", Do::CatchInDrop).await);
    assert!(text.starts_with("the outer one at src/worker/in_process/tests/faults.rs:"), "{text}");
    assert!(!text.contains("caught inside"), "{text}");
}

#[tokio::test]
async fn b2_payloads_of_any_kind_are_told_as_well_as_can_be() {
    let text = panic_text(&ends_with("", Do::Payload).await);
    assert!(text.starts_with("a payload that is no text: 42u64 at src/"), "{text}");
    let text = panic_text(&ends_with("", Do::PastTheHook).await);
    assert!(text.contains("1u8 (place unknown"), "{text}");
    let text = panic_text(&ends_with("", Do::PayloadThatPanics).await);
    assert!(text.starts_with("a payload that is no text at src/"), "{text}");
}

#[tokio::test]
async fn b3_a_panic_in_start_is_a_failed_start() {
    let mut rig = Rig::new::<Bad>("config = { in_start = true }");
    rig.runner.start(crate::id::Incarnation(1));
    match rig.end().await {
        Exit::StartFailed(StartFailure::BeforeReady { ended }) => {
            assert!(panic_text(&ended).starts_with("not today at src/"), "{ended}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn b4_a_panic_in_drop_is_contained_after_every_kind_of_end() {
    let keys = "config = { in_drop = true }";
    let text = panic_text(&ends_with(keys, Do::Panic("first")).await);
    assert!(
        text.starts_with("first at ") && text.contains("; then a Drop panicked: a bomb in Drop at"),
        "{text}"
    );
    match ends_with(keys, Do::Fail).await {
        Exit::Error { message } => {
            assert!(message.starts_with("it failed; then a Drop panicked"), "{message}")
        }
        other => panic!("{other}"),
    }
    let text = panic_text(&ends_with("", Do::Local).await);
    assert!(text.starts_with("a bomb in Drop at "), "{text}");
    for kill in [false, true] {
        let mut rig = Rig::ready::<Bad>("").await;
        rig.address::<Do>().cast(Do::HoldBomb).unwrap();
        rig.address::<Do>().call(Do::Alive).await.unwrap();
        if kill {
            rig.runner.kill();
        } else {
            rig.runner.stop();
        }
        assert!(panic_text(&rig.end().await).starts_with("a bomb in Drop at "));
        rig.start(2).await;
    }
}

#[tokio::test]
async fn b6_code_that_never_yields_is_named_within_a_second_and_until_it_does() {
    let rig = Rig::ready::<Bad>("").await;
    let (enough, until) = mpsc::channel();
    let began = Instant::now();
    rig.address::<Do>().cast(Do::Spin(until)).unwrap();
    let named = rig.wait(|report| matches!(report, WorkerReport::Issue { .. })).await.1;
    // It looks three times a second; a machine that is busy elsewhere may take longer.
    assert!(began.elapsed() < Duration::from_secs(10), "named after {:?}", began.elapsed());
    assert!(
        matches!(&named, WorkerReport::Issue { text } if text.contains("blocks its thread")),
        "{named:?}"
    );
    enough.send(()).unwrap();
    rig.wait(|report| matches!(report, WorkerReport::IssueOver { .. })).await;
}

#[tokio::test]
async fn b7_an_end_beside_a_task_that_blocks_is_told_and_the_next_incarnation_works() {
    let mut rig = Rig::ready::<Bad>("").await;
    let bad = rig.address::<Do>();
    bad.cast(Do::FailBesideABlockedTask).unwrap();
    assert_eq!(rig.end().await, Exit::Abandoned);
    rig.start(2).await;
    assert!(bad.call(Do::Alive).await.is_ok());
}

#[tokio::test]
async fn b2_an_error_that_panics_when_it_is_asked_what_it_is_ends_nobody_else() {
    let exit = ends_with("", Do::ErrorThatPanics).await;
    assert!(panic_text(&exit).starts_with("an error that panics when it is asked what it is at "), "{exit}");
}

#[tokio::test]
async fn b7_what_cannot_be_killed_is_left_behind_and_its_successor_runs_apart() {
    let mut rig = Rig::new::<Bad>("");
    let told = Told::default();
    count_into(&rig, &told);
    rig.start(1).await;
    let bad = rig.address::<Do>();
    bad.cast(Do::Deadlock).unwrap();
    let blocks = || {
        let site = &rig.host.sites()[0];
        site.inbox.look().now == 0 && site.current().is_some_and(|life| life.feel().0)
    };
    until("it blocks", blocks).await;
    rig.runner.kill();
    assert_eq!(rig.end().await, Exit::Abandoned);
    assert_eq!(rig.host.left_behind(), 1);
    assert!(rig.host.problems()[0].contains("1 thread is held by code"), "{:?}", rig.host.problems());
    rig.start(2).await;
    assert!(rig.host.sites()[0].is_apart());
    assert!(bad.call(Do::Alive).await.is_ok());
    // Left behind again, until there are enough of them.
    for incarnation in 3..=17 {
        bad.cast(Do::Deadlock).unwrap();
        let blocks = || {
            let site = &rig.host.sites()[0];
            site.inbox.look().now == 0 && site.current().is_some_and(|life| life.feel().0)
        };
        until("it blocks", blocks).await;
        rig.runner.kill();
        assert_eq!(rig.end().await, Exit::Abandoned);
        if incarnation < 17 {
            rig.start(incarnation).await;
        }
    }
    rig.runner.start(crate::id::Incarnation(18));
    let refused = rig.end().await;
    assert!(refused.to_string().contains("could not be ended"), "{refused}");
    // The seventeenth was never asked for.
    let expected: Vec<_> = (1..=16).chain([18]).map(|number| ("counted", number)).collect();
    until("also the one that came to nothing is counted", || told.lock().unwrap().len() >= expected.len())
        .await;
    assert_eq!(*told.lock().unwrap(), expected);
}

/// What was counted and what ran, in this order.
type Told = Arc<Mutex<Vec<(&'static str, u64)>>>;

fn count_into(rig: &Rig, told: &Told) {
    let told = Arc::clone(told);
    rig.host.set_counting(Box::new(move |_, incarnation| {
        told.lock().unwrap().push(("counted", incarnation.0));
    }));
}

#[tokio::test]
async fn a_start_is_counted_before_its_code_has_its_number_and_once_however_late_it_returns() {
    static TOLD: OnceLock<Told> = OnceLock::new();
    static ENOUGH: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
    struct Late;
    impl Worker for Late {
        type Config = ();
        type State = ();
        type Message = Reply<()>;

        async fn start(ctx: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
            TOLD.get().unwrap().lock().unwrap().push(("ran", ctx.incarnation().0));
            let first = ENOUGH.lock().unwrap().take();
            if let Some(enough) = first {
                enough.recv().unwrap();
            }
            Ok(Self)
        }

        async fn message(&mut self, reply: Reply<()>, _: &Context<Self>) -> Result<(), WorkerError> {
            reply.send(());
            Ok(())
        }
    }
    let told = Arc::clone(TOLD.get_or_init(Told::default));
    let (enough, waits) = mpsc::channel();
    *ENOUGH.lock().unwrap() = Some(waits);
    let mut rig = Rig::new::<Late>("");
    count_into(&rig, &told);
    rig.runner.start(crate::id::Incarnation(3));
    until("its start blocks", || told.lock().unwrap().contains(&("ran", 3))).await;
    rig.runner.kill();
    assert_eq!(rig.end().await, Exit::Abandoned);
    rig.start(4).await;
    enough.send(()).unwrap();
    until("it has come back", || rig.host.left_behind() == 0).await;
    assert!(rig.address::<Reply<()>>().call(|reply| reply).await.is_ok());
    assert_eq!(*told.lock().unwrap(), [("counted", 3), ("ran", 3), ("counted", 4), ("ran", 4)]);
}

#[tokio::test]
async fn a_start_of_a_type_that_nobody_knows_is_counted() {
    let mut rig = Rig::of(Registry::default(), "");
    let told = Told::default();
    count_into(&rig, &told);
    rig.runner.start(crate::id::Incarnation(7));
    let exit = rig.end().await;
    assert!(exit.to_string().contains("registers no actor"), "{exit}");
    until("it is counted", || !told.lock().unwrap().is_empty()).await;
    assert_eq!(*told.lock().unwrap(), [("counted", 7)]);
}

#[tokio::test]
async fn code_that_comes_back_after_it_was_left_behind_changes_nothing_and_is_no_longer_counted() {
    let mut rig = Rig::ready::<Bad>("").await;
    let bad = rig.address::<Do>();
    let (enough, spins) = mpsc::channel();
    bad.cast(Do::Spin(spins)).unwrap();
    // Its start, too, runs until its first turn is over: what counts is that the message is taken.
    let spins = || {
        let site = &rig.host.sites()[0];
        site.inbox.look().now == 0 && site.current().is_some_and(|life| life.feel().0)
    };
    until("it spins", spins).await;
    rig.runner.kill();
    assert_eq!(rig.end().await, Exit::Abandoned);
    rig.start(2).await;
    enough.send(()).unwrap();
    until("it has come back", || rig.host.left_behind() == 0).await;
    assert!(bad.call(Do::Alive).await.is_ok());
}
