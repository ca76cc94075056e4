//! Plain ractor actors in a whole runtime: an actor that knows nothing of regrow is a worker like any other, and
//! nothing that it does ends anything but its own incarnation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use regrow::exit::{Exit, StartFailure};
use regrow::policy::Phase;
use regrow::ractor::{Actor, ActorProcessingErr, ActorRef};
use regrow::{Builder, CallError, CastError, Finished, Reply, Runtime, StartError, WorkerRef};
use serde::Deserialize;

use crate::guest::{Guest, until};
use crate::rig::PATIENCE;

/// An actor that does as it is told.
struct Plain {
    stopped: Arc<AtomicUsize>,
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bomb in Drop");
    }
}

struct State {
    number: u64,
    bombs: Vec<Bomb>,
}

enum Do {
    Panic,
    Fail,
    Bomb(Reply<()>),
    StopYourself,
    KillYourself,
    Spin(Arc<AtomicBool>, Reply<()>),
    /// The number of the incarnation, and the thread's name.
    Who(Reply<(u64, String)>),
    /// Waits until it may go on, yielding.
    Wait(Arc<tokio::sync::Notify>, Reply<()>),
    Nothing,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    panic_until: u64,
    fail_until: u64,
}

impl Actor for Plain {
    type Msg = Do;
    type State = State;
    type Arguments = (u64, Config);

    async fn pre_start(
        &self,
        _: ActorRef<Do>,
        (number, config): (u64, Config),
    ) -> Result<State, ActorProcessingErr> {
        assert!(number > config.panic_until, "not yet");
        if number <= config.fail_until {
            Err("no paper")?;
        }
        Ok(State { number, bombs: Vec::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Do>,
        message: Do,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Do::Panic => panic!("on the wire"),
            Do::Fail => Err("out of ink")?,
            Do::Bomb(reply) => {
                state.bombs.push(Bomb);
                reply.send(());
            }
            Do::StopYourself => myself.stop(None),
            Do::KillYourself => myself.kill(),
            Do::Spin(enough, began) => {
                began.send(());
                while !enough.load(Ordering::Relaxed) {}
            }
            Do::Who(reply) => {
                let thread = std::thread::current().name().unwrap_or_default().to_owned();
                reply.send((state.number, thread));
            }
            Do::Wait(may, began) => {
                began.send(());
                may.notified().await;
            }
            Do::Nothing => {}
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Do>, _: &mut State) -> Result<(), ActorProcessingErr> {
        self.stopped.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn builder(stopped: &Arc<AtomicUsize>) -> Builder {
    let stopped = Arc::clone(stopped);
    Runtime::builder().ractor("Plain", move |config: Config, who| {
        Ok((Plain { stopped: Arc::clone(&stopped) }, (who.incarnation().0, config)))
    })
}

const ONE: &str = "[worker.plain]\nactor = \"Plain\"\nbackoff.first = \"0s\"\n";

async fn one() -> (Guest, WorkerRef<Do>, Arc<AtomicUsize>) {
    let stopped = Arc::default();
    let guest = Guest::ready(builder(&stopped), ONE).await;
    let address = guest.handle.address::<Do>("plain").unwrap().with_patience(PATIENCE);
    (guest, address, stopped)
}

async fn number(address: &WorkerRef<Do>) -> u64 {
    address.call(Do::Who).await.unwrap().0
}

#[tokio::test]
async fn its_panic_is_told_with_its_place_and_answered_by_a_restart() {
    let (guest, address, stopped) = one().await;
    assert_eq!(guest.entry("plain").kind, "actor");
    address.cast(Do::Panic).unwrap();
    let entry = guest.until("plain", |entry| entry.restarts == 1 && entry.ready).await;
    let last = entry.last_exit.unwrap();
    assert!(
        matches!(&last.exit, Exit::Panicked { message } if message.starts_with("on the wire at tests/it/plain_actor.rs:")),
        "{last:?}"
    );
    assert_eq!(number(&address).await, 2);
    address.cast(Do::Fail).unwrap();
    let entry = guest.until("plain", |entry| entry.restarts == 2 && entry.ready).await;
    assert_eq!(entry.last_exit.unwrap().exit, Exit::Error { message: "out of ink".to_owned() });
    assert_eq!(stopped.load(Ordering::SeqCst), 0, "post_stop belongs to an orderly end");
    assert_eq!(guest.end().await, Finished::Stopped);
    assert_eq!(stopped.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn b4_a_panic_in_the_drop_of_its_state_harms_nobody() {
    let stopped = Arc::default();
    let text = format!("{ONE}[worker.sibling]\nactor = \"Plain\"\n");
    let guest = Guest::ready(builder(&stopped), &text).await;
    let address = guest.handle.address::<Do>("plain").unwrap().with_patience(PATIENCE);
    let endings: [fn() -> Do; 4] = [|| Do::Panic, || Do::Fail, || Do::StopYourself, || Do::KillYourself];
    for (done, ending) in endings.into_iter().enumerate() {
        address.call(Do::Bomb).await.unwrap();
        address.cast(ending()).unwrap();
        let entry = guest.until("plain", |entry| entry.restarts == done as u64 + 1 && entry.ready).await;
        let exit = entry.last_exit.unwrap().exit.to_string();
        assert!(exit.contains("a bomb in Drop"), "{exit}");
        assert_eq!(number(&address).await, done as u64 + 2);
    }
    // Asked by somebody, and at the end of the runtime.
    address.call(Do::Bomb).await.unwrap();
    guest.handle.restart("plain").await.unwrap();
    guest.until("plain", |entry| entry.restarts == 5 && entry.ready).await;
    address.call(Do::Bomb).await.unwrap();
    let sibling = guest.handle.address::<Do>("sibling").unwrap().with_patience(PATIENCE);
    assert_eq!(number(&sibling).await, 1);
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn b3_a_start_that_fails_is_counted_and_tried_again() {
    let stopped = Arc::default();
    let text = format!("{ONE}config = {{ panic_until = 1, fail_until = 2 }}\n");
    let guest = Guest::start(builder(&stopped), &text).await;
    let mut events = guest.handle.journal().follow(0);
    let entry = guest.until("plain", |entry| entry.ready).await;
    assert_eq!(entry.incarnation.0, 3);
    let last = entry.last_exit.unwrap().exit;
    let failed = |exit| Exit::StartFailed(StartFailure::BeforeReady { ended: Box::new(exit) });
    assert_eq!(last, failed(Exit::Error { message: "no paper".to_owned() }));
    let mut told = String::new();
    while !told.contains("not yet at tests/it/plain_actor.rs:") {
        let next = match events.0.is_empty() {
            false => events.0.remove(0),
            true => tokio::time::timeout(PATIENCE, events.1.next()).await.unwrap().unwrap(),
        };
        told.push_str(&next.event.message);
    }
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn stop_start_and_restart_are_those_of_any_worker() {
    let (guest, address, stopped) = one().await;
    guest.handle.stop("plain").await.unwrap();
    let entry = guest.until("plain", |entry| entry.phase == Phase::Stopped).await;
    assert_eq!(entry.last_exit.unwrap().exit, Exit::Stopped);
    assert_eq!(stopped.load(Ordering::SeqCst), 1);
    assert_eq!(address.call(Do::Who).await, Err(CallError::Gone));
    guest.handle.start("plain").await.unwrap();
    guest.until("plain", |entry| entry.ready).await;
    assert_eq!(number(&address).await, 2);
    guest.handle.restart("plain").await.unwrap();
    guest.until("plain", |entry| entry.incarnation.0 == 3 && entry.ready).await;
    assert_eq!(number(&address).await, 3);
    assert_eq!(guest.end().await, Finished::Stopped);
    assert_eq!(stopped.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_actor_that_stops_by_itself_is_done() {
    let stopped = Arc::default();
    let guest = Guest::ready(builder(&stopped), &format!("{ONE}restart = \"transient\"\n")).await;
    let address = guest.handle.address::<Do>("plain").unwrap();
    address.cast(Do::StopYourself).unwrap();
    let entry = guest.until("plain", |entry| entry.phase == Phase::Done).await;
    assert_eq!(entry.last_exit.unwrap().exit, Exit::Exited { code: 0 });
    assert_eq!(address.cast(Do::Nothing), Err(CastError::Gone));
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[test]
fn it_runs_where_its_host_put_it() {
    let named = |name: &str| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .unwrap()
    };
    let (host, other) = (named("its-host"), named("elsewhere"));
    let stopped = Arc::default();
    host.block_on(async {
        let guest = Guest::ready(builder(&stopped), ONE).await;
        let address = guest.handle.address::<Do>("plain").unwrap().with_patience(PATIENCE);
        assert_eq!(address.call(Do::Who).await.unwrap().1, "its-host");
        assert_eq!(guest.end().await, Finished::Stopped);
        let guest = Guest::ready(builder(&stopped).run_on(other.handle().clone()), ONE).await;
        let address = guest.handle.address::<Do>("plain").unwrap().with_patience(PATIENCE);
        assert_eq!(address.call(Do::Who).await.unwrap().1, "elsewhere");
        assert_eq!(guest.end().await, Finished::Stopped);
    });
}

#[tokio::test]
async fn what_it_has_not_read_is_dropped_with_it_and_counted() {
    let (guest, address, _) = one().await;
    let before = guest.handle.board().stale();
    let may = Arc::new(tokio::sync::Notify::new());
    address.call(|began| Do::Wait(Arc::clone(&may), began)).await.unwrap();
    // More than are handed on ahead, fewer than the mailbox takes.
    address.cast(Do::Panic).unwrap();
    for _ in 0..100 {
        address.cast(Do::Nothing).unwrap();
    }
    let waits = address.clone();
    let asked = tokio::spawn(async move { waits.call(Do::Who).await });
    tokio::task::yield_now().await;
    may.notify_one();
    guest.until("plain", |entry| entry.restarts == 1 && entry.ready).await;
    until("they are counted", || guest.handle.board().stale() - before >= 100).await;
    let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    // It may have asked only when the next one was there.
    assert!(matches!(answer, Err(CallError::Restarting) | Ok((2, _))), "{answer:?}");
    assert_eq!(number(&address).await, 2);
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn a_mailbox_that_is_full_says_so() {
    let (guest, address, _) = one().await;
    let may = Arc::new(tokio::sync::Notify::new());
    address.call(|began| Do::Wait(Arc::clone(&may), began)).await.unwrap();
    let mut taken = 0;
    while address.cast(Do::Nothing).is_ok() {
        taken += 1;
        assert!(taken < 5000, "ractor's own mailbox has no bound, the worker's has");
    }
    assert_eq!(address.cast(Do::Nothing), Err(CastError::Full));
    may.notify_one();
    until("there is room again", || address.cast(Do::Nothing).is_ok()).await;
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn b6_one_that_blocks_its_thread_is_named_and_left_behind() {
    let stopped = Arc::default();
    let text = format!("{ONE}stop.timeout = \"200ms\"\n[worker.sibling]\nactor = \"Plain\"\n");
    let guest = Guest::ready(builder(&stopped), &text).await;
    let address = guest.handle.address::<Do>("plain").unwrap().with_patience(PATIENCE);
    let enough = Arc::new(AtomicBool::new(false));
    address.call(|began| Do::Spin(Arc::clone(&enough), began)).await.unwrap();
    guest.until("plain", |entry| entry.issues.iter().any(|issue| issue.contains("blocks its thread"))).await;
    guest.handle.restart("plain").await.unwrap();
    let entry = guest.until("plain", |entry| entry.incarnation.0 == 2 && entry.ready).await;
    assert_eq!(entry.last_exit.unwrap().exit, Exit::Abandoned);
    assert_eq!(number(&address).await, 2);
    let sibling = guest.handle.address::<Do>("sibling").unwrap().with_patience(PATIENCE);
    assert_eq!(number(&sibling).await, 1);
    enough.store(true, Ordering::Relaxed);
    let left = || guest.handle.status().notes.iter().any(|note| note.contains("could not be ended"));
    until("it has come back", || !left()).await;
    assert_eq!(guest.end().await, Finished::Stopped);
}

#[tokio::test]
async fn its_settings_are_checked_before_anything_starts() {
    let text = format!("{ONE}config = {{ panic_untill = 1 }}\n");
    match builder(&Arc::default()).toml(text).start().await {
        Err(StartError::Config(text)) => assert!(text.contains("panic_untill"), "{text}"),
        other => panic!("{:?}", other.map(|_| "started")),
    }
}
