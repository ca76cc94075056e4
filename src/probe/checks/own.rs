//! A look that the user's program makes.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::probe::{Found, Look, Patient, Probe};
use crate::worker::in_process::InProcessHost;

/// A probe of the user's, by its name.
pub(in crate::probe) struct Own {
    pub(in crate::probe) host: Arc<InProcessHost>,
    pub(in crate::probe) name: String,
}

impl Probe for Own {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let Some(probe) = self.host.registry().probe(&self.name) else {
                return Found::error(format!("this program has no probe {:?}", self.name));
            };
            let patient = patient.clone();
            let plane = match self.host.threads() {
                Ok(plane) => plane,
                Err(error) => return Found::error(format!("it cannot be run: {error}")),
            };
            // Where workers run: code of the user's that blocks, or breaks, must hold up no other look. Dropped, it ends.
            let mut looked = JoinSet::new();
            looked.spawn_on(async move { probe.look(&patient).await }, &plane);
            match looked.join_next().await {
                Some(Ok(found)) => found.checked(),
                Some(Err(failed)) if failed.is_panic() => {
                    Found::error(format!("it panicked: {}", words(failed)))
                }
                Some(Err(_)) | None => Found::error("it was dropped before it answered"),
            }
        })
    }
}

fn words(failed: tokio::task::JoinError) -> String {
    let payload = failed.into_panic();
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}
