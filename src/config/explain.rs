//! `check --explain`: the whole effective file, every value with where it came from.
//!
//! What stands there is complete and can be read again to the same settings. Therefore paths are absolute,
//! lists are resolved, and an address nobody asked for is commented out, since asking for it means more.

use std::collections::HashMap;

use config::{Value, ValueKind};

use crate::id::Name;

use super::check::Places;
use super::document::{Document, DocumentKind};
use super::effective::Effective;
use super::elements::{FILE, SUPERVISOR, TEMPLATE, WORKER};
use super::layers::{self, Layer};
use super::nature::meaningless;
use super::schema::{Key, Kind, Shape, find, join};
use super::settings::{Settings, WorkerSettings};

pub(super) fn explain(
    settings: &Settings,
    effective: &Effective,
    places: &Places,
    documents: &[Document],
) -> String {
    let of_file = settings.workers.iter().map(|worker| (format!("worker.{}", worker.name), worker.as_ref()));
    let of_templates = settings.templates.iter().map(|one| (format!("template.{}", one.name), one.sample()));
    let workers = of_file.chain(of_templates).collect();
    let mut page = Page { settings, effective, places, documents, workers, text: String::new() };
    page.section(&["runtime"]);
    for (kind, name) in effective.names.iter().filter(|(kind, _)| *kind == Kind::Supervisor) {
        page.supervisor(name, &effective.table(*kind, name));
    }
    for (kind, name) in effective.names.iter().filter(|(kind, _)| *kind == Kind::Worker) {
        page.head(&format!("worker.{name}"));
        page.table(&format!("worker.{name}"), "defaults.worker", "", &effective.table(*kind, name), WORKER);
    }
    for (kind, name) in effective.names.iter().filter(|(kind, _)| *kind == Kind::Template) {
        page.head(&format!("template.{name}"));
        page.table(
            &format!("template.{name}"),
            "defaults.worker",
            "",
            &effective.table(*kind, name),
            TEMPLATE,
        );
    }
    page.each("ladder", "ladder.default");
    page.section(&["recovery"]);
    page.each("strategy", "");
    page.classes();
    page.section(&["http"]);
    page.section(&["telemetry"]);
    page.section(&["store"]);
    page.text
}

struct Page<'a> {
    settings: &'a Settings,
    effective: &'a Effective,
    places: &'a Places,
    documents: &'a [Document],
    /// By section: `worker.web`, and `template.session` as the worker that it makes.
    workers: HashMap<String, &'a WorkerSettings>,
    text: String,
}

impl Page<'_> {
    fn head(&mut self, name: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&format!("[{name}]\n"));
    }

    /// A table of fixed keys, by its path.
    fn section(&mut self, path: &[&str]) {
        let (mut keys, mut layer) = (FILE, self.effective.sections.clone());
        for name in path {
            let Some(Key { shape: Shape::Table(below), .. }) = find(keys, name) else { return };
            (keys, layer) = (below, layers::sub(&layer, name));
        }
        let name = path.join(".");
        self.head(&name);
        self.table(&name, &name, "", &layer, keys);
    }

    /// `[strategy.*]`, which have no defaults, and `[ladder.*]`, whose default is one of them.
    fn each(&mut self, kind: &str, inherited: &str) {
        let all = layers::sub(&self.effective.sections, kind);
        let Some(Key { shape: Shape::Each(_, keys), .. }) = find(FILE, kind) else { return };
        let mut names: Vec<&String> = all.keys().collect();
        names.sort();
        for name in names {
            let section = format!("{kind}.{name}");
            self.head(&section);
            let below = inherited.rsplit('.').next().unwrap_or_default();
            let layer = layers::over(&layers::sub(&all, below), &layers::sub(&all, name));
            self.table(&section, inherited, "", &layer, keys);
        }
    }

    /// `[[error_class]]`, which has no defaults.
    fn classes(&mut self) {
        let Some(Value { kind: ValueKind::Array(classes), .. }) = self.effective.sections.get("error_class")
        else {
            return;
        };
        for (n, class) in classes.iter().enumerate() {
            let ValueKind::Table(class) = &class.kind else { continue };
            self.text.push_str("\n[[error_class]]\n");
            for key in ["name", "match", "exit_code"] {
                if let Some(value) = class.get(key) {
                    let origin = self.origin(&format!("error_class[{n}]"), "", key);
                    self.line(key, &written(value), &origin);
                }
            }
        }
    }

    fn supervisor(&mut self, name: &Name, layer: &Layer) {
        let section = format!("supervisor.{name}");
        self.head(&section);
        // What the root sets for itself is nobody else's default.
        let inherited = if *name == Name::root() { "supervisor.root" } else { "" };
        self.table(&section, inherited, "", layer, SUPERVISOR);
        let children = self.settings.supervisors.iter().find(|supervisor| supervisor.name == *name);
        let children: Vec<&str> =
            children.into_iter().flat_map(|supervisor| &supervisor.children).map(Name::as_str).collect();
        let given = self.places.value(&format!("{section}.children")).is_some();
        let origin = self.origin(&section, inherited, "children");
        let origin = match (given, *name == Name::root()) {
            (true, false) => origin,
            (true, true) => format!("{origin}, then everybody whom no list names"),
            (false, true) => "everybody whom no list names".to_owned(),
            (false, false) => "default".to_owned(),
        };
        let list =
            toml::Value::from(children.iter().map(|name| toml::Value::from(*name)).collect::<Vec<_>>());
        self.line("children", &list.to_string(), &origin);
    }

    fn table(&mut self, section: &str, inherited: &str, at: &str, layer: &Layer, keys: &'static [Key]) {
        for key in keys {
            let below = join(at, key.name);
            // Resolved by the caller, in place of what is written.
            if at.is_empty() && key.name == "children" {
                continue;
            }
            if self.means_nothing(section, &below) {
                continue;
            }
            match (&key.shape, layer.get(key.name)) {
                (Shape::Table([]), Some(_)) => {
                    let origin = self.origin(section, inherited, &below);
                    self.line(&below, "{}", &origin);
                }
                (Shape::Table(keys) | Shape::Either(keys), _) => {
                    self.table(section, inherited, &below, &layers::sub(layer, key.name), keys);
                }
                (Shape::LeafOr(_, keys), Some(value)) if is_table(value) => {
                    self.table(section, inherited, &below, &layers::sub(layer, key.name), keys);
                }
                (Shape::Secrets(keys), Some(Value { kind: ValueKind::Table(names), .. })) => {
                    let mut names: Vec<&String> = names.keys().collect();
                    names.sort();
                    for name in names {
                        let of = layers::sub(&layers::sub(layer, key.name), name);
                        self.table(section, inherited, &format!("{below}.{}", key_text(name)), &of, keys);
                    }
                }
                (Shape::Each(_, keys), Some(Value { kind: ValueKind::Table(names), .. })) => {
                    let mut names: Vec<&String> = names.keys().collect();
                    names.sort();
                    for name in names {
                        let (at, of) = (join(&below, name), layers::sub(&layers::sub(layer, key.name), name));
                        if !self.means_nothing(section, &at) {
                            self.table(section, inherited, &at, &of, keys);
                        }
                    }
                }
                (Shape::Texts(_) | Shape::Free, Some(value)) => self.texts(section, inherited, &below, value),
                (
                    Shape::Leaf(_)
                    | Shape::LeafOr(..)
                    | Shape::Named(..)
                    | Shape::Texts(_)
                    | Shape::Secrets(_)
                    | Shape::Each(..)
                    | Shape::Free,
                    value,
                ) => {
                    self.leaf(section, inherited, &below, value);
                }
            }
        }
    }

    /// A process shows none of an actor's keys, and the other way round.
    fn means_nothing(&self, section: &str, at: &str) -> bool {
        self.workers.get(section).is_some_and(|worker| {
            let probe = at.strip_prefix("probe.").and_then(|rest| rest.split('.').next());
            let number = if worker.pool.is_some() { "instances" } else { "pool" };
            probe.is_some_and(|name| !worker.has_probe(name))
                || meaningless(worker).contains(&at)
                || at == number
        })
    }

    fn texts(&mut self, section: &str, inherited: &str, at: &str, value: &Value) {
        let ValueKind::Table(table) = &value.kind else { return };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in entries {
            let origin = self.origin(section, inherited, &join(at, name));
            self.line(&format!("{at}.{}", key_text(name)), &written(value), &origin);
        }
    }

    fn leaf(&mut self, section: &str, inherited: &str, at: &str, value: Option<&Value>) {
        let value = value.filter(layers::says);
        let origin = self.origin(section, inherited, at);
        let runtime = &self.settings.runtime;
        match join(section, at).as_str() {
            "runtime.name" => {
                let origin = if value.is_some() { origin } else { "default: the host's name".to_owned() };
                self.line(at, &quote(&runtime.name), &origin);
            }
            "runtime.state_dir" => {
                let origin = match (value, self.effective.state_directory) {
                    (Some(_), _) => origin,
                    (None, true) => "$STATE_DIRECTORY".to_owned(),
                    (None, false) => "default".to_owned(),
                };
                self.line(at, &quote(&runtime.state_dir.to_string_lossy()), &origin);
            }
            "http.listen" if !self.settings.http.listen_explicit => {
                let Some(value) = value else { return };
                self.line("# listen", &written(value), "default; naming it makes a taken port an error");
            }
            _ if at == "cwd" => {
                let Some(worker) = self.workers.get(section) else { return };
                let cwd = quote(&worker.cwd.to_string_lossy());
                self.line(at, &cwd, &origin);
            }
            // In the defaults of all workers it means all others, and here it would be the worker itself.
            _ if at == "after" && value.is_some() => {
                let Some(worker) = self.workers.get(section) else { return };
                let names: Vec<String> = worker.after.iter().map(|name| quote(name.as_str())).collect();
                self.line(at, &format!("[{}]", names.join(", ")), &origin);
            }
            _ if is_path(at) => {
                let Some(ValueKind::String(path)) = value.map(|value| &value.kind) else { return };
                // A path that begins with a placeholder will be absolute.
                let path =
                    if path.starts_with('{') { path.into() } else { self.settings.base_dir.join(path) };
                self.line(at, &quote(&path.to_string_lossy()), &origin);
            }
            _ => {
                let Some(value) = value else { return };
                self.line(at, &written(value), &origin);
            }
        }
    }

    fn line(&mut self, key: &str, value: &str, origin: &str) {
        self.text.push_str(&format!("{key} = {value}  # {origin}\n"));
    }

    /// Where a value stands: `config/regrow.toml:12`, `REGROW__…`, `default`.
    fn origin(&self, section: &str, inherited: &str, at: &str) -> String {
        let place = self.places.value(&join(section, at));
        let place =
            place.or_else(|| self.places.value(&join(inherited, at)).filter(|_| !inherited.is_empty()));
        let found = place.and_then(|place| Some((self.documents.get(place.document)?, place)));
        let Some((document, place)) = found else { return "default".to_owned() };
        match document.kind {
            DocumentKind::Default => "default".to_owned(),
            DocumentKind::File => {
                format!("{}:{}", one_line(&document.name), document.position(place.range.start).line)
            }
            DocumentKind::Environment => {
                let (line, ..) = document.line(place.range.start);
                line.split('=').next().unwrap_or_default().to_owned()
            }
            DocumentKind::Flags => "command line".to_owned(),
        }
    }
}

/// Sections as they could stand in a file, one line each.
pub(super) fn as_text(sections: &Layer) -> String {
    let mut named: Vec<_> = sections.iter().collect();
    named.sort_by_key(|(name, _)| name.as_str());
    named.into_iter().map(|(name, value)| format!("{} = {}\n", key_text(name), written(value))).collect()
}

/// Keys of a worker whose paths are relative to the file.
fn is_path(at: &str) -> bool {
    at == "pid_file" || at.starts_with("secrets.") && at.ends_with(".file")
}

fn is_table(value: &Value) -> bool {
    matches!(value.kind, ValueKind::Table(_))
}

/// A file's name must not end the comment it stands in.
fn one_line(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn key_text(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { name.to_owned() } else { quote(name) }
}

fn quote(text: &str) -> String {
    // Always on one line, so that the origin can follow.
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

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the check lets only these kinds of another crate's enum through"
)]
fn written(value: &Value) -> String {
    match &value.kind {
        ValueKind::Boolean(value) => value.to_string(),
        ValueKind::I64(value) => value.to_string(),
        ValueKind::Float(value) => toml::Value::from(*value).to_string(),
        ValueKind::String(value) => quote(value),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", ")),
        ValueKind::Table(table) => {
            let mut entries: Vec<_> = table.iter().filter(|(_, value)| layers::says(value)).collect();
            entries.sort_by_key(|(name, _)| name.as_str());
            let entry = |(name, value): (&String, &Value)| format!("{} = {}", key_text(name), written(value));
            format!("{{ {} }}", entries.into_iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    /// What the defaults of all workers say for the other kind, or for all others, is not said of one that it is not for.
    #[test]
    fn what_comes_from_the_defaults_reads_the_same() {
        let text = r#"
[defaults.worker]
command = ["x"]
after = ["db"]
probe.self.actor = {}
probe.main.process = {}
probe.up.tcp = "127.0.0.1:1"
secrets.KEY = { file = "key" }
on.memory_cleanup = { signal = "USR1" }
[worker.db]
[worker.web]
secrets.KEY = { env = "WEB_KEY" }
on.memory_cleanup = { command = ["./trim"] }
[template.session]
command = ["session", "{param.user}"]
params.user = "[a-z]+"
after = ["web"]
"#;
        let first = load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}"));
        let explained = first.explain();
        let second =
            load(&Sources::text(&explained)).unwrap_or_else(|problems| panic!("{problems}\n{explained}"));
        assert_eq!(first.settings.workers, second.settings.workers, "{explained}");
        assert_eq!(first.settings.supervisors, second.settings.supervisors);
        let samples = |loaded: &crate::config::Loaded| -> Vec<_> {
            loaded.settings.templates.iter().map(|one| (one.max, one.sample().clone())).collect()
        };
        assert_eq!(samples(&first), samples(&second), "{explained}");
    }
}
