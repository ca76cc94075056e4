//! What is wrong with ladders and classes beyond the form of their values: names that nobody has, steps that nobody
//! reaches, and what a worker cannot have done.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::id::Name;
use crate::recovery::{CAUSES, ErrorClass, Ladder, Step, Strategy};

use super::check::Places;
use super::diagnostic::{Problem, quoted};
use super::elements::RawClass;
use super::settings::{StrategySettings, WorkerSettings};
use super::suggest::nearest;

/// The steps of `[ladder.default]`.
pub(super) fn ladder(
    ladder: &Ladder,
    classes: &[ErrorClass],
    strategies: &BTreeMap<Name, StrategySettings>,
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    const AT: &str = "ladder.default.steps";
    let own = |name: &str| strategies.keys().any(|known| known.as_str() == name);
    let mut parked = None;
    let mut at = 0;
    for step in ladder.steps.iter() {
        // A step without `do` is not among the settled ones, and has been told.
        while places.value(&format!("{AT}[{at}]")).is_some()
            && places.value(&format!("{AT}[{at}].do")).is_none()
        {
            at += 1;
        }
        let path = format!("{AT}[{at}]");
        at += 1;
        let place = |key: &str| places.value(&format!("{path}.{key}")).cloned();
        if let Strategy::Own(name) = &step.run
            && !own(name.as_str())
        {
            let known = Strategy::KNOWN.iter().map(Strategy::word).chain(strategies.keys().map(Name::as_str));
            let title = format!("there is no recovery strategy {}", quoted(name.as_str()));
            let problem = Problem::new(place("do"), title).suggest(nearest(name.as_str(), known));
            problems.push(problem.help_if(Some(format!(
                "the built-in ones are {}; your own are [strategy.NAME]",
                Strategy::KNOWN.iter().map(Strategy::word).collect::<Vec<_>>().join(", ")
            ))));
        }
        for (n, word) in step.when.iter().enumerate() {
            let classes = || classes.iter().map(|class| &*class.name);
            if !CAUSES.contains(&&**word) && !classes().any(|class| class == &**word) {
                let title = format!("{} is no cause", quoted(word));
                let near = nearest(word, CAUSES.iter().copied().chain(classes()));
                let problem = Problem::new(place(&format!("when[{n}]")), title).suggest(near);
                problems
                    .push(problem.help_if(Some(
                        "a cause of the manual, or the name of an [[error_class]]".to_owned(),
                    )));
            }
        }
        if let Some(first) = parked.clone() {
            let title = "this step is never reached: the worker is parked before".to_owned();
            problems.push(Problem::new(place("do"), title).also(first, "here"));
        }
        if step.run == Strategy::Quarantine && step.when.is_empty() && step.unable.is_none() {
            parked = parked.or_else(|| Some(place("do")));
        }
    }
}

/// Steps that do not say what to do.
pub(super) fn steps_do_something(places: &Places, problems: &mut Vec<Problem>) {
    for n in 0.. {
        let at = format!("ladder.default.steps[{n}]");
        let Some(place) = places.value(&at) else { return };
        if !places.named(&format!("{at}.do")) {
            let problem = Problem::new(Some(place.clone()), "this step does not say what to do".to_owned());
            problems.push(problem.help("`{ do = \"soft_restart\" }`"));
        }
    }
}

/// `[[error_class]]`
pub(super) fn classes(classes: &[RawClass], places: &Places, problems: &mut Vec<Problem>) {
    let mut seen: Vec<&str> = Vec::new();
    for (n, class) in classes.iter().enumerate() {
        let at = format!("error_class[{n}]");
        let place = places.value(&format!("{at}.name")).or_else(|| places.value(&at)).cloned();
        let problem = |title: String| Problem::new(place.clone(), title);
        match class.name.as_deref() {
            None => problems
                .push(problem("this error class has no name".to_owned()).help("`name = \"broker_gone\"`")),
            Some(name) if Name::try_new(name).is_err() => {
                let title = format!("{} cannot be the name of an error class", quoted(name));
                problems.push(problem(title).help("a-z, 0-9, - and _, beginning with a letter"));
            }
            Some(name) if CAUSES.contains(&name) => {
                problems
                    .push(problem(format!("{} is a cause already", quoted(name))).help("take another name"));
            }
            Some(name) if seen.contains(&name) => {
                problems.push(problem(format!("there is an error class {} already", quoted(name))));
            }
            Some(name) => seen.push(name),
        }
        if class.r#match.is_none() && class.exit_code.is_none() {
            let place = places.value(&at).cloned();
            let title = "this error class fits nothing".to_owned();
            problems.push(Problem::new(place, title).help("give it a `match`, an `exit_code` or both"));
        }
    }
}

/// `[strategy.NAME]`
pub(super) fn strategies(
    strategies: &BTreeMap<Name, StrategySettings>,
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    for (name, own) in strategies {
        let place = places.key(&format!("strategy.{name}")).cloned();
        if Strategy::parse(name.as_str()) != Some(Strategy::Own(name.clone())) {
            let title = format!("`{name}` is a built-in strategy, or another word for one");
            problems.push(Problem::new(place.clone(), title).help("take another name"));
        }
        if own.command.first().is_none_or(String::is_empty) {
            let title = format!("strategy `{name}` has no command");
            problems.push(Problem::new(place, title).help("`command = [\"./flush.sh\", \"{instance}\"]`"));
        }
    }
}

/// The ladder as it is for one worker: what cannot be done to it says why.
pub(super) fn of_worker(
    ladder: &Arc<Ladder>,
    worker: &WorkerSettings,
    strategies: &BTreeMap<Name, StrategySettings>,
) -> Arc<Ladder> {
    let unable = |step: &Step| unable(&step.run, worker, strategies);
    if ladder.steps.iter().all(|step| unable(step).is_none()) {
        return Arc::clone(ladder);
    }
    let steps = ladder.steps.iter().map(|step| Step { unable: unable(step), ..step.clone() });
    Arc::new(Ladder { steps: steps.collect(), ..(**ladder).clone() })
}

/// Why this worker cannot have this done.
pub(crate) fn unable(
    run: &Strategy,
    worker: &WorkerSettings,
    strategies: &BTreeMap<Name, StrategySettings>,
) -> Option<Arc<str>> {
    let is_actor = worker.actor.is_some();
    match run {
        Strategy::ConnectionReset if worker.on.connection_reset.is_none() && !is_actor => {
            Some("the worker has no on.connection_reset".into())
        }
        Strategy::MemoryCleanup if worker.on.memory_cleanup.is_none() && !is_actor => {
            Some("the worker has no on.memory_cleanup".into())
        }
        Strategy::ScaleUp | Strategy::ScaleDown => {
            Some("the number of its instances is fixed; `regrow scale` changes it".into())
        }
        Strategy::Own(name) if !strategies.contains_key(name) => {
            Some(format!("there is no [strategy.{name}]").into())
        }
        Strategy::Own(_) if is_actor => Some("a command runs beside a process, and this is an actor".into()),
        Strategy::SoftRestart
        | Strategy::HardRestart
        | Strategy::Reset
        | Strategy::Recreate
        | Strategy::ConnectionReset
        | Strategy::MemoryCleanup
        | Strategy::Quarantine
        | Strategy::Own(_) => None,
    }
}
