//! Which Rust types this program knows, by the names that `actor = "Name"` uses.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::ActorCheck;
use crate::id::InstanceId;
use crate::worker::look::Probe;
use crate::worker::{RecoveryStrategy, Remedies};

use super::directory::Directory;
use super::failure::WorkerError;
use super::fault::{Faults, Faulty};
use super::guard::UserFuture;
use super::inbox::{Inbox, Ordered};
use super::life::{End, Life};
use super::panic::contain;
use super::plain::{Ground, Plain, PlainActor};
use super::run::{Home, run};
use super::worker::Worker;

/// Whose code it is that reads settings before there is a worker. No worker has this number.
const READER: u64 = u64::MAX;

/// The types of one program.
#[derive(Clone, Default)]
pub(crate) struct Registry {
    actors: BTreeMap<String, Arc<dyn Factory>>,
    probes: BTreeMap<String, Arc<dyn Probe>>,
    ground: Ground,
    remedies: Remedies,
}

/// Makes the inside of actor workers of one type.
pub(super) trait Factory: Send + Sync {
    /// Whether this can be read as the worker's own settings; if not, why.
    fn check(&self, config: &Value) -> Result<(), String>;
    /// The inside of one instance.
    fn open(&self, directory: &Directory, id: &InstanceId) -> Arc<dyn Body>;
}

/// The typed inside of one instance.
pub(super) trait Body: Send + Sync {
    /// Its mailbox.
    fn inbox(&self) -> Arc<dyn Ordered>;
    /// An incarnation that has not run yet, and the place where its state will lie.
    fn begin(&self, life: &Arc<Life>) -> (UserFuture<End>, Arc<dyn Owned>);
}

/// The state of a user, owned beside the future that uses it.
pub(super) trait Owned: Send + Sync {
    /// Drops it.
    fn clear(&self);
}

impl Registry {
    /// Makes a type known; a later one of the same name takes its place.
    pub(crate) fn add<W: Worker>(&mut self, name: &str) {
        self.actors.insert(name.to_owned(), Arc::new(Typed::<W>(PhantomData)));
    }

    /// Makes a plain ractor actor known; a later one of the same name takes its place.
    pub(crate) fn add_plain<A, C>(
        &mut self,
        name: &str,
        make: impl Fn(C, PlainActor) -> Result<(A, A::Arguments), WorkerError> + Send + Sync + 'static,
    ) where
        A: ractor::Actor,
        C: DeserializeOwned + Send + 'static,
    {
        self.actors.insert(name.to_owned(), Arc::new(Plain::new(make, self.ground.clone())));
    }

    /// Makes a probe known; a later one of the same name takes its place.
    pub(crate) fn add_probe(&mut self, name: &str, probe: Arc<dyn Probe>) {
        self.probes.insert(name.to_owned(), probe);
    }

    /// A probe by its name.
    pub(crate) fn probe(&self, name: &str) -> Option<Arc<dyn Probe>> {
        self.probes.get(name).cloned()
    }

    /// Makes a recovery strategy known; a later one of the same name takes its place.
    pub(crate) fn add_strategy(&mut self, name: &str, strategy: Arc<dyn RecoveryStrategy>) {
        self.remedies.add(name, strategy);
    }

    pub(super) fn strategy(&self, name: &str) -> Option<Arc<dyn RecoveryStrategy>> {
        self.remedies.find(name)
    }

    /// Plain actors run on this tokio runtime; without one, on the worker plane.
    pub(crate) fn settle(&self, ground: tokio::runtime::Handle) {
        self.ground.settle(ground);
    }

    /// The same types, each of which can be struck by these faults.
    pub(crate) fn with_faults(mut self, faults: &Faults) -> Self {
        for inner in self.actors.values_mut() {
            *inner = Arc::new(Faulty { inner: Arc::clone(inner), faults: faults.clone() });
        }
        self
    }

    pub(super) fn find(&self, name: &str) -> Option<&Arc<dyn Factory>> {
        self.actors.get(name)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.actors.keys()).finish()
    }
}

impl ActorCheck for Registry {
    fn names(&self) -> Vec<String> {
        self.actors.keys().cloned().collect()
    }

    fn probes(&self) -> Vec<String> {
        self.probes.keys().cloned().collect()
    }

    fn strategies(&self) -> Vec<String> {
        self.remedies.names()
    }

    fn check(&self, actor: &str, config: &Value) -> Result<(), String> {
        let Some(factory) = self.actors.get(actor) else { return Ok(()) };
        let read = contain(READER, || factory.check(config));
        read.unwrap_or_else(|panicked| Err(format!("it panics while it is read: {}", panicked.message)))
    }
}

struct Typed<W>(PhantomData<fn() -> W>);

impl<W: Worker> Factory for Typed<W> {
    fn check(&self, config: &Value) -> Result<(), String> {
        read::<W::Config>(config).map(drop)
    }

    fn open(&self, directory: &Directory, id: &InstanceId) -> Arc<dyn Body> {
        Arc::new(Instance::<W> { inbox: directory.inbox(id, W::MAILBOX) })
    }
}

struct Instance<W: Worker> {
    inbox: Arc<Inbox<W::Message>>,
}

impl<W: Worker> Body for Instance<W> {
    fn inbox(&self) -> Arc<dyn Ordered> {
        self.inbox.clone()
    }

    fn begin(&self, life: &Arc<Life>) -> (UserFuture<End>, Arc<dyn Owned>) {
        let home = Arc::new(Home::<W>::default());
        let future = run(Arc::clone(life), Arc::clone(&self.inbox), Arc::clone(&home));
        (Box::pin(future), home)
    }
}

/// Reads a worker's own settings. An empty table is also what a type without settings is read from.
pub(super) fn read<'v, C: Deserialize<'v>>(config: &'v Value) -> Result<C, String> {
    let empty = config.as_object().is_some_and(serde_json::Map::is_empty);
    if empty
        && size_of::<C>() == 0
        && let Ok(nothing) = C::deserialize(&Value::Null)
    {
        return Ok(nothing);
    }
    C::deserialize(config).map_err(|error| error.to_string())
}
