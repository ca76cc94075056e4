//! A line that somebody would type, as the words of a command.
//!
//! A command of the file is a list of words and passes no shell. A line that needs one (pipes, variables, quotes) is
//! given to `/bin/sh -c`, as it stands; a plain one is cut at its spaces.

/// What only a shell understands; `=` may set a variable in front of the command.
const SHELL: &str = "|&;<>()$`\\\"'*?[]#~=%!{}";

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Line {
    /// Words.
    Words(Vec<String>),
    /// For a shell.
    Shell(String),
}

impl Line {
    /// A line as it was written, without what a shell is told about it: `exec`, `nohup`, and `&` behind it. Whoever is
    /// supervised is not sent to the background.
    pub(in crate::cli) fn of(text: &str) -> Self {
        let text = bare(text.trim());
        if text.contains(|c: char| SHELL.contains(c)) {
            return Self::Shell(text.to_owned());
        }
        Self::words(text.split_whitespace())
    }

    /// These words.
    pub(in crate::cli) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Words(words.into_iter().map(str::to_owned).collect())
    }

    /// The words that are run.
    pub(in crate::cli) fn argv(&self) -> Vec<String> {
        match self {
            Self::Words(words) => words.clone(),
            Self::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
        }
    }

    /// As it was written.
    pub(in crate::cli) fn shown(&self) -> String {
        match self {
            Self::Words(words) => words.join(" "),
            Self::Shell(text) => text.clone(),
        }
    }

    /// Whether it asks which port to listen on, as the commands of a Procfile do.
    pub(in crate::cli) fn wants_port(&self) -> bool {
        match self {
            Self::Words(_) => false,
            Self::Shell(text) => text.contains("$PORT") || text.contains("${PORT"),
        }
    }

    /// A name for a worker that runs this: the script of an interpreter, else the program.
    pub(in crate::cli) fn name(&self) -> String {
        let words = match self {
            Self::Words(words) => words.clone(),
            Self::Shell(text) => text.split_whitespace().map(str::to_owned).collect(),
        };
        let Some(program) = words.iter().find(|word| !word.contains('=')) else { return "worker".to_owned() };
        let stem = |word: &str| {
            let last = word.rsplit('/').next().unwrap_or(word);
            last.split('.').next().unwrap_or(last).to_owned()
        };
        let runs_scripts = ["python", "node", "ruby", "perl", "php", "bash", "sh", "java", "deno", "bun"];
        let interpreter = runs_scripts.iter().any(|name| {
            stem(program).strip_prefix(name).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit()))
        });
        let script =
            words.iter().skip_while(|word| *word != program).skip(1).find(|word| !word.starts_with('-'));
        match script.filter(|_| interpreter) {
            Some(script) => stem(script),
            None => stem(program),
        }
    }
}

fn bare(text: &str) -> &str {
    let front =
        text.strip_suffix('&').filter(|rest| !rest.ends_with(['&', '>', '|'])).unwrap_or(text).trim_end();
    ["exec ", "nohup "].iter().fold(front, |text, word| text.strip_prefix(word).map_or(text, str::trim_start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_the_shell_of_a_script_is_left_out() {
        let words = |text: &str| Line::of(text).argv();
        assert_eq!(words("exec sleep 100"), ["sleep", "100"]);
        assert_eq!(words("nohup python3 -m http.server 8000 &"), ["python3", "-m", "http.server", "8000"]);
        assert_eq!(words("executor --fast"), ["executor", "--fast"]);
        assert_eq!(words("a && b")[2], "a && b");
    }

    #[test]
    fn a_plain_line_needs_no_shell_and_any_other_gets_one() {
        assert_eq!(Line::of(" ./web  --port 80 "), Line::words(["./web", "--port", "80"]));
        for text in ["a | b", "echo \"a b\"", "A=1 web", "web -p $PORT", "web > log", "ls *", "awk {print}"] {
            assert_eq!(Line::of(text), Line::Shell(text.to_owned()));
        }
        assert_eq!(Line::of("a; b").argv(), ["/bin/sh", "-c", "a; b"]);
        assert!(Line::of("web -p ${PORT:-80}").wants_port() && !Line::of("web").wants_port());
    }

    #[test]
    fn a_worker_is_called_after_what_runs() {
        for (text, name) in [
            ("/usr/bin/redis-server --port 1", "redis-server"),
            ("python3 -u parser.py --fast", "parser"),
            ("node dist/server.js", "server"),
            ("RAILS_ENV=prod bundle exec rails s", "bundle"),
            ("python -m http", "http"),
            ("./run.sh", "run"),
            ("python3", "python3"),
        ] {
            assert_eq!(Line::of(text).name(), name, "{text}");
        }
    }
}
