//! Writing down what operators want, until it is written.
//!
//! A disk that is full or gone is named as long as it is, the answer to whoever asked says so, and it is tried again
//! every second: a stop that was answered lasts over restarts of the runtime from then on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::director::lock;
use super::handle::RuntimeInfo;
use super::intents::Intents;

/// How long an answer waits for the disk that keeps what was asked for.
const KEPT_WITHIN: Duration = Duration::from_secs(2);

/// How long after a failure the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether everything that operators want is written down.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    why: Mutex<Option<String>>,
    retrying: AtomicBool,
    /// One writer at a time, and each writes what is newest when its turn comes.
    turn: Mutex<()>,
}

impl Unkept {
    /// What keeps it from being written down; `None`: it is.
    pub(super) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: Option<String>) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Writes the intents down beside the control plane, which must not wait for a disk. Must be called on it.
pub(super) fn save_elsewhere(intents: &Arc<Mutex<Intents>>, info: &Arc<RuntimeInfo>) {
    // Nobody waits for the answer.
    drop(begin(intents, info));
}

/// The same; returns once they are written, or it is clear that they will not be soon. A disk that hangs is named;
/// nobody waits for it for ever.
pub(super) async fn kept(intents: Arc<Mutex<Intents>>, info: Arc<RuntimeInfo>) {
    let tried = begin(&intents, &info);
    if tokio::time::timeout(KEPT_WITHIN, tried).await.is_err() {
        info.unkept.set(Some("the state directory is slow".to_owned()));
    }
}

/// One try, and more of them later if it fails. Without a thread to spare it is made here and now: a lost intent
/// would start what somebody has stopped.
fn begin(intents: &Arc<Mutex<Intents>>, info: &Arc<RuntimeInfo>) -> oneshot::Receiver<()> {
    let (tell, tried) = oneshot::channel();
    if !lock(intents).is_kept() {
        // Nobody may wait.
        let _ = tell.send(());
        return tried;
    }
    let plane = tokio::runtime::Handle::current();
    let work = {
        let (intents, info, plane) = (Arc::clone(intents), Arc::clone(info), plane.clone());
        let writing = info.writers.begin();
        move || {
            save(&intents, &info, &plane);
            drop(writing);
            // Who waited has answered without.
            let _ = tell.send(());
        }
    };
    if std::thread::Builder::new().name("regrow-intents".to_owned()).spawn(work).is_err() {
        save(intents, info, &plane);
    }
    tried
}

fn save(intents: &Arc<Mutex<Intents>>, info: &Arc<RuntimeInfo>, plane: &tokio::runtime::Handle) {
    let unkept = &info.unkept;
    let _turn = lock(&unkept.turn);
    let newest = lock(intents).clone();
    let Err(error) = newest.save() else { return unkept.set(None) };
    unkept.set(Some(error.to_string()));
    if unkept.retrying.swap(true, Ordering::SeqCst) {
        return;
    }
    let (intents, info) = (Arc::downgrade(intents), Arc::clone(info));
    plane.spawn(async move {
        tokio::time::sleep(AGAIN).await;
        info.unkept.retrying.store(false, Ordering::SeqCst);
        // Without the runtime there is nothing to be kept.
        if let Some(intents) = intents.upgrade() {
            save_elsewhere(&intents, &info);
        }
    });
}
