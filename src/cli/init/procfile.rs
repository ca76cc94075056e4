//! `--from FILE`: a Procfile, or one command a line.

use std::path::Path;

use super::argv::Line;
use super::{Planned, Source};
use crate::cli::failure::Failure;
use crate::cli::words::safe;

/// More than any file of commands; a log or an image that was given by mistake is refused early.
const LARGEST: u64 = 1 << 20;

/// Files that other supervisors read, by what they are called.
const OTHERS: [(&str, &str); 9] = [
    (".service", "a systemd unit"),
    (".timer", "a systemd unit"),
    (".ini", "a configuration of supervisord or circus"),
    (".conf", "a configuration of supervisord"),
    (".json", "JSON, as PM2 reads it"),
    (".js", "JavaScript, as PM2 reads it"),
    (".yaml", "YAML, as Docker Compose or PM2 read it"),
    (".yml", "YAML, as Docker Compose or PM2 read it"),
    (".toml", "TOML; a configuration of regrow needs no `init`: `regrow start -c FILE`"),
];

/// Reads the commands.
pub(super) fn read(file: &Path) -> Result<Vec<Planned>, Failure> {
    let shown = file.display();
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot read {shown}: {error}"));
    let meta = std::fs::metadata(file).map_err(failed)?;
    if meta.is_file() && meta.len() > LARGEST {
        return Err(Failure::Usage(format!("{shown} is too large for a file of commands")));
    }
    let text = String::from_utf8(std::fs::read(file).map_err(failed)?)
        .map_err(|_| Failure::Usage(format!("{shown} is no text")))?;
    if let Some(what) = other_format(file, &text) {
        return Err(Failure::Usage(format!(
            "{shown} looks like {what}, which `init --from` does not read: what supervisord, systemd and PM2 run \
             is taken over by `regrow import {shown}`. It takes a Procfile (`web: ./web`), or a file with one command a \
             line"
        )));
    }
    let found = commands(&text, &shown.to_string())?;
    if found.is_empty() {
        return Err(Failure::Usage(format!("{shown} holds no command")));
    }
    Ok(found)
}

/// The commands of a text, unless it is a Procfile with a line that is no entry.
pub(super) fn commands(text: &str, file: &str) -> Result<Vec<Planned>, Failure> {
    match misfit(text) {
        None => Ok(parse(text, file)),
        Some((number, line)) => Err(Failure::Usage(format!(
            "{file}, line {number}: `{}` is no entry of a Procfile, as its other lines are: NAME: COMMAND, with \
             letters, digits, `_` and `-` in NAME. Correct it, or put a # before it",
            safe(line)
        ))),
    }
}

/// The commands of a text; none of comments and empty lines.
fn parse(text: &str, file: &str) -> Vec<Planned> {
    let lines = lines(text);
    let is_procfile = lines.iter().all(|(_, line)| entry(line).is_some());
    let planned = |(number, line): &(usize, &str)| {
        let (name, command) = match entry(line).filter(|_| is_procfile) {
            Some((name, command)) => (name.to_owned(), Line::of(command)),
            None => (Line::of(line).name(), Line::of(line)),
        };
        Planned { name, line: command, source: Source::Found(format!("{file}, line {number}")) }
    };
    lines.iter().map(planned).collect()
}

fn lines(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// The first line that is no entry of what is a Procfile otherwise: no command begins with `web:`.
fn misfit(text: &str) -> Option<(usize, &str)> {
    let lines = lines(text);
    let entries = lines.iter().filter(|(_, line)| entry(line).is_some()).count();
    if entries * 2 <= lines.len() && lines.first().is_none_or(|(_, line)| entry(line).is_none()) {
        return None;
    }
    lines.into_iter().find(|(_, line)| entry(line).is_none())
}

/// `web: ./web`
pub(in crate::cli) fn entry(line: &str) -> Option<(&str, &str)> {
    let (name, command) = line.split_once(':')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let command = command.trim();
    (is_name && !command.is_empty()).then_some((name, command))
}

fn other_format(file: &Path, text: &str) -> Option<&'static str> {
    let name = file.file_name()?.to_string_lossy().to_ascii_lowercase();
    if let Some((_, what)) = OTHERS.iter().find(|(ending, _)| name.ends_with(ending)) {
        return Some(what);
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']))?;
    match (first.starts_with('['), first.starts_with('{')) {
        (true, _) => Some("a file with sections, such as a systemd unit or a configuration of supervisord"),
        (_, true) => Some("JSON, as PM2 reads it"),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        parse(text, "f").into_iter().map(|one| (one.name, one.line.shown())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, line)| ((*name).to_owned(), (*line).to_owned())).collect()
    }

    #[test]
    fn a_procfile_names_its_workers_and_a_plain_list_does_not() {
        let procfile = "# all\nweb: bundle exec rails s -p $PORT\n\nclock:python clock.py\n";
        assert_eq!(
            found(procfile),
            pairs(&[("web", "bundle exec rails s -p $PORT"), ("clock", "python clock.py")])
        );
        assert_eq!(
            found("./web --port 80\ncurl http://localhost/\n"),
            pairs(&[("web", "./web --port 80"), ("curl", "curl http://localhost/")])
        );
        assert_eq!(parse("\n\nweb: x\n", "Procfile")[0].source.to_string(), "Procfile, line 3");
    }

    #[test]
    fn a_line_that_is_none_of_a_procfile_is_named_and_does_not_make_commands_of_the_others() {
        let faulty = "web: sleep 2\n# note\nbad name!: sleep 1\nclock: sleep 3\n";
        assert_eq!(misfit(faulty), Some((3, "bad name!: sleep 1")));
        assert_eq!(misfit("./first\nweb: x\nclock: y\n"), Some((1, "./first")));
        for right in ["web: x\nclock: y\n", "./web --port 80\ncurl http://localhost/\n", "./a\nb: c\n", ""] {
            assert_eq!(misfit(right), None, "{right}");
        }
    }

    #[test]
    fn formats_of_others_are_named_and_refused() {
        for (name, text) in [
            ("web.service", "[Unit]\n"),
            ("supervisord.conf", "[program:web]\n"),
            ("ecosystem.config.js", "module.exports = {}"),
            ("anything", "; note\n[program:web]\n"),
            ("noname", "{ \"apps\": [] }"),
        ] {
            assert!(other_format(Path::new(name), text).is_some(), "{name}");
        }
        assert_eq!(other_format(Path::new("Procfile"), "web: x\n"), None);
    }
}
