//! The output thread and its handles.
//!
//! The hub opens a FIFO read *and* write: it then never reaches its end when a worker closes stdout or is replaced.
//! For the worker to survive the runtime's death in turn, its own descriptor must be read-write too: a FIFO with no
//! reader left would kill it with SIGPIPE.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::console::{Console, Stall};
use super::counters::OutputCounters;
use super::file::{LogFile, LogPath};
use super::pipeline::{Pipeline, WatchSlot};
use super::read::StreamName;
use super::sink::{Problem, Sink};
use super::stream::{Drain, Scratch, Stream, TURN};
use super::through::Through;
use crate::config::{LogSettings, LogTo};
use crate::id::InstanceId;
use crate::worker::mailbox::{Sender, mailbox};

/// How often the thread looks at the system for news while it has something to do: a flooded thread must still
/// notice the others.
const EVENT_INTERVAL: u32 = 4;

/// Which FIFO to read, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct StreamSpec {
    /// Whose output.
    pub(crate) instance: InstanceId,
    /// The FIFO; it must exist and be one.
    pub(crate) fifo: PathBuf,
    /// Which of the two.
    pub(crate) name: StreamName,
    /// `log`
    pub(crate) settings: LogSettings,
    /// Where to count; the same for both streams of an instance.
    pub(crate) counters: Arc<OutputCounters>,
}

/// The thread that reads all output; cheap to clone. Dropping the last handle ends the thread as
/// [`OutputHub::close`] does.
#[derive(Clone)]
pub(crate) struct OutputHub {
    shared: Arc<Shared>,
}

struct Shared {
    logs_dir: PathBuf,
    /// Of the one console.
    stall: Stall,
    runtime: Handle,
    scratch: Scratch,
    streams: Mutex<Vec<Entry>>,
    stop: Arc<Notify>,
    thread_done: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// What the hub remembers of an open stream; it goes when the handle goes.
struct Entry {
    label: String,
    handle: Weak<Handles>,
    /// Ends once the handle is gone and what was left is written.
    task: JoinHandle<()>,
}

/// One stream that is read. Dropping it takes what is left in the FIFO and closes it.
pub(crate) struct OutputStream {
    handles: Arc<Handles>,
}

struct Handles {
    watch: WatchSlot,
    requests: Sender<Drain>,
    problem: Problem,
}

impl OutputHub {
    /// Starts the thread. Logs go to `logs_dir`, which must exist by the time something is written.
    ///
    /// # Errors
    /// No thread or no file descriptors.
    pub(crate) fn start(logs_dir: PathBuf) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(EVENT_INTERVAL)
            .build()?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let (done, thread_done) = std::sync::mpsc::channel();
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("regrow-output".to_owned()).spawn(move || {
            runtime.block_on(stopped.notified());
            drop(runtime);
            drop(done);
        })?;
        let scratch = Arc::new(Mutex::new(vec![0; TURN].into_boxed_slice()));
        let streams = Mutex::default();
        let thread_done = Mutex::new(thread_done);
        Ok(Self {
            shared: Arc::new(Shared {
                logs_dir,
                stall: Stall::default(),
                runtime: handle,
                scratch,
                streams,
                stop,
                thread_done,
            }),
        })
    }

    /// Begins to read a FIFO. Nothing is written before something comes.
    ///
    /// # Errors
    /// The path is no FIFO (a symbolic link is none), or cannot be opened.
    pub(crate) fn open(&self, spec: StreamSpec) -> io::Result<OutputStream> {
        let fifo = open_fifo(&spec.fifo)?;
        let _in_runtime = self.shared.runtime.enter();
        let fifo = Receiver::from_owned_fd_unchecked(fifo)?;
        let (sender, requests) = mailbox();
        let handles =
            Arc::new(Handles { watch: WatchSlot::default(), requests: sender, problem: Problem::default() });
        let sink = self.sink(&spec, handles.problem.clone())?;
        let pipeline =
            Pipeline::new(&spec.settings, sink, handles.watch.clone(), spec.counters, Instant::now());
        let stream = Box::new(Stream {
            fifo,
            scratch: Arc::clone(&self.shared.scratch),
            pipeline,
            requests,
            problem: handles.problem.clone(),
        });
        let task = self.shared.runtime.spawn(stream.run());
        self.remember(format!("{} {}", spec.instance, spec.name.word()), &handles, task);
        Ok(OutputStream { handles })
    }

    /// What keeps output from being kept right now, a line per stream; empty once writing works again.
    pub(crate) fn problems(&self) -> Vec<String> {
        let streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = |entry: &Entry| {
            let problem = entry.handle.upgrade()?.problem.get()?;
            Some(format!("output of {}: {problem}", entry.label))
        };
        streams.iter().filter_map(problem).collect()
    }

    /// Reads what every stream has left and writes it, also of those whose handle was dropped just now.
    pub(crate) fn flush(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: Vec<_> =
            streams.iter().filter_map(|entry| entry.handle.upgrade()).map(|handle| handle.ask()).collect();
        let ending: Vec<_> = streams
            .extract_if(.., |entry| entry.handle.strong_count() == 0)
            .map(|entry| entry.task)
            .collect();
        drop(streams);
        async move {
            for answer in waiting {
                // A stream that is gone has nothing left.
                drop(answer.await);
            }
            for task in ending {
                // It ends by itself; one that panicked has nothing to give.
                drop(task.await);
            }
        }
    }

    /// Ends the thread; call [`OutputHub::flush`] first, or what waits in the FIFOs is left to the next runtime.
    /// Answers whether it ended within `patience`. A hung disk may hold it: it is
    /// then left behind, so that a shutdown does not hang with it.
    pub(crate) fn close(&self, patience: Duration) -> bool {
        self.shared.stop.notify_one();
        let done = self.shared.thread_done.lock().unwrap_or_else(PoisonError::into_inner);
        done.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }

    fn sink(&self, spec: &StreamSpec, problem: Problem) -> io::Result<Sink> {
        let settings = &spec.settings;
        let path = LogPath::new(&self.shared.logs_dir, &spec.name.stem(&spec.instance));
        let file = match settings.to {
            LogTo::File | LogTo::Both => Some(LogFile::new(path, settings.max_size, settings.keep)),
            LogTo::Stdout | LogTo::Through => None,
        };
        let console = match settings.to {
            LogTo::Stdout | LogTo::Both => {
                Some(Console::stdout(&spec.instance.to_string(), &self.shared.stall)?)
            }
            LogTo::File | LogTo::Through => None,
        };
        if settings.to == LogTo::Through {
            return Ok(Sink::through(Through::own(spec.name)?, Arc::clone(&spec.counters), problem));
        }
        Ok(Sink::new(file, console, Arc::clone(&spec.counters), problem))
    }

    fn remember(&self, label: String, handles: &Arc<Handles>, task: JoinHandle<()>) {
        let mut streams = self.shared.streams.lock().unwrap_or_else(PoisonError::into_inner);
        // Whenever it would grow, so that opening a thousand looks at each of them only a few times.
        if streams.len() == streams.capacity() {
            streams.retain(|entry| entry.handle.strong_count() > 0 || !entry.task.is_finished());
        }
        streams.push(Entry { label, handle: Arc::downgrade(handles), task });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

impl OutputStream {
    /// Calls `found` once, on the output thread, when a line that ends after this call matches; dropped lines count
    /// too. Replaces an earlier watch. `found` must neither block nor panic.
    pub(crate) fn watch_for(&self, pattern: regex::bytes::Regex, found: Box<dyn FnOnce() + Send>) {
        self.handles.watch.set(pattern, found);
    }

    /// Reads until the FIFO is empty, ends the incarnation's last line, and answers its last words: at most 5 lines
    /// and 4 KiB. At most 1 MiB is read: somebody left behind may write for ever. Empty if the hub is closed.
    pub(crate) fn drain(&self) -> impl Future<Output = Vec<String>> + Send + use<> {
        let answer = self.handles.ask();
        async move { answer.await.unwrap_or_default() }
    }
}

impl Handles {
    fn ask(&self) -> oneshot::Receiver<Vec<String>> {
        let (reply, answer) = oneshot::channel();
        // If the stream is gone, the reply port is dropped with the request, and the answer says so.
        drop(self.requests.send(reply));
        answer
    }
}

/// Read and write, so that it never ends; without waiting for anybody; never through a symbolic link.
fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if kind == FileType::Fifo {
        Ok(fd)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a FIFO", path.display())))
    }
}
