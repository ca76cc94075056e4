//! `start --daemon`: the same program once more, in a session of its own; the first one waits for its readiness.
//!
//! The child's stdout is a pipe on which it says how its start went; its stderr stays the caller's until then, so that a
//! failed start is seen where it was asked for. The first thing it does is to put that pipe aside: what else is in this
//! program, actors above all, may print whenever it likes, and that goes where it goes later, too. Deliberately absent:
//! the second fork of old daemons. The child has no terminal to lose.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::runtime::{Asker, RuntimeHandle};

use super::args::Format;
use super::check::load_for;
use super::context::Context;
use super::failure::Failure;
use super::say::say;

/// What the child says. Code of the program that runs before us may have begun a line.
const READY: &str = "[regrow: ready]";
/// The same, where it ends in order and has said on stderr why.
const FAILED: &str = "[regrow: failed]";

/// Lines of others that are passed on at most.
const MOST_OTHERS: usize = 100;

/// In the child: the caller's pipe, once it is put aside.
static PIPE: Mutex<Option<File>> = Mutex::new(None);

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
    let (word, others) = child.stdout.take().map(|pipe| listen(BufReader::new(pipe))).unwrap_or_default();
    for line in others {
        say(line);
    }
    if word == Some(READY) {
        let runtime = loaded.settings.runtime;
        let schema = "regrow.start/1";
        return Ok(Running { schema, name: runtime.name, pid: child.id(), state_dir: runtime.state_dir });
    }
    let status = child.wait().map_err(failed)?;
    if word != Some(FAILED) {
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

/// The word of the child, and what code of the program printed before; an end without a word is an answer too.
fn listen(mut pipe: impl BufRead) -> (Option<&'static str>, Vec<String>) {
    let mut others = Vec::new();
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let said = String::from_utf8_lossy(&line);
        let said = said.trim_end();
        let word = [READY, FAILED].into_iter().find(|word| said.ends_with(word));
        let other = said.trim_end_matches(word.unwrap_or_default());
        if !other.is_empty() && others.len() < MOST_OTHERS {
            others.push(other.to_owned());
        }
        if word.is_some() {
            return (word, others);
        }
        line.clear();
    }
    (None, others)
}

/// In the child: it ends in order, and says why itself.
pub(crate) fn failed() {
    answer(FAILED);
}

/// The caller may have gone; what was done stays so.
fn answer(word: &str) {
    let pipe = PIPE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let _ = match pipe {
        Some(mut pipe) => writeln!(pipe, "{word}"),
        None => {
            let mut out = std::io::stdout();
            writeln!(out, "{word}").and_then(|()| out.flush())
        }
    };
}

/// In the child: leaves the caller's session and terminal, and keeps the pipe for its own word.
pub(crate) fn detach() -> Result<(), Failure> {
    rustix::process::setsid()
        .map_err(|error| Failure::Failed(format!("cannot leave the session: {error}")))?;
    let failed =
        |error: std::io::Error| Failure::Failed(format!("cannot put the caller's pipe aside: {error}"));
    let out = std::io::stdout();
    let pipe = out.as_fd().try_clone_to_owned().map_err(failed)?;
    *PIPE.lock().unwrap_or_else(PoisonError::into_inner) = Some(pipe.into());
    rustix::stdio::dup2_stdout(&nowhere().map_err(failed)?).map_err(|error| failed(error.into()))
}

fn nowhere() -> std::io::Result<File> {
    OpenOptions::new().write(true).open("/dev/null")
}

/// In the child: says so, and lets go of the caller's pipe and terminal.
pub(crate) fn ready(state_dir: &Path) -> Result<(), Failure> {
    answer(READY);
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot let go of the terminal: {error}"));
    let null = nowhere().map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_heard_among_whatever_the_program_prints() {
        let none: [&str; 0] = [];
        for (text, word, others) in [
            ("[regrow: ready]\n", Some(READY), &none[..]),
            ("hello\nready\n[regrow: ready]\nnever read\n", Some(READY), &["hello", "ready"]),
            ("begun [regrow: failed]\n", Some(FAILED), &["begun "]),
            ("it ended\n", None, &["it ended"]),
            ("", None, &none[..]),
        ] {
            assert_eq!(
                listen(text.as_bytes()),
                (word, others.iter().map(|&text| text.to_owned()).collect()),
                "{text}"
            );
        }
        let many = "x\n".repeat(1000) + "\u{fffd}\n[regrow: ready]\n";
        assert_eq!(listen(many.as_bytes()).1.len(), MOST_OTHERS);
    }
}
