//! Commands beside workers on their way to their program.
//!
//! One can hang there for ever, on a dead mount, and a spawning thread with it. Whoever waits for it gives up sooner or
//! later and comes again, so one that nobody waits for any more is followed by no other of its kind until it has come
//! through: an instance's command holds one thread at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::exit::StartFailure;
use crate::id::InstanceId;

use super::host::ProcessHost;
use super::life::NUDGE;
use super::pool::Tools;

/// All that are on their way.
#[derive(Default)]
pub(super) struct Begins(Mutex<UnderWay>);

#[derive(Default)]
struct UnderWay {
    last: u64,
    all: HashMap<u64, Begin>,
}

struct Begin {
    instance: InstanceId,
    argv: Vec<String>,
    /// Nobody waits for it any more.
    left: bool,
}

impl Begins {
    /// `None`: the last one of this kind was given up, and hangs still.
    fn enter(&self, instance: &InstanceId, argv: &[String]) -> Option<u64> {
        let mut under_way = self.lock();
        let same = |begin: &Begin| begin.left && begin.instance == *instance && begin.argv == argv;
        if under_way.all.values().any(same) {
            return None;
        }
        under_way.last += 1;
        let number = under_way.last;
        under_way.all.insert(number, Begin { instance: instance.clone(), argv: argv.to_vec(), left: false });
        Some(number)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped once it has begun, or never will.
struct Work(Arc<ProcessHost>, u64);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.begins.lock().all.remove(&self.1);
    }
}

/// Dropped by whoever waits for it.
struct Asker(Arc<ProcessHost>, u64);

impl Drop for Asker {
    fn drop(&mut self) {
        if let Some(begin) = self.0.begins.lock().all.get_mut(&self.1) {
            begin.left = true;
        }
    }
}

impl ProcessHost {
    /// Has a command begin on a spawning thread. Whoever does not wait any more drops what has begun, which ends it.
    ///
    /// # Errors
    /// What `work` answers; or the one before hangs still.
    pub(super) async fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        instance: &InstanceId,
        argv: &[String],
        work: impl FnOnce(&mut Tools) -> Result<T, StartFailure> + Send + 'static,
    ) -> Result<T, StartFailure> {
        let system = |detail: &str| StartFailure::System { detail: detail.to_owned() };
        let Some(number) = self.begins.enter(instance, argv) else {
            return Err(system(
                "the one before still hangs in its start (a mount that does not answer?); nothing more is begun until that is over",
            ));
        };
        let (under_way, _asker) = (Work(Arc::clone(self), number), Asker(Arc::clone(self), number));
        let (answer, mut begun) = oneshot::channel();
        self.pool.run_beside(move |tools| {
            let begun = (!answer.is_closed()).then(|| work(tools));
            // Before the answer: whoever has that may ask for the next one.
            drop(under_way);
            if let Some(begun) = begun {
                drop(answer.send(begun));
            }
        });
        loop {
            tokio::select! {
                begun = &mut begun => return begun.map_err(|_| system("the runtime ends"))?,
                () = tokio::time::sleep(NUDGE) => self.pool.nudge(),
            }
        }
    }
}
