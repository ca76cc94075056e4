//! `regrow doctor`: what of this machine and this configuration would get in the way, before it does.
//!
//! Plain, it looks; it changes nothing. With `--self-test` it tries: the program itself, in a directory of its own,
//! starts a worker, kills it, sees it healed, and clears up. Each line says what was found, and where something is
//! wrong, what to do. With `--discover` it tells what else runs here that regrow could look after.

mod discover;
mod environment;
mod files;
mod self_test;

use clap::Args;
use serde::Serialize;

use super::args::Format;
use super::context::Context;
use super::failure::Failure;
use super::table::{bold, dim, green, paint, red, yellow};
use super::words::{csv, plural, safe};

/// Options of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Start, kill and heal a worker of its own with this very program
    #[arg(long)]
    self_test: bool,
    /// What runs on this machine that regrow could look after: services, other managers' files, ports; changes nothing
    #[arg(long, conflicts_with = "self_test")]
    discover: bool,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// As it should be.
    Ok,
    /// Works, with less than full strength.
    Warning,
    /// Does not work.
    Failed,
    /// Not tried, because something before it failed.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What, in a word or two.
    pub(super) name: &'static str,
    /// How it is.
    pub(super) outcome: Outcome,
    /// What was found.
    pub(super) message: String,
    /// What to do; nothing where all is well.
    pub(super) help: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, message: message.into(), help: None }
    }

    pub(super) fn warning(name: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warning, message: message.into(), help: Some(help.into()) }
    }

    pub(super) fn failed(name: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Failed, message: message.into(), help: Some(help.into()) }
    }

    pub(super) fn skipped(name: &'static str) -> Self {
        Self { name, outcome: Outcome::Skipped, message: "not tried".to_owned(), help: None }
    }
}

pub(crate) fn run(context: &mut Context, args: DoctorArgs) -> Result<(), Failure> {
    if args.discover {
        return discover::run(context);
    }
    let title = if args.self_test { "regrow doctor --self-test" } else { "regrow doctor" };
    let mut page = Page { lines: context.format() == Format::Table || context.format() == Format::Wide };
    if page.lines {
        Failure::but_for_readers(context.print(&format!("{}\n", paint(title, bold()))))?;
    }
    let mut checks = Vec::new();
    let mut tell = |context: &mut Context, check: Check| {
        page.line(context, &check)?;
        checks.push(check);
        Ok(())
    };
    if args.self_test {
        self_test::run(context, &mut tell)?;
    } else {
        let mut found = files::look(&context.global);
        found.extend(environment::look(&context.global));
        for check in found {
            tell(context, check)?;
        }
    }
    finish(context, args.self_test, &checks)
}

fn finish(context: &mut Context, self_test: bool, checks: &[Check]) -> Result<(), Failure> {
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count() as u64;
    let (failed, warnings) = (count(Outcome::Failed), count(Outcome::Warning));
    let printed = match context.format() {
        Format::Json | Format::Jsonl => {
            let whole = serde_json::json!({
                "schema": "regrow.doctor/1",
                "ok": failed == 0,
                "self_test": self_test,
                "checks": checks,
            });
            context.print_json(&whole, checks)
        }
        Format::Csv => {
            let mut out = String::from("name,outcome,message,help\n");
            for check in checks {
                let help = check.help.as_deref().unwrap_or_default();
                out.push_str(&format!(
                    "{},{},{},{}\n",
                    check.name,
                    word(check.outcome).trim(),
                    csv(&check.message),
                    csv(help)
                ));
            }
            context.print(&out)
        }
        Format::Name => {
            let bad = checks.iter().filter(|check| check.outcome != Outcome::Ok);
            let out: String = bad.map(|check| format!("{}\n", check.name)).collect();
            context.print(&out)
        }
        Format::Table | Format::Wide => context.print(&verdict(failed, warnings, self_test)),
    };
    Failure::but_for_readers(printed)?;
    if failed == 0 {
        return Ok(());
    }
    let text = format!("{} failed", plural(failed, "check"));
    let broken = |check: &Check| check.name == files::CONFIGURATION && check.outcome == Outcome::Failed;
    if checks.iter().any(broken) {
        return Err(Failure::Config(format!("regrow: {text}")));
    }
    Err(Failure::Failed(text))
}

fn verdict(failed: u64, warnings: u64, self_test: bool) -> String {
    match (failed, warnings) {
        (0, 0) if self_test => format!("{}\n", paint("It heals.", green())),
        (0, 0) => format!("{} `regrow doctor --self-test` tries it.\n", paint("All is well.", green())),
        (0, warnings) => format!("{} with {}.\n", paint("It works,", green()), plural(warnings, "warning")),
        (_, _) => String::new(),
    }
}

/// The lines for people.
struct Page {
    lines: bool,
}

/// Where the text of a line begins.
const INDENT: usize = 23;

/// Lines are readable on the narrowest usual terminal, whatever this one's width.
const WIDTH: usize = 80;

impl Page {
    fn line(&mut self, context: &mut Context, check: &Check) -> Result<(), Failure> {
        if !self.lines {
            return Ok(());
        }
        let style = match check.outcome {
            Outcome::Ok => green(),
            Outcome::Warning => yellow(),
            Outcome::Failed => red().bold(),
            Outcome::Skipped => dim(),
        };
        let mut lines = wrap(&safe(&check.message), WIDTH - INDENT).into_iter();
        let first = lines.next().unwrap_or_default();
        let mut out = format!("{}  {:<13}  {first}\n", paint(word(check.outcome), style), check.name);
        for line in lines {
            out.push_str(&format!("{:INDENT$}{line}\n", ""));
        }
        for line in check.help.iter().flat_map(|help| wrap(&safe(help), WIDTH - INDENT)) {
            out.push_str(&format!("{:INDENT$}{}\n", "", paint(&line, dim())));
        }
        Failure::but_for_readers(context.print(&out))
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok    ",
        Outcome::Warning => "warn  ",
        Outcome::Failed => "failed",
        Outcome::Skipped => "-     ",
    }
}

/// Lines of at most this many characters; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_not_cut_and_lines_not_longer_than_asked() {
        assert_eq!(wrap("a bb ccc dddddddd e", 6), ["a bb", "ccc", "dddddddd", "e"]);
        assert_eq!(wrap("", 6), Vec::<String>::new());
    }
}
