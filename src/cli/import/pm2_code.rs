//! The few expressions of ecosystem files that mean the same on every machine.

use super::node::{Kind, Node};
use super::words::braced;

/// What an expression may know.
pub(super) struct Code<'a> {
    /// The folder of the file.
    pub(super) here: &'a str,
}

impl Code<'_> {
    /// `process.env.NAME`
    pub(super) fn variable(&self, node: &Node) -> Option<String> {
        let Kind::Code(code) = &node.kind else { return None };
        let rest = code.strip_prefix("process.env")?;
        let name = rest.strip_prefix('.').or_else(|| {
            let inner = rest.strip_prefix('[')?.strip_suffix(']')?;
            inner.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"'])
        })?;
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        plain.then(|| name.to_owned())
    }

    /// A text for a value with placeholders.
    pub(super) fn path(&self, node: &Node) -> Option<String> {
        self.plain_path(node).map(|text| braced(&text))
    }

    /// A text, or a path beside the file: `__dirname`, `path.join(__dirname, 'x')`, `` `${__dirname}/x` ``.
    pub(super) fn plain_path(&self, node: &Node) -> Option<String> {
        match &node.kind {
            Kind::Code(code) => self.evaluate(code),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => {
                node.scalar()
            }
        }
    }

    fn evaluate(&self, code: &str) -> Option<String> {
        if code == "__dirname" {
            return Some(self.here.to_owned());
        }
        if let Some(inner) = code.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
            let text = inner.replace("${__dirname}", self.here);
            return (!text.contains(['`', '\\']) && !text.contains("${")).then_some(text);
        }
        if let Some((left, right)) = code.split_once('+') {
            let right = quoted(right)?;
            return (left.trim() == "__dirname").then(|| format!("{}{right}", self.here));
        }
        let (function, rest) = code.split_once('(')?;
        let arguments = rest.strip_suffix(')')?;
        if !matches!(function.trim(), "path.join" | "path.resolve" | "join" | "resolve") {
            return None;
        }
        let mut arguments = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
        if arguments.next()? != "__dirname" {
            return None;
        }
        let parts: Vec<String> = arguments.map(quoted).collect::<Option<_>>()?;
        let parts = parts
            .iter()
            .map(|part| part.trim_start_matches("./").trim_matches('/'))
            .filter(|part| !part.is_empty());
        Some(std::iter::once(self.here).chain(parts).collect::<Vec<_>>().join("/"))
    }
}

/// A text in quotes without anything to unfold.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim();
    let quote = text.chars().next().filter(|c| "'\"".contains(*c))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_everywhere_is_evaluated() {
        let code = Code { here: "/srv" };
        let node = |text: &str| Node { span: 0..0, kind: Kind::Code(text.to_owned()) };
        for (text, path) in [
            ("__dirname", Some("/srv")),
            ("path.join(__dirname, 'a', \"b.js\")", Some("/srv/a/b.js")),
            ("path.resolve(__dirname, './a')", Some("/srv/a")),
            ("`${__dirname}/logs`", Some("/srv/logs")),
            ("__dirname + '/x'", Some("/srv/x")),
            ("`${home}/x`", None),
            ("path.join(home, 'a')", None),
            ("f()", None),
            ("'", None),
            ("__dirname + '", None),
        ] {
            assert_eq!(code.plain_path(&node(text)).as_deref(), path, "{text}");
        }
        assert_eq!(code.variable(&node("process.env.TOKEN")).as_deref(), Some("TOKEN"));
        assert_eq!(code.variable(&node("process.env['TOKEN']")).as_deref(), Some("TOKEN"));
        assert_eq!(code.variable(&node("process.env.TOKEN || 'x'")), None);
    }
}
