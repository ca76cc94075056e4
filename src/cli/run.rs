//! `regrow run -- CMD…`: one command under supervision, without a file.
//!
//! It can stand in a pipe where the command stood: what the command writes passes through byte for byte, what regrow
//! itself says goes to stderr, and once nobody reads any more the command is ended, as SIGPIPE would have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;

use crate::config::{RUN_PREFIX, Settings};
use crate::exit::Exit;
use crate::runtime::{Asker, RuntimeHandle};
use crate::worker::in_process::Registry;

use super::context::{Context, block_on};
use super::failure::Failure;
use super::foreground::{Foreground, Happened, make_room};
use super::scratch::Scratch;
use super::screen::{Screen, Stream};
use super::signals::{Came, Signals};
use super::words::safe;

/// How often it is looked whether something was written that nobody reads, once that is so.
const LOOK: Duration = Duration::from_millis(50);

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Say nothing about restarts
    #[arg(long, short)]
    quiet: bool,
    /// The command with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(context: &mut Context, args: RunArgs) -> Result<(), Failure> {
    make_room();
    let settings =
        Settings::for_command(&args.command).map_err(|problems| Failure::Usage(problems.render(false)))?;
    let scratch = Scratch::new(settings.runtime.state_dir.clone(), RUN_PREFIX);
    let code = block_on(async {
        let mut signals = Signals::new(context.held.take())?;
        let mut runtime = Foreground::start(settings, None, Registry::default()).await?;
        let mut ended_by = None;
        let mut screen = Screen::on(Stream::Error)?;
        let unread = end_unread(runtime.handle())?;
        let watched = runtime
            .attend(&mut signals, |handle, happened| {
                match happened {
                    Happened::Events(events) if !args.quiet => {
                        events.iter().filter_map(told).for_each(|line| screen.print(&line));
                    }
                    Happened::Signal(Came::End(signal)) => {
                        ended_by.get_or_insert(signal);
                    }
                    Happened::Signal(Came::Hangup) => forward(handle, 1),
                    Happened::Signal(Came::User(signal)) => forward(handle, signal),
                    Happened::Events(_) | Happened::Booted(_) => {}
                }
                Ok(())
            })
            .await;
        let unread = unread.load(Ordering::Relaxed);
        let code = if unread { 128 + libc::SIGPIPE as u8 } else { exit_code(runtime.handle(), ended_by) };
        let lost = lost_lines(runtime.handle());
        let lost = Some(lost).filter(|lost| *lost > 0 && !unread);
        if let Some(lost) = lost {
            screen.print(&format!(
                "regrow: {} of output could not be written",
                super::words::plural(lost, "line")
            ));
        }
        screen.close();
        runtime.close();
        // As for a command that finds out by itself that nothing takes its output.
        watched.map(|_| if lost.is_some() && code == 0 { 1 } else { code })
    });
    drop(scratch);
    match code? {
        0 => Ok(()),
        code => Err(Failure::Code(code)),
    }
}

/// Ends everything once the command has written something that nobody reads any more. It cannot notice by itself: it
/// writes to a pipe of regrow's, which outlives its readers.
fn end_unread(handle: &RuntimeHandle) -> Result<Arc<AtomicBool>, Failure> {
    let unread = Arc::new(AtomicBool::new(false));
    let (tell, told) = tokio::sync::oneshot::channel();
    let watch = move || {
        let out = std::io::stdout();
        // No event is asked for: an error, which is always told, is the end of the reader. Files have none.
        let mut fds = [rustix::event::PollFd::new(&out, rustix::event::PollFlags::empty())];
        while rustix::event::poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        if fds[0].revents().contains(rustix::event::PollFlags::ERR) {
            // The command may have ended by itself at the same moment.
            let _ = tell.send(());
        }
    };
    std::thread::Builder::new()
        .name("regrow-reader".to_owned())
        .spawn(watch)
        .map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
    let (handle, seen) = (handle.clone(), Arc::clone(&unread));
    tokio::spawn(async move {
        if told.await.is_ok() {
            while lost_lines(&handle) == 0 {
                tokio::time::sleep(LOOK).await;
            }
            seen.store(true, Ordering::Relaxed);
            handle.shutdown(Asker("whoever read the output has gone".to_owned())).await;
        }
    });
    Ok(unread)
}

/// Output that got nowhere, such as onto a full disk.
fn lost_lines(handle: &RuntimeHandle) -> u64 {
    let states = handle.board().instances();
    states.first().map_or(0, |state| state.output.dropped.load(Ordering::Relaxed))
}

/// What a person wants to know of a command that is supervised: that it fell and got up. That it is done is no news.
fn told(event: &crate::http::dto::EventView) -> Option<String> {
    let exit = event.data.get("exit");
    let done = exit.is_some_and(|exit| exit["kind"] == "exited" && exit["code"] == 0);
    let news = ["worker.exited", "worker.parked", "worker.stuck", "recovery.planned"];
    (!done && news.contains(&event.kind.as_str())).then(|| format!("regrow: {}", safe(&event.message)))
}

/// Passes a signal on to the command, through a handle that no other process can have taken over.
fn forward(handle: &RuntimeHandle, signal: i32) {
    let states = handle.board().instances();
    let pid = states.first().and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok());
    let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { return };
    let Some(signal) = rustix::process::Signal::from_named_raw(signal) else { return };
    // It may have ended in between: then there is nobody to tell.
    if let Ok(process) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        let _ = rustix::process::pidfd_send_signal(process, signal);
    }
}

/// The command's own code, or 128 and the signal, as a shell has it.
fn exit_code(handle: &RuntimeHandle, ended_by: Option<i32>) -> u8 {
    let states = handle.board().instances();
    let Some(last) = states.first().and_then(|state| state.last_exit.as_ref()) else { return 1 };
    let code = match (last.code, last.exit.signal()) {
        (None, None) if last.exit == Exit::Stopped => ended_by.map_or(0, |signal| 128 + signal),
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => start_failure_code(&last.exit),
    };
    u8::try_from(code).unwrap_or(1)
}

/// What a shell answers for a command that cannot be run.
fn start_failure_code(exit: &Exit) -> i32 {
    use crate::exit::StartFailure;
    match exit {
        Exit::StartFailed(StartFailure::NotFound { .. }) => 127,
        Exit::StartFailed(StartFailure::NotExecutable { .. } | StartFailure::BadFormat { .. }) => 126,
        Exit::StartFailed(_)
        | Exit::Exited { .. }
        | Exit::Signaled { .. }
        | Exit::Oom
        | Exit::Core { .. }
        | Exit::StartTimeout
        | Exit::Killed
        | Exit::Stopped
        | Exit::Panicked { .. }
        | Exit::Error { .. }
        | Exit::Unwell { .. }
        | Exit::Abandoned
        | Exit::Unknown => 1,
    }
}
