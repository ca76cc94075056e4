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
    let text = unmarked(&text);
    if let Some(what) = other_format(file, text) {
        return Err(Failure::Usage(format!(
            "{shown} looks like {what}, which `init --from` does not read: what supervisord, systemd and PM2 run \
             is taken over by `regrow import {shown}`. It takes a Procfile (`web: ./web`), or a file with one command a \
             line"
        )));
    }
    let found = commands(text, &shown.to_string())?;
    if found.is_empty() {
        return Err(Failure::Usage(format!("{shown} holds no command")));
    }
    Ok(found)
}

/// The commands of a text, unless it is a Procfile with a line that is no entry.
pub(super) fn commands(text: &str, file: &str) -> Result<Vec<Planned>, Failure> {
    let text = unmarked(text);
    for (number, line) in lines(text) {
        let why = if names_nothing(line) {
            "names no command: NAME: COMMAND, and both on one line"
        } else if is_for_a_shell(line) && misfit(text).is_none() {
            "is for a shell, and each line here becomes a worker of its own. Put the script as a whole there, as one \
             line: `sh ./SCRIPT`"
        } else {
            continue;
        };
        return Err(Failure::Usage(format!("{file}, line {number}: `{}` {why}", safe(line))));
    }
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
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#') && !is_minded(line))
        .collect()
}

/// Without the mark that some editors put before a text.
fn unmarked(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// `web:`, and nothing behind it.
fn names_nothing(line: &str) -> bool {
    line.strip_suffix(':').is_some_and(|name| !name.is_empty() && !name.contains([' ', '/']))
}

/// What a start script does and regrow does by itself: it waits for all, and minds every end.
fn is_minded(line: &str) -> bool {
    matches!(line, "wait" | "set -e" | "set -u" | "set -x" | "set -eu" | "set -ex" | "set -eux")
        || line == "set -o pipefail"
        || line == "set -euo pipefail"
}

/// What means nothing without the lines around it, so that it is no worker.
fn is_for_a_shell(line: &str) -> bool {
    let first = line.split([' ', ';']).next().unwrap_or(line);
    let sets = |word: &str| word.split_once('=').is_some_and(|(name, _)| is_variable(name));
    let closes = ["fi", "done", "esac", "then", "else", "elif", "do", "}", ")", ";;"];
    let changes = ["cd", "export", "set", "unset", "source", ".", "trap", "ulimit", "umask", "alias", "wait"];
    let opens = ["if", "for", "while", "until", "case", "function"];
    let has = |ends: &[&str]| line.split([' ', '\t', ';']).any(|word| ends.contains(&word));
    // `cd web && ./serve` is a command; `if …; fi` in one line is one, too, wherever its output goes.
    let alone = !line.contains(['&', ';', '|']);
    let is_one = !line.contains(char::is_whitespace);
    closes.contains(&first)
        || (changes.contains(&first) && alone)
        || (opens.contains(&first) && !has(&["fi", "done", "esac", "}"]))
        || ((first == "{" || first.ends_with("()")) && !has(&["}"]))
        || (alone && (is_one || !line.contains(['$', '`', '"', '\''])) && line.split_whitespace().all(sets))
}

fn is_variable(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
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
        (false, false) => is_yaml(text).then_some("YAML, as Docker Compose or PM2 read it"),
    }
}

/// Whether there is a `name:` with something below it that stands further in.
fn is_yaml(text: &str) -> bool {
    let told = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let lines: Vec<&str> = text.lines().filter(told).collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    lines.windows(2).any(|pair| names_nothing(pair[0].trim()) && indent(pair[1]) > indent(pair[0]))
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
    fn what_is_no_command_becomes_no_worker() {
        assert_eq!(commands("\u{feff}web: x\n", "f").unwrap()[0].name, "web");
        let refused = |text: &str| match commands(text, "f") {
            Ok(found) => panic!("{text} gives {} workers", found.len()),
            Err(failure) => format!("{failure:?}"),
        };
        assert!(refused("web:\nb: sleep 1\n").contains("f, line 1: `web:` names no command"));
        assert!(refused("b: sleep 1\nweb:\n").contains("f, line 2: `web:` names no command"));
        for (line, text) in [
            ("export A=b", "set -e\nexport A=b\nexec sleep 9\n"),
            ("cd /tmp", "cd /tmp\nsleep 9\n"),
            ("A=b", "A=b\n./web\n"),
            ("A=$1", "A=$1\n./web\n"),
            ("if true; then", "if true; then\n./web\nfi\n"),
            ("fi", "./web\nfi\n"),
            ("serve() {", "serve() {\n./web\n}\n"),
        ] {
            assert!(refused(text).contains(&format!("`{line}` is for a shell")), "{text}");
        }
        let right = "set -e\n./web &\ncd api && ./serve &\nA=1 ./clock &\nif true; then ./x; fi\nwhile :; do ./y; done &\n\
                     for i in 1 2; do ./z $i; done >> log 2>&1\nrun() { ./v; } && run\nwait\n";
        let names: Vec<_> = found(right).into_iter().map(|(_, line)| line).collect();
        let (first, last) = names.split_at(4);
        assert_eq!(first, ["./web", "cd api && ./serve", "A=1 ./clock", "if true; then ./x; fi"]);
        assert_eq!(last[0], "while :; do ./y; done");
        assert!(
            last[1].starts_with("for i in 1 2; do ./z $i; done") && last[2] == "run() { ./v; } && run",
            "{last:?}"
        );
        assert!(commands(right, "f").is_ok());
        assert!(commands("set: ./set\ncd: ./cd\n", "f").is_ok(), "a Procfile may name them so");
    }

    #[test]
    fn formats_of_others_are_named_and_refused() {
        for (name, text) in [
            ("web.service", "[Unit]\n"),
            ("supervisord.conf", "[program:web]\n"),
            ("ecosystem.config.js", "module.exports = {}"),
            ("anything", "; note\n[program:web]\n"),
            ("noname", "{ \"apps\": [] }"),
            ("compose", "# mine\nservices:\n  web:\n    image: x\n"),
        ] {
            assert!(other_format(Path::new(name), text).is_some(), "{name}");
        }
        assert_eq!(other_format(Path::new("Procfile"), "web: x\n"), None);
    }
}
