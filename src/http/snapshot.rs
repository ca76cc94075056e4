//! From the board to what travels: one pass, one reading of `/proc` per process.

use jiff::Timestamp;

use crate::config::{LogTo, WorkerSettings};
use crate::id::InstanceId;
use crate::runtime::{RuntimeHandle, Target};
use crate::supervisor::InstanceState;
use crate::telemetry::{Condition, Pace, Sampler, crowded_files, open_files};
use crate::worker::StateRoom;

use super::dto::{Detail, ProbeView, RuntimeView, StatusBody, SupervisorView, Totals, WorkerView};
use super::metrics::{roots, used};
use super::problem::Problem;

/// Everything, now.
pub(crate) fn status(runtime: &RuntimeHandle) -> StatusBody {
    let now = Timestamp::now();
    let states = runtime.board().instances();
    let sampler = runtime.info().sampler();
    sampler.sweep(&roots(&states), Pace::FRESH);
    let workers: Vec<_> = states.iter().map(|state| worker(state, sampler, now)).collect();
    StatusBody {
        schema: "regrow.status/1".to_owned(),
        runtime: RuntimeView::from(runtime.info()),
        totals: Totals::of(&workers),
        workers,
        supervisors: runtime.board().supervisors().iter().map(SupervisorView::from).collect(),
    }
}

/// One instance, with load and memory.
pub(crate) fn worker(state: &InstanceState, sampler: &Sampler, now: Timestamp) -> WorkerView {
    let mut view = WorkerView::new(state, now);
    if let Some(seen) = used(state, sampler) {
        view.cpu_percent = seen.percent;
        view.memory_bytes = Some(seen.usage.resident_bytes);
        if matches!(seen.usage.condition, Condition::Halted | Condition::Traced) {
            view.issues.push("stopped by SIGSTOP or a debugger: it exists and does nothing".to_owned());
        }
    }
    let crowded = state.pid.and_then(crowded_files).map(|(open, limit)| {
        format!("{open} of {limit} allowed files are open; at the limit it can open no more")
    });
    view.issues.extend(crowded);
    view
}

/// One instance with everything.
pub(crate) fn detail(runtime: &RuntimeHandle, state: &InstanceState) -> Detail {
    let now = Timestamp::now();
    let mut detail = Detail::new(worker(state, runtime.info().sampler(), now), state, now);
    let info = runtime.info();
    let settings = info.settings();
    let configured = settings.workers.iter().find(|one| one.name == *state.instance.worker());
    detail.command = configured.map(|one| one.command.clone()).unwrap_or_default();
    detail.pool = configured.and_then(|one| one.pool).map(|pool| (pool.min, pool.max));
    detail.log_note = configured.and_then(|one| not_kept(one)).map(str::to_owned);
    detail.open_files = state.pid.and_then(open_files);
    detail.probes = ProbeView::all(state, info.looks());
    detail.log_path = runtime.log_path(&state.instance).display().to_string();
    detail.identity = StateRoom::new(&info.state_dir, &state.instance.slug()).identity().ok();
    detail.state_path = info.state_dir.join("w").join(state.instance.slug()).display().to_string();
    detail
}

/// Where the output of a worker is, if it is not kept in its log.
pub(crate) fn not_kept(worker: &WorkerSettings) -> Option<&'static str> {
    match (&worker.actor, worker.log.to) {
        (Some(_), _) => Some("it is an actor of this program: what it writes, the program writes"),
        (None, LogTo::File | LogTo::Both) => None,
        (None, LogTo::Stdout) => Some(
            "its output goes to the stdout of the runtime (log.to = \"stdout\"): it is where `regrow start` runs, and \
             nowhere after `start --daemon`. log.to = \"both\" keeps it here as well",
        ),
        (None, LogTo::Through) => Some("its output goes through to where `regrow run` was called"),
    }
}

/// The instances that a target means; `None`: nothing has that name.
pub(crate) fn resolve(runtime: &RuntimeHandle, target: &Target) -> Option<Vec<InstanceState>> {
    let all = runtime.board().instances();
    let found: Vec<_> = match target {
        Target::Worker(name) => all.into_iter().filter(|state| state.instance.worker() == name).collect(),
        Target::Instance(id) => {
            let is_there = |id: &InstanceId| all.iter().any(|state| state.instance == *id);
            let plain = id.plain().filter(|plain| !is_there(id) && is_there(plain));
            let id = plain.unwrap_or_else(|| id.clone());
            all.into_iter().filter(|state| state.instance == id).collect()
        }
        Target::All => return Some(all),
        Target::Supervisor(name) => {
            let family = runtime.board().family(name);
            let below = |state: &InstanceState| family.contains(&state.supervisor);
            return (!family.is_empty()).then(|| all.into_iter().filter(below).collect());
        }
    };
    (!found.is_empty()).then_some(found)
}

/// The same; nothing of that name is the client's mistake.
pub(crate) fn known(runtime: &RuntimeHandle, target: &Target) -> Result<Vec<InstanceState>, Problem> {
    let unknown = || Problem::not_found(format!("no worker or instance is called `{target}`"));
    resolve(runtime, target).ok_or_else(unknown)
}

/// The ids alone.
pub(crate) fn ids(states: &[InstanceState]) -> Vec<InstanceId> {
    states.iter().map(|state| state.instance.clone()).collect()
}
