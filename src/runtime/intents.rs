//! What operators have stopped and paused, kept over restarts of the runtime.
//!
//! One small file, written off the control thread; a disk that is full or gone costs the memory of an intent over a
//! restart, never the intent itself; it is tried again until it is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{Settings, WorkerSettings};
use crate::supervisor::{Operator, Wish};

use super::sheet::Sheet;

/// What is kept. Files of older builds have fewer maps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    stopped: BTreeMap<String, Operator>,
    paused: BTreeMap<String, Paused>,
    scaled: BTreeMap<String, Scaled>,
}

/// Who wants how many instances of a worker, and how many the file said then: it holds until the file says another
/// number; of a pool, as long as it is one, and within its bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scaled {
    #[serde(flatten)]
    by: Operator,
    instances: u32,
    file: u32,
    #[serde(default)]
    pool: bool,
}

impl Scaled {
    /// The number that it makes of this worker; `None`: it does not hold any more.
    fn of(&self, worker: &WorkerSettings) -> Option<u32> {
        match worker.pool {
            Some(pool) if self.pool => {
                Some(pool.nearest(self.instances)).filter(|number| *number != pool.min)
            }
            Some(_) => None,
            None => {
                (!self.pool && worker.declared == self.file && self.instances > 0).then_some(self.instances)
            }
        }
    }
}

/// Who paused a child, and until when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Paused {
    #[serde(flatten)]
    by: Operator,
    until: Option<Timestamp>,
}

/// The intents in force, and where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Intents {
    /// `None`: in memory only.
    sheet: Option<Sheet>,
    kept: Kept,
}

impl Intents {
    /// Reads what an earlier runtime left. A file that cannot be read is set aside and named in the second part.
    pub(crate) fn load(state_dir: &Path) -> (Self, Option<String>) {
        let sheet = Sheet::new(state_dir, "intents.json", "regrow.intents/1");
        let (mut kept, note) = sheet.load::<Kept>();
        let note = note.map(|note| format!("{note}; workers stopped by hand start again"));
        let now = Timestamp::now();
        kept.paused.retain(|_, paused| paused.until.is_none_or(|until| until > now));
        (Self { sheet: Some(sheet), kept }, note)
    }

    /// None so far, and none is kept.
    pub(crate) fn in_memory() -> Self {
        Self { sheet: None, kept: Kept::default() }
    }

    /// Whether they are written down.
    pub(crate) fn is_kept(&self) -> bool {
        self.sheet.is_some()
    }

    /// Everybody of whom something is wanted.
    pub(crate) fn children(&self) -> impl Iterator<Item = &String> {
        let paused = self.kept.paused.keys().filter(|child| !self.kept.stopped.contains_key(*child));
        self.kept.stopped.keys().chain(paused)
    }

    /// What is wanted of a child.
    pub(crate) fn wish(&self, child: &str) -> Wish {
        let paused = self.kept.paused.get(child).map(|paused| (paused.by.clone(), paused.until));
        Wish { stopped: self.kept.stopped.get(child).cloned(), paused }
    }

    /// Notes that somebody stopped a child. True if that is new.
    pub(crate) fn stop(&mut self, child: &str, by: Operator) -> bool {
        self.kept.stopped.insert(child.to_owned(), by).is_none()
    }

    /// Notes that a child is wanted again. True if that is new.
    pub(crate) fn want(&mut self, child: &str) -> bool {
        self.kept.stopped.remove(child).is_some()
    }

    /// Notes that somebody paused a child.
    pub(crate) fn pause(&mut self, child: &str, by: Operator, until: Option<Timestamp>) {
        self.kept.paused.insert(child.to_owned(), Paused { by, until });
    }

    /// Notes the end of a pause. True if there was one.
    pub(crate) fn resume(&mut self, child: &str) -> bool {
        self.kept.paused.remove(child).is_some()
    }

    /// What is wanted of a child is what was wanted before.
    pub(crate) fn put_back(&mut self, child: &str, wish: &Wish) {
        self.want(child);
        self.resume(child);
        if let Some(by) = &wish.stopped {
            self.stop(child, by.clone());
        }
        if let Some((by, until)) = &wish.paused {
            self.pause(child, by.clone(), *until);
        }
    }

    /// Notes how many instances of a worker somebody wants: as many as it has. The least number of a pool is what it has
    /// if nobody wants anything.
    pub(crate) fn scale(&mut self, worker: &WorkerSettings, by: Operator) {
        let (instances, file, pool) = (worker.instances, worker.declared, worker.pool.is_some());
        let scaled = Scaled { by, instances, file, pool };
        if scaled.of(worker).is_some() {
            self.kept.scaled.insert(worker.name.to_string(), scaled);
        } else {
            self.kept.scaled.remove(worker.name.as_str());
        }
    }

    /// The settings of the file with the numbers of instances that were asked for by hand. A number that the file has
    /// changed since is the newer wish; the older one is forgotten.
    pub(crate) fn scaled(&mut self, mut settings: Settings) -> Settings {
        let workers = &mut settings.workers;
        self.kept.scaled.retain(|name, scaled| {
            let Some(worker) = workers.iter_mut().find(|worker| worker.name.as_str() == name) else {
                return false;
            };
            let Some(instances) = scaled.of(worker) else { return false };
            scaled.instances = instances;
            *worker = Arc::new(WorkerSettings { instances, ..WorkerSettings::clone(worker) });
            true
        });
        settings
    }

    /// Numbers that were asked for by hand and that the file has changed since are forgotten. True if there were some.
    pub(crate) fn forget_old_numbers(&mut self, settings: &Settings) -> bool {
        let before = self.kept.scaled.clone();
        self.kept.scaled.retain(|name, scaled| {
            let worker = settings.workers.iter().find(|one| one.name.as_str() == name);
            let instances = worker.and_then(|worker| scaled.of(worker));
            scaled.instances = instances.unwrap_or(scaled.instances);
            instances.is_some()
        });
        self.kept.scaled != before
    }

    /// What is wanted of one child is wanted of the other instead. True if something was.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> bool {
        let stopped = self.kept.stopped.remove(from);
        let paused = self.kept.paused.remove(from);
        let any = stopped.is_some() || paused.is_some();
        self.kept.stopped.extend(stopped.map(|by| (to.to_owned(), by)));
        self.kept.paused.extend(paused.map(|by| (to.to_owned(), by)));
        any
    }

    /// Replaces the file. Blocks on the disk.
    pub(crate) fn save(&self) -> io::Result<()> {
        self.sheet.as_ref().map_or(Ok(()), |sheet| sheet.save(&self.kept))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn operator() -> Operator {
        Operator { by: "uid 0".to_owned(), at: jiff::Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_stop_is_remembered_and_a_start_forgets_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut intents, note) = Intents::load(dir.path());
        assert_eq!(note, None);
        assert!(intents.stop("web", operator()));
        intents.save().unwrap();
        let (mut again, _) = Intents::load(dir.path());
        assert_eq!(again.wish("web").stopped, Some(operator()));
        assert!(again.want("web"));
        again.save().unwrap();
        assert_eq!(Intents::load(dir.path()).0.wish("web"), Wish::default());
    }

    #[test]
    fn a_pause_is_remembered_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut intents, _) = Intents::load(dir.path());
        let (past, future) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        intents.pause("over", operator(), Some(past));
        intents.pause("lasting", operator(), Some(future));
        intents.pause("endless", operator(), None);
        intents.save().unwrap();
        let (mut again, note) = Intents::load(dir.path());
        assert_eq!((note, again.wish("over")), (None, Wish::default()));
        assert_eq!(again.wish("lasting").paused, Some((operator(), Some(future))));
        assert!(again.resume("endless") && !again.resume("endless"));
    }

    #[test]
    fn what_was_refused_leaves_what_was_wanted_before() {
        let mut intents = Intents::in_memory();
        intents.stop("web", operator());
        intents.pause("web", operator(), Some(Timestamp::MAX));
        let former = intents.wish("web");
        intents.want("web");
        intents.resume("web");
        intents.put_back("web", &former);
        assert_eq!(intents.wish("web"), former);
        intents.put_back("web", &Wish::default());
        assert_eq!((intents.wish("web"), intents.children().count()), (Wish::default(), 0));
    }

    #[test]
    fn the_number_of_a_pool_lasts_within_its_bounds() {
        use crate::config::{Sources, load};
        let settings = |bounds: &str| {
            let text = format!("[worker.w]\ncommand = [\"x\"]\n{bounds}\n");
            load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings
        };
        let dir = tempfile::tempdir().unwrap();
        let (mut intents, _) = Intents::load(dir.path());
        let pool = settings("pool = { max = 5 }");
        let grown = WorkerSettings { instances: 4, ..WorkerSettings::clone(&pool.workers[0]) };
        intents.scale(&grown, operator());
        intents.save().unwrap();
        let again = || Intents::load(dir.path()).0;
        let number =
            |intents: &mut Intents, bounds: &str| intents.scaled(settings(bounds)).workers[0].instances;
        assert_eq!(number(&mut again(), "pool = { max = 5 }"), 4);
        assert_eq!(number(&mut again(), "pool = { max = 3 }"), 3);
        assert_eq!(number(&mut again(), "instances = 2"), 2);
        let narrower = settings("pool = { max = 3 }");
        assert!(intents.forget_old_numbers(&narrower) && !intents.forget_old_numbers(&narrower));
        assert_eq!(number(&mut intents, "pool = { max = 5 }"), 3, "brought back once, it stays there");
        intents.scale(&pool.workers[0], operator());
        assert_eq!(
            number(&mut intents, "pool = { min = 2, max = 5 }"),
            2,
            "its least number is nobody's wish"
        );
    }

    #[test]
    fn a_file_of_an_older_build_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let old =
            r#"{"schema":"regrow.intents/1","stopped":{"web":{"by":"uid 0","at":"1970-01-01T00:00:00Z"}}}"#;
        fs::write(dir.path().join("intents.json"), old).unwrap();
        assert_eq!(Intents::load(dir.path()).0.wish("web").stopped, Some(operator()));
    }

    #[test]
    fn a_corrupt_file_is_set_aside_and_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("intents.json"), b"\0\0\0").unwrap();
        let (intents, note) = Intents::load(dir.path());
        assert_eq!(intents.children().count(), 0);
        assert!(note.unwrap().contains("unreadable"));
        assert!(dir.path().join("intents.json.unreadable").exists());
    }
}
