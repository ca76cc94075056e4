//! The cases of Erlang's `supervisor_SUITE`, by their numbers: each that applies here is a test named after it
//! (`row_30_…`). Those of the decision core alone stand beside it in `src/policy/tests`; here are those that need
//! configuration, many children or memory, and the list that is held complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regrow::config::{Sources, load};
use regrow::exit::Exit;
use regrow::id::Incarnation;
use regrow::policy::{
    Action, AutoShutdown, Backoff, ChildKey, ChildKind, ChildSpec, ExitCodes, Fact, Intensity, OnExhausted,
    Phase, Request, RequestId, Restart, RestartStrategy, Shutdown, SpecError, Supervisor, SupervisorSpec,
};

use crate::invariants::started;

/// The suite's cases.
const CASES: u32 = 93;

/// Tests whose names speak of what they promise elsewhere, and stand for a case here too.
const BY_ANOTHER_NAME: [(&[u32], &str); 4] = [
    (&[79], "a_nested_supervisor_that_gives_up_is_restarted_with_its_children"),
    (&[88], "a_thousand_starts_leak_neither_descriptors_nor_zombies"),
    (&[89, 90], "never_more_than_4_kib_however_much_comes"),
    (&[91], "c1_after_sigkill_of_the_runtime_no_second_copy_ever_runs"),
];

/// Cases that say nothing about regrow, and why.
const NOT_APPLICABLE: [(&[u32], &str); 4] = [
    (&[9], "no code of a user runs while a supervisor is made: it cannot raise"),
    (&[25, 37], "a start has no value to hand back"),
    (&[44], "Erlang's progress reports; every start is one event here"),
    (&[74], "no code is replaced while it runs"),
];

/// The numbers in a name such as `row_18_20_and_36_a_pool_stops`.
fn rows(name: &str) -> Vec<u32> {
    let words = name.trim_start_matches("row_").split('_');
    words
        .take_while(|word| *word == "and" || word.parse::<u32>().is_ok())
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn tests(below: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names =
                text.lines().filter_map(|line| line.trim().trim_start_matches("async ").strip_prefix("fn "));
            found.extend(names.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
}

#[test]
fn every_case_of_the_suite_has_its_test_or_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    tests(&root.join("src"), &mut names);
    tests(&root.join("tests"), &mut names);
    let mut covered: BTreeSet<u32> =
        names.iter().filter(|name| name.starts_with("row_")).flat_map(|name| rows(name)).collect();
    for (cases, name) in BY_ANOTHER_NAME {
        assert!(names.iter().any(|known| known == name), "there is no test {name}");
        covered.extend(cases);
    }
    for (cases, _) in NOT_APPLICABLE {
        assert!(cases.iter().all(|case| covered.insert(*case)), "{cases:?} have tests");
    }
    let missing: Vec<u32> = (1..=CASES).filter(|case| !covered.contains(case)).collect();
    assert_eq!(missing, [0_u32; 0], "cases without a test");
}

fn spec(strategy: RestartStrategy) -> SupervisorSpec {
    SupervisorSpec {
        strategy,
        intensity: Intensity { max_restarts: 3, within: Duration::from_secs(5) },
        on_exhausted: OnExhausted::Escalate,
        retry: None,
        auto_shutdown: AutoShutdown::Never,
        seed: 1,
    }
}

fn child(id: &str, restart: Restart) -> ChildSpec {
    let zero = Duration::ZERO;
    ChildSpec {
        id: Arc::from(id),
        restart,
        shutdown: Shutdown::Timeout(Duration::from_secs(5)),
        kind: ChildKind::Worker,
        significant: false,
        backoff: Backoff { first: zero, factor: 1.0, max: zero, jitter: 0.0, reset_after: zero },
        exit_codes: ExitCodes { normal: Arc::from([0]), fatal: Arc::from([]) },
        start_timeout: None,
        min_uptime: zero,
        verify: zero,
        ladder: None,
        heard_within: Duration::ZERO,
        pool: None,
        held: false,
        stopped: false,
        paused: None,
        incarnation: Incarnation::NONE,
    }
}

fn core(children: Vec<ChildSpec>) -> Supervisor {
    Supervisor::new(spec(RestartStrategy::OneForOne), children).unwrap()
}

/// Adds a child and acknowledges its start.
fn add(core: &mut Supervisor, number: u64, spec: ChildSpec) -> (ChildKey, Incarnation) {
    let request = Request::Add { spec: Box::new(spec) };
    let actions = core.on_fact(Duration::ZERO, Fact::Request { id: RequestId(number), request });
    let (child, incarnation) = started(&actions)[0];
    let _ = core.on_fact(Duration::ZERO, Fact::Ready { child, incarnation });
    (child, incarnation)
}

#[test]
fn row_2_a_child_that_is_switched_off_is_known_and_down() {
    let mut core = core(vec![ChildSpec { stopped: true, ..child("off", Restart::Permanent) }]);
    let actions = core.on_fact(Duration::ZERO, Fact::Boot);
    assert_eq!((started(&actions), actions.contains(&Action::Booted)), (Vec::new(), true));
    let key = core.key("off").unwrap();
    assert_eq!(core.child(key).unwrap().phase, Phase::Stopped);
    let settings =
        load(&Sources::text("[worker.off]\ncommand = [\"x\"]\nenabled = false\n")).unwrap().settings;
    assert!(!settings.workers[0].enabled && settings.supervisors[0].children.len() == 1);
}

#[test]
fn row_8_settings_that_make_no_sense_are_an_error_with_a_name() {
    let mut zero = spec(RestartStrategy::OneForOne);
    zero.intensity.within = Duration::ZERO;
    assert_eq!(Supervisor::new(zero, Vec::new()).err(), Some(SpecError::ZeroWindow));
    let refused =
        load(&Sources::text("[supervisor.root]\nstrategy = \"two_for_one\"\n")).unwrap_err().to_string();
    assert!(refused.contains("supervisor.root.strategy") && refused.contains("one_for_one"), "{refused}");
}

#[test]
fn row_13_what_is_left_out_has_its_default_and_can_be_printed() {
    let loaded = load(&Sources::text("[worker.web]\ncommand = [\"x\"]\n[supervisor.inner]\n")).unwrap();
    let (web, inner) = (&loaded.settings.workers[0], &loaded.settings.supervisors[1]);
    assert_eq!((web.restart, web.stop.timeout), (Restart::Permanent, Duration::from_secs(10)));
    assert_eq!(inner.intensity, Intensity { max_restarts: 10, within: Duration::from_secs(300) });
    let explained = loaded.explain();
    for line in ["restart = \"permanent\"  # default", "stop.timeout = \"10s\"  # default"] {
        assert!(explained.contains(line), "{line} is not in\n{explained}");
    }
}

#[test]
fn row_14_a_child_is_found_by_its_id_and_a_stranger_is_not() {
    let core = core(vec![child("web", Restart::Transient)]);
    let known = core.key("web").and_then(|key| core.child(key)).map(|view| view.spec.clone());
    assert_eq!(known, Some(child("web", Restart::Transient)));
    assert_eq!(core.key("stranger"), None);
    assert!(core.child(ChildKey::first(77)).is_none());
}

#[test]
fn row_15_a_key_nobody_knows_is_refused_and_not_passed_over() {
    let text = "[worker.web]\ncommand = [\"x\"]\nshutdwon = \"5s\"\n";
    let refused = load(&Sources::text(text)).unwrap_err();
    assert_eq!((refused.count(), refused.problems()[0].line), (1, Some(3)), "{refused}");
}

#[test]
fn row_39_and_75_nothing_of_a_temporary_child_is_kept() {
    let mut core = core(Vec::new());
    let _ = core.on_fact(Duration::ZERO, Fact::Boot);
    for number in 1..=10_000 {
        let spec = child(&format!("job{number}"), Restart::Temporary);
        let id = Arc::clone(&spec.id);
        let (child, incarnation) = add(&mut core, number, spec);
        assert!(child.slot() < 2, "slots are used again");
        let exit = Exit::Exited { code: i32::from(number % 2 == 0) };
        let _ = core.on_fact(Duration::ZERO, Fact::Exited { child, incarnation, exit });
        assert_eq!(Arc::strong_count(&id), 1, "its settings are kept");
    }
    assert_eq!(core.children().count(), 0);
}

/// As the suite has it: ten times as many children may take fifty times as long, which nothing quadratic does.
#[test]
fn row_77_many_children_come_and_go_in_time_in_proportion() {
    let time = |count: u64| {
        let run = || {
            let began = Instant::now();
            let mut core = core(Vec::new());
            let _ = core.on_fact(Duration::ZERO, Fact::Boot);
            let spec = |number| child(&format!("c{number}"), Restart::Temporary);
            let all: Vec<_> = (0..count).map(|number| add(&mut core, number, spec(number))).collect();
            for (child, incarnation) in all {
                let request = Request::Terminate { child };
                let _ = core.on_fact(Duration::ZERO, Fact::Request { id: RequestId(0), request });
                let _ =
                    core.on_fact(Duration::ZERO, Fact::Exited { child, incarnation, exit: Exit::Stopped });
            }
            assert_eq!(core.children().count(), 0);
            began.elapsed()
        };
        (0..3).map(|_| run()).min().unwrap()
    };
    // On a machine that does other things a look may be off, but only upwards: the least of each is what it takes.
    let mut few = (0..5).map(|_| time(1_000)).min().unwrap();
    let mut many = Duration::MAX;
    let in_proportion = (0..20).any(|_| {
        (few, many) = (few.min(time(1_000)), many.min(time(10_000)));
        many < few.max(Duration::from_micros(500)) * 50
    });
    assert!(in_proportion, "{few:?} for 1,000 and {many:?} for 10,000");
}
