//! From settings to something that can look.

use std::sync::Arc;

use crate::config::CheckSettings;
use crate::telemetry::Sampler;
use crate::worker::in_process::InProcessHost;
use crate::worker::process::ProcessHost;

use super::checks::{Disk, Exec, Grpc, Http, Process, Says, Tcp};
use super::look::Probe;

/// Through whom looks are made.
#[derive(Clone)]
pub(crate) struct Means {
    /// Runs commands.
    pub(crate) processes: Arc<ProcessHost>,
    /// Asks actors.
    pub(crate) actors: Arc<InProcessHost>,
    /// Knows what their processes use.
    pub(crate) sampler: Sampler,
}

/// What looks at this; `None` for a heartbeat, which is listened to.
pub(crate) fn make(check: &CheckSettings, means: &Means) -> Option<Arc<dyn Probe>> {
    Some(match check.clone() {
        CheckSettings::Http(check) => Arc::new(Http { check }),
        CheckSettings::Tcp { address } => Arc::new(Tcp { address }),
        CheckSettings::Grpc { host, service } => Arc::new(Grpc { host, service }),
        CheckSettings::Exec { command, format } => {
            Arc::new(Exec { host: Arc::clone(&means.processes), command, format })
        }
        CheckSettings::Process => Arc::new(Process),
        CheckSettings::Disk { path, warn, crit } => Arc::new(Disk { path, warn, crit }),
        CheckSettings::Actor => Arc::new(Says { host: Arc::clone(&means.actors) }),
        CheckSettings::Heartbeat => return None,
    })
}
