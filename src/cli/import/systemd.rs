//! Units of systemd: a service becomes a worker, and one with `@` a template.

use super::form::{Entry, Form, Section, Setting, Table};
use super::ini::{Item, What};
use super::systemd_exec::{About, PARAM};
use super::systemd_service::Service;

/// A unit with the drop-ins that were given for it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) file: String,
    /// `web.service`
    pub(super) name: String,
    pub(super) items: Vec<Item>,
    /// Drop-ins, in the order they count.
    pub(super) drop_ins: Vec<(String, Vec<Item>)>,
    /// Drop-ins beside it that were not given.
    pub(super) unread: Vec<String>,
}

/// Gives the units of all files their names, so that each can name the others.
pub(super) fn names(form: &mut Form, units: &[&Unit]) {
    for unit in units.iter().filter(|unit| is_service(unit)) {
        let about = about(unit);
        let wanted = if about.is_template() { about.prefix() } else { &about.name };
        let name = form.names.give(wanted);
        form.names.units.insert(unit.name.clone(), name);
    }
}

/// Whether it has a command to run.
fn is_service(unit: &Unit) -> bool {
    values(unit).any(|(section, key, value)| section == "Service" && key == "ExecStart" && !value.is_empty())
}

/// Sections, keys and values, drop-ins behind the unit.
fn values(unit: &Unit) -> impl Iterator<Item = (&str, &str, &str)> {
    let parts = std::iter::once(&unit.items).chain(unit.drop_ins.iter().map(|(_, items)| items));
    parts.flat_map(|items| {
        let mut section = "";
        items.iter().filter_map(move |item| match &item.what {
            What::Section(name) => {
                section = name;
                None
            }
            What::Pair { key, value } => Some((section, key.as_str(), value.as_str())),
            What::Comment => None,
        })
    })
}

fn about(unit: &Unit) -> About {
    let user = values(unit).filter(|(_, key, value)| *key == "User" && !value.is_empty()).last();
    About {
        name: unit.name.strip_suffix(".service").unwrap_or(&unit.name).to_owned(),
        user: user.map_or("root", |(_, _, value)| value).to_owned(),
    }
}

/// Adds what the unit says.
pub(super) fn read(form: &mut Form, unit: &Unit) {
    let about = about(unit);
    let worker = form.names.units.get(&unit.name).cloned();
    let heading = match (&worker, about.is_template()) {
        (Some(worker), true) => format!(
            "From {}, a template of systemd. `regrow add {worker} NAME instance=VALUE` makes a worker of it.",
            unit.file
        ),
        (Some(_), false) => format!("From {}, a service of systemd.", unit.file),
        (None, _) if unit.name.ends_with(".service") => {
            format!("From {}, which names no command of its own.", unit.file)
        }
        (None, _) => format!("From {}, a unit of systemd that is no service.", unit.file),
    };
    let table = match (&worker, about.is_template()) {
        (None, _) => Table::None,
        (Some(worker), true) => Table::Template(worker.clone()),
        (Some(worker), false) => Table::Worker(worker.clone()),
    };
    let template = matches!(table, Table::Template(_));
    let mut section = Section::new(table, heading);
    let values: Vec<_> = values(unit).collect();
    let mut service = worker.is_some().then(|| Service::new(about, &values, &form.names.units, &unit.name));
    items(&mut section, &unit.items, service.as_mut());
    for (file, drop_in) in &unit.drop_ins {
        section.push(Entry::kept(&format!("From {file}:")));
        items(&mut section, drop_in, service.as_mut());
    }
    for file in &unit.unread {
        let why = "a drop-in that was not read: name it behind its unit, `regrow import UNIT DROP-IN`";
        section.push(Entry::left(file, why));
    }
    let limit = service.as_ref().and_then(Service::limit);
    if template {
        let any =
            [Setting::text(format!("params.{}", PARAM.trim_start_matches("param.")), "[A-Za-z0-9:_.-]+")];
        section.push(Entry::implied("What may stand behind the `@`.", any));
    }
    form.sections.push(section);
    if let (Some((starts, within)), Some(worker)) = (limit, worker) {
        let name = form.names.give_group(&format!("{worker}-limit"));
        let heading = format!(
            "How often {worker} may be started. Unlike systemd, regrow tries again later; retry_first = \"never\" \
             leaves it parked."
        );
        let mut section = Section::new(Table::Supervisor(name), heading);
        section.push(Entry::taken(
            "",
            [
                Setting::texts("children", [worker]),
                Setting::raw("intensity.max_restarts", starts),
                Setting::text("intensity.within", &within),
            ],
        ));
        form.sections.push(section);
    }
}

fn items(section: &mut Section, items: &[Item], mut service: Option<&mut Service<'_>>) {
    let mut inside = "";
    for item in items {
        match &item.what {
            What::Comment => section.push(Entry::kept(&item.raw)),
            What::Section(name) => {
                inside = name;
                section.push(Entry::kept(&item.raw));
            }
            What::Pair { key, value } => {
                let entry = match &mut service {
                    Some(service) => service.entry(inside, key, value, &item.raw),
                    None => Entry::left(&item.raw, "regrow runs services only"),
                };
                section.push(entry);
            }
        }
    }
}

/// What systemd does for every service, and regrow does not by itself.
pub(super) fn implied() -> Vec<Entry> {
    vec![
        Entry::implied(
            "systemd starts a service again only where Restart= says so. To have all of them running: permanent.",
            [Setting::text("restart", "temporary")],
        ),
        Entry::implied("systemd runs a service in the root directory.", [Setting::text("cwd", "/")]),
        Entry::implied(
            "systemd asks every process of a service to end.",
            [Setting::text("stop.to", "group")],
        ),
    ]
}
