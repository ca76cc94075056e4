//! YAML, by the parser of saphyr, as values with their places.

use std::collections::BTreeMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::broken::Broken;
use super::node::{DEEPEST, Document, Kind, Node, Pair};

/// More values than this come from aliases of aliases.
const MOST: usize = 50_000;

/// Reads it.
///
/// # Errors
/// Where it is no YAML, or more than one document.
pub(super) fn read(text: &str) -> Result<Document, Broken> {
    let mut reader = Reader {
        text,
        events: Parser::new_from_str(text),
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        anchors: BTreeMap::new(),
        scalars: Vec::new(),
        values: 0,
    };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) if root.is_none() => {}
            Event::DocumentStart(_) => {
                let says = "a second document begins here";
                return Err(Broken::new(span.start, says).help("write each into a file of its own"));
            }
            event @ (Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd) => root = Some(reader.node(event, span, 0)?),
        }
    }
    let comments = comments(text, &reader.scalars);
    let root = root.unwrap_or(Node { span: 0..0, kind: Kind::Null });
    Ok(Document { root, comments, code: Vec::new() })
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    /// Where each character begins.
    bytes: Vec<usize>,
    anchors: BTreeMap<usize, Node>,
    scalars: Vec<Range<usize>>,
    values: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Range<usize>)>, Broken> {
        match self.events.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.range(&span)))),
            Some(Err(error)) => Err(Broken::new(self.byte(error.marker().index()), error.info())),
        }
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).or(self.bytes.last()).copied().unwrap_or(0)
    }

    fn range(&self, span: &Span) -> Range<usize> {
        let (start, end) = (self.byte(span.start.index()), self.byte(span.end.index()));
        start..end.max(start)
    }

    fn node(&mut self, event: Event<'a>, span: Range<usize>, depth: usize) -> Result<Node, Broken> {
        self.values += 1;
        if depth > DEEPEST || self.values > MOST {
            return Err(Broken::new(span.start, "this is nested too deeply, or too much"));
        }
        let (node, anchor) = match event {
            Event::Alias(id) => {
                let Some(known) = self.anchors.get(&id).cloned() else {
                    return Err(Broken::new(span.start, "this alias names nothing above it"));
                };
                self.values += size(&known);
                return Ok(Node { span, ..known });
            }
            Event::Scalar(text, style, anchor, _) => {
                let span = span.start..self.end(&span, style);
                self.scalars.push(span.clone());
                let kind = match style {
                    ScalarStyle::Plain => plain(&text),
                    ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => Kind::Text(text.into_owned()),
                };
                (Node { span, kind }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.list(span, depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.map(span, depth)?, anchor),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(Broken::new(span.start, "expected a value")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// Where a value ends itself, without what stands behind it on its line.
    fn end(&self, span: &Range<usize>, style: ScalarStyle) -> usize {
        let inside = &self.text[span.clone()];
        let length = match style {
            ScalarStyle::Plain => inside.find(" #").or_else(|| inside.find("\t#")).unwrap_or(inside.len()),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                closing(inside).map_or(inside.len(), |at| at + 1)
            }
            ScalarStyle::Literal | ScalarStyle::Folded => inside.len(),
        };
        span.start + inside[..length].trim_end().len()
    }

    fn list(&mut self, span: Range<usize>, depth: usize) -> Result<Node, Broken> {
        let (mut items, mut end) = (Vec::new(), span.end);
        while let Some((event, at)) = self.next()? {
            if event == Event::SequenceEnd {
                end = end.max(if at.is_empty() { end } else { at.end });
                break;
            }
            let item = self.node(event, at, depth + 1)?;
            end = end.max(item.span.end);
            items.push(item);
        }
        Ok(Node { span: span.start..end, kind: Kind::List(items) })
    }

    fn map(&mut self, span: Range<usize>, depth: usize) -> Result<Node, Broken> {
        let (mut pairs, mut end): (Vec<Pair>, _) = (Vec::new(), span.end);
        while let Some((event, at)) = self.next()? {
            if event == Event::MappingEnd {
                end = end.max(if at.is_empty() { end } else { at.end });
                break;
            }
            let key = self.node(event, at.clone(), depth + 1)?;
            let Some(name) = key.scalar() else {
                return Err(Broken::new(at.start, "a key is a text").help("write `key: value`"));
            };
            let Some((event, place)) = self.next()? else { break };
            let value = self.node(event, place, depth + 1)?;
            let whole = key.span.start..value.span.end.max(key.span.end);
            end = end.max(whole.end);
            match value.kind {
                // `<<: *base` lays the pairs of another table under these.
                Kind::Map(under) if name == "<<" => {
                    let under = under.into_iter().map(|pair| Pair { span: whole.clone(), ..pair });
                    pairs.splice(0..0, under);
                }
                kind @ (Kind::Map(_)
                | Kind::Null
                | Kind::Bool(_)
                | Kind::Number(_)
                | Kind::Text(_)
                | Kind::List(_)
                | Kind::Code(_)) => {
                    pairs.push(Pair { key: name, span: whole, value: Node { span: value.span, kind } })
                }
            }
        }
        Ok(Node { span: span.start..end, kind: Kind::Map(pairs) })
    }
}

/// Where the quote that a text begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    let (_, quote) = chars.next()?;
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => {
                chars.next();
            }
            c if c == quote && quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == quote) => {
                chars.next();
            }
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// A word without quotes.
fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::Bool(true),
        "false" | "False" | "FALSE" => Kind::Bool(false),
        text => {
            let digit = text.trim_start_matches(['+', '-', '.']).starts_with(|c: char| c.is_ascii_digit());
            let number = digit && text.parse::<f64>().is_ok_and(f64::is_finite);
            if number { Kind::Number(text.to_owned()) } else { Kind::Text(text.to_owned()) }
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(pairs) => 1 + pairs.iter().map(|pair| size(&pair.value)).sum::<usize>(),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Code(_) => 1,
    }
}

/// What begins with `#` outside of every value.
fn comments(text: &str, scalars: &[Range<usize>]) -> Vec<(Range<usize>, String)> {
    let mut scalars: Vec<_> = scalars.iter().filter(|span| !span.is_empty()).collect();
    scalars.sort_by_key(|span| span.start);
    let mut inside = scalars.into_iter().peekable();
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        while inside.peek().is_some_and(|span| span.end <= at) {
            inside.next();
        }
        if let Some(span) = inside.peek().filter(|span| span.start <= at) {
            at = span.end;
            continue;
        }
        let Some(c) = text[at..].chars().next() else { break };
        let starts = text[..at].chars().next_back().is_none_or(char::is_whitespace);
        if c == '#' && starts {
            let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
            found.push((at..end, text[at..end].trim_end().to_owned()));
            at = end;
        } else {
            at += c.len_utf8();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_places_and_comments_are_read() {
        let text = "# ä\nbase: &b\n  A: 1\napps:\n  - name: \"w # b\"  # the site\n    env:\n      <<: *b\n      B: x\n";
        let document = read(text).unwrap_or_else(|broken| panic!("{broken:?}"));
        let app = &document.root.get("apps").and_then(Node::items).expect("apps")[0];
        assert_eq!(app.get("name").and_then(Node::scalar).as_deref(), Some("w # b"));
        assert_eq!(&text[app.pairs()[0].span.clone()], "name: \"w # b\"");
        let env = app.get("env").expect("env");
        assert_eq!(env.get("A").and_then(Node::number), Some(1.0));
        assert_eq!(env.get("B").and_then(Node::scalar).as_deref(), Some("x"));
        let comments: Vec<_> = document.comments.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(comments, ["# ä", "# the site"]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        for text in ["a: [1, 2\nb: 3\n", "a: b: c\n", "a: *nobody\n", "---\na: 1\n---\nb: 2\n"] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!("{}x", "- ".repeat(100));
        assert!(read(&deep).is_err());
    }
}
