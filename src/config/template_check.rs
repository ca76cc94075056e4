//! Templates against the rest of the file: what holds for a worker holds for them, and every gap must be declared.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::id::Name;
use crate::policy::AutoShutdown;

use super::check::Places;
use super::diagnostic::{Problem, quoted};
use super::elements::{RawSupervisor, Settled};
use super::layers::Layer;
use super::schema::Kind;
use super::suggest::nearest;
use super::template::{Template, whole};
use super::{nature, pool, resolve};

/// A template, typed and not yet tied to the rest.
#[derive(Debug)]
pub(super) struct Draft {
    /// The worker it would make, with its gaps.
    pub(super) sample: Settled,
    pub(super) params: BTreeMap<String, String>,
    pub(super) max: usize,
    pub(super) table: Layer,
}

pub(super) fn resolve(
    drafts: Vec<Draft>,
    workers: &HashSet<Name>,
    supervisors: &[(Name, RawSupervisor)],
    places: &Places,
    problems: &mut Vec<Problem>,
) -> Vec<Arc<Template>> {
    let mut templates = Vec::new();
    for mut draft in drafts {
        nature::settle(Kind::Template, &mut draft.sample.settings, places, problems);
        pool::settle(Kind::Template, &mut draft.sample.settings, places, problems);
        resolve::alone(Kind::Template, &draft.sample, places, problems);
        significant_never(&draft.sample, supervisors, places, problems);
        gaps(&draft, places, problems);
        after(&mut draft.sample, workers, places, problems);
        let name = draft.sample.settings.name.clone();
        let params = patterns(&name, draft.params, places, problems);
        templates.push(Arc::new(Template::new(name, draft.max, params, draft.table, draft.sample.settings)));
    }
    templates
}

/// What is made of a template is the root's child.
fn significant_never(
    sample: &Settled,
    supervisors: &[(Name, RawSupervisor)],
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    let root = supervisors.iter().find(|(name, _)| *name == Name::root());
    let never = root.is_none_or(|(_, raw)| raw.auto_shutdown == AutoShutdown::Never);
    if sample.settings.significant && never {
        let name = &sample.settings.name;
        let title = format!(
            "template `{name}` is significant, but its workers are children of `root`, which has auto_shutdown = \"never\""
        );
        problems.push(Problem::new(resolve::at(Kind::Template, name, "significant", places), title));
    }
}

/// Every gap is a declared parameter, and no gap is the program: what is run stands in the file.
fn gaps(draft: &Draft, places: &Places, problems: &mut Vec<Problem>) {
    let name = &draft.sample.settings.name;
    for (_, gap, place) in places.gaps.iter().filter(|(template, ..)| template == name.as_str()) {
        // A pattern that is none has been reported where it stands.
        let declared = places.named(&format!("template.{name}.params.{gap}"));
        if !declared && !draft.params.contains_key(gap) {
            let title =
                format!("{} is no parameter of template `{name}`", quoted(&format!("{{param.{gap}}}")));
            let problem = Problem::new(Some(place.clone()), title);
            problems.push(match nearest(gap, draft.params.keys().map(String::as_str)) {
                Some(word) => problem.suggest(Some(&format!("{{param.{word}}}"))),
                None => problem.help(format!(
                    "declare it, with what its values must match: `params.{gap} = \"[a-z0-9]+\"`"
                )),
            });
        }
    }
    let program = draft.sample.settings.command.first();
    if program.is_some_and(|program| program.contains("{param.")) {
        let place = resolve::at(Kind::Template, name, "command[0]", places);
        let title = format!("the program of template `{name}` cannot be a parameter");
        problems.push(
            Problem::new(place, title).help("what is run stands in the file; its arguments may differ"),
        );
    }
}

fn after(sample: &mut Settled, workers: &HashSet<Name>, places: &Places, problems: &mut Vec<Problem>) {
    let name = sample.settings.name.clone();
    for (index, text) in sample.after.iter().enumerate() {
        let place = resolve::at(Kind::Template, &name, &format!("after[{index}]"), places);
        match Name::try_new(text).ok().filter(|name| workers.contains(name)) {
            Some(found) if sample.settings.after.contains(&found) => {
                problems.push(Problem::new(place, format!("`{found}` stands twice in this list")));
            }
            Some(found) => sample.settings.after.push(found),
            None => problems.extend(resolve::unknown_dependency(text, workers, place, places)),
        }
    }
}

fn patterns(
    template: &Name,
    params: BTreeMap<String, String>,
    places: &Places,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, regex::bytes::Regex> {
    let mut patterns = BTreeMap::new();
    for (param, pattern) in params {
        let place = || places.value(&format!("template.{template}.params.{param}")).cloned();
        if let Err(error) = Name::try_new(&param) {
            problems.push(Problem::new(
                place(),
                format!("{} is no name for a parameter: {error}", quoted(&param)),
            ));
        }
        match whole(&pattern) {
            Ok(regex) => drop(patterns.insert(param, regex)),
            Err(_) => problems.push(
                Problem::new(
                    place(),
                    format!("{} cannot be matched against a whole value", quoted(&pattern)),
                )
                .help("leave `(?x)` and unclosed comments out"),
            ),
        }
    }
    patterns
}
