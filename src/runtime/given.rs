//! Workers that the program around the runtime adds and takes back while everything runs.
//!
//! They are kept in memory only: who adds a worker in code adds it again after a restart, and a file beside the code
//! would be a second truth. A reading of the configuration leaves them alone.

use std::sync::Arc;

use crate::config::{ActorCheck, WorkerSpec};
use crate::id::{InstanceId, Name};

use super::embedded::program;
use super::handle::{ActError, Asker, RuntimeHandle};
use super::living::GrowError;

impl RuntimeHandle {
    /// Adds a worker below a supervisor, as its last child, and starts it. It is gone with this runtime.
    ///
    /// # Errors
    /// [`GrowError`] says what is wrong with it; then there is no such worker.
    pub async fn add_worker(&self, spec: WorkerSpec) -> Result<Vec<InstanceId>, GrowError> {
        let _turn = self.info().living.turn().await;
        let actors = self.actors().map(|actors| Arc::new(actors.registry().clone()) as Arc<dyn ActorCheck>);
        let grown = self.info().settings().with_spec(&spec, actors)?;
        let Some(given) = grown.given.last().map(|given| (**given).clone()) else {
            return Err(ActError::Conflict("it was not added; this is a bug".to_owned()).into());
        };
        let (name, instances) = (given.worker.name.clone(), given.worker.instance_ids().collect());
        let by = program();
        self.announce(&format!("add of {name} asked by {}", by.0), "add", &name, &by);
        self.edit(Box::new(move |current| {
            current.with_given(given).map_err(|error| ActError::Conflict(error.to_string()))
        }))
        .await?;
        Ok(instances)
    }

    /// Takes back a worker that was added, in code or from a template: it is stopped and forgotten.
    ///
    /// # Errors
    /// [`GrowError`]: there is no such worker, or it is one of the file's.
    pub async fn remove_worker(&self, name: &str) -> Result<(), GrowError> {
        let name = Name::try_new(name).map_err(|_| ActError::NotFound(name.to_owned()))?;
        self.remove(name, program()).await
    }

    /// Takes back a worker that was added in code.
    pub(super) async fn take_back(&self, name: Name, by: &Asker) -> Result<(), GrowError> {
        self.announce(&format!("remove of {name} asked by {}", by.0), "remove", &name, by);
        self.edit(Box::new(move |current| {
            current.without_given(&name).ok_or_else(|| ActError::NotFound(name.to_string()))
        }))
        .await?;
        Ok(())
    }
}
