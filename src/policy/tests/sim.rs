//! A world for tests: starts and stops are answered at once unless the test says otherwise, and everything
//! the core does is one line of a log.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;

pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn code(code: i32) -> Exit {
    Exit::Exited { code }
}

/// An abnormal end.
pub(super) fn crash() -> Exit {
    code(1)
}

/// `"id restart flags…"`: restart is permanent unless said; flags: significant, supervisor, held, stopped,
/// brutal, infinity.
pub(super) fn child(words: &str) -> ChildSpec {
    let mut words = words.split(' ');
    let mut spec = ChildSpec {
        id: Arc::from(words.next().unwrap_or_default()),
        restart: Restart::Permanent,
        shutdown: Shutdown::Timeout(secs(10)),
        kind: ChildKind::Worker,
        significant: false,
        backoff: Backoff {
            first: Duration::ZERO,
            factor: 2.0,
            max: secs(60),
            jitter: 0.0,
            reset_after: secs(600),
        },
        exit_codes: ExitCodes { normal: Arc::from([0]), fatal: Arc::from([78]) },
        start_timeout: Some(secs(30)),
        min_uptime: Duration::ZERO,
        verify: secs(10),
        ladder: None,
        heard_within: Duration::ZERO,
        pool: None,
        held: false,
        stopped: false,
        paused: None,
        incarnation: Incarnation::NONE,
    };
    for word in words {
        match word {
            "transient" => spec.restart = Restart::Transient,
            "temporary" => spec.restart = Restart::Temporary,
            "significant" => spec.significant = true,
            "supervisor" => spec.kind = ChildKind::Supervisor,
            "held" => spec.held = true,
            "stopped" => spec.stopped = true,
            "paused" => spec.paused = Some(Pause { until: None }),
            "brutal" => spec.shutdown = Shutdown::BrutalKill,
            "infinity" => spec.shutdown = Shutdown::Infinity,
            "backoff" => spec.backoff.first = Duration::from_millis(200),
            "uptime" => spec.min_uptime = secs(5),
            _ => assert_eq!(word, "permanent"),
        }
    }
    spec
}

pub(super) struct Sim {
    pub(super) core: Supervisor,
    pub(super) now: Time,
    log: Vec<String>,
    mailbox: VecDeque<Fact>,
    outcomes: HashMap<String, VecDeque<&'static str>>,
    /// Children whose starts and stops the test answers itself.
    silent: HashSet<String>,
    names: HashMap<ChildKey, String>,
    requests: u64,
    /// Whether what recovery asks for is answered and written down.
    pub(super) heal: bool,
    /// The answer to every question for leave.
    pub(super) leave: Result<usize, &'static str>,
    /// What comes of whatever is done for a step.
    pub(super) performed: Result<(), Undone>,
    /// Whether who looks at a child says that it has.
    pub(super) gathers: bool,
}

impl Sim {
    pub(super) fn with(spec: SupervisorSpec, children: &[&str]) -> Self {
        Self::of(spec, children.iter().map(|words| child(words)).collect())
    }

    pub(super) fn of(spec: SupervisorSpec, children: Vec<ChildSpec>) -> Self {
        Self {
            core: Supervisor::new(spec, children).expect("a valid specification"),
            now: secs(1000),
            log: Vec::new(),
            mailbox: VecDeque::new(),
            outcomes: HashMap::new(),
            silent: HashSet::new(),
            names: HashMap::new(),
            requests: 0,
            heal: false,
            leave: Ok(0),
            performed: Ok(()),
            gathers: true,
        }
    }

    pub(super) fn spec(
        strategy: RestartStrategy,
        on_exhausted: OnExhausted,
        max_restarts: u32,
    ) -> SupervisorSpec {
        SupervisorSpec {
            strategy,
            intensity: Intensity { max_restarts, within: secs(5) },
            on_exhausted,
            retry: Some(RetryPark { first: secs(30), every: secs(100) }),
            auto_shutdown: AutoShutdown::Never,
            seed: 1,
        }
    }

    /// OTP's rules; booted.
    pub(super) fn otp(strategy: RestartStrategy, max_restarts: u32, children: &[&str]) -> Self {
        Self::with(Self::spec(strategy, OnExhausted::Escalate, max_restarts), children).booted()
    }

    /// Quarantine; booted.
    pub(super) fn parking(strategy: RestartStrategy, max_restarts: u32, children: &[&str]) -> Self {
        Self::with(Self::spec(strategy, OnExhausted::Quarantine, max_restarts), children).booted()
    }

    pub(super) fn booted(mut self) -> Self {
        self.tell(Fact::Boot);
        self.log.clear();
        self
    }

    pub(super) fn key(&self, id: &str) -> ChildKey {
        self.core.key(id).expect("a known child")
    }

    pub(super) fn view(&self, id: &str) -> ChildView<'_> {
        self.core.child(self.key(id)).expect("a known child")
    }

    pub(super) fn phase(&self, id: &str) -> Phase {
        self.view(id).phase
    }

    /// Every child as `id:phase`, in start order.
    pub(super) fn phases(&self) -> String {
        let views = self.core.children().filter_map(|key| self.core.child(key));
        views.map(|view| format!("{}:{}", view.spec.id, view.phase.word())).collect::<Vec<_>>().join(" ")
    }

    /// How the next starts of a child end: `ok ignore fail shortage fatal`.
    pub(super) fn script(&mut self, id: &str, outcomes: &[&'static str]) {
        self.outcomes.insert(id.to_owned(), outcomes.iter().copied().collect());
    }

    pub(super) fn silence(&mut self, id: &str) {
        self.silent.insert(id.to_owned());
    }

    pub(super) fn unsilence(&mut self, id: &str) {
        self.silent.remove(id);
    }

    /// What was done since the last look.
    pub(super) fn did(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }

    /// The same without reports and replies.
    pub(super) fn moves(&mut self) -> String {
        let keep = |line: &String| !line.starts_with("report") && !line.starts_with("reply");
        std::mem::take(&mut self.log).into_iter().filter(keep).collect::<Vec<_>>().join(", ")
    }

    /// A fact and all that the world answers to it; retries stay in the mailbox.
    pub(super) fn tell(&mut self, fact: Fact) {
        let mut facts = VecDeque::from([fact]);
        while let Some(fact) = facts.pop_front() {
            for action in self.core.on_fact(self.now, fact) {
                let answer = self.act(action);
                facts.extend(answer);
            }
        }
    }

    /// Delivers everything that is in the mailbox, retries that come meanwhile too.
    pub(super) fn drain(&mut self) {
        while let Some(fact) = self.mailbox.pop_front() {
            self.tell(fact);
        }
    }

    /// Delivers one retry.
    pub(super) fn retry(&mut self) {
        let fact = self.mailbox.pop_front().expect("a parked retry");
        self.tell(fact);
    }

    /// Lets time pass, with a tick at every deadline.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.next_due().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.tell(Fact::Tick);
        }
        self.now = end;
    }

    pub(super) fn exited(&self, id: &str, exit: Exit) -> Fact {
        Fact::Exited { child: self.key(id), incarnation: self.view(id).incarnation, exit }
    }

    pub(super) fn exit(&mut self, id: &str, exit: Exit) {
        let fact = self.exited(id, exit);
        self.tell(fact);
    }

    pub(super) fn ready(&mut self, id: &str) {
        let incarnation = self.view(id).incarnation;
        self.tell(Fact::Ready { child: self.key(id), incarnation });
    }

    pub(super) fn held(&mut self, id: &str, held: bool) {
        self.tell(Fact::Held { child: self.key(id), held });
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.tell(Fact::Request { id, request });
    }

    pub(super) fn add(&mut self, words: &str) {
        self.ask(Request::Add { spec: Box::new(child(words)) });
    }

    fn act(&mut self, action: Action) -> Option<Fact> {
        match action {
            Action::Start { child, incarnation } => return self.start(child, incarnation),
            Action::Stop { child, incarnation, how } => {
                let word = if how == StopHow::Kill { "kill" } else { "stop" };
                self.say(word, child, Some(incarnation));
                let exit = if how == StopHow::Kill { Exit::Killed } else { Exit::Stopped };
                let answers = !self.silent.contains(&self.names[&child]);
                return answers.then_some(Fact::Exited { child, incarnation, exit });
            }
            Action::Retry { child } => self.mailbox.push_back(Fact::Retry { child }),
            Action::Report { kind, child, incarnation, .. } => {
                let kind = match kind {
                    ReportKind::ChildTerminated => "report terminated",
                    ReportKind::StartError => "report start_error",
                    ReportKind::ShutdownError => "report shutdown_error",
                    ReportKind::GaveUp => "report gave_up",
                };
                self.say(kind, child, Some(incarnation));
            }
            Action::Changed { .. } | Action::Booted => {}
            Action::Added { child } => self.say("added", child, None),
            Action::Respec { .. } => {}
            Action::Removed { child } => self.say("removed", child, None),
            Action::Recovery { child, act, .. } if self.heal => return self.recover(child, *act),
            Action::Recovery { .. } => {}
            Action::Reply { reply, .. } => self.log.push(format!("reply {}", reply_word(&reply))),
            Action::Finished { ended } => self.log.push(format!("finished {}", ended_word(&ended))),
        }
        None
    }

    fn recover(&mut self, child: ChildKey, act: RecoveryAct) -> Option<Fact> {
        let name = self.names.get(&child).cloned().unwrap_or_default();
        let line = match act {
            RecoveryAct::Ask { question, allowed } => {
                let first = allowed.first().map_or(0, |(place, _)| *place);
                let answer = self.leave.map(|place| (if place == 0 { first } else { place }, String::new()));
                return Some(Fact::Leave { child, question, answer });
            }
            RecoveryAct::Do { incarnation, work: Work::Gather, .. } if !self.gathers => {
                self.say("gather", child, Some(incarnation));
                return None;
            }
            RecoveryAct::Do { task, incarnation, work, .. } => {
                let (word, result) = match work {
                    Work::Gather => ("gather".to_owned(), Ok(())),
                    Work::Carry(strategy) => (format!("do {strategy}"), self.performed.clone()),
                };
                self.say(&word, child, Some(incarnation));
                return Some(Fact::Performed { child, task, result });
            }
            RecoveryAct::Return { .. } => return None,
            RecoveryAct::Opened { why, .. } => format!("opened {name}: {}", why.word()),
            RecoveryAct::Skipped { strategy, reason } => format!("skipped {strategy} ({reason})"),
            RecoveryAct::Waits { what: Waits::Brake(reason), .. } => format!("waits: {reason}"),
            RecoveryAct::Waits { what, strategy, .. } => {
                let of = strategy.map(|strategy| format!(" of {strategy}")).unwrap_or_default();
                format!("waits: {}{of}", format!("{what:?}").to_lowercase())
            }
            RecoveryAct::Began { strategy, .. } => format!("began {strategy}"),
            RecoveryAct::Ended { strategy, outcome, .. } => format!("ended {strategy}: {}", outcome.word()),
            RecoveryAct::Closed { outcome, text } => format!("closed: {} ({text})", outcome.word()),
            RecoveryAct::TrialHeld { .. } => "trial held".to_owned(),
            RecoveryAct::Breaker { state } => format!("breaker {}", state.word()),
        };
        self.log.push(line);
        None
    }

    fn start(&mut self, child: ChildKey, incarnation: Incarnation) -> Option<Fact> {
        let id = self.core.child(child).map(|view| view.spec.id.to_string()).unwrap_or_default();
        self.names.insert(child, id.clone());
        self.say("start", child, Some(incarnation));
        if self.silent.contains(&id) {
            return None;
        }
        let outcome = self.outcomes.get_mut(&id).and_then(VecDeque::pop_front).unwrap_or("ok");
        let detail = outcome.to_owned();
        let failed = |failure| Fact::StartFailed { child, incarnation, exit: Exit::StartFailed(failure) };
        Some(match outcome {
            "ok" => Fact::Ready { child, incarnation },
            "ignore" => Fact::Ignored { child, incarnation },
            "shortage" => failed(StartFailure::Resources { detail }),
            "fatal" => failed(StartFailure::BeforeReady { ended: Box::new(code(78)) }),
            _ => failed(StartFailure::System { detail }),
        })
    }

    fn say(&mut self, what: &str, child: ChildKey, incarnation: Option<Incarnation>) {
        let name = self.names.get(&child).cloned().unwrap_or_default();
        let number = incarnation.map(|n| format!("#{n}")).unwrap_or_default();
        self.log.push(format!("{what} {name}{number}"));
    }
}

fn reply_word(reply: &Reply) -> String {
    match reply {
        Ok(Done::Ok) => "ok".into(),
        Ok(Done::Up(..)) => "up".into(),
        Ok(Done::Ignored) => "ignored".into(),
        Err(Refused::StartFailed(_)) => "start_failed".into(),
        Err(refused) => format!("{refused:?}"),
    }
}

fn ended_word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Shutdown => "shutdown",
        Ended::GaveUp { .. } => "gave_up",
        Ended::AutoShutdown => "auto_shutdown",
        Ended::BootFailed { .. } => "boot_failed",
    }
}
