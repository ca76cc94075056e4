//! What one value may be: its type, its range, its words.
//!
//! Nothing is coerced: `3.7` is no count and `"5"` no number, because a value that is silently bent is an
//! outage that nobody can find. The one exception is a whole number where a ratio or factor is expected.

use std::net::SocketAddr;

use toml::de::DeValue;

use crate::exit::{signal_name, signal_number};
use crate::id::Name;
use crate::units::{parse_duration, parse_size};

use super::diagnostic::quoted;
use super::placeholder::{PLACEHOLDERS, PlaceholderError, expand, fill_pid};
use super::schema::Key;
use super::suggest::nearest;

/// Longest time that makes sense anywhere; keeps every sum of times far from overflow.
const MAX_DAYS: u64 = 3650;
/// Compiled size of a regex; a pattern that needs more would slow every line of output down.
const MAX_REGEX: usize = 1 << 20;

/// The type of one value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf {
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    Text(Text),
    /// A list of texts.
    Texts(Text),
    /// A list of tables of fixed keys.
    Tables(&'static [Key]),
    /// A list of whole numbers.
    Integers {
        min: i64,
        max: i64,
    },
}

/// What a text must say.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text {
    /// Anything on one line.
    Line,
    /// Anything without NUL, which no system call would take.
    Any,
    /// `250ms 5s 2m 1h 7d`; zero only if allowed.
    Duration { zero: bool },
    /// The same, or `never`.
    DurationOrNever,
    /// `64KiB`.
    Size { min: u64, max: u64 },
    /// Text with `{placeholders}`.
    Template,
    /// The same for a command beside a worker, which may name its `{pid}`.
    Beside,
    /// The name of a recovery strategy, a built-in one or one's own.
    Strategy,
    /// The name of a ladder, or `none`.
    Ladder,
    /// A regex over bytes.
    Regex,
    /// A signal's name.
    Signal,
    /// Octal mode bits.
    Mode,
    /// Octal permissions to take away.
    Umask,
    /// `IP:PORT`, or empty for none.
    Address,
    /// `200-299,404`.
    Statuses,
    /// `info` or `regrow=debug,warn`.
    LogFilter,
    /// One of these; the second word is what it means.
    Word(&'static [(&'static str, &'static str)]),
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Follows the key in the title: ``cannot be `x` ``.
    pub(super) says: String,
    /// Stands beside the caret.
    pub(super) label: Option<String>,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(says: impl Into<String>) -> Self {
        Self { says: says.into(), label: None, help: None }
    }

    fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

impl Leaf {
    /// What it takes, for messages: "a duration such as `5s`".
    pub(super) fn expects(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::Number { .. } => "a number".to_owned(),
            Self::Text(text) => text.expects(),
            Self::Texts(_) => "a list of texts".to_owned(),
            Self::Tables(_) => "a list of tables".to_owned(),
            Self::Integers { .. } => "a list of whole numbers".to_owned(),
        }
    }
}

/// The type is wrong; often it is clear what was meant.
pub(super) fn wrong_type(leaf: &Leaf, value: &DeValue<'_>) -> Fault {
    let fault = Fault::new(format!("must be {}, not {}", leaf.expects(), type_name(value)));
    match (leaf, value) {
        (Leaf::Text(Text::Duration { .. } | Text::DurationOrNever), DeValue::Integer(number)) => {
            fault.help(format!("write `\"{number}s\"` for seconds"))
        }
        (Leaf::Text(Text::Mode | Text::Umask), DeValue::Integer(number)) => {
            fault.help(format!("write it in quotes: `\"{:0>4}\"`", number.as_str()))
        }
        (Leaf::Texts(Text::Template | Text::Beside), DeValue::String(line)) => {
            let words: Vec<String> = line.split_whitespace().map(|word| format!("{word:?}")).collect();
            fault.help(format!("one text per argument, no shell: `[{}]`", words.join(", ")))
        }
        (Leaf::Tables(_), DeValue::Table(_)) => fault.help("a list: `[{ … }]`, or `[[…]]` as a heading"),
        (Leaf::Integers { .. }, DeValue::Integer(number)) => fault.help(format!("write `[{number}]`")),
        (Leaf::Texts(_), DeValue::String(one)) => fault.help(format!("write `[{one:?}]`")),
        (Leaf::Bool, DeValue::String(_)) => fault.help("write it without quotes"),
        (Leaf::Integer { .. } | Leaf::Number { .. }, DeValue::String(_)) => {
            fault.help("write it without quotes")
        }
        _ => fault,
    }
}

pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A whole number within its range.
pub(super) fn check_integer(value: i64, min: i64, max: i64) -> Result<i64, Fault> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Fault::new(format!("cannot be {value}")).label(format!("expected {min} to {max}")))
}

/// A number within its range.
pub(super) fn check_number(value: f64, min: f64, max: f64) -> Result<f64, Fault> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    let expected =
        if max >= 1e6 { format!("expected at least {min}") } else { format!("expected {min} to {max}") };
    Err(Fault::new(format!("cannot be {value}")).label(expected))
}

impl Text {
    fn expects(&self) -> String {
        match self {
            Self::Line | Self::Any | Self::Template | Self::Beside => "a text".to_owned(),
            Self::Strategy => "the name of a strategy such as `\"soft_restart\"`".to_owned(),
            Self::Ladder => "`default`, `none`, or the name of a [ladder.NAME]".to_owned(),
            Self::Duration { .. } => "a duration such as `\"5s\"`".to_owned(),
            Self::DurationOrNever => "a duration such as `\"5s\"`, or `\"never\"`".to_owned(),
            Self::Size { .. } => "a size such as `\"20MiB\"`".to_owned(),
            Self::Regex => "a regex in quotes".to_owned(),
            Self::Signal => "a signal such as `\"TERM\"`".to_owned(),
            Self::Mode => "octal mode bits in quotes, such as `\"0600\"`".to_owned(),
            Self::Umask => "octal permissions in quotes, such as `\"077\"`".to_owned(),
            Self::Address => "an address such as `\"127.0.0.1:8080\"`".to_owned(),
            Self::Statuses => "status codes such as `\"200-399\"`".to_owned(),
            Self::LogFilter => "a log level such as `\"info\"`".to_owned(),
            Self::Word(words) => format!("one of {}", one_of(words)),
        }
    }

    /// Checks a text and gives back what is kept of it: the word a synonym stands for, else the text.
    pub(super) fn check(&self, text: &str) -> Result<String, Fault> {
        if text.contains('\0') {
            return Err(Fault::new("holds a NUL character, which no system call takes"));
        }
        match self {
            Self::Any => {}
            Self::Line => check_line(text)?,
            Self::Duration { zero } => check_duration(text, *zero)?,
            Self::DurationOrNever if text == "never" => {}
            Self::DurationOrNever => check_duration(text, false).map_err(|fault| {
                if nearest(text, ["never"]).is_some() { fault.help("did you mean `never`?") } else { fault }
            })?,
            Self::Size { min, max } => check_size(text, *min, *max)?,
            Self::Template => check_template(text)?,
            Self::Beside => check_template(&fill_pid(text, ""))?,
            Self::Strategy => return check_strategy(text),
            Self::Ladder => check_ladder(text)?,
            Self::Regex => check_regex(text)?,
            Self::Signal => return check_signal(text),
            Self::Mode => check_mode(text)?,
            Self::Umask => check_umask(text)?,
            Self::Address => check_address(text)?,
            Self::Statuses if super::probes::StatusRange::parse_all(text).is_some() => {}
            Self::Statuses => {
                return Err(
                    Fault::new("is no list of status codes").help("`200-399`, `204` or `200-299,404`")
                );
            }
            Self::LogFilter => check_log_filter(text)?,
            Self::Word(words) => return check_word(text, words),
        }
        Ok(text.to_owned())
    }
}

fn check_line(text: &str) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(Fault::new("cannot be empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Fault::new("cannot hold control characters"));
    }
    if text.len() > 255 {
        return Err(Fault::new(format!("has {} bytes", text.len())).label("expected at most 255"));
    }
    Ok(())
}

fn check_duration(text: &str, zero: bool) -> Result<(), Fault> {
    let duration = parse_duration(text).map_err(|error| {
        let fault = Fault::new(format!("is no duration: {error}"));
        match duration_hint(text) {
            Some(hint) => fault.help(hint),
            None => fault,
        }
    })?;
    if duration.is_zero() && !zero {
        return Err(Fault::new("cannot be zero").label("expected more than zero"));
    }
    if duration.as_secs() > MAX_DAYS * 86_400 {
        return Err(Fault::new("is too long").label(format!("expected at most {MAX_DAYS}d")));
    }
    Ok(())
}

/// What somebody who wrote this probably wants.
fn duration_hint(text: &str) -> Option<String> {
    let trimmed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if parse_duration(&trimmed).is_ok() {
        return Some(format!("write it without spaces: `\"{trimmed}\"`"));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("add a unit: `\"{text}s\"` for seconds"));
    }
    let digits = trimmed.bytes().filter(u8::is_ascii_digit).count();
    (digits > 0)
        .then(|| "one whole number and one unit: `90m` for an hour and a half, `1500ms` for 1.5 s".into())
}

fn check_size(text: &str, min: u64, max: u64) -> Result<(), Fault> {
    let size = parse_size(text).map_err(|error| {
        let fault = Fault::new(format!("is no size: {error}"));
        match size_hint(text) {
            Some(hint) => fault.help(hint),
            None => fault,
        }
    })?;
    if (min..=max).contains(&size) {
        return Ok(());
    }
    let (min, max) = (crate::units::format_size(min), crate::units::format_size(max));
    Err(Fault::new(format!("cannot be {}", quoted(text))).label(format!("expected {min} to {max}")))
}

/// What somebody who wrote this probably wants: `1 GiB`, `512M`, `1gb`.
fn size_hint(text: &str) -> Option<String> {
    let packed: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if parse_size(&packed).is_ok() {
        return Some(format!("write it without spaces: `\"{packed}\"`"));
    }
    let number = packed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match packed.get(number.len()..)?.to_ascii_lowercase().as_str() {
        "" => "B",
        "k" | "kb" | "kib" => "KiB",
        "m" | "mb" | "mib" => "MiB",
        "g" | "gb" | "gib" => "GiB",
        "t" | "tb" | "tib" => "TiB",
        _ => return None,
    };
    let meant = format!("{number}{unit}");
    parse_size(&meant).is_ok().then(|| format!("did you mean `{meant}`?"))
}

fn check_template(text: &str) -> Result<(), Fault> {
    match expand(text, |_| None) {
        Ok(_) => Ok(()),
        Err(error @ PlaceholderError::Open) => {
            Err(Fault::new(format!("cannot be used: {error}")).help("`{{` stands for a brace itself"))
        }
        Err(PlaceholderError::Unknown(name)) => {
            let fault = Fault::new(format!("has an unknown placeholder {}", quoted(&format!("{{{name}}}"))));
            Err(match nearest(&name, PLACEHOLDERS) {
                Some(word) => {
                    fault.help(format!("did you mean `{{{word}}}`? `{{{{` stands for a brace itself"))
                }
                None => fault.help(format!(
                    "there are {}; `{{{{` stands for a brace itself",
                    PLACEHOLDERS.map(|word| format!("`{{{word}}}`")).join(" ")
                )),
            })
        }
    }
}

/// Gives back the name that a synonym stands for.
fn check_strategy(text: &str) -> Result<String, Fault> {
    use crate::recovery::Strategy;
    Strategy::parse(text).map(|strategy| strategy.word().to_owned()).ok_or_else(|| {
        let fault = Fault::new(format!("cannot be {}", quoted(text)));
        match nearest(text, Strategy::KNOWN.iter().map(Strategy::word)) {
            Some(word) => fault.help(format!("did you mean `{word}`?")),
            None => fault.help("a built-in strategy, or the name of a [strategy.NAME]"),
        }
    })
}

fn check_ladder(text: &str) -> Result<(), Fault> {
    let fault =
        |_| Fault::new(format!("cannot be {}", quoted(text))).help("a-z, 0-9, - and _, such as `default`");
    Name::try_new(text).map(|_| ()).map_err(fault)
}

fn check_regex(text: &str) -> Result<(), Fault> {
    let built = regex::bytes::RegexBuilder::new(text).size_limit(MAX_REGEX).build();
    built.map(|_| ()).map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Fault::new(format!("is no regex: {last}"))
    })
}

fn check_signal(text: &str) -> Result<String, Fault> {
    const COMMON: [&str; 8] = ["TERM", "INT", "QUIT", "HUP", "KILL", "USR1", "USR2", "WINCH"];
    match signal_number(text) {
        Some(number) => Ok(signal_name(number)),
        None => {
            let fault = Fault::new(format!("cannot be {}, which is no signal", quoted(text)));
            Err(match nearest(text.trim_start_matches("SIG"), COMMON) {
                Some(word) => fault.help(format!("did you mean `{word}`?")),
                None => fault.help("write its name: TERM, INT, QUIT, HUP, KILL, USR1, USR2"),
            })
        }
    }
}

fn check_mode(text: &str) -> Result<(), Fault> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if !octal || text.len() == 4 && !text.starts_with('0') {
        return Err(Fault::new(format!("cannot be {}", quoted(text)))
            .label("expected octal mode bits such as `0600` or `0660`"));
    }
    // The socket's authority is its peer's uid; a mode open to everybody would only invite confusion.
    if !text.ends_with('0') {
        return Err(Fault::new(format!("cannot be {}", quoted(text)))
            .label("the last digit must be 0: nothing for other users"));
    }
    Ok(())
}

fn check_umask(text: &str) -> Result<(), Fault> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if octal && (text.len() == 3 || text.starts_with('0')) {
        return Ok(());
    }
    Err(Fault::new(format!("cannot be {}", quoted(text)))
        .label("expected octal permissions such as `077` or `022`"))
}

fn check_address(text: &str) -> Result<(), Fault> {
    if text.is_empty() || text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let fault = Fault::new(format!("is no address: {}", quoted(text)));
    let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    Err(match port {
        Some(port) => fault.help(format!("an IP and a port: `127.0.0.1:{port}` or `[::1]:{port}`")),
        None => fault.help("an IP and a port, such as `127.0.0.1:8080`; `\"\"` for none"),
    })
}

fn check_log_filter(text: &str) -> Result<(), Fault> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let level = directive.rsplit('=').next().unwrap_or_default();
        if !LEVELS.contains(&level) {
            let fault = Fault::new(format!("cannot be {}", quoted(text)))
                .label("expected a level, or TARGET=LEVEL, with commas between");
            return Err(match nearest(level, LEVELS) {
                Some(word) => fault.help(format!("did you mean `{word}`?")),
                None => fault.help("the levels are off, error, warn, info, debug, trace"),
            });
        }
    }
    Ok(())
}

fn check_word(text: &str, words: &[(&'static str, &'static str)]) -> Result<String, Fault> {
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == text) {
        return Ok((*meant).to_owned());
    }
    let fault =
        Fault::new(format!("cannot be {}", quoted(text))).label(format!("expected one of {}", one_of(words)));
    Err(match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(word) => fault.help(format!("did you mean `{word}`?")),
        None => fault,
    })
}

/// The words themselves, without their synonyms.
fn one_of(words: &[(&'static str, &'static str)]) -> String {
    let own: Vec<String> =
        words.iter().filter(|(word, meant)| word == meant).map(|(word, _)| format!("`{word}`")).collect();
    own.join(", ")
}
