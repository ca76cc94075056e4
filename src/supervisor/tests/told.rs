//! What people are told of an end: whose doing it was, and why.

use super::*;

fn ends(tree: &Tree, who: &str) -> Vec<(EventKind, Option<CauseName>, String)> {
    let all = tree.plane.journal.since(0).into_iter();
    let own = all.filter(|event| event.event.instance.as_ref().is_some_and(|id| id.to_string() == who));
    own.filter(|event| event.event.data.get("exit").is_some())
        .map(|event| (event.event.kind, event.event.cause.clone(), event.event.message.clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_process_that_was_stuck_is_the_end_of_a_stop_and_no_crash() {
    let tree = Tree::boot(NESTED).await;
    tree.stage.lock().unwrap().deaf.insert("first".to_owned());
    tree.ask("first", |child| Request::Restart { child }).await;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.settle().await;
    }
    assert_eq!(tree.entry("first").phase, Phase::Stuck);
    tree.stage.lock().unwrap().deaf.clear();
    tree.end("first", Exit::Signaled { signal: 9 }).await;
    let entry = tree.entry("first");
    assert_eq!((entry.phase, entry.last_exit.map(|last| last.exit)), (Phase::Running, Some(Exit::Killed)));
    assert_eq!(entry.restarts_by_cause, [(Cause::Operator.into(), 1)].into());
    let ends = ends(&tree, "first");
    assert!(matches!(&ends[..], [(EventKind::WorkerStopped, None, _)]), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn what_its_probes_said_once_is_no_reason_for_an_end_long_after_it_was_well_again() {
    let tree =
        Tree::boot("[worker.web]\ncommand = [\"x\"]\nladder = \"none\"\nrestart = \"temporary\"\n").await;
    tree.judge("web", Cause::ProbeFailed);
    tree.settle().await;
    tree.judge_well("web");
    tree.settle().await;
    tree.crash("web").await;
    let ends = ends(&tree, "web");
    assert!(matches!(&ends[..], [(_, _, text)] if !text.contains("no answer")), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ready_worker_without_probes_is_healthy_whatever_was_said_before_it_was_ready() {
    let tree = Tree::boot(NESTED).await;
    tree.say("first", Health::Unknown, None);
    tree.settle().await;
    let entry = tree.entry("first");
    assert_eq!((entry.health(), entry.score(), entry.status()), (Health::Healthy, Some(1.0), "healthy"));
    tree.plane.board.update(&"first".parse().unwrap(), |entry| entry.probed = true);
    assert_eq!(tree.entry("first").health(), Health::Unknown, "who has probes is waited for");
}

#[tokio::test(start_paused = true)]
async fn an_incident_of_who_watches_says_whether_a_probe_works_at_times() {
    let tree = Tree::boot(NESTED).await;
    let say = async |blind: bool, dim: bool| {
        let (instance, incarnation) = ("first".parse().unwrap(), tree.entry("first").incarnation);
        let verdict = Arc::new(Verdict { blind, dim, ..Verdict::runs("process") });
        tree.plane.judge(Judged { instance, incarnation, verdict });
        tree.settle().await;
        let all = tree.plane.healer.incidents();
        assert_eq!(all.len(), 1, "{all:?}");
        (all[0].text.clone(), all[0].closed.is_some())
    };
    let (text, closed) = say(true, false).await;
    assert!(text.contains("none of its probes works any more") && !closed, "{text}");
    let (text, closed) = say(false, true).await;
    assert!(text.contains("work now and now not") && !closed, "{text}");
    assert!(say(false, false).await.1);
}

#[tokio::test(start_paused = true)]
async fn how_far_it_had_come_is_no_start() {
    let tree = Tree::grow(NESTED).await;
    let (id, last) = ("first".parse().unwrap(), Incarnation(57));
    tree.plane.count_from(&id, last);
    assert_eq!(tree.plane.board.instance(&id).unwrap().incarnation, last, "before anybody has started it");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_asked_for_is_nobodys_wish() {
    let tree = Tree::boot(NESTED).await;
    tree.end("first", Exit::Stopped).await;
    let ends = ends(&tree, "first");
    assert!(matches!(&ends[..], [(_, Some(CauseName::Known(Cause::Crash)), _)]), "{ends:?}");
    assert_eq!(tree.entry("first").restarts_by_cause, [(Cause::Crash.into(), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn whoever_was_started_again_recovers_until_it_has_held_and_only_then_did_the_restart_help() {
    let tree = Tree::boot("[worker.web]\ncommand = [\"x\"]\n").await;
    for _ in 0..2 {
        tree.crash("web").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.settle().await;
        let entry = tree.entry("web");
        assert_eq!(
            (entry.phase, entry.health(), entry.status()),
            (Phase::Running, Health::Healthy, "recovering")
        );
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    tree.settle().await;
    let entry = tree.entry("web");
    assert_eq!((entry.status(), entry.recovery), ("healthy", None));
    assert_eq!(entry.soft_restarts, Attempts { ok: 1, failed: 1, ..Attempts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_does_not_hold_helped_nobody_and_is_for_what_parked_the_worker() {
    let text = r#"
[supervisor.root]
retry_first = "2s"
[ladder.default]
verify = "1s"
steps = [{ do = "soft_restart", attempts = 1 }, { do = "quarantine" }]
[worker.web]
command = ["x"]
"#;
    let tree = Tree::boot(text).await;
    for round in 0..4 {
        // Unwell as soon as it is ready: by the first step, by parking, and in each trial.
        tree.judge("web", Cause::ProbeFailed);
        tree.settle().await;
        let parked = (tree.entry("web").status() == "quarantined", round > 0);
        assert_eq!(parked.0, parked.1, "round {round}");
        while tree.entry("web").phase != Phase::Running {
            tokio::time::sleep(Duration::from_secs(1)).await;
            tree.settle().await;
        }
    }
    let entry = tree.entry("web");
    assert_eq!(entry.restarts_by_cause, [(Cause::ProbeFailed.into(), 4)].into());
    assert_eq!(entry.soft_restarts, Attempts { failed: 2, under_way: true, ..Attempts::default() });
}

#[tokio::test(start_paused = true)]
async fn a_restart_by_the_ladder_is_counted_once_and_for_what_was_wrong() {
    let tree = Tree::boot("[worker.web]\ncommand = [\"x\"]\nladder = \"default\"\n").await;
    for _ in 0..2 {
        tree.judge("web", Cause::ProbeFailed);
        // Looked at, stopped, started, and verified for a while.
        tokio::time::sleep(Duration::from_secs(7)).await;
        tree.settle().await;
    }
    let entry = tree.entry("web");
    assert_eq!(entry.restarts_by_cause, [(Cause::ProbeFailed.into(), 2)].into());
    assert_eq!(entry.soft_restarts, Attempts::default(), "no plain restart of an end");
    assert_eq!(entry.recoveries, [(("soft_restart".to_owned(), Came::Failed), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn c15_a_clock_that_is_set_makes_no_run_last_for_years() {
    let tree = Tree::boot("[worker.web]\ncommand = [\"x\"]\n").await;
    let id = "web".parse().unwrap();
    for (hours, round) in [(-87_600, 1), (87_600, 2)] {
        let moved = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours);
        tree.plane.board.update(&id, |entry| entry.started_at = Some(moved));
        tree.crash("web").await;
        let ends = ends(&tree, "web");
        assert_eq!(ends.len(), round);
        assert!(!ends[round - 1].2.contains(" h"), "{ends:?}");
        assert!(tree.entry("web").last_run.is_some_and(|seconds| (0.0..3600.0).contains(&seconds)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.settle().await;
    }
}

fn stack(tree: &Tree, who: &str) -> Option<String> {
    tree.entry(who).last_exit?.backtrace.map(|text| text.to_string())
}

fn panicked() -> Exit {
    Exit::Panicked { message: "odd at src/odd.rs:1".to_owned() }
}

/// The stack comes late, and from elsewhere.
fn walked(who: &str, (reporter, incarnation): (Reporter, Incarnation)) {
    let (instance, text) = (who.parse().unwrap(), "frames".to_owned());
    reporter(incarnation, WorkerReport::Backtrace { instance, led_to: panicked(), text });
}

#[tokio::test(start_paused = true)]
async fn the_stack_of_a_panic_is_told_of_whom_nobody_supervises_any_more() {
    let tree = Tree::boot("[worker.web]\ncommand = [\"x\"]\nrestart = \"temporary\"\n").await;
    let line = tree.stage.lock().unwrap().live["web"].clone();
    tree.end("web", panicked()).await;
    assert_eq!(stack(&tree, "web"), None);
    walked("web", line);
    tree.settle().await;
    assert_eq!(stack(&tree, "web").as_deref(), Some("frames"));
}

#[tokio::test(start_paused = true)]
async fn in_a_crash_loop_the_stack_of_the_first_stands_for_those_that_end_alike() {
    let tree = Tree::boot("[worker.web]\ncommand = [\"x\"]\n").await;
    let line = tree.stage.lock().unwrap().live["web"].clone();
    tree.end("web", panicked()).await;
    let again = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.settle().await;
        tree.end("web", panicked()).await;
    };
    again().await;
    walked("web", line);
    tree.settle().await;
    let first = "as in incarnation 1, which ended in the same way:\nframes";
    assert_eq!(stack(&tree, "web").as_deref(), Some(first));
    again().await;
    assert_eq!(stack(&tree, "web").as_deref(), Some(first));
    tokio::time::sleep(Duration::from_secs(1)).await;
    tree.settle().await;
    tree.crash("web").await;
    assert_eq!(stack(&tree, "web"), None, "another end");
}
