//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::{
    act, add, apply, backup, check, completion, describe, doctor, events, history, import, incidents, init,
    is, logs, recover, run, schema, shutdown, start, state, status, strategies, wait, why,
};

const AFTER_HELP: &str = "\
TARGET is a worker (`parser`), one instance (`parser/0`), `sup:NAME` or `--all`.
Exit codes: 0 done or healthy, 1 failed, 2 usage, 3 not running or not healthy, 4 no such target,
5 runtime not reachable, 6 configuration invalid, 7 not permitted, 8 --wait ran out.";

/// Workers that grow back: supervises processes and recovers them when they fail.
#[derive(Debug, Parser)]
#[command(name = "regrow", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Configuration; else regrow.toml, config/regrow.toml, /etc/regrow/regrow.toml
    #[arg(short, long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Control socket of a running runtime; else the one of the configuration
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "REGROW_CONTROL",
        value_hint = ValueHint::AnyPath,
        value_parser = OsStringValueParser::new().map(PathBuf::from),
        help_heading = "Global options"
    )]
    pub(crate) socket: Option<PathBuf>,
    /// How to print
    #[arg(short, long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub(crate) output: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON document
    Json,
    /// One JSON document a line
    Jsonl,
    /// Comma-separated, with a header line
    Csv,
    /// Names alone
    Name,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the runtime; with TARGET: start stopped workers
    #[command(after_help = start::AFTER_HELP)]
    Start(start::StartArgs),
    /// Stop workers; they stay stopped
    Stop(act::ActArgs),
    /// Stop and start workers
    Restart(act::RestartArgs),
    /// Hands off: no automatic start, stop or recovery of workers
    ///
    /// What runs goes on; what ends is not started again, and nothing is stopped by itself, also not together with
    /// siblings. What you ask for is done as ever. It lasts until `resume`, or as long as --for says, also over a
    /// restart of the runtime.
    Pause(act::PauseArgs),
    /// End a pause
    Resume(act::ActArgs),
    /// Have as many instances of a worker, until the file names another number
    Scale(act::ScaleArgs),
    /// Have workers read their configuration anew: the signal `reload.signal`, else a rolling restart
    Reload(act::ActArgs),
    /// Send a signal to the main process of each instance
    Signal(act::SignalArgs),
    /// Forget failures; parked workers are tried at once
    ResetFailed(act::ActArgs),
    /// Take one step of recovery by hand; --dry-run says what it would do
    Recover(recover::RecoverArgs),
    /// Let the step of an incident go on that waits for it
    Approve(recover::ApproveArgs),
    /// End the runtime and its workers in order
    Shutdown(shutdown::ShutdownArgs),
    /// How everything is
    Status(status::StatusArgs),
    /// Everything about a worker: state, last exit, what comes next
    Describe(describe::DescribeArgs),
    /// Why a worker is as it is: the chain that led there, in words
    Why(why::WhyArgs),
    /// What went wrong, what was tried, and what came of it
    Incidents(incidents::IncidentsArgs),
    /// What was learned about recovery, and what follows from it
    Strategies(strategies::StrategiesArgs),
    /// What workers wrote
    Logs(logs::LogsArgs),
    /// What happened
    Events(events::EventsArgs),
    /// What workers were like in the last days
    History(history::HistoryArgs),
    /// Write what was kept of the last days, for other programs
    Export(history::ExportArgs),
    /// What a worker keeps for itself: show it, put it away, bring it back
    State(state::StateArgs),
    /// Copy what is kept: events, totals, incidents, health
    ///
    /// The copy is whole, and nothing stops for it. To go back to one, end the runtime, and put the copy's files in
    /// place of those in the state directory; `state.db-wal` and `samples.db-wal` beside them must go.
    Backup(backup::BackupArgs),
    /// Exit 0 if it runs and is ready, else 3
    IsActive(is::IsArgs),
    /// Exit 0 if it was given up, else 3
    IsFailed(is::IsArgs),
    /// Exit 0 if it is healthy, else 3
    IsHealthy(is::IsArgs),
    /// Wait until a target is ready, healthy or stopped
    Wait(wait::WaitArgs),
    /// What `apply` would do: exit 0 if the file says what is in force, else 1
    Diff,
    /// Take the file over: all or nothing, and only what changed is touched
    Apply(apply::ApplyArgs),
    /// Add a worker made of a [template.NAME] of the file
    Add(add::AddArgs),
    /// Remove a worker that was added
    Remove(add::RemoveArgs),
    /// Check a configuration without running it
    Check(check::CheckArgs),
    /// Supervise one command without a file, and exit with its code
    ///
    /// It is started again when it fails, at most 10 times in 5 minutes and after growing delays; then, or once it
    /// ends well or was asked to end, regrow ends with its code: 128 and the signal's number if a signal ended it, 127
    /// if there is no such program, 126 if it cannot be run. What it writes passes through byte for byte, stdout to
    /// stdout and stderr to stderr; what regrow says goes to stderr. It sees your environment and reads your stdin; what
    /// it has read is not there again after a restart. SIGHUP, SIGUSR1 and SIGUSR2 are passed on to it.
    Run(run::RunArgs),
    /// Watch a small tree crash, hang and recover, in half a minute
    Demo,
    /// Version of this build
    Version,
    /// Write a configuration to begin with, from what is here or from your answers
    Init(init::InitArgs),
    /// Make a configuration of the files of another supervisor
    ///
    /// Reads configurations of supervisord, services of systemd (with drop-ins, if they are named), ecosystem files of
    /// PM2 (JSON, YAML, or JavaScript that exports a literal), Procfiles, and the settings of worker monitors. Each
    /// setting stands beside what it was made of; what has no equal becomes a comment with its reason. Nothing is run,
    /// and what is written passes `regrow check`.
    Import(import::ImportArgs),
    /// What of this machine or configuration would get in the way; --self-test tries it
    Doctor(doctor::DoctorArgs),
    /// JSON Schema of the configuration file, for editors
    ///
    /// `regrow schema > regrow.schema.json`, and `#:schema ./regrow.schema.json` as the first line of regrow.toml: an
    /// editor that knows TOML then completes its keys, explains them, and marks what is wrong.
    Schema(schema::SchemaArgs),
    /// Completion script for a shell
    Completion(completion::CompletionArgs),
}

/// TARGET… or `--all`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Targets {
    /// Worker, instance or sup:NAME
    #[arg(value_name = "TARGET", required_unless_present = "all")]
    pub(crate) targets: Vec<String>,
    /// Every worker
    #[arg(long, conflicts_with = "targets")]
    pub(crate) all: bool,
}

/// `--wait[=30s]`
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitFlag {
    /// Wait for the outcome, at most this long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
}

/// `5s`, `2m` …
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    crate::units::parse_duration(text).map_err(|error| error.to_string())
}
