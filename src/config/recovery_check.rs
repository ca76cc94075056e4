//! What is wrong with ladders and classes beyond the form of their values: names that nobody has, steps that nobody
//! reaches, and what a worker cannot have done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::Name;
use crate::recovery::{CAUSES, ErrorClass, Ladder, Step, Strategy};

use super::check::Places;
use super::diagnostic::{Problem, quoted};
use super::elements::RawClass;
use super::resolve::at;
use super::schema::Kind;
use super::settings::{Ladder as Chosen, Settings, StrategySettings, WorkerSettings};
use super::suggest::nearest;

/// So long after its time to stop is over one is gone that was killed.
const LEAVE: Duration = Duration::from_secs(5);

/// The steps of a `[ladder.NAME]`, where it has its own.
pub(super) fn ladder(
    name: &Name,
    ladder: &Ladder,
    classes: &[ErrorClass],
    strategies: &BTreeMap<Name, StrategySettings>,
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    let all = format!("ladder.{name}.steps");
    if name.as_str() == "none" {
        let title = "no ladder can be called `none`: that is the word for having none".to_owned();
        let place = places.key("ladder.none").cloned();
        problems.push(Problem::new(place, title).help("take another name"));
    }
    if name.as_str() != "default" && places.value(&all).is_none() {
        return;
    }
    let own = |name: &str| strategies.keys().any(|known| known.as_str() == name);
    let mut parked = None;
    let mut at = 0;
    for step in ladder.steps.iter() {
        // A step without `do` is not among the settled ones, and has been told.
        while places.value(&format!("{all}[{at}]")).is_some()
            && places.value(&format!("{all}[{at}].do")).is_none()
        {
            at += 1;
        }
        let path = format!("{all}[{at}]");
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
pub(super) fn steps_do_something(name: &str, places: &Places, problems: &mut Vec<Problem>) {
    for n in 0.. {
        let at = format!("ladder.{name}.steps[{n}]");
        let Some(place) = places.value(&at) else { return };
        if !places.named(&format!("{at}.do")) {
            let problem = Problem::new(Some(place.clone()), "this step does not say what to do".to_owned());
            problems.push(problem.help("`{ do = \"soft_restart\" }`"));
        }
    }
}

/// The ladders, and one's own strategies.
pub(super) struct Steps {
    pub(super) ladders: BTreeMap<Name, Arc<Ladder>>,
    pub(super) strategies: Arc<BTreeMap<Name, StrategySettings>>,
}

impl Steps {
    /// A worker with its ladder.
    pub(super) fn of(&self, worker: &WorkerSettings) -> WorkerSettings {
        let mut own = worker.clone();
        own.strategies = Arc::clone(&self.strategies);
        // A name that is missing has been told.
        let name = own.ladder.name();
        let ladder = name.and_then(|name| self.ladders.iter().find(|(known, _)| known.as_str() == name));
        own.steps = ladder.map(|(_, ladder)| of_worker(ladder, worker, &self.strategies));
        own
    }

    /// Every ladder that somebody names is there.
    pub(super) fn are_there(&self, settings: &Settings, places: &Places, problems: &mut Vec<Problem>) {
        for worker in &settings.workers {
            self.is_there(worker, Kind::Worker, places, problems);
        }
        for template in &settings.templates {
            self.is_there(template.sample(), Kind::Template, places, problems);
        }
    }

    fn is_there(&self, worker: &WorkerSettings, kind: Kind, places: &Places, problems: &mut Vec<Problem>) {
        let Chosen::Named(name) = &worker.ladder else { return };
        if !self.ladders.contains_key(name) {
            let title = format!("there is no ladder {}", quoted(name.as_str()));
            let known = self.ladders.keys().map(Name::as_str).chain(["none"]);
            let problem = Problem::new(at(kind, &worker.name, "ladder", places), title);
            let problem = problem.suggest(nearest(name.as_str(), known));
            let help = "`default`, `none`, or a [ladder.NAME] of this file";
            problems.push(problem.help_if(Some(help.to_owned())));
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
        // One that is there and wrong is told as that.
        let given = |key: &str| places.named(&format!("{at}.{key}"));
        if class.r#match.is_none() && class.exit_code.is_none() && !given("match") && !given("exit_code") {
            let place = places.value(&at).cloned();
            let title = "this error class fits nothing".to_owned();
            problems.push(Problem::new(place, title).help("give it a `match`, an `exit_code` or both"));
        }
    }
}

/// Adds those that the program has registered. A command of the same name goes before.
pub(super) fn registered(strategies: &mut BTreeMap<Name, StrategySettings>, known: &[String]) {
    for name in known.iter().filter_map(|name| Name::try_new(name).ok()) {
        let own = strategies.entry(name).or_insert_with(StrategySettings::code);
        own.code = own.command.is_empty();
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
        let command = places.value(&format!("strategy.{name}.command"));
        // What could not be read is told as that, and is missing here.
        let told = command.is_some_and(|whole| problems.iter().any(|one| one.lies_in(whole)));
        if !own.code && !told && own.command.first().is_none_or(String::is_empty) {
            let title = format!("strategy `{name}` has no command");
            problems.push(Problem::new(place, title).help("`command = [\"./flush.sh\", \"{instance}\"]`"));
        }
    }
}

/// The ladder as it is for one worker: what cannot be done to it says why.
fn of_worker(
    ladder: &Arc<Ladder>,
    worker: &WorkerSettings,
    strategies: &BTreeMap<Name, StrategySettings>,
) -> Arc<Ladder> {
    let of_it = |step: &Step| Step {
        unable: unable(&step.run, worker, strategies),
        timeout: scaling_takes(&step.run, worker).unwrap_or(step.timeout),
        ..step.clone()
    };
    let steps: Vec<Step> = ladder.steps.iter().map(of_it).collect();
    if steps[..] == ladder.steps[..] {
        return Arc::clone(ladder);
    }
    Arc::new(Ladder { steps: steps.into(), ..(**ladder).clone() })
}

/// How long it may take until one more is ready, or one is gone.
pub(crate) fn scaling_takes(run: &Strategy, worker: &WorkerSettings) -> Option<Duration> {
    let stop = worker.stop.drain.saturating_add(worker.stop.timeout);
    let time = if *run == Strategy::ScaleUp { worker.start_timeout } else { stop.saturating_add(LEAVE) };
    run.is_scaling().then_some(time)
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
        Strategy::ScaleUp | Strategy::ScaleDown => worker.fixed_number().map(Into::into),
        Strategy::Own(name) if !strategies.contains_key(name) => {
            Some(format!("there is no [strategy.{name}]").into())
        }
        Strategy::Own(name) if is_actor && strategies.get(name).is_some_and(|own| !own.code) => {
            Some("a command runs beside a process, and this is an actor".into())
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Settings, Sources, load};
    use crate::recovery::{Learn, Strategy};

    const LADDERS: &str = "[ladder.default]\nverify = \"7s\"\n[ladder.stateful]\ncooldown = \"1h\"\nbreaker.open_after = 3\n\
        steps = [{ do = \"soft_restart\" }, { do = \"reset\" }]\n[ladder.short]\nverify = \"1s\"\nlearn = \"auto\"\n";

    fn settings(workers: &str) -> Settings {
        load(&Sources::text(format!("{LADDERS}{workers}"))).unwrap().settings
    }

    #[test]
    fn a_named_ladder_has_its_own_words_and_the_others_of_the_default() {
        let settings = settings(
            "[worker.a]\ncommand = [\"x\"]\n[worker.b]\ncommand = [\"x\"]\nladder = \"stateful\"\n\
             [worker.c]\ncommand = [\"x\"]\nladder = \"short\"\n[worker.d]\ncommand = [\"x\"]\nladder = \"none\"\n",
        );
        let steps: Vec<_> = settings.workers.iter().map(|worker| worker.steps.clone()).collect();
        let [Some(a), Some(b), Some(c), None] = steps.as_slice() else { panic!("{steps:?}") };
        let second = Duration::from_secs(1);
        assert_eq!((a.verify, b.verify, c.verify), (7 * second, 7 * second, second));
        assert_eq!(settings.workers.iter().map(|one| one.verify.as_secs()).collect::<Vec<_>>(), [7, 7, 1, 7]);
        assert_eq!(
            (b.cooldown, b.breaker.open_after, b.breaker.within),
            (3600 * second, 3, a.breaker.within)
        );
        assert_eq!(
            b.steps.iter().map(|step| step.run.clone()).collect::<Vec<_>>(),
            [Strategy::SoftRestart, Strategy::Reset]
        );
        assert_eq!((&c.steps, c.learn, a.learn), (&a.steps, Learn::Auto, Learn::Suggest));
    }

    #[test]
    fn what_check_explains_of_ladders_reads_back_to_the_same() {
        let text = format!("{LADDERS}[worker.b]\ncommand = [\"x\"]\nladder = \"stateful\"\n");
        let loaded = load(&Sources::text(text)).unwrap();
        let again = load(&Sources::text(loaded.explain())).unwrap();
        assert_eq!(loaded.settings.workers[0].steps, again.settings.workers[0].steps);
    }

    #[test]
    fn a_ladder_that_is_not_there_is_told_with_the_one_that_was_meant() {
        for (text, told) in [
            ("[worker.b]\ncommand = [\"x\"]\nladder = \"statefull\"\n", "did you mean `stateful`?"),
            (
                "[defaults.worker]\nladder = \"other\"\n[worker.b]\ncommand = [\"x\"]\n",
                "there is no ladder `other`",
            ),
            ("[ladder.none]\nverify = \"1s\"\n", "no ladder can be called `none`"),
            ("[ladder.more]\nsteps = [{ do = \"nothing\" }]\n", "there is no recovery strategy `nothing`"),
            ("[ladder.more]\nsteps = [{ attempts = 2 }]\n", "this step does not say what to do"),
            ("ladder.default.steps = [{ attempts = 2 }]\n", "this step does not say what to do"),
        ] {
            // A key without a header goes before those with one.
            let whole = if text.starts_with('[') { format!("{LADDERS}{text}") } else { text.to_owned() };
            let problems = load(&Sources::text(whole)).unwrap_err().to_string();
            assert!(problems.contains(told), "{problems}");
            assert!(
                problems.contains(" 1 problem") || problems.contains("\n1 problem"),
                "told once: {problems}"
            );
        }
    }
}
