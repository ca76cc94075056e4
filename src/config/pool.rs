//! `pool`: a worker of which there are more or fewer, within bounds.
//!
//! The file says the bounds; how many there are is changed by `regrow scale` and by the steps `scale_up` and
//! `scale_down` of a ladder, and it lasts as long as the bounds hold it. A pool begins with its least number.
//!
//! Deliberately absent: what changes the number by itself. That follows the work that waits, and there is none yet.

use std::sync::Arc;

use crate::id::InstanceId;

use super::check::Places;
use super::diagnostic::Problem;
use super::resolve::at;
use super::schema::Kind;
use super::settings::{Settings, WorkerSettings};

/// As many instances as the file may ask for.
pub(super) const MOST: i64 = 1000;

/// `pool`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Fewest instances, and as many as it begins with.
    pub min: u32,
    /// Most instances.
    pub max: u32,
}

impl PoolSettings {
    /// Whether it may have as many.
    #[must_use]
    pub fn holds(self, instances: u32) -> bool {
        (self.min..=self.max).contains(&instances)
    }

    /// The number within its bounds that is nearest.
    #[must_use]
    pub fn nearest(self, instances: u32) -> u32 {
        instances.min(self.max).max(self.min)
    }
}

impl Settings {
    /// These settings with the numbers of instances that were asked for in `running`, by hand or by a step of recovery:
    /// such a number lasts until the file says another one than it did then, that of a pool within its bounds. The spare
    /// copy of a rolling restart stays until that is over.
    #[must_use]
    pub fn scaled_as(mut self, running: &Self) -> Self {
        for worker in &mut self.workers {
            let Some(before) = running.workers.iter().find(|one| one.name == worker.name) else { continue };
            let instances = worker.asked_in(before).unwrap_or(worker.instances);
            let spare = before.spare;
            if (worker.instances, worker.spare) != (instances, spare) {
                *worker = Arc::new(WorkerSettings { instances, spare, ..WorkerSettings::clone(worker) });
            }
        }
        self
    }
}

impl WorkerSettings {
    /// How many instances were asked for of what it was before, where that still holds.
    fn asked_in(&self, before: &Self) -> Option<u32> {
        let asked = before.instances != before.declared && before.numbered == self.numbered;
        match (before.pool, self.pool) {
            (Some(_), Some(pool)) => asked.then(|| pool.nearest(before.instances)),
            (None, None) => (asked && before.declared == self.declared).then_some(before.instances),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }

    /// As many as it may ever have, whoever changes their number.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.copies().max(self.pool.map_or(0, |pool| pool.max))
    }

    /// The ids of all that it may ever have.
    pub(super) fn possible_ids(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.ids(self.most())
    }

    /// A pool begins with its least number, and all of it is numbered.
    pub(super) fn begin_pool(&mut self) {
        if let Some(pool) = self.pool {
            (self.instances, self.declared, self.numbered) = (pool.min, pool.min, true);
        }
    }

    /// Why steps of recovery cannot change how many there are.
    pub(super) fn fixed_number(&self) -> Option<String> {
        match self.pool {
            None => Some(
                "the number of its instances is fixed, since it has no `pool`; `regrow scale` changes it"
                    .to_owned(),
            ),
            Some(pool) if pool.min == pool.max => {
                Some(format!("its pool has no room: min and max are both {}", pool.max))
            }
            Some(_) => None,
        }
    }
}

/// Settles whether it is a pool or has a fixed number. What it says itself counts more than what the defaults of all
/// workers say.
pub(super) fn settle(kind: Kind, worker: &mut WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    let Some(pool) = worker.pool else { return };
    let given = |path: String| places.value(&path).is_some_and(|place| place.document != 0);
    let below = |path: String| ["", ".min", ".max"].iter().any(|key| given(format!("{path}{key}")));
    let own = |key: &str| below(format!("{}.{}.{key}", kind.word(), worker.name));
    let common = |key: &str| below(format!("defaults.worker.{key}"));
    let problem = |key: &str, title: String| Problem::new(at(kind, &worker.name, key, places), title);
    let (word, name) = (kind.word(), &worker.name);
    match (own("pool"), own("instances")) {
        (false, true) => return worker.pool = None,
        (true, false) => {}
        (false, false) if !common("instances") => {}
        (true, true) | (false, false) => {
            let title = format!("{word} `{name}` has both `instances` and `pool`");
            let help = "leave one of them out: `instances` is a fixed number, `pool` has bounds";
            problems.push(problem("instances", title).help(help));
        }
    }
    // One that is there and cannot be read has been reported for what it is.
    if !own("pool.max") && !common("pool.max") {
        let title = format!("`pool` of {word} `{name}` does not say how many at most");
        problems.push(problem("pool", title).help("`pool = { min = 1, max = 3 }`"));
    } else if pool.max < pool.min {
        let title = format!(
            "`pool` of {word} `{name}` has at most {} instances, and at least {}",
            pool.max, pool.min
        );
        problems.push(problem("pool.max", title).help("`max` is at least `min`"));
    }
    worker.begin_pool();
}

/// Keys of a pool that change its number by itself, and are nothing yet.
pub(super) fn needs_queues(table: &str, key: &str) -> bool {
    (table == "pool" || table.ends_with(".pool")) && matches!(key, "scale_on" | "target_backlog" | "cooldown")
}

/// What is said of them.
pub(super) const NEEDS_QUEUES: &str = "it follows the work that waits in queues, and there are no queues yet; `min` and \
    `max` bound `regrow scale` and the steps scale_up and scale_down of a ladder";

#[cfg(test)]
mod tests {
    use crate::config::trial::{refused, settings};
    use crate::config::{Settings, Sources, WorkerSettings, load};

    fn pool(bounds: &str) -> String {
        format!("[worker.w]\ncommand = [\"x\"]\npool = {{ {bounds} }}\n")
    }

    fn ids(worker: &WorkerSettings) -> String {
        worker.instance_ids().map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pool_begins_with_its_least_number_and_is_numbered() {
        assert_eq!(ids(&settings(&pool("max = 3")).workers[0]), "w/0");
        let two = &settings(&pool("min = 2, max = 3")).workers[0];
        assert_eq!((ids(two), two.declared, two.most()), ("w/0 w/1".to_owned(), 2, 3));
        let grown =
            "[template.t]\ncommand = [\"x\"]\npool = { min = 2, max = 4 }\n[worker.w]\ncommand = [\"x\"]\n";
        let added = crate::config::Added {
            id: crate::id::Name::try_new("t1").unwrap(),
            template: crate::id::Name::try_new("t").unwrap(),
            params: std::collections::BTreeMap::new(),
        };
        let grown = settings(grown).with_added(added).unwrap();
        assert_eq!(ids(grown.workers.last().unwrap()), "t1/0 t1/1");
    }

    #[test]
    fn a_worker_has_a_number_or_bounds_and_its_own_word_counts() {
        let both = refused(&format!("{}instances = 2\n", pool("max = 3")));
        assert!(
            both.contains("worker `w` has both `instances` and `pool`") && both.contains("inline:4:"),
            "{both}"
        );
        let common = "[defaults.worker]\npool = { max = 3 }\n";
        let own = settings(&format!("{common}[worker.w]\ncommand = [\"x\"]\ninstances = 2\n"));
        assert_eq!((own.workers[0].pool, ids(&own.workers[0])), (None, "w/0 w/1".to_owned()));
        let own = settings(&format!("[defaults.worker]\ninstances = 2\n{}", pool("min = 3, max = 3")));
        assert_eq!(ids(&own.workers[0]), "w/0 w/1 w/2");
        let both = refused("[defaults.worker]\ninstances = 2\npool.max = 3\n[worker.w]\ncommand = [\"x\"]\n");
        assert!(both.contains("has both `instances` and `pool`"), "{both}");
    }

    #[test]
    fn what_its_bounds_cannot_be_is_told_once() {
        for (bounds, said) in [
            ("", "does not say how many at most"),
            ("min = 2", "does not say how many at most"),
            ("min = 3, max = 2", "has at most 2 instances, and at least 3"),
            ("max = 0", "`worker.w.pool.max`"),
            ("min = 0, max = 2", "`worker.w.pool.min`"),
            ("max = 1001", "`worker.w.pool.max`"),
            ("max = 3, scale_on = \"backlog\"", "there are no queues yet"),
            ("max = 3, target_backlog = 50", "there are no queues yet"),
            ("max = 3, cooldown = \"1m\"", "there are no queues yet"),
            ("max = 3, maxx = 4", "did you mean `max`?"),
        ] {
            let text = refused(&pool(bounds));
            assert!(text.contains(said) && text.ends_with("1 problem in 1 file"), "{bounds}: {text}");
        }
    }

    #[test]
    fn all_that_it_may_have_must_fit_the_others() {
        for (more, others, said) in [
            ("port.base = 65534", "", "`w` end at 65536"),
            ("port.base = 8001", "port.base = 8003", "share port 8003"),
            ("", "pid_file = \"x\"", ""),
            ("pid_file = \"x\"", "", "share one pid_file"),
        ] {
            let text = format!("{}{more}\n[worker.other]\ncommand = [\"x\"]\n{others}\n", pool("max = 3"));
            let told = refused(&text);
            assert!(told.contains(said) && told.is_empty() == said.is_empty(), "{text}: {told}");
        }
        let told = refused(&format!("{}[worker.w-2]\ncommand = [\"x\"]\n", pool("max = 3")));
        assert!(told.contains("would share one directory"), "{told}");
    }

    #[test]
    fn other_bounds_bring_the_number_back_and_otherwise_it_stays() {
        let running = |bounds: &str, instances| {
            let mut running = settings(&pool(bounds));
            let own = WorkerSettings { instances, ..WorkerSettings::clone(&running.workers[0]) };
            running.workers[0] = own.into();
            running
        };
        let now = |running: Settings, bounds: &str| {
            settings(&pool(bounds)).scaled_as(&running).workers[0].instances
        };
        assert_eq!(now(running("max = 5", 3), "max = 5"), 3);
        assert_eq!(now(running("max = 5", 3), "min = 2, max = 6"), 3);
        assert_eq!(now(running("max = 5", 3), "max = 2"), 2);
        assert_eq!(now(running("max = 5", 3), "min = 4, max = 6"), 4);
        assert_eq!(now(running("min = 2, max = 5", 2), "max = 5"), 1, "nobody asked for two");
        let fixed = settings("[worker.w]\ncommand = [\"x\"]\ninstances = 2\n");
        assert_eq!(fixed.clone().scaled_as(&running("max = 5", 3)).workers[0].instances, 2);
        let mut scaled = fixed;
        scaled.workers[0] =
            WorkerSettings { instances: 4, ..WorkerSettings::clone(&scaled.workers[0]) }.into();
        assert_eq!(now(scaled, "max = 5"), 1);
    }

    #[test]
    fn what_check_explains_of_a_pool_reads_back_to_the_same() {
        let common = "[defaults.worker]\npool = { max = 3 }\n[worker.a]\ncommand = [\"x\"]\ninstances = 2\n";
        let loaded = load(&Sources::text(format!("{common}{}", pool("min = 2, max = 5")))).unwrap();
        let again = load(&Sources::text(loaded.explain())).unwrap_or_else(|told| panic!("{told}"));
        assert_eq!(loaded.settings.workers, again.settings.workers);
    }
}
