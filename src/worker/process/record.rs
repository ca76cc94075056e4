//! The spawn record: who was started, written by each child itself before its exec.
//!
//! A child without a record cannot have reached its program, so a runtime that was killed at any moment and
//! comes back knows every main process that can live. No fsync: the record has to survive the runtime, not the
//! machine, and the boot id in its first line voids it after a reboot.
//!
//! One line per start would grow for ever, so the file is written anew, with the live ones only, whenever it
//! has grown over a bound. Deliberately absent: locks between processes (one runtime per state directory).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::id::{Incarnation, InstanceId};
use crate::worker::unix::dup_onto;

use super::owner::Owner;

/// The file's first word and version.
const MAGIC: &str = "regrow-spawned/1";
/// Some 5,000 lines: seldom enough to cost nothing, small enough to read at once.
const COMPACT_OVER: u64 = 256 * 1024;
/// A file larger than this was not written by us; its end holds what counts.
const MAX_READ: u64 = 16 * 1024 * 1024;

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
    /// Its main process.
    pub(super) pid: u32,
    /// The pidfs inode, 0 if the kernel has none.
    pub(super) inode: u64,
}

/// What an earlier runtime left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// The newest start of each instance, if it was on this boot.
    pub(super) entries: Vec<Entry>,
    /// Where that runtime kept its cgroups.
    pub(super) cgroups: Option<PathBuf>,
    /// A runtime that lives and has written this in another directory: all of it is that one's, and none of it is here.
    pub(super) copied_from: Option<u32>,
}

impl Left {
    /// Adds what another record says.
    pub(super) fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.cgroups = self.cgroups.take().or(other.cgroups);
        self.copied_from = self.copied_from.or(other.copied_from);
    }
}

/// The file that children append to.
pub(super) struct Record {
    path: PathBuf,
    head: String,
    /// Always the same number, whatever file is behind it. Held for reading while a child may write.
    place: RwLock<OwnedFd>,
    size: AtomicU64,
    live: Mutex<Live>,
}

/// Who lives, and how often the file was written anew.
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
        if head.next() != Some(MAGIC) || head.next() != Some(&boot_id()) {
            return Ok(Left::default());
        }
        let cgroups = head.next().filter(|path| *path != "-").map(PathBuf::from);
        let by = lines.clone().next().and_then(Owner::parse);
        if let Some(pid) = by.and_then(|by| by.elsewhere(path)) {
            return Ok(Left { copied_from: Some(pid), ..Left::default() });
        }
        let newest: HashMap<_, _> =
            lines.filter_map(parse).map(|entry| (entry.instance.clone(), entry)).collect();
        Ok(Left { entries: newest.into_values().collect(), cgroups, copied_from: None })
    }

    /// Writes the file anew with the survivors and opens it for children.
    pub(super) fn open(path: &Path, cgroups: Option<&Path>, keep: Vec<Entry>) -> io::Result<Self> {
        let cgroups = cgroups.and_then(Path::to_str).unwrap_or("-");
        let head = format!("{MAGIC} {} {cgroups}\n", boot_id());
        let live: HashMap<_, _> = keep.into_iter().map(|entry| (entry.instance.clone(), entry)).collect();
        let (file, size) = write_anew(path, &head, live.values())?;
        let place = rustix::io::fcntl_dupfd_cloexec(&file, 3)?;
        Ok(Self {
            path: path.to_owned(),
            head,
            place: RwLock::new(place),
            size: AtomicU64::new(size),
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

    /// What stands before the pid in a child's line.
    pub(super) fn line_head(instance: &InstanceId, incarnation: Incarnation) -> String {
        format!("{instance} {incarnation} ")
    }

    /// Remembers a start, so that the next compaction keeps it. Only then is the file let go of: written anew before, it
    /// would be without this line.
    pub(super) fn started(&self, hold: Hold<'_>, entry: Entry) {
        // Longest numbers assumed: the bound need not be exact.
        self.size.fetch_add(entry.instance.to_string().len() as u64 + 50, Ordering::Relaxed);
        self.remember(&hold, entry);
        drop(hold);
        if self.size.load(Ordering::Relaxed) > COMPACT_OVER
            && let Err(error) = self.compact()
        {
            tracing::warn!(%error, path = %self.path.display(), "the spawn record cannot be written anew; it goes on growing");
            self.size.store(0, Ordering::Relaxed);
        }
    }

    fn remember(&self, hold: &Hold<'_>, entry: Entry) {
        let mut live = self.lock();
        // The child has written its line into a file that somebody had removed.
        if live.written != hold.written
            && let Err(error) = rustix::io::write(&*hold.place, line(&entry).as_bytes())
        {
            tracing::warn!(instance = %entry.instance, %error, "its start could not be recorded");
        }
        live.entries.insert(entry.instance.clone(), entry);
    }

    /// Forgets an instance of which nothing lives.
    pub(super) fn ended(&self, instance: &InstanceId) {
        self.lock().entries.remove(instance);
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

    /// Writes the live ones only. Put off while any child is being started: it holds the file.
    fn compact(&self) -> io::Result<()> {
        let Ok(place) = self.place.try_write() else { return Ok(()) };
        self.write_live(&place)
    }

    fn write_live(&self, place: &OwnedFd) -> io::Result<()> {
        let mut live = self.lock();
        let (file, size) = write_anew(&self.path, &self.head, live.entries.values())?;
        dup_onto(&file.into(), place)?;
        live.written += 1;
        self.size.store(size, Ordering::Relaxed);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a child writes it.
fn line(Entry { instance, incarnation, pid, inode }: &Entry) -> String {
    format!("{instance} {incarnation} {pid} {inode}\n")
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
    let incarnation = Incarnation(words.next()?.parse().ok()?);
    let pid = words.next()?.parse().ok().filter(|pid| *pid > 1)?;
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
mod tests {
    use super::*;

    fn entry(text: &str, incarnation: u64) -> Entry {
        let instance = text.parse().unwrap();
        Entry { instance, incarnation: Incarnation(incarnation), pid: 4711, inode: 99 }
    }

    #[test]
    fn what_was_kept_is_read_back_and_torn_lines_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spawned");
        let cgroups = Path::new("/sys/fs/cgroup/x y");
        drop(Record::open(&path, Some(cgroups), vec![entry("web", 3), entry("parser/0", 1)]).unwrap());
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"web 4 4712 100\nweb 5 47").unwrap();
        let mut left = Record::read(&path).unwrap();
        left.entries.sort_by_key(|entry| entry.pid);
        assert_eq!(left.cgroups.as_deref(), Some(cgroups));
        assert_eq!(left.entries[0], entry("parser/0", 1));
        assert_eq!(
            left.entries[1].incarnation,
            Incarnation(4),
            "the newest whole line of an instance counts"
        );
    }

    #[test]
    fn a_copy_of_a_record_whose_writer_lives_names_nobody_but_the_writer() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (path, copy) = (here.path().join("spawned"), there.path().join("spawned"));
        drop(Record::open(&path, Some(Path::new("/sys/fs/cgroup/x")), vec![entry("web", 3)]).unwrap());
        std::fs::copy(&path, &copy).unwrap();
        let left = Record::read(&copy).unwrap();
        assert_eq!((left.entries, left.cgroups), (Vec::new(), None));
        assert_eq!(left.copied_from, Some(std::process::id()));
        let left = Record::read(&path).unwrap();
        assert_eq!((left.entries, left.copied_from), (vec![entry("web", 3)], None), "the original");
        // Written by nobody that lives, as by an earlier version.
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        std::fs::write(&copy, lines.join("\n") + "\n").unwrap();
        assert_eq!(Record::read(&copy).unwrap().entries, [entry("web", 3)]);
    }

    #[test]
    fn another_boot_voids_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spawned");
        std::fs::write(&path, "regrow-spawned/1 another-boot -\nweb 3 4711 99\n").unwrap();
        assert!(Record::read(&path).unwrap().entries.is_empty());
    }

    /// What a child does, and then its runtime.
    fn start(record: &Record, hold: Hold<'_>, entry: Entry) {
        write_line(&hold, &entry);
        record.started(hold, entry);
    }

    fn write_line(hold: &Hold<'_>, entry: &Entry) {
        let head = Record::line_head(&entry.instance, entry.incarnation);
        let mut file = File::from(rustix::io::fcntl_dupfd_cloexec(&*hold.place, 3).unwrap());
        file.write_all(format!("{head}4711 99\n").as_bytes()).unwrap();
    }

    #[test]
    fn a_start_between_its_line_and_its_end_is_not_lost_when_the_file_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spawned");
        let record = Record::open(&path, None, Vec::new()).unwrap();
        let slow = record.hold();
        write_line(&slow, &entry("slow", 1));
        record.size.store(COMPACT_OVER, Ordering::Relaxed);
        start(&record, record.hold(), entry("web", 1));
        assert_eq!(Record::read(&path).unwrap().entries.len(), 2, "it was written anew without one of them");
        record.started(slow, entry("slow", 1));
        assert_eq!(Record::read(&path).unwrap().entries.len(), 2);
        assert!(record.size.load(Ordering::Relaxed) < COMPACT_OVER, "now it is");
    }

    #[test]
    fn a_start_that_hangs_does_not_keep_a_removed_file_away_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spawned");
        let record = Record::open(&path, None, Vec::new()).unwrap();
        let hangs = record.hold();
        write_line(&hangs, &entry("hangs", 1));
        std::fs::remove_file(&path).unwrap();
        record.renew().unwrap();
        start(&record, record.hold(), entry("web", 1));
        record.started(hangs, entry("hangs", 1));
        let mut known: Vec<_> = Record::read(&path).unwrap().entries;
        known.sort_by(|a, b| a.instance.cmp(&b.instance));
        assert_eq!(known, [entry("hangs", 1), entry("web", 1)]);
    }

    #[test]
    fn a_million_starts_do_not_make_it_grow() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spawned");
        let record = Record::open(&path, None, Vec::new()).unwrap();
        let fd = record.fd();
        for n in 1..=20_000 {
            start(&record, record.hold(), entry("web", n));
            assert!(std::fs::metadata(&path).unwrap().len() <= COMPACT_OVER);
        }
        assert_eq!(record.fd(), fd, "children go on finding it under the same number");
        assert_eq!(Record::read(&path).unwrap().entries, [entry("web", 20_000)]);
        record.ended(&"web".parse().unwrap());
        record.compact().unwrap();
        assert!(Record::read(&path).unwrap().entries.is_empty());
    }
}
