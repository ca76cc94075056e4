//! `strategies`: what was learned, and what follows from it.

use std::io::Read;
use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use crate::http::dto::StrategiesBody;
use crate::recovery::learning::Look;

use super::args::Format;
use super::context::{Context, block_on};
use super::failure::Failure;
use super::say::say;
use super::table::{Cell, Table};
use super::words::{csv, harmless_json, safe, span};

/// An export of five hundred classes is taken in at once.
const PATIENCE: Duration = Duration::from_secs(15);

/// Options of `strategies`.
#[derive(Debug, Args)]
pub(crate) struct StrategiesArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// Patterns in what went wrong, as TOML to paste
    #[arg(long)]
    advise: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// All that was learned, for another host
    Export,
    /// Add what was learned elsewhere, from stdin
    Import,
}

pub(crate) fn run(context: &mut Context, args: StrategiesArgs) -> Result<(), Failure> {
    let client = context.client()?;
    match args.what {
        Some(What::Export) => export(context),
        Some(What::Import) => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
            let body: Value = serde_json::from_str(&text)
                .map_err(|error| Failure::Usage(format!("this is no export of strategies: {error}")))?;
            let path = "/api/v1/strategies/import";
            let done: Value =
                block_on(async { client.ask_for(Method::POST, path, Some(&body), PATIENCE).await })?;
            let left_out = done["left_out"].as_u64().unwrap_or(0);
            let note = if left_out > 0 {
                format!("; {left_out} made no sense and were left out")
            } else {
                String::new()
            };
            if let Some(warning) = done["warning"].as_str() {
                say(format_args!("regrow: warning: {}", safe(warning)));
            }
            if matches!(context.format(), Format::Json | Format::Jsonl) {
                return context.print_json(&done, std::slice::from_ref(&done));
            }
            context.print(&format!("taken in{note}\n"))
        }
        None => {
            let body: StrategiesBody = block_on(async { client.get("/api/v1/strategies").await })?;
            show(context, &body, args.advise)
        }
    }
}

/// Everything that was learned, as one document.
pub(crate) fn export(context: &mut Context) -> Result<(), Failure> {
    let client = context.client()?;
    let all: Value = block_on(async { client.get("/api/v1/strategies/export").await })?;
    context.print_raw(&format!("{}\n", harmless_json(all.to_string())))
}

fn show(context: &mut Context, body: &StrategiesBody, advise: bool) -> Result<(), Failure> {
    if matches!(context.format(), Format::Json | Format::Jsonl) {
        return context.print_json(body, &body.items);
    }
    if advise {
        let none = "# nothing stands out yet: nobody fails again and again at the same age or hour, and no step that is clearly better waits behind another\n";
        let text: String =
            body.advice.iter().map(|one| format!("# {}\n{}\n", safe(&one.because), one.toml)).collect();
        return context.print(if text.is_empty() { none } else { &text });
    }
    if context.format() == Format::Csv {
        let mut text = "class,strategy,attempts,successes,low,high,mean_seconds,best\n".to_owned();
        for one in &body.items {
            let mean = one.mean_seconds.map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
            text.push_str(&format!(
                "{},{},{},{},{:.2},{:.2},{mean},{}\n",
                csv(&one.class),
                one.strategy,
                one.attempts,
                one.successes,
                one.interval.0,
                one.interval.1,
                one.best
            ));
        }
        return context.print(&text);
    }
    if context.format() == Format::Name {
        let name = |one: &Look| format!("{}\n", one.strategy);
        return context.print(&body.items.iter().map(name).collect::<String>());
    }
    if body.items.is_empty() {
        return context.print("nothing was learned yet: no step of recovery has come to its end\n");
    }
    let mut table = Table::new(&["CLASS", "STRATEGY", "TRIED", "HELD", "RATE", "MEAN", "FIRST"]);
    for one in &body.items {
        let (low, high) = (one.interval.0 * 100.0, one.interval.1 * 100.0);
        table.row(vec![
            Cell::new(safe(&one.class)),
            Cell::new(one.strategy.to_string()),
            Cell::figure(one.attempts.to_string()),
            Cell::figure(one.successes.to_string()),
            Cell::figure(format!("{low:.0}-{high:.0} %")),
            Cell::figure(one.mean_seconds.map(span).unwrap_or_default()),
            Cell::new(if one.best { "yes" } else { "" }),
        ]);
    }
    let width = context.width();
    context.print(&table.render(width))
}
