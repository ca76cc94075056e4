//! Panics of user code: caught, told apart, and described as well as can be.
//!
//! A panic's payload knows neither where it happened nor how one came there; only the panic hook does. Ours notes
//! both for code that runs under a [`Scope`], and passes every other panic on to the hook that was there before.
//! Walking the stack costs more than a whole restart, so it is rationed, and the walk is turned into text on a
//! thread of its own, because that takes milliseconds.

use std::any::Any;
use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, Once, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::units::shortened;

use super::failure::MOST;

/// Between two walked stacks of one worker, and a sixteenth of it between any two: a crash loop shows the same stack
/// again and again.
const PER_WORKER: Duration = Duration::from_secs(1);
const OVERALL: Duration = Duration::from_millis(60);

/// Panics of one thread that are noted at once.
const MOST_SEEN: usize = 4;

/// Room for a message and its place.
const USUAL: usize = 120;

/// Held while a stack is turned into text: that takes milliseconds under a lock of the standard library's, which walking
/// one needs as well.
static IN_WORDS: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whose code runs on this thread; 0: nobody's.
    static RUNS: Cell<u64> = const { Cell::new(0) };
    /// The newest last. A panic that code catches while another one unwinds is none of that one's.
    static SEEN: RefCell<Vec<Noted>> = const { RefCell::new(Vec::new()) };
}

/// What the hook has seen of a panic that is about to be caught.
struct Noted {
    /// The message, if it is one that can be read here, and the place behind it.
    text: String,
    /// How much of it is the message.
    said: usize,
    trace: Option<Backtrace>,
}

/// A panic of user code.
#[derive(Debug)]
pub(super) struct Panicked {
    /// The message with its place.
    pub(super) message: String,
    /// The way there, as addresses.
    pub(super) trace: Option<Backtrace>,
}

/// Runs user code of this worker; a panic is an answer.
pub(super) fn contain<T>(who: u64, code: impl FnOnce() -> T) -> Result<T, Box<Panicked>> {
    let before = RUNS.replace(who);
    // Described while still under our hook: the payload's own `Drop` may panic as well.
    let done = catch_unwind(AssertUnwindSafe(code)).map_err(describe);
    RUNS.set(before);
    done
}

/// Runs code that is nobody's, in the midst of a worker's: a panic of it is told like any other.
pub(super) fn aside<T>(code: impl FnOnce() -> T) -> T {
    let before = RUNS.replace(0);
    let done = code();
    RUNS.set(before);
    done
}

/// Notes where panics of workers happen, and how one came there. Once for the whole process; panics of other code go
/// on to the hook that was there before.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match RUNS.get() {
            0 => before(info),
            who => note(who, info),
        }));
    });
}

fn note(who: u64, info: &PanicHookInfo<'_>) {
    // Nothing of the user's runs in here: a panic within a hook ends the process.
    let mut text = String::with_capacity(USUAL);
    match info.payload_as_str() {
        Some(message) => text.push_str(&shortened(message, MOST)),
        None => text.extend(number(info.payload())),
    }
    let said = text.len();
    text.push_str(" at ");
    if let Some(place) = info.location() {
        // Into a String, which takes everything.
        let _ = write!(text, "{place}");
    }
    // A worker never waits for the text of somebody else's stack.
    let free = IN_WORDS.try_lock();
    let is_free = !matches!(free, Err(TryLockError::WouldBlock));
    let trace = (is_free && is_its_turn(who)).then(Backtrace::force_capture);
    drop(free);
    let noted = Noted { text, said, trace };
    SEEN.with(|seen| {
        let mut seen = seen.borrow_mut();
        if seen.len() == MOST_SEEN {
            seen.remove(0);
        }
        seen.push(noted);
    });
}

fn describe(payload: Box<dyn Any + Send>) -> Box<Panicked> {
    let said = said(&*payload);
    let noted = SEEN.with(|seen| {
        let mut seen = seen.borrow_mut();
        let is_its = |noted: &Noted| noted.text[..noted.said] == *said.as_deref().unwrap_or_default();
        let at = seen.iter().rposition(is_its)?;
        // What was noted after it was caught by whoever it came from.
        seen.drain(at..).next()
    });
    let described = match noted {
        Some(Noted { text, said: 0, trace }) => {
            Panicked { message: format!("{}{text}", unknown(&*payload)), trace }
        }
        Some(Noted { text, trace, .. }) => Panicked { message: text, trace },
        // Without the hook, or after `resume_unwind`, which goes past it.
        None => {
            let message = said.map_or_else(|| unknown(&*payload), Cow::into_owned);
            Panicked {
                message: format!("{message} (place unknown: no panic hook of regrow saw it)"),
                trace: None,
            }
        }
    };
    // A payload has a `Drop` of its own, which may panic with another one, and so on: that one is left alone.
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
        SEEN.with(|seen| seen.borrow_mut().clear());
    }
    Box::new(described)
}

/// The message of a payload that can be read without its type's own code, as it is noted.
fn said(payload: &(dyn Any + Send)) -> Option<Cow<'_, str>> {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map(|text| shortened(text, MOST)).or_else(|| number(payload).map(Cow::Owned))
}

/// `panic_any` takes everything; numbers at least can be shown.
fn number(payload: &(dyn Any + Send)) -> Option<String> {
    macro_rules! numbers {
        ($($type:ty),*) => {
            $(if let Some(number) = payload.downcast_ref::<$type>() {
                return Some(format!("a payload that is no text: {number}{}", stringify!($type)));
            })*
        };
    }
    numbers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, bool, char);
    None
}

/// As much as can be said. An error says itself what it is, in code of the user's, which may panic too.
fn unknown(payload: &(dyn Any + Send)) -> String {
    let said = || match payload.downcast_ref::<super::WorkerError>() {
        Some(error) => super::failure::in_words(&**error),
        None => number(payload).unwrap_or_else(|| "a payload that is no text".to_owned()),
    };
    catch_unwind(AssertUnwindSafe(said)).unwrap_or_else(|again| {
        std::mem::forget(again);
        "an error that panics when it is asked what it is".to_owned()
    })
}

/// A walked stack as text.
pub(super) fn in_words(trace: &Backtrace) -> String {
    let _alone = IN_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    trace.to_string()
}

/// Whether this worker's stack may be walked now. Workers whose numbers fall on one place share it.
fn is_its_turn(who: u64) -> bool {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    static EACH: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
    static ALL: AtomicU64 = AtomicU64::new(0);
    // Never 0, which stands for «not yet».
    let now = u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let free = |last: &AtomicU64, pause: Duration| {
        let before = last.load(Ordering::Relaxed);
        let over = before == 0 || now.saturating_sub(before) >= pause.as_millis() as u64;
        over && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    free(&EACH[(who % 64) as usize], PER_WORKER) && free(&ALL, OVERALL)
}
