//! What is recorded of failures, and what is learned of them.

use crate::recovery::{BrakeLimits, ErrorClass, Outcome, Strategy};

use super::*;

/// Every failure with this exit code has a name.
fn name_code_70(tree: &Tree) {
    let class = ErrorClass { name: "broker_gone".into(), pattern: None, exit_code: Some(70) };
    tree.plane.healer.configure(BrakeLimits::default(), [class].into());
}

async fn wait(tree: &Tree, seconds: u64) {
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.settle().await;
    }
}

fn tried(tree: &Tree) -> Vec<(String, Option<Outcome>)> {
    let all = tree.plane.healer.incidents();
    let of = |one: &crate::recovery::Incident| {
        one.attempts.iter().map(|a| (a.strategy.to_string(), a.outcome)).collect::<Vec<_>>()
    };
    all.iter().rev().flat_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn a_step_for_a_cause_and_the_plain_restart_after_it_are_both_recorded() {
    let text = r#"
[ladder.default]
verify = "1s"
steps = [{ do = "prep", when = ["crash"] }, { do = "soft_restart" }, { do = "quarantine" }]
[strategy.prep]
command = ["true"]
[worker.web]
command = ["x"]
"#;
    let tree = Tree::boot(text).await;
    tree.crash("web").await;
    wait(&tree, 3).await;
    let ok = Some(Outcome::Ok);
    assert_eq!(tried(&tree), [("prep".to_owned(), ok), ("soft_restart".to_owned(), ok)]);
    let entry = tree.entry("web");
    assert_eq!(entry.recoveries, [(("prep".to_owned(), Outcome::Ok), 1)].into());
    assert_eq!(entry.soft_restarts, Attempts { ok: 1, ..Attempts::default() });
    let told: Vec<String> = tree
        .plane
        .journal
        .since(0)
        .iter()
        .filter(|one| one.event.kind.word().starts_with("recovery."))
        .map(|one| one.event.message.split([':', ' ']).take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(told, ["prep ", "soft_restart ", "soft_restart helped", "prep helped"]);
    let looks = tree.plane.healer.strategies();
    let held: Vec<_> = looks.iter().map(|look| (look.strategy.word(), look.successes)).collect();
    assert_eq!(held, [("soft_restart", 1), ("prep", 1)]);
    // Once per incident: what fails within `verify` is the same one.
    tree.crash("web").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    tree.settle().await;
    tree.crash("web").await;
    wait(&tree, 3).await;
    let failed = Some(Outcome::Failed);
    assert_eq!(
        tried(&tree)[2..],
        [("prep".to_owned(), failed), ("soft_restart".to_owned(), failed), ("soft_restart".to_owned(), ok)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_has_a_name_is_told_and_counted_under_it() {
    let tree =
        Tree::boot("[worker.web]\ncommand = [\"x\"]\n[worker.bare]\ncommand = [\"x\"]\nladder = \"none\"\n")
            .await;
    name_code_70(&tree);
    for who in ["web", "bare"] {
        tree.end(who, Exit::Exited { code: 70 }).await;
        wait(&tree, 12).await;
        tree.end(who, Exit::Exited { code: 1 }).await;
        wait(&tree, 1).await;
        let named = CauseName::Class("broker_gone".into());
        assert_eq!(
            tree.entry(who).restarts_by_cause,
            [(Cause::Crash.into(), 1), (named.clone(), 1)].into(),
            "{who}"
        );
        let told = tree.plane.journal.since(0);
        let of = |kind| {
            let own =
                told.iter().filter(|one| one.event.instance.as_ref().is_some_and(|id| id.to_string() == who));
            let mut causes = own.filter(move |one| one.event.kind == kind).map(|one| one.event.cause.clone());
            causes.find(Option::is_some).flatten()
        };
        for kind in [
            EventKind::WorkerExited,
            EventKind::WorkerStarting,
            EventKind::IncidentOpened,
            EventKind::IncidentClosed,
        ] {
            assert_eq!(of(kind), Some(named.clone()), "{who} {}", kind.word());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_ladder_has_incidents_with_evidence_all_the_same() {
    let tree = Tree::boot("[worker.web]\ncommand = [\"x\"]\nladder = \"none\"\n").await;
    tree.judge("web", Cause::ProbeFailed);
    tree.settle().await;
    wait(&tree, 11).await;
    let incidents = tree.plane.healer.incidents();
    let [one] = &incidents[..] else { panic!("{incidents:?}") };
    assert_eq!(
        (one.cause.as_str(), one.closed.as_ref().map(|c| c.outcome)),
        ("probe_failed", Some(Outcome::Ok))
    );
    assert!(one.evidence.iter().any(|found| found.text == "it hangs"), "{:?}", one.evidence);
    assert_eq!(tried(&tree), [("soft_restart".to_owned(), Some(Outcome::Ok))]);
    let entry = tree.entry("web");
    assert_eq!(entry.restarts_by_cause, [(Cause::ProbeFailed.into(), 1)].into());
    assert_eq!(entry.soft_restarts, Attempts { ok: 1, ..Attempts::default() });
    assert_eq!(tree.plane.healer.strategies(), [], "nothing is learned");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_learned_where_that_is_off_and_of_what_somebody_asked_for() {
    let text = |learn: &str| {
        format!("[ladder.default]\nverify = \"1s\"\nlearn = \"{learn}\"\n[worker.web]\ncommand = [\"x\"]\n")
    };
    let tree = Tree::boot(&text("off")).await;
    tree.crash("web").await;
    wait(&tree, 2).await;
    assert_eq!(tried(&tree).len(), 1);
    assert!(tree.plane.healer.strategies().is_empty() && tree.plane.healer.lessons(9).is_empty());
    let tree = Tree::boot(&text("suggest")).await;
    for _ in 0..7 {
        tree.ask("web", |child| Request::Recover {
            child,
            step: Box::new(crate::recovery::Step::new(Strategy::SoftRestart)),
            by: "ann".into(),
        })
        .await;
        wait(&tree, 2).await;
    }
    assert_eq!(tried(&tree).len(), 7);
    assert_eq!(tree.plane.healer.lessons(9), []);
    tree.crash("web").await;
    wait(&tree, 2).await;
    let lessons = tree.plane.healer.lessons(9);
    assert!(
        matches!(&lessons[..], [one] if one.case.as_ref().is_some_and(|case| case.worker == "web")),
        "{lessons:?}"
    );
}
