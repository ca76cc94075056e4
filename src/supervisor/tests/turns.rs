//! Turns that are taken by threads beside the control plane.

use super::*;

const TWO: &str = r#"
[supervisor.root]
intensity = { max_restarts = 100000, within = "1s" }
[defaults.worker]
command = ["x"]
backoff.first = "0s"
[worker.a]
[worker.b]
"#;

#[tokio::test(start_paused = true)]
async fn whoever_brings_the_word_of_an_end_and_has_time_does_what_follows() {
    let tree = Tree::boot(TWO).await;
    tree.log();
    // Nothing else runs meanwhile: this thread is the control plane's, and it waits.
    tree.crash_and_do("a", 1).join().unwrap();
    assert_eq!(tree.log(), ["start a"]);
    assert_eq!((tree.entry("a").phase, tree.entry("a").restarts), (Phase::Running, 1));
    tree.crash("a").await;
    assert_eq!(tree.entry("a").restarts, 2, "and the actor goes on as ever");
}

#[tokio::test(start_paused = true)]
async fn turns_that_many_threads_take_at_once_lose_no_word_and_start_nobody_twice() {
    const EACH: u64 = 3000;
    let tree = Tree::boot(TWO).await;
    let threads = [tree.crash_and_do("a", EACH), tree.crash_and_do("b", EACH)];
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        // The control plane has turns of its own: a thread leaves a flood to it.
        tokio::task::yield_now().await;
    }
    tree.settle().await;
    for (id, thread) in ["a", "b"].into_iter().zip(threads) {
        thread.join().unwrap();
        let entry = tree.entry(id);
        assert_eq!((entry.restarts, entry.incarnation), (EACH, Incarnation(EACH + 1)));
        assert_eq!(entry.phase, Phase::Running);
    }
    assert_eq!(tree.plane.board.stale(), 0);
}

#[tokio::test(start_paused = true)]
async fn b12_a_turn_that_fails_on_another_thread_is_a_failure_of_the_actor() {
    // An end that counts as a failed start is tried again through the sink, which belongs to tests.
    let text = TWO.replace("[worker.a]", "[worker.a]\nmin_uptime = \"1h\"");
    let broken = |plane: &mut Plane| plane.retries = Some(Arc::new(|_, _| panic!("a fault in a turn")));
    let mut tree = Tree::grow_with(&text, broken).await;
    tree.settle().await;
    tree.crash_and_do("a", 1).join().unwrap();
    tree.settle().await;
    while let Ok(outcome) = tree.outcomes.try_recv() {
        assert_eq!(outcome, Outcome::Booted);
    }
    assert!(tree.outcomes.is_closed(), "what the actor kept is gone with it");
    assert!(tree.root.send_message(SupervisorMsg::Fact(Fact::Tick)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_judged_late_lets_what_came_in_time_come_first() {
    for ended in [true, false] {
        let tree = Tree::boot(NESTED).await;
        tree.stage.lock().unwrap().deaf.insert("first".to_owned());
        tree.ask("first", |child| Request::Stop { child }).await;
        let _ = tree.log();
        // As after a halt of the whole process: the deadline was long ago.
        tokio::time::advance(Duration::from_secs(20)).await;
        tree.settle().await;
        assert_eq!(tree.log(), Vec::<String>::new(), "nobody is killed before it was heard");
        if ended {
            tree.end("first", Exit::Exited { code: 0 }).await;
            let entry = tree.entry("first");
            assert_eq!((entry.phase, entry.last_exit.unwrap().exit), (Phase::Stopped, Exit::Stopped));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        tree.settle().await;
        let then: &[&str] = if ended { &[] } else { &["stop first"] };
        assert_eq!(tree.log(), then, "and then who has not ended is killed");
    }
}
