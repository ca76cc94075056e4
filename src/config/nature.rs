//! Whether a worker is a process or an actor, and what means nothing for it then.
//!
//! What it says itself and cannot have is an error; what the defaults of all workers say is for the others, and is taken
//! away here, so that no room below meets a heartbeat that is expected of an actor.

use super::check::Places;
use super::diagnostic::Problem;
use super::isolation::DaemonSettings;
use super::resolve::at;
use super::schema::Kind;
use super::settings::{OnSettings, ReadyWhen, WorkerSettings};

/// Settles what kind of worker it is, and takes away what the defaults of all workers say for the other kind.
pub(super) fn settle(kind: Kind, worker: &mut WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    one_of_both(kind, worker, places, problems);
    worker.leave_foreign();
}

/// A worker is a process or an actor. What it says itself counts more than what the defaults of all workers say.
fn one_of_both(kind: Kind, worker: &mut WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    if worker.actor.is_none() || worker.command.is_empty() {
        return;
    }
    let own = |key: &str| places.named(&format!("{}.{}.{key}", kind.word(), worker.name));
    match (own("command"), own("actor")) {
        (true, false) => worker.actor = None,
        (false, true) => worker.command = Vec::new(),
        (true, true) | (false, false) => {
            let title = format!("{} `{}` has both `command` and `actor`", kind.word(), worker.name);
            let place = at(kind, &worker.name, "actor", places);
            problems
                .push(Problem::new(place, title).help("leave one of them out: it is a process or an actor"));
        }
    }
}

/// Keys that mean nothing for this kind of worker.
pub(super) fn meaningless(worker: &WorkerSettings) -> &'static [&'static str] {
    const OF_PROCESSES: &[&str] = &[
        "command",
        "cwd",
        "env",
        "inherit_env",
        "exit_codes",
        "log",
        "ready",
        "stop.signal",
        "stop.to",
        "stop.unresponsive_timeout",
        "port",
        "reload",
        "user",
        "group",
        "umask",
        "nice",
        "oom_score_adj",
        "no_new_privs",
        "limits",
        "secrets",
        "pid_file",
        "adopt_running",
        "heartbeat",
        "threshold",
        "on",
    ];
    const OF_ACTORS: &[&str] = &["actor", "config", "snapshot", "blocking"];
    match (&worker.actor, worker.command.is_empty()) {
        (Some(_), _) => OF_PROCESSES,
        (None, false) => OF_ACTORS,
        (None, true) => &[],
    }
}

impl WorkerSettings {
    /// Takes away what is looked at, or done, only where there is a worker of the other kind.
    pub(super) fn leave_foreign(&mut self) {
        let actor = self.actor.is_some();
        self.probes.retain(|probe| probe.check.is_of(actor));
        if actor {
            (self.on, self.daemon) = (OnSettings::default(), DaemonSettings::default());
            (self.ready, self.heartbeat) = (ReadyWhen::Started, None);
            (self.threshold.progress, self.threshold.errors_per_minute) = (None, None);
            self.reload = None;
        }
    }
}

/// What a worker says itself, and means nothing for it. What the defaults say is for the others.
pub(super) fn without_effect(
    kind: Kind,
    worker: &WorkerSettings,
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    let what = if worker.actor.is_some() { "an actor" } else { "a process" };
    // Both kinds at once have been reported.
    let keys = meaningless(worker).iter().filter(|key| !matches!(**key, "command" | "actor"));
    for key in keys {
        if let Some(place) = places.key(&format!("{}.{}.{key}", kind.word(), worker.name)) {
            let title =
                format!("`{key}` means nothing for {} `{}`, which is {what}", kind.word(), worker.name);
            problems.push(Problem::new(Some(place.clone()), title));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::trial::settings;
    use crate::config::{Sources, load};

    #[test]
    fn an_actor_inherits_nothing_that_only_a_process_has() {
        let all = settings(
            "[defaults.worker]\nheartbeat.interval = \"5s\"\nready = \"probe\"\non.connection_reset.signal = \"HUP\"\n\
             reload.signal = \"HUP\"\npid_file = \"{slug}.pid\"\nthreshold.progress.crit = \"1m\"\n\
             probe.up.process = {}\n[worker.a]\nactor = \"A\"\n[worker.p]\ncommand = [\"x\"]\n",
        );
        let (actor, process) = (&all.workers[0], &all.workers[1]);
        assert_eq!((actor.heartbeat, &actor.on.connection_reset), (None, &None));
        assert!(actor.threshold.progress.is_none() && actor.reload.is_none());
        assert!(actor.probes.is_empty() && actor.daemon.pid_file.is_none());
        assert!(process.heartbeat.is_some() && process.probes.len() == 1);
        let own = "[worker.a]\nactor = \"A\"\non.capture.command = [\"x\"]\n";
        let said = load(&Sources::text(own)).unwrap_err().to_string();
        assert!(said.contains("`on` means nothing for worker `a`, which is an actor"), "{said}");
    }

    #[test]
    fn a_process_under_an_actor_of_the_defaults_keeps_its_probes() {
        let all = settings(
            "[defaults.worker]\nactor = \"A\"\n[worker.p]\ncommand = [\"x\"]\nprobe.up.process = {}\n\
             [template.t]\ncommand = [\"y\"]\nprobe.up.process = {}\n",
        );
        let process = &all.workers[0];
        assert_eq!((process.actor.as_deref(), process.probes.len()), (None, 1));
        let added = crate::config::Added {
            id: crate::id::Name::try_new("t1").unwrap(),
            template: crate::id::Name::try_new("t").unwrap(),
            params: std::collections::BTreeMap::new(),
        };
        let grown = all.with_added(added).unwrap();
        let made = grown.workers.last().unwrap();
        assert_eq!((made.actor.as_deref(), made.command.len(), made.probes.len()), (None, 1, 1));
    }
}
