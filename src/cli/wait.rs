//! `regrow wait T --for ready`: returns once it is so.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::http::dto::WorkerView;

use super::args::{Format, Targets, duration};
use super::client::Client;
use super::context::{Context, block_on, parse_targets};
use super::failure::Failure;
use super::status::fetch;
use crate::runtime::Target;

/// Looked at again at least this often, should an event be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// Runs and is ready
    Ready,
    /// Is healthy
    Healthy,
    /// Is down, because it was stopped or its work is done
    Stopped,
}

/// Options of `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    targets: Targets,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "STATE")]
    state: State,
    /// Give up after this, with exit code 3
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

impl State {
    fn holds(self, worker: &WorkerView) -> bool {
        match self {
            Self::Ready => worker.phase == "running" && worker.ready,
            Self::Healthy => worker.is_healthy(),
            Self::Stopped => ["stopped", "done"].contains(&worker.phase.as_str()),
        }
    }

    /// Whether nothing that regrow does by itself leads there: somebody has to do something.
    fn never_comes(self, worker: &WorkerView) -> bool {
        match self {
            Self::Ready | Self::Healthy => {
                let paused =
                    worker.wanted == "paused" && worker.next_action.is_none() && worker.pid.is_none();
                worker.phase == "done"
                    || (worker.phase == "stopped" && (worker.wanted == "stopped" || paused))
            }
            Self::Stopped => false,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Healthy => "healthy",
            Self::Stopped => "stopped",
        }
    }
}

pub(crate) fn run(context: &mut Context, args: WaitArgs) -> Result<(), Failure> {
    let targets = parse_targets(&args.targets)?;
    let client = context.client()?;
    block_on(async {
        // Whoever sets a time may know who starts it meanwhile.
        let all = wait_for_all(&client, &targets, args.state, args.timeout.is_some());
        let unmet = match args.timeout {
            None => all.await.map(|()| Vec::new())?,
            Some(limit) => match tokio::time::timeout(limit, all).await {
                Ok(done) => done.map(|()| Vec::new())?,
                Err(_) => missing(&client, &targets, args.state).await?,
            },
        };
        if matches!(context.format(), Format::Json | Format::Jsonl) {
            let state = args.state.word();
            let answer = serde_json::json!({
                "schema": "regrow.wait/1", "for": state, "answer": unmet.is_empty(), "missing": unmet,
            });
            Failure::but_for_readers(context.print_json(&answer, std::slice::from_ref(&answer)))?;
        }
        if unmet.is_empty() { Ok(()) } else { Err(Failure::NotHealthy(words(&unmet, args.state))) }
    })
}

async fn wait_for_all(
    client: &Client,
    targets: &[Target],
    state: State,
    patient: bool,
) -> Result<(), Failure> {
    // Opened before the first look, so that no change can slip in between.
    let mut events = client.stream("/api/v1/events").await?;
    loop {
        let missing = missing(client, targets, state).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let hopeless: Vec<_> =
            missing.into_iter().filter(|worker| !patient && state.never_comes(worker)).collect();
        if !hopeless.is_empty() {
            return Err(Failure::NotHealthy(in_vain(&hopeless, state)));
        }
        // Any sign of life is a reason to look; none for a second is one too.
        match tokio::time::timeout(LOOK_AGAIN, events.next()).await {
            Ok(None) => return Err(Failure::ended()),
            Ok(Some(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => {}
        }
    }
}

async fn missing(client: &Client, targets: &[Target], state: State) -> Result<Vec<WorkerView>, Failure> {
    let mut missing = Vec::new();
    for target in targets {
        let body = fetch(client, Some(target)).await?;
        missing.extend(body.workers.into_iter().filter(|worker| !state.holds(worker)));
    }
    Ok(missing)
}

fn words(missing: &[WorkerView], state: State) -> String {
    let is = |worker: &WorkerView| match state {
        State::Ready | State::Healthy => worker.status.clone(),
        // What stops is shown as stopped already.
        State::Stopped => worker.phase.clone(),
    };
    let names: Vec<_> =
        missing.iter().take(8).map(|worker| format!("{} is {}", worker.instance, is(worker))).collect();
    let more = if missing.len() > names.len() { ", …" } else { "" };
    format!("not {} in time: {}{more}", state.word(), names.join(", "))
}

fn in_vain(hopeless: &[WorkerView], state: State) -> String {
    let names: Vec<_> =
        hopeless.iter().take(8).map(|worker| format!("{} is {}", worker.instance, worker.status)).collect();
    let first = hopeless.first().map(|worker| worker.instance.to_string()).unwrap_or_default();
    format!("it will not be {}: {}; `regrow start {first}` starts it", state.word(), names.join(", "))
}
