//! `pid_file`: two instances that share one would each take the other's process for its own.

use std::collections::HashMap;

use crate::id::{InstanceId, Name};

use super::check::Places;
use super::diagnostic::Problem;
use super::elements::Settled;
use super::placeholder::expand;
use super::resolve::at;
use super::schema::Kind;
use super::settings::{Settings, WorkerSettings};

/// The file of one instance; `None` without one. Of the placeholders, those count that tell instances apart.
fn file_of(worker: &WorkerSettings, id: &InstanceId) -> Option<String> {
    let text = worker.daemon.pid_file.as_ref()?.to_str()?;
    let value = |name: &str| match name {
        "worker" => Some(worker.name.to_string()),
        "instance" => Some(id.to_string()),
        "slug" => Some(id.slug()),
        "index" => Some(id.index().unwrap_or(0).to_string()),
        "port" => worker.port_of(id).map(|port| port.to_string()),
        "state_dir" => Some(format!("(state of {id})")),
        _ => None,
    };
    // A text that is no template has been reported for what it is.
    expand(text, value).ok()
}

impl Settings {
    /// Whose pid file one of a worker's instances would share, if it had this many; its own name, if they share theirs.
    #[must_use]
    pub fn pid_file_clash(&self, worker: &WorkerSettings, instances: u32) -> Option<Name> {
        worker.daemon.pid_file.as_ref()?;
        let grown = WorkerSettings { instances, spare: 0, ..worker.clone() };
        let own: Vec<String> = grown.instance_ids().filter_map(|id| file_of(&grown, &id)).collect();
        if own.len() > 1 && own[0] == own[1] {
            return Some(worker.name.clone());
        }
        let others = self.workers.iter().filter(|other| other.name != worker.name);
        let clash = |other: &&std::sync::Arc<WorkerSettings>| {
            other.possible_ids().filter_map(|id| file_of(other, &id)).any(|file| own.contains(&file))
        };
        others.into_iter().find(clash).map(|other| other.name.clone())
    }
}

/// A pid file is a file.
pub(super) fn of_worker(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    let Some(file) = &worker.daemon.pid_file else { return };
    let names_a_file = file.to_str().is_none_or(|text| !text.is_empty() && !text.ends_with('/'));
    if !names_a_file {
        let title = format!("`pid_file` of {} `{}` names no file", kind.word(), worker.name);
        let problem = Problem::new(at(kind, &worker.name, "pid_file", places), title);
        problems.push(problem.help("`pid_file = \"/run/legacyd.pid\"`, or leave it out"));
    }
}

/// No two instances share a pid file.
pub(super) fn overlaps(workers: &[Settled], places: &Places, problems: &mut Vec<Problem>) {
    let mut taken: HashMap<String, InstanceId> = HashMap::new();
    for Settled { settings: worker, .. } in workers {
        for id in worker.possible_ids() {
            let Some(file) = file_of(worker, &id) else { break };
            let Some(other) = taken.insert(file, id.clone()) else { continue };
            let title = format!("instances `{other}` and `{id}` share one pid_file");
            let help = match other.worker() == id.worker() {
                true => "give each its own: `{slug}` in it is the instance's name",
                false => "each would take the other's process for its own; give one of them another file",
            };
            let place = at(Kind::Worker, &worker.name, "pid_file", places);
            problems.push(Problem::new(place, title).help(help));
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::trial::refused;
    use crate::config::{Sources, load};

    fn worker(name: &str, more: &str) -> String {
        format!("[worker.{name}]\ncommand = [\"x\"]\n{more}\n")
    }

    #[test]
    fn two_workers_never_share_a_pid_file() {
        let two = |one: &str, other: &str| {
            worker("a", &format!("pid_file = \"{one}\"")) + &worker("b", &format!("pid_file = \"{other}\""))
        };
        let said = refused(&two("/run/d.pid", "/run/d.pid"));
        assert!(said.contains("instances `a` and `b` share one pid_file"), "{said}");
        let said = refused(&two("{worker}.pid", "a.pid"));
        assert!(said.contains("instances `a` and `b` share one pid_file"), "{said}");
        assert_eq!(
            refused(&two("{state_dir}/d.pid", "{state_dir}/d.pid")),
            "",
            "each has a directory of its own"
        );
        assert_eq!(refused(&two("/run/a.pid", "/run/b.pid")), "");
    }

    #[test]
    fn the_instances_of_a_pool_each_have_their_own() {
        let pool = |file: &str| worker("a", &format!("instances = 3\npid_file = \"{file}\""));
        let said = refused(&pool("/run/d.pid"));
        assert!(said.contains("`a/0` and `a/1` share one pid_file") && said.contains("{slug}"), "{said}");
        assert_eq!(refused(&pool("/run/{slug}.pid")), "");
        let one = load(&Sources::text(worker("a", "pid_file = \"/run/d.pid\""))).unwrap().settings;
        assert_eq!(one.pid_file_clash(&one.workers[0], 1), None);
        assert_eq!(one.pid_file_clash(&one.workers[0], 2).unwrap().as_str(), "a", "not by `scale` either");
    }

    #[test]
    fn a_pid_file_has_a_name() {
        for file in ["", "run/"] {
            let said = refused(&worker("a", &format!("pid_file = \"{file}\"")));
            assert!(said.contains("`pid_file` of worker `a` names no file"), "{file}: {said}");
        }
    }
}
