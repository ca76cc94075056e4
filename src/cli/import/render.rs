//! The file that `import` writes: each setting beside the line it was made of.

use super::form::{Entry, Form, Section, Setting, Table, Verdict};

/// A setting and its origin share a line up to here.
const WIDTH: usize = 110;

/// What a line of the file is made of, so that a problem of it can be traced back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// The head of a table, or one of its comments.
    Section(usize),
    /// A setting.
    Setting { section: usize, entry: usize, setting: usize },
}

/// The file, and what each of its lines is made of.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) spots: Vec<Option<Spot>>,
}

impl Written {
    fn line(&mut self, line: &str, spot: Option<Spot>) {
        self.text.push_str(line);
        self.text.push('\n');
        self.spots.push(spot);
    }

    fn blank(&mut self) {
        if !self.text.ends_with("\n\n") {
            self.line("", None);
        }
    }

    /// Words, wrapped.
    fn say(&mut self, words: &str, indent: &str) {
        let mut line = String::from(indent);
        for word in words.split_whitespace() {
            if line.len() > indent.len() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&printable(&line), None);
                line = String::from(indent);
            }
            if line.len() > indent.len() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&printable(&line), None);
    }

    /// Text of the source, line for line.
    fn quote(&mut self, text: &str, mark: &str) {
        let margin =
            text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
        for (number, line) in text.lines().enumerate() {
            let line = if number == 0 { line } else { line.get(margin.min(indent(line))..).unwrap_or(line) };
            let lead = if number == 0 { mark.to_owned() } else { " ".repeat(mark.len()) };
            self.line(format!("# {lead}{}", printable(line)).trim_end(), None);
        }
    }
}

/// Bytes of white space at the beginning.
fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What may stand in a comment.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes it.
pub(super) fn render(form: &Form, heading: &[String]) -> Written {
    let mut out = Written::default();
    for line in heading {
        out.line(format!("# {line}").trim_end(), None);
    }
    for (number, section) in form.sections.iter().enumerate() {
        out.blank();
        write_section(&mut out, number, section);
    }
    out
}

fn write_section(out: &mut Written, number: usize, section: &Section) {
    for line in &section.heading {
        out.say(line, "# ");
    }
    if let Some(reason) = &section.refused {
        out.say(&format!("left: all of it ({reason})"), "# ");
    }
    let head = match &section.table {
        Table::None => None,
        Table::Defaults => Some("[defaults.worker]".to_owned()),
        Table::Worker(name) => Some(format!("[worker.{name}]")),
        Table::Template(name) => Some(format!("[template.{name}]")),
        Table::Supervisor(name) => Some(format!("[supervisor.{name}]")),
        Table::Ladder => Some("[ladder.default]".to_owned()),
    };
    if let Some(head) = head {
        match section.refused {
            None => out.line(&head, Some(Spot::Section(number))),
            Some(_) => out.line(&format!("# {head}"), None),
        }
    }
    for (at, entry) in section.entries.iter().enumerate() {
        let next = section.entries.get(at + 1);
        let shares = next.is_some_and(|next| next.verdict == entry.verdict && next.why == entry.why);
        write_entry(out, (number, at), entry, section.refused.is_some(), shares);
    }
}

/// `shares`: the next one has the same reason, which then stands once below both.
fn write_entry(out: &mut Written, at: (usize, usize), entry: &Entry, dead: bool, shares: bool) {
    match entry.verdict {
        Verdict::Kept => out.quote(uncommented(&entry.from), ""),
        Verdict::Left if shares => out.quote(&entry.from, "left: "),
        Verdict::Left => aside(out, "left: ", entry),
        Verdict::Same => aside(out, "same: ", entry),
        Verdict::Taken => taken(out, at, entry, dead),
    }
}

/// Without the mark of a comment of its own format.
fn uncommented(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("/*").and_then(|rest| rest.strip_suffix("*/"));
    let inner = inner.map(|inner| inner.trim_start_matches('*').trim_start());
    inner
        .unwrap_or_else(|| text.strip_prefix("//").unwrap_or_else(|| text.trim_start_matches(['#', ';'])))
        .trim()
}

/// A piece without a setting.
fn aside(out: &mut Written, mark: &str, entry: &Entry) {
    let one = printable(&format!("# {mark}{} ({})", entry.from, entry.why));
    if entry.from.contains('\n') || one.chars().count() > WIDTH {
        out.quote(&entry.from, mark);
        out.say(&format!("({})", entry.why), "#     ");
    } else {
        out.line(&one, None);
    }
}

fn taken(out: &mut Written, (section, at): (usize, usize), entry: &Entry, dead: bool) {
    if !entry.why.is_empty() {
        out.say(&entry.why, "# ");
    }
    let beside = match entry.sets.as_slice() {
        [set] if set.refused.is_none() && !dead && !entry.from.is_empty() && !entry.from.contains('\n') => {
            Some(format!("{}  # {}", shown(set), printable(&entry.from)))
        }
        _ => None,
    };
    if let Some(line) = beside.filter(|line| line.chars().count() <= WIDTH) {
        return out.line(&line, Some(Spot::Setting { section, entry: at, setting: 0 }));
    }
    if !entry.from.is_empty() {
        out.quote(&entry.from, "");
    }
    for (setting, set) in entry.sets.iter().enumerate() {
        match &set.refused {
            Some(reason) => {
                out.line(&format!("# left: {}", shown(set)), None);
                out.say(&format!("({reason})"), "#     ");
            }
            None if dead => out.line(&format!("# {}", shown(set)), None),
            None => out.line(&shown(set), Some(Spot::Setting { section, entry: at, setting })),
        }
    }
}

fn shown(set: &Setting) -> String {
    format!("{} = {}", set.key, set.value)
}
