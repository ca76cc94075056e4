//! From settings to something that can look.

use std::sync::Arc;

use crate::config::CheckSettings;
use crate::telemetry::Sampler;
use crate::worker::in_process::InProcessHost;
use crate::worker::process::ProcessHost;

use super::checks::{Disk, Exec, Gpu, Grpc, Http, Own, Resources, Says, Tcp};
use super::{Look, Patient, Probe};

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

/// What looks at this; `None` for a heartbeat, which is listened to, and for whether a process runs, which is seen of
/// all at once.
pub(crate) fn make(check: &CheckSettings, means: &Means) -> Option<Arc<dyn Probe>> {
    let probe: Arc<dyn Probe> = match check.clone() {
        CheckSettings::Http(check) => Arc::new(Http { check }),
        CheckSettings::Tcp { address } => Arc::new(Tcp { address }),
        CheckSettings::Grpc { host, service } => Arc::new(Grpc { host, service }),
        CheckSettings::Exec { command, format } => {
            Arc::new(Exec { host: Arc::clone(&means.processes), command, format })
        }
        CheckSettings::Resources => Arc::new(Resources { sampler: means.sampler.clone() }),
        CheckSettings::Disk { path, warn, crit } => Arc::new(Disk { path, warn, crit }),
        CheckSettings::Gpu { device, warn, crit } => Arc::new(Gpu { device, warn, crit }),
        CheckSettings::Actor => Arc::new(Says { host: Arc::clone(&means.actors) }),
        CheckSettings::Custom { name } => Arc::new(Own { host: Arc::clone(&means.actors), name }),
        CheckSettings::Process | CheckSettings::Heartbeat => return None,
    };
    Some(Arc::new(Hushed { probe, processes: Arc::clone(&means.processes) }))
}

/// What it finds says nothing of the worker's secrets, whoever printed them.
struct Hushed {
    probe: Arc<dyn Probe>,
    processes: Arc<ProcessHost>,
}

impl Probe for Hushed {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let mut found = self.probe.look(patient).await;
            let hush = |text| self.processes.hush(&patient.worker.name, text);
            found.message = hush(found.message);
            found.metrics = found.metrics.into_iter().map(|(name, value)| (hush(name), value)).collect();
            found
        })
    }
}
