//! Thresholds and recovery settings of a worker monitor, as YAML, JSON, or `key = value`.
//!
//! They speak of all workers, so they become [defaults.worker] and [supervisor.root].

use super::broken::Broken;
use super::form::{Entry, Form, Section, Setting, Table, weave};
use super::ini::spans;
use super::node::{Document, Kind, Node, Pair};
use super::units::seconds;

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
    match target {
        Target::Defaults(setting) => {
            let why = format!("{} in [defaults.worker], above", setting.key);
            form.defaults.push(Entry::taken(raw, [setting]));
            Entry::same(raw, why)
        }
        Target::Root(setting) => {
            let why = format!("{} in [supervisor.root], above", setting.key);
            form.root.push(Entry::taken(raw, [setting]));
            Entry::same(raw, why)
        }
        Target::Left(why) => Entry::left(raw, why),
    }
}

/// Where a key belongs.
enum Target {
    Defaults(Setting),
    Root(Setting),
    Left(String),
}

fn target(key: &str, number: Option<f64>, text: &str) -> Option<Target> {
    let time = number.and_then(|number| seconds(&number.to_string()));
    let percent = number.filter(|number| (0.0..=100.0).contains(number));
    // 90 % and 0.9 mean the same.
    let ratio = percent.map(|number| if number > 1.0 { number / 100.0 } else { number });
    let probe = |what: String| Target::Left(format!("this build has no probes yet; they will take {what}"));
    let threshold =
        |what: String| Target::Left(format!("this build has no thresholds yet; they will be {what}"));
    let ladder =
        |what: String| Target::Left(format!("this build has no recovery steps yet; they will be {what}"));
    Some(match key {
        "check_interval" | "health_check_interval" => probe(format!("period = \"{}\"", time?)),
        "timeout" => probe(format!("timeout = \"{}\"", time?)),
        "failure_threshold" => probe(format!("failure_threshold = {}", number?)),
        "max_retries" | "max_restart_attempts" => {
            let count = number.filter(|count| *count >= 0.0 && count.fract() == 0.0)?;
            Target::Root(Setting::raw("intensity.max_restarts", format!("{count}")))
        }
        "retry_delay" => Target::Defaults(Setting::text("backoff.first", &time?)),
        "restart_cooldown" => ladder(format!("[ladder.default] cooldown = \"{}\"", time?)),
        "cpu_percent" | "cpu_threshold" => threshold(format!("threshold.cpu = {{ warn = {} }}", ratio?)),
        "memory_threshold" => threshold(format!("threshold.memory = {{ warn = {} }}", ratio?)),
        "memory_mb" => threshold(format!("threshold.memory = {{ warn_bytes = \"{}MiB\" }}", number?)),
        "error_rate" => threshold(format!("threshold.error_rate = {{ crit = {} }}", ratio?)),
        "error_rate_threshold" => {
            threshold(format!("threshold.errors_per_minute = {{ warn = {} }}", number?))
        }
        "queue_size" | "queue_backlog_threshold" => {
            let what = number?;
            Target::Left(format!(
                "this build has no queues yet; they will take backlog = {{ warn = {what} }}"
            ))
        }
        "heartbeat_timeout" => {
            let what = time?;
            Target::Left(format!(
                "this build has no heartbeats yet; they will be [worker.NAME.heartbeat] lost = \"{what}\""
            ))
        }
        "default" | "emergency" if !text.is_empty() => {
            let place = if key == "default" { "first" } else { "second" };
            ladder(format!("[ladder.default] steps, the {place} one {{ do = \"{text}\" }}"))
        }
        _ => return None,
    })
}
