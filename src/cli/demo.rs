//! `regrow demo`: a small tree crashes, hangs and recovers before one's eyes, and each line is explained.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Sources, load};
use crate::http::dto::{EventView, StatusBody};
use crate::runtime::{Asker, RuntimeHandle};
use crate::worker::in_process::Registry;

use super::client::Client;
use super::context::{Context, block_on};
use super::failure::Failure;
use super::foreground::{Foreground, Happened, make_room};
use super::live::{LiveLog, News};
use super::scratch::Scratch;
use super::screen::{Screen, Stream};
use super::signals::Signals;
use super::table::{bold, dim, paint};

/// The tree.
const CONFIG: &str = include_str!("demo.toml");

/// Everything has happened by then.
const LONG_ENOUGH: Duration = Duration::from_secs(24);

/// What each first event of a kind means: instance, kind, words.
const EXPLAINED: [(&str, &str, &str); 12] = [
    ("steady", "worker.ready", "Nothing says otherwise, so it is ready as soon as it runs."),
    ("client", "worker.started", "It names sleeper in `after`, so it was held back until sleeper was ready."),
    (
        "crasher",
        "worker.exited",
        "It ended by itself. The first restart waits for nothing; from the second on there is a delay, which doubles.",
    ),
    ("crasher", "worker.started", "It works for a second; then it will crash, three times in all."),
    ("sleeper", "worker.started", "It runs, but it is ready only once its output says `listening on`."),
    (
        "sleeper",
        "worker.exited",
        "It was not ready within start_timeout. A hang is a failed start: killed and tried again.",
    ),
    ("doomed", "worker.exited", "It cannot start. Its supervisor `lab` allows two restarts a minute."),
    (
        "doomed",
        "worker.parked",
        "Restarts did not help, so it is parked. Nobody else is touched; it is tried again by itself.",
    ),
    (
        "doomed",
        "worker.ready",
        "What hindered it is gone, and the trial start found out. Nobody had to do anything.",
    ),
    (
        "stubborn",
        "worker.stopping",
        "It ignores the signal that asks it to end, so it is killed after stop.timeout.",
    ),
    ("", "runtime.stopping", "Now everything ends, in the reverse order of the start."),
    ("client", "worker.stopped", "It ended before sleeper, on which it depends."),
];

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    make_room();
    let path = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
    make(&path)?;
    let scratch = Scratch::new(path, PREFIX);
    let file = fill(scratch.path())?;
    let loaded = load(&Sources { file: Some(file.clone()), ..Sources::default() })
        .map_err(|problems| Failure::Config(problems.render(false)))?;
    let intro = format!(
        "{}\nSix workers under two supervisors, about half a minute. Its configuration:\n\n{}\n",
        paint("regrow demo", bold()),
        indented(CONFIG)
    );
    // A terminal that was halted holds up neither signals nor the end.
    let mut screen = Screen::on(Stream::Out)?;
    screen.print(intro.strip_suffix('\n').unwrap_or(&intro));
    let socket = loaded.settings.runtime.state_dir.join(crate::http::SOCKET_NAME);
    let ended = block_on(async {
        let mut signals = Signals::new(context.held.take())?;
        let mut runtime = Foreground::start(loaded.settings, None, Registry::default()).await?;
        let names: Vec<String> =
            runtime.handle().info().settings().workers.iter().map(|worker| worker.name.to_string()).collect();
        let live = LiveLog::new(names.iter().map(String::as_str));
        let (before_the_end, mut tables) = tokio::sync::mpsc::channel(1);
        tokio::spawn(end_later(runtime.handle().clone(), socket, before_the_end));
        let mut news = News::default();
        let mut told = BTreeSet::new();
        let finished = runtime
            .attend(&mut signals, |_, happened| {
                let mut text = tables.try_recv().unwrap_or_default();
                match happened {
                    Happened::Events(events) => {
                        events.iter().for_each(|event| show(&mut text, &live, &mut news, &mut told, event));
                    }
                    Happened::Booted(_) | Happened::Signal(_) => {}
                }
                if let Some(lines) = text.strip_suffix('\n') {
                    screen.print(lines);
                }
                if screen.has_reader() { Ok(()) } else { Err(Failure::ReaderGone) }
            })
            .await;
        runtime.close();
        finished.map(drop)
    });
    drop(scratch);
    if ended.is_ok() {
        screen
            .print("\nNothing is left running, and the demo's folder is gone. Next: `regrow start -c FILE`.");
    }
    screen.close();
    ended
}

/// Shows how everything is, then asks for the end.
async fn end_later(handle: RuntimeHandle, socket: PathBuf, tables: tokio::sync::mpsc::Sender<String>) {
    tokio::time::sleep(LONG_ENOUGH).await;
    if let Ok(body) = Client::new(socket).get::<StatusBody>("/api/v1/status").await {
        let table = super::status::render(&body, Timestamp::now(), false, None);
        let _ = tables.send(format!("\n$ regrow status\n{table}\n")).await;
    }
    handle.shutdown(Asker("the demo".to_owned())).await;
}

/// Writes down what happened, and what that means.
fn show(text: &mut String, live: &LiveLog, news: &mut News, told: &mut BTreeSet<usize>, event: &EventView) {
    if !news.is(event) {
        return;
    }
    text.push_str(&format!("{}\n", live.line(event)));
    let who = event.instance.as_deref().unwrap_or_default();
    let fits = |(name, kind, _): &(&str, &str, &str)| (*name, *kind) == (who, event.kind.as_str());
    if let Some(at) = EXPLAINED.iter().position(fits)
        && told.insert(at)
    {
        text.push_str(&format!("{}\n", paint(&format!("              └ {}", EXPLAINED[at].2), dim())));
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// How its folder is called, before its pid.
const PREFIX: &str = "regrow-demo-";

/// Fills the demo's own folder; answers its configuration.
fn fill(dir: &Path) -> Result<PathBuf, Failure> {
    for name in ["crasher", "sleeper", "doomed"] {
        make(&dir.join(name))?;
    }
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text)
            .map(|()| path.clone())
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))
    };
    write(dir.join("doomed/began"), &Timestamp::now().as_second().to_string())?;
    write(dir.join("regrow.toml"), CONFIG)
}

/// A new folder that nobody else can write to; one that is there already is not ours.
fn make(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::Failed(format!("cannot make {}: {error}", path.display())))
}
