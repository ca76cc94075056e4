//! Ecosystem files of PM2: each app becomes a worker.

use super::form::{Entry, Form, Section, Setting, Table, weave};
use super::node::{Document, Kind, Node, Pair};
use super::pm2_app::app;

/// Whether it looks like one.
pub(super) fn fits(root: &Node) -> bool {
    apps(root).is_some()
}

/// Adds what the file says.
pub(super) fn read(form: &mut Form, file: &str, text: &str, document: &Document, here: &str) {
    let mut sections = vec![Section::new(Table::None, format!("From {file}, an ecosystem file of PM2."))];
    let Some((apps, inside)) = apps(&document.root) else { return };
    let first = apps.iter().map(|app| app.span.start).min().unwrap_or(0);
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for span in &document.code {
        frame(&mut sections[0], text, span.start..span.end, &document.root);
    }
    if let Some(pair) = inside {
        let open = pair.span.start..first.clamp(pair.span.start, pair.span.end);
        let head =
            text[open.clone()].lines().next().unwrap_or("apps").trim_end_matches(['[', '{', ' ', ',', '-']);
        let key = head.split_once(':').map_or(head, |(key, _)| key);
        let end = open.start + key.len();
        sections[0].push(Entry::kept(&format!("{key}:")).at(open.start..end));
    }
    for node in apps {
        let own = |key: &str| node.get(key).and_then(Node::scalar);
        let script = own("script").or_else(|| own("cmd")).or_else(|| own("command"));
        let name = own("name").or_else(|| {
            script
                .as_deref()
                .map(|script| crate::cli::init::argv::Line::words(script.split_whitespace()).name())
        });
        let name = form.names.give(name.as_deref().unwrap_or("app"));
        let mut section = Section::new(Table::Worker(name.clone()), "");
        if let Some(group) = own("namespace").filter(|group| group != "default") {
            match groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, children)) => children.push(name),
                None => groups.push((group, vec![name])),
            }
        }
        app(&mut section, text, node, here);
        sections.push(section);
    }
    // What stands beside the apps.
    if inside.is_some() {
        for pair in document.root.pairs().iter().filter(|pair| pair.key != "apps") {
            let why = match pair.key.as_str() {
                "deploy" => "regrow copies nothing to other machines",
                _ => "PM2 is not known to have such a key beside `apps`",
            };
            let entry = Entry::left(&text[pair.span.clone()], why).at(pair.span.clone());
            if pair.span.start < first {
                sections[0].push(entry);
                continue;
            }
            let mut section = Section::new(Table::None, "");
            section.push(entry);
            sections.push(section);
        }
    }
    sections[0].entries.sort_by_key(|entry| entry.span.start);
    weave(&mut sections, text, &document.comments);
    for (group, children) in groups {
        let name = form.names.give_group(&group);
        let mut section = Section::new(Table::Supervisor(name), format!("The namespace {group}."));
        section.push(Entry::taken("", [Setting::texts("children", &children)]));
        sections.push(section);
    }
    form.sections.extend(sections);
}

/// What PM2 does for every app, and regrow does not by itself.
pub(super) fn implied() -> Vec<Entry> {
    vec![
        Entry::implied(
            "PM2 passes its whole environment on. Better: only the names that are needed.",
            [Setting::texts("inherit_env", ["*"])],
        ),
        Entry::implied(
            "PM2 stops an app with SIGINT, and all of its processes.",
            [Setting::text("stop.signal", "INT"), Setting::text("stop.to", "group")],
        ),
    ]
}

/// The apps, and the pair they stand in.
fn apps(root: &Node) -> Option<(&[Node], Option<&Pair>)> {
    let is_app = |node: &Node| ["script", "cmd", "command"].iter().any(|key| node.get(key).is_some());
    if let Some(pair) = root.pairs().iter().rev().find(|pair| pair.key == "apps") {
        return match &pair.value.kind {
            Kind::List(items) => Some((items, Some(pair))),
            Kind::Map(_) => Some((std::slice::from_ref(&pair.value), Some(pair))),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::Code(_) => None,
        };
    }
    match &root.kind {
        Kind::List(items) if items.iter().any(is_app) => Some((items, None)),
        Kind::Map(_) if is_app(root) => Some((std::slice::from_ref(root), None)),
        Kind::List(_)
        | Kind::Map(_)
        | Kind::Null
        | Kind::Bool(_)
        | Kind::Number(_)
        | Kind::Text(_)
        | Kind::Code(_) => None,
    }
}

/// Code around the value.
fn frame(section: &mut Section, text: &str, span: std::ops::Range<usize>, root: &Node) {
    let code = text[span.clone()].trim();
    if code.trim_matches([';', ' ', '\n']).is_empty() {
        return;
    }
    let entry = if span.end <= root.span.start
        && (code.starts_with("module.exports") || code.starts_with("export"))
    {
        Entry::kept(code)
    } else {
        Entry::left(code, "code around the literal; nothing was run, and only plain values of it were used")
    };
    section.push(entry.at(span));
}
