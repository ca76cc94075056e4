//! Actor workers and probes against the program: whether it knows them, and whether a type can read its settings.
//!
//! Only the program that registers the types can tell, so it hands in who answers.

use std::sync::Arc;

use serde_json::Value;

use super::check::Places;
use super::diagnostic::{Problem, quoted};
use super::probes::{CheckSettings, ProbeSettings};
use super::resolve::at;
use super::schema::Kind;
use super::settings::WorkerSettings;
use super::suggest::nearest;

/// Which actors a program registers, and what settings they take.
pub trait ActorCheck: Send + Sync + std::fmt::Debug {
    /// The registered names.
    fn names(&self) -> Vec<String>;
    /// The registered probes.
    fn probes(&self) -> Vec<String> {
        Vec::new()
    }
    /// The registered recovery strategies.
    fn strategies(&self) -> Vec<String> {
        Vec::new()
    }
    /// Whether the actor of this name can read these settings.
    ///
    /// # Errors
    /// Why not, in words.
    fn check(&self, actor: &str, config: &Value) -> Result<(), String>;
}

/// Checks every actor worker.
pub(super) fn check(
    workers: &[Arc<WorkerSettings>],
    known: &dyn ActorCheck,
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    let (names, probes) = (known.names(), known.probes());
    for worker in workers {
        for probe in &worker.probes {
            if let CheckSettings::Custom { name } = &probe.check
                && !probes.contains(name)
            {
                problems.push(no_probe(worker, probe, (name.as_str(), probes.as_slice()), places));
            }
        }
        let Some(actor) = &worker.actor else { continue };
        if !names.contains(actor) {
            problems.push(unknown(worker, actor, &names, places));
        } else if let Err(why) = known.check(actor, &worker.config.value()) {
            let place = at(Kind::Worker, &worker.name, "config", places);
            let title =
                format!("actor {} of worker `{}` cannot read its config: {why}", quoted(actor), worker.name);
            problems.push(Problem::new(place, title));
        }
    }
}

fn no_probe(
    worker: &WorkerSettings,
    probe: &ProbeSettings,
    (name, known): (&str, &[String]),
    places: &Places,
) -> Problem {
    let place = at(Kind::Worker, &worker.name, &format!("probe.{}.custom", probe.name), places);
    let problem = Problem::new(place, format!("this program registers no probe {}", quoted(name)));
    if known.is_empty() {
        return problem.help(
            "probes of this kind are Rust code of a program of its own: run the command of the program that calls `.probe(\"Name\", …)`",
        );
    }
    match nearest(name, known.iter().map(String::as_str)) {
        Some(word) => problem.suggest(Some(word)),
        None => problem.help(format!("it registers {}", known.join(", "))),
    }
}

fn unknown(worker: &WorkerSettings, actor: &str, names: &[String], places: &Places) -> Problem {
    let place = at(Kind::Worker, &worker.name, "actor", places);
    let title = format!("this program registers no actor {}", quoted(actor));
    let problem = Problem::new(place, title);
    if names.is_empty() {
        return problem.help(
            "actors are Rust types of a program of its own: run the command of the program that calls `.worker::<T>(\"Name\")`",
        );
    }
    match nearest(actor, names.iter().map(String::as_str)) {
        Some(word) => problem.suggest(Some(word)),
        None => problem.help(format!("it registers {}", names.join(", "))),
    }
}
