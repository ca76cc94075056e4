//! `regrow is-active`, `is-failed`, `is-healthy`: one word, and an exit code for scripts.

use clap::Args;

use crate::http::dto::WorkerView;

use super::args::Format;
use super::context::{Context, block_on, parse_target};
use super::failure::Failure;
use super::status::fetch;
use crate::runtime::Target;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Runs and is ready.
    Active,
    /// Was given up.
    Failed,
    /// Is healthy.
    Healthy,
}

/// Options of the three.
#[derive(Debug, Args)]
pub(crate) struct IsArgs {
    /// Worker (all its instances), instance or sup:NAME
    #[arg(required_unless_present = "all")]
    target: Option<String>,
    /// Every worker
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Say nothing
    #[arg(long, short)]
    quiet: bool,
}

impl Question {
    /// All must run; one that failed is enough.
    fn holds(self, workers: &[WorkerView]) -> bool {
        match self {
            Self::Active => workers.iter().all(|worker| worker.phase == "running" && worker.ready),
            Self::Failed => {
                workers.iter().any(|worker| ["quarantined", "stuck"].contains(&worker.phase.as_str()))
            }
            Self::Healthy => workers.iter().all(WorkerView::is_healthy),
        }
    }
}

pub(crate) fn run(context: &mut Context, question: Question, args: IsArgs) -> Result<(), Failure> {
    let target = args.target.as_deref().map_or(Ok(Target::All), parse_target)?;
    let client = context.client()?;
    let body = block_on(fetch(&client, Some(&target)))?;
    let holds = question.holds(&body.workers);
    if matches!(context.format(), Format::Json | Format::Jsonl) {
        let verb = match question {
            Question::Active => "is-active",
            Question::Failed => "is-failed",
            Question::Healthy => "is-healthy",
        };
        let answer = serde_json::json!({ "schema": format!("regrow.{verb}/1"), "target": target.to_string(), "answer": holds });
        Failure::but_for_readers(context.print_json(&answer, std::slice::from_ref(&answer)))?;
    } else if !args.quiet {
        Failure::but_for_readers(context.print(&text(&body.workers, context.format())))?;
    }
    if holds { Ok(()) } else { Err(Failure::NotHealthy(String::new())) }
}

/// One word of one, a line of each of many.
fn text(workers: &[WorkerView], format: Format) -> String {
    let alone = workers.len() == 1;
    let line = |worker: &WorkerView| match format {
        Format::Name => format!("{}\n", worker.instance),
        Format::Csv => format!("{},{}\n", worker.instance, worker.status),
        Format::Table | Format::Wide | Format::Json | Format::Jsonl if alone => {
            format!("{}\n", worker.status)
        }
        Format::Table | Format::Wide | Format::Json | Format::Jsonl => {
            format!("{} {}\n", worker.instance, worker.status)
        }
    };
    let header = if format == Format::Csv { "instance,status\n" } else { "" };
    std::iter::once(header.to_owned()).chain(workers.iter().map(line)).collect()
}
