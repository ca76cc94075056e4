//! Who waits for whom: for jobs that are done, and for what an earlier runtime left.

use super::*;

const JOB: &str = r#"
[defaults.worker]
command = ["x"]
[worker.migrate]
restart = "temporary"
[worker.db]
enabled = false
[worker.web]
after = ["migrate"]
[worker.late]
after = ["migrate", "db"]
"#;

#[tokio::test(start_paused = true)]
async fn a_job_that_has_had_its_one_run_holds_nobody_back() {
    let tree = Tree::boot(JOB).await;
    tree.crash("migrate").await;
    assert_eq!(tree.entry("migrate").status(), "done");
    tree.crash("web").await;
    assert_eq!(tree.entry("web").phase, Phase::Running, "its first restart waits for nothing");
    assert_eq!(tree.entry("late").waits_for, ["db"]);
    tree.ask("db", |child| Request::Start { child }).await;
    assert_eq!(tree.entry("late").phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_again_with_its_supervisor_and_is_waited_for_again() {
    let text = r#"
[supervisor.root]
children = ["inner", "web"]
[supervisor.inner]
children = ["job"]
[defaults.worker]
command = ["x"]
[worker.job]
restart = "temporary"
[worker.web]
after = ["job"]
"#;
    let tree = Tree::boot(text).await;
    tree.crash("job").await;
    let job: InstanceId = "job".parse().unwrap();
    assert!(tree.plane.is_spent(&job));
    tree.log();
    tree.plane.supervisor(&Name::try_new("inner").unwrap()).unwrap().kill();
    tree.settle().await;
    assert_eq!(tree.log(), ["start job"]);
    assert_eq!(tree.entry("job").phase, Phase::Running);
    assert!(!tree.plane.is_spent(&job) && tree.plane.gate.instances(job.worker()) == [job]);
    tree.crash("web").await;
    assert_eq!(tree.entry("web").phase, Phase::Running);
}

/// `z` starts after the supervisor of `a`, of which an earlier runtime has left something.
async fn with_a_survivor(strategy: &str, more: &str) -> Tree {
    let text = format!(
        r#"
[supervisor.root]
strategy = "rest_for_one"
children = ["sub", "z"]
[supervisor.sub]
strategy = "{strategy}"
children = ["a", "b"]
{more}
[defaults.worker]
command = ["x"]
[worker.a]
[worker.b]
[worker.z]
"#
    );
    let tree = Tree::grow_with(&text, |plane| plane.gate.block(&"a".parse().unwrap())).await;
    tree.settle().await;
    tree
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_is_ready_once_what_an_earlier_runtime_left_of_its_children_is_replaced() {
    for (strategy, more, before, then) in [
        ("rest_for_one", "", vec![], vec!["start a", "start b", "start z"]),
        ("one_for_all", "", vec![], vec!["start a", "start b", "start z"]),
        ("rest_for_one", "on_exhausted = \"escalate\"", vec![], vec!["start a", "start b", "start z"]),
        ("one_for_one", "", vec!["start b"], vec!["start a", "start z"]),
    ] {
        let tree = with_a_survivor(strategy, more).await;
        assert_eq!(tree.log(), before, "{strategy} {more}: z starts after sub is ready");
        let turn = tree.plane.gate.unblock(&"a".parse().unwrap());
        tree.plane.pass(turn);
        tree.settle().await;
        assert_eq!(tree.log(), then, "{strategy} {more}");
        let sub = tree.plane.board.supervisors().into_iter().find(|entry| entry.name.as_str() == "sub");
        assert_eq!(sub.map(|sub| sub.phase), Some(Phase::Running));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_supervisor_whose_child_is_removed_or_stopped_instead() {
    let tree = with_a_survivor("one_for_one", "").await;
    tree.log();
    tree.ask("a", |child| Request::Stop { child }).await;
    assert_eq!(tree.log(), ["start z"]);
}
