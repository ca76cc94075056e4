//! `regrow import`: from the files of another supervisor to a `regrow.toml`.
//!
//! Every format is read into one form (`form`), which remembers the text that each setting was made of; one renderer
//! writes it; and what `check` would not take is written as a comment with the check's own words (`settle`). So what is
//! written always passes `check`, and nothing of the source is lost: what has no equal stands there as `# left:`, with
//! the reason.
//!
//! Deliberately absent: running anything. An ecosystem file in JavaScript is read as the literal it nearly always is.

mod broken;
mod collect;
mod form;
mod ini;
mod literal;
mod monitor;
mod node;
mod pm2;
mod pm2_app;
mod pm2_code;
mod procfile;
mod quoted;
mod render;
mod settle;
mod supervisord;
mod supervisord_program;
mod systemd;
mod systemd_exec;
mod systemd_keys;
mod systemd_service;
#[cfg(test)]
mod tests;
mod units;
mod words;
mod yaml;

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::args::Format as Output;
use super::context::Context;
use super::failure::Failure;
use super::say::say;
use super::words::plural;

use broken::Broken;
use collect::{Refused, Source, collect};
use form::{Form, Format, Table, Verdict};

/// Larger than any configuration; a log that was given by mistake is refused early.
const LARGEST: u64 = 1 << 20;

/// Options of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Files of supervisord, systemd, PM2 or a worker monitor, and Procfiles
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Write it there; else to stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Replace the file of --to if it is there
    #[arg(long, requires = "to")]
    force: bool,
    /// What the files are; else told by their names and content
    #[arg(long, value_enum)]
    format: Option<Format>,
}

pub(crate) fn run(context: &mut Context, args: ImportArgs) -> Result<(), Failure> {
    if let Some(to) = args.to.as_ref().filter(|to| !args.force && std::fs::symlink_metadata(to).is_ok()) {
        let to = to.display();
        return Err(Failure::Failed(format!(
            "{to} is there already and was not touched: give another name, or --force to replace it"
        )));
    }
    let sources = args.files.iter().map(|file| source(file)).collect::<Result<Vec<_>, _>>()?;
    let mut form = collect(&sources, args.format).map_err(|refused| failure(&sources, &refused))?;
    if form.workers() == 0
        && !form.sections.iter().any(|section| section.table == Table::Defaults)
        && !monitors(&form)
    {
        let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
        return Err(Failure::NoTarget(format!("{} names nothing that regrow could run", names.join(", "))));
    }
    let text = settle::settle(&mut form, &heading(&sources)).map_err(|problems| {
        Failure::Failed(format!(
            "what came of it is not right, which should not be:\n{}",
            problems.render(false)
        ))
    })?;
    if let Some(to) = &args.to {
        // Secrets of a file that nobody else may read are not for others here, either.
        let mode = sources.iter().fold(0o644, |mode, source| mode & source.mode);
        write(to, &text, args.force, mode)?;
    }
    tell(context, args.to.as_deref(), &form, &text)
}

/// Settings without workers are worth a file, too.
fn monitors(form: &Form) -> bool {
    form.sections
        .iter()
        .any(|section| section.heading.iter().any(|line| line.contains("of a worker monitor")))
}

fn source(file: &Path) -> Result<Source, Failure> {
    let name = file.display().to_string();
    let failed = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            Failure::NoTarget(format!("there is no {name}"))
        } else {
            Failure::Failed(format!("cannot read {name}: {error}"))
        }
    };
    let meta = std::fs::metadata(file).map_err(failed)?;
    if meta.is_dir() {
        return Err(Failure::Usage(format!("{name} is a directory: name the files in it, such as {name}/*")));
    }
    if meta.is_file() && meta.len() > LARGEST {
        return Err(Failure::Usage(format!("{name} is too large for a configuration")));
    }
    if name.ends_with(".toml") {
        return Err(Failure::Usage(format!(
            "{name} is TOML: `regrow check {name}` says whether regrow can run it"
        )));
    }
    let text = match String::from_utf8(std::fs::read(file).map_err(failed)?) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let broken = Broken::new(at, "this is no UTF-8, and no text").help("`file` tells what it is");
            return Err(Failure::Config(broken.render(&name, &shown, colour())));
        }
    };
    let full = std::path::absolute(file).map_err(failed)?;
    let here = full.parent().map_or_else(|| "/".to_owned(), |folder| folder.display().to_string());
    Ok(Source { drop_ins: drop_ins(file), name, here, text, mode: meta.mode() | 0o600 })
}

/// Files of `web.service.d` beside `web.service`.
fn drop_ins(file: &Path) -> Vec<String> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    found
}

/// All files that cannot be read, in one run.
fn failure(sources: &[Source], refused: &[(usize, Refused)]) -> Failure {
    let mut unknown = Vec::new();
    let mut broken = Vec::new();
    for (number, why) in refused {
        let source = &sources[*number];
        match why {
            Refused::Unknown => unknown.push(source.name.as_str()),
            Refused::Broken(one) => broken.push(one.render(&source.name, &source.text, colour())),
        }
    }
    if !broken.is_empty() {
        return Failure::Config(broken.join("\n\n"));
    }
    Failure::Usage(format!(
        "cannot tell what {} is: `--format supervisord`, `systemd`, `pm2`, `procfile` or `monitor` says it",
        unknown.join(", ")
    ))
}

fn colour() -> bool {
    std::io::stderr().is_terminal()
}

/// What stands at the top.
fn heading(sources: &[Source]) -> Vec<String> {
    let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    let names = names.join(", ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    vec![
        format!("Made by `regrow import` of {names}."),
        String::new(),
        "Beside or above each setting stands what it was made of. What has no equal".to_owned(),
        "here stands as `left:` with the reason, what needs no line as `same:`.".to_owned(),
        "`regrow check` says whether the file is right, after every change.".to_owned(),
    ]
}

fn write(to: &Path, text: &str, force: bool, mode: u32) -> Result<(), Failure> {
    if !force {
        return super::init::write(to, text, mode);
    }
    // Whole or not at all.
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    super::init::write(&beside, text, mode)?;
    std::fs::rename(&beside, to).map_err(|error| {
        let why = format!("cannot write {}: {error}", to.display());
        match std::fs::remove_file(&beside) {
            Ok(()) => Failure::Failed(why),
            Err(_) => Failure::Failed(format!("{why}; what was to be it is {}", beside.display())),
        }
    })
}

fn tell(context: &mut Context, to: Option<&Path>, form: &Form, text: &str) -> Result<(), Failure> {
    let left: Vec<_> = form.left().collect();
    if matches!(context.format(), Output::Json | Output::Jsonl) {
        let whole = report(form, text);
        return context.print_json(&whole, std::slice::from_ref(&whole));
    }
    let workers = plural(form.workers() as u64, "worker");
    let rest = match left.len() {
        0 => "everything has its equal".to_owned(),
        count => format!("{} without an equal: look for `left:`", plural(count as u64, "setting")),
    };
    match to {
        Some(to) => {
            let name = to.display();
            context.print(&format!("wrote {name}: {workers}, {rest}\n`regrow start -c {name}` runs it\n"))
        }
        None => {
            context.print_raw(text)?;
            say(format_args!("{workers}, {rest}"));
            Ok(())
        }
    }
}

fn report(form: &Form, text: &str) -> serde_json::Value {
    let workers: Vec<_> = form
        .sections
        .iter()
        .filter(|section| section.refused.is_none())
        .filter_map(|section| match &section.table {
            Table::Worker(name) | Table::Template(name) => Some(name.as_str()),
            Table::None | Table::Defaults | Table::Supervisor(_) | Table::Ladder => None,
        })
        .collect();
    let left: Vec<_> = form
        .left()
        .map(|entry| {
            let refused = entry.sets.iter().find_map(|set| set.refused.as_deref());
            let reason = match entry.verdict {
                Verdict::Taken => refused.unwrap_or(entry.why.as_str()),
                Verdict::Left | Verdict::Same | Verdict::Kept => entry.why.as_str(),
            };
            serde_json::json!({ "text": entry.from, "reason": reason })
        })
        .collect();
    serde_json::json!({ "schema": "regrow.import/1", "workers": workers, "left": left, "toml": text })
}
