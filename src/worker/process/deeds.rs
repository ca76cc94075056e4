//! What is done to a process for a step of recovery, beside starting and stopping it.

use std::sync::Arc;
use std::time::Instant;

use crate::worker::{Deed, Job, Move, Sights, StateRoom};

use super::aside::{self, Errand};
use super::evidence;
use super::identity;
use super::site::Site;

/// As much of what a failed command said goes into its message.
const MOST_SAID: usize = 300;

/// Begins it; a start that comes after this makes the moving of a state void.
///
/// # Errors
/// Why it was not done, in words.
pub(super) fn perform(site: Arc<Site>, job: Job) -> impl Future<Output = Result<Sights, String>> + Send {
    let wish = match &job.deed {
        Deed::Archive | Deed::Recreate => Some(StateRoom::at(&site.layout.state).map(|room| room.wish())),
        Deed::Look | Deed::Run { .. } | Deed::ResetConnections | Deed::TrimMemory => None,
    };
    let (end, anew) = (Instant::now() + job.timeout, job.deed == Deed::Recreate);
    async move {
        match wish {
            Some(wish) => put_away(site, wish.map_err(|error| error.to_string())?, anew, end).await,
            None => carry_out(site, job).await,
        }
    }
}

async fn carry_out(site: Arc<Site>, job: Job) -> Result<Sights, String> {
    match job.deed {
        Deed::Look => Ok(evidence::gather(site, job.pid, job.incarnation, job.timeout).await),
        Deed::Run { argv } => {
            let Job { incarnation, pid, timeout, .. } = job;
            let errand = Errand { argv, pid, incarnation, timeout };
            let undone = |undone: aside::Undone| format!("{}{}", undone.why, last_of(&undone.output));
            let outcome = aside::run(site, errand).await.map_err(undone)?;
            let said = last_of(&outcome.output);
            match outcome.code {
                Some(0) => Ok(vec![("command", outcome.output)]),
                Some(code) => Err(format!("exit code {code}{said}")),
                None => Err(format!("a signal ended it{said}")),
            }
        }
        Deed::Archive | Deed::Recreate => Err("its state cannot be put away like this".to_owned()),
        Deed::ResetConnections | Deed::TrimMemory => {
            Err("only actors can be asked for this; give the worker a signal or a command in `on`".to_owned())
        }
    }
}

async fn put_away(site: Arc<Site>, wish: Move, anew: bool, end: Instant) -> Result<Sights, String> {
    let put = tokio::task::spawn_blocking(move || {
        let owner = identity::resolve(&site.settings.isolation).map_err(|failure| failure.to_string())?.owner;
        // Whoever asked for it has given up by then.
        let done = wish.carry_out(anew, || Instant::now() < end).map_err(|error| error.to_string())?;
        // The next start finds the directory that it is promised.
        site.layout.make(owner, site.host.is_shared()).map_err(|error| error.to_string()).map(|()| done)
    });
    put.await.map_err(|error| error.to_string())?
}

/// The last line, for a message.
fn last_of(output: &str) -> String {
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    let short: String = line.chars().take(MOST_SAID).collect();
    if short.is_empty() { String::new() } else { format!(": {short}") }
}
