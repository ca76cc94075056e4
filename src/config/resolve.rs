//! What only the whole can tell: names that must exist, values that must go together, one order of all.
//! After OTP's `supervisor:check_childspecs`, but with every problem at once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::id::Name;
use crate::policy::{AutoShutdown, Restart};

use super::check::Places;
use super::diagnostic::{Problem, quoted};
use super::document::Place;
use super::elements::{RawSupervisor, Settled};
use super::nature;
use super::order::{self, Wait};
use super::pid_files;
use super::pool;
use super::schema::Kind;
use super::settings::{HttpSettings, Remedy, SupervisorSettings, WorkerSettings};
use super::slugs;
use super::suggest::nearest;
use super::template::Template;
use super::template_check as template;
use super::torn::Torn;
use super::tree::{self, Tree};
use super::{ports, probes};

/// Everything typed, nothing yet tied together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) supervisors: Vec<(Name, RawSupervisor)>,
    pub(super) workers: Vec<Settled>,
    pub(super) templates: Vec<template::Draft>,
}

/// Everything with a name, tied together; empty where that could not be done.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) supervisors: Vec<Arc<SupervisorSettings>>,
    pub(super) workers: Vec<Arc<WorkerSettings>>,
    pub(super) templates: Vec<Arc<Template>>,
}

/// Ties names together and checks what must fit.
pub(super) fn resolve(draft: Draft, places: &Places, problems: &mut Vec<Problem>) -> Resolved {
    let Draft { supervisors, mut workers, templates } = draft;
    for worker in &mut workers {
        nature::settle(Kind::Worker, &mut worker.settings, places, problems);
        pool::settle(Kind::Worker, &mut worker.settings, places, problems);
        alone(Kind::Worker, worker, places, problems);
    }
    ports::overlaps(&workers, places, problems);
    slugs::overlaps(&workers, places, problems);
    pid_files::overlaps(&workers, places, problems);
    let known = workers.iter().map(|worker| worker.settings.name.clone()).collect();
    let waits = waits(&mut workers, &known, places, problems);
    let lists: Vec<(Name, Vec<String>)> =
        supervisors.iter().map(|(name, raw)| (name.clone(), raw.children.clone())).collect();
    let tree = tree::build(&lists, places, problems);
    let circles = order::circles(&waits, problems);
    let Some(mut tree) = tree else { return Resolved::default() };
    significant_never(&workers, &supervisors, &tree, places, problems);
    let templates = template::resolve(templates, &known, &supervisors, places, problems);
    if !circles {
        let strategies = supervisors.iter().map(|(name, raw)| (name.clone(), raw.strategy)).collect();
        order::arrange(&mut tree, &strategies, &waits, problems);
    }
    let supervisors =
        supervisors.into_iter().map(|(name, raw)| Arc::new(settled(name, &raw, &mut tree))).collect();
    let workers = workers.into_iter().map(|worker| Arc::new(worker.settings)).collect();
    Resolved { supervisors, workers, templates }
}

/// What can be told although a file could not be read in full: nothing of what seems to be missing, and nothing that
/// stands below a place where a text is broken.
pub(super) fn resolve_torn(draft: Draft, torn: &Torn, places: &Places, problems: &mut Vec<Problem>) {
    let Draft { supervisors, mut workers, .. } = draft;
    let mut found = Vec::new();
    for worker in &mut workers {
        nature::settle(Kind::Worker, &mut worker.settings, places, &mut found);
        pool::settle(Kind::Worker, &mut worker.settings, places, &mut found);
        alone(Kind::Worker, worker, places, &mut found);
    }
    ports::overlaps(&workers, places, &mut found);
    let known = workers.iter().map(|worker| worker.settings.name.clone()).collect();
    let waits = waits(&mut workers, &known, places, &mut found);
    order::circles(&waits, &mut found);
    let lists: Vec<(Name, Vec<String>)> =
        supervisors.iter().map(|(name, raw)| (name.clone(), raw.children.clone())).collect();
    tree::build(&lists, places, &mut found);
    problems.extend(found.into_iter().filter(|problem| !problem.is_missing() && torn.spares(problem)));
}

/// What can be told of a worker or a template without looking at any other.
pub(super) fn alone(kind: Kind, one: &Settled, places: &Places, problems: &mut Vec<Problem>) {
    command(kind, one, places, problems);
    remedies(kind, &one.settings, places, problems);
    nature::without_effect(kind, &one.settings, places, problems);
    exit_codes(kind, &one.settings, places, problems);
    daemon(kind, &one.settings, places, problems);
    secrets(kind, &one.settings, places, problems);
    significant_permanent(kind, &one.settings, places, problems);
    empty_table(kind, &one.settings, "port", ("base", "8001"), places, problems);
    empty_table(kind, &one.settings, "reload", ("signal", "\"HUP\""), places, problems);
    ports::of_worker(kind, &one.settings, places, problems);
    pid_files::of_worker(kind, &one.settings, places, problems);
    recycle(kind, &one.settings, places, problems);
    probes::check(kind, one, places, problems);
}

/// Loopback only, as long as nothing encrypts.
pub(super) fn addresses(http: &HttpSettings, places: &Places, problems: &mut Vec<Problem>) {
    let place = |path: &str| places.value(path).filter(|place| place.document != 0).cloned();
    if let Some(listen) = http.listen
        && !listen.ip().is_loopback()
    {
        let title = format!("`http.listen` cannot be {listen}: without TLS only a loopback address is safe");
        problems.push(Problem::new(place("http.listen"), title).help(format!(
            "listen on 127.0.0.1:{} behind a proxy, or offer only health and metrics with `probe_listen`",
            listen.port()
        )));
    }
    let Some((listen, probes)) = http.listen.zip(http.probe_listen) else { return };
    if listen.port() != 0 && listen.port() == probes.port() && meet(listen.ip(), probes.ip()) {
        let title = if listen == probes {
            "`http.probe_listen` is the same as `http.listen`".to_owned()
        } else {
            format!("`http.probe_listen` {probes} and `http.listen` {listen} cannot both have the port")
        };
        let problem = Problem::new(place("http.probe_listen"), title);
        problems.push(problem.help("`listen` serves health and metrics already; give this one another port"));
    }
}

/// Whether one port cannot be had at both. The one for all addresses takes IPv4 along where it is IPv6, and not the other
/// way round.
fn meet(one: IpAddr, other: IpAddr) -> bool {
    let takes = |all: IpAddr, own: IpAddr| all.is_unspecified() && (all.is_ipv6() || own.is_ipv4());
    one == other || takes(one, other) || takes(other, one)
}

/// Where a key of a worker or a template stands: at it, in the defaults of workers, or it itself.
pub(super) fn at(kind: Kind, name: &Name, key: &str, places: &Places) -> Option<Place> {
    let own = format!("{}.{name}", kind.word());
    let given = |path: String| places.value(&path).filter(|place| place.document != 0);
    given(format!("{own}.{key}"))
        .or_else(|| given(format!("defaults.worker.{key}")))
        .or_else(|| places.key(&own))
        .cloned()
}

fn command(kind: Kind, worker: &Settled, places: &Places, problems: &mut Vec<Problem>) {
    let name = &worker.settings.name;
    let (word, own) = (kind.word(), format!("{}.{name}", kind.word()));
    let named = places.named(&format!("{own}.command")) || places.named("defaults.worker.command");
    let problem = match worker.settings.command.first() {
        Some(program) if !program.is_empty() => return,
        None if worker.settings.actor.is_some() => return,
        // Reported for what it is, like a wrong command below.
        None if places.named(&format!("{own}.actor")) => return,
        // It has been reported for what it is.
        None if named && !worker.has_command => return,
        Some(_) => {
            let place = at(kind, name, "command[0]", places);
            Problem::new(place, format!("the program of {word} `{name}` has no name"))
        }
        None if named => {
            Problem::new(at(kind, name, "command", places), format!("{word} `{name}` has an empty command"))
        }
        None => {
            let place = places.key(&own).cloned();
            Problem::new(place, format!("{word} `{name}` has no command and no actor")).missing()
        }
    };
    problems.push(problem.help("the program first, then its arguments: `command = [\"./program\", \"-v\"]`"));
}

/// Commands beside it that name no program.
fn remedies(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    let of = |remedy: &Option<Remedy>| match remedy {
        Some(Remedy::Command(argv)) => Some(argv.clone()),
        Some(Remedy::Signal(_)) | None => None,
    };
    let on = &worker.on;
    let all = [
        ("connection_reset", of(&on.connection_reset)),
        ("memory_cleanup", of(&on.memory_cleanup)),
        ("capture", on.capture.clone()),
    ];
    for (key, argv) in all {
        if argv.is_some_and(|argv| argv.first().is_none_or(String::is_empty)) {
            let title = format!("`on.{key}` of {} `{}` has no program", kind.word(), worker.name);
            let problem = Problem::new(at(kind, &worker.name, &format!("on.{key}.command"), places), title);
            problems.push(
                problem.help("the program first, then its arguments: `[\"./trim.sh\", \"{instance}\"]`"),
            );
        }
    }
}

fn exit_codes(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    let both = worker.exit_codes.fatal.iter().find(|code| worker.exit_codes.normal.contains(code));
    if let Some(code) = both {
        let title = format!("exit code {code} of {} `{}` is both normal and fatal", kind.word(), worker.name);
        problems.push(Problem::new(at(kind, &worker.name, "exit_codes.fatal", places), title));
    }
}

/// A table that is there and says nothing.
fn empty_table(
    kind: Kind,
    worker: &WorkerSettings,
    table: &str,
    (key, example): (&str, &str),
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    let named = |path: String| {
        places.named(&format!("{}.{}.{path}", kind.word(), worker.name))
            || places.named(&format!("defaults.worker.{path}"))
    };
    if named(table.to_owned()) && !named(format!("{table}.{key}")) {
        let title = format!("`{table}` of {} `{}` is empty", kind.word(), worker.name);
        let problem = Problem::new(at(kind, &worker.name, table, places), title);
        problems.push(problem.help(format!("`{table} = {{ {key} = {example} }}`")));
    }
}

/// A replacement without a reason would never come.
fn recycle(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    let Some(recycle) = &worker.recycle else { return };
    let own = |key: &str| {
        places.named(&format!("{}.{}.recycle.{key}", kind.word(), worker.name))
            || places.named(&format!("defaults.worker.recycle.{key}"))
    };
    // One that is there and cannot be read has been reported for what it is.
    if recycle.after.is_none() && recycle.memory.is_none() && !own("after") && !own("memory") {
        let title = format!("`recycle` of {} `{}` says no time and no size", kind.word(), worker.name);
        let problem = Problem::new(at(kind, &worker.name, "recycle", places), title);
        problems.push(problem.help("`recycle = { after = \"24h\" }`, `{ memory = \"450MiB\" }` or both"));
    }
}

fn daemon(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    if worker.daemon.adopt_running && worker.daemon.pid_file.is_none() {
        let title = format!("{} `{}` has adopt_running = true, but no pid_file", kind.word(), worker.name);
        let place = at(kind, &worker.name, "adopt_running", places);
        problems.push(Problem::new(place, title).help("`pid_file` says where the running one is found"));
    }
}

/// Which of the two a worker would see could not be told from the file.
fn secrets(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    for name in worker.isolation.secrets.keys().filter(|name| worker.env.contains_key(*name)) {
        let title =
            format!("`{name}` of {} `{}` stands both in env and in secrets", kind.word(), worker.name);
        let mut problem = Problem::new(at(kind, &worker.name, &format!("env.{name}"), places), title)
            .help("leave it in `secrets` alone");
        problem.hide_line();
        problems.push(problem);
    }
}

/// R32: a permanent child is always restarted, so its end never means anything.
fn significant_permanent(kind: Kind, worker: &WorkerSettings, places: &Places, problems: &mut Vec<Problem>) {
    if worker.significant && worker.restart == Restart::Permanent {
        let title = format!(
            "{} `{}` is significant, but permanent: it is restarted after every end",
            kind.word(),
            worker.name
        );
        let place = at(kind, &worker.name, "significant", places);
        problems.push(Problem::new(place, title).help("`restart = \"transient\"` or `\"temporary\"`"));
    }
}

/// R32: without `auto_shutdown` nobody listens.
fn significant_never(
    workers: &[Settled],
    supervisors: &[(Name, RawSupervisor)],
    tree: &Tree,
    places: &Places,
    problems: &mut Vec<Problem>,
) {
    let modes: HashMap<&Name, AutoShutdown> =
        supervisors.iter().map(|(name, raw)| (name, raw.auto_shutdown)).collect();
    for Settled { settings: worker, .. } in workers.iter().filter(|worker| worker.settings.significant) {
        let Some(parent) = tree.parent.get(&worker.name) else { continue };
        if modes.get(parent) == Some(&AutoShutdown::Never) {
            let title = format!(
                "worker `{}` is significant, but its supervisor `{parent}` has auto_shutdown = \"never\"",
                worker.name
            );
            let help = format!(
                "set `auto_shutdown = \"any_significant\"` in [supervisor.{parent}], or leave `significant` out"
            );
            problems
                .push(Problem::new(at(Kind::Worker, &worker.name, "significant", places), title).help(help));
        }
    }
}

/// Turns the texts of `after` into names, in the workers too.
fn waits(
    workers: &mut [Settled],
    known: &HashSet<Name>,
    places: &Places,
    problems: &mut Vec<Problem>,
) -> Vec<Wait> {
    let mut waits = Vec::new();
    for Settled { settings: worker, after, .. } in workers {
        for (index, text) in after.iter().enumerate() {
            let place = at(Kind::Worker, &worker.name, &format!("after[{index}]"), places);
            match Name::try_new(text).ok().filter(|name| known.contains(name)) {
                // Named in the defaults of all workers, it means all others.
                Some(name) if name == worker.name && !own_after(&worker.name, places) => {}
                Some(name) if worker.after.contains(&name) => {
                    problems.push(Problem::new(place, format!("`{name}` stands twice in this list")));
                }
                Some(name) => {
                    worker.after.push(name.clone());
                    waits.push(Wait { worker: worker.name.clone(), dependency: name, place });
                }
                None => problems.extend(unknown_dependency(text, known, place, places)),
            }
        }
    }
    waits
}

fn own_after(worker: &Name, places: &Places) -> bool {
    places.named(&format!("worker.{worker}.after"))
}

pub(super) fn unknown_dependency(
    text: &str,
    known: &HashSet<Name>,
    place: Option<Place>,
    places: &Places,
) -> Option<Problem> {
    if places.names.iter().any(|(kind, name)| *kind == Kind::Supervisor && name.as_str() == text) {
        let problem = Problem::new(place, format!("`{text}` is a supervisor; `after` takes workers"));
        return Some(problem.help("name those of its workers that must be ready"));
    }
    // A bad name has been reported where it is given.
    if places.named(&format!("worker.{text}")) {
        return None;
    }
    let word = nearest(text, known.iter().map(Name::as_str));
    Some(Problem::new(place, format!("there is no worker {}", quoted(text))).suggest(word).missing())
}

fn settled(name: Name, raw: &RawSupervisor, tree: &mut Tree) -> SupervisorSettings {
    SupervisorSettings {
        strategy: raw.strategy,
        intensity: raw.intensity,
        on_exhausted: raw.on_exhausted,
        retry: raw.retry(),
        children: tree.children.remove(&name).unwrap_or_default(),
        auto_shutdown: raw.auto_shutdown,
        name,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::trial::{refused, settings};
    use crate::config::{Remedy, SecretSource, Sources, load};

    #[test]
    fn a_remedy_is_a_signal_or_a_command_and_the_later_one_wins() {
        for (line, said) in [
            (
                "on.connection_reset = { signal = \"HUP\", command = [\"x\"] }",
                "needs exactly one of `signal` and `command`",
            ),
            ("on.memory_cleanup = {}", "needs exactly one of `signal` and `command`"),
            ("on.capture = {}", "needs `command`"),
            ("on.capture.command = []", "`on.capture` of worker `w` has no program"),
            ("on.memory_cleanup.command = [\"\"]", "`on.memory_cleanup` of worker `w` has no program"),
        ] {
            let text = refused(&format!("[worker.w]\ncommand = [\"x\"]\n{line}\n"));
            assert!(text.contains(said) && text.contains("inline:3:"), "{line}: {text}");
            assert!(text.ends_with("1 problem in 1 file"), "told once: {text}");
        }
        let file = "[defaults.worker]\non.memory_cleanup.signal = \"USR1\"\nsecrets.KEY.file = \"/key\"\n\
                    [worker.w]\ncommand = [\"x\"]\non.memory_cleanup.command = [\"y\"]\nsecrets.KEY.env = \"K\"\n";
        let worker = &settings(file).workers[0];
        assert_eq!(worker.on.memory_cleanup, Some(Remedy::Command(vec!["y".to_owned()])));
        assert_eq!(worker.isolation.secrets["KEY"], SecretSource::Env("K".to_owned()));
        let env = vec![("REGROW__WORKER__W__ON__MEMORY_CLEANUP__SIGNAL".into(), "HUP".into())];
        let loaded =
            load(&Sources { env, ..Sources::text(file) }).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.settings.workers[0].on.memory_cleanup, Some(Remedy::Signal(1)));
    }
}
