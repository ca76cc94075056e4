//! A runtime embedded in the test's own process, on a directory of its own; gone with it.

use regrow::{Asker, Builder, Finished, InstanceState, RuntimeHandle};

use crate::rig::PATIENCE;

pub(crate) struct Guest {
    pub(crate) handle: RuntimeHandle,
    _dir: tempfile::TempDir,
}

impl Guest {
    /// Starts what the builder knows on this configuration; waits for nobody.
    pub(crate) async fn start(builder: Builder, toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state").display().to_string();
        let started = builder.panic_hook().toml(toml).set("runtime.state_dir", state).start().await;
        Self { handle: started.unwrap_or_else(|error| panic!("{error}")), _dir: dir }
    }

    /// The same, and everybody is ready.
    pub(crate) async fn ready(builder: Builder, toml: &str) -> Self {
        let guest = Self::start(builder, toml).await;
        guest.handle.wait_ready(PATIENCE).await.unwrap();
        guest
    }

    pub(crate) fn entry(&self, id: &str) -> InstanceState {
        self.handle.board().instance(&id.parse().unwrap()).unwrap()
    }

    /// Waits until an instance is as it should be.
    pub(crate) async fn until(&self, id: &str, like: impl Fn(&InstanceState) -> bool) -> InstanceState {
        let mut changes = self.handle.board().watch();
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let entry = self.entry(id);
            if like(&entry) {
                return entry;
            }
            let change = tokio::time::timeout_at(end, changes.changed()).await;
            assert!(change.is_ok(), "waited in vain; it is {entry:?}");
        }
    }

    pub(crate) async fn end(self) -> Finished {
        self.handle.shutdown(Asker("a test".to_owned())).await;
        tokio::time::timeout(PATIENCE, self.handle.finished()).await.expect("it ends")
    }
}

/// Waits for a condition that nobody announces.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
