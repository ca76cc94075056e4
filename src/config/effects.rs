//! What a changed key does to what runs: the one table of it.
//!
//! Whatever a process was given when it was made (its program, its environment, its directory) needs a new one.
//! Whatever only the runtime knows holds at once. What the runtime itself was built from at its start (its state
//! directory, its sockets, its log) cannot be exchanged under what runs, and is named instead of being ignored.
//! A test holds this table against the schema: a new key has to say what it does.

/// What happens when a change is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing now: it is stopped, and stays so.
    StaysStopped,
    /// Nothing now: it is paused, and is stopped and started once the pause is over.
    AfterPause,
    /// It holds for the next start; what runs goes on as it is.
    NextStart,
    /// It holds at once; what runs goes on.
    InPlace,
    /// It cannot hold before the runtime is started anew; until then the old value does.
    RuntimeRestart,
    /// It is stopped and started.
    Restarts,
    /// It is started.
    Starts,
    /// It is stopped.
    Stops,
}

impl Effect {
    /// One word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::StaysStopped => "stays_stopped",
            Self::AfterPause => "after_pause",
            Self::NextStart => "next_start",
            Self::InPlace => "in_place",
            Self::RuntimeRestart => "runtime_restart",
            Self::Restarts => "restarts",
            Self::Starts => "starts",
            Self::Stops => "stops",
        }
    }

    /// For people.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::StaysStopped => "stays stopped",
            Self::AfterPause => "restarts when its pause ends",
            Self::NextStart => "from its next start on",
            Self::InPlace => "in place",
            Self::RuntimeRestart => "needs a restart of the runtime",
            Self::Restarts => "restarts",
            Self::Starts => "starts",
            Self::Stops => "stops",
        }
    }
}

use Effect::{InPlace, NextStart, Restarts, RuntimeRestart};

/// Of `[worker.*]`; a table stands for the keys in it. `enabled` is not here: which way it turns decides.
pub(super) const WORKER: &[(&str, Effect)] = &[
    ("command", Restarts),
    ("actor", Restarts),
    ("config", Restarts),
    ("snapshot", NextStart),
    ("blocking", NextStart),
    ("restart", InPlace),
    ("significant", InPlace),
    ("critical", InPlace),
    ("after", InPlace),
    ("ready", NextStart),
    ("start_timeout", InPlace),
    ("min_uptime", InPlace),
    ("stop.signal", NextStart),
    ("stop.to", NextStart),
    ("stop.drain", NextStart),
    ("stop.timeout", InPlace),
    ("stop.unresponsive_timeout", InPlace),
    ("backoff", InPlace),
    // The difference starts or stops; a worker that comes to be numbered is another one.
    ("instances", InPlace),
    ("pool", InPlace),
    ("recycle", InPlace),
    // Its number is in the environment of the process.
    ("port", Restarts),
    ("reload", InPlace),
    ("cwd", Restarts),
    ("env", Restarts),
    ("inherit_env", Restarts),
    ("user", Restarts),
    ("group", Restarts),
    ("umask", Restarts),
    ("nice", Restarts),
    ("oom_score_adj", Restarts),
    ("no_new_privs", Restarts),
    ("limits", Restarts),
    ("secrets", Restarts),
    ("pid_file", Restarts),
    // Only looked at before a start.
    ("adopt_running", NextStart),
    ("exit_codes", InPlace),
    ("log", NextStart),
    ("ladder", InPlace),
    ("probe", InPlace),
    // WATCHDOG_USEC is in the environment of the process.
    ("heartbeat.interval", NextStart),
    ("heartbeat", InPlace),
    ("threshold", InPlace),
    ("on", InPlace),
];

/// Of `[supervisor.*]`: a supervisor is no process, so all of it holds at once.
pub(super) const SUPERVISOR: &[(&str, Effect)] = &[
    ("strategy", InPlace),
    ("intensity", InPlace),
    ("on_exhausted", InPlace),
    ("retry_first", InPlace),
    ("retry_every", InPlace),
    ("children", InPlace),
    ("auto_shutdown", InPlace),
];

/// Of the tables without names.
pub(super) const SECTIONS: &[(&str, Effect)] = &[
    ("runtime.name", InPlace),
    ("runtime.state_dir", RuntimeRestart),
    ("runtime.shutdown_timeout", InPlace),
    ("runtime.control", RuntimeRestart),
    ("http.listen", RuntimeRestart),
    ("http.probe_listen", RuntimeRestart),
    ("telemetry.log", RuntimeRestart),
    ("telemetry.seed_names", InPlace),
    ("recovery", InPlace),
    ("error_class", InPlace),
    ("strategy", InPlace),
    ("store.retention", InPlace),
    ("store.max_disk", InPlace),
];

/// The entry of a key or of the table it is in. A key that is missing here would be a bug; a restart is the answer
/// to it that is never wrong.
pub(super) fn of(key: &str, table: &[(&str, Effect)]) -> Option<Effect> {
    table.iter().find(|(entry, _)| covers(entry, key)).map(|(_, effect)| *effect)
}

fn covers(entry: &str, key: &str) -> bool {
    key.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::elements;
    use crate::config::schema::{Key, Shape, find, join};

    fn leaves(at: &str, keys: &'static [Key], out: &mut Vec<String>) {
        for key in keys {
            let path = join(at, key.name);
            match &key.shape {
                Shape::Leaf(_) | Shape::Texts(_) | Shape::Secrets(_) | Shape::Each(..) | Shape::Free => {
                    out.push(path);
                }
                Shape::LeafOr(_, below) => {
                    out.push(path.clone());
                    leaves(&path, below, out);
                }
                Shape::Table(below) | Shape::Either(below) => leaves(&path, below, out),
                Shape::Named(..) => {}
            }
        }
    }

    fn all(at: &str, keys: &'static [Key]) -> Vec<String> {
        let mut out = Vec::new();
        leaves(at, keys, &mut out);
        out
    }

    fn section(name: &str) -> &'static [Key] {
        match find(elements::FILE, name) {
            Some(Key { shape: Shape::Table(keys), .. }) => keys,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_key_says_what_its_change_does() {
        let missing = |keys: Vec<String>, table: &[(&str, Effect)]| {
            keys.into_iter().filter(|key| of(key, table).is_none()).collect::<Vec<_>>()
        };
        let mut workers = missing(all("", elements::WORKER), WORKER);
        workers.retain(|key| key != "enabled");
        assert!(workers.is_empty(), "not in WORKER of config/effects.rs: {workers:?}");
        assert_eq!(missing(all("", elements::SUPERVISOR), SUPERVISOR), Vec::<String>::new());
        // `include` and `defaults` are seen in what they give to others, `ladder` in the workers.
        let named = ["include", "defaults", "ladder"];
        for key in elements::FILE.iter().filter(|key| !named.contains(&key.name)) {
            if matches!(key.shape, Shape::Table(_)) {
                assert_eq!(missing(all(key.name, section(key.name)), SECTIONS), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn the_table_names_no_key_that_is_not_there() {
        let known = all("", elements::WORKER);
        for (entry, _) in WORKER {
            assert!(known.iter().any(|key| covers(entry, key)), "{entry} is no key");
        }
    }
}
