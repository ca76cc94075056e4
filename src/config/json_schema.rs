//! The shape of the file as a JSON Schema (draft 2020-12), for editors: they complete keys, show what the manual says
//! of them, and mark what is wrong while it is written.
//!
//! It is made from the same table that checks the file and from the manual itself, so it cannot tell another story.
//! It is weaker than `regrow check`, on purpose: what depends on more than one value (who names whom in `after`), and
//! what a pattern says badly (a regex, a placeholder), is left to the check. It never refuses what the check accepts.

use serde_json::{Map, Value, json};

use crate::exit::signal_names;

use super::elements::FILE;
use super::leaf::{Leaf, Text};
use super::manual::Manual;
use super::schema::{Key, Kind, Shape, join};

/// Names of workers and supervisors: no two underscores in a row.
const NAME: &str = "^[a-z](_?[a-z0-9-])*_?$";
const LONGEST_NAME: u64 = 63;

/// More than nothing and, to the digit, at most ten years.
const LONGEST: &str = "[1-9][0-9]{0,11}ms|[1-9][0-9]{0,8}s|[1-9][0-9]{0,6}m|[1-9][0-9]{0,4}h|([1-9][0-9]{0,2}|[12][0-9]{3}|3[0-5][0-9]{2}|36[0-4][0-9]|3650)d";

/// Commands that are nothing without a program, whatever else is said.
const NEVER_EMPTY: [&str; 6] = [
    "probe.*.exec",
    "probe.*.exec.command",
    "strategy.*.command",
    "on.capture.command",
    "on.connection_reset.command",
    "on.memory_cleanup.command",
];

/// The JSON Schema of the configuration file.
#[must_use]
pub fn json_schema() -> Value {
    let writer = Writer { manual: Manual::built_in() };
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "regrow.toml".into());
    schema.insert(
        "description".to_owned(),
        format!("Configuration of regrow {}.", env!("CARGO_PKG_VERSION")).into(),
    );
    schema.extend(writer.table("", FILE));
    let kinds = FILE.iter().filter_map(|key| match &key.shape {
        Shape::Named(kind, keys) => Some((kind.word().to_owned(), writer.item(key.name, keys))),
        Shape::Leaf(_)
        | Shape::Table(_)
        | Shape::Either(_)
        | Shape::Texts(_)
        | Shape::Secrets(_)
        | Shape::Each(..)
        | Shape::LeafOr(..)
        | Shape::Free => None,
    });
    schema.insert("$defs".to_owned(), Value::Object(kinds.collect()));
    Value::Object(schema)
}

struct Writer {
    manual: Manual,
}

impl Writer {
    /// One thing under a name that the user chooses.
    fn item(&self, name: &str, keys: &[Key]) -> Value {
        let path = format!("{name}.*");
        let mut item = self.table(&path, keys);
        self.describe(&path, &mut item, false);
        Value::Object(item)
    }

    fn table(&self, path: &str, keys: &[Key]) -> Map<String, Value> {
        let properties =
            keys.iter().map(|key| (key.name.to_owned(), self.key(&join(path, key.name), &key.shape)));
        let mut table = Map::new();
        table.insert("type".to_owned(), "object".into());
        table.insert("properties".to_owned(), Value::Object(properties.collect()));
        table.insert("additionalProperties".to_owned(), false.into());
        table
    }

    fn key(&self, path: &str, shape: &Shape) -> Value {
        let mut schema = match shape {
            // The same keys as every worker's, and the same words.
            Shape::Table(_) if path == "defaults.worker" => return reference(Kind::Worker),
            Shape::Leaf(leaf) => of_leaf(leaf),
            Shape::Table(keys) => self.table(path, keys),
            Shape::Either(keys) => one_of(self.table(path, keys)),
            Shape::Named(kind, _) => named(*kind),
            Shape::Texts(leaf) => object(json!({ "type": "object", "additionalProperties": of_leaf(leaf) })),
            Shape::Secrets(keys) => {
                let one = one_of(self.table(&join(path, "*"), keys));
                object(json!({ "type": "object", "additionalProperties": one }))
            }
            Shape::Each(_, keys) => object(json!({
                "type": "object",
                "propertyNames": { "pattern": NAME, "maxLength": LONGEST_NAME },
                "additionalProperties": self.table(&join(path, "*"), keys),
            })),
            Shape::Free => object(json!({ "type": "object" })),
            Shape::LeafOr(leaf, keys) => object(json!({ "anyOf": [of_leaf(leaf), self.table(path, keys)] })),
        };
        if NEVER_EMPTY.iter().any(|one| path.ends_with(one)) {
            filled(&mut schema);
        }
        let whole = matches!(
            shape,
            Shape::Leaf(_) | Shape::LeafOr(..) | Shape::Texts(_) | Shape::Secrets(_) | Shape::Free
        );
        self.describe(path, &mut schema, whole);
        Value::Object(schema)
    }

    /// What the manual says; values only of what is written in one piece.
    fn describe(&self, path: &str, schema: &mut Map<String, Value>, values: bool) {
        let mut entry = self.manual.get(path);
        if let Some(key) = path.strip_prefix("template.").filter(|_| entry.text.is_empty()) {
            // The same keys as every worker's.
            entry = self.manual.get(&format!("worker.{key}"));
        }
        if !entry.text.is_empty() {
            schema.insert("description".to_owned(), entry.text.into());
        }
        if let Some(default) = entry.default.filter(|_| values) {
            schema.insert("default".to_owned(), default);
        }
        if let Some(example) = entry.example.filter(|_| values) {
            schema.insert("examples".to_owned(), json!([example]));
        }
    }
}

/// Exactly one of its keys.
fn one_of(mut table: Map<String, Value>) -> Map<String, Value> {
    table.insert("minProperties".to_owned(), 1.into());
    table.insert("maxProperties".to_owned(), 1.into());
    table
}

/// A list of at least one, also where a table may stand in its place.
fn filled(schema: &mut Map<String, Value>) {
    let lists = schema.get_mut("anyOf").and_then(Value::as_array_mut);
    for list in lists.into_iter().flatten().filter_map(Value::as_object_mut) {
        filled(list);
    }
    if schema.get("type").is_some_and(|kind| kind == "array") {
        schema.insert("minItems".to_owned(), 1.into());
    }
}

fn reference(kind: Kind) -> Value {
    json!({ "$ref": format!("#/$defs/{}", kind.word()) })
}

fn named(kind: Kind) -> Map<String, Value> {
    object(json!({
        "type": "object",
        "propertyNames": { "pattern": NAME, "maxLength": LONGEST_NAME },
        "additionalProperties": reference(kind),
    }))
}

fn of_leaf(leaf: &Leaf) -> Map<String, Value> {
    object(match leaf {
        Leaf::Bool => json!({ "type": "boolean" }),
        Leaf::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Leaf::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Leaf::Text(text) => of_text(text),
        Leaf::Texts(text) => json!({ "type": "array", "items": of_text(text) }),
        Leaf::Tables(keys) => json!({ "type": "array", "items": of_tables(keys) }),
        Leaf::Integers { min, max } => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": min, "maximum": max } })
        }
    })
}

/// A table in a list: its keys are told of with the list.
fn of_tables(keys: &[Key]) -> Value {
    let property = |key: &Key| match &key.shape {
        Shape::Leaf(leaf) => Some((key.name.to_owned(), Value::Object(of_leaf(leaf)))),
        Shape::Table(_)
        | Shape::Either(_)
        | Shape::Named(..)
        | Shape::Texts(_)
        | Shape::Free
        | Shape::Secrets(_)
        | Shape::Each(..)
        | Shape::LeafOr(..) => None,
    };
    let properties: Map<String, Value> = keys.iter().filter_map(property).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn of_text(text: &Text) -> Value {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match text {
        Text::Any | Text::Template | Text::Beside | Text::Regex | Text::LogFilter | Text::Address => {
            json!({ "type": "string" })
        }
        Text::Ladder => json!({ "type": "string", "pattern": NAME, "maxLength": LONGEST_NAME }),
        Text::Strategy => json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_NAME }),
        Text::Line => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
        Text::Statuses => pattern("^ *[1-5][0-9][0-9]( *[-,] *[1-5][0-9][0-9])* *$"),
        Text::Duration { zero: true } => pattern(&format!("^(0|0*({LONGEST})|0+(ms|s|m|h|d))$")),
        Text::Duration { zero: false } => pattern(&format!("^0*({LONGEST})$")),
        Text::DurationOrNever => pattern(&format!("^(never|0*({LONGEST}))$")),
        Text::Size { min: 0, .. } => pattern("^[0-9]+(B|KiB|MiB|GiB|TiB|kB|MB|GB)$"),
        Text::Size { .. } => pattern("^0*[1-9][0-9]*(B|KiB|MiB|GiB|TiB|kB|MB|GB)$"),
        Text::Signal => pattern(&signals()),
        Text::Mode => pattern("^0?[0-7][0-7]0$"),
        Text::Umask => pattern("^0?[0-7]{3}$"),
        Text::Word(words) => {
            json!({ "type": "string", "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>() })
        }
    }
}

/// Every signal by name, in capitals or not, with `SIG` or without; or by number.
fn signals() -> String {
    let any_case = |name: &str| -> String {
        let letter = |c: char| {
            if c.is_ascii_alphabetic() { format!("[{c}{}]", c.to_ascii_lowercase()) } else { c.to_string() }
        };
        name.chars().map(letter).collect()
    };
    let names: Vec<String> = signal_names().map(any_case).collect();
    format!("^({})?({}|\\+?0*([1-9]|[1-5][0-9]|6[0-4]))$", any_case("SIG"), names.join("|"))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        // Only called on objects; anything else would allow everything.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}
