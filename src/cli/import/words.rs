//! Command lines of other supervisors, as words of a command.
//!
//! A command of `regrow.toml` passes no shell, and nothing of its environment is put into it. A word that needs that is
//! given to `/bin/sh`, which then becomes the program (`exec`), so that there is no process in between.

/// A part of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// As it stands.
    Text(String),
    /// A placeholder of regrow, without its braces.
    Place(String),
    /// A variable, as one word.
    Env(String),
    /// A variable whose value is cut at its spaces.
    Words(String),
}

/// One word.
pub(super) type Word = Vec<Part>;

/// The words of a command, as they stand in `regrow.toml`.
pub(super) fn command(words: &[Word]) -> Vec<String> {
    match words.iter().map(|word| template(word)).collect::<Option<Vec<_>>>() {
        Some(plain) => plain,
        None => {
            let line: Vec<_> = words.iter().map(|word| shell_word(word)).collect();
            vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("exec {}", line.join(" "))]
        }
    }
}

/// The words as a line for a shell, as it stands in `regrow.toml`.
pub(super) fn shell_line(words: &[Word]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// A value with placeholders; `None` if it needs a variable.
pub(super) fn template(word: &[Part]) -> Option<String> {
    word.iter()
        .map(|part| match part {
            Part::Text(text) => Some(braced(text)),
            Part::Place(name) => Some(format!("{{{name}}}")),
            Part::Env(_) | Part::Words(_) => None,
        })
        .collect()
}

/// Braces that are no placeholders.
pub(super) fn braced(text: &str) -> String {
    text.replace('{', "{{")
}

fn shell_word(word: &[Part]) -> String {
    if word.is_empty() {
        return "''".to_owned();
    }
    word.iter()
        .map(|part| match part {
            Part::Text(text) => braced(&quoted(text)),
            Part::Place(name) => format!("\"{{{name}}}\""),
            Part::Env(name) => format!("\"${{{{{name}}}\""),
            Part::Words(name) => format!("${{{{{name}}}"),
        })
        .collect()
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,+@%".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Cut as a POSIX shell would: quotes, and a backslash outside of single ones.
///
/// # Errors
/// In words, if a quote has no end.
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some('"'), '\\') if chars.peek().is_some_and(|next| "\"\\$`".contains(*next)) => {
                word.get_or_insert_default().extend(chars.next());
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("it ends in a backslash"),
            },
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote has no end");
    }
    words.extend(word);
    Ok(words)
}

/// Programs that gain rights, which `no_new_privs` keeps them from.
const GAINING: [&str; 6] = ["sudo", "su", "doas", "pkexec", "ping", "crontab"];

/// Whether the command needs `no_new_privs = false`.
pub(super) fn gains_rights(command: &[String]) -> bool {
    let program = |word: &str| GAINING.contains(&word.rsplit('/').next().unwrap_or(word));
    match command {
        [shell, flag, line] if shell == "/bin/sh" && flag == "-c" => {
            line.split_whitespace().find(|word| *word != "exec").is_some_and(program)
        }
        [first, ..] => program(first),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_a_shell_cuts_them() {
        let cut = |text| split(text).map_err(str::to_owned);
        let words = |words: &[&str]| Ok(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(cut("a  'b c' \"d \\\"e\\n\" f\\ g ''"), words(&["a", "b c", "d \"e\\n", "f g", ""]));
        assert_eq!(cut("x=\"1 2\"y"), words(&["x=1 2y"]));
        assert!(cut("a 'b").is_err() && cut("a \\").is_err());
    }

    #[test]
    fn a_variable_needs_a_shell_and_braces_stay_braces() {
        let text = |text: &str| Part::Text(text.to_owned());
        let plain = [vec![text("web")], vec![text("{a} "), Part::Place("index".to_owned())]];
        assert_eq!(command(&plain), ["web", "{{a} {index}"]);
        let env = [vec![text("web")], vec![text("-p it's "), Part::Env("PORT".to_owned())]];
        assert_eq!(command(&env), ["/bin/sh", "-c", "exec web '-p it'\\''s '\"${{PORT}\""]);
        assert!(gains_rights(&["/usr/bin/sudo".to_owned(), "x".to_owned()]));
        assert!(!gains_rights(&["/usr/bin/web".to_owned()]));
    }
}
