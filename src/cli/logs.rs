//! `regrow logs T…`: what workers wrote, unchanged for a file or a pipe, harmless for a terminal.
//!
//! Bytes that are no UTF-8 are replaced on the way; the files under `logs/` hold them exactly.

use std::collections::BTreeSet;

use anstyle::{AnsiColor, Style};
use clap::Args;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::http::dto::{LogLine, LogsBody};

use super::args::{Format, Targets};
use super::client::{Client, encode};
use super::context::{Context, block_on, parse_targets, with_schema};
use super::failure::Failure;
use super::say::say;
use super::status::fetch;
use super::table::paint;
use super::words::{csv, harmless_json, safe};
use crate::runtime::Target;

/// What the lines are a part of.
const SCHEMA: &str = "regrow.logs/1";

/// Colours of the names, in turn.
const COLOURS: [AnsiColor; 5] =
    [AnsiColor::Cyan, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::Yellow, AnsiColor::Green];

/// Options of `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    targets: Targets,
    /// Go on with what is written from now
    #[arg(long, short)]
    follow: bool,
    /// Only what was written since: `5m` ago, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = super::events::since)]
    since: Option<Timestamp>,
    /// The last N lines of each
    #[arg(long, short = 'n', value_name = "N")]
    tail: Option<usize>,
    /// Only lines that match
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
}

pub(crate) fn run(context: &mut Context, args: LogsArgs) -> Result<(), Failure> {
    let targets = parse_targets(&args.targets)?;
    let client = context.client()?;
    block_on(async {
        let instances = instances(&client, &targets).await?;
        let paths: Vec<_> = instances.iter().map(|instance| path(instance, &args)).collect();
        let printer = Printer::new(&instances, context);
        if args.follow {
            for instance in &instances {
                let path = format!("/api/v1/workers/{}/logs?tail=0", encode(instance));
                tell(&client.get::<LogsBody>(&path).await?.notes);
            }
            return follow(context, &client, &printer, paths).await;
        }
        let (mut items, mut notes) = (Vec::new(), Vec::new());
        for path in paths {
            let body: LogsBody = client.get(&path).await?;
            items.extend(body.items);
            notes.extend(body.notes);
        }
        let items = if instances.len() > 1 { by_time(items) } else { items };
        printer.all(context, items, notes)
    })
}

async fn instances(client: &Client, targets: &[Target]) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for target in targets {
        for worker in fetch(client, Some(target)).await?.workers {
            if seen.insert(worker.instance.clone()) {
                found.push(worker.instance);
            }
        }
    }
    Ok(found)
}

/// Lines of several instances in the order of their times; one without a time stays behind the one above it.
fn by_time(lines: Vec<LogLine>) -> Vec<LogLine> {
    let mut above: Option<(String, Timestamp)> = None;
    let mut timed: Vec<(Timestamp, LogLine)> = Vec::with_capacity(lines.len());
    for line in lines {
        let known = above.as_ref().filter(|(instance, _)| *instance == line.instance).map(|(_, at)| *at);
        let at = line.at.or(known).unwrap_or(Timestamp::MIN);
        above = Some((line.instance.clone(), at));
        timed.push((at, line));
    }
    timed.sort_by_key(|(at, _)| *at);
    timed.into_iter().map(|(_, line)| line).collect()
}

fn path(instance: &str, args: &LogsArgs) -> String {
    let mut query = Vec::new();
    query.extend(args.tail.map(|tail| format!("tail={tail}")));
    query.extend(args.since.map(|since| format!("since={}", encode(&since.to_string()))));
    query.extend(args.grep.as_deref().map(|grep| format!("grep={}", encode(grep))));
    format!("/api/v1/workers/{}/logs?{}", encode(instance), query.join("&"))
}

/// How a line is printed.
struct Printer {
    format: Format,
    terminal: bool,
    names: Vec<String>,
}

impl Printer {
    fn new(instances: &[String], context: &Context) -> Self {
        Self { format: context.format(), terminal: context.is_terminal(), names: instances.to_vec() }
    }

    fn all(&self, context: &mut Context, items: Vec<LogLine>, notes: Vec<String>) -> Result<(), Failure> {
        if matches!(self.format, Format::Json | Format::Jsonl) {
            let body = LogsBody { schema: SCHEMA.to_owned(), items, next_cursor: None, notes };
            return context.print_json(&body, &body.items);
        }
        tell(&notes);
        let header = if self.format == Format::Csv { "instance,at,line\n" } else { "" };
        let lines: String = items.iter().map(|line| self.line(line)).collect();
        self.print(context, &format!("{header}{lines}"))
    }

    fn line(&self, line: &LogLine) -> String {
        match self.format {
            Format::Json | Format::Jsonl => {
                let text = serde_json::to_string(line).unwrap_or_default();
                format!("{}\n", harmless_json(with_schema(text, &SCHEMA.into())))
            }
            Format::Csv => {
                let at = line.at.map(|at| format!("{at:.3}")).unwrap_or_default();
                format!("{},{at},{}\n", csv(&line.instance), csv(&line.line))
            }
            Format::Name => format!("{}\n", line.instance),
            Format::Table | Format::Wide => {
                // A file gets what was written; a terminal only what cannot command it.
                let text =
                    if self.terminal { safe(line.line.trim_end_matches('\r')) } else { line.line.clone() };
                format!("{}{text}\n", self.prefix(&line.instance))
            }
        }
    }

    /// Whose line it is, where there are several.
    fn prefix(&self, instance: &str) -> String {
        if self.names.len() < 2 {
            return String::new();
        }
        let at = self.names.iter().position(|name| name == instance).unwrap_or(0);
        let width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let style = Style::new().fg_color(Some(COLOURS[at % COLOURS.len()].into()));
        let name = format!("{instance:<width$} |");
        format!("{} ", if self.terminal { paint(&name, style) } else { name })
    }

    fn print(&self, context: &mut Context, text: &str) -> Result<(), Failure> {
        if self.terminal { context.print(text) } else { context.print_raw(text) }
    }
}

/// Beside the lines, which a pipe gets.
fn tell(notes: &[String]) {
    for note in notes {
        say(format_args!("regrow: {}", safe(note)));
    }
}

async fn follow(
    context: &mut Context,
    client: &Client,
    printer: &Printer,
    paths: Vec<String>,
) -> Result<(), Failure> {
    let (sender, mut lines) = mpsc::channel(256);
    for path in paths {
        let mut stream = client.stream(&path).await?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                let Ok(line) = serde_json::from_str::<LogLine>(&event.data) else { continue };
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    while let Some(line) = lines.recv().await {
        printer.print(context, &printer.line(&line))?;
    }
    Err(Failure::ended())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_stand_in_the_order_of_their_times() {
        let line = |instance: &str, second: Option<i64>, text: &str| LogLine {
            instance: instance.to_owned(),
            at: second.map(|second| Timestamp::from_second(second).unwrap()),
            line: text.to_owned(),
        };
        let lines = vec![
            line("a/0", None, "older than times"),
            line("a/0", Some(1), "one"),
            line("a/0", Some(3), "three"),
            line("a/0", None, "three goes on"),
            line("a/1", Some(2), "two"),
            line("a/1", Some(3), "three of the other"),
        ];
        let order: Vec<String> = by_time(lines).into_iter().map(|line| line.line).collect();
        assert_eq!(order, ["older than times", "one", "two", "three", "three goes on", "three of the other"]);
    }
}
