//! A command beside a worker: its user, environment, directory and cgroup, and an end within a time.
//!
//! It is not the worker and speaks for nobody: no notify socket, no place in the spawn record, its output is ours and
//! short. All that it started is killed when its time is over, and with its end ([`tether`](super::tether)).

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::id::Incarnation;
use crate::worker::unix::{Ended, Fds, Launch, WorkerRights, dup_onto, spawn};

use super::beside::{pipe, read};
use super::failure::explain;
use super::identity;
use super::life::NUDGE;
use super::pool::Tools;
use super::recipe::Recipe;
use super::secret;
use super::site::Site;
use super::tether::{Running, Tether};

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
    /// What it wrote, lossily decoded and without the worker's secrets.
    pub(super) output: String,
}

/// Why it did not end by itself.
#[derive(Debug)]
pub(super) struct Undone {
    /// In words.
    pub(super) why: String,
    /// What it wrote until then.
    pub(super) output: String,
}

impl From<String> for Undone {
    fn from(why: String) -> Self {
        Self { why, output: String::new() }
    }
}

/// After its time is over: how long the end of its tree is waited for.
const LAST: Duration = Duration::from_secs(2);

/// Runs it to its end.
///
/// # Errors
/// It could not start, or its time was over.
pub(super) async fn run(site: Arc<Site>, errand: Errand) -> Result<Outcome, Undone> {
    let (timeout, deadline) = (errand.timeout, Instant::now() + errand.timeout);
    let (sender, mut begun) = oneshot::channel();
    let own = Arc::clone(&site);
    // Who does not wait any more drops what has begun, which ends it.
    site.host.pool.run(move |tools| drop(sender.send(begin(&own, &errand, tools))));
    let begun = loop {
        tokio::select! {
            begun = &mut begun => break begun.map_err(|_| "the runtime ends".to_owned())??,
            () = tokio::time::sleep_until(deadline) => return Err(late(timeout).into()),
            () = tokio::time::sleep(NUDGE) => site.host.pool.nudge(),
        }
    };
    attend(&site, begun, deadline, timeout).await
}

fn late(timeout: Duration) -> String {
    format!("it was not done within {}", crate::units::format_duration(timeout))
}

/// Starts it. On a spawning thread, because it may block.
fn begin(site: &Site, errand: &Errand, tools: &mut Tools) -> Result<(Running, Arc<OwnedFd>), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let identity = identity::resolve(&site.settings.isolation).map_err(|failure| words(&failure))?;
    let recipe = site.recipe.as_ref().map_err(|error| words(error))?;
    let mut image =
        recipe.beside(&errand.argv, errand.pid, errand.incarnation).map_err(|error| words(&error))?;
    if let Some((home, name)) = &identity.home {
        Recipe::belong(&mut image, &site.settings, home, name);
    }
    let secrets = site.host.secrets_of(&site.settings).map_err(|failure| words(&failure))?;
    let variables: Vec<_> = secrets.iter().map(secret::Secret::variable).collect();
    let tether = Tether::new(&site.host, Some(&site.instance.slug()));
    image.env.insert(0, tether.mark());
    let (output, stdout) = pipe().map_err(|error| words(&error))?;
    dup_onto(&stdout, &tools.stdout).map_err(|error| words(&error))?;
    drop(stdout);
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
        placement: tether.placement(),
        record_head: &[],
        pidfs: site.host.pidfs,
        ignored: site.host.ignored,
        unshare_from: tools.unshare_from.filter(|_| tether.unshares()),
        nofile: limit.map(|files| (files, files)).or(site.host.nofile),
    };
    let spawned = spawn(&mut tools.stack, &tools.page, &launch);
    let running = spawned.map(|spawned| tether.tie(spawned));
    tools.page.disarm();
    dup_onto(&site.host.null, &tools.stdout).map_err(|error| words(&error))?;
    let running = running.map_err(|refusal| explain(&refusal, &image, isolation).to_string())?;
    Ok((running, Arc::new(output)))
}

/// Reads what it writes until it ends, or its time is over.
async fn attend(
    site: &Site,
    (mut running, pipe): (Running, Arc<OwnedFd>),
    deadline: Instant,
    timeout: Duration,
) -> Result<Outcome, Undone> {
    let mut text = Vec::new();
    let pidfd = Arc::clone(running.pidfd());
    let read = tokio::time::timeout_at(deadline, read(&pipe, &pidfd, MOST_OUTPUT, &mut text)).await;
    let output = site.host.hushed(&site.settings.name, &text);
    let ended = match read {
        Ok(read) => read.and_then(|()| running.end()).map_err(|error| error.to_string()),
        Err(_) => {
            // What comes next may need what this still holds.
            let _ = tokio::time::timeout(LAST, running.finish()).await;
            Err(late(timeout))
        }
    };
    match ended {
        Ok(Some(Ended::Code(code))) => Ok(Outcome { code: Some(code), output }),
        Ok(Some(Ended::Signal(_) | Ended::Core(_)) | None) => Ok(Outcome { code: None, output }),
        Err(why) => Err(Undone { why, output }),
    }
}
