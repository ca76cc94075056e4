//! Recorded traces of the real Erlang supervisor, played through the real actors under paused time: the order
//! of starts and stops must be the same. The policy alone is compared line by line elsewhere; this shows that
//! the actors around it add and lose nothing.
//!
//! Left out, because nothing of it can be reached through the actors: `simple_one_for_one`, and children
//! that ignore a stop (their trace depends on real milliseconds).

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::exit::{Exit, StartFailure};
use crate::id::{Incarnation, InstanceId, Name};
use crate::policy::{
    AutoShutdown, Backoff, ChildKey, ChildKind, ChildSpec, ExitCodes, Fact, Intensity, OnExhausted, Request,
    Restart, RestartStrategy, Shutdown, SupervisorSpec,
};
use crate::recovery::Ladder;
use crate::telemetry::Journal;
use crate::worker::{Reporter, Runner, WorkerReport};

use super::actor::{Added, Outcome, Seed, SupervisorArguments, SupervisorMsg, Upward};
use super::asked::Asked;
use super::board::{Board, Operator};
use super::line::Address;
use super::plane::Plane;
use super::tree::Who;

/// What the scripted children of one case share.
#[derive(Default)]
struct Stage {
    log: Vec<String>,
    generation: HashMap<String, u64>,
    script: HashMap<String, VecDeque<String>>,
    on_stop: HashMap<String, String>,
    live: HashMap<String, (Reporter, Incarnation)>,
    parked: VecDeque<(Address, ChildKey)>,
    finished: bool,
}

type Shared = Arc<Mutex<Stage>>;

/// A child that does what the trace says.
struct Scripted {
    id: String,
    stage: Shared,
    reporter: Reporter,
    current: Incarnation,
    generation: u64,
}

impl Runner for Scripted {
    fn start(&mut self, incarnation: Incarnation) {
        let mut stage = self.stage.lock().unwrap();
        let generation = stage.generation.entry(self.id.clone()).or_default();
        *generation += 1;
        self.generation = *generation;
        self.current = incarnation;
        let outcome =
            stage.script.get_mut(&self.id).and_then(VecDeque::pop_front).unwrap_or_else(|| "ok".to_owned());
        stage.log.push(format!("start {}#{} {outcome}", self.id, self.generation));
        let report = match outcome.as_str() {
            "ok" => {
                stage.live.insert(self.id.clone(), (Arc::clone(&self.reporter), incarnation));
                WorkerReport::Ready
            }
            "ignore" => WorkerReport::Skipped,
            detail => {
                let exit = Exit::StartFailed(StartFailure::System { detail: detail.to_owned() });
                WorkerReport::StartFailed { exit, hint: None }
            }
        };
        drop(stage);
        (self.reporter)(incarnation, report);
    }

    fn stop(&mut self) {
        let mut stage = self.stage.lock().unwrap();
        if stage.live.remove(&self.id).is_none() {
            return;
        }
        stage.log.push(format!("signal {}#{} shutdown", self.id, self.generation));
        let reason =
            stage.on_stop.get(&self.id).and_then(|text| text.strip_prefix("exit:")).map(str::to_owned);
        drop(stage);
        let exit = reason.map_or(Exit::Stopped, |reason| exit_of(&reason));
        (self.reporter)(self.current, WorkerReport::Exited { exit });
    }

    fn kill(&mut self) {
        let mut stage = self.stage.lock().unwrap();
        if stage.live.remove(&self.id).is_none() {
            return;
        }
        stage.log.push(format!("signal {}#{} kill", self.id, self.generation));
        drop(stage);
        (self.reporter)(self.current, WorkerReport::Exited { exit: Exit::Signaled { signal: 9 } });
    }
}

fn exit_of(reason: &str) -> Exit {
    match reason {
        "normal" => Exit::Exited { code: 0 },
        "shutdown" | "shutdown_term" => Exit::Stopped,
        "kill" => Exit::Signaled { signal: 9 },
        _ => Exit::Exited { code: 1 },
    }
}

/// One case: its commands, and the starts and signals that Erlang answered.
#[derive(Default)]
struct Case {
    commands: Vec<Vec<String>>,
    expected: Vec<String>,
}

impl Case {
    fn playable(&self) -> bool {
        self.commands.iter().all(|command| match command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["sup", strategy, intensity, period, ref rest @ ..] => {
                let auto = rest.first().copied().unwrap_or("never");
                ["never", "any_significant", "all_significant"].contains(&auto)
                    && ["one_for_one", "one_for_all", "rest_for_one"].contains(&strategy)
                    && [intensity, period].iter().all(|word| word.parse::<u32>().is_ok())
            }
            ["child", _, _, shutdown, ..] | ["call", "start", _, _, shutdown, ..] => is_shutdown(shutdown),
            ["onstop", _, what] => what != "ignore",
            _ => true,
        })
    }
}

/// Specs that Erlang itself rejects never reach an actor; configuration rejects them first.
fn is_shutdown(word: &str) -> bool {
    ["infinity", "brutal_kill"].contains(&word) || word.parse::<u64>().is_ok()
}

/// Splits a recording at its `sup` commands.
///
/// Erlang also sends its signal to a child that has died already and whose end it has not read yet; there it
/// goes nowhere, and the actors do not send it at all. Such lines are left out.
fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut current: HashMap<String, String> = HashMap::new();
    let mut dead: Vec<String> = Vec::new();
    let mut rejected = false;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(command) = line.strip_prefix("> ") {
            rejected = lines.peek().is_some_and(|next| *next == "invalid");
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            if rejected {
                continue;
            }
            if words[0] == "sup" {
                cases.push(Case::default());
                current.clear();
                dead.clear();
            }
            if words[0].starts_with("exit") {
                let named = words[1..].iter().map(|word| word.split(':').next().unwrap_or(word));
                dead.extend(named.filter_map(|id| current.get(id).cloned()));
            }
            if let Some(case) = cases.last_mut() {
                case.commands.push(words);
            }
        } else if !rejected
            && (line.starts_with("start ") || line.starts_with("signal "))
            && let Some(case) = cases.last_mut()
        {
            let who = line.split(' ').nth(1).unwrap_or_default();
            let id = who.split('#').next().unwrap_or_default();
            current.insert(id.to_owned(), who.to_owned());
            if line.starts_with("start ") || !dead.iter().any(|dead| dead == who) {
                case.expected.push(line.to_owned());
            }
        }
    }
    cases
}

/// Plays one case and answers the starts and signals in their order.
struct Player {
    stage: Shared,
    plane: Arc<Plane>,
    origin: tokio::time::Instant,
    spec: Option<SupervisorSpec>,
    children: Vec<Seed>,
    root: Option<Address>,
}

impl Player {
    fn new() -> Self {
        let stage = Shared::default();
        let never: super::plane::RunnerFactory =
            Arc::new(|_, _, _, _| unreachable!("every seed brings its runner"));
        let mut plane = Plane::new(Board::new(), Journal::new(), never, 7);
        let parked = Arc::clone(&stage);
        plane.retries = Some(Arc::new(move |actor, child| {
            parked.lock().unwrap().parked.push_back((actor, child));
        }));
        let origin = tokio::time::Instant::now();
        Self { stage, plane: Arc::new(plane), origin, spec: None, children: Vec::new(), root: None }
    }

    async fn play(mut self, case: &Case) -> Vec<String> {
        for command in &case.commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            self.command(&words).await;
            settle().await;
            if self.stage.lock().unwrap().finished {
                self.root = None;
            }
        }
        if let Some(root) = self.root.take() {
            root.stop();
        }
        let stage = self.stage.lock().unwrap();
        stage.log.clone()
    }

    async fn command(&mut self, words: &[&str]) {
        match words {
            ["sup", strategy, intensity, period, rest @ ..] => {
                self.spec = Some(sup(strategy, intensity, period, rest.first().copied().unwrap_or("never")));
            }
            ["child", rest @ ..] => {
                let seed = self.seed(rest);
                self.children.push(seed);
            }
            ["script", id, outcomes] => {
                let outcomes = outcomes.split(',').map(str::to_owned).collect();
                self.stage.lock().unwrap().script.insert((*id).to_owned(), outcomes);
            }
            ["onstop", id, what] => {
                self.stage.lock().unwrap().on_stop.insert((*id).to_owned(), (*what).to_owned());
            }
            ["boot"] => self.boot().await,
            ["at", seconds] => self.at(seconds).await,
            ["exit", id, reason] => self.exit(id, reason),
            ["exits", pairs @ ..] => {
                for pair in pairs {
                    let (id, reason) = pair.split_once(':').unwrap();
                    self.exit(id, reason);
                }
            }
            ["retry"] => {
                let parked = self.stage.lock().unwrap().parked.pop_front();
                if let Some((actor, child)) = parked {
                    let _ = actor.send_message(SupervisorMsg::Fact(Fact::Retry { child }));
                }
            }
            // With an id alone it is for `simple_one_for_one`; elsewhere Erlang answers that this is no spec.
            ["call", "start", rest @ ..] if rest.len() >= 4 => self.add(rest),
            ["call", "terminate", id] => self.ask(id, |child| Request::Terminate { child }),
            ["call", "restart", id] => self.ask(id, |child| Request::Revive { child }),
            ["call", "delete", id] => self.ask(id, |child| Request::Delete { child }),
            ["stop"] => self.send(SupervisorMsg::Fact(Fact::Shutdown)),
            _ => {}
        }
    }

    async fn boot(&mut self) {
        let stage = Arc::clone(&self.stage);
        stage.lock().unwrap().finished = false;
        let upward: Upward = Box::new(move |outcome| {
            if matches!(outcome, Outcome::Finished(..)) {
                stage.lock().unwrap().finished = true;
            }
        });
        let arguments = SupervisorArguments {
            name: Name::root(),
            spec: self.spec.clone().unwrap(),
            children: self.children.clone(),
            plane: Arc::clone(&self.plane),
            upward,
        };
        // A spec that Erlang rejects too starts nothing.
        if let Ok(root) = Address::spawn(arguments).await {
            let _ = root.send_message(SupervisorMsg::Fact(Fact::Boot));
            self.root = Some(root);
        }
    }

    async fn at(&self, seconds: &str) {
        let whole = seconds.parse::<f64>().unwrap().floor();
        let target = self.origin + Duration::from_secs_f64(whole);
        tokio::time::advance(target.saturating_duration_since(tokio::time::Instant::now())).await;
    }

    fn exit(&self, id: &str, reason: &str) {
        let gone = self.stage.lock().unwrap().live.remove(id);
        if let Some((reporter, incarnation)) = gone {
            reporter(incarnation, WorkerReport::Exited { exit: exit_of(reason) });
        }
    }

    fn add(&self, words: &[&str]) {
        let (reply, _) = oneshot::channel();
        self.send(SupervisorMsg::Add(Box::new(Added { seed: self.seed(words), reply })));
    }

    fn ask(&self, id: &str, request: fn(ChildKey) -> Request) {
        let (reply, _) = oneshot::channel();
        let by = Operator { by: "trace".to_owned(), at: jiff::Timestamp::UNIX_EPOCH };
        let request = Box::new(request);
        self.send(SupervisorMsg::Asked(Box::new(Asked::new(id.to_owned(), request, by, reply))));
    }

    fn send(&self, message: SupervisorMsg) {
        if let Some(root) = &self.root {
            let _ = root.send_message(message);
        }
    }

    fn seed(&self, words: &[&str]) -> Seed {
        let spec = child(words);
        let id = words[0].to_owned();
        let stage = Arc::clone(&self.stage);
        let who = Who::Worker(InstanceId::single(Name::try_new(&id).unwrap()));
        let make = Arc::new(move |reporter: Reporter| -> Box<dyn Runner> {
            let (id, stage) = (id.clone(), Arc::clone(&stage));
            Box::new(Scripted { id, stage, reporter, current: Incarnation::NONE, generation: 0 })
        });
        Seed { spec, who, make, watched: true }
    }
}

fn sup(strategy: &str, intensity: &str, period: &str, auto: &str) -> SupervisorSpec {
    SupervisorSpec {
        strategy: match strategy {
            "one_for_all" => RestartStrategy::OneForAll,
            "rest_for_one" => RestartStrategy::RestForOne,
            _ => RestartStrategy::OneForOne,
        },
        intensity: Intensity {
            max_restarts: intensity.parse().unwrap(),
            within: Duration::from_secs(period.parse().unwrap()),
        },
        on_exhausted: OnExhausted::Escalate,
        retry: None,
        auto_shutdown: match auto {
            "any_significant" => AutoShutdown::AnySignificant,
            "all_significant" => AutoShutdown::AllSignificant,
            _ => AutoShutdown::Never,
        },
        seed: 7,
    }
}

fn child(words: &[&str]) -> ChildSpec {
    ChildSpec {
        id: Arc::from(words[0]),
        restart: match words[1] {
            "transient" => Restart::Transient,
            "temporary" => Restart::Temporary,
            _ => Restart::Permanent,
        },
        shutdown: match words[2] {
            "infinity" => Shutdown::Infinity,
            "brutal_kill" => Shutdown::BrutalKill,
            millis => Shutdown::Timeout(Duration::from_millis(millis.parse().unwrap())),
        },
        kind: if words[3] == "supervisor" { ChildKind::Supervisor } else { ChildKind::Worker },
        significant: words.len() > 4,
        backoff: Backoff {
            first: Duration::ZERO,
            factor: 1.0,
            max: Duration::ZERO,
            jitter: 0.0,
            reset_after: Duration::ZERO,
        },
        exit_codes: ExitCodes { normal: Arc::from([0]), fatal: Arc::from([]) },
        start_timeout: None,
        min_uptime: Duration::ZERO,
        verify: Duration::ZERO,
        // As the tree has it with `ladder = "none"`.
        ladder: Some(Arc::new(Ladder::none())),
        heard_within: Duration::ZERO,
        pool: None,
        held: false,
        stopped: false,
        paused: None,
        incarnation: Incarnation::NONE,
    }
}

/// Lets every actor run until none has anything left to do. A message crosses at most two actors, and a group
/// restart of the largest case has well under this many of them; no timer is involved, so the clock stands.
async fn settle() {
    for _ in 0..400 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn recorded_traces_give_the_same_order_through_the_actors() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otp/recorded");
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "expected"));
    files.sort();
    let mut played = 0;
    for file in files {
        for case in cases(&fs::read_to_string(&file).unwrap()).iter().filter(|case| case.playable()) {
            let got = Player::new().play(case).await;
            assert_eq!(got, case.expected, "{}: {:#?}", file.display(), case.commands);
            played += 1;
        }
    }
    assert!(played >= 200, "only {played} cases could be played");
}
