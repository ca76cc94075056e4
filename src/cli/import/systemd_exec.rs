//! Command lines of units: their own quotes, specifiers and variables.

use super::words::{Part, Word};

/// What a unit is called, for its specifiers.
#[derive(Debug, Clone)]
pub(super) struct About {
    /// `web@8001`, without `.service`.
    pub(super) name: String,
    /// Of its user.
    pub(super) user: String,
}

impl About {
    /// `web` of `web@8001`.
    pub(super) fn prefix(&self) -> &str {
        self.name.split('@').next().unwrap_or(&self.name)
    }

    /// `8001` of `web@8001`; empty for `web@`, which is a template.
    pub(super) fn instance(&self) -> Option<&str> {
        self.name.split_once('@').map(|(_, instance)| instance)
    }

    /// Whether it stands for many.
    pub(super) fn is_template(&self) -> bool {
        self.instance() == Some("")
    }
}

/// The parameter of a template that stands for the instance.
pub(super) const PARAM: &str = "param.instance";

/// `%i` and its like.
///
/// # Errors
/// In words, for one that regrow has nothing for.
pub(super) fn specifiers(about: &About, text: &str) -> Result<Word, String> {
    let mut parts: Word = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            push(&mut parts, &c.to_string());
            continue;
        }
        let Some(letter) = chars.next() else { return Err("it ends in a lone `%`".to_owned()) };
        let fixed = match letter {
            '%' => "%",
            't' => "/run",
            'S' => "/var/lib",
            'C' => "/var/cache",
            'L' => "/var/log",
            'E' => "/etc",
            'T' => "/tmp",
            'V' => "/var/tmp",
            'p' | 'P' => about.prefix(),
            'u' => &about.user,
            'h' => {
                parts.push(Part::Env("HOME".to_owned()));
                continue;
            }
            'i' | 'I' | 'n' | 'N' => {
                if letter == 'n' || letter == 'N' {
                    push(&mut parts, about.prefix());
                    if about.instance().is_some() {
                        push(&mut parts, "@");
                    }
                }
                match about.instance() {
                    Some("") => parts.push(Part::Place(PARAM.to_owned())),
                    Some(instance) => push(&mut parts, instance),
                    None => {}
                }
                if letter == 'n' {
                    push(&mut parts, ".service");
                }
                continue;
            }
            other => return Err(format!("regrow has nothing for `%{other}`: write what it stands for")),
        };
        push(&mut parts, fixed);
    }
    Ok(parts)
}

fn push(parts: &mut Word, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        Some(_) | None => parts.push(Part::Text(text.to_owned())),
    }
}

/// Words in quotes or not, with the escapes of C. A lone `;` that is not quoted parts commands and comes as `None`.
///
/// # Errors
/// In words, if a quote has no end.
pub(super) fn split(text: &str) -> Result<Vec<Option<String>>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut bare = true;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (_, '\\') => {
                bare = false;
                let word = word.get_or_insert_default();
                match chars.next() {
                    Some('n') => word.push('\n'),
                    Some('t') => word.push('\t'),
                    Some('r') => word.push('\r'),
                    Some('s') => word.push(' '),
                    Some('x') => {
                        let digits: String = chars.by_ref().take(2).collect();
                        let Ok(code) = u8::from_str_radix(&digits, 16) else {
                            return Err("`\\x` wants two digits");
                        };
                        word.push(char::from(code));
                    }
                    Some(other @ ('\\' | '"' | '\'' | ';')) => word.push(other),
                    Some(other) => word.extend(['\\', other]),
                    None => return Err("it ends in a backslash"),
                }
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                bare = false;
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => {
                words.extend(word.take().map(|word| parting(word, bare)));
                bare = true;
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote has no end");
    }
    words.extend(word.map(|word| parting(word, bare)));
    Ok(words)
}

fn parting(word: String, bare: bool) -> Option<String> {
    (!(bare && word == ";")).then_some(word)
}

/// One command of an `Exec…=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exec {
    pub(super) words: Vec<Word>,
    /// What its prefix says and regrow does not do.
    pub(super) notes: Vec<&'static str>,
}

/// The commands of a line.
///
/// # Errors
/// In words.
pub(super) fn commands(about: &About, value: &str) -> Result<Vec<Exec>, String> {
    let words = split(value).map_err(|why| format!("cannot be cut into words: {why}"))?;
    words
        .split(Option::is_none)
        .filter(|words| !words.is_empty())
        .map(|words| command(about, words))
        .collect()
}

fn command(about: &About, words: &[Option<String>]) -> Result<Exec, String> {
    let mut notes = Vec::new();
    let mut words: Vec<String> = words.iter().flatten().cloned().collect();
    let mut plain = false;
    let Some(first) = words.first_mut() else { return Err("it names no program".to_owned()) };
    while let Some(mark) = first.chars().next().filter(|c| "@-:+!|".contains(*c)) {
        first.remove(0);
        match mark {
            '-' => notes.push("`-`: a failure counts as one here"),
            '@' => notes.push("`@`: the program is called by its own name here"),
            ':' => plain = true,
            '+' | '!' => notes.push("`+`, `!`: it runs as `user` here, like everything of this worker"),
            _ => notes.push("`|`: it runs in no shell of its user here"),
        }
    }
    if first.is_empty() {
        return Err("it names no program".to_owned());
    }
    if notes.iter().any(|note| note.starts_with("`@`")) && words.len() > 1 {
        words.remove(1);
    }
    let words: Result<Vec<Word>, String> = words
        .iter()
        .enumerate()
        .map(|(number, word)| {
            let parts = specifiers(about, word)?;
            Ok(if plain || number == 0 { parts } else { variables(parts) })
        })
        .collect();
    Ok(Exec { words: words?, notes })
}

/// `${NAME}` anywhere, `$NAME` as a word of its own, `$$` for `$`.
fn variables(parts: Word) -> Word {
    if let [Part::Text(text)] = parts.as_slice()
        && let Some(name) = text.strip_prefix('$').filter(|name| is_variable(name))
    {
        return vec![Part::Words(name.to_owned())];
    }
    let mut out: Word = Vec::new();
    for part in parts {
        let Part::Text(text) = part else {
            out.push(part);
            continue;
        };
        let mut rest = text.as_str();
        while let Some(at) = rest.find('$') {
            push(&mut out, &rest[..at]);
            let after = &rest[at + 1..];
            let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            if let Some(after) = after.strip_prefix('$') {
                push(&mut out, "$");
                rest = after;
            } else if let Some((name, after)) = braced.filter(|(name, _)| is_variable(name)) {
                out.push(Part::Env(name.to_owned()));
                rest = after;
            } else {
                push(&mut out, "$");
                rest = after;
            }
        }
        if !rest.is_empty() {
            push(&mut out, rest);
        }
    }
    out.retain(|part| *part != Part::Text(String::new()));
    out
}

fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `/bin/kill -s HUP $MAINPID`: the signal.
pub(super) fn kill_of_main(value: &str) -> Option<String> {
    let words = split(value).ok()?;
    let words: Vec<&str> = words.iter().map(|word| word.as_deref()).collect::<Option<_>>()?;
    let (program, rest) = words.split_first()?;
    let program = program.trim_start_matches(['-', '@', ':', '+', '!']);
    if program.rsplit('/').next() != Some("kill") {
        return None;
    }
    let (target, options) = rest.split_last()?;
    if !matches!(*target, "$MAINPID" | "${MAINPID}") {
        return None;
    }
    match options {
        [] => Some("TERM".to_owned()),
        ["-s" | "--signal", signal] => Some((*signal).to_owned()),
        [option] => option.strip_prefix("--signal=").or_else(|| option.strip_prefix('-')).map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn argv(name: &str, value: &str) -> Vec<String> {
        let about = About { name: name.to_owned(), user: "root".to_owned() };
        let commands = commands(&about, value).unwrap_or_else(|why| panic!("{why}"));
        words::command(&commands[0].words)
    }

    #[test]
    fn commands_are_cut_and_filled_as_systemd_does() {
        assert_eq!(
            argv("a", "-/bin/a \"b c\" 'd\\x41' e\\sf %% %p"),
            ["/bin/a", "b c", "dA", "e f", "%", "a"]
        );
        assert_eq!(argv("w@80", "/bin/w -p %i -n %n"), ["/bin/w", "-p", "80", "-n", "w@80.service"]);
        assert_eq!(argv("w@", "/bin/w -p %i"), ["/bin/w", "-p", "{param.instance}"]);
        assert_eq!(
            argv("a", "/bin/a $OPTS ${X}y $$z a$b"),
            ["/bin/sh", "-c", "exec /bin/a ${{OPTS} \"${{X}\"y '$z' 'a$b'"]
        );
        assert_eq!(argv("a", "@/bin/a called -x"), ["/bin/a", "-x"]);
    }

    #[test]
    fn a_kill_of_the_main_process_is_a_signal() {
        for (value, signal) in [
            ("/bin/kill -HUP $MAINPID", Some("HUP")),
            ("/usr/bin/kill -s QUIT ${MAINPID}", Some("QUIT")),
            ("-/bin/kill --signal=USR2 $MAINPID", Some("USR2")),
            ("/bin/kill $MAINPID", Some("TERM")),
            ("/usr/sbin/nginx -s reload", None),
            ("/bin/kill -HUP 1", None),
        ] {
            assert_eq!(kill_of_main(value).as_deref(), signal, "{value}");
        }
    }
}
