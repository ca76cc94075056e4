//! `regrow doctor --discover`: what runs on this machine that regrow could look after, and how it would be told so.
//!
//! It reads files and `/proc` and nothing else: no port is knocked at, no manager is asked, nothing is written. What it
//! was not allowed to see, it says.

mod machine;
mod managers;
mod ports;

use serde::Serialize;

use crate::cli::args::Format;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::table::{Cell, Table, bold, dim, paint};
use crate::cli::words::{csv, plural, safe};

use machine::Machine;

/// What something is that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A service of systemd.
    Systemd,
    /// A configuration of supervisord.
    Supervisord,
    /// A configuration of PM2, or its daemon.
    Pm2,
    /// A Procfile.
    Procfile,
    /// A process that listens.
    Port,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Supervisord => "supervisord",
            Self::Pm2 => "pm2",
            Self::Procfile => "procfile",
            Self::Port => "port",
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Find {
    /// What it is.
    pub(super) kind: Kind,
    /// Its name: a unit, a file, an address.
    pub(super) name: String,
    /// Its process, where one is known.
    pub(super) pid: Option<u32>,
    /// What is known of it, in words.
    pub(super) message: String,
    /// A command that makes a configuration of it.
    pub(super) import: Option<String>,
    /// A line for the table of its worker that would look at it.
    pub(super) probe: Option<String>,
}

/// Everything that was found, and what could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Page {
    schema: &'static str,
    ok: bool,
    found: Vec<Find>,
    notes: Vec<String>,
}

pub(super) fn run(context: &mut Context) -> Result<(), Failure> {
    let machine = Machine::this();
    let mut notes = Vec::new();
    let mut found = managers::look(&machine, &mut notes);
    found.extend(ports::look(&machine, &mut notes));
    let page = Page { schema: "regrow.doctor/1", ok: true, found, notes };
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&page, &page.found),
        Format::Csv => context.print(&comma_separated(&page.found)),
        Format::Name => {
            let names: String = page.found.iter().map(|find| format!("{}\n", safe(&find.name))).collect();
            context.print(&names)
        }
        Format::Table | Format::Wide => {
            let width = context.width();
            context.print(&told(&page, width))
        }
    }
}

fn comma_separated(found: &[Find]) -> String {
    let mut out = String::from("kind,name,pid,message,import,probe\n");
    for find in found {
        let pid = find.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let text = |text: &Option<String>| csv(text.as_deref().unwrap_or_default());
        out.push_str(&format!(
            "{},{},{pid},{},{},{}\n",
            find.kind.word(),
            csv(&find.name),
            csv(&find.message),
            text(&find.import),
            text(&find.probe)
        ));
    }
    out
}

fn told(page: &Page, width: Option<usize>) -> String {
    let mut out = format!("{}\n\n", paint("regrow doctor --discover", bold()));
    if page.found.is_empty() {
        out.push_str(
            "Nothing was found that regrow could take over. `regrow init` writes a configuration.\n",
        );
    } else {
        let mut table = Table::new(&["KIND", "NAME", "PID", "WHAT"]);
        for find in &page.found {
            table.row(vec![
                Cell::new(find.kind.word()),
                Cell::new(safe(&find.name)),
                Cell::figure(find.pid.map(|pid| pid.to_string()).unwrap_or_default()),
                Cell::new(safe(&find.message)),
            ]);
        }
        out.push_str(&table.render(width));
    }
    let imports: Vec<&String> = page.found.iter().filter_map(|find| find.import.as_ref()).collect();
    push(&mut out, "To make a configuration of them, without touching them:", &imports);
    let probes: Vec<&String> = page.found.iter().filter_map(|find| find.probe.as_ref()).collect();
    push(&mut out, "To look at what listens, in the table of its worker:", &probes);
    for note in &page.notes {
        out.push_str(&format!("\n{}\n", paint(&safe(note), dim())));
    }
    let count = page.found.len() as u64;
    if count > 0 {
        out.push_str(&format!("\n{} found; nothing was changed.\n", plural(count, "thing")));
    }
    out
}

fn push(out: &mut String, heading: &str, lines: &[&String]) {
    if lines.is_empty() {
        return;
    }
    let mut lines: Vec<String> = lines.iter().map(|line| format!("  {}\n", safe(line))).collect();
    lines.dedup();
    out.push_str(&format!("\n{heading}\n{}", lines.concat()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_to_do_with_each_and_that_nothing_was_done() {
        let find = Find {
            kind: Kind::Port,
            name: "127.0.0.1:8001".to_owned(),
            pid: Some(12),
            message: "python3, of nobody".to_owned(),
            import: None,
            probe: Some("probe.port.tcp = \"127.0.0.1:8001\"".to_owned()),
        };
        let page =
            Page { schema: "regrow.doctor/1", ok: true, found: vec![find], notes: vec!["so".to_owned()] };
        let text = anstream::adapter::strip_str(&told(&page, None)).to_string();
        assert!(text.contains("port  127.0.0.1:8001   12  python3, of nobody"), "{text}");
        assert!(
            text.contains("  probe.port.tcp = ") && text.contains("1 thing found; nothing was"),
            "{text}"
        );
        let none = Page { found: Vec::new(), ..page };
        assert!(told(&none, None).contains("regrow init"));
    }
}
