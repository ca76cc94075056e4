//! The command line: one file per verb.
//!
//! Verbs that look or act talk to a running runtime over its control socket and print what it answers; only
//! `start`, `run` and `demo` bring one up. What is printed is made by pure functions from the answers, so that
//! it can be tested as text. Worker output and messages are escaped before they reach a terminal.
//!
//! Deliberately absent: `--url` and tokens. A runtime is reached where it lives.

mod act;
mod add;
mod apply;
mod args;
mod backup;
mod changes;
mod check;
mod client;
mod completion;
mod context;
mod daemon;
mod demo;
mod describe;
mod doctor;
mod events;
mod failure;
mod foreground;
mod history;
mod import;
mod incidents;
mod init;
mod is;
mod live;
mod locate;
mod logging;
mod logs;
mod notify;
mod recover;
mod run;
mod say;
mod schema;
mod scratch;
mod screen;
mod shutdown;
mod signals;
mod start;
mod state;
mod status;
mod strategies;
mod table;
mod tree;
mod version;
mod wait;
mod why;
mod words;

use std::process::ExitCode;

use clap::Parser;

use crate::runtime::Builder;
use crate::worker::in_process::Registry;
use crate::worker::unix::HeldSignals;

use args::{Cli, Verb};
use context::Context;
use failure::Failure;

/// Runs the command that the process was called with, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    Builder::default().main()
}

impl Builder {
    /// Makes this program a `regrow` of its own: the whole command line, with the workers that were registered. What
    /// the builder was told for `start` counts for nothing here: the command line says what runs.
    #[must_use]
    pub fn main(self) -> ExitCode {
        command(self.into_registry())
    }
}

fn command(registry: Registry) -> ExitCode {
    let held = signals::hold_harmless();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are no errors; clap prints both and knows the code.
        Err(error) => error.exit(),
    };
    let is_runtime = becomes_runtime(&cli.verb);
    match run(cli, registry, held) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if is_runtime {
                failure.print_in_passing();
            } else {
                failure.print();
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Whether this process supervises.
fn becomes_runtime(verb: &Verb) -> bool {
    let starts = matches!(verb, Verb::Start(args) if args.is_runtime());
    starts || matches!(verb, Verb::Run(_) | Verb::Demo)
}

fn run(cli: Cli, registry: Registry, held: HeldSignals) -> Result<(), Failure> {
    let mut context = Context::new(cli.global, registry);
    // All others are ended by them, as any command is.
    context.held = becomes_runtime(&cli.verb).then_some(held);
    match cli.verb {
        Verb::Start(args) => start::run(&mut context, args),
        Verb::Stop(args) => act::run(&mut context, "stop", args),
        Verb::Restart(args) => act::restart(&mut context, args),
        Verb::Pause(args) => act::pause(&mut context, args),
        Verb::Resume(args) => act::run(&mut context, "resume", args),
        Verb::Scale(args) => act::scale(&mut context, args),
        Verb::Reload(args) => act::run(&mut context, "reload", args),
        Verb::Signal(args) => act::signal(&mut context, args),
        Verb::ResetFailed(args) => act::run(&mut context, "reset-failed", args),
        Verb::Shutdown(args) => shutdown::run(&mut context, args),
        Verb::Status(args) => status::run(&mut context, args),
        Verb::Describe(args) => describe::run(&mut context, args),
        Verb::Logs(args) => logs::run(&mut context, args),
        Verb::Events(args) => events::run(&mut context, args),
        Verb::History(args) => history::run(&mut context, args),
        Verb::Export(args) => history::export(&mut context, args),
        Verb::State(args) => state::run(&mut context, args),
        Verb::Backup(args) => backup::run(&mut context, args),
        Verb::IsActive(args) => is::run(&mut context, is::Question::Active, args),
        Verb::IsFailed(args) => is::run(&mut context, is::Question::Failed, args),
        Verb::IsHealthy(args) => is::run(&mut context, is::Question::Healthy, args),
        Verb::Recover(args) => recover::recover(&mut context, args),
        Verb::Approve(args) => recover::approve(&mut context, args),
        Verb::Incidents(args) => incidents::run(&mut context, args),
        Verb::Strategies(args) => strategies::run(&mut context, args),
        Verb::Why(args) => why::run(&mut context, args),
        Verb::Wait(args) => wait::run(&mut context, args),
        Verb::Diff => apply::diff(&mut context),
        Verb::Apply(args) => apply::run(&mut context, args),
        Verb::Add(args) => add::add(&mut context, args),
        Verb::Remove(args) => add::remove(&mut context, args),
        Verb::Check(args) => check::run(&mut context, args),
        Verb::Run(args) => run::run(&mut context, args),
        Verb::Demo => demo::run(&mut context),
        Verb::Version => version::run(&mut context),
        Verb::Init(args) => init::run(&mut context, args),
        Verb::Import(args) => import::run(&mut context, args),
        Verb::Doctor(args) => doctor::run(&mut context, args),
        Verb::Schema(args) => schema::run(&mut context, args),
        Verb::Completion(args) => completion::run(&mut context, args),
    }
}
