//! One worker, and somebody who starts it and writes down what it reports.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use crate::config::{Sources, load};
use crate::exit::Exit;
use crate::id::{Incarnation, InstanceId, Name};
use crate::worker::in_process::{InProcessHost, InProcessOptions, Registry, Worker, WorkerRef, install_hook};
use crate::worker::{Runner, WorkerReport};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Rig {
    pub(super) host: Arc<InProcessHost>,
    pub(super) runner: Box<dyn Runner>,
    reports: Mutex<mpsc::UnboundedReceiver<(Incarnation, WorkerReport)>>,
    id: InstanceId,
    _dir: tempfile::TempDir,
}

impl Rig {
    /// A worker of this type, with these further keys, not started.
    pub(super) fn new<W: Worker>(keys: &str) -> Self {
        let mut registry = Registry::default();
        registry.add::<W>("It");
        Self::of(registry, keys)
    }

    /// The same in a program that knows these types.
    pub(super) fn of(registry: Registry, keys: &str) -> Self {
        install_hook();
        let dir = tempfile::tempdir().unwrap();
        let text = format!("[worker.it]\nactor = \"It\"\n{keys}\n");
        let settings = load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings;
        let host = InProcessHost::new(registry, dir.path(), InProcessOptions::default());
        let (tell, reports) = mpsc::unbounded_channel();
        let id = InstanceId::single(Name::try_new("it").unwrap());
        let reporter: crate::worker::Reporter = Arc::new(move |incarnation, report| {
            let _ = tell.send((incarnation, report));
        });
        let runner = host.runner(&id, &settings.workers[0], reporter);
        Self { host, runner, reports: Mutex::new(reports), id, _dir: dir }
    }

    /// The same, started and ready.
    pub(super) async fn ready<W: Worker>(keys: &str) -> Self {
        let mut rig = Self::new::<W>(keys);
        rig.start(1).await;
        rig
    }

    pub(super) async fn start(&mut self, incarnation: u64) {
        self.runner.start(Incarnation(incarnation));
        self.wait(|report| *report == WorkerReport::Ready).await;
    }

    pub(super) fn address<M: Send + 'static>(&self) -> WorkerRef<M> {
        self.host.directory().address(&self.id).unwrap()
    }

    /// The next report that is like this; others are passed over.
    pub(super) async fn wait(&self, like: impl Fn(&WorkerReport) -> bool) -> (Incarnation, WorkerReport) {
        let mut reports = self.reports.lock().await;
        let mut others = Vec::new();
        let found = async {
            loop {
                let (incarnation, report) = reports.recv().await.unwrap();
                if like(&report) {
                    return (incarnation, report);
                }
                others.push(report);
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.ok();
        found.unwrap_or_else(|| panic!("the report does not come; what came: {others:?}"))
    }

    /// How it ends.
    pub(super) async fn end(&self) -> Exit {
        let ended = |report: &WorkerReport| {
            matches!(report, WorkerReport::Exited { .. } | WorkerReport::StartFailed { .. })
        };
        match self.wait(ended).await.1 {
            WorkerReport::Exited { exit } | WorkerReport::StartFailed { exit, .. } => exit,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.host.close();
    }
}

/// Waits for a condition that nobody announces.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
