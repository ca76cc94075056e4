//! The file that `init` writes: what was chosen, with the words that a reader needs to change it.

use std::collections::BTreeSet;

use super::argv::Line;
use super::{Planned, Source};

/// What is written for a worker about which nothing is known.
const DEMO: &str = "while :; do echo \"$REGROW_INSTANCE is alive\"; sleep 5; done";

/// The first port that the processes of a Procfile are given, and the step to the next, as every runner of Procfiles
/// has it.
pub(in crate::cli) const FIRST_PORT: usize = 5000;
pub(in crate::cli) const NEXT_PORT: usize = 100;

/// What the file is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    /// `runtime.name`
    pub(super) name: String,
    /// Its workers.
    pub(super) workers: Vec<Planned>,
    /// Started again also after code 0.
    pub(super) restart_after_success: bool,
    /// Names that are passed through.
    pub(super) inherit_env: Vec<String>,
}

impl Draft {
    /// With these workers, and what is usual.
    pub(super) fn new(name: String, workers: Vec<Planned>) -> Self {
        Self { name, workers, restart_after_success: true, inherit_env: Vec::new() }
    }

    /// So many workers: the first of those that are known, then demonstrations; without a number at least one. Every
    /// name becomes one that the file may use.
    pub(super) fn fill_up(&mut self, count: Option<usize>) {
        let count = count.unwrap_or(self.workers.len().max(1));
        self.workers.truncate(count);
        let demos = count - self.workers.len();
        for number in 1..=demos {
            let name = if demos == 1 { "demo".to_owned() } else { format!("demo-{number}") };
            self.workers.push(Planned { name, line: Line::Shell(DEMO.to_owned()), source: Source::Demo });
        }
        // The root supervisor has its name already.
        let mut taken = BTreeSet::from(["root".to_owned()]);
        for worker in &mut self.workers {
            worker.name = free(&plain(&worker.name), &mut taken);
        }
    }

    /// The file.
    pub(super) fn render(&self) -> String {
        let mut out = String::from(HEADER);
        out.push_str(&format!(
            "\n[runtime]\n# In every status, metric and alert.\nname = {}\n",
            toml_text(&self.name)
        ));
        out.push_str(&self.defaults());
        for (number, worker) in self.workers.iter().enumerate() {
            out.push_str(&section(worker, FIRST_PORT + number * NEXT_PORT));
        }
        out.push_str(FOOTER);
        out
    }

    fn defaults(&self) -> String {
        let mut keys = String::new();
        if !self.restart_after_success {
            keys.push_str(
                "# A worker that ends with code 0 is done; after any other end it is started again.\n",
            );
            keys.push_str("restart = \"transient\"\n");
        }
        if !self.inherit_env.is_empty() {
            keys.push_str(
                "# Passed on from the environment that regrow is started in; [\"*\"] passes everything.\n",
            );
            let names: Vec<_> = self.inherit_env.iter().map(|name| toml_text(name)).collect();
            keys.push_str(&format!("inherit_env = [{}]\n", names.join(", ")));
        }
        if keys.is_empty() {
            keys
        } else {
            format!("\n# Holds for all workers below.\n[defaults.worker]\n{keys}")
        }
    }

    /// Programs without a path that the PATH does not have.
    pub(super) fn missing_programs(&self) -> BTreeSet<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path =
            |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
        let programs = self.workers.iter().filter_map(|worker| worker.line.argv().into_iter().next());
        programs.filter(|program| !program.contains('/') && !on_path(program)).collect()
    }
}

const HEADER: &str = "\
# Workers of regrow. After a change `regrow check` shows every mistake at once,
# and `regrow apply` takes it over while the workers run.
#
# A worker that ends is started again: at once the first time, then after
# growing delays. One that fails more than 10 times in 5 minutes is parked and
# tried again later.
#
# Every setting with its default: `regrow check --explain`.
# For completion in an editor: `regrow schema`.
";

const FOOTER: &str = r##"
# More that a worker can say:
#
#     ready = { log = "listening on" }  # ready once a line of its output matches
#     after = ["database"]              # starts once that one is ready
#     env = { MODE = "prod" }           # variables it is given
#     cwd = "app"                       # where it runs, seen from this file
#     stop = { timeout = "30s" }        # killed this long after it was asked to end
#     critical = true                   # the whole does not work without it
#
# Workers that feed on each other belong to a supervisor of their own:
#
#     [supervisor.pipeline]
#     strategy = "rest_for_one"         # if one fails, those after it restart too
#     children = ["receiver", "parser"]
"##;

fn section(worker: &Planned, port: usize) -> String {
    let mut out = match worker.source {
        Source::Answer => String::from("\n"),
        Source::Demo => String::from("\n# A demonstration: put your own command here.\n"),
        Source::Found(_) => format!("\n# From {}.\n", one_line(&worker.source.to_string())),
    };
    out.push_str(&format!("[worker.{}]\n", worker.name));
    // Braces are the command's own and no placeholders.
    let words: Vec<_> = worker.line.argv().iter().map(|word| toml_text(&word.replace('{', "{{"))).collect();
    out.push_str(&format!("command = [{}]\n", words.join(", ")));
    if worker.line.wants_port() {
        out.push_str(&format!("env = {{ PORT = \"{port}\" }}\n"));
    }
    match worker.line {
        Line::Words(_) => {}
        // The shell's own children are to hear of the stop, too.
        Line::Shell(_) => out.push_str("stop = { to = \"group\" }\n"),
    }
    out
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A text in quotes.
pub(in crate::cli) fn toml_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A name as the file wants it: small letters, digits, `-` and single `_`, beginning with a letter.
pub(in crate::cli) fn plain(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = c.to_ascii_lowercase();
        let kept = if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        if !(kept == '_' && out.ends_with('_')) {
            out.push(kept);
        }
    }
    let out = out.trim_matches(['_', '-']);
    let out = if out.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.to_owned()
    } else {
        format!("worker-{out}")
    };
    let out: String = out.trim_end_matches('-').chars().take(58).collect();
    out
}

/// The name, with a number behind it if it is taken.
pub(in crate::cli) fn free(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut found = name.to_owned();
    let mut number = 2;
    while !taken.insert(found.clone()) {
        found = format!("{name}-{number}");
        number += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, expand, load};

    fn draft(commands: &[(&str, &str)]) -> Draft {
        let planned = |(name, line): &(&str, &str)| Planned {
            name: (*name).to_owned(),
            line: Line::of(line),
            source: Source::Answer,
        };
        Draft::new("orders".to_owned(), commands.iter().map(planned).collect())
    }

    #[test]
    fn every_command_arrives_as_it_was_written_whatever_is_in_it() {
        let commands = [
            ("a", "./web --port 80"),
            ("b", "awk '{ print \"{worker}\" }' \\\\ file"),
            ("c", "echo \"tab\there\" | cat"),
            ("d", "printf 'ünï' > \"x y\""),
        ];
        let mut draft = draft(&commands);
        draft.inherit_env = vec!["LANG".to_owned(), "*".to_owned()];
        draft.restart_after_success = false;
        draft.fill_up(None);
        let loaded = load(&Sources::text(draft.render())).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.settings.warnings, Vec::<String>::new());
        for (worker, (_, line)) in loaded.settings.workers.iter().zip(commands) {
            let words: Vec<_> = worker.command.iter().map(|word| expand(word, |_| None).unwrap()).collect();
            assert_eq!(words, Line::of(line).argv());
        }
        assert_eq!(loaded.settings.runtime.name, "orders");
    }

    #[test]
    fn odd_and_equal_names_become_good_ones() {
        let mut draft = draft(&[
            ("Web", "x"),
            ("web", "x"),
            ("@scope/my__app", "x"),
            ("root", "x"),
            ("9", "x"),
            ("", "x"),
        ]);
        draft.fill_up(None);
        let names: Vec<_> = draft.workers.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!(names, ["web", "web-2", "scope_my_app", "root-2", "worker-9", "worker"]);
        assert!(load(&Sources::text(draft.render())).is_ok());
    }

    #[test]
    fn a_number_of_workers_is_kept_and_demonstrations_fill_it_up() {
        let mut more = draft(&[("web", "x")]);
        more.fill_up(Some(3));
        let names: Vec<_> = more.workers.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!(names, ["web", "demo-1", "demo-2"]);
        let mut none = draft(&[]);
        none.fill_up(None);
        assert_eq!(none.workers[0].name, "demo");
        let mut fewer = draft(&[("a", "x"), ("b", "x")]);
        fewer.fill_up(Some(1));
        assert_eq!(fewer.workers.len(), 1);
    }

    #[test]
    fn a_procfile_process_has_its_port() {
        let mut draft = draft(&[("web", "web -p $PORT"), ("api", "api -p $PORT")]);
        draft.fill_up(None);
        let text = draft.render();
        assert!(
            text.contains("env = { PORT = \"5000\" }") && text.contains("env = { PORT = \"5100\" }"),
            "{text}"
        );
    }
}
