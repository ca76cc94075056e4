//! What a runtime inherits that would break it, put right at its start; and what it keeps to itself.
//!
//! A parent may hand down limits of zero: the first line of a log would end the runtime by `SIGXFSZ`. Nobody means
//! that, so such a limit is raised as far as one may; every other one stays, because somebody chose it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::handle::RuntimeInfo;

/// Those without which neither a runtime nor a worker gets anywhere.
const NEEDED: [(Resource, &str); 5] = [
    (Resource::Fsize, "file size"),
    (Resource::Data, "data"),
    (Resource::Stack, "stack"),
    (Resource::Cpu, "processor time"),
    (Resource::Nproc, "processes"),
];

/// Raises limits of zero; answers what could be done, for people.
pub(super) fn heal_limits() -> Vec<String> {
    let broken = NEEDED.into_iter().filter(|(resource, _)| getrlimit(*resource).current == Some(0));
    broken.map(|(resource, name)| heal(resource, name)).collect()
}

fn heal(resource: Resource, name: &str) -> String {
    let hard = getrlimit(resource).maximum.filter(|hard| *hard > 0);
    match setrlimit(resource, Rlimit { current: hard, maximum: hard }) {
        Ok(()) => format!("the inherited limit of {name} was 0 and was raised"),
        Err(error) => format!("the inherited limit of {name} is 0 and cannot be raised: {error}"),
    }
}

/// No core file, and no debugger of the same user: secrets pass through this memory. Not where that would keep a start
/// without root from setting its own worker's `oom_score_adj`, whose file then belongs to root.
pub(super) fn keep_memory_private(info: &RuntimeInfo) {
    let scores = info.settings().workers.iter().any(|worker| worker.isolation.oom_score_adj.is_some());
    if scores && !rustix::process::geteuid().is_root() {
        return;
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        info.note(format!("the runtime's memory can be dumped, secrets included: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_chose_stays() {
        let before = getrlimit(Resource::Core);
        assert_eq!(heal_limits(), Vec::<String>::new());
        assert_eq!(getrlimit(Resource::Core), before);
    }
}
