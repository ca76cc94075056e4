//! From sources to settings: read, check, lay over each other, resolve.
//!
//! Every stage reports all it finds before the next may stop the run: texts that do not parse are checked as
//! far as they do, and names are resolved over whatever survived.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{ConfigError, Value, ValueKind};
use toml::de::DeTable;

use super::check::{Checker, Places};
use super::diagnostic::{Diagnostics, Problem, quoted};
use super::document::{Document, DocumentKind, Place};
use super::effective::Effective;
use super::elements::{
    FILE, RawClass, RawHttp, RawLadders, RawRecovery, RawRuntime, RawStore, RawStrategy, RawSupervisor,
    RawTelemetry, RawTemplate, RawWorker,
};
use super::layers::{self, Layer};
use super::recovery_check::Steps;
use super::resolve::{self, Draft};
use super::schema::Kind;
use super::settings::{Common, Settings, WorkerSettings};
use super::source::{self, Sources};
use super::still::{Pace, Seen};
use super::torn::Torn;
use super::{actors, advice, explain, overrides, recovery_check, still, syntax, template_check};
use crate::id::Name;

/// The defaults and the reference manual in one.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What a worker that is added later shares with those of the file.
const COMMON: [&str; 4] = ["defaults", "ladder", "strategy", "error_class"];

/// More workers than this are a mistake in a generator; each is a task, a directory and a socket.
const MAX_WORKERS: usize = 10_000;

/// A configuration that is known to be right.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the runtime is built from.
    pub settings: Settings,
    /// The files it came from, the main one first.
    pub files: Vec<PathBuf>,
    /// Remarks for `check`, such as which supervisors follow OTP's rules exactly.
    pub notes: Vec<String>,
    pub(super) seen: Seen,
    effective: Effective,
    places: Arc<Places>,
    pub(super) documents: Arc<[Document]>,
}

impl Loaded {
    /// The whole effective configuration as TOML, each value with its origin behind it. Read again, it gives
    /// the same settings.
    #[must_use]
    pub fn explain(&self) -> String {
        explain::explain(&self.settings, &self.effective, &self.places, &self.documents)
    }

    /// Whether its files have stood still for this long.
    pub(crate) fn stood(&self, quiet: Duration, pace: &impl Pace) -> bool {
        self.seen.unrest(quiet, pace.now()).is_zero()
    }

    /// Whether somebody said where the state directory is, or a file is there that it stands beside.
    pub(crate) fn has_a_place(&self) -> bool {
        !self.files.is_empty() || self.effective.state_directory || self.places.named("runtime.state_dir")
    }
}

/// Settings, the tables they came from, and notes.
type Built = (Settings, Effective, Vec<String>);

/// Loads, checks and resolves a configuration.
///
/// # Errors
/// [`Diagnostics`] with every problem of every file.
pub fn load(sources: &Sources) -> Result<Loaded, Diagnostics> {
    let mut run = Run::default();
    let layers = run.read_all(sources);
    run.finish(sources, layers)
}

/// The same of files that have stood still for this long; one that is being written is read again until it does.
///
/// # Errors
/// As [`load`], and for a file that is written on and on.
pub(crate) fn load_still(
    sources: &Sources,
    quiet: Duration,
    pace: &impl Pace,
) -> Result<Loaded, Diagnostics> {
    let mut waited = Duration::ZERO;
    loop {
        let mut run = Run::default();
        let layers = run.read_all(sources);
        let wait = run.seen.unrest(quiet, pace.now());
        if !wait.is_zero() {
            pace.wait(wait);
            waited += wait;
            let changed = run.seen.changed();
            if let Some(file) = changed.as_ref().filter(|_| waited >= still::PATIENCE) {
                let problem = still::never_still(file);
                return Err(Diagnostics::new(vec![problem], run.documents));
            }
            if changed.is_some() {
                continue;
            }
        }
        return run.finish(sources, layers);
    }
}

#[derive(Default)]
struct Run {
    documents: Vec<Document>,
    places: Places,
    problems: Vec<Problem>,
    files: Vec<PathBuf>,
    base: PathBuf,
    /// What could not be read or parsed: names may be missing that are there.
    torn: Torn,
    seen: Seen,
}

impl Run {
    /// All layers, the weakest first.
    fn read_all(&mut self, sources: &Sources) -> Vec<Layer> {
        let mut layers =
            vec![self.read_text("built-in defaults", DEFAULTS.to_owned(), DocumentKind::Default)];
        let main = self.read_main(sources);
        let patterns = main.get("include").cloned();
        layers.push(main);
        let included = self.includes(patterns);
        layers.extend(included);
        let Self { documents, places, problems, .. } = self;
        layers.push(overrides::environment(&sources.env, documents, places, problems));
        layers.push(overrides::flags(&sources.flags, documents, places, problems));
        layers
    }

    fn read_main(&mut self, sources: &Sources) -> Layer {
        if let Some(text) = &sources.inline {
            let here = || std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
            self.base = sources.base.clone().unwrap_or_else(here);
            return self.read_text("inline", text.clone(), DocumentKind::File);
        }
        match sources.find() {
            Ok(path) => {
                let full = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
                self.base = full.parent().unwrap_or(Path::new("/")).to_owned();
                self.read_file(&path)
            }
            Err(problem) => {
                self.torn.file();
                self.problems.push(*problem);
                Layer::new()
            }
        }
    }

    fn includes(&mut self, patterns: Option<Value>) -> Vec<Layer> {
        let Some(ValueKind::Array(patterns)) = patterns.map(|value| value.kind) else { return Vec::new() };
        let mut layers = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            let ValueKind::String(pattern) = pattern.kind else { continue };
            let place = self.places.value(&format!("include[{index}]")).cloned();
            let found = source::included(&self.base, &pattern);
            self.seen.list(&self.base, &pattern, &found);
            match found {
                Ok(paths) => {
                    for path in paths.into_iter().map(|path| shorten(&path)) {
                        if !self.known(&path) {
                            let layer = self.read_file(&path);
                            layers.push(self.without_include(layer));
                        }
                    }
                }
                Err(why) => {
                    self.torn.file();
                    self.problems.push(Problem::new(place, format!("{} {why}", quoted(&pattern))));
                }
            }
        }
        layers
    }

    /// `include = ["*.toml"]` finds the main file too, and two patterns may find one file.
    fn known(&self, path: &Path) -> bool {
        let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.files.iter().any(|file| full(file) == full(path))
    }

    /// One level is enough, and a second one would need rules for circles.
    fn without_include(&mut self, mut layer: Layer) -> Layer {
        if layer.remove("include").is_some() {
            let place = self.places.key("include").cloned();
            self.problems.push(
                Problem::new(place, "an included file cannot include others")
                    .help("list all files in `include` of the main file"),
            );
        }
        layer
    }

    fn read_file(&mut self, path: &Path) -> Layer {
        self.files.push(path.to_owned());
        let name = path.display().to_string();
        match source::read(path, &mut self.seen).map(String::from_utf8) {
            Ok(Ok(text)) => self.read_text(&name, text, DocumentKind::File),
            Ok(Err(error)) => {
                self.torn.file();
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let place = Place { document: self.documents.len(), range: at..at + 3 };
                self.documents.push(Document::new(name, text, DocumentKind::File));
                self.problems.push(
                    Problem::new(Some(place), "the file is not valid UTF-8").label("this is no character"),
                );
                Layer::new()
            }
            Err(problem) => {
                self.torn.file();
                self.problems.push(*problem);
                Layer::new()
            }
        }
    }

    fn read_text(&mut self, name: &str, text: String, kind: DocumentKind) -> Layer {
        let document = self.documents.len();
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut found = Vec::new();
        let mut checker = Checker { document, offset: 0, places: &mut self.places, problems: &mut found };
        let layer = checker.table("", table.get_ref(), FILE);
        drop(table);
        self.documents.push(Document::new(name, text, kind));
        let torn = syntax::problems(&errors, &self.documents[document], document);
        for problem in &torn {
            self.torn.text(document, problem.place().map_or(0, |place| place.range.start));
        }
        self.problems.extend(syntax::beside(found, &errors, &self.documents[document]));
        self.problems.extend(torn);
        layer
    }

    fn finish(mut self, sources: &Sources, layers: Vec<Layer>) -> Result<Loaded, Diagnostics> {
        let built = self.settle(sources, layers);
        let Self { documents, places, mut problems, files, seen, .. } = self;
        let (settings, effective, notes) = match built {
            Ok(built) if problems.is_empty() => built,
            Ok(_) => return Err(Diagnostics::new(problems, documents)),
            Err(error) => {
                // Only if schema and serde structs disagree; with other problems it is their consequence.
                if problems.is_empty() {
                    problems
                        .push(Problem::of_file("configuration", format!("cannot be understood: {error}")));
                }
                return Err(Diagnostics::new(problems, documents));
            }
        };
        let (places, documents) = (Arc::new(places), documents.into());
        Ok(Loaded { settings, files, notes, seen, effective, places, documents })
    }

    /// Gives the merged layers their strict form and ties them together.
    fn settle(&mut self, sources: &Sources, all: Vec<Layer>) -> Result<Built, ConfigError> {
        let builtin = layers::sub(all.first().unwrap_or(&Layer::new()), "supervisor");
        let template = layers::sub(&builtin, "root");
        let common = layers::merge(all.iter().skip(1).map(|layer| layers::only(layer, &COMMON)))?;
        let mut effective = Effective { template, sections: layers::merge(all)?, ..Effective::default() };
        self.too_many();
        effective.names = self.places.names.iter().take(2 * MAX_WORKERS).cloned().collect();
        let draft = self.draft(&effective)?;
        let mut settings = self.sections(sources, &effective.sections)?;
        settings.common = Common(explain::as_text(&common).into());
        settings.recovery = self.recovery(&effective.sections)?;
        let steps = self.ladder(sources, &effective.sections, &settings.recovery)?;
        effective.state_directory =
            sources.state_directory().is_some() && !self.places.named("runtime.state_dir");
        resolve::addresses(&settings.http, &self.places, &mut self.problems);
        let resolved = if self.torn.is_any() {
            resolve::resolve_torn(draft, &self.torn, &self.places, &mut self.problems);
            resolve::Resolved::default()
        } else {
            resolve::resolve(draft, &self.places, &mut self.problems)
        };
        (settings.supervisors, settings.workers) = (resolved.supervisors, resolved.workers);
        settings.templates = resolved.templates;
        steps.are_there(&settings, &self.places, &mut self.problems);
        let with_steps = |worker: &WorkerSettings| steps.of(worker);
        settings.workers = settings.workers.iter().map(|worker| Arc::new(with_steps(worker))).collect();
        let templates = settings.templates.iter().map(|one| Arc::new(one.laddered(&with_steps)));
        settings.templates = templates.collect();
        if let Some(known) = &sources.actors {
            actors::check(&settings.workers, known.as_ref(), &self.places, &mut self.problems);
        }
        if self.problems.is_empty() {
            settings.warnings = advice::warnings(&settings);
        }
        let notes = advice::notes(&settings);
        Ok((settings, effective, notes))
    }

    /// `[recovery]` and `[[error_class]]`
    fn recovery(&mut self, sections: &Layer) -> Result<crate::config::RecoverySettings, ConfigError> {
        let recovery: RawRecovery = layers::read(layers::sub(sections, "recovery"))?;
        let classes = match sections.get("error_class") {
            Some(classes) => classes.clone().try_deserialize::<Vec<RawClass>>()?,
            None => Vec::new(),
        };
        recovery_check::classes(&classes, &self.places, &mut self.problems);
        Ok(recovery.settle(classes))
    }

    /// The ladders, and one's own strategies.
    fn ladder(
        &mut self,
        sources: &Sources,
        sections: &Layer,
        recovery: &crate::config::RecoverySettings,
    ) -> Result<Steps, ConfigError> {
        let own: BTreeMap<Name, RawStrategy> = layers::read(layers::sub(sections, "strategy"))?;
        let mut strategies: BTreeMap<Name, _> =
            own.into_iter().map(|(name, raw)| (name, raw.into())).collect();
        let known = sources.actors.as_ref().map(|known| known.strategies()).unwrap_or_default();
        recovery_check::registered(&mut strategies, &known);
        recovery_check::strategies(&strategies, &self.places, &mut self.problems);
        let strategies = Arc::new(strategies);
        let raw: RawLadders = layers::read(layers::sub(sections, "ladder"))?;
        let ladders = raw.settle(&strategies);
        let (places, problems) = (&self.places, &mut self.problems);
        for (name, ladder) in &ladders {
            recovery_check::steps_do_something(name.as_str(), places, problems);
            recovery_check::ladder(name, ladder, &recovery.classes, &strategies, places, problems);
        }
        Ok(Steps { ladders, strategies })
    }

    /// Everything that has no name of the user's.
    fn sections(&self, sources: &Sources, sections: &Layer) -> Result<Settings, ConfigError> {
        let runtime: RawRuntime = layers::read(layers::sub(sections, "runtime"))?;
        let http: RawHttp = layers::read(layers::sub(sections, "http"))?;
        let telemetry: RawTelemetry = layers::read(layers::sub(sections, "telemetry"))?;
        let store: RawStore = layers::read(layers::sub(sections, "store"))?;
        let explicit = self.places.value("http.listen").is_some_and(|place| place.document != 0);
        Ok(Settings {
            runtime: runtime.settle(&self.base, sources.state_directory()),
            supervisors: Vec::new(),
            workers: Vec::new(),
            templates: Vec::new(),
            added: Vec::new(),
            given: Vec::new(),
            interval: sources.interval,
            recovery: crate::config::RecoverySettings::default(),
            http: http.settle(explicit),
            telemetry: telemetry.into(),
            store: store.into(),
            warnings: Vec::new(),
            common: Common::default(),
            base_dir: self.base.clone(),
        })
    }

    /// Supervisors over their template, workers over `[defaults.worker]`, in order of appearance.
    fn draft(&self, effective: &Effective) -> Result<Draft, ConfigError> {
        let ladders: RawLadders = layers::read(layers::sub(&effective.sections, "ladder"))?;
        let mut draft = Draft::default();
        for (kind, name) in &effective.names {
            let table = effective.table(*kind, name);
            match kind {
                Kind::Supervisor => {
                    draft.supervisors.push((name.clone(), layers::read::<RawSupervisor>(table)?));
                }
                Kind::Worker => {
                    let raw = layers::read::<RawWorker>(table)?;
                    let verify = ladders.verify(raw.ladder());
                    draft.workers.push(raw.settle(name.clone(), &self.base, verify));
                }
                Kind::Template => draft.templates.push(self.template(name, table, &ladders)?),
            }
        }
        Ok(draft)
    }

    fn template(
        &self,
        name: &Name,
        mut table: Layer,
        ladders: &RawLadders,
    ) -> Result<template_check::Draft, ConfigError> {
        let own = ["params", "max"].map(|key| (key.to_owned(), table.remove(key)));
        let own: Layer = own.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        let RawTemplate { params, max } = layers::read(own)?;
        let raw = layers::read::<RawWorker>(table.clone())?;
        let verify = ladders.verify(raw.ladder());
        let sample = raw.settle(name.clone(), &self.base, verify);
        Ok(template_check::Draft { sample, params, max, table })
    }

    fn too_many(&mut self) {
        let workers = self.places.names.iter().filter(|(kind, _)| *kind == Kind::Worker);
        if let Some((_, name)) = workers.clone().nth(MAX_WORKERS) {
            let place = self.places.key(&format!("worker.{name}")).cloned();
            let title = format!("there are {} workers; at most {MAX_WORKERS} are taken", workers.count());
            self.problems.push(Problem::new(place, title));
        }
    }
}

/// A path as a person would write it from here.
fn shorten(path: &Path) -> PathBuf {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::schema::{Key, Shape, join};

    /// Every key of the schema, with `NAME` for names.
    fn paths(at: &str, keys: &'static [Key], out: &mut Vec<String>) {
        for key in keys {
            let path = join(at, key.name);
            match &key.shape {
                Shape::Leaf(_) | Shape::Texts(_) | Shape::Secrets(_) | Shape::LeafOr(..) | Shape::Free => {
                    out.push(path)
                }
                Shape::Table([]) | Shape::Either(_) => out.push(path),
                Shape::Table(keys) => paths(&path, keys, out),
                Shape::Each(_, keys) => paths(&join(&path, "*"), keys, out),
                // All workers are documented under `defaults.worker`, all supervisors under the root.
                Shape::Named(Kind::Worker, _) => {}
                // And what a template shares with a worker too.
                Shape::Named(Kind::Template, _) => {
                    out.extend(["params", "max"].map(|own| join(&join(&path, "session"), own)));
                }
                Shape::Named(Kind::Supervisor, keys) => paths(&join(&path, "root"), keys, out),
            }
        }
    }

    #[test]
    fn every_key_stands_in_the_manual() {
        let mut all = Vec::new();
        paths("", FILE, &mut all);
        let mut section = String::new();
        let mut found = HashSet::new();
        for line in DEFAULTS.lines() {
            let line = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            }
            if let Some((key, _)) = line.split_once(" = ") {
                let path = join(&section, key.trim());
                // Whatever the example is called.
                found.insert(match path.split_once(".probe.") {
                    Some((above, below)) => {
                        let rest = below.split_once('.').map_or("", |(_, rest)| rest);
                        format!("{above}.probe.*.{rest}")
                    }
                    None => match path.split_once('.') {
                        Some((each @ ("strategy" | "ladder"), below)) => {
                            let rest = below.split_once('.').map_or("", |(_, rest)| rest);
                            format!("{each}.*.{rest}")
                        }
                        Some(_) | None => path,
                    },
                });
            }
        }
        let missing: Vec<&String> = all
            .iter()
            .filter(|path| !found.iter().any(|key| key == *path || key.starts_with(&format!("{path}."))))
            .collect();
        assert!(missing.is_empty(), "not in config/default.toml: {missing:?}");
    }

    #[test]
    fn every_key_without_a_default_is_an_example_and_the_others_are_not() {
        let mut run = Run::default();
        let layer = run.read_text("", DEFAULTS.to_owned(), DocumentKind::Default);
        assert_eq!(run.problems, Vec::new());
        // serde's structs are strict both ways: a missing default would be a missing field.
        assert!(layers::merge([layer]).is_ok());
        let text = "[worker.web]\ncommand = [\"x\"]\n[supervisor.a]\n".to_owned();
        assert!(load(&Sources::text(text)).is_ok());
    }
}
