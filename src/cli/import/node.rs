//! Values as JSON, JavaScript and YAML have them, each with its place.

use std::ops::Range;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Pair>),
    /// An expression that only its own program can evaluate.
    Code(String),
}

/// A key with its value; the place is that of both.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) value: Node,
}

/// A file of one value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    pub(super) root: Node,
    /// Comments, and code around the value.
    pub(super) comments: Vec<(Range<usize>, String)>,
    /// Code that is not the value itself.
    pub(super) code: Vec<Range<usize>>,
}

/// Deeper than anybody nests by hand.
pub(super) const DEEPEST: usize = 40;

impl Node {
    /// The pairs of a table.
    pub(super) fn pairs(&self) -> &[Pair] {
        match &self.kind {
            Kind::Map(pairs) => pairs,
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) | Kind::Code(_) => {
                &[]
            }
        }
    }

    /// The value of a key; the last one counts.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.pairs().iter().rev().find(|pair| pair.key == key).map(|pair| &pair.value)
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Map(_) | Kind::Code(_) => {
                None
            }
        }
    }

    /// A text, number or truth value as text.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(text) | Kind::Number(text) => Some(text.clone()),
            Kind::Bool(yes) => Some(yes.to_string()),
            Kind::Null | Kind::List(_) | Kind::Map(_) | Kind::Code(_) => None,
        }
    }

    /// A number, also one in quotes.
    pub(super) fn number(&self) -> Option<f64> {
        self.scalar().and_then(|text| text.trim().parse().ok()).filter(|number: &f64| number.is_finite())
    }

    /// True or false, also in quotes.
    pub(super) fn bool(&self) -> Option<bool> {
        match self.scalar()?.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
}
