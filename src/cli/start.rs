//! `regrow start`: runs the runtime; with TARGET it starts what was stopped.

use clap::Args;

use crate::config::Loaded;
use crate::runtime::{ApplyError, Asker, Finished, RuntimeHandle};
use crate::worker::process::strays;

use super::act::{self, ActArgs};
use super::args::{Format, Targets, WaitFlag};
use super::check::{load_for, sources};
use super::context::{Context, block_on};
use super::daemon;
use super::failure::Failure;
use super::foreground::{Boot, Foreground, Happened, make_room};
use super::live::{LiveLog, News};
use super::say::say;
use super::screen::{Screen, Stream};
use super::signals::{Came, Signals};
use super::words::harmless_json;

/// What a reader of its events has to know.
pub(crate) const AFTER_HELP: &str = "\
With `-o jsonl` each event is a line. Where lines were not read in time, one
of the schema regrow.lost/1 says how many are missing.";

/// Options of `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Stopped workers to start; without any, the runtime itself
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Start every stopped worker
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Go into the background; returns once ready (0) or failed (1)
    #[arg(long, conflicts_with_all = ["targets", "all"])]
    daemon: bool,
    /// How often every probe looks, whatever the configuration says: 60s
    #[arg(long, value_name = "DURATION", value_parser = interval, conflicts_with_all = ["targets", "all"])]
    interval: Option<std::time::Duration>,
    /// What `--daemon` starts
    #[arg(long, hide = true)]
    daemonized: bool,
    /// What a self-test starts: it ends with that process
    #[arg(long, hide = true, value_name = "PID")]
    ends_with: Option<i32>,
    #[command(flatten)]
    wait: WaitFlag,
}

impl StartArgs {
    /// Whether this process becomes the runtime.
    pub(crate) fn is_runtime(&self) -> bool {
        !(self.all || self.daemon) && self.targets.is_empty()
    }
}

pub(crate) fn run(context: &mut Context, args: StartArgs) -> Result<(), Failure> {
    if args.all || !args.targets.is_empty() {
        let targets = Targets { targets: args.targets, all: args.all };
        return act::run(context, "start", ActArgs { targets, wait: args.wait });
    }
    if args.wait.wait.is_some() {
        return Err(Failure::Usage(
            "`--wait` belongs to `start TARGET`; `start --daemon` waits by itself".to_owned(),
        ));
    }
    context.interval = args.interval;
    if args.daemon {
        return daemon::launch(context);
    }
    if let Some(parent) = args.ends_with {
        end_with(parent)?;
    }
    if args.daemonized {
        return daemon::detach().and_then(|()| foreground(context, true)).inspect_err(|_| daemon::failed());
    }
    foreground(context, false)
}

/// From now on the end of the process that started this one is an order to end.
fn end_with(parent: i32) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::Failed(format!("cannot end with {parent}: {error}"));
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM)).map_err(failed)?;
    // It may have ended just before.
    if rustix::process::getppid().is_none_or(|own| own.as_raw_pid() != parent) {
        return Err(Failure::Failed(format!("pid {parent}, with which it is to end, has ended")));
    }
    Ok(())
}

fn interval(text: &str) -> Result<std::time::Duration, String> {
    let interval = crate::units::parse_duration(text).map_err(|error| error.to_string())?;
    // More often would be a load and no longer a look.
    let least = std::time::Duration::from_millis(100);
    if interval < least { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

fn foreground(context: &mut Context, daemonized: bool) -> Result<(), Failure> {
    make_room();
    crate::worker::unix::share_one_heap();
    crate::telemetry::record_user_series();
    // What explains the file is not needed any more once it runs.
    let Loaded { settings, files, .. } = load_for(context)?;
    let sources = sources(context, context.global.config.clone()).pinned(&files);
    let registry = context.registry.clone();
    let json = matches!(context.format(), Format::Json | Format::Jsonl);
    block_on(async {
        // Taken before anything is started: a signal must never end the process past its workers.
        let mut signals = Signals::new(context.held.take())?;
        let mut runtime = Foreground::start(settings, sources, registry).await?;
        let state_dir = runtime.handle().info().state_dir.clone();
        let stream = if json { Stream::Json } else { Stream::Out };
        let screen = if daemonized { None } else { Some(Screen::on(stream)?) };
        let names: Vec<String> =
            runtime.handle().info().settings().workers.iter().map(|worker| worker.name.to_string()).collect();
        let live = LiveLog::new(names.iter().map(String::as_str));
        let mut reader = Reader { json, screen, live, news: News::default() };
        if !json {
            reader.print(runtime.header(&files).trim_end());
        }
        let mut failed = None;
        let mut said = false;
        let finished = runtime
            .attend(&mut signals, |handle, happened| match happened {
                Happened::Booted(boot) if daemonized => {
                    said = true;
                    if let Boot::Failed(why) = boot {
                        failed = Some(why.clone());
                        daemon::ask_to_end(handle);
                        return Ok(());
                    }
                    daemon::ready(&handle.info().state_dir)
                }
                Happened::Booted(_) => Ok(()),
                Happened::Events(events) => {
                    reader.events(events);
                    Ok(())
                }
                Happened::Signal(came) => {
                    reload_on(handle, came, daemonized);
                    Ok(())
                }
            })
            .await;
        runtime.close();
        if matches!(finished, Ok(Finished::Stopped | Finished::Done)) && !json {
            reader.print(&last_line(&strays()));
        }
        reader.close();
        let early = daemonized && !said;
        match (finished?, failed) {
            (_, Some(why)) => Err(Failure::Failed(why)),
            (Finished::Stopped, None) if early => {
                Err(Failure::Failed("it was asked to end before it was ready".to_owned()))
            }
            // More than ready: its work is done.
            (Finished::Done, None) if early => daemon::ready(&state_dir),
            (Finished::Stopped | Finished::Done, None) => Ok(()),
            (Finished::GaveUp(why), None) => Err(Failure::Failed(why)),
            (Finished::Abandoned(who), None) => Err(Failure::Failed(format!(
                "these could not be killed and were left behind: {}; the next runtime will not start a second copy",
                who.join(", ")
            ))),
        }
    })
}

/// What is left, in a line of its own.
fn last_line(strays: &[String]) -> String {
    if strays.is_empty() {
        return "regrow has ended; nothing is left running".to_owned();
    }
    format!("regrow has ended; what broke away from its workers is left running: {}", strays.join(", "))
}

/// SIGHUP takes the file over, beside everything else: a signal to end must not wait for it. What comes of it is an
/// event; of a wrong file every problem is a line of the runtime's log, and a person at a terminal sees them in full.
fn reload_on(handle: &RuntimeHandle, came: Came, daemonized: bool) {
    match came {
        Came::End(_) | Came::User(_) => {}
        Came::Hangup => {
            let handle = handle.clone();
            tokio::spawn(async move {
                if let Err(ApplyError::Invalid(diagnostics)) = handle.apply(Asker("SIGHUP".to_owned())).await
                {
                    for problem in diagnostics.problems() {
                        tracing::error!("{}", problem.line());
                    }
                    if !daemonized {
                        on_stderr(diagnostics.to_string());
                    }
                }
            });
        }
    }
}

/// Beside everything else: nothing waits for a terminal that takes nothing.
fn on_stderr(text: String) {
    let show = move || say(text);
    if let Err(error) = std::thread::Builder::new().name("regrow-screen".to_owned()).spawn(show) {
        tracing::warn!(%error, "what is wrong with the file cannot be shown");
    }
}

/// The live log on stdout. Once nobody reads it, the runtime goes on without.
struct Reader {
    json: bool,
    screen: Option<Screen>,
    live: LiveLog,
    news: News,
}

impl Reader {
    fn events(&mut self, events: &[crate::http::dto::EventView]) {
        events.iter().for_each(log);
        if self.screen.is_none() {
            return;
        }
        let shown: Vec<_> = events.iter().filter(|event| self.json || self.news.is(event)).collect();
        let lines: Vec<String> = shown.into_iter().map(|event| self.line(event)).collect();
        if !lines.is_empty() {
            self.print(&lines.join("\n"));
        }
    }

    fn line(&self, event: &crate::http::dto::EventView) -> String {
        if self.json {
            harmless_json(serde_json::to_string(event).unwrap_or_default())
        } else {
            self.live.line(event)
        }
    }

    fn print(&mut self, lines: &str) {
        if let Some(screen) = &mut self.screen {
            screen.print(lines);
        }
    }

    fn close(self) {
        if let Some(screen) = self.screen {
            screen.close();
        }
    }
}

/// Every event is a line of the runtime's own log.
pub(crate) fn log(event: &crate::http::dto::EventView) {
    let instance = event.instance.as_deref().unwrap_or("-");
    let (kind, seq, message) = (event.kind.as_str(), event.seq, event.message.as_str());
    match kind {
        "worker.parked" | "worker.stuck" => tracing::error!(kind, seq, instance, "{message}"),
        "worker.exited" | "recovery.failed" | "incident.opened" => {
            tracing::warn!(kind, seq, instance, "{message}")
        }
        _ => tracing::info!(kind, seq, instance, "{message}"),
    }
}
