//! Carries the journal to the store, and reads it back over restarts.
//!
//! A thread of its own opens the store, follows the journal and puts in what has come since the last commit, with the
//! totals of those whom it is about. Supervision only emits: between it and the disk lies the journal's own bounded
//! buffer. A disk that is full or slow costs events that were not kept, which are counted and told; it is tried again
//! every second.
//!
//! Workers start while the store is being opened, and a restart is not disturbed by its own events on their way to the
//! disk: they are gathered until it is quiet, or until somebody waits for them.
//!
//! It also takes down what every instance is like, and lets go of what is too old.
//!
//! What clients are shown is kept already, as long as the disk keeps anything: otherwise a number that somebody saw
//! could mean another event after a kill. [`RuntimeHandle::settled`](super::RuntimeHandle::settled) is that wait, with a bound.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::id::InstanceId;
use crate::store::{EventCounts, Home, InstanceTotals, KeptEvent, Limits, Store, StoreError};
use crate::supervisor::Board;
use crate::telemetry::{Journal, Recorded, Subscription};

use super::figures::Figures;
use super::handle::RuntimeInfo;
use super::lessons;
use super::past::{self, Memory, Opening, Past, written};
use super::steady::Steady;
use super::tallies;
use super::ticks::Ticks;
use super::timeline::Timeline;

/// Events in one commit at most.
const TOGETHER: usize = 1024;

/// How long after a failure the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a commit at the end may take before the end does without it.
const LAST: Duration = Duration::from_secs(3);

/// In a storm of events it rests between two commits so many times as long as the first took: a quarter of a processor
/// is what a history may cost the workers. What does not fit into the journal's buffer meanwhile is counted as missing;
/// some thousand restarts a second do fit.
const RESTS: u32 = 3;

/// The longest rest, also where a disk takes seconds for a commit.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// So long nothing happens before what has happened goes to the disk: a restart takes a fiftieth of it.
const QUIET: Duration = Duration::from_millis(50);

/// Where something happens all the time, it goes to the disk that often; far less than the journal holds comes meanwhile.
const LONGEST_GATHERING: Duration = Duration::from_millis(250);

/// The same while everybody is started.
const LONGEST_BOOT: Duration = Duration::from_secs(2);

/// So long nothing happens before the store is opened, and how long it may take until then: making and looking over
/// files holds up whoever makes a directory at the same time, as every first start does.
const BREATH: Duration = Duration::from_millis(10);
const LONGEST_BREATH: Duration = Duration::from_millis(300);

/// How far it stands back where processors are short: in a storm of crashes the workers come first, and the store keeps
/// what it can.
const STANDS_BACK: i32 = 10;

/// How often it is taken down what everybody is like, and when first.
const SAMPLE: Duration = Duration::from_secs(10);
const FIRST_SAMPLE: Duration = Duration::from_secs(1);

/// How often what is too old goes: after a minute with many events, otherwise seldom, because looking costs something.
const TRIM: Duration = Duration::from_secs(60);
const SELDOM: Duration = Duration::from_secs(600);
const MANY: u64 = 1000;

/// Readers of figures that may wait at once; more wait for their turn.
const READERS: usize = 64;

/// Everything is shown at once: nothing is kept right now, or ever.
const NOTHING_TO_WAIT_FOR: u64 = u64::MAX;

/// The thread.
pub(super) struct Keeper {
    opening: Opening,
    /// The same for whoever blocks.
    opened: Mutex<Option<Receiver<()>>>,
    boarded: Mutex<Option<oneshot::Sender<()>>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Begins to open the store, beside everything else. A disk that does not play along is told, and supervision does
    /// without.
    pub(super) fn begin(
        info: &Arc<RuntimeInfo>,
        home: Home,
        journal: &Journal,
        board: &Board,
    ) -> std::io::Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let entered = runtime.enter();
        let samples = Ticks::new(SAMPLE, FIRST_SAMPLE)?;
        drop(entered);
        let (under_way, over) = watch::channel(());
        let opening = Opening { found: Arc::default(), over };
        let ((tell, opened), (boarded, wait)) = (sync_channel(1), oneshot::channel());
        let (stop, stopped) = oneshot::channel();
        let (found, info, journal, board) =
            (Arc::clone(&opening.found), Arc::clone(info), journal.clone(), board.clone());
        let thread = std::thread::Builder::new().name("regrow-keeper".to_owned()).spawn(move || {
            let boarded = runtime.block_on(async {
                let boarded = wait.await.is_ok();
                if boarded {
                    quiet(&journal, BREATH, LONGEST_BREATH).await;
                }
                boarded
            });
            if !boarded {
                // There is nobody: the boot has failed.
                return;
            }
            let store = Store::open_in(&home, None);
            let store = store.inspect_err(|error| info.note(format!("no history is kept: {error}")));
            let Ok(store) = store else { return };
            // Of this thread alone. A system that refuses it has its reasons, and nothing rests on it.
            let _ = rustix::process::nice(STANDS_BACK);
            runtime.block_on(async {
                past::resume(store.beginning(), &journal);
                past::recall(store.beginning(), &board);
                tallies::recall(&store.beginning().tallies, &board, &journal, info.looks());
                let work = Work::begin(store, journal, board, info);
                // Set once; and whoever has begun this may have gone.
                let _ = found.set(work.past());
                let _ = tell.send(());
                drop(under_way);
                work.run(samples, stopped).await;
            });
        })?;
        Ok(Arc::new(Self {
            opening,
            opened: Mutex::new(Some(opened)),
            boarded: Mutex::new(Some(boarded)),
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Everybody is on the board: what they have behind them can be given to them.
    pub(super) fn boarded(&self) {
        // A thread that is gone has no store.
        let _ = lock(&self.boarded).take().map(|boarded| boarded.send(()));
    }

    /// Blocks until the store is open, or cannot be; not before everybody is on the board.
    pub(super) fn wait(&self) {
        if let Some(opened) = lock(&self.opened).take() {
            // A thread that is gone has told why.
            let _ = opened.recv();
        }
    }

    /// What is known of before, and when.
    pub(super) fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Keeps what has come until now and closes the store. Blocks, for a few seconds at most.
    pub(super) fn close(&self) {
        // Who still waits for everybody to be on the board waits in vain.
        drop(lock(&self.boarded).take());
        // A receiver that is gone has ended already.
        let _ = lock(&self.stop).take().map(|stop| stop.send(()));
        let until = Instant::now() + LAST;
        if let Some(thread) = lock(&self.thread).take() {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // A panic in it was told where it happened.
                let _ = thread.join();
            }
        }
        if let Some(past) = self.opening.past() {
            past.store.close(LAST);
        }
    }
}

struct Work {
    store: Store,
    journal: Journal,
    board: Board,
    live: Subscription,
    batch: Vec<Arc<Recorded>>,
    settled: watch::Sender<u64>,
    asked: Arc<Notify>,
    memory: Memory,
    lost: Arc<AtomicU64>,
    /// The number of the last event that was kept, or given up.
    last: u64,
    /// Which file the totals of everybody are in; one that was fresh at the start needs none.
    generation: u64,
    /// Whether it is certain that our numbers are behind those in the file.
    certain: bool,
    info: Arc<RuntimeInfo>,
    figures: Figures,
    tallies: tallies::Written,
    timeline: Timeline,
    /// Those who want to read figures that wait to be written.
    readers: mpsc::Receiver<oneshot::Sender<()>>,
    ask: mpsc::Sender<oneshot::Sender<()>>,
    /// When what is too old went last, and the number of the last event then.
    trimmed: (Instant, u64),
    clock: Steady,
}

impl Work {
    /// What comes behind the last event that was kept.
    fn begin(store: Store, journal: Journal, board: Board, info: Arc<RuntimeInfo>) -> Self {
        let last = store.beginning().last_seq;
        let (ask, readers) = mpsc::channel(READERS);
        Self {
            certain: store.is_open(),
            store,
            live: journal.after(last),
            journal,
            board,
            batch: Vec::new(),
            settled: watch::channel(last).0,
            asked: Arc::default(),
            memory: Memory::default(),
            lost: Arc::default(),
            last,
            generation: 0,
            timeline: Timeline::new(&info.state_dir),
            info,
            figures: Figures::default(),
            tallies: tallies::Written::default(),
            readers,
            ask,
            trimmed: (Instant::now(), last),
            clock: Steady::begin(),
        }
    }

    /// The same as others see it.
    fn past(&self) -> Past {
        Past {
            store: self.store.clone(),
            kept: self.settled.subscribe(),
            asked: Arc::clone(&self.asked),
            readers: self.ask.clone(),
            lost: Arc::clone(&self.lost),
            stuck: Arc::default(),
            memory: self.memory.clone(),
        }
    }

    async fn run(mut self, mut samples: Ticks, mut stopped: oneshot::Receiver<()>) {
        let mut stopping = false;
        let mut longest = LONGEST_BOOT;
        if let Err(error) = lessons::recall(&self.store.archive(), &self.info.healer).await {
            tracing::warn!(%error, "earlier incidents are not known");
        }
        loop {
            // What is still to be kept is in the timelines already.
            let written = self.batch.len();
            if self.batch.is_empty() && !stopping {
                tokio::select! {
                    Some(event) = self.live.next() => self.batch.push(event),
                    () = samples.tick() => {
                        if self.figures.take(&self.board, &self.info) {
                            self.figures.write(&self.store).await;
                            self.write_tallies().await;
                            self.trim_if_due().await;
                        }
                        self.remember().await;
                        continue;
                    }
                    Some(reply) = self.readers.recv() => {
                        self.figures.write(&self.store).await;
                        // Who asked may have gone.
                        let _ = reply.send(());
                        continue;
                    }
                    () = self.memory.wanted() => {
                        self.remember().await;
                        continue;
                    }
                    _ = &mut stopped => stopping = true,
                }
            }
            if !stopping {
                tokio::select! {
                    () = self.gather(longest) => {}
                    _ = &mut stopped => stopping = true,
                }
                longest = LONGEST_GATHERING;
            }
            while self.batch.len() < TOGETHER
                && let Some(event) = self.live.next_now()
            {
                self.batch.push(event);
            }
            self.timeline.note(&self.batch[written..], &self.info.settings());
            if self.batch.is_empty() {
                break;
            }
            let (full, began) = (self.batch.len() == TOGETHER, Instant::now());
            let mut hurries = stopping;
            let rest = async |took: Duration| {
                if !hurries {
                    tokio::select! {
                        () = tokio::time::sleep((took * RESTS).min(LONGEST_REST)) => {}
                        () = self.asked.notified() => hurries = true,
                        _ = &mut stopped => (hurries, stopping) = (true, true),
                    }
                }
            };
            self.remember_with(rest).await; // First: an end that an event tells of is kept by then.
            if hurries {
                // Who waits may wait for more than is at hand here.
                self.asked.notify_one();
            }
            let kept = self.keep().await;
            if kept.is_ok() && full && !stopping {
                let rest = (began.elapsed() * RESTS).min(LONGEST_REST);
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    _ = &mut stopped => stopping = true,
                }
            }
            if let Err(StoreError::Another) = &kept {
                self.certain = false;
                continue;
            }
            if let Err(StoreError::Unwritable(why)) = &kept {
                // No later try will do better, and those behind it must not wait for ever.
                tracing::warn!(%why, "events cannot be written down and are left out");
                self.lost.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
                self.last = self.batch.last().map_or(self.last, |event| event.seq);
                self.batch.clear();
                continue;
            }
            if let Err(error) = kept {
                self.settled.send_replace(NOTHING_TO_WAIT_FOR);
                if stopping {
                    tracing::warn!(%error, "the last events are not kept");
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    // There is nothing newer to read. Who asked may have gone.
                    Some(reply) = self.readers.recv() => drop(reply.send(())),
                    _ = &mut stopped => stopping = true,
                }
            }
        }
        self.figures.write(&self.store).await;
        self.write_tallies().await;
        self.remember().await;
        self.settled.send_replace(NOTHING_TO_WAIT_FOR);
        self.memory.reached(NOTHING_TO_WAIT_FOR);
    }

    /// Waits until it is quiet, or until somebody waits for what there is.
    async fn gather(&self, longest: Duration) {
        tokio::select! {
            () = quiet(&self.journal, QUIET, longest) => {}
            () = self.asked.notified() => {}
        }
    }

    /// Writes down incidents and lessons. What fails waits for the next time, and nobody waits for it.
    async fn remember(&self) {
        self.remember_with(async |_| ()).await;
    }

    /// The same with a rest between rounds: ten thousand incidents that begin at once are many of them.
    async fn remember_with(&self, rest: impl AsyncFnMut(Duration)) {
        let known = lessons::remember_all(&self.store.archive(), &self.info.healer, rest).await;
        self.memory.reached(known.unwrap_or(NOTHING_TO_WAIT_FOR));
    }

    async fn write_tallies(&mut self) {
        self.tallies.renew(&self.store, &self.board, &self.journal, self.info.looks()).await;
    }

    async fn trim_if_due(&mut self) {
        let (age, events) = (self.trimmed.0.elapsed(), self.last.saturating_sub(self.trimmed.1));
        if age >= SELDOM || age >= TRIM && events >= MANY {
            self.trimmed = (Instant::now(), self.last);
            self.trim().await;
        }
    }

    /// Lets go of what is too old or too much. What fails is tried again with the next round.
    async fn trim(&self) {
        let kept = self.info.settings().store.clone();
        let limits = Limits { events: kept.events, samples: kept.samples, max_disk: kept.max_disk };
        let now = self.clock.now();
        let done = async {
            self.store.roll_up(now).await?;
            self.store.trim(now, limits).await
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "what is too old could not be removed");
        }
    }

    /// Puts the batch in; it stays if that fails.
    async fn keep(&mut self) -> Result<(), StoreError> {
        self.make_certain().await?;
        let (Some(first), Some(last)) = (self.batch.first(), self.batch.last()) else { return Ok(()) };
        let (first, last) = (first.seq, last.seq);
        let events: Vec<KeptEvent> = self.batch.iter().map(|recorded| kept(recorded)).collect();
        self.store.put_events(events, self.totals(), &self.counts(last)).await?;
        let missing = (first - 1).saturating_sub(self.last)
            + (last - first + 1).saturating_sub(self.batch.len() as u64);
        self.lost.fetch_add(missing, Ordering::Relaxed);
        self.last = last;
        self.settled.send_replace(last);
        self.batch.clear();
        let generation = self.store.generation();
        if generation != self.generation {
            // A fresh file knows only those of the last batch.
            let everybody = self.board.instances();
            let totals = everybody
                .iter()
                .map(|entry| (entry.instance.to_string(), Some(written(&entry.instance, &entry.totals()))));
            self.store.put_events(Vec::new(), totals.collect(), &self.counts(last)).await?;
            self.generation = generation;
        }
        Ok(())
    }

    fn counts(&self, last: u64) -> EventCounts {
        let counts = self.journal.counts().into_iter().filter(|(_, count)| *count > 0);
        EventCounts { last, by_kind: counts.map(|(kind, count)| (kind.word().to_owned(), count)).collect() }
    }

    /// A file that could not be opened at the start, or that somebody put in the place of ours, may hold numbers that were given out again since. Those events
    /// keep what they are in the file; ours of the same numbers are lost, and the next ones go on behind.
    async fn make_certain(&mut self) -> Result<(), StoreError> {
        if self.certain {
            return Ok(());
        }
        let last = self.store.last_seq().await?;
        self.journal.resume(last, &[]);
        let before = self.batch.len();
        self.batch.retain(|event| event.seq > last);
        self.lost.fetch_add((before - self.batch.len()) as u64, Ordering::Relaxed);
        self.last = self.last.max(last);
        self.certain = true;
        Ok(())
    }

    /// What those have behind them whom the batch is about; none: they are gone for good.
    fn totals(&self) -> Vec<(String, Option<InstanceTotals>)> {
        let mut about: Vec<&InstanceId> =
            self.batch.iter().filter_map(|recorded| recorded.event.instance.as_ref()).collect();
        about.sort();
        about.dedup();
        about
            .into_iter()
            .map(|id| {
                let totals = self.board.instance(id).map(|entry| written(id, &entry.totals()));
                (id.to_string(), totals)
            })
            .collect()
    }
}

/// Waits until nothing has happened for that long.
async fn quiet(journal: &Journal, quiet: Duration, longest: Duration) {
    let until = Instant::now() + longest;
    let mut before = None;
    while before != Some(journal.last_seq()) && Instant::now() < until {
        before = Some(journal.last_seq());
        tokio::time::sleep(quiet).await;
    }
}

fn kept(recorded: &Recorded) -> KeptEvent {
    KeptEvent { seq: recorded.seq, at: recorded.at, event: recorded.event.clone() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
