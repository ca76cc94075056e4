//! NVIDIA's library of figures (NVML), found at run time: a machine without it needs nothing of it, and one that gets a
//! driver later is seen once somebody looks.
//!
//! By hand, because eight calls need no crate. The library is never closed: drivers do not like that, and its threads may
//! live in it.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::sync::{Mutex, PoisonError};

/// More cards than a machine holds.
const MOST_CARDS: c_uint = 64;
/// More processes on one card than are told apart.
const MOST_PROCESSES: usize = 128;
/// The longest UUID that the library writes, with its end.
const UUID_BYTES: usize = 96;

/// The names under which drivers install it.
const NAMES: [&CStr; 2] = [c"libnvidia-ml.so.1", c"libnvidia-ml.so"];

static LOADED: Mutex<Option<Nvml>> = Mutex::new(None);

/// One card at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Card {
    /// Its number.
    pub(crate) index: u32,
    /// `GPU-…`; empty if it has none.
    pub(crate) uuid: String,
    /// Memory in use, in bytes.
    pub(crate) used: u64,
    /// All of its memory.
    pub(crate) total: u64,
    /// 0..1: how much of the last moments it computed.
    pub(crate) busy: Option<f64>,
    /// Who computes on it, as far as that can be seen.
    pub(crate) pids: Vec<u32>,
}

/// All cards, now. May wait for the driver.
///
/// # Errors
/// There is no driver, or it does not answer as it should, in words.
pub(crate) fn gpu_cards() -> Result<Vec<Card>, String> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let nvml = match &mut *loaded {
        Some(nvml) => nvml,
        none => none.insert(Nvml::load()?),
    };
    nvml.cards()
}

type Device = *mut c_void;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// The second and third version of it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Process {
    pid: c_uint,
    used: u64,
    instance: c_uint,
    compute_instance: c_uint,
}

type GetProcesses = unsafe extern "C" fn(Device, *mut c_uint, *mut Process) -> c_int;

/// The calls that are used. The library may be called from any thread.
#[derive(Clone, Copy)]
struct Nvml {
    count: unsafe extern "C" fn(*mut c_uint) -> c_int,
    device: unsafe extern "C" fn(c_uint, *mut Device) -> c_int,
    memory: unsafe extern "C" fn(Device, *mut Memory) -> c_int,
    utilization: unsafe extern "C" fn(Device, *mut Utilization) -> c_int,
    uuid: unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int,
    processes: Option<GetProcesses>,
}

impl Nvml {
    fn load() -> Result<Self, String> {
        let library = NAMES
            .iter()
            // SAFETY: NUL-terminated names; what the library does as it is loaded is the driver's own code.
            .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) })
            .find(|library| !library.is_null())
            .ok_or("this machine has no NVIDIA driver (libnvidia-ml.so.1 is not found)")?;
        let missing = |name: &CStr| format!("the NVIDIA driver has no {}", name.to_string_lossy());
        let need = |name: &'static CStr| symbol(library, name).ok_or_else(|| missing(name));
        // SAFETY: the types are those of nvml.h, which keeps the meaning of a name for ever.
        let nvml = unsafe {
            Self {
                count: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_uint) -> c_int>(need(
                    c"nvmlDeviceGetCount_v2",
                )?),
                device: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_uint, *mut Device) -> c_int>(
                    need(c"nvmlDeviceGetHandleByIndex_v2")?,
                ),
                memory: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(Device, *mut Memory) -> c_int>(
                    need(c"nvmlDeviceGetMemoryInfo")?,
                ),
                utilization: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(Device, *mut Utilization) -> c_int,
                >(need(c"nvmlDeviceGetUtilizationRates")?),
                uuid: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int,
                >(need(c"nvmlDeviceGetUUID")?),
                processes: [
                    c"nvmlDeviceGetComputeRunningProcesses_v3",
                    c"nvmlDeviceGetComputeRunningProcesses_v2",
                ]
                .into_iter()
                .find_map(|name| symbol(library, name))
                .map(|found| std::mem::transmute::<*mut c_void, GetProcesses>(found)),
            }
        };
        let begin = need(c"nvmlInit_v2")?;
        // SAFETY: as above; it may be called any number of times.
        let begun = unsafe {
            let begin = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(begin);
            begin()
        };
        done("nvmlInit", begun)?;
        Ok(nvml)
    }

    fn cards(&self) -> Result<Vec<Card>, String> {
        let mut count = 0;
        // SAFETY: writes one number.
        done("counting the cards", unsafe { (self.count)(&raw mut count) })?;
        (0..count.min(MOST_CARDS)).map(|index| self.card(index)).collect()
    }

    fn card(&self, index: c_uint) -> Result<Card, String> {
        let mut device: Device = std::ptr::null_mut();
        // SAFETY: writes one pointer, which is only handed back.
        done("finding a card", unsafe { (self.device)(index, &raw mut device) })?;
        let mut memory = Memory::default();
        // SAFETY: a device of the library, and a structure of the layout that it writes.
        done("reading a card's memory", unsafe { (self.memory)(device, &raw mut memory) })?;
        let mut rates = Utilization::default();
        // SAFETY: as above. Old cards, and cards that are divided, do not tell.
        let told = unsafe { (self.utilization)(device, &raw mut rates) } == 0;
        Ok(Card {
            index,
            uuid: self.uuid(device),
            used: memory.used,
            total: memory.total,
            busy: told.then_some(f64::from(rates.gpu) / 100.0),
            pids: self.pids(device),
        })
    }

    fn uuid(&self, device: Device) -> String {
        let mut text = [0 as c_char; UUID_BYTES];
        // SAFETY: a device of the library, and as much room as is said.
        if unsafe { (self.uuid)(device, text.as_mut_ptr(), UUID_BYTES as c_uint) } != 0 {
            return String::new();
        }
        text[UUID_BYTES - 1] = 0;
        // SAFETY: it ends within the array, at its last byte at the latest.
        unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()
    }

    fn pids(&self, device: Device) -> Vec<u32> {
        let Some(processes) = self.processes else { return Vec::new() };
        let mut found = [const { MaybeUninit::<Process>::uninit() }; MOST_PROCESSES];
        let mut count = MOST_PROCESSES as c_uint;
        // SAFETY: room for `count` structures of the layout that it writes; it says how many it has written.
        if unsafe { processes(device, &raw mut count, found.as_mut_ptr().cast()) } != 0 {
            return Vec::new();
        }
        let written = found.iter().take((count as usize).min(MOST_PROCESSES));
        // SAFETY: the first `count` are written.
        written.map(|process| unsafe { process.assume_init() }.pid).collect()
    }
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: an open library and a NUL-terminated name.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn done(what: &str, code: c_int) -> Result<(), String> {
    match code {
        0 => Ok(()),
        // NVML_ERROR_DRIVER_NOT_LOADED and NVML_ERROR_LIB_RM_VERSION_MISMATCH, which people meet.
        9 => Err(format!("{what}: the NVIDIA driver is not loaded")),
        18 => Err(format!(
            "{what}: the NVIDIA driver and its library are of different versions; restart the machine"
        )),
        15 => Err(format!("{what}: the card has fallen off the bus")),
        code => Err(format!("{what}: NVML error {code}")),
    }
}
