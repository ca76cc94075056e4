//! The store as everybody else sees it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::Value;

use super::db::Db;
use super::error::StoreError;
use super::events::{self, EventQuery, KeptEvent};
use super::home::Home;
use super::lane::{Command, Job, Lane, TOGETHER, Which};
use super::open::{Options, Place};
use super::tallies::{self, Tallies};
use super::totals::{self, EventCounts, InstanceTotals};
use super::{quarantine, record, schema};

/// How a file is.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Whether there is a connection to it.
    pub(super) open: AtomicBool,
    /// Rises when the file is replaced by a fresh one.
    pub(super) generation: AtomicU64,
    /// How often somebody put another file in its place, and how many of these were asked for their last number.
    pub(super) others: AtomicU64,
    asked: AtomicU64,
    /// Records that were moved aside.
    quarantined: AtomicU64,
    trouble: Mutex<Option<StoreError>>,
    notes: Mutex<Vec<String>>,
}

impl Health {
    /// Notes how the last attempt went.
    pub(super) fn tell(&self, trouble: Option<StoreError>) {
        *lock(&self.trouble) = trouble;
    }

    /// Notes something for good.
    pub(super) fn note(&self, note: String) {
        lock(&self.notes).push(note);
    }

    fn words(&self, name: &str, lost: &str) -> Vec<String> {
        let mut words = lock(&self.notes).clone();
        if let Some(trouble) = &*lock(&self.trouble) {
            words.push(format!("{name}: {lost} right now: {trouble}. Supervision goes on"));
        }
        match self.quarantined.load(Ordering::Relaxed) {
            0 => {}
            count => words.push(format!(
                "{name}: {count} damaged records were moved aside, into its table `quarantined`; check the disk"
            )),
        }
        words
    }
}

/// What earlier runtimes left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Beginning {
    /// The number of the last event.
    pub last_seq: u64,
    /// How many events of each kind there were, by the contract's words.
    pub counts: Vec<(String, u64)>,
    /// What the instances have behind them.
    pub totals: Vec<InstanceTotals>,
    /// Counts that only the metrics page has.
    pub tallies: Tallies,
}

impl Beginning {
    /// Reads it; what cannot be read is noted, and begins anew.
    fn read(conn: &Connection, health: &Health) -> Result<Self, StoreError> {
        let last_seq = events::last(conn)?;
        let (totals, lost) = totals::all(conn)?;
        if !lost.is_empty() {
            health.note(format!("the totals of {} were damaged and begin anew", lost.join(", ")));
        }
        let counts = totals::counts(conn)?.unwrap_or_else(|| {
            health.note("the counts of events were damaged and begin anew".to_owned());
            EventCounts::default()
        });
        let tallies = tallies::read(conn)?.unwrap_or_else(|| {
            health.note("the counts of probes and lost lines were damaged and begin anew".to_owned());
            Tallies::default()
        });
        health.quarantined.store(quarantine::count(conn)?, Ordering::Relaxed);
        // Old events go; the number of the last one stays.
        Ok(Self { last_seq: last_seq.max(counts.last), counts: counts.by_kind, totals, tallies })
    }
}

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What every handle leads to.
pub(super) struct Shared {
    pub(super) writer: Lane,
    reader: Lane,
    state: Arc<Health>,
    samples: Arc<Health>,
    places: [Place; 2],
    beginning: Beginning,
}

impl Shared {
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Reads; if the file turns out to be damaged, from what comes in its place.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        which: Which,
        find: impl Fn(&Connection) -> rusqlite::Result<T> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        match self.reader.put(which, find.clone()).await {
            Err(error) if error.is_damage() => {
                self.writer.suspect(which).await?;
                self.reader.put(which, find).await
            }
            other => other,
        }
    }

    /// Moves damaged records aside. A disk that does not take it now is met with the same records again.
    pub(super) async fn quarantine(&self, table: &'static str, damaged: Vec<(Value, String)>) {
        if damaged.is_empty() {
            return;
        }
        let put = move |conn: &Connection| quarantine::put(conn, table, &damaged);
        if let Ok(count) = self.writer.put(Which::State, put).await {
            self.state.quarantined.store(count, Ordering::Relaxed);
        }
    }
}

impl Store {
    /// Opens what is there, or makes it. A file that cannot be opened is no error: its trouble is in
    /// [`notes`](Self::notes), and it is tried again with every write.
    ///
    /// # Errors
    /// The directory is not there, or no thread could be started.
    pub fn open(options: &Options) -> Result<Self, StoreError> {
        let home = Home::at(&options.dir)?;
        Self::open_in(&home, options.vfs.as_deref())
    }

    /// The same in a directory that is held already.
    pub(crate) fn open_in(home: &Home, vfs: Option<&str>) -> Result<Self, StoreError> {
        let place = |name, steps, synced| Place {
            home: home.clone(),
            name,
            steps,
            synced,
            vfs: vfs.map(str::to_owned),
        };
        let places = [place("state.db", schema::STATE, true), place("samples.db", schema::SAMPLES, false)];
        let (state, samples) = (Arc::new(Health::default()), Arc::new(Health::default()));
        let files = Files {
            state: Db::open(places[0].clone(), Arc::clone(&state)),
            samples: Db::open(places[1].clone(), Arc::clone(&samples)),
        };
        let beginning = begin(&files.state, &state);
        let reading = Readers {
            state: Reader::new(places[0].clone(), Arc::clone(&state)),
            samples: Reader::new(places[1].clone(), Arc::clone(&samples)),
        };
        let writer = Lane::start("regrow-store", move |jobs| files.write(jobs))?;
        let reader = Lane::start("regrow-read", move |jobs| reading.run(jobs))?;
        Ok(Self { shared: Arc::new(Shared { writer, reader, state, samples, places, beginning }) })
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What earlier runtimes left.
    #[must_use]
    pub fn beginning(&self) -> &Beginning {
        &self.shared.beginning
    }

    /// Whether what is to be kept has a file to be kept in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.state.open.load(Ordering::Acquire)
    }

    /// Rises when a damaged file is replaced by a fresh one, which knows no totals yet.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.state.generation.load(Ordering::Acquire)
    }

    /// Why what is put in now is not kept, in words; `None`: it is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.state.trouble).as_ref().map(ToString::to_string)
    }

    /// What is wrong, in words: a full disk, damage that was found.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.shared.state.words("state.db", "events and totals are not kept");
        notes.extend(self.shared.samples.words("samples.db", "samples of health are not kept"));
        notes
    }

    /// Keeps events, the totals of those whom they are about (none: forgotten), and the counts of all events; all of it
    /// or nothing. It answers once they would survive a power cut.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was kept, or, after an error of the disk, it is not known. Putting the same events
    /// again is right in both cases, but after [`StoreError::Another`].
    pub async fn put_events(
        &self,
        events: Vec<KeptEvent>,
        totals: Vec<(String, Option<InstanceTotals>)>,
        counts: &EventCounts,
    ) -> Result<(), StoreError> {
        let rows = events.iter().map(events::Row::of).collect::<Result<Vec<_>, _>>()?;
        let counts = record::encode_counts(counts)?;
        let totals = totals
            .iter()
            .map(|(instance, totals)| totals::Row::of(instance, totals.as_ref()))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let state = Arc::clone(&self.shared.state);
        let keep = move |conn: &Connection| {
            if state.others.load(Ordering::Acquire) != state.asked.load(Ordering::Acquire) {
                return Ok(Err(StoreError::Another));
            }
            events::put(conn, &rows)?;
            totals::put(conn, &totals, &counts).map(Ok)
        };
        self.shared.writer.put(Which::State, keep).await?
    }

    /// Events that were kept, oldest first. Damaged ones are left out and moved aside.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be read.
    pub async fn events(&self, query: EventQuery) -> Result<Vec<KeptEvent>, StoreError> {
        let find = move |conn: &Connection| events::find(conn, &query);
        let (found, damaged) = self.shared.read(Which::State, find).await?;
        self.shared.quarantine("event", damaged).await;
        Ok(found)
    }

    /// The number of the last event that was kept.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be opened.
    pub async fn last_seq(&self) -> Result<u64, StoreError> {
        let state = Arc::clone(&self.shared.state);
        let last = move |conn: &Connection| {
            state.asked.store(state.others.load(Ordering::Acquire), Ordering::Release);
            let counted = totals::last(conn)?;
            Ok(events::last(conn)?.max(counted))
        };
        self.shared.writer.put(Which::State, last).await
    }

    /// Finishes what is queued and closes the files. Blocks, at most this long: a disk that hangs is left behind.
    pub fn close(&self, at_most: Duration) {
        let until = Instant::now() + at_most;
        // The reader first: the last one to close a file puts its WAL away.
        self.shared.reader.close(until);
        self.shared.writer.close(until);
        self.shared.state.open.store(false, Ordering::Release);
    }
}

/// Reads what is there. On a disk that is too full to open a file for two, it is read alone.
fn begin(state: &Db, health: &Health) -> Beginning {
    let read = match state.conn() {
        Some(conn) => Beginning::read(conn, health),
        None => state.place().peek().and_then(|conn| Beginning::read(&conn, health)),
    };
    match read {
        Ok(beginning) => beginning,
        Err(_) if state.conn().is_none() => {
            // The trouble itself is told already.
            Beginning::default()
        }
        Err(error) => {
            health.note(format!("state.db: what it holds cannot be read ({error}); numbers begin anew"));
            Beginning::default()
        }
    }
}

/// What the writing thread has.
struct Files {
    state: Db,
    samples: Db,
}

impl Files {
    fn of(&mut self, which: Which) -> &mut Db {
        match which {
            Which::State => &mut self.state,
            Which::Samples => &mut self.samples,
        }
    }

    /// Commits what is queued, never waits for more.
    fn write(mut self, jobs: &Receiver<Command>) {
        let mut closing = false;
        while let Some(first) = next(jobs, closing) {
            let mut batch: Vec<(Which, Box<dyn Job>)> = Vec::new();
            let mut suspected = Vec::new();
            let mut take = |command| match command {
                Command::Do(which, job) => batch.push((which, job)),
                Command::Suspect(which, reply) => suspected.push((which, reply)),
                Command::Close => closing = true,
            };
            take(first);
            jobs.try_iter().take(TOGETHER - 1).for_each(take);
            for (which, reply) in suspected {
                self.of(which).suspect();
                // Who asked may have gone meanwhile.
                let _ = reply.send(());
            }
            let (state, samples): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|(which, _)| *which == Which::State);
            for (which, jobs) in [(Which::State, state), (Which::Samples, samples)] {
                if !jobs.is_empty() {
                    self.of(which).commit(jobs.into_iter().map(|(_, job)| job).collect());
                }
            }
        }
    }
}

/// The next command; after the word to close only what is there already.
fn next(jobs: &Receiver<Command>, closing: bool) -> Option<Command> {
    if closing { jobs.try_recv().ok() } else { jobs.recv().ok() }
}

/// The reading thread's connections.
struct Readers {
    state: Reader,
    samples: Reader,
}

impl Readers {
    fn run(mut self, jobs: &Receiver<Command>) {
        let mut closing = false;
        while let Some(command) = next(jobs, closing) {
            match command {
                Command::Do(Which::State, job) => self.state.read(job),
                Command::Do(Which::Samples, job) => self.samples.read(job),
                // Only the writer looks files over.
                Command::Suspect(_, reply) => drop(reply),
                Command::Close => closing = true,
            }
        }
    }
}

struct Reader {
    place: Place,
    health: Arc<Health>,
    conn: Option<(u64, Connection)>,
}

impl Reader {
    fn new(place: Place, health: Arc<Health>) -> Self {
        Self { place, health, conn: None }
    }

    fn read(&mut self, mut job: Box<dyn Job>) {
        let result = self.attempt(job.as_mut());
        if result.is_err() {
            self.conn = None;
        }
        job.answer(result);
    }

    fn attempt(&mut self, job: &mut dyn Job) -> Result<(), StoreError> {
        let generation = self.health.generation.load(Ordering::Acquire);
        if self.conn.as_ref().is_none_or(|(opened, _)| *opened != generation) {
            self.conn = Some((generation, self.place.open_to_read()?));
        }
        let Some((_, conn)) = &self.conn else { return Err(StoreError::Closed) };
        Ok(job.run(conn)?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
