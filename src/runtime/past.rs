//! What is known of before: events over restarts of the runtime, and how far what happens now is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::event::EventKind;
use crate::id::InstanceId;
use crate::recovery::Outcome;
use crate::store::{Beginning, EventQuery, InstanceTotals, KeptEvent, Point, Store, StoreError};
use crate::supervisor::{Board, Totals};
use crate::telemetry::{Journal, Recorded};

use super::handle::RuntimeHandle;

/// The longest that an answer waits for its events to be kept. A disk that needs longer is in trouble, and answers
/// must not be.
const SETTLES: Duration = Duration::from_secs(5);

/// What is known of before: the store, and how far it is.
#[derive(Clone)]
pub(crate) struct Past {
    pub(super) store: Store,
    pub(super) kept: watch::Receiver<u64>,
    /// Somebody waits.
    pub(super) asked: Arc<Notify>,
    /// Has figures that wait written.
    pub(super) readers: mpsc::Sender<oneshot::Sender<()>>,
    pub(super) lost: Arc<AtomicU64>,
    /// One above how far it was when somebody waited in vain: until it moves, nobody else waits.
    pub(super) stuck: Arc<AtomicU64>,
    pub(super) memory: Memory,
}

/// How far incidents and what was learned are written down, by the healer's revisions, and who waits for that.
#[derive(Clone, Default)]
pub(super) struct Memory {
    known: watch::Sender<u64>,
    wanted: Arc<Notify>,
    /// As with events.
    stuck: Arc<AtomicU64>,
}

impl Memory {
    /// Somebody waits for it.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// It is written down as far as this.
    pub(super) fn reached(&self, revision: u64) {
        self.known.send_replace(revision);
    }
}

/// Waits until it is kept as far as this, or it is clear that it will not be soon.
async fn wait(kept: &watch::Receiver<u64>, stuck: &AtomicU64, until: u64, ask: impl FnOnce()) {
    let mut kept = kept.clone();
    let now = *kept.borrow();
    if now < until && stuck.load(Ordering::Relaxed) == now.saturating_add(1) {
        return;
    }
    if now < until {
        ask();
    }
    let wait = kept.wait_for(|kept| *kept >= until);
    // The keeper is gone: shown without.
    if tokio::time::timeout(SETTLES, wait).await.is_err() {
        stuck.store(now.saturating_add(1), Ordering::Relaxed);
    }
}

/// The store while it is being opened, and then; cheap to clone.
#[derive(Clone)]
pub(crate) struct Opening {
    pub(super) found: Arc<OnceLock<Past>>,
    /// Its sender is gone once it is over.
    pub(super) over: watch::Receiver<()>,
}

impl Opening {
    pub(super) fn past(&self) -> Option<&Past> {
        self.found.get()
    }

    /// Waits until it is over, however it ends.
    pub(super) async fn over(&self) {
        // Nothing is ever sent.
        let _ = self.over.clone().changed().await;
    }

    /// Whether what is to be kept is kept; where there can be no store, nothing is to be.
    pub(super) fn is_ready(&self) -> bool {
        match self.past() {
            Some(past) => past.store.is_open(),
            None => self.over.has_changed().is_err(),
        }
    }
}

impl Past {
    /// Waits until this event is kept, or it is clear that it will not be soon.
    async fn settled(&self, seq: u64) {
        wait(&self.kept, &self.stuck, seq, || self.asked.notify_one()).await;
    }

    /// The same of incidents.
    async fn remembered(&self, revision: u64) {
        let ask = || {
            // It gathers events, or waits for one.
            self.asked.notify_one();
            self.memory.wanted.notify_one();
        };
        wait(&self.memory.known.subscribe(), &self.memory.stuck, revision, ask).await;
    }

    /// Has the figures of the last minute written, or sees that they will not be soon.
    async fn figured(&self) {
        let (reply, written) = oneshot::channel();
        let written = async {
            // The keeper is gone: what there is, is written.
            if self.readers.send(reply).await.is_ok() {
                let _ = written.await;
            }
        };
        if tokio::time::timeout(SETTLES, written).await.is_err() {
            tracing::debug!("the last figures are not written yet");
        }
    }

    /// What is wrong with it.
    pub(crate) fn notes(&self) -> Vec<String> {
        let mut notes = self.store.notes();
        match self.lost.load(Ordering::Relaxed) {
            0 => {}
            lost => notes.push(format!(
                "state.db: {lost} events are missing in it: the disk was full or too slow for them"
            )),
        }
        notes
    }
}

impl RuntimeHandle {
    /// What was kept of before; none without a state directory, and until the store is open.
    pub(super) fn past(&self) -> Option<&Past> {
        self.opening()?.past()
    }

    /// Waits until what was kept of before is known, where anything is kept.
    pub(crate) async fn opened(&self) {
        if let Some(opening) = self.opening() {
            opening.over().await;
        }
    }

    /// Events, oldest first: those that were kept, over restarts of the runtime, and those of this moment.
    ///
    /// # Errors
    /// [`StoreError`]: some that were asked for are on a disk that cannot be read.
    pub async fn recorded(&self, query: EventQuery) -> Result<Vec<Arc<Recorded>>, StoreError> {
        self.settled(self.journal().last_seq()).await;
        let remembered = self.journal().since(query.after);
        let whole = remembered.first().is_none_or(|first| first.seq <= query.after.saturating_add(1));
        let mut found: Vec<Arc<Recorded>> = match self.past() {
            // All that is asked for is in memory.
            Some(_) if whole && !remembered.is_empty() => Vec::new(),
            Some(past) => past.store.events(query.clone()).await?.into_iter().map(again).collect(),
            None => Vec::new(),
        };
        let last = found.last().map_or(query.after, |recorded| recorded.seq);
        let room = query.limit.saturating_sub(found.len());
        found.extend(
            remembered
                .into_iter()
                .filter(|recorded| recorded.seq > last && fits(recorded, &query))
                .take(room),
        );
        Ok(found)
    }

    /// What was kept of before; none for a guest without a state directory, and for what is run from no file.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        self.past().map(|past| &past.store)
    }

    /// What an instance was like since then, oldest first: all that was seen until now. None without a store.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be read.
    pub async fn history(
        &self,
        instances: &[InstanceId],
        since: Timestamp,
    ) -> Result<Option<Vec<Vec<Point>>>, StoreError> {
        let Some(past) = self.past() else { return Ok(None) };
        past.figured().await;
        let mut all = Vec::with_capacity(instances.len());
        for instance in instances {
            all.push(past.store.history(&instance.to_string(), since).await?);
        }
        Ok(Some(all))
    }

    /// Waits until an event is kept, so that its number is good for ever. It does not wait long, and not at all
    /// without a store or while the disk takes nothing.
    pub async fn settled(&self, seq: u64) {
        if let Some(past) = self.past() {
            past.settled(seq).await;
        }
    }

    /// Waits until all events up to now are kept, or it is clear that they will not be soon: who is told that something
    /// was done finds it in the events, after a kill, too.
    pub(crate) async fn events_settled(&self) {
        self.settled(self.journal().last_seq()).await;
    }

    /// Waits until all that is known of incidents at this moment is kept, or it is clear that it will not be soon. Who
    /// shows one reads it first and waits then: after a kill it must not be another.
    pub async fn incidents_settled(&self) {
        if let Some(past) = self.past() {
            past.remembered(self.healer().revision()).await;
        }
    }
}

/// Lets counts and numbers go on where they were.
pub(super) fn resume(beginning: &Beginning, journal: &Journal) {
    let kind = |word: &str| EventKind::ALL.into_iter().find(|kind| kind.word() == word);
    let counts: Vec<(EventKind, u64)> =
        beginning.counts.iter().filter_map(|(word, count)| Some((kind(word)?, *count))).collect();
    journal.precede(beginning.last_seq, &counts);
}

/// Gives the instances on the board what they have behind them.
pub(super) fn recall(beginning: &Beginning, board: &Board) {
    for totals in &beginning.totals {
        // An instance of that name is no longer there.
        let Ok(id) = totals.instance.parse::<InstanceId>() else { continue };
        board.update(&id, |entry| {
            entry.earlier = Totals {
                restarts: totals.restarts,
                by_cause: totals
                    .by_cause
                    .iter()
                    .map(|(word, count)| (word.as_str().into(), *count))
                    .collect(),
                ok: totals.recovered,
                failed: totals.failed,
                interrupted: totals.interrupted,
                recoveries: totals.steps.iter().filter_map(known_step).collect(),
                ..Totals::default()
            };
        });
    }
}

/// What one has behind it, as it is kept.
pub(super) fn written(id: &InstanceId, totals: &Totals) -> InstanceTotals {
    InstanceTotals {
        instance: id.to_string(),
        restarts: totals.restarts,
        by_cause: totals.by_cause.iter().map(|(cause, count)| (cause.word().to_owned(), *count)).collect(),
        recovered: totals.ok,
        failed: totals.failed,
        interrupted: totals.interrupted,
        steps: totals
            .recoveries
            .iter()
            .map(|((strategy, outcome), count)| (strategy.clone(), outcome.word().to_owned(), *count))
            .collect(),
    }
}

/// One count as it was kept; a word of another program is passed over.
fn known_step((strategy, word, count): &(String, String, u64)) -> Option<((String, Outcome), u64)> {
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.word() == word)?;
    Some(((strategy.clone(), outcome), *count))
}

fn again(kept: KeptEvent) -> Arc<Recorded> {
    Arc::new(Recorded { schema: "regrow.event/1", seq: kept.seq, at: kept.at, event: kept.event })
}

fn fits(recorded: &Recorded, query: &EventQuery) -> bool {
    let word = recorded.event.kind.word();
    let kind = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => word.starts_with(prefix),
        None => word == pattern,
    };
    let about = |worker: &String| recorded.event.worker.as_ref().is_some_and(|own| own.as_str() == worker);
    query.since.is_none_or(|since| recorded.at >= since)
        && (query.kinds.is_empty() || query.kinds.iter().any(kind))
        && query.worker.as_ref().is_none_or(about)
        && query.incident.as_ref().is_none_or(|incident| recorded.event.incident.as_ref() == Some(incident))
}
