//! The watch: probes and coordinator on a thread of their own.
//!
//! Beside the control plane, because a thousand looks must not delay one restart, and on one thread together, because
//! what that thread loses to a busy machine is what must be subtracted from every deadline it keeps. A runtime goes on
//! without it: crashes are answered by the control plane alone.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::sync::oneshot;

use crate::coordinator::{Coordinator, CoordinatorArguments, CoordinatorMsg, Inbox, Sinks};
use crate::probe::Means;
use crate::supervisor::{Branch, Judged, Plane};

use super::handle::RuntimeInfo;

/// The end of the runtime waits this long for the thread, which needs a millisecond: whatever hangs in it (a dead
/// network mount, a name that cannot be resolved) is left behind.
const PATIENCE: Duration = Duration::from_millis(500);

/// Name look-ups and looks at disks may hang, one of each probe; more than this at a time wait for each other.
const BLOCKING: usize = 32;

/// The watch; it ends when dropped.
pub(super) struct Watch {
    stop: Option<oneshot::Sender<()>>,
    done: std::sync::mpsc::Receiver<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.done.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the watch does not end; it is left behind");
        }
    }
}

/// Starts it. Before anybody is started: what comes to be earlier is not watched.
pub(super) fn start(info: &Arc<RuntimeInfo>, plane: &Arc<Plane>, means: Means) -> io::Result<Watch> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(512 * 1024)
        .thread_name("regrow-look")
        .build()?;
    let (inbox, bell) = (Inbox::default(), Arc::new(OnceLock::new()));
    let arguments = CoordinatorArguments {
        sinks: sinks(info, plane),
        inbox: inbox.clone(),
        means,
        workers_dir: info.state_dir.join("w"),
    };
    let (stop, stopped) = oneshot::channel();
    let (over, done) = std::sync::mpsc::sync_channel(1);
    let ring: Arc<OnceLock<ActorRef<CoordinatorMsg>>> = Arc::clone(&bell);
    std::thread::Builder::new().name("regrow-watch".to_owned()).stack_size(512 * 1024).spawn(move || {
        runtime.block_on(watch(arguments, &bell, stopped));
        runtime.shutdown_background();
        drop(bell);
        // The end of the runtime may wait no longer.
        let _ = over.send(());
    })?;
    let bell = Arc::clone(&ring);
    info.heed_settings(Box::new(move |_, _| {
        if let Some(coordinator) = bell.get() {
            // As below.
            let _ = coordinator.send_message(CoordinatorMsg::Changed);
        }
    }));
    plane.watch_vitals(Box::new(move |instance, incarnation, vital| {
        if inbox.put(instance, incarnation, vital)
            && let Some(coordinator) = ring.get()
        {
            // One that is gone judges nobody any more.
            let _ = coordinator.send_message(CoordinatorMsg::News);
        }
    }));
    Ok(Watch { stop: Some(stop), done })
}

async fn watch(
    arguments: CoordinatorArguments,
    bell: &OnceLock<ActorRef<CoordinatorMsg>>,
    stopped: oneshot::Receiver<()>,
) {
    match Coordinator::spawn(None, Coordinator, arguments).await {
        Ok((coordinator, handle)) => {
            // Set once; and what came before it could be rung waits in the inbox.
            let _ = bell.set(coordinator.clone());
            let _ = coordinator.send_message(CoordinatorMsg::News);
            tokio::select! {
                // Also when the sender is gone.
                _ = stopped => coordinator.kill(),
                _ = handle => tracing::error!("the coordinator ended: nobody is probed any more; this is a bug"),
            }
        }
        Err(error) => tracing::error!(%error, "the coordinator cannot be started: nobody is probed"),
    }
}

fn sinks(info: &Arc<RuntimeInfo>, plane: &Arc<Plane>) -> Sinks {
    let to = || Arc::clone(plane);
    let (judged, ready, shown, event, worker, clock) = (to(), to(), to(), to(), to(), to());
    let (settings, looks) = (Arc::clone(info), info.looks.clone());
    Sinks {
        judged: Box::new(move |instance, incarnation, verdict| {
            judged.judge(Judged { instance: instance.clone(), incarnation, verdict });
        }),
        ready: Box::new(move |instance, incarnation, ()| ready.probed(instance, incarnation)),
        shown: Box::new(move |instance, incarnation, verdict| {
            shown.board.update(instance, |entry| entry.judged = Some((incarnation, verdict)));
        }),
        looked: Box::new(move |instance, incarnation, probe, seen| {
            looks.note(instance, incarnation, probe, seen);
        }),
        event: Box::new(move |mut told| {
            told.supervisor = told.worker.as_ref().and_then(|worker| event.home(worker));
            event.emit(told);
        }),
        worker: Box::new(move |name| {
            let node = worker.node(&worker.home(name)?)?;
            node.children.iter().find_map(|branch| match branch {
                Branch::Worker(_, settings) if settings.name == *name => Some(Arc::clone(settings)),
                Branch::Worker(..) | Branch::Supervisor(_) => None,
            })
        }),
        settings: Box::new(move || settings.settings()),
        now: Arc::new(move || clock.now()),
    }
}
