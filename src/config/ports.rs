//! `port`: every instance has a number of its own, and no two workers share one.

use crate::id::Name;

use super::check::Places;
use super::diagnostic::{Problem, named};
use super::elements::Settled;
use super::placeholder::expand;
use super::resolve::at;
use super::schema::Kind;
use super::settings::{Settings, WorkerSettings};

/// The highest port there is.
const LAST: u32 = 65_535;

/// The ports of a worker with this many instances, first and last.
fn range(worker: &WorkerSettings, instances: u32) -> Option<(u32, u32)> {
    let base = u32::from(worker.port?);
    Some((base, base.saturating_add(instances.saturating_sub(1))))
}

impl Settings {
    /// Whose ports a worker would take with this many instances, besides its own.
    #[must_use]
    pub fn port_clash(&self, worker: &WorkerSettings, instances: u32) -> Option<Name> {
        let (_, last) = range(worker, instances)?;
        let (first, _) = range(worker, 1)?;
        let others = self.workers.iter().filter(|other| other.name != worker.name);
        let clash = |other: &&std::sync::Arc<WorkerSettings>| {
            range(other, other.most()).is_some_and(|(low, high)| low <= last && first <= high)
        };
        others.into_iter().find(clash).map(|other| other.name.clone())
    }
}

impl Settings {
    /// What keeps a worker from having one copy more beside its own for a while, as a rolling restart begins with, and
    /// what to do about it. `None`: nothing, or it is the only one of its kind and never given one.
    #[must_use]
    pub fn copy_trouble(&self, worker: &WorkerSettings) -> Option<String> {
        if worker.is_alone() {
            return None;
        }
        let copies = worker.instances.saturating_add(1);
        let (name, (_, port)) = (&worker.name, range(worker, copies).unwrap_or_default());
        if port > LAST {
            return Some(format!("there is no port above {LAST}; begin lower"));
        }
        if let Some(other) = self.port_clash(worker, copies) {
            return Some(format!(
                "its port {port} belongs to {other}; leave a port free behind those of {name}"
            ));
        }
        if let Some(other) = self.slug_clash(worker, copies) {
            return Some(format!("it would share a directory with {other}; rename one of the two"));
        }
        let other = self.pid_file_clash(worker, copies)?;
        Some(format!("it would share a pid_file with {other}; put {{slug}} into it"))
    }
}

impl Settings {
    /// Whose number of instances, asked for by hand, does not fit the others of these settings, and what to do about it.
    #[must_use]
    pub fn scaled_trouble(&self) -> Option<String> {
        let by_hand = self.workers.iter().filter(|worker| worker.instances != worker.declared);
        let scaled = by_hand.into_iter().find_map(|worker| {
            let (name, copies) = (&worker.name, worker.instances);
            let what = self.no_room(worker, copies)?;
            Some(format!(
                "worker `{name}` was scaled to {copies} by hand, and in this file {what}: \
                 `regrow scale {name} {}` first, or make room for it in the file",
                worker.declared
            ))
        });
        scaled.or_else(|| self.roll_trouble())
    }

    /// Whose copy more, which a rolling restart has beside the others right now, does not fit.
    fn roll_trouble(&self) -> Option<String> {
        let rolling = self.workers.iter().filter(|worker| worker.spare > 0);
        rolling.into_iter().find_map(|worker| {
            let what = self.no_room(worker, worker.copies())?;
            Some(format!(
                "a rolling restart of `{}` is under way, and with the one copy more that it has meanwhile {what}: apply \
                 this file again once `regrow events -f` shows the end of that",
                worker.name
            ))
        })
    }

    /// Why there is no room for so many of a worker.
    fn no_room(&self, worker: &WorkerSettings, copies: u32) -> Option<String> {
        match range(worker, copies) {
            Some((_, last)) if last > LAST => return Some(format!("there is no port above {LAST}")),
            Some(_) | None => {}
        }
        if let Some(other) = self.port_clash(worker, copies) {
            return Some(format!("its ports meet those of `{other}`"));
        }
        if let Some(other) = self.slug_clash(worker, copies) {
            return Some(format!("it would share a directory with `{other}`"));
        }
        let other = self.pid_file_clash(worker, copies)?;
        Some(format!("it would share a pid_file with `{other}`"))
    }
}

impl WorkerSettings {
    /// Whether it is the only one of its kind: it may rely on that, and gets no copy beside it.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.instances == 1 && self.port.is_none() && self.pool.is_none_or(|pool| pool.max == 1)
    }
}

/// A remark on those whose next port belongs to another worker.
pub(super) fn crowded(workers: &[std::sync::Arc<WorkerSettings>]) -> Option<String> {
    let ports = |worker: &std::sync::Arc<WorkerSettings>| range(worker, worker.instances);
    let taken: std::collections::BTreeSet<u32> =
        workers.iter().filter_map(ports).map(|(first, _)| first).collect();
    let next_is_taken = |worker: &&std::sync::Arc<WorkerSettings>| {
        ports(worker).is_some_and(|(_, last)| taken.contains(&last.saturating_add(1)))
    };
    let crowded: Vec<&str> =
        workers.iter().filter(next_is_taken).map(|worker| worker.name.as_str()).collect();
    (!crowded.is_empty()).then(|| {
        format!(
            "{}: the next port belongs to another worker, so there is none for the copy with which a rolling restart \
             begins, and `restart --rolling` refuses; leave a port free behind each",
            named(&crowded)
        )
    })
}

/// What one worker says about ports fits together.
pub(super) fn of_worker(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    if let Some((base, last)) = range(worker, worker.most()).filter(|(_, last)| *last > LAST) {
        let title = format!(
            "the ports of {} `{}` end at {last}; the highest one is {LAST}",
            kind.word(),
            worker.name
        );
        let place = at(kind, &worker.name, "port.base", places);
        let most = LAST - base + 1;
        problems.push(Problem::new(place, title).help(format!("at most {most} instances fit above {base}")));
    }
    if worker.port.is_none()
        && let Some(key) = uses_port(worker)
    {
        let title = format!("{} `{}` uses {{port}} and has none", kind.word(), worker.name);
        let problem = Problem::new(at(kind, &worker.name, &key, places), title);
        problems.push(problem.help("give it one: `port = { base = 8001 }`; `{{port}` is the text itself"));
    }
}

/// No two workers share a port.
pub(super) fn overlaps(workers: &[Settled], places: &Places, problems: &mut Vec<Problem>) {
    let mut taken: Vec<(u32, u32, &WorkerSettings)> = workers
        .iter()
        .filter_map(|worker| {
            let (first, last) = range(&worker.settings, worker.settings.most())?;
            Some((first, last, &worker.settings))
        })
        .collect();
    taken.sort_by_key(|(first, _, _)| *first);
    // Whoever reaches highest of those before.
    let mut highest: Option<(u32, &Name)> = None;
    for (first, last, WorkerSettings { name: other, .. }) in taken {
        if let Some((top, one)) = highest.filter(|(top, _)| first <= *top) {
            let title = format!("workers `{one}` and `{other}` share port {first}");
            let problem = Problem::new(at(Kind::Worker, other, "port.base", places), title);
            problems.push(problem.help(format!("`{one}` has the ports up to {top}; begin above")));
        }
        if highest.is_none_or(|(top, _)| last > top) {
            highest = Some((last, other));
        }
    }
}

/// The first key that names `{port}`.
fn uses_port(worker: &WorkerSettings) -> Option<String> {
    let names = names_port;
    let argument = worker.command.iter().position(|text| names(text)).map(|at| format!("command[{at}]"));
    let cwd = || worker.cwd.to_str().filter(|text| names(text)).map(|_| "cwd".to_owned());
    let env = || worker.env.iter().find(|(_, value)| names(value)).map(|(name, _)| format!("env.{name}"));
    argument.or_else(cwd).or_else(env)
}

/// Whether `{port}` is in it.
pub(super) fn names_port(text: &str) -> bool {
    let found = std::cell::Cell::new(false);
    // A text that is no template has been reported for what it is.
    let text = expand(text, |name| {
        found.set(found.get() || name == "port");
        None
    });
    text.is_ok() && found.get()
}
