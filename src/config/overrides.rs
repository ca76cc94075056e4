//! `REGROW__WORKER__WEB__STOP__TIMEOUT=5s` and flags: values laid over the files.
//!
//! A name is matched against the keys there are, never turned into one: an override that matches nothing is a
//! typo, and a typo must not be silent. Values are read strictly by the type of their key. Workers cannot be
//! made here, and free maps such as `env` cannot be set, because their keys could not be told from typos.

use std::ffi::OsString;

use config::{Map, Value, ValueKind};
use toml::Spanned;
use toml::de::DeValue;

use super::check::{Checker, Places};
use super::diagnostic::{Problem, quoted};
use super::document::{Document, DocumentKind, Place};
use super::elements::FILE;
use super::layers::{self, Layer};
use super::leaf::{Fault, Leaf};
use super::schema::{Key, Kind, Shape, join};
use super::suggest::nearest;

/// What the names of environment variables of ours begin with.
pub(super) const PREFIX: &str = "REGROW__";

/// The one key that is read before the environment is.
const INCLUDE: &str = "include";

/// A named text that lies over the files.
#[derive(Debug)]
struct Given {
    /// As it stands in the document.
    shown: String,
    /// What is matched against the keys.
    path: String,
    value: String,
}

/// How the parts of a name are separated and compared.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// `A__B`, any case, `_` for `-`.
    Environment,
    /// `a.b`, exactly.
    Flag,
}

impl Style {
    fn separator(self) -> &'static str {
        match self {
            Self::Environment => "__",
            Self::Flag => ".",
        }
    }

    fn normal(self, name: &str) -> String {
        match self {
            Self::Environment => name.to_lowercase().replace('-', "_"),
            Self::Flag => name.to_owned(),
        }
    }
}

/// A key that a name matched.
struct Found {
    path: Vec<String>,
    leaf: Option<&'static Leaf>,
    why_not: Option<&'static str>,
    /// Its value must not be shown.
    secret: bool,
    /// It takes the place of those of these that stand beside it.
    beside: &'static [Key],
}

/// The environment as a document and a layer.
pub(super) fn environment(
    env: &[(OsString, OsString)],
    documents: &mut Vec<Document>,
    places: &mut Places,
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut given: Vec<Given> = Vec::new();
    for (name, value) in env {
        let name = name.to_string_lossy();
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let Some(value) = value.to_str() else {
            problems.push(Problem::of_file("environment", format!("{} is not valid UTF-8", quoted(&name))));
            continue;
        };
        given.push(Given { shown: name.to_string(), path: path.to_lowercase(), value: value.to_owned() });
    }
    given.sort_by(|a, b| a.shown.cmp(&b.shown));
    let document = (DocumentKind::Environment, "environment");
    lay(given, Style::Environment, document, documents, places, problems)
}

/// The flags as a document and a layer.
pub(super) fn flags(
    flags: &[(String, String)],
    documents: &mut Vec<Document>,
    places: &mut Places,
    problems: &mut Vec<Problem>,
) -> Layer {
    let given = flags
        .iter()
        .map(|(path, value)| Given { shown: path.clone(), path: path.clone(), value: value.clone() })
        .collect();
    lay(given, Style::Flag, (DocumentKind::Flags, "command line"), documents, places, problems)
}

fn lay(
    given: Vec<Given>,
    style: Style,
    (kind, name): (DocumentKind, &str),
    documents: &mut Vec<Document>,
    places: &mut Places,
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut layer = Layer::new();
    let mut text = String::new();
    let document = documents.len();
    for one in &given {
        let start = text.len();
        // A line break in a value would break the picture of one line per variable.
        text.push_str(&format!("{}={}\n", one.shown, one.value.replace(['\n', '\r'], " ")));
        let name_place = Place { document, range: start..start + one.shown.len() };
        let value_start = start + one.shown.len() + 1;
        match resolve(&one.path, style, places) {
            Err(problem) => problems.push(problem(name_place, &one.shown)),
            Ok(Fitting { path, leaf, beside }) => {
                let at = path.join(".");
                let place = Place { document, range: value_start..value_start + one.value.len() };
                places.set_key(&at, name_place);
                places.set_value(&at, place);
                let mut checker = Checker { document, offset: value_start, places, problems };
                match (read(&mut checker, &at, &one.value, leaf), path.as_slice()) {
                    (Some(value), [above @ .., last]) if !beside.is_empty() => {
                        let table = Map::from_iter([(last.clone(), value)]);
                        put(&mut layer, above, layers::alone(table, beside.iter().map(|key| key.name)));
                    }
                    (Some(value), path) => put(&mut layer, path, value),
                    (None, _) => {}
                }
            }
        }
    }
    documents.push(Document::new(name, text, kind));
    layer
}

type Refusal = Box<dyn FnOnce(Place, &str) -> Problem>;

/// A key that takes a value.
struct Fitting {
    path: Vec<String>,
    leaf: &'static Leaf,
    beside: &'static [Key],
}

fn resolve(name: &str, style: Style, places: &Places) -> Result<Fitting, Refusal> {
    let mut found = Vec::new();
    let keys = FILE.iter().filter(|key| key.name != INCLUDE);
    for key in keys {
        search(key.name, &key.shape, Vec::new(), name, style, places, &mut found);
    }
    let mut fitting = found.iter().filter_map(|found| {
        Some(Fitting { path: found.path.clone(), leaf: found.leaf?, beside: found.beside })
    });
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (Some(first), Some(second)) => {
            let (first, second) = (first.path.join("."), second.path.join("."));
            Err(Box::new(move |place, shown| {
                Problem::new(Some(place), format!("{} matches both `{first}` and `{second}`", quoted(shown)))
                    .help("set it in the file instead")
            }))
        }
        (None, _) => Err(no_match(name, style, places, &found)),
    }
}

fn no_match(name: &str, style: Style, places: &Places, found: &[Found]) -> Refusal {
    if let Some(found) = found.first() {
        let (path, why) = (found.path.join("."), found.why_not.unwrap_or("is no single value"));
        let secret = found.secret;
        return Box::new(move |place, _| {
            let mut problem = Problem::new(Some(place), format!("`{path}` {why}"));
            if secret {
                problem.hide_line();
            }
            problem
        });
    }
    if name == INCLUDE {
        return Box::new(|place, _| {
            Problem::new(Some(place), "`include` is read before this is, and cannot be set from here")
                .help("set it in the file")
        });
    }
    let all = all_paths(places);
    let dotted = name.replace(style.separator(), ".");
    let word = nearest(&dotted, all.iter().map(String::as_str)).map(|path| match style {
        Style::Environment => format!("{PREFIX}{}", path.replace('.', "__").replace('-', "_").to_uppercase()),
        Style::Flag => path.to_owned(),
    });
    Box::new(move |place, shown| {
        let problem = Problem::new(Some(place), format!("{} matches no key", quoted(shown)));
        match word {
            Some(word) => problem.suggest(Some(&word)),
            None => problem.help("the parts of a name are separated by `__`: REGROW__WORKER__NAME__COMMAND"),
        }
    })
}

/// All keys below `shape` that `rest` names.
fn search(
    name: &str,
    shape: &'static Shape,
    mut path: Vec<String>,
    rest: &str,
    style: Style,
    places: &Places,
    found: &mut Vec<Found>,
) {
    let Some(rest) = rest.strip_prefix(style.normal(name).as_str()) else { return };
    path.push(name.to_owned());
    let deeper = rest.strip_prefix(style.separator());
    let mut hit = |leaf, why_not| {
        if rest.is_empty() {
            found.push(Found { path: path.clone(), leaf, why_not, secret: false, beside: &[] });
        }
    };
    match shape {
        Shape::Leaf(leaf) => hit(Some(leaf), None),
        Shape::Table(_) | Shape::Either(_) | Shape::Named(..) | Shape::Each(..) => {
            hit(None, Some("is a table; set its keys one by one"));
        }
        Shape::LeafOr(leaf, _) => hit(Some(leaf), None),
        Shape::Texts(_) | Shape::Secrets(_) | Shape::Free => {
            if rest.is_empty() || deeper.is_some() {
                let why_not = Some("has free names and cannot be set from here; set it in the file");
                let secret = matches!(shape, Shape::Secrets(_));
                found.push(Found { path: path.clone(), leaf: None, why_not, secret, beside: &[] });
            }
        }
    }
    let Some(rest) = deeper else { return };
    match shape {
        Shape::Leaf(_) | Shape::Texts(_) | Shape::Secrets(_) | Shape::Free => {}
        Shape::Table(keys) | Shape::LeafOr(_, keys) => {
            for key in *keys {
                search(key.name, &key.shape, path.clone(), rest, style, places, found);
            }
        }
        Shape::Either(keys) => {
            let known = found.len();
            for key in *keys {
                search(key.name, &key.shape, path.clone(), rest, style, places, found);
            }
            found.iter_mut().skip(known).for_each(|found| found.beside = *keys);
        }
        Shape::Each(_, keys) => {
            below(names_below(&join_all(&path), places), keys, &path, rest, style, places, found);
        }
        Shape::Named(kind, keys) => below(names_of(*kind, places), keys, &path, rest, style, places, found),
    }
}

/// Looks below each of the names that there are.
fn below(
    names: Vec<String>,
    keys: &'static [Key],
    path: &[String],
    rest: &str,
    style: Style,
    places: &Places,
    found: &mut Vec<Found>,
) {
    for name in names {
        let Some(rest) = rest
            .strip_prefix(style.normal(&name).as_str())
            .and_then(|rest| rest.strip_prefix(style.separator()))
        else {
            continue;
        };
        let path = [path, &[name]].concat();
        for key in keys {
            search(key.name, &key.shape, path.clone(), rest, style, places, found);
        }
    }
}

fn join_all(path: &[String]) -> String {
    path.join(".")
}

/// Names that the files give below a path, or for a worker below the defaults of all.
fn names_below(path: &str, places: &Places) -> Vec<String> {
    let mut names = places.below(path);
    if let Some((_, key)) = path.strip_prefix("worker.").and_then(|rest| rest.split_once('.')) {
        names.extend(places.below(&format!("defaults.worker.{key}")));
    }
    names.sort();
    names.dedup();
    names
}

fn names_of(kind: Kind, places: &Places) -> Vec<String> {
    let mut names: Vec<String> =
        places.names.iter().filter(|(of, _)| *of == kind).map(|(_, name)| name.to_string()).collect();
    if kind == Kind::Supervisor && !names.iter().any(|name| name == "root") {
        names.push("root".to_owned());
    }
    names
}

/// Every path that an override could name, for "did you mean".
fn all_paths(places: &Places) -> Vec<String> {
    fn below(path: &str, keys: &'static [Key], places: &Places, out: &mut Vec<String>) {
        for key in keys {
            let at = join(path, key.name);
            match &key.shape {
                Shape::Leaf(_) => out.push(at),
                Shape::Texts(_) | Shape::Secrets(_) | Shape::Free => {}
                Shape::Each(_, keys) => {
                    for name in names_below(&at, places) {
                        below(&join(&at, &name), keys, places, out);
                    }
                }
                Shape::Table(keys) | Shape::Either(keys) => below(&at, keys, places, out),
                Shape::LeafOr(_, keys) => {
                    out.push(at.clone());
                    below(&at, keys, places, out);
                }
                Shape::Named(kind, keys) => {
                    // Enough for a hint; every worker has the same keys.
                    for name in names_of(*kind, places).into_iter().take(200) {
                        below(&join(&at, &name), keys, places, out);
                    }
                }
            }
        }
    }
    let mut out = Vec::new();
    below("", FILE, places, &mut out);
    out.retain(|path| path != INCLUDE);
    out
}

/// Reads a value strictly: texts as they are, all else as TOML writes it.
fn read(checker: &mut Checker<'_>, path: &str, text: &str, leaf: &Leaf) -> Option<Value> {
    let spanned = |value| Spanned::new(0..text.len(), value);
    match leaf {
        Leaf::Text(_) => checker.leaf(path, &spanned(DeValue::String(text.into())), leaf),
        Leaf::Bool
        | Leaf::Integer { .. }
        | Leaf::Number { .. }
        | Leaf::Texts(_)
        | Leaf::Tables(_)
        | Leaf::Integers { .. } => {
            let parsed = DeValue::parse(text).ok().filter(|value| fits(leaf, value.get_ref()));
            match parsed {
                Some(value) => checker.leaf(path, &spanned(value.into_inner()), leaf),
                None => {
                    let fault = Fault::new(format!("must be {}, not {}", leaf.expects(), quoted(text)));
                    let example = match leaf {
                        Leaf::Texts(_) => Some("write a list as in the file: `[\"a\", \"b\"]`"),
                        Leaf::Integers { .. } => Some("write a list as in the file: `[0, 3]`"),
                        Leaf::Tables(_) => Some("write a list of tables as in the file: `[{ … }]`"),
                        Leaf::Bool | Leaf::Integer { .. } | Leaf::Number { .. } | Leaf::Text(_) => None,
                    };
                    let fault = match example {
                        Some(example) => fault.help(example),
                        None => fault,
                    };
                    checker.fault(path, 0..text.len(), fault);
                    None
                }
            }
        }
    }
}

fn fits(leaf: &Leaf, value: &DeValue<'_>) -> bool {
    match leaf {
        Leaf::Bool => value.is_bool(),
        Leaf::Integer { .. } => value.is_integer(),
        Leaf::Number { .. } => value.is_integer() || value.is_float(),
        Leaf::Text(_) => value.is_str(),
        Leaf::Texts(_) | Leaf::Tables(_) | Leaf::Integers { .. } => value.is_array(),
    }
}

fn put(layer: &mut Layer, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            layer.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let entry =
                layer.entry(first.clone()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
            if let ValueKind::Table(table) = &mut entry.kind {
                put(table, rest, value);
            } else {
                // A word lies where a table is now wanted (`ready`): the later override wins.
                let mut table = Map::new();
                put(&mut table, rest, value);
                entry.kind = ValueKind::Table(table);
            }
        }
    }
}
