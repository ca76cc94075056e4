//! `why`: the chain that led to how a worker is, in words.

use clap::Args;

use crate::http::dto::{WhyBody, WhyView};
use crate::runtime::Target;

use super::args::Format;
use super::client::encode;
use super::context::{Context, block_on, parse_target};
use super::failure::Failure;
use super::status::better;
use super::words::{csv, safe, wrapped};

/// Options of `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// Worker or instance
    worker: String,
}

pub(crate) fn run(context: &mut Context, args: WhyArgs) -> Result<(), Failure> {
    let target = match parse_target(&args.worker)? {
        target @ (Target::Worker(_) | Target::Instance(_)) => target,
        Target::Supervisor(_) | Target::All => {
            return Err(Failure::Usage("`why` wants a worker or an instance".to_owned()));
        }
    };
    let client = context.client()?;
    let path = format!("/api/v1/workers/{}/why", encode(&target.to_string()));
    let body: WhyBody = block_on(async {
        match client.get(&path).await {
            Ok(body) => Ok(body),
            Err(failure) => Err(better(&client, &[target], failure).await),
        }
    })?;
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&body, &body.items),
        Format::Name => {
            context.print(&body.items.iter().map(|one| format!("{}\n", one.instance)).collect::<String>())
        }
        Format::Csv => {
            let line =
                |one: &WhyView| format!("{},{},{}\n", one.instance, one.status, csv(&one.lines.join("; ")));
            let lines = body.items.iter().map(line).collect::<String>();
            context.print(&format!("instance,status,why\n{lines}"))
        }
        Format::Table | Format::Wide => {
            // The second line of one stands four columns to the right.
            let width = context.width().map(|width| width.saturating_sub(4)).filter(|width| *width >= 20);
            let mut text = String::new();
            for one in &body.items {
                text.push_str(&format!("{}: {}\n", one.instance, one.status));
                for line in &one.lines {
                    for (at, part) in wrapped(&safe(line), width).iter().enumerate() {
                        let indent = if at == 0 { "  " } else { "    " };
                        text.push_str(&format!("{indent}{part}\n"));
                    }
                }
            }
            context.print(&text)
        }
    }
}
