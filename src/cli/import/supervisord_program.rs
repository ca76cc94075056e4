//! The keys of `[program:x]`.

use super::form::{Entry, Section, Setting};
use super::ini::{Item, What};
use super::units::{seconds, size, yes};
use super::words::{self, Part, Word};

/// Keys without an equal.
const LEFT: [(&str, &str); 14] = [
    ("process_name", "regrow numbers instances itself: NAME/0, NAME/1"),
    ("priority", "workers start in the order of this file; `after` holds one back until another is ready"),
    ("startretries", "regrow counts all restarts, 10 in 5m unless `intensity` of the supervisor says else"),
    ("stdout_capture_maxbytes", "regrow has no capture mode"),
    ("stderr_capture_maxbytes", "regrow has no capture mode"),
    ("stdout_events_enabled", "regrow sends no output as events; `regrow logs -f` follows it"),
    ("stderr_events_enabled", "regrow sends no output as events; `regrow logs -f` follows it"),
    ("stdout_syslog", "regrow writes no syslog; log.to = \"stdout\" leaves it to whatever runs regrow"),
    ("stderr_syslog", "regrow writes no syslog; log.to = \"stdout\" leaves it to whatever runs regrow"),
    ("stderr_logfile_maxbytes", "`log` says it for both streams"),
    ("stderr_logfile_backups", "`log` says it for both streams"),
    ("serverurl", "programs find regrow in their REGROW_SOCKET"),
    ("socket", "regrow opens no sockets for programs"),
    ("stdout_logfile_timestamp", "regrow notes the time of each line itself"),
];

/// What a program is called, and where its file is.
struct About<'a> {
    name: &'a str,
    group: &'a str,
    here: &'a str,
    instances: u32,
    first: u32,
}

/// Adds what its keys say.
pub(super) fn program(section: &mut Section, name: &str, group: &str, here: &str, items: &[&Item]) {
    let value = |key: &str| {
        items.iter().rev().find_map(|item| match &item.what {
            What::Pair { key: own, value } if own == key => Some(value.as_str()),
            What::Pair { .. } | What::Comment | What::Section(_) => None,
        })
    };
    let number = |key: &str| value(key).and_then(|text| text.trim().parse::<u32>().ok());
    let instances = number("numprocs").unwrap_or(1);
    let about = About { name, group, here, instances, first: number("numprocs_start").unwrap_or(0) };
    for item in items {
        match &item.what {
            What::Comment | What::Section(_) => section.push(Entry::kept(&item.raw)),
            What::Pair { key, value } => entries(section, &about, &item.raw, key, value),
        }
    }
    let elsewhere = |path: &str| !matches!(path, "AUTO" | "NONE") && !is_stream(path);
    if value("redirect_stderr").is_none() && value("stderr_logfile").is_some_and(elsewhere) {
        let stderr = Setting::text("log.stderr", "separate");
        section
            .push(Entry::implied("supervisord keeps stderr apart where it has a file of its own", [stderr]));
    }
}

fn entries(section: &mut Section, about: &About<'_>, raw: &str, key: &str, value: &str) {
    let entry = match key {
        "command" => return command(section, about, raw, value),
        "environment" => return environment(section, about, raw, value),
        "directory" => match expand(about, value).map(|parts| words::template(&parts)) {
            Ok(Some(text)) => Entry::taken(raw, [Setting::text("cwd", &text)]),
            Ok(None) => Entry::left(raw, "regrow puts no variables into `cwd`: write the path itself"),
            Err(why) => Entry::left(raw, why),
        },
        "numprocs" if value.parse::<u32>().is_err() => said(raw, None),
        "numprocs" if about.instances == 1 => Entry::same(raw, "one instance is the default"),
        "numprocs" => Entry::taken(raw, [Setting::raw("instances", about.instances.to_string())]),
        "numprocs_start" if about.first == 0 => Entry::same(raw, "regrow counts from 0"),
        "numprocs_start" => Entry::left(raw, "regrow counts from 0"),
        "autostart" => match yes(value) {
            Some(true) => Entry::same(raw, "the default"),
            Some(false) => Entry::taken(raw, [Setting::raw("enabled", "false")]),
            None => Entry::left(raw, "expected true or false"),
        },
        "autorestart" => match (value, yes(value)) {
            ("unexpected", _) => Entry::taken(raw, [Setting::text("restart", "transient")]),
            (_, Some(true)) => Entry::taken(raw, [Setting::text("restart", "permanent")]),
            (_, Some(false)) => Entry::taken(raw, [Setting::text("restart", "temporary")]),
            (_, None) => Entry::left(raw, "expected true, false or unexpected"),
        },
        "startsecs" => said(raw, seconds(value).map(|time| Setting::text("min_uptime", &time))),
        "stopwaitsecs" => said(raw, seconds(value).map(|time| Setting::text("stop.timeout", &time))),
        "stopsignal" => Entry::taken(raw, [Setting::text("stop.signal", value)]),
        "stopasgroup" => match yes(value) {
            Some(true) => Entry::taken(raw, [Setting::text("stop.to", "group")]),
            Some(false) => Entry::same(raw, "the default"),
            None => Entry::left(raw, "expected true or false"),
        },
        "killasgroup" => Entry::same(raw, "the last KILL always goes to the whole tree"),
        "exitcodes" => {
            let codes: Option<Vec<u8>> = value.split(',').map(|code| code.trim().parse().ok()).collect();
            let codes = codes.map(|codes| codes.iter().map(u8::to_string).collect::<Vec<_>>().join(", "));
            said(raw, codes.map(|codes| Setting::raw("exit_codes.normal", format!("[{codes}]"))))
        }
        "user" => Entry::taken(raw, [Setting::text("user", value)]),
        "umask" => said(raw, umask(value).map(|mask| Setting::text("umask", &mask))),
        "redirect_stderr" => match yes(value) {
            Some(true) => Entry::same(raw, "the default"),
            Some(false) => Entry::taken(raw, [Setting::text("log.stderr", "separate")]),
            None => Entry::left(raw, "expected true or false"),
        },
        "stdout_logfile" => logfile(section, raw, value),
        "stderr_logfile" => match value {
            "AUTO" => Entry::same(raw, "regrow chooses the file, too"),
            path if is_stream(path) => Entry::same(raw, "it goes where stdout goes"),
            _ => Entry::left(
                raw,
                "stderr is kept with stdout, or beside it (log.stderr), in logs/ of regrow's state_dir",
            ),
        },
        "stdout_logfile_maxbytes" if value == "0" && section.sets("log.to") => {
            Entry::same(raw, "nothing is rotated there")
        }
        "stdout_logfile_maxbytes" if value == "0" => {
            Entry::left(raw, "a log file is always bounded; log.max_size says where")
        }
        "stdout_logfile_maxbytes" => said(raw, size(value).map(|size| Setting::text("log.max_size", &size))),
        "stdout_logfile_backups" => {
            said(raw, value.parse::<u32>().ok().map(|keep| Setting::raw("log.keep", keep.to_string())))
        }
        _ => match LEFT.iter().find(|(own, _)| *own == key) {
            Some((_, why)) => Entry::left(raw, *why),
            None => Entry::left(raw, "supervisord is not known to have such a key"),
        },
    };
    section.push(entry);
}

/// A value that may not make sense.
fn said(raw: &str, setting: Option<Setting>) -> Entry {
    match setting {
        Some(setting) => Entry::taken(raw, [setting]),
        None => Entry::left(raw, "this value makes no sense to regrow"),
    }
}

/// `22` as `022`.
fn umask(value: &str) -> Option<String> {
    let octal = !value.is_empty() && value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let digits = value.trim_start_matches('0');
    (octal && digits.len() <= 3).then(|| format!("{digits:0>3}"))
}

/// The output of supervisord itself, as in containers.
fn is_stream(path: &str) -> bool {
    matches!(path, "/dev/stdout" | "/dev/stderr")
        || ["/dev/fd/", "/proc/"].iter().any(|start| path.starts_with(start))
}

fn logfile(section: &Section, raw: &str, value: &str) -> Entry {
    match value {
        "AUTO" => Entry::same(raw, "regrow chooses the file, too"),
        path if is_stream(path) => {
            let note = "regrow prints it behind the worker's name";
            Entry::taken(raw, [Setting::text("log.to", "stdout")]).note(note)
        }
        "NONE" | "/dev/null" => Entry::left(raw, "output is always kept, within log.max_size x log.keep"),
        _ => {
            let name = match &section.table {
                super::form::Table::Worker(name) => name.as_str(),
                super::form::Table::None
                | super::form::Table::Defaults
                | super::form::Table::Template(_)
                | super::form::Table::Supervisor(_)
                | super::form::Table::Ladder => "NAME",
            };
            Entry::left(
                raw,
                format!("regrow writes logs/{name}.log in its state_dir; `regrow logs {name}` shows it"),
            )
        }
    }
}

fn command(section: &mut Section, about: &About<'_>, raw: &str, value: &str) {
    let split = match words::split(value) {
        Ok(words) => words,
        Err(why) => return section.push(Entry::left(raw, format!("cannot be cut into words: {why}"))),
    };
    let base = port_base(about, &split);
    let expanded: Result<Vec<Word>, String> =
        split.iter().map(|word| expand(about, &with_port(about, word, base))).collect();
    let words = match expanded {
        Ok(words) => words,
        Err(why) => return section.push(Entry::left(raw, why)),
    };
    let argv = words::command(&words);
    let gains = words::gains_rights(&argv);
    let mut sets = vec![Setting::texts("command", argv)];
    if let Some(base) = base {
        sets.push(Setting::raw("port.base", base.to_string()));
    }
    if gains {
        sets.push(Setting::raw("no_new_privs", "false"));
    }
    let entry = Entry::taken(raw, sets);
    let counts = words.iter().flatten().any(|part| *part == Part::Place("index".to_owned()));
    section.push(match counts && (about.first != 0 || value.contains("%(process_num)0")) {
        true => entry.note("{index} counts from 0 and has no leading zeros"),
        false => entry,
    });
}

/// `%(process_num)02d` and its like: where it stands, its length, and its digits.
fn process_num(word: &str) -> Option<(usize, usize, u32)> {
    const MARK: &str = "%(process_num)";
    let at = word.find(MARK)?;
    let form = &word[at + MARK.len()..];
    let end = form.find(['d', 's'])?;
    let width = form[..end].trim_start_matches('0').parse().unwrap_or(0);
    Some((at, MARK.len() + end + 1, width))
}

/// `--port=80%(process_num)02d`: every instance has a port of its own, from 8000 on.
fn port_of(about: &About<'_>, word: &str) -> Option<(std::ops::Range<usize>, u32)> {
    let (at, length, width) = process_num(word)?;
    let digits = word[..at].bytes().rev().take_while(u8::is_ascii_digit).count();
    let start = at - digits;
    let apart = word[..start].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
    let ends = word[at + length..].chars().next().is_none_or(|c| !c.is_alphanumeric());
    let room = 10_u32.checked_pow(width.max(1))?;
    let base = word[start..at].parse::<u32>().ok()?.checked_mul(room)?.checked_add(about.first)?;
    let fits = about.first.saturating_add(about.instances) <= room && (80..65_536).contains(&base);
    (apart && ends && fits).then_some((start..at + length, base))
}

/// The port of the first instance, if the command says one.
fn port_base(about: &About<'_>, words: &[String]) -> Option<u32> {
    let found: Vec<u32> =
        words.iter().filter_map(|word| port_of(about, word)).map(|(_, base)| base).collect();
    let first = *found.first()?;
    found.iter().all(|base| *base == first).then_some(first)
}

fn with_port(about: &About<'_>, word: &str, base: Option<u32>) -> String {
    match port_of(about, word).filter(|(_, own)| Some(*own) == base) {
        Some((range, _)) => format!("{}{PORT}{}", &word[..range.start], &word[range.end..]),
        None => word.to_owned(),
    }
}

/// The port's own mark until `expand` sees it.
const PORT: &str = "%(regrow_port)s";

/// `%(program_name)s` and its like.
fn expand(about: &About<'_>, text: &str) -> Result<Word, String> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            plain.push('%');
            rest = after;
            continue;
        }
        let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
            return Err("a `%` is neither doubled nor followed by `(name)s`".to_owned());
        };
        let Some(end) = after.find(['s', 'd']) else {
            return Err(format!("`%({name})` has no `s` or `d` behind it"));
        };
        let width = after[..end].parse::<usize>().unwrap_or(0).min(9);
        rest = &after[end + 1..];
        let part = match name {
            "program_name" => Part::Text(about.name.to_owned()),
            "group_name" => Part::Text(about.group.to_owned()),
            "here" => Part::Text(about.here.to_owned()),
            // supervisord asks its own machine, too.
            "host_node_name" => Part::Text(host_name()),
            "numprocs" => Part::Text(about.instances.to_string()),
            "process_num" if about.instances == 1 => Part::Text(format!("{:0width$}", about.first)),
            "process_num" => Part::Place("index".to_owned()),
            "regrow_port" => Part::Place("port".to_owned()),
            name => match name.strip_prefix("ENV_") {
                Some(variable) if is_variable(variable) => Part::Env(variable.to_owned()),
                Some(_) | None => return Err(format!("regrow knows nothing like `%({name})s`")),
            },
        };
        match part {
            Part::Text(text) => plain.push_str(&text),
            part @ (Part::Place(_) | Part::Env(_) | Part::Words(_)) => {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(part);
            }
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// What a shell can name.
fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `A="1",B='x y',C=3`
fn environment(section: &mut Section, about: &About<'_>, raw: &str, value: &str) {
    let Some(pairs) = variables(value) else {
        return section.push(Entry::left(raw, "expected KEY=\"value\",KEY2=\"value\""));
    };
    let (mut sets, mut left) = (Vec::new(), Vec::new());
    for (name, value) in pairs {
        match expand(about, &value) {
            Ok(parts) => match (words::template(&parts), parts.as_slice()) {
                (Some(text), _) => sets.push(Setting::env(&name, &text)),
                (None, [Part::Env(other)]) => {
                    let from = format!("{{ env = {} }}", crate::cli::init::render::toml_text(other));
                    sets.push(Setting::raw(format!("secrets.{}", super::form::key(&name)), from));
                }
                (None, _) => left.push(format!("{name} (regrow puts no variables into others)")),
            },
            Err(why) => left.push(format!("{name} ({why})")),
        }
    }
    if sets.is_empty() {
        let why = if left.is_empty() { "nothing is set".to_owned() } else { left.join(", ") };
        return section.push(Entry::left(raw, why));
    }
    let entry = Entry::taken(raw, sets);
    section.push(if left.is_empty() { entry } else { entry.note(format!("left: {}", left.join(", "))) });
}

/// Commas, white space and quotes between pairs.
fn variables(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return None;
        }
        let after = after.trim_start();
        let (value, after) = match after.chars().next() {
            Some(quote @ ('"' | '\'')) => after[1..].split_once(quote)?,
            Some(_) | None => {
                let end = after.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        found.push((name.to_owned(), value.to_owned()));
        rest = after.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    Some(found)
}
