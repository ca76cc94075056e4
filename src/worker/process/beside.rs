//! Commands beside a worker: they run as its user, with its environment and in its directory, and are none of its tree.
//!
//! They have no record and no fence: nobody takes one for the worker. What names an instance's own processes
//! (`REGROW_STATE_DIR`, the notify socket) is left out of their environment, so that nobody takes one for a leftover of
//! the worker or for its voice. What they start ends with them ([`tether`](super::tether)). Output is read up to a bound;
//! the rest is thrown away, so that a flood is neither kept nor waited for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use crate::config::WorkerSettings;
use crate::exit::StartFailure;
use crate::id::{Incarnation, InstanceId};
use crate::worker::look::Apart;
use crate::worker::unix::{
    Ended, Fds, Image, Launch, WorkerRights, dup_onto, poll_ended, spawn, watch_pidfd, watch_readable,
};

use super::failure::{explain, of_io};
use super::host::ProcessHost;
use super::identity;
use super::pool::Tools;
use super::recipe::{NulByte, Recipe, SPEAKS};
use super::secret;
use super::tether::{Running, Tether};

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
    /// Let go of once it runs, or cannot be run.
    pub(crate) apart: Option<Apart>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// With what.
    pub(crate) ended: Ended,
    /// What it wrote, stdout and stderr together, lossily decoded and without the worker's secrets.
    pub(crate) output: String,
}

impl ProcessHost {
    /// Runs a command to its end. Dropping the future kills the command with all its children.
    ///
    /// # Errors
    /// It could not be started, or its end could not be waited for.
    pub(crate) async fn run_beside(self: &Arc<Self>, beside: Beside) -> Result<Ran, StartFailure> {
        let Beside { instance, incarnation, settings, most, apart } = beside;
        let (most, worker, argv) = (most, settings.name.clone(), settings.command.clone());
        let (host, whom) = (Arc::clone(self), instance.clone());
        let begin = move |tools: &mut Tools| {
            // What is done until it runs says nothing of the worker.
            let _apart = apart;
            start(&host, &whom, incarnation, &settings, tools)
        };
        let (mut running, pipe) = self.begin(&instance, &argv, begin).await?;
        let mut output = Vec::new();
        let read = read(&pipe, running.pidfd(), most, &mut output).await;
        read.map_err(|error| of_io("cannot read its output", &error))?;
        let ended = running.end().map_err(|error| of_io("cannot take its status", &error))?;
        let ended = ended
            .ok_or_else(|| StartFailure::System { detail: "it has ended and has no status".to_owned() })?;
        Ok(Ran { ended, output: self.hushed(&worker, &output) })
    }
}

fn start(
    host: &Arc<ProcessHost>,
    instance: &InstanceId,
    incarnation: Incarnation,
    settings: &WorkerSettings,
    tools: &mut Tools,
) -> Result<(Running, Arc<OwnedFd>), StartFailure> {
    let system = |error: NulByte| StartFailure::System { detail: error.to_string() };
    let layout = host.layout(instance, settings);
    let env = (&*host.env, &host.passed);
    let mut image = Recipe::new(instance, settings, env, &layout)
        .and_then(|recipe| recipe.image(incarnation))
        .map_err(system)?;
    let ours =
        |variable: &[u8]| variable.starts_with(MARK) || SPEAKS.iter().any(|name| variable.starts_with(name));
    image.env.retain(|variable| !ours(variable.as_bytes()));
    spawn_tied(host, settings, image, (None, host.nofile), tools)
}

/// Starts a command with a worker's identity, rights and secrets, and nobody else's. `within`: the slug of the instance
/// in whose cgroup it belongs; `nofile`: its limits of open files.
pub(super) fn spawn_tied(
    host: &Arc<ProcessHost>,
    settings: &WorkerSettings,
    mut image: Image,
    (within, nofile): (Option<&str>, Option<(u64, u64)>),
    tools: &mut Tools,
) -> Result<(Running, Arc<OwnedFd>), StartFailure> {
    let isolation = &settings.isolation;
    let identity = identity::resolve(isolation)?;
    host.withhold(&mut image, settings);
    if let Some((home, name)) = &identity.home {
        Recipe::belong(&mut image, settings, home, name);
    }
    let secrets = host.secrets_of(settings)?;
    let secrets: Vec<_> = secrets.iter().map(secret::Secret::variable).collect();
    let tether = Tether::new(host, within);
    image.env.insert(0, tether.mark());
    let rights = WorkerRights {
        person: identity.person.clone(),
        umask: isolation.umask,
        nice: isolation.nice,
        oom_score_adj: isolation.oom_score_adj.map(|score| score.to_string()),
        no_new_privs: isolation.no_new_privs,
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
        placement: tether.placement(),
        record_head: b"",
        pidfs: host.pidfs,
        ignored: host.ignored,
        unshare_from: tools.unshare_from.filter(|_| tether.unshares()),
        nofile,
    };
    let spawned = spawn(&mut tools.stack, &tools.page, &launch);
    let running = spawned.map(|spawned| tether.tie(spawned));
    tools.page.disarm();
    let back = dup_onto(&host.null, &tools.stdout);
    let running = running.map_err(|refusal| explain(&refusal, &image, isolation))?;
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
pub(super) async fn read(
    pipe: &Arc<OwnedFd>,
    pidfd: &Arc<OwnedFd>,
    most: usize,
    kept: &mut Vec<u8>,
) -> io::Result<()> {
    let (readable, ended) = (watch_readable(Arc::clone(pipe))?, watch_pidfd(Arc::clone(pidfd))?);
    loop {
        tokio::select! {
            biased;
            guard = readable.readable() => match drain(pipe, kept, most)? {
                Drained::Empty => guard?.clear_ready(),
                Drained::Closed => break,
            },
            guard = ended.readable() => {
                if poll_ended(pidfd) {
                    let _ = drain(pipe, kept, most)?;
                    return Ok(());
                }
                guard?.clear_ready();
            }
        }
    }
    while !poll_ended(pidfd) {
        ended.readable().await?.clear_ready();
    }
    Ok(())
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
