//! Commands beside a worker: they run as its user, with its environment and in its directory, and are none of its tree.
//!
//! They have no record, no cgroup and no fence: one that outlives the runtime is nobody's worker. What names an
//! instance's own processes (`REGROW_STATE_DIR`, the notify socket) is left out of their environment, so that nobody
//! takes one for a leftover of the worker or for its voice. Output is read up to a bound; the rest is thrown away, so
//! that a flood is neither kept nor waited for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::config::WorkerSettings;
use crate::exit::StartFailure;
use crate::id::{Incarnation, InstanceId};
use crate::worker::unix::{
    Ended, Fds, Launch, Placement, WorkerRights, dup_onto, poll_ended, send_signal, send_signal_to_group,
    spawn, wait_pidfd, watch_pidfd, watch_readable,
};

use super::children::{self, Registered};
use super::failure::{explain, of_io};
use super::host::ProcessHost;
use super::identity;
use super::layout::Layout;
use super::pool::Tools;
use super::recipe::{Recipe, SPEAKS};
use super::secret;
use super::tree::{self, Reach, Target};

/// Marks an instance's own processes.
const MARK: &[u8] = b"REGROW_STATE_DIR=";

/// What is to run.
pub(crate) struct Beside {
    /// Beside whom.
    pub(crate) instance: InstanceId,
    /// Which start of it.
    pub(crate) incarnation: Incarnation,
    /// The worker's settings with this command in place of its own.
    pub(crate) settings: WorkerSettings,
    /// So many bytes of output are kept.
    pub(crate) most: usize,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// With what.
    pub(crate) ended: Ended,
    /// What it wrote, stdout and stderr together.
    pub(crate) output: Vec<u8>,
}

/// A command that runs. Dropping it kills its tree.
struct Running {
    pid: u32,
    pidfd: Arc<OwnedFd>,
    registered: Option<Registered>,
    host: Arc<ProcessHost>,
    over: bool,
}

impl ProcessHost {
    /// Runs a command to its end. Dropping the future kills the command with all its children.
    ///
    /// # Errors
    /// It could not be started, or its end could not be waited for.
    pub(crate) async fn run_beside(self: &Arc<Self>, beside: Beside) -> Result<Ran, StartFailure> {
        let (answer, started) = oneshot::channel();
        let (host, most) = (Arc::clone(self), beside.most);
        self.pool.run(move |tools| {
            let started = start(&host, &beside, tools);
            // Nobody waits any more: the command goes with the answer.
            drop(answer.send(started));
        });
        let lost = || StartFailure::System { detail: "the spawning thread ended".to_owned() };
        let (mut running, pipe) = started.await.map_err(|_| lost())??;
        let output = read(&pipe, &running.pidfd, most).await;
        let output = output.map_err(|error| of_io("cannot read its output", &error))?;
        running.end().await.map(|ended| Ran { ended, output })
    }
}

fn start(
    host: &Arc<ProcessHost>,
    beside: &Beside,
    tools: &mut Tools,
) -> Result<(Running, Arc<OwnedFd>), StartFailure> {
    let Beside { instance, incarnation, settings, .. } = beside;
    let system = |detail: String| StartFailure::System { detail };
    let identity = identity::resolve(&settings.isolation)?;
    let layout = Layout::new(&host.workers_dir, &instance.slug(), false, &host.key, host.is_shared());
    let env = (&*host.env, &host.passed);
    let recipe = Recipe::new(instance, settings, env, &layout).map_err(|error| system(error.to_string()))?;
    let mut image = recipe.image(*incarnation).map_err(|error| system(error.to_string()))?;
    if let Some((home, name)) = &identity.home {
        Recipe::belong(&mut image, settings, home, name);
    }
    let ours =
        |variable: &[u8]| variable.starts_with(MARK) || SPEAKS.iter().any(|name| variable.starts_with(name));
    image.env.retain(|variable| !ours(variable.as_bytes()));
    let secrets = secret::read_all(&settings.isolation.secrets, &host.env)?;
    let secrets: Vec<_> = secrets.iter().map(secret::Secret::variable).collect();
    let rights = WorkerRights {
        person: identity.person.clone(),
        umask: settings.isolation.umask,
        nice: settings.isolation.nice,
        oom_score_adj: settings.isolation.oom_score_adj.map(|score| score.to_string()),
        no_new_privs: settings.isolation.no_new_privs,
        cores: None,
    };
    let (reader, writer) = pipe().map_err(|error| of_io("cannot make a pipe", &error))?;
    dup_onto(&writer, &tools.stdout).map_err(|error| of_io("cannot pass on its output", &error))?;
    drop(writer);
    let launch = Launch {
        image: &image,
        secrets: &secrets,
        bounds: &[],
        watchdog: false,
        rights: &rights,
        fds: Fds {
            stdin: host.null.as_raw_fd(),
            stdout: tools.stdout.as_raw_fd(),
            stderr: tools.stdout.as_raw_fd(),
            record: None,
        },
        placement: Placement::Nowhere,
        record_head: b"",
        pidfs: host.pidfs,
        ignored: host.ignored,
        unshare_from: tools.unshare_from,
        nofile: host.nofile,
    };
    let spawned = spawn(&mut tools.stack, &tools.page, &launch);
    let running = spawned.map(|spawned| Running {
        pid: spawned.pid,
        registered: Some(children::register(spawned.pid)),
        pidfd: Arc::new(spawned.pidfd),
        host: Arc::clone(host),
        over: false,
    });
    tools.page.disarm();
    let back = dup_onto(&host.null, &tools.stdout);
    let running = running.map_err(|refusal| explain(&refusal, &image, &settings.isolation))?;
    back.map_err(|error| of_io("cannot take its output back", &error))?;
    Ok((running, Arc::new(reader)))
}

/// Read without blocking, written as ever.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

/// Reads until the command has ended: a child that it leaves behind may hold the pipe open for ever.
async fn read(pipe: &Arc<OwnedFd>, pidfd: &Arc<OwnedFd>, most: usize) -> io::Result<Vec<u8>> {
    let (readable, ended) = (watch_readable(Arc::clone(pipe))?, watch_pidfd(Arc::clone(pidfd))?);
    let mut kept = Vec::new();
    loop {
        tokio::select! {
            biased;
            guard = readable.readable() => match drain(pipe, &mut kept, most)? {
                Drained::Empty => guard?.clear_ready(),
                Drained::Closed => break,
            },
            guard = ended.readable() => {
                if poll_ended(pidfd) {
                    let _ = drain(pipe, &mut kept, most)?;
                    return Ok(kept);
                }
                guard?.clear_ready();
            }
        }
    }
    while !poll_ended(pidfd) {
        ended.readable().await?.clear_ready();
    }
    Ok(kept)
}

enum Drained {
    Empty,
    Closed,
}

fn drain(pipe: &OwnedFd, kept: &mut Vec<u8>, most: usize) -> io::Result<Drained> {
    let mut buffer = [0; 4096];
    // A flood gets no more than this in one go; the deadline must have its turn.
    for _ in 0..64 {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return Ok(Drained::Closed),
            Ok(count) => {
                let room = most.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(Drained::Empty),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Drained::Empty)
}

impl Running {
    async fn end(&mut self) -> Result<Ended, StartFailure> {
        let status = wait_pidfd(&self.pidfd).map_err(|error| of_io("cannot take its status", &error))?;
        self.over = true;
        // Its session outlives it if it left somebody behind.
        self.kill_rest();
        status.ok_or_else(|| StartFailure::System { detail: "it has ended and has no status".to_owned() })
    }

    /// Kills what is left of its session, on a thread that may look through all of `/proc`.
    fn kill_rest(&mut self) {
        let (pid, registered, pidfd) = (self.pid, self.registered.take(), Arc::clone(&self.pidfd));
        let over = self.over;
        self.host.pool.run(move |_| {
            let target = Target::new(
                &InstanceId::single(crate::id::Name::root()),
                Path::new("/nonexistent"),
                Path::new("/nonexistent"),
            );
            if !over {
                let _ = send_signal_to_group(&pidfd, libc::SIGKILL);
                let _ = send_signal(&pidfd, libc::SIGKILL);
            }
            tree::kill(&target.with(Some(pid), None), None, Reach::Everywhere);
            // Unregistered: the reaper takes the status of a command that was killed.
            drop(registered);
            if !over {
                for _ in 0..200 {
                    if !matches!(wait_pidfd(&pidfd), Ok(None)) {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.kill_rest();
        }
    }
}
