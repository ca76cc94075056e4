//! A file layer for SQLite that writes down what reaches the disk and in which order, and that can be full.
//!
//! It stands between SQLite and its own unix layer, so everything really happens as well. From what was written down
//! a test makes the disks that a power cut can leave: what was synced is there; of what was not, each sector is there,
//! or not, or torn, whatever order it was written in.

#![expect(unsafe_code, reason = "SQLite's file layer is an interface of C")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::ffi;

use crate::sim::dice::Dice;

/// A disk writes this much at once, or less.
const SECTOR: usize = 512;

/// One thing that reached the disk, or a note of the test's.
#[derive(Debug, Clone)]
enum Step {
    Write { file: String, at: usize, bytes: Vec<u8> },
    Truncate { file: String, len: usize },
    Sync { file: String },
    Delete { file: String, synced: bool },
    Note(u64),
}

#[derive(Default)]
struct Recorder {
    steps: Vec<Step>,
    /// Bytes that still fit.
    room: Option<usize>,
}

/// A file layer under a name of its own. It lasts as long as the process: SQLite keeps pointers to it.
pub(crate) struct Shim {
    root: *mut ffi::sqlite3_vfs,
    recorder: Mutex<Recorder>,
}

// SAFETY: the root layer is SQLite's own, which is made for threads; everything else is behind the mutex.
unsafe impl Sync for Shim {}
// SAFETY: as above.
unsafe impl Send for Shim {}

/// An open file: ours in front, SQLite's own behind it.
#[repr(C)]
struct Opened {
    base: ffi::sqlite3_file,
    shim: &'static Shim,
    name: *mut String,
}

impl Shim {
    /// Registers it.
    pub(crate) fn register(name: &str) -> &'static Self {
        // SAFETY: asks for the default layer, which lives for ever.
        let root = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
        let shim: &'static Self = Box::leak(Box::new(Self { root, recorder: Mutex::default() }));
        // SAFETY: the root layer is a plain struct; it is copied and four of its entries are replaced.
        let mut vfs = unsafe { *root };
        vfs.szOsFile += c_int::try_from(size_of::<Opened>()).unwrap();
        vfs.pNext = std::ptr::null_mut();
        vfs.zName = CString::new(name).unwrap().into_raw();
        vfs.pAppData = std::ptr::from_ref(shim).cast_mut().cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        // SAFETY: the struct is leaked, as SQLite wants it.
        let done = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) };
        assert_eq!(done, ffi::SQLITE_OK);
        shim
    }

    fn with<T>(&self, work: impl FnOnce(&mut Recorder) -> T) -> T {
        work(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that everything up to this number was confirmed.
    pub(crate) fn note(&self, number: u64) {
        self.with(|recorder| recorder.steps.push(Step::Note(number)));
    }

    /// So many bytes still fit; `None`: as many as one likes.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.with(|recorder| recorder.room = room);
    }

    /// Everything that happened until now.
    pub(crate) fn recording(&self) -> Recording {
        self.with(|recorder| Recording { steps: recorder.steps.clone() })
    }
}

/// What happened, in its order.
pub(crate) struct Recording {
    steps: Vec<Step>,
}

impl Recording {
    /// How many steps there are.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// The steps that are syncs.
    pub(crate) fn syncs(&self) -> Vec<usize> {
        let all = self.steps.iter().enumerate();
        all.filter(|(_, step)| matches!(step, Step::Sync { .. })).map(|(at, _)| at).collect()
    }

    /// What was confirmed before this step.
    pub(crate) fn confirmed(&self, before: usize) -> u64 {
        let notes = self.steps[..before].iter().filter_map(|step| match step {
            Step::Note(number) => Some(*number),
            Step::Write { .. } | Step::Truncate { .. } | Step::Sync { .. } | Step::Delete { .. } => None,
        });
        notes.max().unwrap_or(0)
    }

    /// The syncs that are one of the directory, too: the first of each new WAL or journal. What was deleted before stays
    /// so.
    fn dir_syncs(&self) -> Vec<usize> {
        let (mut found, mut known) = (Vec::new(), BTreeSet::new());
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Sync { file } if file.ends_with("-wal") || file.ends_with("-journal") => {
                    if known.insert(file) {
                        found.push(at);
                    }
                }
                Step::Delete { file, .. } => {
                    known.remove(file);
                }
                Step::Sync { .. } | Step::Write { .. } | Step::Truncate { .. } | Step::Note(_) => {}
            }
        }
        found
    }

    /// Makes a disk that a power cut right before this step can leave.
    pub(crate) fn cut(&self, before: usize, dice: &mut Dice, into: &Path) {
        let steps = &self.steps[..before];
        let mut files: BTreeMap<&str, Option<Vec<u8>>> = BTreeMap::new();
        let dir_syncs = self.dir_syncs();
        // Whose old content came back: what was written since went to a file that no name leads to.
        let mut back: BTreeSet<&str> = BTreeSet::new();
        for (at, step) in steps.iter().enumerate() {
            let file = match step {
                Step::Write { file, .. } | Step::Truncate { file, .. } | Step::Delete { file, .. } => {
                    file.as_str()
                }
                Step::Sync { .. } | Step::Note(_) => continue,
            };
            let later = &steps[at..];
            let synced = later.iter().any(|step| match step {
                Step::Sync { file: synced } => synced == file,
                Step::Write { .. } | Step::Truncate { .. } | Step::Delete { .. } | Step::Note(_) => false,
            });
            if back.contains(file) {
                continue;
            }
            match step {
                Step::Delete { synced: dir, .. }
                    if !(*dir
                        || dir_syncs.iter().any(|sync| (at..before).contains(sync))
                        || dice.chance(50)) =>
                {
                    back.insert(file);
                }
                Step::Write { .. }
                | Step::Truncate { .. }
                | Step::Delete { .. }
                | Step::Sync { .. }
                | Step::Note(_) => {
                    apply(step, synced, dice, files.entry(file).or_default());
                }
            }
        }
        for (name, content) in files {
            if let Some(content) = content {
                std::fs::write(into.join(name), content).unwrap();
            }
        }
    }
}

fn apply(step: &Step, synced: bool, dice: &mut Dice, content: &mut Option<Vec<u8>>) {
    match step {
        Step::Write { at, bytes, .. } => {
            let content = content.get_or_insert_default();
            let mut done = 0;
            while done < bytes.len() {
                // Up to the next border of a sector.
                let end = (done + SECTOR - (at + done) % SECTOR).min(bytes.len());
                let whole = end - done;
                let there = match dice.below(5) {
                    _ if synced => whole,
                    0 | 1 => whole,
                    2 => dice.below(whole),
                    _ => 0,
                };
                if there > 0 {
                    let (from, to) = (at + done, at + done + there);
                    content.resize(content.len().max(to), 0);
                    content[from..to].copy_from_slice(&bytes[done..done + there]);
                }
                done = end;
            }
        }
        Step::Truncate { len, .. } => {
            if synced || dice.chance(50) {
                content.get_or_insert_default().resize(*len, 0);
            }
        }
        Step::Delete { .. } => *content = None,
        Step::Sync { .. } | Step::Note(_) => {}
    }
}

fn of_vfs(vfs: *mut ffi::sqlite3_vfs) -> &'static Shim {
    // SAFETY: `register` put a leaked shim there.
    unsafe { &*(*vfs).pAppData.cast::<Shim>() }
}

fn short(name: *const c_char) -> String {
    // SAFETY: SQLite hands in a C string that outlives the call.
    let path = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    Path::new(&path).file_name().unwrap().to_string_lossy().into_owned()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let shim = of_vfs(vfs);
    let own = file.cast::<Opened>();
    // SAFETY: SQLite has set `szOsFile` bytes aside: ours, and behind them those of the root layer.
    unsafe {
        (*own).base.pMethods = std::ptr::null();
        let code = (*shim.root).xOpen.unwrap()(shim.root, name, real(file), flags, out);
        if code == ffi::SQLITE_OK {
            (*own).shim = shim;
            let name = if name.is_null() { "temporary".to_owned() } else { short(name) };
            (*own).name = Box::into_raw(Box::new(name));
            (*own).base.pMethods = &METHODS;
        }
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    let shim = of_vfs(vfs);
    shim.with(|recorder| recorder.steps.push(Step::Delete { file: short(name), synced: sync != 0 }));
    // SAFETY: passed on as it came.
    unsafe { (*shim.root).xDelete.unwrap()(shim.root, name, sync) }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let root = of_vfs(vfs).root;
    // SAFETY: passed on as it came.
    unsafe { (*root).xAccess.unwrap()(root, name, flags, out) }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    let root = of_vfs(vfs).root;
    // SAFETY: passed on as it came.
    unsafe { (*root).xFullPathname.unwrap()(root, name, size, out) }
}

/// The root layer's file, behind ours.
fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: within what SQLite has set aside; see `open`.
    unsafe { file.cast::<u8>().add(size_of::<Opened>()).cast() }
}

fn methods(file: *mut ffi::sqlite3_file) -> &'static ffi::sqlite3_io_methods {
    // SAFETY: an open file of the root layer has a table that lives for ever.
    unsafe { &*(*real(file)).pMethods }
}

fn record(file: *mut ffi::sqlite3_file, step: impl FnOnce(String) -> Step) {
    // SAFETY: only open files come here, and `open` filled both fields.
    let (shim, name) = unsafe { ((*file.cast::<Opened>()).shim, (*(*file.cast::<Opened>()).name).clone()) };
    shim.with(|recorder| recorder.steps.push(step(name)));
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: closed once, and the name was boxed by `open`.
    unsafe {
        drop(Box::from_raw((*file.cast::<Opened>()).name));
        methods(file).xClose.unwrap()(real(file))
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: filled by `open`.
    let shim = unsafe { (*file.cast::<Opened>()).shim };
    let length = usize::try_from(count).unwrap();
    let fits = shim.with(|recorder| match &mut recorder.room {
        None => true,
        Some(room) if *room >= length => {
            *room -= length;
            true
        }
        Some(_) => false,
    });
    if !fits {
        return ffi::SQLITE_FULL;
    }
    // SAFETY: SQLite hands in so many bytes.
    let copy = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) }.to_vec();
    record(file, |file| Step::Write { file, at: usize::try_from(at).unwrap(), bytes: copy });
    // SAFETY: passed on as it came.
    unsafe { methods(file).xWrite.unwrap()(real(file), bytes, count, at) }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    record(file, |file| Step::Truncate { file, len: usize::try_from(size).unwrap() });
    // SAFETY: passed on as it came.
    unsafe { methods(file).xTruncate.unwrap()(real(file), size) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: passed on as it came.
    let code = unsafe { methods(file).xSync.unwrap()(real(file), flags) };
    record(file, |file| Step::Sync { file });
    code
}

/// What is passed on as it came: the name, the arguments, the answer.
macro_rules! passed_on {
    ($($name:ident $entry:ident ($($argument:ident: $type:ty),*);)*) => {
        $(unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file $(, $argument: $type)*) -> c_int {
            // SAFETY: passed on as it came.
            unsafe { methods(file).$entry.unwrap()(real(file) $(, $argument)*) }
        })*
    };
}

passed_on! {
    read xRead (bytes: *mut c_void, count: c_int, at: ffi::sqlite3_int64);
    file_size xFileSize (size: *mut ffi::sqlite3_int64);
    lock xLock (level: c_int);
    unlock xUnlock (level: c_int);
    check_reserved_lock xCheckReservedLock (out: *mut c_int);
    file_control xFileControl (what: c_int, argument: *mut c_void);
    sector_size xSectorSize ();
    characteristics xDeviceCharacteristics ();
    shm_map xShmMap (page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void);
    shm_lock xShmLock (at: c_int, count: c_int, flags: c_int);
    shm_unmap xShmUnmap (delete: c_int);
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: passed on as it came.
    unsafe { methods(file).xShmBarrier.unwrap()(real(file)) }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without memory mapping, which would go past this layer.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
