//! A command beside a worker: its user, environment, directory and cgroup, and an end within a time.
//!
//! It is not the worker and speaks for nobody: no notify socket, no place in the spawn record, its output is ours and
//! short. It is killed as a group when its time is over, and what it left in its group is killed with its end.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::id::Incarnation;
use crate::worker::unix::{
    Ended, Fds, Launch, Placement, WorkerRights, dup_onto, poll_ended, send_signal_to_group, spawn,
    wait_pidfd, watch_pidfd, watch_readable,
};

use super::children::{self, Registered};
use super::failure::explain;
use super::identity;
use super::life::NUDGE;
use super::pool::Tools;
use super::recipe::Recipe;
use super::secret;
use super::site::Site;

/// As much of its output is kept: the end of it is dropped.
const MOST_OUTPUT: usize = 16 << 10;

/// What is to run.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    pub(super) argv: Vec<String>,
    /// The worker's main process, for `{pid}`.
    pub(super) pid: Option<u32>,
    pub(super) incarnation: Incarnation,
    pub(super) timeout: Duration,
}

/// How it ended by itself.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its exit code; `None`: a signal ended it.
    pub(super) code: Option<i32>,
    /// What it wrote, lossily decoded.
    pub(super) output: String,
}

/// A command that runs. Dropped, it is killed with its group.
struct Begun {
    pidfd: Arc<OwnedFd>,
    /// Keeps the reaper away from its status until that was taken.
    _registered: Registered,
    output: OwnedFd,
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Gone already in most cases; whatever it left in its group goes with it.
        let _ = send_signal_to_group(&self.pidfd, libc::SIGKILL);
        let _ = wait_pidfd(&self.pidfd);
    }
}

/// Runs it to its end.
///
/// # Errors
/// It could not start, or its time was over, in words.
pub(super) async fn run(site: Arc<Site>, errand: Errand) -> Result<Outcome, String> {
    let (timeout, deadline) = (errand.timeout, Instant::now() + errand.timeout);
    let (sender, mut begun) = oneshot::channel();
    let own = Arc::clone(&site);
    // Who does not wait any more drops what has begun, which ends it.
    site.host.pool.run(move |tools| drop(sender.send(begin(&own, &errand, tools))));
    let begun = loop {
        tokio::select! {
            begun = &mut begun => break begun.map_err(|_| "the runtime ends".to_owned())??,
            () = tokio::time::sleep_until(deadline) => return Err(late(timeout)),
            () = tokio::time::sleep(NUDGE) => site.host.pool.nudge(),
        }
    };
    attend(&begun, deadline, timeout).await
}

fn late(timeout: Duration) -> String {
    format!("it was not done within {}", crate::units::format_duration(timeout))
}

/// Starts it. On a spawning thread, because it may block.
fn begin(site: &Site, errand: &Errand, tools: &mut Tools) -> Result<Begun, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let identity = identity::resolve(&site.settings.isolation).map_err(|failure| words(&failure))?;
    let recipe = site.recipe.as_ref().map_err(|error| words(error))?;
    let mut image =
        recipe.beside(&errand.argv, errand.pid, errand.incarnation).map_err(|error| words(&error))?;
    if let Some((home, name)) = &identity.home {
        Recipe::belong(&mut image, &site.settings, home, name);
    }
    let secrets =
        secret::read_all(&site.settings.isolation.secrets, &site.host.env).map_err(|f| words(&f))?;
    let variables: Vec<_> = secrets.iter().map(secret::Secret::variable).collect();
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| words(&error))?;
    let flags = rustix::fs::fcntl_getfl(&output).map_err(|error| words(&error))?;
    rustix::fs::fcntl_setfl(&output, flags | rustix::fs::OFlags::NONBLOCK).map_err(|error| words(&error))?;
    dup_onto(&stdout, &tools.stdout).map_err(|error| words(&error))?;
    drop(stdout);
    let cgroup = site.host.cgroups.as_ref().and_then(|root| root.visit(&site.instance.slug()));
    let isolation = &site.settings.isolation;
    let limit = isolation.limits.open_files;
    let launch = Launch {
        image: &image,
        secrets: &variables,
        bounds: &[],
        watchdog: false,
        rights: &WorkerRights {
            person: identity.person.clone(),
            umask: isolation.umask,
            nice: isolation.nice,
            oom_score_adj: isolation.oom_score_adj.map(|score| score.to_string()),
            no_new_privs: isolation.no_new_privs,
            cores: None,
        },
        fds: Fds {
            stdin: site.host.null.as_raw_fd(),
            stdout: tools.stdout.as_raw_fd(),
            stderr: tools.stdout.as_raw_fd(),
            record: None,
        },
        placement: cgroup.as_ref().map_or(Placement::Nowhere, |cgroup| cgroup.placement()),
        record_head: &[],
        pidfs: site.host.pidfs,
        ignored: site.host.ignored,
        // It goes into the cgroup by itself, through a file whose number may be any.
        unshare_from: None,
        nofile: limit.map(|files| (files, files)).or(site.host.nofile),
    };
    let spawned = spawn(&mut tools.stack, &tools.page, &launch);
    let registered = spawned.as_ref().ok().map(|spawned| children::register(spawned.pid));
    tools.page.disarm();
    dup_onto(&site.host.null, &tools.stdout).map_err(|error| words(&error))?;
    match (spawned, registered) {
        (Ok(spawned), Some(registered)) => {
            Ok(Begun { pidfd: Arc::new(spawned.pidfd), _registered: registered, output })
        }
        (Err(refusal), _) => Err(explain(&refusal, &image, isolation).to_string()),
        (Ok(_), None) => Err("it could not be registered".to_owned()),
    }
}

/// Reads what it writes until it ends, or its time is over.
async fn attend(begun: &Begun, deadline: Instant, timeout: Duration) -> Result<Outcome, String> {
    let words = |error: io::Error| error.to_string();
    let end = watch_pidfd(Arc::clone(&begun.pidfd)).map_err(words)?;
    let output = Arc::new(begun.output.try_clone().map_err(words)?);
    let readable = watch_readable(Arc::clone(&output)).map_err(words)?;
    let (mut text, mut open) = (Vec::new(), true);
    loop {
        tokio::select! {
            ended = end.readable() => {
                drop(ended.map_err(words)?);
                if poll_ended(&begun.pidfd) {
                    break;
                }
            }
            ready = readable.readable(), if open => {
                let mut ready = ready.map_err(words)?;
                open = take(&output, &mut text);
                ready.clear_ready();
            }
            () = tokio::time::sleep_until(deadline) => return Err(late(timeout)),
        }
    }
    let _ = take(&output, &mut text);
    let code = match wait_pidfd(&begun.pidfd).map_err(words)? {
        Some(Ended::Code(code)) => Some(code),
        Some(Ended::Signal(_) | Ended::Core(_)) | None => None,
    };
    Ok(Outcome { code, output: String::from_utf8_lossy(&text).into_owned() })
}

/// Reads what there is; false: nobody will write any more.
fn take(output: &OwnedFd, text: &mut Vec<u8>) -> bool {
    let mut buffer = [0u8; 4096];
    loop {
        match rustix::io::read(output, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                let room = MOST_OUTPUT.saturating_sub(text.len());
                text.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}
