//! Procfiles: a worker a line.

use super::form::{Entry, Form, Section, Setting, Table};
use super::words::{braced, gains_rights};
use crate::cli::init::argv::Line;
use crate::cli::init::procfile::entry;
use crate::cli::init::render::{FIRST_PORT, NEXT_PORT};

/// Whether every line of it is one of a Procfile.
pub(super) fn fits(text: &str) -> bool {
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    lines.peek().is_some() && lines.all(|line| entry(line).is_some())
}

/// Adds what the file says.
pub(super) fn read(form: &mut Form, file: &str, text: &str) {
    form.sections.push(Section::new(Table::None, format!("From {file}, a Procfile.")));
    let mut port = FIRST_PORT;
    let mut speaks: Vec<Entry> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, command)) = entry(line).filter(|_| !line.starts_with('#')) else {
            speaks.push(match line.starts_with('#') {
                true => Entry::kept(line),
                false => Entry::left(line, "no `name: command`; runners of Procfiles pass over it, too"),
            });
            continue;
        };
        let mut section = Section::new(Table::Worker(form.names.give(name)), "");
        section.entries.append(&mut speaks);
        worker(&mut section, line, name, command, port);
        port += NEXT_PORT;
        form.sections.push(section);
    }
    if !speaks.is_empty()
        && let Some(section) = form.sections.last_mut()
    {
        section.entries.append(&mut speaks);
    }
}

fn worker(section: &mut Section, raw: &str, name: &str, command: &str, port: usize) {
    let line = Line::of(command);
    let argv: Vec<String> = line.argv().iter().map(|word| braced(word)).collect();
    let gains = gains_rights(&line.argv());
    let mut sets = vec![Setting::texts("command", argv)];
    match line {
        Line::Words(_) => {}
        // The shell's own children are to hear of the stop, too.
        Line::Shell(_) => sets.push(Setting::text("stop.to", "group")),
    }
    if gains {
        sets.push(Setting::raw("no_new_privs", "false"));
    }
    section.push(Entry::taken(raw, sets));
    if name == "release" {
        let once = [Setting::raw("enabled", "false"), Setting::text("restart", "temporary")];
        section.push(Entry::implied("It runs once, before a release: `regrow start release` does so.", once));
    } else {
        let number = Setting::env("PORT", &port.to_string());
        section.push(Entry::implied("The port that runners of Procfiles would give it.", [number]));
    }
}

/// What runners of Procfiles do for every line, and regrow does not by itself.
pub(super) fn implied() -> Vec<Entry> {
    vec![Entry::implied(
        "Runners of Procfiles pass their whole environment on, and the file `.env` beside it, whose lines would be \
         env.NAME = \"value\" here. Better: only the names that are needed.",
        [Setting::texts("inherit_env", ["*"])],
    )]
}
