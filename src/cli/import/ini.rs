//! Files of sections and `key=value`, as supervisord and systemd read them, each in its own way.

use std::ops::Range;

use super::broken::Broken;

/// Whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A value goes on in lines that are indented; ` ;` and ` #` begin comments.
    Supervisord,
    /// A value goes on after a backslash; a comment has its own line.
    Systemd,
}

/// A line, or several that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) span: Range<usize>,
    /// As it stands there.
    pub(super) raw: String,
    pub(super) what: What,
}

/// What it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Comment,
    Section(String),
    Pair { key: String, value: String },
}

/// Reads it.
///
/// # Errors
/// The first line that is none of these.
pub(super) fn read(text: &str, dialect: Dialect) -> Result<Vec<Item>, Broken> {
    let mut items: Vec<Item> = Vec::new();
    let mut lines = spans(text).into_iter().peekable();
    let mut in_section = false;
    while let Some(mut span) = lines.next() {
        let line = &text[span.clone()];
        let trimmed = line.trim();
        if trimmed.is_empty() {
            continue;
        }
        if trimmed.starts_with([';', '#']) {
            items.push(Item { raw: trimmed.to_owned(), span, what: What::Comment });
            continue;
        }
        let begin = span.start + (line.len() - line.trim_start().len());
        if let Some(rest) = trimmed.strip_prefix('[') {
            let Some((name, _)) = rest.split_once(']') else {
                let end = begin + trimmed.len();
                return Err(Broken::new(end, "the name of this section has no end").help("write `[name]`"));
            };
            in_section = true;
            let what = What::Section(name.trim().to_owned());
            items.push(Item { raw: trimmed.to_owned(), span, what });
            continue;
        }
        if !in_section {
            let help = match dialect {
                Dialect::Supervisord => "a section comes first, such as `[program:web]`",
                Dialect::Systemd => "a section comes first, such as `[Service]`",
            };
            return Err(Broken::new(begin, "this stands before any section").help(help));
        }
        let mut value = vec![line.to_owned()];
        while let Some(next) = lines.peek() {
            let more = &text[next.clone()];
            let goes_on = match dialect {
                Dialect::Supervisord => more.starts_with([' ', '\t']) && !more.trim().is_empty(),
                Dialect::Systemd => {
                    let own = |line: &&String| !line.trim().starts_with(['#', ';']);
                    value.iter().rev().find(own).is_some_and(|line| line.trim_end().ends_with('\\'))
                }
            };
            if !goes_on {
                break;
            }
            span.end = next.end;
            value.push(more.to_owned());
            lines.next();
        }
        let joined = join(&value, dialect);
        let separators: &[char] = match dialect {
            Dialect::Supervisord => &['=', ':'],
            Dialect::Systemd => &['='],
        };
        let Some((key, value)) = joined.split_once(separators) else {
            let end = begin + trimmed.len();
            return Err(
                Broken::new(end, "this is no `key=value`").help("write `key=value`, or `#` before a comment")
            );
        };
        if key.trim().is_empty() {
            return Err(Broken::new(begin, "this value has no key").help("write `key=value`"));
        }
        let what = What::Pair { key: key.trim().to_owned(), value: value.trim().to_owned() };
        items.push(Item { raw: text[span.clone()].trim().to_owned(), span, what });
    }
    Ok(items)
}

/// Where each line stands, without its end.
pub(super) fn spans(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let mut found = Vec::new();
    for line in text.split_inclusive('\n') {
        found.push(at..at + line.trim_end_matches(['\n', '\r']).len());
        at += line.len();
    }
    found
}

fn join(lines: &[String], dialect: Dialect) -> String {
    match dialect {
        Dialect::Supervisord => {
            let plain = lines.iter().map(|line| without_comment(line).trim().to_owned());
            plain.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
        }
        Dialect::Systemd => {
            let own =
                |(number, line): &(usize, &String)| *number == 0 || !line.trim().starts_with(['#', ';']);
            let lines = lines.iter().enumerate().filter(own).map(|(_, line)| {
                let line = line.trim();
                line.strip_suffix('\\').unwrap_or(line).trim_end().to_owned()
            });
            lines.collect::<Vec<_>>().join(" ")
        }
    }
}

/// Up to a ` ;` or ` #`.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if (c == ';' || c == '#') && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str, dialect: Dialect) -> Vec<(String, String)> {
        let items = read(text, dialect).unwrap_or_else(|broken| panic!("{broken:?}"));
        let pair = |item: Item| match item.what {
            What::Pair { key, value } => Some((key, value)),
            What::Comment | What::Section(_) => None,
        };
        items.into_iter().filter_map(pair).collect()
    }

    #[test]
    fn values_go_on_as_each_of_them_has_it() {
        let text =
            "[program:a]\ncommand = x --a ; note\nenvironment=A=\"1\",\n  B=\"2\"  # two\n; end\nuser=u\n";
        let found = pairs(text, Dialect::Supervisord);
        assert_eq!(found[0].1, "x --a");
        assert_eq!(found[1].1, "A=\"1\",\nB=\"2\"");
        assert_eq!(found[2], ("user".to_owned(), "u".to_owned()));
        let text = "[Service]\nExecStart=/bin/x \\\n# not this\n  --a ; b\nUser=u\n";
        let found = pairs(text, Dialect::Systemd);
        assert_eq!(found[0].1, "/bin/x --a ; b");
        assert_eq!(found[1].1, "u");
    }

    #[test]
    fn what_is_no_such_file_is_told_with_its_place() {
        for (text, at) in [("[program:a\n", 10), ("x=1\n", 0), ("[a]\n  =1\n", 6), ("[a]\nword\n", 8)] {
            assert_eq!(read(text, Dialect::Supervisord).map_err(|broken| broken.at), Err(at), "{text}");
        }
    }
}
