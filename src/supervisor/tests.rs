//! The actors together: a tree of scripted workers under paused time.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::{Sources, load};
use crate::event::{Cause, CauseName, EventKind};
use crate::exit::Exit;
use crate::health::{Health, Unwell, Verdict};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{ChildKey, Fact, Phase, Refused, Request};
use crate::recovery::Outcome as Came;
use crate::telemetry::Journal;
use crate::worker::{Deed, Done, Job, Reporter, Runner, WorkerReport};

use super::actor::{Outcome, SupervisorMsg, Upward};
use super::asked::Asked;
use super::attempts::Attempts;
use super::board::{Board, InstanceState, Operator};
use super::judged::Judged;
use super::line::Address;
use super::plane::Plane;
use super::tree::{Node, arguments, supervisor_states};

mod order;
mod taught;
mod told;
mod turns;

/// What happened to the scripted workers, in order, and how to make them end.
#[derive(Default)]
struct Stage {
    log: Vec<String>,
    live: HashMap<String, (Reporter, Incarnation)>,
    /// The other way to report.
    doing: HashMap<String, Reporter>,
    /// Whose next start breaks its runner.
    breaks: Option<String>,
    /// Who does not end when asked, and not when killed.
    deaf: HashSet<String>,
}

struct Scripted {
    id: String,
    stage: Arc<Mutex<Stage>>,
    reporter: Reporter,
    current: Incarnation,
}

impl Runner for Scripted {
    fn lend(&mut self, doing: &Reporter) {
        self.stage.lock().unwrap().doing.insert(self.id.clone(), Arc::clone(doing));
    }

    fn start(&mut self, incarnation: Incarnation) {
        self.current = incarnation;
        let mut stage = self.stage.lock().unwrap();
        if stage.breaks.take_if(|id| *id == self.id).is_some() {
            drop(stage);
            panic!("a fault in what runs it");
        }
        stage.log.push(format!("start {}", self.id));
        stage.live.insert(self.id.clone(), (Arc::clone(&self.reporter), incarnation));
        drop(stage);
        (self.reporter)(incarnation, WorkerReport::Started { pid: None });
        (self.reporter)(incarnation, WorkerReport::Ready);
    }

    fn stop(&mut self) {
        let mut stage = self.stage.lock().unwrap();
        stage.log.push(format!("stop {}", self.id));
        if stage.deaf.contains(&self.id) {
            return;
        }
        stage.live.remove(&self.id);
        drop(stage);
        (self.reporter)(self.current, WorkerReport::Exited { exit: Exit::Signaled { signal: 15 } });
    }

    fn kill(&mut self) {
        self.stop();
    }

    fn perform(&mut self, job: Job, done: Done) {
        let seen = if job.deed == Deed::Look { vec![("output", "it hangs".to_owned())] } else { Vec::new() };
        done(Ok(seen));
    }
}

struct Tree {
    stage: Arc<Mutex<Stage>>,
    plane: Arc<Plane>,
    root: Address,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
}

impl Tree {
    async fn boot(toml: &str) -> Self {
        let tree = Self::grow(toml).await;
        tree.settle().await;
        tree
    }

    /// Its probes say that it does not work.
    fn judge(&self, id: &str, cause: Cause) {
        let message = "no answer".to_owned();
        let unwell =
            Unwell { cause, message, patience: None, dead: false, lasted: Duration::ZERO, looks: None };
        self.say(id, Health::Unhealthy, Some(unwell));
    }

    /// Its probes say that it works.
    fn judge_well(&self, id: &str) {
        self.say(id, Health::Healthy, None);
    }

    fn say(&self, id: &str, health: Health, unwell: Option<Unwell>) {
        let (instance, incarnation) = (id.parse().unwrap(), self.entry(id).incarnation);
        let verdict = Arc::new(Verdict {
            health,
            holds: unwell.is_none(),
            score: None,
            terms: Vec::new(),
            issues: Vec::new(),
            unwell,
            unresponsive: false,
            accepts: true,
            started: true,
            blind: false,
            dim: false,
            unseen: false,
            flaps: false,
        });
        self.plane.judge(Judged { instance, incarnation, verdict });
    }

    /// Told to boot; nothing has happened.
    async fn grow(toml: &str) -> Self {
        Self::grow_with(toml, |_| {}).await
    }

    /// The same, on a plane that is prepared like this.
    async fn grow_with(toml: &str, prepare: impl FnOnce(&mut Plane)) -> Self {
        let settings = load(&Sources { inline: Some(toml.to_owned()), ..Sources::default() })
            .expect("a valid file")
            .settings;
        let stage: Arc<Mutex<Stage>> = Arc::default();
        let shared = Arc::clone(&stage);
        let mut plane = Plane::new(
            Board::new(),
            Journal::new(),
            Arc::new(move |instance, _, _, reporter| {
                let (id, stage) = (instance.to_string(), Arc::clone(&shared));
                Box::new(Scripted { id, stage, reporter, current: Incarnation::NONE })
            }),
            7,
        );
        prepare(&mut plane);
        let plane = Arc::new(plane);
        for state in supervisor_states(&settings) {
            plane.board.put_supervisor(state);
        }
        for worker in &settings.workers {
            let _ = plane.gate.expect(&InstanceId::single(worker.name.clone()));
            let _ = plane.gate.learn(&worker.name, &worker.after);
            let entry = InstanceState::new(
                InstanceId::single(worker.name.clone()),
                Name::root(),
                "process",
                worker.critical,
            );
            plane.board.put(entry);
        }
        let (tell, outcomes) = mpsc::unbounded_channel();
        let upward: Upward = Box::new(move |outcome| {
            let _ = tell.send(outcome);
        });
        let node = Node::of(&settings).unwrap();
        plane.plant(&node);
        let root = Address::spawn(arguments(&node, &plane, upward)).await.unwrap();
        let _ = root.send_message(SupervisorMsg::Fact(Fact::Boot));
        Self { stage, plane, root, outcomes }
    }

    /// Lets every actor run until nothing is left to do; the clock stands meanwhile.
    async fn settle(&self) {
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
    }

    async fn crash(&self, id: &str) {
        self.end(id, Exit::Exited { code: 1 }).await;
    }

    async fn end(&self, id: &str, exit: Exit) {
        let gone = self.stage.lock().unwrap().live.remove(id);
        let (reporter, incarnation) = gone.unwrap_or_else(|| panic!("{id} does not live"));
        reporter(incarnation, WorkerReport::Exited { exit });
        self.settle().await;
    }

    /// Crashes it from a thread that has time, so often in a row.
    fn crash_and_do(&self, id: &str, times: u64) -> std::thread::JoinHandle<()> {
        let (stage, id) = (Arc::clone(&self.stage), id.to_owned());
        std::thread::spawn(move || {
            let until = std::time::Instant::now() + Duration::from_secs(120);
            for _ in 0..times {
                // Another thread may be about to start it.
                let (doing, incarnation) = loop {
                    assert!(std::time::Instant::now() < until, "{id} is not started again");
                    let mut stage = stage.lock().unwrap();
                    if let Some((_, incarnation)) = stage.live.remove(&id) {
                        break (Arc::clone(&stage.doing[&id]), incarnation);
                    }
                    drop(stage);
                    std::thread::yield_now();
                };
                doing(incarnation, WorkerReport::Exited { exit: Exit::Exited { code: 1 } });
            }
        })
    }

    async fn ask(&self, id: &str, request: fn(ChildKey) -> Request) {
        let (reply, _) = oneshot::channel();
        let by = Operator { by: "test".to_owned(), at: jiff::Timestamp::UNIX_EPOCH };
        let home = self.plane.home(&Name::try_new(id).unwrap()).unwrap();
        let address = self.plane.supervisor(&home).unwrap();
        let asked = Asked::new(id.to_owned(), Box::new(request), by, reply);
        let _ = address.send_message(SupervisorMsg::Asked(Box::new(asked)));
        self.settle().await;
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.stage.lock().unwrap().log)
    }

    fn entry(&self, id: &str) -> InstanceState {
        self.plane.board.instance(&id.parse().unwrap()).unwrap()
    }
}

const NESTED: &str = r#"
[supervisor.root]
children = ["first", "inner", "last"]
[supervisor.inner]
strategy = "one_for_all"
children = ["a", "b"]
[worker.first]
command = ["x"]
[worker.a]
command = ["x"]
[worker.b]
command = ["x"]
[worker.last]
command = ["x"]
"#;

#[tokio::test(start_paused = true)]
async fn the_whole_tree_stops_in_the_reverse_of_its_start() {
    let mut tree = Tree::boot(NESTED).await;
    let mut started: Vec<String> = tree.log().iter().map(|line| line.replace("start ", "")).collect();
    started.sort();
    assert_eq!(started, ["a", "b", "first", "last"]);
    let _ = tree.root.send_message(SupervisorMsg::Fact(Fact::Shutdown));
    tree.settle().await;
    assert_eq!(tree.log(), ["stop last", "stop b", "stop a", "stop first"]);
    let mut last = None;
    while let Ok(outcome) = tree.outcomes.try_recv() {
        last = Some(outcome);
    }
    assert!(matches!(last, Some(Outcome::Finished(crate::policy::Ended::Shutdown, _))), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_overtakes_the_boot_reaches_a_nested_supervisor_too() {
    // The last child is asked first: nothing comes between its start and its stop.
    let mut tree = Tree::grow(&NESTED.replace("\"inner\", \"last\"", "\"last\", \"inner\"")).await;
    let _ = tree.root.send_message(SupervisorMsg::Fact(Fact::Shutdown));
    tree.settle().await;
    let mut last = None;
    while let Ok(outcome) = tree.outcomes.try_recv() {
        last = Some(outcome);
    }
    assert!(matches!(last, Some(Outcome::Finished(crate::policy::Ended::Shutdown, _))), "{last:?}");
    assert!(tree.stage.lock().unwrap().live.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_one_supervisor_touches_no_other() {
    let tree = Tree::boot(NESTED).await;
    let _ = tree.log();
    tree.crash("a").await;
    assert_eq!(tree.log(), ["stop b", "start a", "start b"]);
    assert_eq!(tree.entry("a").restarts, 1);
    assert_eq!(tree.entry("b").restarts, 1);
    assert_eq!(tree.entry("first").restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_nested_supervisor_that_gives_up_is_restarted_with_its_children() {
    let text = NESTED.replace(
        "strategy = \"one_for_all\"",
        "strategy = \"one_for_all\"\non_exhausted = \"escalate\"\nintensity = { max_restarts = 1, within = \"5m\" }",
    );
    let tree = Tree::boot(&format!("[defaults.worker]\nbackoff = {{ first = \"0s\" }}\n{text}")).await;
    tree.crash("a").await;
    let _ = tree.log();
    tree.crash("a").await;
    assert_eq!(tree.log(), ["stop b", "start a", "start b"]);
    assert_eq!(
        tree.entry("a").incarnation,
        Incarnation(3),
        "incarnations go on over a restart of their supervisor"
    );
    let inner =
        tree.plane.board.supervisors().into_iter().find(|entry| entry.name.as_str() == "inner").unwrap();
    assert_eq!(inner.restarts, 1);
}

#[tokio::test(start_paused = true)]
async fn b12_a_nested_supervisor_whose_actor_breaks_is_started_again() {
    let tree = Tree::boot(NESTED).await;
    let _ = tree.log();
    tree.plane.supervisor(&Name::try_new("inner").unwrap()).unwrap().kill();
    tree.settle().await;
    assert_eq!(tree.log(), ["start a", "start b"]);
    let told = tree.plane.journal.since(0);
    assert!(told.iter().any(|event| event.event.message.contains("its supervisor actor failed")));
}

#[tokio::test(start_paused = true)]
async fn b12_a_runner_that_breaks_costs_its_child_one_start_and_no_sibling_anything() {
    let tree = Tree::boot(NESTED).await;
    tree.stage.lock().unwrap().breaks = Some("first".to_owned());
    tree.crash("first").await;
    let told = tree.plane.journal.since(0);
    assert!(told.iter().any(|event| event.event.message.contains("what runs it failed; this is a bug")));
    tokio::time::sleep(Duration::from_secs(60)).await;
    tree.settle().await;
    assert_eq!((tree.entry("first").phase, tree.entry("first").restarts), (Phase::Running, 2));
    assert_eq!((tree.entry("last").phase, tree.entry("last").restarts), (Phase::Running, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_words_is_heard_in_order_and_in_turns() {
    let tree = Tree::boot(NESTED).await;
    let (reporter, incarnation) = tree.stage.lock().unwrap().live.remove("first").unwrap();
    for number in 0..10_000 {
        reporter(incarnation, WorkerReport::Status { text: number.to_string() });
    }
    let (mut turns, mut last) = (0, 0);
    while last != 9_999 {
        tokio::task::yield_now().await;
        turns += 1;
        let text = tree.entry("first").status_text.unwrap_or_default();
        let heard: u32 = text.parse().unwrap_or_default();
        assert!(heard >= last, "{heard} came after {last}");
        last = heard;
        assert!(turns < 100_000, "it is not heard to the end");
    }
    assert!(turns > 100, "others had their turn {turns} times only");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_a_supervisor_that_has_ended_comes_back() {
    let tree = Tree::boot(NESTED).await;
    let inner = tree.plane.supervisor(&Name::try_new("inner").unwrap()).unwrap();
    let _ = tree.root.send_message(SupervisorMsg::Fact(Fact::Shutdown));
    let (reply, answer) = oneshot::channel();
    let by = Operator { by: "test".to_owned(), at: jiff::Timestamp::UNIX_EPOCH };
    let request = Box::new(|child| Request::Restart { child });
    let asked = Asked::new("first".to_owned(), request, by, reply);
    let _ = tree.root.send_message(SupervisorMsg::Asked(Box::new(asked)));
    tree.settle().await;
    let answered =
        tokio::time::timeout(Duration::from_secs(60), answer).await.expect("nobody waits for ever");
    assert!(matches!(answered, Err(_) | Ok(Err(Refused::ShuttingDown))), "{answered:?}");
    for address in [inner, tree.root.clone()] {
        assert!(address.send_message(SupervisorMsg::Fact(Fact::Kill)).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn after_holds_a_start_back_across_the_tree() {
    let text = NESTED
        .replace("[worker.first]\n", "[worker.first]\nenabled = false\n")
        .replace("[worker.a]\n", "[worker.a]\nafter = [\"first\"]\n");
    let tree = Tree::boot(&text).await;
    assert_eq!(tree.entry("a").phase, Phase::Waiting);
    assert_eq!(tree.entry("a").waits_for, ["first"]);
    tree.ask("first", |child| Request::Start { child }).await;
    assert_eq!(tree.entry("a").phase, Phase::Running);
}

#[tokio::test(start_paused = true)]
async fn an_operators_stop_lasts_and_says_who() {
    let tree = Tree::boot(NESTED).await;
    tree.ask("first", |child| Request::Stop { child }).await;
    let entry = tree.entry("first");
    assert_eq!((entry.phase, entry.status()), (Phase::Stopped, "stopped"));
    assert_eq!(entry.wanted_by.map(|by| by.by), Some("test".to_owned()));
    tokio::time::advance(Duration::from_secs(3600)).await;
    tree.settle().await;
    assert_eq!(tree.entry("first").phase, Phase::Stopped);
    tree.ask("first", |child| Request::Start { child }).await;
    assert_eq!(tree.entry("first").status(), "healthy");
}

#[tokio::test(start_paused = true)]
async fn a_worker_over_its_budget_is_parked_and_tried_again() {
    let tree = Tree::boot(
        "[supervisor.root]\nintensity = { max_restarts = 2, within = \"5m\" }\n[defaults.worker]\n\
         backoff = { first = \"0s\" }\n[worker.web]\ncommand = [\"x\"]\n",
    )
    .await;
    for _ in 0..3 {
        tree.crash("web").await;
    }
    assert_eq!(tree.entry("web").status(), "quarantined");
    assert!(tree.entry("web").next_action.is_some());
    let parked =
        tree.plane.journal.counts().into_iter().find(|(kind, _)| *kind == EventKind::WorkerParked).unwrap().1;
    assert_eq!(parked, 1);
    tokio::time::sleep(Duration::from_secs(31)).await;
    tree.settle().await;
    assert_eq!(tree.entry("web").phase, Phase::Running);
    assert_eq!(tree.entry("web").restarts_by_cause.values().sum::<u64>(), tree.entry("web").restarts);
    let attempts = tree.entry("web").soft_restarts;
    assert_eq!((attempts.ok, attempts.failed, attempts.interrupted), (0, 2, 0), "each became ready and fell");
    assert!(attempts.under_way, "the trial");
    tokio::time::sleep(Duration::from_secs(11)).await;
    tree.settle().await;
    assert_eq!(tree.entry("web").soft_restarts, Attempts { ok: 1, failed: 2, ..Attempts::default() });
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_once_with_what_comes_next() {
    let tree = Tree::boot(NESTED).await;
    tree.crash("first").await;
    let ends: Vec<_> = tree
        .plane
        .journal
        .since(0)
        .into_iter()
        .filter(|event| event.event.kind == EventKind::WorkerExited)
        .collect();
    assert_eq!(ends.len(), 1);
    assert!(ends[0].event.message.starts_with("exited with code 1"), "{}", ends[0].event.message);
    assert!(
        ends[0].event.message.contains("restarting at once; 9 of 10 restarts in 5m left"),
        "{}",
        ends[0].event.message
    );
}

/// A million restarts through the actors, after a warm-up: neither queues nor timers nor the board grow.
#[tokio::test]
#[ignore = "measures its process's memory, so it runs alone: tests/run does that"]
async fn a_million_restarts_grow_nothing() {
    let tree = Tree::boot(
        "[supervisor.root]\nintensity = { max_restarts = 100000, within = \"100ms\" }\n[defaults.worker]\n\
         backoff = { first = \"0s\" }\n[worker.web]\ncommand = [\"x\"]\n",
    )
    .await;
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let (warm, rounds) = (50_000, 1_000_000);
    let mut before = 0;
    for round in 0..warm + rounds {
        if round == warm {
            before = resident();
        }
        let gone = tree.stage.lock().unwrap().live.remove("web");
        if let Some((reporter, incarnation)) = gone {
            reporter(incarnation, WorkerReport::Exited { exit: Exit::Exited { code: 1 } });
        }
        while !tree.stage.lock().unwrap().live.contains_key("web") {
            tokio::task::yield_now().await;
        }
        tree.stage.lock().unwrap().log.clear();
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes in {rounds} restarts");
}
