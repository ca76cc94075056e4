//! Significant children and the end they bring.

use super::*;
use crate::exit::Exit;
use crate::policy::OnExhausted::Escalate;
use crate::policy::RestartStrategy::{OneForAll, OneForOne, SimpleOneForOne};
use crate::policy::{AutoShutdown, Phase, Request, RestartStrategy, SpecError, Supervisor};

const MODES: [AutoShutdown; 3] =
    [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];

fn sim(strategy: RestartStrategy, mode: AutoShutdown, children: &[&str]) -> Sim {
    let mut spec = Sim::spec(strategy, Escalate, 9);
    spec.auto_shutdown = mode;
    Sim::with(spec, children).booted()
}

#[test]
fn row_57_the_end_of_an_insignificant_temporary_child_ends_nobody() {
    for mode in MODES {
        for exit in [code(0), Exit::Stopped, crash(), Exit::Killed] {
            let mut sim = sim(OneForOne, mode, &["a temporary", "b"]);
            sim.exit("a", exit);
            assert_eq!(sim.phases(), "b:running");
        }
    }
}

#[test]
fn row_58_the_end_of_an_insignificant_transient_child_ends_nobody() {
    for mode in MODES {
        for exit in [code(0), Exit::Stopped, crash()] {
            let mut sim = sim(OneForOne, mode, &["a transient", "b"]);
            sim.exit("a", exit);
            assert!(!sim.core.is_ending());
        }
    }
}

#[test]
fn row_59_significant_temporary_children_end_the_supervisor_by_any_or_by_the_last() {
    let children = ["a temporary significant", "b temporary significant", "c"];
    let mut any = sim(OneForOne, AutoShutdown::AnySignificant, &children);
    any.ask(Request::Terminate { child: any.key("a") });
    assert!(!any.core.is_ending());
    any.exit("b", crash());
    assert!(any.did().ends_with("stop c#1, finished auto_shutdown"));
    let mut all = sim(OneForOne, AutoShutdown::AllSignificant, &children);
    all.exit("a", crash());
    assert!(!all.core.is_ending());
    all.exit("b", code(0));
    assert!(all.did().ends_with("stop c#1, finished auto_shutdown"));
}

#[test]
fn row_60_a_significant_transient_child_is_restarted_after_a_crash_and_ends_it_by_a_normal_end() {
    let mut sim = sim(OneForOne, AutoShutdown::AnySignificant, &["a transient significant", "b"]);
    sim.exit("a", crash());
    assert_eq!(sim.moves(), "start a#2");
    sim.exit("a", code(0));
    assert_eq!(sim.did(), "stop b#1, finished auto_shutdown");
}

#[test]
fn row_61_auto_shutdown_is_refused_for_a_pool() {
    let mut spec = Sim::spec(SimpleOneForOne, Escalate, 9);
    spec.auto_shutdown = AutoShutdown::AnySignificant;
    let refused = Supervisor::new(spec, vec![child("t temporary")]);
    assert_eq!(refused.err(), Some(SpecError::AutoShutdownWithSimple));
}

#[test]
fn row_62_a_significant_bystander_ends_nobody() {
    let children = ["a", "b temporary significant", "c transient significant"];
    let mut sim = sim(OneForAll, AutoShutdown::AnySignificant, &children);
    sim.exit("a", crash());
    assert_eq!(sim.phases(), "a:running c:running");
}

#[test]
fn row_63_the_auto_shutdown_of_an_inner_supervisor_ends_the_outer_if_it_is_significant() {
    let mut sim =
        sim(OneForOne, AutoShutdown::AnySignificant, &["a transient supervisor significant infinity"]);
    sim.exit("a", Exit::Stopped);
    assert_eq!(sim.did(), "finished auto_shutdown");
}

#[test]
fn a_significant_child_that_waits_for_a_retry_counts_as_alive() {
    let children = ["a transient significant", "b transient significant"];
    let mut sim = sim(OneForOne, AutoShutdown::AllSignificant, &children);
    sim.script("a", &["fail"]);
    sim.exit("a", crash());
    sim.exit("b", code(0));
    assert_eq!((sim.core.is_ending(), sim.phase("a")), (false, Phase::Backoff));
}
