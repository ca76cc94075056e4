//! `regrow completion SHELL`

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::args::Cli;
use super::context::Context;
use super::failure::Failure;

/// Options of `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(context: &mut Context, args: CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), called(), &mut script);
    context.print(&String::from_utf8_lossy(&script))
}

/// The program's own name: a host that has regrow's command line is called otherwise.
fn called() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
    path.file_name().map_or_else(|| "regrow".to_owned(), |name| name.to_string_lossy().into_owned())
}
