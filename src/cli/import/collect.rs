//! From the texts of files to one form: which format each has, what each says, what all of them imply.

use std::ops::Range;

use super::broken::Broken;
use super::form::{Entry, Form, Format, Section, Table};
use super::ini::{self, Dialect};
use super::node::Document;
use super::systemd::Unit;
use super::{literal, monitor, pm2, procfile, supervisord, systemd, yaml};

/// A file that was given.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it was named.
    pub(super) name: String,
    /// The folder it is in, in full.
    pub(super) here: String,
    pub(super) text: String,
    /// Who may read it.
    pub(super) mode: u32,
    /// Drop-ins beside a unit.
    pub(super) drop_ins: Vec<String>,
}

/// Why nothing came of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// It cannot be read.
    Broken(Broken),
    /// Nobody knows what it is.
    Unknown,
}

/// What each file is, once it was read.
enum Read {
    Supervisord,
    Procfile,
    Unit(Unit),
    /// A drop-in whose unit was not given.
    Stray(Unit),
    /// It was put to its unit.
    DropIn,
    Pm2(Document),
    Monitor(Document),
}

impl Read {
    fn unit(&self) -> Option<&Unit> {
        match self {
            Self::Unit(unit) => Some(unit),
            Self::Stray(_)
            | Self::DropIn
            | Self::Supervisord
            | Self::Procfile
            | Self::Pm2(_)
            | Self::Monitor(_) => None,
        }
    }
}

/// The last part of a path.
fn base(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The unit of `web.service.d/limits.conf`.
fn unit_of_drop_in(name: &str) -> Option<&str> {
    let (folder, file) = name.rsplit_once('/')?;
    base(folder).strip_suffix(".d").filter(|unit| unit.contains('.') && file.ends_with(".conf"))
}

/// Units of systemd that are no services.
const UNITS: [&str; 8] = [".service", ".socket", ".timer", ".path", ".target", ".mount", ".slice", ".scope"];

/// The format of a file: by its name, else by what is in it.
pub(super) fn format(name: &str, text: &str) -> Option<Format> {
    let file = base(name).to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| file.ends_with(ending));
    if ends(&UNITS) || unit_of_drop_in(name).is_some() {
        return Some(Format::Systemd);
    }
    if file.starts_with("procfile") || ends(&[".procfile"]) {
        return Some(Format::Procfile);
    }
    if ends(&[".js", ".cjs", ".mjs"]) {
        return Some(Format::Pm2);
    }
    if ends(&[".json", ".yaml", ".yml"]) {
        let document = document(name, text).ok();
        let is_monitor =
            document.is_some_and(|document| !pm2::fits(&document.root) && monitor::fits(&document.root));
        return Some(if is_monitor { Format::Monitor } else { Format::Pm2 });
    }
    let comment = |line: &&str| line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("//");
    let first = text.lines().map(str::trim).find(|line| !comment(line))?;
    if first.starts_with('[') {
        let unit = ["[Unit]", "[Service]", "[Install]"].contains(&first);
        return Some(if unit { Format::Systemd } else { Format::Supervisord });
    }
    if first.starts_with('{') || text.contains("module.exports") || first.starts_with("export default") {
        return Some(Format::Pm2);
    }
    if ends(&[".ini", ".conf"]) && !monitor::fits_lines(text) {
        return Some(Format::Supervisord);
    }
    if monitor::fits_lines(text) {
        return Some(Format::Monitor);
    }
    let document = yaml::read(text).ok();
    if let Some(document) = &document
        && (pm2::fits(&document.root) || monitor::fits(&document.root))
    {
        return Some(if pm2::fits(&document.root) { Format::Pm2 } else { Format::Monitor });
    }
    procfile::fits(text).then_some(Format::Procfile)
}

/// JSON, JavaScript or YAML, by name or by its first letter.
fn document(name: &str, text: &str) -> Result<Document, Broken> {
    let file = base(name).to_ascii_lowercase();
    let first = text.trim_start_matches('\u{feff}').trim_start();
    if file.ends_with(".json") {
        literal::json(text)
    } else if file.ends_with(".yaml") || file.ends_with(".yml") {
        yaml::read(text)
    } else if file.ends_with("js") || first.contains("module.exports") || first.contains("export default") {
        literal::javascript(text)
    } else if first.starts_with(['{', '[']) {
        literal::json(text)
    } else {
        yaml::read(text)
    }
}

/// Everything that the files say.
///
/// # Errors
/// The files that cannot be read, by their number.
pub(super) fn collect(sources: &[Source], forced: Option<Format>) -> Result<Form, Vec<(usize, Refused)>> {
    let mut read = Vec::new();
    let mut refused = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        match one(source, forced) {
            Ok(one) => read.push((number, one)),
            Err(why) => refused.push((number, why)),
        }
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    drop_ins(sources, &mut read);
    let mut form = Form::default();
    let units: Vec<&Unit> = read.iter().filter_map(|(_, one)| one.unit()).collect();
    systemd::names(&mut form, &units);
    let mut implied: Vec<(Format, Range<usize>)> = Vec::new();
    for (number, one) in &read {
        let source = &sources[*number];
        let start = form.sections.len();
        let format = match one {
            Read::Supervisord => {
                supervisord::read(&mut form, &source.name, &source.text, &source.here)
                    .map_err(|broken| vec![(*number, Refused::Broken(broken))])?;
                Some(Format::Supervisord)
            }
            Read::Procfile => {
                procfile::read(&mut form, &source.name, &source.text);
                Some(Format::Procfile)
            }
            Read::Unit(unit) | Read::Stray(unit) => {
                systemd::read(&mut form, unit);
                Some(Format::Systemd)
            }
            Read::DropIn => None,
            Read::Pm2(document) => {
                pm2::read(&mut form, &source.name, &source.text, document, &source.here);
                Some(Format::Pm2)
            }
            Read::Monitor(document) => {
                monitor::read(&mut form, &source.name, &source.text, document);
                None
            }
        };
        let own = start..form.sections.len();
        let works = |section: &Section| matches!(section.table, Table::Worker(_) | Table::Template(_));
        if let Some(format) = format.filter(|_| form.sections[own.clone()].iter().any(works)) {
            implied.push((format, own));
        }
    }
    finish(&mut form, &implied);
    Ok(form)
}

fn one(source: &Source, forced: Option<Format>) -> Result<Read, Refused> {
    let format = forced.or_else(|| format(&source.name, &source.text)).ok_or(Refused::Unknown)?;
    let broken = Refused::Broken;
    Ok(match format {
        Format::Supervisord => {
            ini::read(&source.text, Dialect::Supervisord).map_err(broken)?;
            Read::Supervisord
        }
        Format::Procfile => Read::Procfile,
        Format::Systemd => {
            let items = ini::read(&source.text, Dialect::Systemd).map_err(broken)?;
            let drop_in = unit_of_drop_in(&source.name);
            let name = drop_in.unwrap_or(base(&source.name)).to_owned();
            let (file, unread) = (source.name.clone(), source.drop_ins.clone());
            let unit = Unit { file, name, items, drop_ins: Vec::new(), unread };
            if drop_in.is_some() { Read::Stray(unit) } else { Read::Unit(unit) }
        }
        Format::Pm2 => {
            let document = document(&source.name, &source.text).map_err(broken)?;
            if !pm2::fits(&document.root) {
                let says = "there are no apps in it";
                let help = "an ecosystem file has `apps`, a list of tables with `script`";
                return Err(broken(Broken::new(document.root.span.start, says).help(help)));
            }
            Read::Pm2(document)
        }
        Format::Monitor => {
            let flat = monitor::fits_lines(&source.text) && !source.text.trim_start().starts_with('{');
            let document =
                if flat { monitor::lines(&source.text) } else { document(&source.name, &source.text) };
            Read::Monitor(document.map_err(broken)?)
        }
    })
}

/// Puts drop-ins to their units, in the order that systemd has: by name.
fn drop_ins(sources: &[Source], read: &mut [(usize, Read)]) {
    let mut found: Vec<(String, Unit)> = Vec::new();
    let named: Vec<String> =
        read.iter().filter_map(|(_, one)| one.unit()).map(|unit| unit.name.clone()).collect();
    for (number, one) in read.iter_mut() {
        let is_ours = match one {
            Read::Stray(unit) => named.contains(&unit.name),
            Read::Unit(_)
            | Read::DropIn
            | Read::Supervisord
            | Read::Procfile
            | Read::Pm2(_)
            | Read::Monitor(_) => false,
        };
        if is_ours && let Read::Stray(unit) = std::mem::replace(one, Read::DropIn) {
            found.push((sources[*number].name.clone(), unit));
        }
    }
    found.sort_by(|(one, _), (other, _)| base(one).cmp(base(other)));
    for (_, one) in read.iter_mut() {
        let Read::Unit(unit) = one else { continue };
        let own = |(_, drop_in): &&(String, Unit)| drop_in.name == unit.name;
        let drop_ins: Vec<_> =
            found.iter().filter(own).map(|(file, unit)| (file.clone(), unit.items.clone())).collect();
        let same = |unread: &String| drop_ins.iter().any(|(file, _)| base(file) == base(unread));
        unit.unread.retain(|unread| !same(unread));
        unit.drop_ins = drop_ins;
    }
}

/// What the formats imply, and the tables that hold for all.
fn finish(form: &mut Form, implied: &[(Format, Range<usize>)]) {
    let alone = implied.iter().all(|(format, _)| Some(format) == implied.first().map(|(first, _)| first));
    let mut told: Vec<Format> = Vec::new();
    for (format, own) in implied {
        let first = !told.contains(format);
        told.push(*format);
        if alone && !first {
            continue;
        }
        let what: Vec<Entry> = match format {
            Format::Supervisord => supervisord::implied(),
            Format::Systemd => systemd::implied(),
            Format::Pm2 => pm2::implied(),
            Format::Procfile => procfile::implied(),
            Format::Monitor => Vec::new(),
        };
        form.imply(own.clone(), alone, what);
    }
    let mut tables = Vec::new();
    if !form.defaults.is_empty() {
        let mut section = Section::new(Table::Defaults, "Holds for all workers that do not say otherwise.");
        section.entries = std::mem::take(&mut form.defaults);
        tables.push(section);
    }
    if !form.root.is_empty() {
        let mut section = Section::new(Table::Supervisor("root".to_owned()), "");
        section.entries = std::mem::take(&mut form.root);
        tables.push(section);
    }
    if !form.ladder.is_empty() {
        let mut section =
            Section::new(Table::Ladder, "What is done about a worker that runs and does not work.");
        section.entries = std::mem::take(&mut form.ladder);
        tables.push(section);
    }
    form.sections.splice(0..0, tables);
    form.sections.iter_mut().for_each(Section::tidy);
}
