//! `regrow check`: every problem of a configuration at once, or the whole effective file.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::config::{Diagnostics, Loaded, Settings, Sources, WorkerSettings, load};

use super::args::Format;
use super::context::Context;
use super::failure::Failure;
use super::words::plural;

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// File; else as for `-c`
    file: Option<PathBuf>,
    /// Print the whole effective configuration with each value's origin
    #[arg(long)]
    explain: bool,
}

pub(crate) fn run(context: &mut Context, args: CheckArgs) -> Result<(), Failure> {
    let file = args.file.or_else(|| context.global.config.clone());
    let loaded = match load(&sources(context, file)) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return Err(invalid(context, &diagnostics)?),
    };
    let mut loaded = loaded;
    loaded.settings.warnings.extend(nobodies(&loaded.settings));
    loaded.settings.warnings.extend(short_of_files(&loaded.settings));
    if matches!(context.format(), Format::Json | Format::Jsonl) {
        let whole = serde_json::json!({
            "schema": "regrow.check/1",
            "ok": true,
            "files": loaded.files,
            "warnings": loaded.settings.warnings,
            "notes": loaded.notes,
            "problems": [],
            "config": crate::http::dto::effective(&loaded.settings),
        });
        return context.print_json(&whole, std::slice::from_ref(&whole));
    }
    if args.explain {
        return context.print(&loaded.explain());
    }
    context.print(&summary(&loaded))
}

/// Workers whose user or group this machine does not know. Only a warning: it may be made before the start, or the file
/// checked on another machine.
fn nobodies(settings: &Settings) -> Vec<String> {
    let of = |worker: &Arc<WorkerSettings>| {
        let missing = crate::worker::process::missing(&worker.isolation)?;
        Some(format!("worker `{}` will not start: {missing}", worker.name))
    };
    settings.workers.iter().filter_map(of).collect()
}

/// Whether this machine lets regrow open as many files as the workers need.
fn short_of_files(settings: &Settings) -> Option<String> {
    let processes = settings.workers.iter().filter(|worker| worker.actor.is_none() && worker.enabled);
    let instances = processes.map(|worker| u64::from(worker.most())).sum();
    crate::worker::process::too_few_files(instances, crate::worker::process::most_files())
}

/// Loads the configuration that the options name, with the diagnostics as the failure.
pub(crate) fn load_for(context: &Context) -> Result<Loaded, Failure> {
    let mut loaded = load(&sources(context, context.global.config.clone()))
        .map_err(|diagnostics| Failure::Config(diagnostics.render(colour())))?;
    loaded.settings.warnings.extend(short_of_files(&loaded.settings));
    Ok(loaded)
}

/// A file, the environment, and the actors of this program.
pub(crate) fn sources(context: &Context, file: Option<PathBuf>) -> Sources {
    // A type that panics while it reads its settings is told with the place.
    crate::worker::in_process::install_hook();
    Sources {
        actors: Some(Arc::new(context.registry.clone())),
        interval: context.interval,
        ..Sources::of_process(file)
    }
}

fn invalid(context: &mut Context, diagnostics: &Diagnostics) -> Result<Failure, Failure> {
    if !matches!(context.format(), Format::Json | Format::Jsonl) {
        return Ok(Failure::Config(diagnostics.render(colour())));
    }
    let problems: Vec<_> = diagnostics
        .problems()
        .into_iter()
        .map(|problem| {
            serde_json::json!({
                "message": problem.message,
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "help": problem.help,
            })
        })
        .collect();
    let whole = serde_json::json!({ "schema": "regrow.check/1", "ok": false, "problems": problems });
    Failure::but_for_readers(context.print_json(&whole, &problems))?;
    Ok(Failure::Config(format!("regrow: {}", plural(diagnostics.count() as u64, "problem"))))
}

/// Diagnostics go to stderr, so its terminal decides; anstream removes what nobody would see.
fn colour() -> bool {
    std::io::stderr().is_terminal()
}

fn summary(loaded: &Loaded) -> String {
    let settings = &loaded.settings;
    let mut out = String::new();
    for warning in &settings.warnings {
        out.push_str(&format!("warning: {warning}\n"));
    }
    for note in &loaded.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    out.push_str(&format!(
        "{} is right: {}, {}\n",
        files.join(", "),
        plural(settings.workers.len() as u64, "worker"),
        plural(settings.supervisors.len() as u64, "supervisor"),
    ));
    out
}
