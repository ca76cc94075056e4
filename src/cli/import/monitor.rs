//! Thresholds and recovery settings of a worker monitor, as YAML, JSON, or `key = value`.
//!
//! They speak of all workers, so they become [defaults.worker] and [supervisor.root].

use super::broken::Broken;
use super::form::{Entry, Form, Section, Setting, Table, weave};
use super::ini::spans;
use super::node::{Document, Kind, Node, Pair};
use super::units::seconds;
use crate::cli::init::render::toml_text;
use crate::units::format_size;

/// Keys of such files.
const KEYS: [&str; 19] = [
    "check_interval",
    "max_retries",
    "retry_delay",
    "cpu_percent",
    "memory_mb",
    "error_rate",
    "queue_size",
    "default",
    "emergency",
    "cpu_threshold",
    "memory_threshold",
    "error_rate_threshold",
    "queue_backlog_threshold",
    "health_check_interval",
    "heartbeat_timeout",
    "restart_cooldown",
    "max_restart_attempts",
    "failure_threshold",
    "timeout",
];

/// Whether it has any of them.
pub(super) fn fits(node: &Node) -> bool {
    node.pairs().iter().any(|pair| KEYS.contains(&pair.key.as_str()) || fits(&pair.value))
}

/// Whether it looks like lines of `key = value`.
pub(super) fn fits_lines(text: &str) -> bool {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
    text.lines().filter_map(key).any(|key| KEYS.contains(&key.as_str()))
}

/// Lines of `key = value`, with comments behind `#`.
///
/// # Errors
/// The first line that is neither.
pub(super) fn lines(text: &str) -> Result<Document, Broken> {
    let (mut pairs, mut comments) = (Vec::new(), Vec::new());
    for span in spans(text) {
        let line = &text[span.clone()];
        let code = line.split('#').next().unwrap_or_default();
        if code.len() < line.len() {
            let start = span.start + code.len();
            comments.push((start..span.end, line[code.len()..].trim_end().to_owned()));
        }
        if code.trim().is_empty() {
            continue;
        }
        let start = span.start + (code.len() - code.trim_start().len());
        let end = span.start + code.trim_end().len();
        let Some((key, value)) = code.split_once('=') else {
            return Err(Broken::new(start, "this is no `key = value`"));
        };
        let value = value.trim().trim_matches(['"', '\'']);
        let kind = if value.parse::<f64>().is_ok() {
            Kind::Number(value.to_owned())
        } else {
            Kind::Text(value.to_owned())
        };
        let value = Node { span: end..end, kind };
        pairs.push(Pair { key: key.trim().to_owned(), span: start..end, value });
    }
    let root = Node { span: 0..text.len(), kind: Kind::Map(pairs) };
    Ok(Document { root, comments, code: Vec::new() })
}

/// Adds what the file says.
pub(super) fn read(form: &mut Form, file: &str, text: &str, document: &Document) {
    let heading = format!("From {file}, settings of a worker monitor; they hold for all workers.");
    let mut sections = vec![Section::new(Table::None, heading)];
    walk(form, &mut sections[0], text, &document.root);
    for span in &document.code {
        let code = text[span.clone()].trim();
        if !code.is_empty() {
            sections[0].push(Entry::kept(code).at(span.clone()));
        }
    }
    weave(&mut sections, text, &document.comments);
    form.sections.extend(sections);
}

fn walk(form: &mut Form, section: &mut Section, text: &str, node: &Node) {
    for pair in node.pairs() {
        let raw = &text[pair.span.clone()];
        if !pair.value.pairs().is_empty() {
            let key =
                pair.span.start..(pair.span.start + raw.find([':', '=']).map_or(pair.key.len(), |at| at + 1));
            section.push(Entry::kept(text.get(key.clone()).unwrap_or(&pair.key)).at(key));
            walk(form, section, text, &pair.value);
            continue;
        }
        section.push(told(form, raw, pair).at(pair.span.clone()));
    }
}

fn told(form: &mut Form, raw: &str, pair: &Pair) -> Entry {
    let number = pair.value.number();
    let scalar = pair.value.scalar().unwrap_or_default();
    let Some(target) = target(&pair.key, number, &scalar) else {
        let known = KEYS.contains(&pair.key.as_str());
        let why = if known { "this value makes no sense to regrow" } else { "regrow knows no such key" };
        return Entry::left(raw, why);
    };
    let (place, entries, setting) = match target {
        Target::Defaults(setting) => ("[defaults.worker]", &mut form.defaults, setting),
        Target::Root(setting) => ("[supervisor.root]", &mut form.root, setting),
        Target::Ladder(setting) => ("[ladder.default]", &mut form.ladder, setting),
        Target::Step(strategy) => {
            step(&mut form.ladder, raw, &pair.key, &strategy);
            return Entry::same(raw, "a step of [ladder.default], above");
        }
        Target::Left(why) => return Entry::left(raw, why),
    };
    let why = format!("{} in {place}, above", setting.key);
    entries.push(Entry::taken(raw, [setting]));
    Entry::same(raw, why)
}

/// Puts the usual strategy before that of emergencies, and both before giving up for now.
fn step(ladder: &mut Vec<Entry>, raw: &str, key: &str, strategy: &str) {
    const KEY: &str = "steps";
    const LAST: &str = "{ do = \"quarantine\" }";
    let own = match key {
        "default" => format!("{{ do = {}, attempts = 3 }}", toml_text(strategy)),
        _ => format!("{{ do = {}, attempts = 2 }}", toml_text(strategy)),
    };
    let written = |steps: &str| Setting::raw(KEY, format!("[{steps}, {LAST}]"));
    let known = ladder.iter_mut().find(|entry| entry.sets.iter().any(|set| set.key == KEY));
    let Some(entry) = known else {
        return ladder.push(Entry::taken(raw, [written(&own)]));
    };
    let before = entry.sets.first().map(|set| set.value.as_str()).unwrap_or_default();
    let before =
        before.trim_start_matches('[').trim_end_matches(']').trim_end_matches(LAST).trim_end_matches(", ");
    let steps = if key == "default" { format!("{own}, {before}") } else { format!("{before}, {own}") };
    entry.sets = vec![written(&steps)];
    entry.from = format!("{}\n{raw}", entry.from);
}

/// Where a key belongs.
enum Target {
    Defaults(Setting),
    Root(Setting),
    Ladder(Setting),
    /// A strategy of recovery.
    Step(String),
    Left(String),
}

fn target(key: &str, number: Option<f64>, text: &str) -> Option<Target> {
    let time = number.and_then(|number| seconds(&number.to_string()));
    let percent = number.filter(|number| (0.0..=100.0).contains(number));
    // 90 % and 0.9 mean the same.
    let ratio = percent.map(|number| if number > 1.0 { number / 100.0 } else { number });
    let probe = |what: String| {
        Target::Left(format!("it belongs to a probe, of which regrow has many: [worker.NAME.probe.X] {what}"))
    };
    let later =
        |what: &str, key: String| Target::Left(format!("this build has no {what} yet; it will be {key}"));
    Some(match key {
        "check_interval" | "health_check_interval" => probe(format!("period = \"{}\"", time?)),
        "timeout" => probe(format!("timeout = \"{}\"", time?)),
        "failure_threshold" => probe(format!("failure_threshold = {}", number?)),
        "heartbeat_timeout" => Target::Left(format!(
            "for workers that send heartbeats: [worker.NAME.heartbeat] lost = \"{}\"; it would be asked of all here",
            time?
        )),
        "max_retries" | "max_restart_attempts" => {
            let count = number.filter(|count| *count >= 0.0 && count.fract() == 0.0)?;
            Target::Root(Setting::raw("intensity.max_restarts", format!("{count}")))
        }
        "retry_delay" => Target::Defaults(Setting::text("backoff.first", &time?)),
        "restart_cooldown" | "cooldown" => Target::Ladder(Setting::text("cooldown", &time?)),
        "cpu_percent" | "cpu_threshold" => {
            Target::Defaults(Setting::raw("threshold.cpu.warn", format!("{:?}", ratio?)))
        }
        "memory_threshold" => {
            Target::Defaults(Setting::raw("threshold.memory.warn", format!("{:?}", ratio?)))
        }
        "memory_mb" => {
            let bytes = number.filter(|number| (0.0..=1e9).contains(number))? * 1024.0 * 1024.0;
            Target::Defaults(Setting::text("threshold.memory.warn_bytes", &format_size(bytes as u64)))
        }
        "error_rate" => later("error rates", format!("threshold.error_rate = {{ crit = {} }}", ratio?)),
        "error_rate_threshold" if number.is_some_and(|rate| (0.2..=1e6).contains(&rate)) => {
            Target::Defaults(Setting::raw("threshold.errors_per_minute.warn", format!("{:?}", number?)))
        }
        "error_rate_threshold" => Target::Left(
            "errors by the minute can be watched from 0.2 on: threshold.errors_per_minute.warn".to_owned(),
        ),
        "queue_size" | "queue_backlog_threshold" => {
            later("queues", format!("[queue.NAME] backlog = {{ warn = {} }}", number?))
        }
        "default" | "emergency" if !text.is_empty() => Target::Step(text.to_owned()),
        _ => return None,
    })
}
