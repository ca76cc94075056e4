//! `{instance}` and its like in commands, directories and environment values.
//!
//! A value is put in place and never split or read again, so what it holds (spaces, `;`, `$(…)`, braces) stays
//! one argument. `{{` is a brace; a closing brace needs no such care.

/// Every name that may stand in braces.
pub const PLACEHOLDERS: [&str; 7] =
    ["worker", "instance", "slug", "index", "incarnation", "port", "state_dir"];

/// Why a text with braces is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// A name that is none of [`PLACEHOLDERS`].
    #[error("`{{{0}}}` is not a placeholder")]
    Unknown(String),
    /// A brace that is never closed.
    #[error("a brace is opened and never closed")]
    Open,
}

/// Replaces every placeholder by what `value` has for it; one without a value becomes empty.
///
/// # Errors
/// [`PlaceholderError`]; never for a text that came out of the configuration, which is checked there.
///
/// ```
/// use regrow::config::expand;
/// let text = expand("run {worker} {{x}", |name| (name == "worker").then(|| "a b".to_owned()));
/// assert_eq!(text.unwrap(), "run a b {x}");
/// ```
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, PlaceholderError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('{') {
            out.push('{');
            rest = after;
            continue;
        }
        let (name, after) = rest.split_once('}').ok_or(PlaceholderError::Open)?;
        if !PLACEHOLDERS.contains(&name) {
            return Err(PlaceholderError::Unknown(name.to_owned()));
        }
        out.push_str(&value(name).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Puts values into the gaps `{param.x}` of a template, and leaves everything else for [`expand`]. Braces in a value
/// are doubled, so that it is not read again there either.
pub(super) fn fill(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    fill_last(text, |name| value(name).replace('{', "{{"))
}

/// The same in a text that nobody expands.
pub(super) fn fill_last(text: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let gap = rest.strip_prefix("{param.").and_then(|rest| rest.split_once('}'));
        if let Some((name, after)) = gap {
            out.push_str(&value(name));
            rest = after;
        } else {
            let brace = if rest.starts_with("{{") { "{{" } else { "{" };
            out.push_str(brace);
            rest = &rest[brace.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// Puts a worker's pid into the `{pid}` of a command beside it, and leaves everything else for [`expand`].
pub(crate) fn fill_pid(text: &str, pid: &str) -> String {
    const GAP: &str = "{pid}";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (said, read) = if rest.starts_with(GAP) {
            (pid, GAP.len())
        } else if rest.starts_with("{{") {
            ("{{", 2)
        } else {
            ("{", 1)
        };
        out.push_str(said);
        rest = &rest[read..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_read_again() {
        let out = expand("{worker}-{slug}", |_| Some("{instance}; $(id)".into()));
        assert_eq!(out.unwrap(), "{instance}; $(id)-{instance}; $(id)");
    }

    #[test]
    fn gaps_are_filled_and_the_rest_is_left() {
        let fill = |text: &str| fill(text, |name| format!("<{name}{{>"));
        assert_eq!(fill("{param.x}/{worker}/{{param.x}"), "<x{{>/{worker}/{{param.x}");
        assert_eq!(fill("{param.x"), "{param.x");
    }

    #[test]
    fn the_pid_is_put_in_where_it_is_no_text_of_its_own() {
        for (text, filled) in [
            ("{pid}", "7"),
            ("-p {pid}:{{pid}", "-p 7:{pid}"),
            ("{{{pid}", "{7"),
            ("a{worker}", "aw"),
            ("{{pid", "{pid"),
        ] {
            assert_eq!(expand(&fill_pid(text, "7"), |_| Some("w".to_owned())).unwrap(), filled, "{text}");
        }
    }

    #[test]
    fn braces_and_strangers() {
        assert_eq!(expand("{{\"a\": 1}", |_| None).unwrap(), "{\"a\": 1}");
        assert_eq!(expand("{pid}", |_| None), Err(PlaceholderError::Unknown("pid".into())));
        assert_eq!(expand("a {worker", |_| None), Err(PlaceholderError::Open));
    }
}
