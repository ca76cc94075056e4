//! `start --daemon`: the same program once more, in a session of its own; the first one waits for its readiness.
//!
//! The child's stdout is a pipe on which it says `ready`; its stderr stays the caller's until then, so that a
//! failed start is seen where it was asked for. Deliberately absent: the second fork of old daemons. The child
//! has no terminal to lose.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::runtime::{Asker, RuntimeHandle};

use super::args::Format;
use super::check::load_for;
use super::context::Context;
use super::failure::Failure;
use super::say::say;

/// What the child says.
const READY: &str = "ready";
/// The same, where it ends in order and has said on stderr why.
const FAILED: &str = "failed";

/// Starts the child and waits until it is ready or has failed.
pub(crate) fn launch(context: &mut Context) -> Result<(), Failure> {
    let running = start(context)?;
    let printed = match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&running, std::slice::from_ref(&running)),
        Format::Name => context.print(&format!("{}\n", running.name)),
        Format::Table | Format::Wide | Format::Csv => context.print(&format!("{running}\n")),
    };
    match printed {
        // It runs, and is not to be started again.
        Err(Failure::Failed(why)) => {
            say(format_args!("regrow: {running}; {why}"));
            Ok(())
        }
        printed => printed,
    }
}

/// What runs in the background now.
#[derive(Debug, Serialize)]
pub(crate) struct Running {
    schema: &'static str,
    name: String,
    pid: u32,
    state_dir: PathBuf,
}

impl fmt::Display for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, pid, state_dir, .. } = self;
        write!(f, "{name} runs in the background as pid {pid}; state in {}", state_dir.display())
    }
}

/// The same, and answers what runs now.
pub(crate) fn start(context: &Context) -> Result<Running, Failure> {
    // A broken file is told here, once, and not by a process that is about to end.
    let loaded = load_for(context)?;
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot start in the background: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["start", "--daemonized"]).stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(file) = loaded.files.first() {
        command.arg("--config").arg(file);
    }
    if let Some(interval) = context.interval {
        command.arg("--interval").arg(crate::units::format_duration(interval));
    }
    let mut child = command.spawn().map_err(failed)?;
    let mut said = String::new();
    if let Some(pipe) = child.stdout.take() {
        // An end without a word is the answer too.
        let _ = BufReader::new(pipe).read_line(&mut said);
    }
    if said.trim_end() == READY {
        let runtime = loaded.settings.runtime;
        let schema = "regrow.start/1";
        return Ok(Running { schema, name: runtime.name, pid: child.id(), state_dir: runtime.state_dir });
    }
    let status = child.wait().map_err(failed)?;
    if said.trim_end() != FAILED {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with exit code {code}: code of the program ended the process"),
            (None, Some(signal)) => format!("by signal {}", crate::exit::signal_name(signal)),
            (None, None) => "in an unknown way".to_owned(),
        };
        return Err(Failure::Failed(format!(
            "the runtime, pid {}, ended {how} before it was ready; `regrow start` shows what it says until then",
            child.id()
        )));
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
    // What went wrong was said on stderr by the child.
    Err(Failure::Code(code.unwrap_or(1)))
}

/// In the child: it ends in order, and says why itself.
pub(crate) fn failed() {
    let mut out = std::io::stdout();
    // The caller may have gone.
    let _ = writeln!(out, "{FAILED}").and_then(|()| out.flush());
}

/// In the child: leaves the caller's session and terminal.
pub(crate) fn detach() -> Result<(), Failure> {
    rustix::process::setsid()
        .map(drop)
        .map_err(|error| Failure::Failed(format!("cannot leave the session: {error}")))
}

/// In the child: says so, and lets go of the caller's pipe and terminal.
pub(crate) fn ready(state_dir: &Path) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    // The caller may have gone; the runtime stays.
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot let go of the terminal: {error}"));
    let null = OpenOptions::new().write(true).open("/dev/null").map_err(failed)?;
    let path = state_dir.join("logs").join("regrow.log");
    // Where no log can be kept, the runtime says so; it goes on.
    let log = super::logging::append(&path).map_or_else(|_| null.try_clone(), Ok).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(|error| failed(error.into()))?;
    rustix::stdio::dup2_stderr(&log).map_err(|error| failed(error.into()))
}

/// In the child: a start that failed ends in order.
pub(crate) fn ask_to_end(handle: &RuntimeHandle) {
    let handle = handle.clone();
    tokio::spawn(async move { handle.shutdown(Asker("a failed start".to_owned())).await });
}
