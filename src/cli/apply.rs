//! `diff` and `apply`: what the file would change in what runs, and the change itself.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde::Deserialize;

use crate::http::dto::{Accepted, ChangesView, DiffBody};

use super::act;
use super::args::{Format, WaitFlag};
use super::changes::{self, Tense};
use super::client::Client;
use super::context::{Context, block_on};
use super::failure::Failure;

/// Reading ten thousand workers takes a second or two on a busy machine, and a worker that moves must have left first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `apply`.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Say what would happen, and change nothing
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitFlag,
}

/// The answer to `apply`.
#[derive(Deserialize)]
struct Applied {
    #[serde(flatten)]
    accepted: Accepted,
    #[serde(flatten)]
    changes: ChangesView,
}

/// 0 if nothing differs, else 1.
pub(crate) fn diff(context: &mut Context) -> Result<(), Failure> {
    let body = compare(context)?;
    Failure::but_for_readers(show(context, &body))?;
    if body.same { Ok(()) } else { Err(Failure::Code(1)) }
}

pub(crate) fn run(context: &mut Context, args: ApplyArgs) -> Result<(), Failure> {
    if args.dry_run {
        let body = compare(context)?;
        return show(context, &body);
    }
    match take_over(context, args) {
        // Whoever reads JSON reads it of a refusal, too.
        Err(Failure::Config(message)) if matches!(context.format(), Format::Json | Format::Jsonl) => {
            let changes: [serde_json::Value; 0] = [];
            let whole = serde_json::json!({
                "schema": "regrow.apply/1", "ok": false, "message": message, "changes": changes,
            });
            context.print_json(&whole, &changes)?;
            Err(Failure::Config(message))
        }
        done => done,
    }
}

fn take_over(context: &mut Context, args: ApplyArgs) -> Result<(), Failure> {
    let client = context.client()?;
    block_on(async {
        let path = "/api/v1/config/apply";
        let Applied { accepted, changes } = client.ask_for(Method::POST, path, None, PATIENCE).await?;
        match (context.format(), args.wait.wait) {
            (Format::Json | Format::Jsonl, None) => {
                let whole = serde_json::json!({
                    "schema": "regrow.apply/1",
                    "ok": accepted.ok,
                    "action_id": accepted.action_id,
                    "message": accepted.message,
                    "changes": changes.changes,
                    "untouched_workers": changes.untouched_workers,
                    "config_generation": changes.config_generation,
                    "files": changes.files,
                });
                return context.print_json(&whole, &changes.changes);
            }
            (Format::Name, _) => context.print(&changes::names(&changes))?,
            (Format::Table | Format::Wide | Format::Csv, _) => {
                context.print(&changes::text(&changes, Tense::Done))?;
            }
            (Format::Json | Format::Jsonl, Some(_)) => {}
        }
        match args.wait.wait {
            None => Ok(()),
            Some(limit) => act::see_through(context, &client, "apply", &[accepted], limit).await,
        }
    })
}

/// What the file would change.
pub(crate) fn compare(context: &Context) -> Result<DiffBody, Failure> {
    let client: Client = context.client()?;
    let path = "/api/v1/config/check";
    block_on(async { client.ask_for(Method::POST, path, None, PATIENCE).await })
}

fn show(context: &mut Context, body: &DiffBody) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(body, &body.changes.changes)?,
        Format::Name => context.print(&changes::names(&body.changes))?,
        Format::Table | Format::Wide | Format::Csv if body.ok => {
            context.print(&changes::text(&body.changes, Tense::Would))?;
        }
        Format::Table | Format::Wide | Format::Csv => {}
    }
    if body.ok {
        return Ok(());
    }
    Err(Failure::Config(body.message.clone()))
}
