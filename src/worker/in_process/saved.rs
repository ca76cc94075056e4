//! What an actor worker keeps over its incarnations: one file per instance, in its own state directory.
//!
//! Written beside and renamed, so that a crash leaves the old or the new one and never half of each. Whoever comes
//! after a writer, also in another supervisor, waits for its turn: nobody reads or writes in the middle of a slow write. What cannot be
//! read is put aside and told to the next incarnation, which decides what that means for it. A worker that never saved
//! anything never touches the disk.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Kind};
use crate::worker::changes;

use super::worker::Restored;

/// The file.
const NAME: &str = "actor.saved";

/// Whose turn it is at each file, for all who have it in hand.
static TURNS: Mutex<Turns> = Mutex::new(Turns { by_dir: BTreeMap::new(), look_at: FEW });

/// As few are kept without a look at who still needs them.
const FEW: usize = 64;

struct Turns {
    by_dir: BTreeMap<PathBuf, Weak<Turn>>,
    /// At so many they are looked through: only when they have doubled, so that ten thousand cost a step each.
    look_at: usize,
}

/// Held while the file is read or written. Inside: what was written last; what has not changed is not written again.
type Turn = Mutex<Option<Written>>;

/// The bytes, by checksum, and the file that they were written to: one that was taken away is not there any more.
#[derive(Debug, PartialEq)]
struct Written {
    sum: u32,
    length: usize,
    file: Identity,
}

/// Device, inode, size and time of the last change.
type Identity = (u64, u64, u64, i64, i64);

const NEVER: u8 = 0;
const MAYBE: u8 = 1;

/// Why a state was not saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// It cannot be written in the encoding that is used, or is longer than 16 MiB.
    #[error("the state cannot be saved: {0}")]
    Unwritable(String),
    /// The disk refuses it.
    #[error("cannot write {}: {detail}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// This incarnation is over; a later one owns the file.
    #[error("this incarnation is over")]
    Over,
}

/// The file of one instance.
#[derive(Debug)]
pub(super) struct Saved {
    dir: PathBuf,
    there: AtomicU8,
    /// States that were put away or brought back, of anybody, when `there` was last looked up.
    looked: AtomicU64,
    turn: Arc<Turn>,
}

impl Saved {
    /// `dir` is the worker's own state directory, made at the first save.
    pub(super) fn new(dir: PathBuf) -> Self {
        let there = if dir.join(NAME).exists() { MAYBE } else { NEVER };
        let looked = AtomicU64::new(changes());
        let turn = turn_of(&dir);
        Self { dir, there: AtomicU8::new(there), looked, turn }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether there may be something to read.
    pub(super) fn any(&self) -> bool {
        self.look_again();
        // One that is being written right now counts.
        self.there.load(Ordering::Acquire) == MAYBE || self.turn.try_lock().is_err()
    }

    /// What is remembered is void once a state was put away or brought back.
    fn look_again(&self) {
        let changes = changes();
        if self.looked.swap(changes, Ordering::AcqRel) != changes {
            let there = if self.dir.join(NAME).exists() { MAYBE } else { NEVER };
            self.there.store(there, Ordering::Release);
        }
    }

    /// Reads it; waits for the disk.
    pub(super) fn read<S: Serialize + DeserializeOwned>(&self) -> Restored<S> {
        let path = self.dir.join(NAME);
        let mut last = lock(&self.turn);
        let reason = match read_record(&path) {
            Ok((bytes, at)) => match codec::decode(Kind::ActorState, &bytes) {
                Ok(state) => return Restored::Saved { state, at },
                Err(error) => error.to_string(),
            },
            Err(Strange::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Restored::Fresh,
            Err(Strange::Io(error)) => return Restored::Unreadable { reason: error.to_string() },
            Err(strange @ (Strange::NoFile | Strange::TooLong(_))) => strange.to_string(),
        };
        // Kept for whoever can still make sense of it; one is enough. If even that fails it is overwritten.
        let _ = fs::rename(&path, path.with_extension("unreadable"));
        self.there.store(NEVER, Ordering::Release);
        *last = None;
        Restored::Unreadable { reason }
    }

    /// The record of a state.
    pub(super) fn encode<S: Serialize>(state: &S) -> Result<Vec<u8>, SaveError> {
        codec::encode(Kind::ActorState, state).map_err(|error| SaveError::Unwritable(error.to_string()))
    }

    /// Writes it unless it is there already; waits for the disk. `current` is asked once it is this writer's turn.
    pub(super) fn write(&self, bytes: &[u8], current: impl FnOnce() -> bool) -> Result<(), SaveError> {
        let mut last = lock(&self.turn);
        if !current() {
            return Err(SaveError::Over);
        }
        self.look_again();
        let path = self.dir.join(NAME);
        let (sum, length) = (crc32fast::hash(bytes), bytes.len());
        let known = identity(&path).is_ok_and(|file| *last == Some(Written { sum, length, file }));
        if known && self.there.load(Ordering::Acquire) == MAYBE {
            return Ok(());
        }
        let written = self.replace(&path, bytes).and_then(|()| identity(&path));
        let file = written.map_err(|error| SaveError::Disk { path, detail: error.to_string() })?;
        *last = Some(Written { sum, length, file });
        self.there.store(MAYBE, Ordering::Release);
        Ok(())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let beside = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The rename itself must outlive a power cut too.
        File::open(&self.dir)?.sync_all()
    }
}

/// Why a record cannot be read at all.
#[derive(Debug, thiserror::Error)]
enum Strange {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{NAME} is no plain file")]
    NoFile,
    #[error("{NAME} has {0} bytes, more than a state that was saved")]
    TooLong(u64),
}

/// The bytes, and when they were written. Never waits for a writer, and never reads more than could have been saved.
fn read_record(path: &Path) -> Result<(Vec<u8>, Timestamp), Strange> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Strange::NoFile);
    }
    let most = codec::MAX_RECORD as u64;
    if meta.len() > most {
        return Err(Strange::TooLong(meta.len()));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let at = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
    Ok((bytes, at.unwrap_or(Timestamp::UNIX_EPOCH)))
}

fn identity(path: &Path) -> io::Result<Identity> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn turn_of(dir: &Path) -> Arc<Turn> {
    let mut turns = lock(&TURNS);
    if let Some(turn) = turns.by_dir.get(dir).and_then(Weak::upgrade) {
        return turn;
    }
    if turns.by_dir.len() >= turns.look_at {
        turns.by_dir.retain(|_, turn| turn.strong_count() > 0);
        turns.look_at = FEW.max(2 * turns.by_dir.len());
    }
    let turn = Arc::new(Turn::default());
    turns.by_dir.insert(dir.to_owned(), Arc::downgrade(&turn));
    turn
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(saved: &Saved, state: &u64) -> Result<(), SaveError> {
        saved.write(&Saved::encode(state).unwrap(), || true)
    }

    #[test]
    fn what_was_saved_comes_back_to_another_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::new(dir.path().join("state"));
        assert!(!saved.any());
        assert_eq!(saved.read::<u64>(), Restored::Fresh);
        write(&saved, &7).unwrap();
        let later = Saved::new(dir.path().join("state"));
        assert!(later.any());
        assert!(matches!(later.read::<u64>(), Restored::Saved { state: 7, .. }));
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::new(dir.path().to_owned());
        write(&saved, &7).unwrap();
        let path = dir.path().join(NAME);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(saved.read::<u64>(), Restored::Unreadable { reason } if reason.contains("damaged")));
        assert_eq!(saved.read::<u64>(), Restored::Fresh);
        assert!(path.with_extension("unreadable").exists());
    }

    #[test]
    fn what_has_not_changed_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::new(dir.path().to_owned());
        write(&saved, &7).unwrap();
        let path = dir.path().join(NAME);
        let first = fs::metadata(&path).unwrap().ino();
        write(&saved, &7).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), first);
        // The old file is there while the new one is made, so it has another inode.
        write(&saved, &8).unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), first);
        assert!(matches!(saved.read::<u64>(), Restored::Saved { state: 8, .. }));
    }

    #[test]
    fn what_somebody_took_away_or_changed_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::new(dir.path().to_owned());
        let path = dir.path().join(NAME);
        let spoil: [&dyn Fn(); 3] =
            [&|| fs::remove_file(&path).unwrap(), &|| fs::write(&path, "something else").unwrap(), &|| {
                fs::rename(&path, path.with_extension("away")).unwrap()
            }];
        for spoil in spoil {
            write(&saved, &7).unwrap();
            spoil();
            write(&saved, &7).unwrap();
            assert!(matches!(saved.read::<u64>(), Restored::Saved { state: 7, .. }));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(
            matches!(write(&saved, &7), Err(SaveError::Disk { .. })),
            "nothing is saved, and that is said"
        );
    }

    #[test]
    fn what_is_no_saved_state_is_put_aside_and_neither_waited_for_nor_read_whole() {
        for strange in ["mkfifo actor.saved", "truncate -s 3G actor.saved", "mkdir actor.saved"] {
            let dir = tempfile::tempdir().unwrap();
            let made =
                std::process::Command::new("sh").args(["-c", strange]).current_dir(dir.path()).status();
            assert!(made.unwrap().success(), "{strange}");
            let saved = Saved::new(dir.path().to_owned());
            let read = saved.read::<u64>();
            assert!(
                matches!(&read, Restored::Unreadable { reason } if reason.contains(NAME)),
                "{strange}: {read:?}"
            );
            assert_eq!(saved.read::<u64>(), Restored::Fresh, "{strange}");
            write(&saved, &7).unwrap();
            assert!(matches!(saved.read::<u64>(), Restored::Saved { state: 7, .. }), "{strange}");
        }
    }

    #[test]
    fn a_successor_waits_for_the_write_that_goes_on_and_reads_what_it_left() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (Saved::new(dir.path().to_owned()), Saved::new(dir.path().to_owned()));
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let write = scope.spawn(|| {
                let bytes = Saved::encode(&1_u64).unwrap();
                first.write(&bytes, move || {
                    begun.send(()).unwrap();
                    goes.recv().is_ok()
                })
            });
            begins.recv().unwrap();
            assert!(second.any(), "there is something to wait for");
            let read = scope.spawn(|| second.read::<u64>());
            go.send(()).unwrap();
            assert_eq!(write.join().unwrap(), Ok(()));
            let read = read.join().unwrap();
            assert!(matches!(read, Restored::Saved { state: 1, .. }), "{read:?}");
        });
        write(&second, &2).unwrap();
        write(&first, &1).unwrap();
        assert!(
            matches!(second.read::<u64>(), Restored::Saved { state: 1, .. }),
            "what is there is known to both"
        );
    }

    #[test]
    fn what_was_put_away_or_brought_back_meanwhile_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let room = crate::worker::StateRoom::new(dir.path(), "web");
        let saved = Saved::new(room.path().to_owned());
        write(&saved, &7).unwrap();
        room.archive().unwrap();
        assert!(!saved.any());
        assert_eq!(saved.read::<u64>(), Restored::Fresh);
        write(&saved, &7).unwrap();
        assert!(
            matches!(saved.read::<u64>(), Restored::Saved { state: 7, .. }),
            "the same bytes are written again"
        );
        write(&saved, &8).unwrap();
        room.restore(None).unwrap();
        assert!(saved.any());
        assert!(matches!(saved.read::<u64>(), Restored::Saved { state: 7, .. }));
        write(&saved, &8).unwrap();
        assert!(matches!(saved.read::<u64>(), Restored::Saved { state: 8, .. }));
    }

    #[test]
    fn an_incarnation_that_is_over_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::new(dir.path().to_owned());
        assert_eq!(saved.write(&Saved::encode(&1_u64).unwrap(), || false), Err(SaveError::Over));
        assert!(!saved.any());
    }
}
