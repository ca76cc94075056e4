//! Whether the files stood still while they were read.
//!
//! A file that is cut off between two workers is as right as a whole one, so a reading in the middle of a writing
//! would stop everybody who is not written yet. Nothing tells a reader that a writer is not done; what can be seen
//! is that a file has just changed. Whoever takes a file over under what runs therefore waits until it has stood
//! still for a moment, and reads it again if it has not.
//!
//! A file without anything in it is refused however long it stands: somebody emptied it by mistake, or a disk was full.
//!
//! A writer that rests longer than that is not seen. A file that is written beside and then renamed is always whole.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::diagnostic::{Diagnostics, Problem};
use super::document::DocumentKind;
use super::load::Loaded;
use super::settings::{Settings, WorkerSettings};
use super::source;
use crate::id::Name;
use crate::units::{format_duration, plural};

/// How long a file may go on changing until it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What a file that is written anew does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            place: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn now(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().as_ref().map(Self::of)
    }

    /// How long ago it was written; `None` if that is in the future, as after a clock was set back.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        let (seconds, nanos) = (u64::try_from(self.modified.0).ok()?, u32::try_from(self.modified.1).ok()?);
        now.duration_since(UNIX_EPOCH + Duration::new(seconds, nanos)).ok()
    }
}

/// The files of one reading, and what an `include` found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    files: Vec<(PathBuf, Option<Stamp>)>,
    lists: Vec<(PathBuf, String, Option<Vec<PathBuf>>)>,
    /// One changed while it was read.
    torn: bool,
}

impl Seen {
    /// A file as it was before and after it was read.
    pub(super) fn file(&mut self, path: &Path, before: Stamp, after: Stamp) {
        self.torn |= before != after;
        self.files.push((full(path), Some(after)));
    }

    /// One that cannot be read, as it is.
    pub(super) fn refused(&mut self, path: &Path) {
        self.files.push((full(path), Stamp::now(path)));
    }

    /// What a pattern found.
    pub(super) fn list(&mut self, base: &Path, pattern: &str, found: &Result<Vec<PathBuf>, String>) {
        self.lists.push((base.to_owned(), pattern.to_owned(), found.as_ref().ok().cloned()));
    }

    /// How long it takes until all of them have stood still for `quiet`. A file that is not there may be about to be
    /// put in place.
    pub(super) fn unrest(&self, quiet: Duration, now: SystemTime) -> Duration {
        let rest = |stamp: &Option<Stamp>| {
            let age = stamp.and_then(|stamp| stamp.age(now)).unwrap_or_default();
            quiet.saturating_sub(age)
        };
        let rest = self.files.iter().map(|(_, stamp)| rest(stamp)).max().unwrap_or_default();
        if self.torn { quiet } else { rest }
    }

    /// What is not as it was when it was read.
    pub(super) fn changed(&self) -> Option<PathBuf> {
        let file = self.files.iter().find(|(path, stamp)| self.torn || Stamp::now(path) != *stamp);
        let other = |(base, pattern, found): &&(PathBuf, String, Option<Vec<PathBuf>>)| {
            source::included(base, pattern).ok() != *found
        };
        let list = || self.lists.iter().find(other).map(|(base, pattern, _)| base.join(pattern));
        file.map(|(path, _)| path.clone()).or_else(list)
    }
}

fn full(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Where the time comes from; a test has its own.
pub(crate) trait Pace {
    /// The wall clock, which files are stamped by.
    fn now(&self) -> SystemTime;
    /// Lets this much time pass.
    fn wait(&self, time: Duration);
}

/// The real time. Whoever waits holds its thread.
pub(crate) struct Clock {
    /// Whether that thread may be held; else a file that has just changed is taken as it is.
    pub(crate) waits: bool,
}

impl Pace for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn wait(&self, time: Duration) {
        if self.waits {
            std::thread::sleep(time);
        }
    }
}

/// A file that is written on and on.
pub(super) fn never_still(file: &Path) -> Problem {
    let title = format!("the file is being written: it went on changing for {}", format_duration(PATIENCE));
    Problem::of_file(file.display().to_string(), title)
        .help("apply it once it is whole; a file that is written beside and then renamed always is")
}

impl Settings {
    /// Who stands in the file: neither made of a template later, nor added by the program around the runtime.
    pub(crate) fn of_the_file(&self) -> impl Iterator<Item = &Arc<WorkerSettings>> {
        let added = self.added.iter().map(|added| &added.id);
        let beside: HashSet<&Name> = added.chain(self.given.iter().map(|given| &given.worker.name)).collect();
        self.workers.iter().filter(move |worker| !beside.contains(&worker.name))
    }
}

/// Files without anything in them, where workers of them run.
pub(crate) fn emptied(new: &Loaded, running: &Settings) -> Option<Diagnostics> {
    if new
        .documents
        .iter()
        .any(|document| document.kind == DocumentKind::File && says_anything(&document.text))
    {
        return None;
    }
    let count = running.of_the_file().count();
    let file = new.files.first().filter(|_| count > 0)?;
    let title = format!(
        "there is nothing in the file, and {} of it would be stopped",
        plural(count as u64, "worker")
    );
    let problem = Problem::of_file(file.display().to_string(), title)
        .help("was it emptied by mistake, or written only in part? put it back as it was")
        .help("if it is meant, leave the line `[runtime]` in it; `regrow shutdown` ends all");
    Some(Diagnostics::new(vec![problem], Vec::new()))
}

/// Whether there is a line that is neither empty nor a comment.
fn says_anything(text: &str) -> bool {
    let content = |line: &str| line.trim_start_matches('\u{feff}').trim_start().bytes().next();
    text.lines().any(|line| !matches!(content(line), None | Some(b'#')))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::fs;

    use super::*;
    use crate::config::load::load_still;
    use crate::config::{Sources, load};

    const QUIET: Duration = Duration::from_millis(20);

    /// A clock that stands until somebody waits, and a writer that writes meanwhile.
    struct Beside<W> {
        now: Cell<SystemTime>,
        waits: Cell<usize>,
        writer: RefCell<W>,
    }

    impl<W: FnMut(usize, SystemTime)> Pace for Beside<W> {
        fn now(&self) -> SystemTime {
            self.now.get()
        }

        fn wait(&self, time: Duration) {
            self.now.set(self.now.get() + time);
            self.waits.set(self.waits.get() + 1);
            (self.writer.borrow_mut())(self.waits.get(), self.now.get());
        }
    }

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(text: &str) -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            files.write("regrow.toml", text);
            files
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }

        /// Written at this time.
        fn write_at(&self, name: &str, text: &str, at: SystemTime) {
            self.write(name, text);
            fs::File::options().write(true).open(self.path(name)).unwrap().set_modified(at).unwrap();
        }

        fn written(&self, name: &str) -> SystemTime {
            fs::metadata(self.path(name)).unwrap().modified().unwrap()
        }

        /// Reads while the clock stands this far behind the writing; how often somebody waited.
        fn read(
            &self,
            after: Duration,
            writer: impl FnMut(usize, SystemTime),
        ) -> (Result<Loaded, Diagnostics>, usize) {
            let now = Cell::new(self.written("regrow.toml") + after);
            let pace = Beside { now, waits: Cell::new(0), writer: RefCell::new(writer) };
            let sources = Sources { file: Some(self.path("regrow.toml")), ..Sources::default() };
            (load_still(&sources, QUIET, &pace), pace.waits.get())
        }
    }

    fn worker(name: &str) -> String {
        format!("[worker.{name}]\ncommand = [\"x\"]\n")
    }

    fn names(loaded: &Result<Loaded, Diagnostics>) -> Vec<String> {
        let loaded = loaded.as_ref().unwrap_or_else(|problems| panic!("{problems}"));
        loaded.settings.workers.iter().map(|worker| worker.name.to_string()).collect()
    }

    #[test]
    fn a_file_that_stands_still_is_read_at_once() {
        let files = Files::new(&worker("a"));
        let (loaded, waits) = files.read(QUIET, |_, _| {});
        assert_eq!((names(&loaded), waits), (vec!["a".to_owned()], 0));
        let seen = loaded.unwrap().seen;
        assert_eq!(seen.unrest(3 * QUIET, files.written("regrow.toml") + QUIET), 2 * QUIET);
    }

    #[test]
    fn a_fresh_file_is_taken_once_it_has_stood_still() {
        let files = Files::new(&worker("a"));
        let (loaded, waits) = files.read(Duration::ZERO, |_, _| {});
        assert_eq!((names(&loaded), waits), (vec!["a".to_owned()], 1));
    }

    #[test]
    fn a_file_that_is_being_written_is_read_again_until_it_is_whole() {
        let files = Files::new(&worker("a"));
        let whole = worker("a") + &worker("b") + &worker("c");
        let (loaded, _) = files.read(Duration::ZERO, |wait, now| match wait {
            1 => files.write_at("regrow.toml", "", now),
            2 => files.write_at("regrow.toml", &(worker("a") + "[worker.b]\ncomm"), now),
            3 => files.write_at("regrow.toml", &whole, now),
            _ => {}
        });
        assert_eq!(names(&loaded), ["a", "b", "c"]);
    }

    #[test]
    fn a_file_that_is_not_there_for_a_moment_is_waited_for() {
        let files = Files::new("");
        fs::rename(files.path("regrow.toml"), files.path("away")).unwrap();
        let pace = Beside {
            now: Cell::new(SystemTime::now()),
            waits: Cell::new(0),
            writer: RefCell::new(|wait, now| {
                if wait == 1 {
                    files.write_at("regrow.toml", &worker("a"), now);
                }
            }),
        };
        let sources = Sources { file: Some(files.path("regrow.toml")), ..Sources::default() };
        assert_eq!(names(&load_still(&sources, QUIET, &pace)), ["a"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_for_what_it_is() {
        let files = Files::new("");
        fs::remove_file(files.path("regrow.toml")).unwrap();
        fs::create_dir(files.path("regrow.toml")).unwrap();
        for after in [Duration::ZERO, QUIET] {
            let (loaded, _) = files.read(after, |_, _| {});
            let problems = loaded.unwrap_err().to_string();
            assert!(problems.contains("it is a directory"), "{problems}");
        }
    }

    #[test]
    fn a_file_that_a_pattern_did_not_find_yet_is_read() {
        let files = Files::new("include = [\"more-*.toml\"]\n");
        let (loaded, waits) = files.read(Duration::ZERO, |wait, now| {
            if wait == 1 {
                files.write_at("more-a.toml", &worker("a"), now);
            }
        });
        assert_eq!((names(&loaded), waits), (vec!["a".to_owned()], 2));
    }

    #[test]
    fn a_file_that_is_written_on_and_on_is_refused() {
        let files = Files::new(&worker("a"));
        let texts = [worker("a"), worker("longer")];
        let (loaded, waits) = files
            .read(Duration::ZERO, |wait, now| files.write_at("regrow.toml", &texts[wait % texts.len()], now));
        let problems = loaded.unwrap_err().to_string();
        assert!(problems.contains("it went on changing for 10s"), "{problems}");
        assert!(problems.contains("written beside and then renamed"), "{problems}");
        assert_eq!(waits, 500, "10s of 20ms each");
    }

    #[test]
    fn a_clock_that_was_set_back_costs_one_wait() {
        let files = Files::new(&worker("a"));
        let now = Cell::new(files.written("regrow.toml") - Duration::from_secs(3600));
        let pace = Beside { now, waits: Cell::new(0), writer: RefCell::new(|_, _| {}) };
        let sources = Sources { file: Some(files.path("regrow.toml")), ..Sources::default() };
        assert_eq!(names(&load_still(&sources, QUIET, &pace)), ["a"]);
        assert_eq!(pace.waits.get(), 1);
    }

    #[test]
    fn a_file_that_was_emptied_is_refused_and_one_that_lost_its_workers_is_not() {
        let running = load(&Sources::text(worker("a") + &worker("b"))).unwrap().settings;
        let refusal = |text: &str| {
            let files = Files::new(text);
            let sources = Sources { file: Some(files.path("regrow.toml")), ..Sources::default() };
            emptied(&load(&sources).unwrap(), &running).map(|problems| problems.to_string())
        };
        for text in ["", "# workers\n", "\u{feff}\n  \n\t# none\r\n"] {
            let said = refusal(text).unwrap();
            assert!(said.contains("nothing in the file, and 2 workers of it would be stopped"), "{said}");
            assert!(said.contains("leave the line `[runtime]` in it"), "{said}");
        }
        for text in [
            "[runtime]\n".to_owned(),
            "[http]\nlisten = \"\"\n".to_owned(),
            worker("c"),
            "[template.t]\ncommand = [\"x\"]\n".to_owned(),
        ] {
            assert_eq!(refusal(&text), None, "{text}");
        }
        let none = load(&Sources::text("")).unwrap().settings;
        let files = Files::new("");
        let sources = Sources { file: Some(files.path("regrow.toml")), ..Sources::default() };
        assert!(emptied(&load(&sources).unwrap(), &none).is_none(), "there was nobody before");
    }
}
