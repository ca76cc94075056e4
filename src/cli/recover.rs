//! `recover` and `approve`: recovery by hand.

use std::time::Duration;

use clap::Args;
use hyper::Method;

use crate::http::dto::{Accepted, PlansBody};
use crate::runtime::Target;

use super::act;
use super::args::{Format, WaitFlag};
use super::client::{action_path, encode};
use super::context::{Context, block_on, parse_target};
use super::failure::Failure;
use super::words::safe;

/// An order is taken in microseconds; an evidence budget may pass before it is done.
const PATIENCE: Duration = Duration::from_secs(15);

/// Options of `recover`.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// Worker or instance
    #[arg(value_name = "WORKER")]
    worker: String,
    /// soft_restart, hard_restart, reset, recreate, scale_up, scale_down, connection_reset, memory_cleanup, quarantine
    /// or one of your own
    #[arg(long, value_name = "STRATEGY", default_value = "soft_restart")]
    action: String,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Options of `approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The incident whose step waits, as `regrow incidents` names it
    incident: String,
    /// The step that you saw wait: if another one waits by now, it is not approved
    #[arg(long, value_name = "STRATEGY")]
    step: Option<String>,
}

pub(crate) fn recover(context: &mut Context, args: RecoverArgs) -> Result<(), Failure> {
    let target = parse_target(&args.worker)?;
    if matches!(target, Target::Supervisor(_) | Target::All) {
        return Err(Failure::Usage(format!(
            "recover takes a worker or an instance, and {target} is neither; name those of its workers that are meant"
        )));
    }
    let path = action_path(&target, "recover");
    let body = serde_json::json!({ "action": args.action, "dry_run": args.dry_run });
    let client = context.client()?;
    block_on(async {
        if args.dry_run {
            let plans: PlansBody = client.ask_for(Method::POST, &path, Some(&body), PATIENCE).await?;
            return print_plans(context, &plans);
        }
        let accepted: Accepted = client.ask_for(Method::POST, &path, Some(&body), PATIENCE).await?;
        match args.wait.wait {
            None => act::print_accepted(context, "recover", &[accepted]),
            Some(limit) => act::see_through(context, &client, "recover", &[accepted], limit).await,
        }
    })
}

fn print_plans(context: &mut Context, plans: &PlansBody) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(plans, &plans.items),
        Format::Name => {
            context.print(&plans.items.iter().map(|one| format!("{}\n", one.instance)).collect::<String>())
        }
        Format::Table | Format::Wide | Format::Csv => {
            let mut text = String::new();
            for plan in &plans.items {
                text.push_str(&format!("{} of {} would:\n", plan.strategy, plan.instance));
                for (n, step) in plan.steps.iter().enumerate() {
                    text.push_str(&format!("  {}. {}\n", n + 1, safe(step)));
                }
            }
            context.print(&text)
        }
    }
}

pub(crate) fn approve(context: &mut Context, args: ApproveArgs) -> Result<(), Failure> {
    let path = format!("/api/v1/incidents/{}/approve", encode(&args.incident));
    let body = args.step.map(|step| serde_json::json!({ "strategy": step }));
    let client = context.client()?;
    block_on(async {
        let accepted: Accepted = client.ask_for(Method::POST, &path, body.as_ref(), PATIENCE).await?;
        act::print_accepted(context, "approve", &[accepted])
    })
}
