//! Slugs: an instance's directory, fence, cgroup and log go by `worker-0`, which another worker may be called.

use std::collections::HashMap;

use crate::id::{InstanceId, Name};

use super::check::Places;
use super::diagnostic::Problem;
use super::elements::Settled;
use super::resolve::at;
use super::schema::Kind;
use super::settings::{Settings, WorkerSettings};

/// Whose log is `logs/regrow.log`.
const RUNTIME: &str = "regrow";

/// Whether a worker of this name would write into the runtime's own log.
pub(super) fn is_reserved(name: &Name) -> bool {
    name.as_str() == RUNTIME
}

/// Behind the slug in the name of an instance's recovery log.
const RECOVERY: &str = "_recovery";

impl Settings {
    /// Whose directory a worker would share with this many instances.
    #[must_use]
    pub fn slug_clash(&self, worker: &WorkerSettings, instances: u32) -> Option<Name> {
        let grown = WorkerSettings { instances, spare: 0, ..worker.clone() };
        let own: Vec<String> = grown.instance_ids().map(|id| id.slug()).collect();
        let others = self.workers.iter().filter(|other| other.name != worker.name);
        let clash = |other: &&std::sync::Arc<WorkerSettings>| {
            // Only a name that begins with the other's can meet it.
            let near = other.name.as_str().starts_with(worker.name.as_str())
                || worker.name.as_str().starts_with(other.name.as_str());
            near && other.possible_ids().any(|id| own.iter().any(|own| meet(own, &id.slug())))
        };
        others.into_iter().find(clash).map(|other| other.name.clone())
    }
}

/// Whether two instances would share a directory, or one's log were the recovery log of the other.
fn meet(a: &str, b: &str) -> bool {
    a == b || a.strip_suffix(RECOVERY) == Some(b) || b.strip_suffix(RECOVERY) == Some(a)
}

/// No two instances share a slug.
pub(super) fn overlaps(workers: &[Settled], places: &Places, problems: &mut Vec<Problem>) {
    let mut taken: HashMap<String, InstanceId> = HashMap::new();
    for worker in workers {
        if is_reserved(&worker.settings.name) {
            let place = places.key(&format!("worker.{RUNTIME}")).cloned();
            let title =
                format!("no worker can be called `{RUNTIME}`: `logs/{RUNTIME}.log` is the runtime's own");
            problems.push(Problem::new(place, title).help("give it another name"));
        }
        for id in worker.settings.possible_ids() {
            let Some(other) = taken.insert(id.slug(), id.clone()) else { continue };
            let title = format!("instances `{other}` and `{id}` would share one directory, `{}`", id.slug());
            let problem = Problem::new(at(Kind::Worker, &worker.settings.name, "instances", places), title);
            problems.push(problem.help("give one of the two workers another name"));
            break;
        }
    }
    for (slug, id) in &taken {
        let Some(other) = slug.strip_suffix(RECOVERY).and_then(|slug| taken.get(slug)) else { continue };
        let place = places.key(&format!("worker.{}", id.worker())).cloned();
        let title = format!("`logs/{slug}.log` is the recovery log of `{other}` already");
        problems.push(Problem::new(place, title).help("give one of the two workers another name"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    const TWO: &str = "[worker.web]\ncommand = [\"x\"]\ninstances = 2\n";

    #[test]
    fn no_worker_writes_into_the_runtimes_own_log() {
        let refused = load(&Sources::text("[worker.regrow]\ncommand = [\"x\"]\n")).unwrap_err();
        assert!(refused.to_string().contains("no worker can be called `regrow`"), "{refused}");
    }

    #[test]
    fn no_worker_writes_into_the_recovery_log_of_another() {
        let text = "[worker.web]\ncommand = [\"x\"]\n[worker.web_recovery]\ncommand = [\"x\"]\n";
        let refused = load(&Sources::text(text)).unwrap_err().to_string();
        assert!(
            refused.contains("`logs/web_recovery.log` is the recovery log of `web` already"),
            "{refused}"
        );
    }

    #[test]
    fn two_instances_never_share_a_directory() {
        let refused = load(&Sources::text(format!("{TWO}[worker.web-1]\ncommand = [\"y\"]\n"))).unwrap_err();
        assert!(refused.to_string().contains("`web/1` and `web-1` would share one directory"), "{refused}");
        let loaded = load(&Sources::text(format!("{TWO}[worker.web-2]\ncommand = [\"y\"]\n"))).unwrap();
        let web = &loaded.settings.workers[0];
        assert_eq!(loaded.settings.slug_clash(web, 2), None);
        assert_eq!(loaded.settings.slug_clash(web, 3).unwrap().as_str(), "web-2");
    }
}
