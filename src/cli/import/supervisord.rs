//! Configurations of supervisord: `[program:x]` becomes a worker, `[group:x]` a supervisor.

use super::broken::Broken;
use super::form::{Entry, Form, Section, Setting, Table};
use super::ini::{self, Dialect, Item, What};
use super::supervisord_program::program;

/// What stands in other sections, and why it has no equal.
const OTHERS: [(&str, &str); 8] = [
    ("supervisord", "settings of supervisord itself; those of regrow are [runtime] and [telemetry]"),
    ("supervisorctl", "`regrow` finds its runtime through `-c` or `--socket`"),
    (
        "unix_http_server",
        "regrow's control socket is in its state_dir; `control` of [runtime] says who may use it",
    ),
    ("inet_http_server", "regrow's status and metrics are at `http.listen`"),
    ("rpcinterface:", "regrow has no plug-ins for its interface"),
    ("ctlplugin:", "regrow has no plug-ins for its command line"),
    (
        "eventlistener:",
        "it speaks supervisord's event protocol; `regrow events -f -o jsonl` prints regrow's events",
    ),
    ("fcgi-program:", "regrow passes no FastCGI socket on; let the program open its own"),
];

/// Adds what the file says.
///
/// # Errors
/// Where it is no such file.
pub(super) fn read(form: &mut Form, file: &str, text: &str, here: &str) -> Result<(), Broken> {
    let items = ini::read(text, Dialect::Supervisord)?;
    let names = names(form, &items);
    let worker =
        |program: &str| names.iter().find(|(own, _)| own == program).map(|(_, worker)| worker.clone());
    let groups = groups(&items);
    let mut grouped: Vec<String> = Vec::new();
    form.sections.push(Section::new(Table::None, format!("From {file}, a configuration of supervisord.")));
    for (head, lead, inside) in sections(&items, text) {
        let Some((head, name)) = head else {
            if let Some(section) = form.sections.last_mut() {
                section.entries.extend(inside.iter().map(|item| Entry::kept(&item.raw)));
            }
            continue;
        };
        let table = match name.split_once(':') {
            // Said twice, it is one.
            Some(("program", own)) => worker(own.trim())
                .filter(|name| {
                    !form.sections.iter().any(|section| section.table == Table::Worker(name.clone()))
                })
                .map_or(Table::None, Table::Worker),
            Some(("group", own)) => Table::Supervisor(form.names.give_group(own.trim())),
            Some(_) | None => Table::None,
        };
        let mut section = Section::new(table, "");
        section.entries.extend(lead.iter().map(|item| Entry::kept(&item.raw)));
        match &section.table {
            Table::Worker(_) => {
                let own = name.split_once(':').map_or(name, |(_, own)| own.trim());
                let group = groups.iter().find(|(_, programs)| programs.iter().any(|program| program == own));
                section.push(Entry::kept(&head.raw));
                program(&mut section, own, group.map_or(own, |(group, _)| group), here, &inside);
            }
            Table::Supervisor(_) => {
                section.push(Entry::kept(&head.raw));
                section.entries.extend(inside.iter().map(|item| group_entry(item, worker, &mut grouped)));
            }
            Table::None | Table::Defaults | Table::Template(_) | Table::Ladder => {
                section.push(Entry::left(&head.raw, other(name)));
                section.entries.extend(inside.iter().map(|item| of_other(name, item)));
            }
        }
        form.sections.push(section);
    }
    Ok(())
}

/// The programs in order, and the workers they become.
fn names(form: &mut Form, items: &[Item]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for item in items {
        if let What::Section(name) = &item.what
            && let Some(own) = name.strip_prefix("program:").map(str::trim)
            && !found.iter().any(|(known, _)| known == own)
        {
            found.push((own.to_owned(), form.names.give(own)));
        }
    }
    found
}

/// What supervisord does for every program, and regrow does not by itself.
pub(super) fn implied() -> Vec<Entry> {
    vec![
        Entry::implied(
            "supervisord starts a program again only after an unexpected end. To have it always running: permanent.",
            [Setting::text("restart", "transient")],
        ),
        Entry::implied(
            "supervisord passes its whole environment on. Better: only the names that are needed.",
            [Setting::texts("inherit_env", ["*"])],
        ),
    ]
}

/// A section: its head and name, the comments right above it, and what stands in it.
type Part<'a> = (Option<(&'a Item, &'a str)>, Vec<&'a Item>, Vec<&'a Item>);

/// The sections; first what stands before any.
fn sections<'a>(items: &'a [Item], text: &str) -> Vec<Part<'a>> {
    let mut found: Vec<Part<'_>> = vec![(None, Vec::new(), Vec::new())];
    for item in items {
        let Some((_, _, inside)) = found.last_mut() else { continue };
        match &item.what {
            What::Section(name) => {
                // A blank line ends what speaks of the next section.
                let mut start = item.span.start;
                let speaks = |one: &&&Item| {
                    let between = text.get(one.span.end..start).unwrap_or_default();
                    start = one.span.start;
                    one.what == What::Comment && between.matches('\n').count() <= 1
                };
                let speaks = inside.iter().rev().take_while(speaks).count();
                let lead = inside.split_off(inside.len() - speaks);
                found.push((Some((item, name)), lead, Vec::new()));
            }
            What::Comment | What::Pair { .. } => inside.push(item),
        }
    }
    found
}

/// Groups and the programs they name.
fn groups(items: &[Item]) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for item in items {
        match &item.what {
            What::Section(name) => {
                inside = false;
                if let Some(own) = name.strip_prefix("group:") {
                    inside = true;
                    found.push((own.trim().to_owned(), Vec::new()));
                }
            }
            What::Pair { key, value } if inside && key == "programs" => {
                if let Some((_, programs)) = found.last_mut() {
                    programs.extend(listed(value));
                }
            }
            What::Pair { .. } | What::Comment => {}
        }
    }
    found
}

fn listed(value: &str) -> Vec<String> {
    value.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn group_entry(item: &Item, worker: impl Fn(&str) -> Option<String>, grouped: &mut Vec<String>) -> Entry {
    match &item.what {
        What::Comment | What::Section(_) => Entry::kept(&item.raw),
        What::Pair { key, value } if key == "programs" => {
            let (mut children, mut missing) = (Vec::new(), Vec::new());
            for program in listed(value) {
                match worker(&program).filter(|worker| !grouped.contains(worker)) {
                    Some(worker) => {
                        grouped.push(worker.clone());
                        children.push(worker);
                    }
                    None => missing.push(program),
                }
            }
            let entry = Entry::taken(&item.raw, [Setting::texts("children", &children)]);
            if missing.is_empty() {
                entry
            } else {
                entry.note(format!(
                    "left: {} (not in this file, or in another group already)",
                    missing.join(", ")
                ))
            }
        }
        What::Pair { key, .. } if key == "priority" => {
            Entry::left(&item.raw, "children start in the order of their list; `after` holds one back")
        }
        What::Pair { .. } => Entry::left(&item.raw, "regrow knows no such key of a group"),
    }
}

fn of_other(name: &str, item: &Item) -> Entry {
    match &item.what {
        What::Pair { key, .. } if name == "include" && key == "files" => {
            Entry::left(&item.raw, "were not read: name them behind this file, `regrow import FILE FILE...`")
        }
        What::Comment => Entry::kept(&item.raw),
        What::Pair { .. } | What::Section(_) => Entry::left(&item.raw, "as above"),
    }
}

fn other(name: &str) -> &'static str {
    if name == "include" {
        return "an include of regrow.toml takes files of TOML";
    }
    let found = OTHERS.iter().find(|(start, _)| match start.ends_with(':') {
        true => name.starts_with(start),
        false => name == *start,
    });
    found.map_or("regrow knows no such section", |(_, why)| why)
}
