//! The file as it is now: read once it stands still, checked, and with those in it who were added.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Added, Diagnostics, Loaded, Pace, Settings, Sources, emptied, load_still};
use crate::id::Name;

use super::added::{Misfit, join};
use super::living::ApplyError;

/// How long a file must have stood still. A writer that is at it writes on within this.
const QUIET: Duration = Duration::from_millis(20);
/// How long, if somebody who runs is not in it any more: that is how a file looks that is written only in part.
const QUIET_TO_STOP: Duration = Duration::from_secs(1);

/// A reading that is right.
pub(super) struct Reading {
    pub(super) settings: Settings,
    pub(super) left_out: Vec<Misfit>,
    pub(super) files: Vec<PathBuf>,
}

/// Reads, checks, and puts in those who were added; one who runs must fit.
pub(super) fn read(
    sources: &Sources,
    running: &Settings,
    waiting: &[Arc<Added>],
    pace: &impl Pace,
) -> Result<Reading, ApplyError> {
    let invalid = |problems| ApplyError::Invalid(Box::new(problems));
    let mut loaded = load_still(sources, QUIET, pace).map_err(invalid)?;
    if takes_away(&loaded.settings, running) && !loaded.stood(QUIET_TO_STOP, pace) {
        loaded = load_still(sources, QUIET_TO_STOP, pace).map_err(invalid)?;
    }
    if let Some(problems) = emptied(&loaded, running) {
        return Err(invalid(problems));
    }
    let Loaded { settings, files, .. } = loaded;
    let (mut settings, misfits) = join(settings, &running.added);
    let mut misfits: Vec<String> = misfits.into_iter().map(|(_, why)| why).collect();
    for given in &running.given {
        match settings.with_given_of(running, given, sources.actors.clone()) {
            Ok(grown) => settings = grown,
            Err(error) => misfits.push(format!("a worker that the program added does not fit: {error}")),
        }
    }
    if !misfits.is_empty() {
        return Err(invalid(Diagnostics::of_whole(misfits, "`regrow remove` takes such a worker away")));
    }
    let (settings, left_out) = join(settings, waiting);
    Ok(Reading { settings, left_out, files })
}

/// Whether somebody of the running file is missing, or switched off.
fn takes_away(new: &Settings, running: &Settings) -> bool {
    let on: HashSet<&Name> =
        new.workers.iter().filter(|worker| worker.enabled).map(|worker| &worker.name).collect();
    running.of_the_file().any(|worker| worker.enabled && !on.contains(&worker.name))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::time::SystemTime;

    use super::*;
    use crate::config::load;

    /// Time stands until somebody waits; what is to be in the file is written meanwhile, at that time.
    struct Writer {
        now: RefCell<SystemTime>,
        file: PathBuf,
        texts: RefCell<Vec<String>>,
        waited: RefCell<Duration>,
    }

    impl Writer {
        fn write(&self, text: &str) {
            fs::write(&self.file, text).unwrap();
            let file = fs::File::options().write(true).open(&self.file).unwrap();
            file.set_modified(*self.now.borrow()).unwrap();
        }
    }

    impl Pace for Writer {
        fn now(&self) -> SystemTime {
            *self.now.borrow()
        }

        fn wait(&self, time: Duration) {
            *self.now.borrow_mut() += time;
            *self.waited.borrow_mut() += time;
            let next = self.texts.borrow_mut().pop();
            if let Some(text) = next {
                self.write(&text);
            }
        }
    }

    /// What a file with workers `a`, `b` and `c` becomes that says this, and then that; and how long it took.
    fn reread(first: &str, then: &[&str]) -> (Vec<String>, Duration) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("regrow.toml");
        let texts = then.iter().rev().map(|text| (*text).to_owned()).collect();
        let now = RefCell::new(SystemTime::now());
        let writer = Writer { now, file, texts: RefCell::new(texts), waited: RefCell::default() };
        let running = load(&Sources::text(ALL)).unwrap().settings;
        writer.write(first);
        let sources = Sources { file: Some(writer.file.clone()), ..Sources::default() };
        let reading = read(&sources, &running, &[], &writer).unwrap_or_else(|problem| panic!("{problem}"));
        let names = reading.settings.workers.iter().map(|worker| worker.name.to_string()).collect();
        let waited = *writer.waited.borrow();
        (names, waited)
    }

    const ALL: &str = "worker.a.command = [\"x\"]\nworker.b.command = [\"x\"]\nworker.c.command = [\"x\"]\n";
    const ONE: &str = "worker.a.command = [\"x\"]\n";
    const OFF: &str = "worker.a.command = [\"x\"]\nworker.b.command = [\"x\"]\nworker.b.enabled = false\nworker.c.command = [\"x\"]\n";

    #[test]
    fn a_file_that_takes_nobody_away_is_waited_for_a_blink() {
        assert_eq!(reread(ALL, &[]), (["a", "b", "c"].map(str::to_owned).to_vec(), QUIET));
    }

    #[test]
    fn a_file_that_takes_somebody_away_must_stand_still_for_longer() {
        assert_eq!(reread(ONE, &[]).0, ["a"]);
        for short in [ONE, OFF] {
            assert_eq!(reread(short, &[]).1, QUIET_TO_STOP);
        }
    }

    #[test]
    fn a_writer_that_rests_between_two_workers_takes_nobody_away() {
        // It rests for the first wait, and goes on in the second.
        assert_eq!(reread(ONE, &[ONE, ONE, ALL]).0, ["a", "b", "c"]);
        assert_eq!(reread("", &["", "", ONE, ALL]).0, ["a", "b", "c"]);
    }
}
