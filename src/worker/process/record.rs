//! The spawn record: who was started, written by each child itself before its exec.
//!
//! A child without a record cannot have reached its program, so a runtime that was killed at any moment and
//! comes back knows every main process that can live. No fsync: the record has to survive the runtime, not the
//! machine, and the boot id in its first line voids it after a reboot.
//!
//! It also says how far everybody's starts have come, so that no number is given out twice: whoever has no process of
//! his own, or none any more, has a line without one. That holds over a reboot, too.
//!
//! One line per start would grow for ever, so the file is written anew, with one line for each who is still there,
//! whenever it has grown by a bound. Deliberately absent: locks between processes (one runtime per state directory).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::id::{Incarnation, InstanceId};
use crate::worker::unix::dup_onto;

use super::owner::Owner;

/// The file's first word and version.
const MAGIC: &str = "regrow-spawned/1";
/// Some 5,000 lines: seldom enough to cost nothing, small enough to read at once.
const COMPACT_AFTER: u64 = 256 * 1024;
/// A file larger than this was not written by us; its end holds what counts.
pub(super) const MAX_READ: u64 = 16 * 1024 * 1024;

/// Numbers above are not ours: so many starts there never are.
const LAST_NUMBER: u64 = 1 << 53;

/// Starts that are under way get so long before a file that was removed is written around them.
const RENEW_TRIES: u32 = 50;
const RENEW_PAUSE: Duration = Duration::from_millis(20);

/// One start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Who.
    pub(super) instance: InstanceId,
    /// Which start.
    pub(super) incarnation: Incarnation,
    /// Its main process; 0: there is none.
    pub(super) pid: u32,
    /// The pidfs inode, 0 if the kernel has none.
    pub(super) inode: u64,
}

/// How far the starts of instances have come.
pub(super) type Numbers = HashMap<InstanceId, Incarnation>;

/// What an earlier runtime left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The newest start of each instance, if it was on this boot.
    pub(super) entries: Vec<Entry>,
    /// How far everybody's starts had come, on whatever boot.
    pub(super) numbers: Numbers,
    /// Where that runtime kept its cgroups.
    pub(super) cgroups: Option<PathBuf>,
    /// A runtime that lives and has written this in another directory: all of it is that one's, and none of it is here.
    pub(super) copied_from: Option<u32>,
}

impl Left {
    /// Adds what another record says.
    pub(super) fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
        for (instance, number) in other.numbers {
            let last = self.numbers.entry(instance).or_default();
            *last = number.max(*last);
        }
        self.cgroups = self.cgroups.take().or(other.cgroups);
        self.copied_from = self.copied_from.or(other.copied_from);
    }
}

impl Entry {
    fn has_process(&self) -> bool {
        self.pid > 1
    }
}

/// The file that children append to.
pub(super) struct Record {
    path: PathBuf,
    head: String,
    /// Always the same number, whatever file is behind it. Held for reading while a child may write.
    place: RwLock<OwnedFd>,
    size: AtomicU64,
    /// The size at which it is written anew.
    bound: AtomicU64,
    live: Mutex<Live>,
    is_there: OnceLock<IsThere>,
}

/// Whether an instance is still one of the runtime's.
pub(crate) type IsThere = Box<dyn Fn(&InstanceId) -> bool + Send + Sync>;

/// The newest start of everybody, and how often the file was written anew.
struct Live {
    entries: HashMap<InstanceId, Entry>,
    written: u64,
}

/// The file, held in place from before a child writes its line until that is known here, too.
pub(super) struct Hold<'a> {
    place: RwLockReadGuard<'a, OwnedFd>,
    written: u64,
}

impl AsRawFd for Hold<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.place.as_raw_fd()
    }
}

impl Record {
    /// Reads what is there.
    pub(super) fn read(path: &Path) -> io::Result<Left> {
        let bytes = match read_end(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::default()),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        let mut head = lines.next().unwrap_or_default().splitn(3, ' ');
        if head.next() != Some(MAGIC) {
            return Ok(Left::default());
        }
        let by = lines.clone().next().and_then(Owner::parse);
        let mut newest: HashMap<InstanceId, Entry> = HashMap::new();
        for mut entry in lines.filter_map(parse) {
            let before = newest.get(&entry.instance).map(|before| before.incarnation);
            entry.incarnation = further(before, entry.incarnation);
            newest.insert(entry.instance.clone(), entry);
        }
        let numbers = newest.values().map(|entry| (entry.instance.clone(), entry.incarnation)).collect();
        if head.next() != Some(&boot_id()) {
            return Ok(Left { numbers, ..Left::default() });
        }
        let cgroups = head.next().filter(|path| *path != "-").map(PathBuf::from);
        if let Some(pid) = by.and_then(|by| by.elsewhere(path)) {
            return Ok(Left { copied_from: Some(pid), numbers, ..Left::default() });
        }
        let entries = newest.into_values().filter(Entry::has_process).collect();
        Ok(Left { entries, numbers, cgroups, copied_from: None })
    }

    /// Writes the file anew with the survivors, and how far everybody has come, and opens it for children.
    pub(super) fn open(
        path: &Path,
        cgroups: Option<&Path>,
        keep: Vec<Entry>,
        numbers: &Numbers,
    ) -> io::Result<Self> {
        let cgroups = cgroups.and_then(Path::to_str).unwrap_or("-");
        let head = format!("{MAGIC} {} {cgroups}\n", boot_id());
        let counted = |(instance, number): (&InstanceId, &Incarnation)| {
            (instance.clone(), Entry { instance: instance.clone(), incarnation: *number, pid: 0, inode: 0 })
        };
        let mut live: HashMap<_, _> = numbers.iter().map(counted).collect();
        for mut entry in keep {
            let last = numbers.get(&entry.instance).copied().unwrap_or_default();
            entry.incarnation = entry.incarnation.max(last);
            live.insert(entry.instance.clone(), entry);
        }
        let (file, size) = write_anew(path, &head, live.values())?;
        let place = rustix::io::fcntl_dupfd_cloexec(&file, 3)?;
        Ok(Self {
            path: path.to_owned(),
            head,
            place: RwLock::new(place),
            size: AtomicU64::new(size),
            bound: AtomicU64::new(size + COMPACT_AFTER),
            is_there: OnceLock::new(),
            live: Mutex::new(Live { entries: live, written: 0 }),
        })
    }

    /// The number under which children find the file, for as long as this runtime lives.
    pub(super) fn fd(&self) -> RawFd {
        self.hold().as_raw_fd()
    }

    /// Holds the file in place while a child may write to it.
    pub(super) fn hold(&self) -> Hold<'_> {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner);
        let written = self.lock().written;
        Hold { place, written }
    }

    /// What stands before the pid in a child's line. It begins anew: on a disk that is full the one before may have been
    /// written in part.
    pub(super) fn line_head(instance: &InstanceId, incarnation: Incarnation) -> String {
        format!("\n{instance} {incarnation} ")
    }

    /// Remembers a start, so that the next compaction keeps it. Only then is the file let go of: written anew before, it
    /// would be without this line.
    pub(super) fn started(&self, hold: Hold<'_>, entry: Entry) {
        let name = entry.instance.to_string().len();
        self.remember(&hold, entry);
        drop(hold);
        self.grown(name);
    }

    /// Remembers a start that has no process of its own, or came to none.
    pub(super) fn count(&self, instance: &InstanceId, incarnation: Incarnation) {
        let hold = self.hold();
        let mut live = self.lock();
        let none = || Entry { instance: instance.clone(), incarnation, pid: 0, inode: 0 };
        let entry = live.entries.entry(instance.clone()).or_insert_with(none);
        // Its process, if an earlier one lives on.
        entry.incarnation = further(Some(entry.incarnation), incarnation);
        let text = line(entry);
        drop(live);
        if let Err(error) = append(&hold.place, &text) {
            tracing::warn!(%instance, %error, "its start could not be recorded");
        }
        drop(hold);
        self.grown(text.len());
    }

    /// Whoever is none of the runtime's any more is forgotten when the file is written anew.
    pub(super) fn forget_unless(&self, is_there: IsThere) {
        // A second one would be a fault of ours, and the first does as well.
        let _ = self.is_there.set(is_there);
    }

    fn grown(&self, name: usize) {
        // Longest numbers assumed: the bound need not be exact.
        self.size.fetch_add(name as u64 + 50, Ordering::Relaxed);
        if self.size.load(Ordering::Relaxed) > self.bound.load(Ordering::Relaxed)
            && let Err(error) = self.compact()
        {
            tracing::warn!(%error, path = %self.path.display(), "the spawn record cannot be written anew; it goes on growing");
            self.size.store(0, Ordering::Relaxed);
        }
    }

    fn remember(&self, hold: &Hold<'_>, mut entry: Entry) {
        let mut live = self.lock();
        let before = live.entries.get(&entry.instance).map(|before| before.incarnation);
        entry.incarnation = further(before, entry.incarnation);
        // The child has written its line into a file that somebody had removed.
        if live.written != hold.written
            && let Err(error) = append(&hold.place, &line(&entry))
        {
            tracing::warn!(instance = %entry.instance, %error, "its start could not be recorded");
        }
        live.entries.insert(entry.instance.clone(), entry);
    }

    /// Forgets the process of an instance of which nothing lives.
    pub(super) fn ended(&self, instance: &InstanceId) {
        if let Some(entry) = self.lock().entries.get_mut(instance) {
            (entry.pid, entry.inode) = (0, 0);
        }
    }

    /// Writes the file anew after somebody has removed it: once nobody is being started, or around a start that hangs,
    /// which must not hold up all others.
    pub(super) fn renew(&self) -> io::Result<()> {
        for _ in 0..RENEW_TRIES {
            if let Ok(place) = self.place.try_write() {
                return self.write_live(&place);
            }
            std::thread::sleep(RENEW_PAUSE);
        }
        self.write_live(&self.hold().place)
    }

    /// Writes one line for each. Put off while any child is being started: it holds the file.
    fn compact(&self) -> io::Result<()> {
        let Ok(place) = self.place.try_write() else { return Ok(()) };
        self.write_live(&place)
    }

    fn write_live(&self, place: &OwnedFd) -> io::Result<()> {
        let mut live = self.lock();
        if let Some(is_there) = self.is_there.get() {
            live.entries.retain(|instance, entry| entry.has_process() || is_there(instance));
        }
        let (file, size) = write_anew(&self.path, &self.head, live.entries.values())?;
        dup_onto(&file.into(), place)?;
        live.written += 1;
        self.size.store(size, Ordering::Relaxed);
        self.bound.store(size + COMPACT_AFTER, Ordering::Relaxed);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in a record that a process of this pid writes as long as it lives; `None`: it is no such record.
pub(super) fn written_by(pid: u32, text: &str) -> Option<Vec<Entry>> {
    let mut lines = text.lines();
    let mut head = lines.next()?.splitn(3, ' ');
    if head.next() != Some(MAGIC) || head.next() != Some(&boot_id()) {
        return None;
    }
    let writer = lines.next().and_then(Owner::parse)?;
    writer.is(pid).then(|| lines.filter_map(parse).collect())
}

/// How far one has come that says this number now: nobody goes back, but who is new begins with the first.
fn further(before: Option<Incarnation>, now: Incarnation) -> Incarnation {
    if now == Incarnation(1) { now } else { before.map_or(now, |before| before.max(now)) }
}

/// As a child writes it.
fn line(Entry { instance, incarnation, pid, inode }: &Entry) -> String {
    format!("{instance} {incarnation} {pid} {inode}\n")
}

/// Appends a line in one write. What came before it may have been written in part.
fn append(place: &OwnedFd, line: &str) -> io::Result<()> {
    let line = format!("\n{line}");
    match rustix::io::write(place, line.as_bytes())? {
        all if all == line.len() => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::StorageFull)),
    }
}

fn write_anew<'a>(
    path: &Path,
    head: &str,
    entries: impl Iterator<Item = &'a Entry>,
) -> io::Result<(File, u64)> {
    let mut text = head.to_owned();
    // Each time anew: the directory may have been made again.
    text.extend(Owner::of(path).map(|owner| owner.line()));
    text.extend(entries.map(line));
    let fresh = path.with_extension("new");
    if let Err(error) = std::fs::remove_file(&fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&fresh)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&fresh, path)?;
    Ok((file, text.len() as u64))
}

/// The whole file, or its first two lines and its end if it is absurdly long.
fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    if size > MAX_READ {
        let mut head = vec![0; 4096];
        let read = file.read(&mut head)?;
        bytes.extend(head[..read].split_inclusive(|byte| *byte == b'\n').take(2).flatten());
        file.seek(SeekFrom::Start(size - MAX_READ))?;
    }
    file.take(MAX_READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let instance = words.next()?.parse().ok()?;
    let incarnation = Incarnation(words.next()?.parse().ok().filter(|number| *number <= LAST_NUMBER)?);
    let pid = words.next()?.parse().ok()?;
    let inode = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Entry { instance, incarnation, pid, inode })
}

/// Names this run of the kernel. Without `/proc` every record is from another one.
fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => id.trim().to_owned(),
        Err(_) => format!("unknown-{}", std::process::id()),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
