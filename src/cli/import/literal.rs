//! JSON, and JavaScript as ecosystem files are written: a literal behind `module.exports =`.
//!
//! Nothing is run. What is no literal (a call, a variable of another module) is kept as the text of an expression, and
//! whoever asked for it decides.

use std::collections::BTreeMap;
use std::ops::Range;

use super::broken::Broken;
use super::node::{DEEPEST, Document, Kind, Node, Pair};
use super::quoted;

/// What helps if a file is more program than data.
const RUN_IT: &str = "what a program computes can be printed first: `node -p \
                      'JSON.stringify(require(\"./ecosystem.config.js\"), null, 2)' > ecosystem.json`";

/// More values than this come from names that stand for names that stand for names.
const MOST: usize = 50_000;

/// Reads JSON, with the comments and trailing commas that PM2 allows.
///
/// # Errors
/// Where it is none.
pub(super) fn json(text: &str) -> Result<Document, Broken> {
    let mut reader = Reader::new(text, false);
    reader.space()?;
    let root = reader.value(0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err(Broken::new(reader.at, "expected the end of the file"));
    }
    Ok(Document { root, comments: reader.comments, code: Vec::new() })
}

/// Reads JavaScript.
///
/// # Errors
/// Where its brackets do not fit, or if it exports no literal.
pub(super) fn javascript(text: &str) -> Result<Document, Broken> {
    let mut reader = Reader::new(text, true);
    let mut root = None;
    let mut code = Vec::new();
    loop {
        reader.space()?;
        if reader.at >= text.len() {
            break;
        }
        let start = reader.at;
        if root.is_none() && reader.exports() {
            let value = reader.value(0)?;
            if let Kind::Code(_) = value.kind {
                let says = "what is exported is no literal `{ apps: [...] }`";
                return Err(Broken::new(value.span.start, says).help(RUN_IT));
            }
            code.push(start..value.span.start.min(reader.at));
            root = Some(value);
        } else {
            reader.statement()?;
            code.push(start..reader.at);
        }
    }
    match root {
        Some(root) => Ok(Document { root, comments: reader.comments, code }),
        None => {
            Err(Broken::new(text.len(), "it exports nothing")
                .help("write `module.exports = { apps: [...] }`"))
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Whether expressions may stand where values do.
    code: bool,
    comments: Vec<(Range<usize>, String)>,
    /// `const name = { … }`
    declared: BTreeMap<String, Node>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, code: bool) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self { text, at, code, comments: Vec::new(), declared: BTreeMap::new(), values: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        let eaten = self.rest().starts_with(text);
        if eaten {
            self.at += text.len();
        }
        eaten
    }

    /// White space and comments.
    fn space(&mut self) -> Result<(), Broken> {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            let start = self.at;
            if self.rest().starts_with("//") || (start == 0 && self.rest().starts_with("#!")) {
                let rest = self.rest();
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if self.rest().starts_with("/*") {
                let Some(end) = self.rest().find("*/") else {
                    return Err(Broken::new(start, "this comment has no end").help("write `*/` behind it"));
                };
                self.at += end + 2;
            } else {
                return Ok(());
            }
            let text = self.text[start..self.at].trim_end();
            self.comments.push((start..start + text.len(), text.to_owned()));
        }
    }

    /// `module.exports =` and its like.
    fn exports(&mut self) -> bool {
        let start = self.at;
        if self.eat("export default") {
            self.skip_white();
            return true;
        }
        if (self.eat("module.exports") || self.eat("exports.default"))
            && {
                self.skip_white();
                self.eat("=")
            }
            && !self.rest().starts_with('=')
        {
            self.skip_white();
            return true;
        }
        self.at = start;
        false
    }

    fn skip_white(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Anything else at the top; a literal with a name is remembered.
    fn statement(&mut self) -> Result<(), Broken> {
        let start = self.at;
        if ["const ", "let ", "var "].iter().any(|word| self.eat(word)) {
            self.skip_white();
            let name = self.identifier();
            self.skip_white();
            if let Some(name) = name.filter(|_| self.eat("=")) {
                let noted = self.comments.len();
                if let Ok(value) = self.space().and_then(|()| self.value(0)) {
                    // Its comments are shown with the statement.
                    self.comments.truncate(noted);
                    self.declared.insert(name, value);
                    self.eat(";");
                    return Ok(());
                }
                self.comments.truncate(noted);
            }
            self.at = start;
        }
        self.expression(&[';', '\n'])?;
        if self.at == start {
            // A closing bracket too many, or a lone `;`.
            let lone = self.peek().map_or(1, char::len_utf8);
            if self.rest().starts_with([')', ']', '}']) {
                return Err(Broken::new(start, "this bracket was never opened"));
            }
            self.at += lone;
        }
        self.eat(";");
        Ok(())
    }

    fn identifier(&mut self) -> Option<String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
        self.at += end;
        (end > 0).then(|| rest[..end].to_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Node, Broken> {
        let start = self.at;
        self.values += 1;
        if depth > DEEPEST || self.values > MOST {
            return Err(Broken::new(start, "this is nested too deeply, or too much"));
        }
        let noted = self.comments.len();
        let kind = match self.peek() {
            None => return Err(Broken::new(start, "expected a value, and the file ends here")),
            Some('{') => Some(self.map(depth)?),
            Some('[') => Some(self.list(depth)?),
            Some('"' | '\'') => Some(Kind::Text(self.string()?)),
            Some('`') => {
                let text = self.string()?;
                (!text.contains("${")).then_some(Kind::Text(text))
            }
            Some(c) if c.is_ascii_digit() || "+-.".contains(c) => self.number(),
            Some(_) => self.word(),
        };
        let end = self.at;
        // A value that goes on is an expression.
        self.space()?;
        let ends = self.at >= self.text.len()
            || matches!(self.peek(), Some(',' | '}' | ']' | ';' | ')'))
            || (depth == 0 && self.text[end..self.at].contains('\n'));
        let wrong = if kind.is_some() { self.at } else { start };
        match kind.filter(|_| ends) {
            Some(kind) => {
                self.comments.truncate(noted.max(self.comments_before(end)));
                self.at = end;
                Ok(Node { span: start..end, kind })
            }
            None if self.code => {
                self.comments.truncate(noted);
                self.at = start;
                let ends: &[char] = if depth == 0 { &[',', ';', '\n'] } else { &[',', ';'] };
                self.expression(ends)?;
                let code = self.text[start..self.at].trim_end();
                if code.is_empty() {
                    return Err(Broken::new(start, "expected a value"));
                }
                self.at = start + code.len();
                Ok(Node { span: start..self.at, kind: Kind::Code(code.to_owned()) })
            }
            None => Err(Broken::new(wrong, "expected a value, `,`, or an end")
                .help("texts stand in quotes; what only a program knows belongs into a `.js` file")),
        }
    }

    /// How many comments end before here; those behind are read again.
    fn comments_before(&self, end: usize) -> usize {
        self.comments.iter().take_while(|(span, _)| span.start < end).count()
    }

    fn number(&mut self) -> Option<Kind> {
        let rest = self.rest();
        let end =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-._".contains(c))).unwrap_or(rest.len());
        let text = rest[..end].replace('_', "");
        self.at += end;
        text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|_| Kind::Number(text))
    }

    /// `true`, or the name of a literal above.
    fn word(&mut self) -> Option<Kind> {
        let name = self.identifier()?;
        match name.as_str() {
            "true" => Some(Kind::Bool(true)),
            "false" => Some(Kind::Bool(false)),
            "null" | "undefined" => Some(Kind::Null),
            name => {
                let kind = self.declared.get(name)?.kind.clone();
                self.values += size(&kind);
                Some(kind)
            }
        }
    }

    /// A text in quotes; that of a template may hold `${`.
    fn string(&mut self) -> Result<String, Broken> {
        let (text, length) =
            quoted::read(self.rest()).map_err(|broken| Broken { at: self.at + broken.at, ..broken })?;
        self.at += length;
        Ok(text)
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Broken> {
        let open = self.at;
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.space()?;
            if self.eat("]") {
                return Ok(Kind::List(items));
            }
            let start = self.at;
            if self.code && self.eat("...") {
                let inner = self.value(depth + 1)?;
                match inner.kind {
                    Kind::List(more) => items.extend(more),
                    Kind::Null
                    | Kind::Bool(_)
                    | Kind::Number(_)
                    | Kind::Text(_)
                    | Kind::Map(_)
                    | Kind::Code(_) => {
                        let code = Kind::Code(self.text[start..self.at].to_owned());
                        items.push(Node { span: start..self.at, kind: code });
                    }
                }
            } else {
                items.push(self.value(depth + 1)?);
            }
            self.comma(open, ']')?;
        }
    }

    fn map(&mut self, depth: usize) -> Result<Kind, Broken> {
        let open = self.at;
        self.at += 1;
        let mut pairs = Vec::new();
        loop {
            self.space()?;
            if self.eat("}") {
                return Ok(Kind::Map(pairs));
            }
            self.pair(depth, &mut pairs)?;
            self.comma(open, '}')?;
        }
    }

    fn comma(&mut self, open: usize, close: char) -> Result<(), Broken> {
        self.space()?;
        if self.eat(",") || self.peek() == Some(close) {
            return Ok(());
        }
        if self.at >= self.text.len() {
            return Err(Broken::new(open, format!("this bracket has no `{close}`")));
        }
        Err(Broken::new(self.at, format!("expected `,` or `{close}`")))
    }

    fn pair(&mut self, depth: usize, pairs: &mut Vec<Pair>) -> Result<(), Broken> {
        let start = self.at;
        if self.code && self.eat("...") {
            let value = self.value(depth + 1)?;
            let span = start..self.at;
            match value.kind {
                Kind::Map(more) => {
                    // What is spread stands where it is spread.
                    pairs.extend(more.into_iter().map(|pair| Pair { span: span.clone(), ..pair }));
                }
                Kind::Null
                | Kind::Bool(_)
                | Kind::Number(_)
                | Kind::Text(_)
                | Kind::List(_)
                | Kind::Code(_) => {
                    let code = Kind::Code(self.text[span.clone()].to_owned());
                    pairs.push(Pair {
                        key: "...".to_owned(),
                        span: span.clone(),
                        value: Node { span, kind: code },
                    });
                }
            }
            return Ok(());
        }
        let key = match self.peek() {
            Some('"' | '\'') => Some(self.string()?),
            Some(_) => self.identifier(),
            None => None,
        };
        self.space()?;
        if let Some(key) = key {
            if self.eat(":") {
                self.space()?;
                let value = self.value(depth + 1)?;
                pairs.push(Pair { key, span: start..value.span.end, value });
                return Ok(());
            }
            if let Some(known) = self.declared.get(&key).filter(|_| matches!(self.peek(), Some(',' | '}'))) {
                let value = known.clone();
                self.values += size(&value.kind);
                pairs.push(Pair { span: start..start + key.len(), key, value });
                return Ok(());
            }
        }
        if !self.code {
            return Err(Broken::new(self.at, "expected a key and `:`").help("write `\"key\": value`"));
        }
        self.at = start;
        self.expression(&[','])?;
        let code = self.text[start..self.at].trim_end();
        if code.is_empty() {
            return Err(Broken::new(start, "expected a key"));
        }
        let span = start..start + code.len();
        let value = Node { span: span.clone(), kind: Kind::Code(code.to_owned()) };
        pairs.push(Pair {
            key: code.split(['(', ':']).next().unwrap_or(code).trim().to_owned(),
            span,
            value,
        });
        Ok(())
    }

    /// Over an expression, up to one of these or a bracket that closes what is around it.
    fn expression(&mut self, ends: &[char]) -> Result<(), Broken> {
        let mut open: Vec<(usize, char)> = Vec::new();
        while let Some(c) = self.peek() {
            if open.is_empty() && (ends.contains(&c) || matches!(c, ')' | ']' | '}')) {
                return Ok(());
            }
            match c {
                '"' | '\'' | '`' => {
                    self.string()?;
                    continue;
                }
                '/' if self.rest().starts_with("//") => {
                    let rest = self.rest();
                    self.at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                '/' if self.rest().starts_with("/*") => {
                    let noted = self.comments.len();
                    self.space()?;
                    self.comments.truncate(noted);
                    continue;
                }
                '(' => open.push((self.at, ')')),
                '[' => open.push((self.at, ']')),
                '{' => open.push((self.at, '}')),
                ')' | ']' | '}' if open.pop().is_none_or(|(_, close)| close != c) => {
                    return Err(Broken::new(self.at, "this bracket closes another one than was opened"));
                }
                _ => {}
            }
            self.at += c.len_utf8();
        }
        match open.pop() {
            Some((at, close)) => Err(Broken::new(at, format!("this bracket has no `{close}`"))),
            None => Ok(()),
        }
    }
}

fn size(kind: &Kind) -> usize {
    match kind {
        Kind::List(items) => 1 + items.iter().map(|item| size(&item.kind)).sum::<usize>(),
        Kind::Map(pairs) => 1 + pairs.iter().map(|pair| size(&pair.value.kind)).sum::<usize>(),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Code(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_forms_are_read_without_running_them() {
        let text = "// all\nconst path = require('path');\nconst env = { A: 1, };\nmodule.exports = {\n  apps: [{\n    \
                    name: 'web', // the site\n    script: path.join(__dirname, 'a.js'),\n    env: { ...env, 'B-C': `x` \
                    },\n    on(x) { return x; },\n  }],\n};\nconsole.log('x');\n";
        let document = javascript(text).unwrap_or_else(|broken| panic!("{broken:?}"));
        let app = &document.root.get("apps").and_then(Node::items).expect("apps")[0];
        assert_eq!(app.get("name").and_then(Node::scalar).as_deref(), Some("web"));
        assert_eq!(
            app.get("script").map(|node| &node.kind),
            Some(&Kind::Code("path.join(__dirname, 'a.js')".into()))
        );
        let env = app.get("env").expect("env");
        assert_eq!(env.get("A").and_then(Node::number), Some(1.0));
        assert_eq!(env.get("B-C").and_then(Node::scalar).as_deref(), Some("x"));
        assert!(app.get("on").is_some());
        assert_eq!(document.comments.len(), 2, "{:?}", document.comments);
    }

    #[test]
    fn json_is_strict_about_values_and_tells_where() {
        assert!(json("{ \"a\": [1, -2.5, true, null, \"x\\u00e4\"], }").is_ok());
        for (text, at) in
            [("{ \"a\": x }", 7), ("{ \"a\" 1 }", 6), ("[1, 2", 0), ("{} x", 3), ("", 0), ("\"a", 0)]
        {
            assert_eq!(json(text).map_err(|broken| broken.at), Err(at), "{text}");
        }
    }
}
