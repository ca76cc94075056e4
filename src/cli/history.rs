//! `regrow history` and `regrow export`: what workers were like in the last days.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::http::dto::{HistoryBody, InstanceHistory, PointView};

use super::args::Format;
use super::client::encode;
use super::context::{Context, block_on};
use super::failure::Failure;
use super::table::{Cell, Table, status_style};
use super::words::{self, csv};

/// Options of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Worker or instance; without one, a line for everybody
    worker: Option<String>,
    /// How far back
    #[arg(long, value_name = "HOURS", default_value_t = 24.0)]
    hours: f64,
}

/// Options of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// What
    #[arg(value_enum, default_value_t)]
    what: What,
    /// As one JSON document, which is how it is written anyway
    #[arg(long)]
    json: bool,
    /// How far back
    #[arg(long, value_name = "HOURS", default_value_t = 168.0)]
    hours: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum What {
    /// Every point of health that was kept
    #[default]
    History,
    /// All that was learned about recovery, for another host
    Strategies,
}

/// A week of a thousand workers is read in some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines that a span is told in.
const LINES: usize = 24;

pub(crate) fn run(context: &mut Context, args: HistoryArgs) -> Result<(), Failure> {
    let one = args.worker.is_some();
    let body = ask(context, args.worker.as_deref(), args.hours)?;
    match context.format() {
        Format::Json => context.print_json(&body, &body.items),
        Format::Jsonl => {
            let lines: Vec<serde_json::Value> = body.items.iter().flat_map(flat).collect();
            context.print_json(&body, &lines)
        }
        Format::Csv => context.print(&comma_separated(&body)),
        Format::Name => {
            let names: String = body.items.iter().map(|item| format!("{}\n", item.instance)).collect();
            context.print(&names)
        }
        Format::Table | Format::Wide if one => {
            let text = of_one(&body, Timestamp::now(), &TimeZone::system(), context.width());
            context.print(&text)
        }
        Format::Table | Format::Wide => {
            let text = of_all(&body, context.width());
            context.print(&text)
        }
    }
}

pub(crate) fn export(context: &mut Context, args: ExportArgs) -> Result<(), Failure> {
    let ExportArgs { what, json, hours } = args;
    let csv = context.format() == Format::Csv && !json;
    if what == What::Strategies && csv {
        let text = "for another host it is one JSON document; `regrow strategies -o csv` is the table of it";
        return Err(Failure::Usage(text.to_owned()));
    }
    if what == What::Strategies {
        return super::strategies::export(context);
    }
    let body = ask(context, None, hours)?;
    if csv {
        return context.print(&comma_separated(&body));
    }
    context.print_json(&body, &body.items)
}

fn ask(context: &Context, worker: Option<&str>, hours: f64) -> Result<HistoryBody, Failure> {
    let client = context.client()?;
    let worker = worker.map_or_else(String::new, |worker| format!("&worker={}", encode(worker)));
    block_on(client.get_within(&format!("/api/v1/history?hours={hours}{worker}"), PATIENCE))
}

fn flat(item: &InstanceHistory) -> impl Iterator<Item = serde_json::Value> + '_ {
    item.points.iter().map(|point| {
        serde_json::json!({
            "instance": item.instance,
            "at": point.at,
            "status": point.status,
            "score": point.score,
            "cpu_percent": point.cpu_percent,
            "memory_bytes": point.memory_bytes,
            "samples": point.samples,
        })
    })
}

fn comma_separated(body: &HistoryBody) -> String {
    let mut out = String::from("instance,at,status,score,cpu_percent,memory_bytes,samples\n");
    for item in &body.items {
        for point in &item.points {
            let text = |value: Option<String>| value.unwrap_or_default();
            let fields = [
                item.instance.clone(),
                point.at.to_string(),
                point.status.clone(),
                text(point.score.map(|score| score.to_string())),
                text(point.cpu_percent.map(|percent| percent.to_string())),
                text(point.memory_bytes.map(|bytes| bytes.to_string())),
                point.samples.to_string(),
            ];
            out.push_str(&fields.map(|field| csv(&field)).join(","));
            out.push('\n');
        }
    }
    out
}

/// Several points as one.
struct Sum {
    status: String,
    score: Option<f64>,
    cpu: Option<f64>,
    memory: Option<u64>,
    samples: u64,
    /// The share of samples that were well.
    well: Option<f64>,
}

impl Sum {
    fn of(points: &[PointView]) -> Self {
        let mean = |figure: fn(&PointView) -> Option<f64>| {
            let known: Vec<(f64, f64)> =
                points.iter().filter_map(|point| Some((figure(point)?, f64::from(point.samples)))).collect();
            let weight: f64 = known.iter().map(|(_, samples)| samples).sum();
            (weight > 0.0).then(|| known.iter().map(|(value, samples)| value * samples).sum::<f64>() / weight)
        };
        let samples: u64 = points.iter().map(|point| u64::from(point.samples)).sum();
        let well: u64 =
            points.iter().filter(|point| is_well(&point.status)).map(|point| u64::from(point.samples)).sum();
        Self {
            status: most_of(points),
            score: mean(|point| point.score),
            cpu: mean(|point| point.cpu_percent),
            memory: points.iter().filter_map(|point| point.memory_bytes).max(),
            samples,
            well: (samples > 0).then(|| well as f64 / samples as f64),
        }
    }

    fn figures(&self) -> Vec<Cell> {
        let text = |value: Option<String>| Cell::figure(value.unwrap_or_else(|| "-".to_owned()));
        vec![
            text(self.well.map(|well| format!("{:.1} %", well * 100.0))),
            text(self.score.map(|score| format!("{score:.2}"))),
            text(self.cpu.map(|cpu| format!("{cpu:.1} %"))),
            text(self.memory.map(words::size)),
            Cell::figure(words::count(self.samples)),
        ]
    }
}

fn is_well(status: &str) -> bool {
    matches!(status, "healthy" | "working")
}

/// The status that it had most of the time.
fn most_of(points: &[PointView]) -> String {
    let mut seen: Vec<(&str, u64)> = Vec::new();
    for point in points {
        match seen.iter_mut().find(|(status, _)| *status == point.status) {
            Some((_, count)) => *count += u64::from(point.samples),
            None => seen.push((&point.status, u64::from(point.samples))),
        }
    }
    seen.into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or_else(|| "-".to_owned(), |(status, _)| status.to_owned())
}

/// Everybody, one line each.
fn of_all(body: &HistoryBody, width: Option<usize>) -> String {
    let mut table = Table::new(&["INSTANCE", "HEALTHY", "SCORE", "CPU", "MEMORY MAX", "SAMPLES", "MOSTLY"]);
    for item in &body.items {
        let sum = Sum::of(&item.points);
        let mut row = vec![Cell::new(item.instance.clone())];
        row.extend(sum.figures());
        row.push(Cell::new(sum.status.clone()).styled(status_style(&sum.status)));
        table.row(row);
    }
    table.render(width)
}

/// The instances of one worker, a few lines for the whole time.
fn of_one(body: &HistoryBody, now: Timestamp, zone: &TimeZone, width: Option<usize>) -> String {
    let mut out = String::new();
    for item in &body.items {
        if body.items.len() > 1 {
            out.push_str(&format!("{}\n", item.instance));
        }
        if item.points.is_empty() {
            out.push_str("nothing was kept of this time; the first sample comes seconds after a start\n");
            continue;
        }
        let mut table = Table::new(&["FROM", "HEALTHY", "SCORE", "CPU", "MEMORY MAX", "SAMPLES", "MOSTLY"]);
        for points in spans(&item.points, body.hours) {
            let Some(first) = points.first() else { continue };
            let sum = Sum::of(points);
            let mut row = vec![Cell::new(words::clock(first.at, now, zone))];
            row.extend(sum.figures());
            row.push(Cell::new(sum.status.clone()).styled(status_style(&sum.status)));
            table.row(row);
        }
        out.push_str(&table.render(width));
    }
    out
}

/// The points in stretches of equal length.
fn spans(points: &[PointView], hours: f64) -> impl Iterator<Item = &[PointView]> {
    let length = (hours * 3600.0 / LINES as f64).max(1.0) as i64;
    points.chunk_by(move |one, next| one.at.as_second() / length == next.at.as_second() / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(second: i64, status: &str, samples: u32) -> PointView {
        PointView {
            at: Timestamp::from_second(1_700_000_000 + second).unwrap(),
            status: status.to_owned(),
            score: Some(if status == "healthy" { 1.0 } else { 0.0 }),
            cpu_percent: Some(10.0),
            memory_bytes: Some(1 << 20),
            samples,
        }
    }

    fn body() -> HistoryBody {
        let points = vec![point(0, "healthy", 6), point(60, "healthy", 6), point(7200, "dead", 4)];
        let item = |instance: &str, points| InstanceHistory {
            worker: "web".to_owned(),
            instance: instance.to_owned(),
            points,
        };
        HistoryBody {
            schema: "regrow.history/1".to_owned(),
            hours: 24.0,
            items: vec![item("web/0", points), item("web/1", Vec::new())],
            next_cursor: None,
        }
    }

    #[test]
    fn a_day_is_told_in_a_few_lines() {
        let now = Timestamp::from_second(1_700_000_000 + 10_000).unwrap();
        let text = of_one(&body(), now, &TimeZone::UTC, None);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            plain,
            "web/0\n\
             FROM                 HEALTHY  SCORE     CPU  MEMORY MAX  SAMPLES  MOSTLY\n\
             2023-11-14 22:13:20  100.0 %   1.00  10.0 %     1.0 MiB       12  healthy\n\
             00:13:20               0.0 %   0.00  10.0 %     1.0 MiB        4  dead\n\
             web/1\n\
             nothing was kept of this time; the first sample comes seconds after a start\n"
        );
    }

    #[test]
    fn everybody_has_one_line_and_the_csv_has_every_point() {
        let plain = anstream::adapter::strip_str(&of_all(&body(), None)).to_string();
        assert!(plain.contains("web/0      75.0 %   0.75  10.0 %     1.0 MiB       16  healthy"), "{plain}");
        assert!(plain.contains("web/1           -      -       -           -        0  -"), "{plain}");
        assert_eq!(comma_separated(&body()).lines().count(), 4);
    }
}
