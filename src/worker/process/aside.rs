//! A command beside a worker: its user, environment, directory and cgroup, and an end within a time.
//!
//! It is not the worker and speaks for nobody: no notify socket, no place in the spawn record, its output is ours and
//! short. All that it started is killed when its time is over, and with its end ([`tether`](super::tether)).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::exit::StartFailure;
use crate::id::Incarnation;
use crate::worker::unix::Ended;

use super::beside::{read, spawn_tied};
use super::pool::Tools;
use super::recipe::NulByte;
use super::site::Site;
use super::tether::Running;

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
    let (own, argv) = (Arc::clone(&site), errand.argv.clone());
    let begin = site.host.begin(&site.instance, &argv, move |tools| begin(&own, &errand, tools));
    let begun = match tokio::time::timeout_at(deadline, begin).await {
        Ok(begun) => begun.map_err(|failure| failure.to_string())?,
        Err(_) => return Err(late(timeout).into()),
    };
    attend(&site, begun, deadline, timeout).await
}

fn late(timeout: Duration) -> String {
    format!("it was not done within {}", crate::units::format_duration(timeout))
}

/// Starts it. On a spawning thread, because it may block.
fn begin(site: &Site, errand: &Errand, tools: &mut Tools) -> Result<(Running, Arc<OwnedFd>), StartFailure> {
    let system = |error: &NulByte| StartFailure::System { detail: error.to_string() };
    let recipe = site.recipe.as_ref().map_err(system)?;
    let image =
        recipe.beside(&errand.argv, errand.pid, errand.incarnation).map_err(|error| system(&error))?;
    let limit = site.settings.isolation.limits.open_files;
    let nofile = limit.map(|files| (files, files)).or(site.host.nofile);
    spawn_tied(&site.host, &site.settings, image, (Some(&site.instance.slug()), nofile), tools)
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
