//! The invariants of supervision where single cases say more than random ones.

use regrow::exit::{Exit, StartFailure};
use regrow::id::Incarnation;
use regrow::policy::{
    Action, ChildSpec, Fact, OnExhausted, Phase, Restart, RestartStrategy, Shutdown, StopHow, Time,
};

use crate::invariants::{core, one_end, plain, started, stopped};
use crate::sim::tree::{self, ms};

fn exits() -> Vec<Exit> {
    vec![
        Exit::Exited { code: 0 },
        Exit::Exited { code: 1 },
        Exit::Exited { code: 255 },
        Exit::Signaled { signal: 15 },
        Exit::Oom,
        Exit::Core { signal: 11 },
        Exit::StartFailed(StartFailure::System { detail: String::new() }),
        Exit::StartTimeout,
        Exit::Killed,
        Exit::Stopped,
        Exit::Panicked { message: String::new() },
        Exit::Error { message: String::new() },
        Exit::Unwell { cause: regrow::Cause::ProbeFailed },
        Exit::Abandoned,
        Exit::Unknown,
    ]
}

#[test]
fn s10_the_restart_type_alone_decides_for_every_exit() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        for exit in exits() {
            let mut tree = plain(RestartStrategy::OneForOne, 1, OnExhausted::Escalate);
            tree.spec.intensity.max_restarts = 5;
            tree.children[0].restart = restart;
            let normal = matches!(exit, Exit::Exited { code: 0 } | Exit::Stopped);
            let wanted = restart == Restart::Permanent || (restart == Restart::Transient && !normal);
            let (_, actions) = one_end(&tree, exit.clone());
            assert_eq!(!started(&actions).is_empty(), wanted, "{restart:?} {exit:?}");
        }
    }
}

#[test]
fn s10_a_fatal_code_parks_whatever_the_restart_type() {
    for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
        let mut tree = plain(RestartStrategy::RestForOne, 1, OnExhausted::Quarantine);
        tree.children[0].restart = restart;
        let (core, actions) = one_end(&tree, Exit::Exited { code: tree::FATAL });
        assert!(started(&actions).is_empty());
        let key = core.children().next().expect("a parked child is still there");
        assert_eq!(core.child(key).unwrap().phase, Phase::Quarantined, "{restart:?}");
    }
}

#[test]
fn s5_a_start_that_takes_too_long_does_not_break_the_stop_order() {
    let mut tree = plain(RestartStrategy::OneForOne, 2, OnExhausted::Quarantine);
    tree.children[0].start_timeout = Some(ms(100));
    tree.children[1].shutdown = Shutdown::Infinity;
    let mut core = core(&tree);
    let both = started(&core.on_fact(Time::ZERO, Fact::Boot));
    let (child, incarnation) = both[1];
    assert_eq!(stopped(&core.on_fact(ms(1), Fact::Shutdown)), vec![(child, incarnation, StopHow::Graceful)]);
    assert!(stopped(&core.on_fact(ms(100), Fact::Tick)).is_empty());
    let actions = core.on_fact(ms(200), Fact::Exited { child, incarnation, exit: Exit::Stopped });
    assert_eq!(stopped(&actions), vec![(both[0].0, both[0].1, StopHow::Graceful)]);
}

#[test]
fn s10_a_late_retry_does_not_try_a_child_with_a_fatal_code() {
    let mut core = core(&plain(RestartStrategy::RestForOne, 2, OnExhausted::Quarantine));
    let failed = |code| {
        let ended = Box::new(Exit::Exited { code });
        Exit::StartFailed(StartFailure::BeforeReady { ended })
    };
    let (child, incarnation) = started(&core.on_fact(Time::ZERO, Fact::Boot))[0];
    let later = core.children().nth(1).unwrap();
    let actions = core.on_fact(ms(1), Fact::StartFailed { child, incarnation, exit: failed(1) });
    assert!(actions.contains(&Action::Retry { child }), "{actions:?}");
    let retry = Fact::Retry { child };
    let revive = Fact::Request {
        id: regrow::policy::RequestId(1),
        request: regrow::policy::Request::Revive { child: later },
    };
    let (_, second) = started(&core.on_fact(ms(2), revive))[0];
    // The first retry stops the later sibling; the second one finds the group under way and waits for it.
    assert_eq!(stopped(&core.on_fact(ms(3), retry.clone())).len(), 1);
    assert!(core.on_fact(ms(3), retry).is_empty());
    let ended = Fact::Exited { child: later, incarnation: second, exit: Exit::Stopped };
    let (child, incarnation) = started(&core.on_fact(ms(4), ended))[0];
    let actions = core.on_fact(ms(5), Fact::StartFailed { child, incarnation, exit: failed(tree::FATAL) });
    assert!(started(&actions).is_empty());
    assert_eq!(core.child(child).unwrap().phase, Phase::Quarantined);
}

#[test]
fn s2_a_call_that_waited_does_not_reach_another_child_in_the_same_slot() {
    let mut tree = plain(RestartStrategy::OneForAll, 2, OnExhausted::Quarantine);
    tree.children[0].restart = Restart::Temporary;
    let mut core = core(&tree);
    let ask = |id, request| Fact::Request { id: regrow::policy::RequestId(id), request };
    let (child, incarnation) = started(&core.on_fact(Time::ZERO, Fact::Boot))[0];
    let next = ChildSpec { id: tree::id(5), stopped: true, ..tree.children[1].clone() };
    // The boot is under way, so all three wait: the third is about the child that the first removes.
    core.on_fact(ms(1), ask(1, regrow::policy::Request::Delete { child }));
    core.on_fact(ms(1), ask(2, regrow::policy::Request::Add { spec: Box::new(next) }));
    core.on_fact(ms(1), ask(3, regrow::policy::Request::Revive { child }));
    core.on_fact(ms(2), Fact::Exited { child, incarnation, exit: Exit::Oom });
    let (second, incarnation) = (core.children().next().unwrap(), Incarnation(1));
    let actions = core.on_fact(ms(3), Fact::Ready { child: second, incarnation });
    let refused =
        Action::Reply { id: regrow::policy::RequestId(3), reply: Err(regrow::policy::Refused::NotFound) };
    assert!(actions.contains(&refused), "{actions:?}");
    let new = core.key("f").unwrap();
    assert_eq!(new.slot(), child.slot(), "the slot is used again");
    assert_eq!(core.child(new).unwrap().phase, Phase::Stopped);
}
