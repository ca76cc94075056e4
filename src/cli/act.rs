//! `stop`, `restart`, `reset-failed` and `start TARGET`: asks, and with `--wait` sees it through.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::http::dto::{Accepted, ActionState, ActionView};
use crate::runtime::Target;

use super::args::{Format, Targets, WaitFlag, duration};
use super::client::{Client, action_path};
use super::context::{Context, block_on, parse_targets};
use super::failure::Failure;
use super::say::say;
use super::status::better;
use super::words::safe;

/// One question to the server waits at most this long; then it is asked again.
const ONE_WAIT: Duration = Duration::from_secs(20);

/// Options of the verbs that act.
#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) wait: WaitFlag,
}

/// Options of `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) act: ActArgs,
    /// End the pause by itself after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) lasting: Option<Duration>,
}

/// Options of `signal`.
#[derive(Debug, Args)]
pub(crate) struct SignalArgs {
    /// Worker or instance
    pub(crate) target: String,
    /// TERM, HUP, USR1 …
    pub(crate) signal: String,
}

/// Options of `restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) act: ActArgs,
    /// One instance after the other, each new one ready before the next old one is stopped
    #[arg(long)]
    pub(crate) rolling: bool,
    /// How many instances may be down at once
    #[arg(long, value_name = "N", requires = "rolling")]
    pub(crate) max_unavailable: Option<u32>,
}

/// Options of `scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// Worker
    pub(crate) worker: String,
    /// How many instances it has from now on
    pub(crate) instances: u32,
    #[command(flatten)]
    pub(crate) wait: WaitFlag,
}

/// `restart`
pub(crate) fn restart(context: &mut Context, args: RestartArgs) -> Result<(), Failure> {
    let body = args.rolling.then(|| match args.max_unavailable {
        Some(most) => json!({ "rolling": true, "max_unavailable": most }),
        None => json!({ "rolling": true }),
    });
    ask(context, "restart", args.act, body.as_ref())
}

/// `scale`
pub(crate) fn scale(context: &mut Context, args: ScaleArgs) -> Result<(), Failure> {
    let targets = Targets { targets: vec![args.worker], all: false };
    let act = ActArgs { targets, wait: args.wait };
    ask(context, "scale", act, Some(&json!({ "instances": args.instances })))
}

/// `pause`
pub(crate) fn pause(context: &mut Context, args: PauseArgs) -> Result<(), Failure> {
    let lasting = args.lasting.map(|lasting| json!({ "for": crate::units::format_duration(lasting) }));
    ask(context, "pause", args.act, lasting.as_ref())
}

/// `signal`
pub(crate) fn signal(context: &mut Context, args: SignalArgs) -> Result<(), Failure> {
    let targets = Targets { targets: vec![args.target], all: false };
    let act = ActArgs { targets, wait: WaitFlag { wait: None } };
    ask(context, "signal", act, Some(&json!({ "signal": args.signal })))
}

/// A verb that says it all.
pub(crate) fn run(context: &mut Context, verb: &str, args: ActArgs) -> Result<(), Failure> {
    ask(context, verb, args, None)
}

fn ask(context: &mut Context, verb: &str, args: ActArgs, body: Option<&Value>) -> Result<(), Failure> {
    let targets = parse_targets(&args.targets)?;
    let client = context.client()?;
    block_on(async {
        let asked = match &targets[..] {
            [target] => client.post(&action_path(target, verb), body).await,
            several => client.post(&format!("/api/v1/several/{verb}"), Some(&naming(several, body))).await,
        };
        let asked: [Accepted; 1] = match asked {
            Ok(accepted) => [accepted],
            Err(error) => return Err(better(&client, &targets, error).await),
        };
        warn(&asked);
        match args.wait.wait {
            None => print_accepted(context, verb, &asked),
            Some(limit) => see_through(context, &client, verb, &asked, limit).await,
        }
    })
}

/// One order for all of them, which goes by who depends on whom.
fn naming(targets: &[Target], body: Option<&Value>) -> Value {
    let names: Vec<String> = targets.iter().map(ToString::to_string).collect();
    let mut whole = body.cloned().unwrap_or_else(|| json!({}));
    whole["targets"] = json!(names);
    whole
}

/// What was done, and not as well as it could be.
pub(crate) fn warn(asked: &[Accepted]) {
    for warning in asked.iter().filter_map(|one| one.warning.as_deref()) {
        say(format_args!("regrow: warning: {}", safe(warning)));
    }
}

pub(crate) fn print_accepted(context: &mut Context, verb: &str, asked: &[Accepted]) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Jsonl => {
            let whole = serde_json::json!({ "schema": format!("regrow.{verb}/1"), "items": asked });
            context.print_json(&whole, asked)
        }
        Format::Name => {
            context.print(&asked.iter().map(|one| format!("{}\n", one.action_id)).collect::<String>())
        }
        Format::Table | Format::Wide | Format::Csv => {
            context.print(&asked.iter().map(|one| format!("{}\n", safe(&one.message))).collect::<String>())
        }
    }
}

pub(crate) async fn see_through(
    context: &mut Context,
    client: &Client,
    verb: &str,
    asked: &[Accepted],
    limit: Duration,
) -> Result<(), Failure> {
    let until = tokio::time::Instant::now() + limit;
    let mut views = Vec::new();
    for one in asked {
        views.push(outcome(client, &one.action_id, until).await?);
    }
    let printed = match context.format() {
        Format::Json | Format::Jsonl => {
            let whole = serde_json::json!({ "schema": format!("regrow.{verb}/1"), "items": views });
            context.print_json(&whole, &views)
        }
        Format::Name => {
            let names = views.iter().flat_map(|view| &view.instances);
            context.print(&names.map(|one| format!("{}\n", one.instance)).collect::<String>())
        }
        Format::Table | Format::Wide | Format::Csv => {
            let lines = views.iter().flat_map(|view| &view.instances);
            let text: String = lines
                .map(|one| format!("{}: {} ({})\n", one.instance, one.status, safe(&one.message)))
                .collect();
            context.print(&text)
        }
    };
    Failure::but_for_readers(printed)?;
    let any = |state| views.iter().any(|view| view.state == state);
    if any(ActionState::Failed) {
        return Err(Failure::Failed(format!("{verb} failed; `regrow describe` says why")));
    }
    if any(ActionState::Running) {
        let limit = crate::units::format_duration(limit);
        return Err(Failure::WaitRanOut(format!("{verb} is still under way after {limit}")));
    }
    Ok(())
}

async fn outcome(client: &Client, id: &str, until: tokio::time::Instant) -> Result<ActionView, Failure> {
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let wait = left.min(ONE_WAIT);
        let path = format!("/api/v1/actions/{id}?wait={}ms", wait.as_millis());
        let view: ActionView = client.get_within(&path, wait + Duration::from_secs(10)).await?;
        if view.state != ActionState::Running || left.is_zero() {
            return Ok(view);
        }
    }
}
