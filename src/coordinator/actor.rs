//! The coordinator actor: what is seen goes into records, verdicts come out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::config::reach::QUIET;
use crate::config::{Settings, WorkerSettings};
use crate::health::{Grade, Health, Observation, OwnClock, RecordRules};
use crate::id::{Incarnation, InstanceId, Name};
use crate::probe::{Found, Means, ProbeActor, ProbeArguments, Times, make};

use super::alarm::Alarm;
use super::case::{Case, changed, looks_alike};
use super::inbox::{Inbox, News};
use super::rules::{places, shared};
use super::sinks::{CoordinatorArguments, Sinks};
use super::sweep::{self, SWEEP, built_in};

/// How often time alone is looked at, while somebody has a heartbeat or a probe.
const TICK: Duration = Duration::from_millis(250);
/// The least in which own time is counted while nobody has, and after which a probe that broke is made anew.
const TURN: Duration = Duration::from_secs(5);
/// A supervisor hears this often that somebody is still unwell.
const URGE: Duration = Duration::from_secs(1);

/// After news it rests before it looks for more: whoever tells it stands in the midst of a restart, and waking this
/// thread three times for each would take longer than the restart itself.
const REST: Duration = Duration::from_millis(2);
/// So many times as long as the news took it rests, in a storm of them.
const RESTS: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(50);

/// Which start, and by which rules it is looked at.
type Rules = (Incarnation, Arc<RecordRules>);
/// What the coordinator is told.
pub(crate) enum CoordinatorMsg {
    /// Something became of incarnations; see [`Inbox`].
    News,
    /// A probe has looked.
    Observed(InstanceId, Rules, Observation),
    /// The settings have changed, or a probe broke a while ago.
    Changed,
    /// Time has passed.
    Tick,
    /// The processes were to be due then.
    Sweep(Duration),
    /// A process was halted.
    Halted(u32),
}

/// What the coordinator keeps.
pub(crate) struct CoordinatorState {
    sinks: Sinks,
    inbox: Inbox,
    means: Means,
    workers_dir: PathBuf,
    /// In boxes: the table is half empty.
    cases: HashMap<InstanceId, Box<Case>>,
    clock: OwnClock,
    ticking: bool,
    /// The settings have changed since everybody was last compared with them.
    changed: bool,
    /// A probe broke and is not made anew yet.
    broken: bool,
    halts_are_told: bool,
    /// When the processes are due, and who says so.
    due: Duration,
    alarm: Alarm,
    /// How long it is from one look at them to the next, and how long it usually is.
    pause: Duration,
    usual: Duration,
    settings: Arc<Settings>,
    /// The rules that were made last: those of many workers are the same.
    rules: Option<Arc<RecordRules>>,
    workers: HashMap<Name, Arc<WorkerSettings>>,
}

/// The actor; everything it keeps is in [`CoordinatorState`].
pub(crate) struct Coordinator;

impl Actor for Coordinator {
    type Msg = CoordinatorMsg;
    type State = CoordinatorState;
    type Arguments = CoordinatorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        arguments: CoordinatorArguments,
    ) -> Result<CoordinatorState, ActorProcessingErr> {
        let CoordinatorArguments { sinks, inbox, means, workers_dir } = arguments;
        let (now, settings) = ((sinks.now)(), (sinks.settings)());
        let bell = myself.clone();
        let listener = Box::new(move |pid| bell.send_message(CoordinatorMsg::Halted(pid)).is_ok());
        let halts_are_told = means.processes.hear_halts(listener);
        let mut state = CoordinatorState {
            workers: by_name(&settings),
            settings,
            rules: None,
            sinks,
            inbox,
            means,
            workers_dir,
            cases: HashMap::new(),
            clock: OwnClock::new(now, SWEEP),
            ticking: false,
            changed: false,
            broken: false,
            halts_are_told,
            due: now + SWEEP,
            alarm: Alarm::default(),
            pause: SWEEP,
            usual: SWEEP,
        };
        state.set_alarm(&myself, now);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        message: CoordinatorMsg,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        let now = (state.sinks.now)();
        if let Some(halt) = state.clock.advance(now) {
            tracing::warn!(%halt, "what was judged in it is void");
            state.cases.values_mut().for_each(|case| case.record.interrupt());
        }
        match message {
            CoordinatorMsg::News => {
                let all = state.inbox.take();
                if !all.is_empty() {
                    for (instance, news) in all {
                        state.news(&myself, instance, news, now).await;
                    }
                    state.look_soon(&myself, now, state.usual);
                    let took = (state.sinks.now)().saturating_sub(now);
                    let rest = (took * RESTS).clamp(REST, LONGEST_REST);
                    drop(myself.send_after(rest, || CoordinatorMsg::News));
                }
            }
            CoordinatorMsg::Observed(instance, of, seen) => {
                state.observed(&myself, &instance, of, seen, now).await;
            }
            CoordinatorMsg::Changed => state.learn_changes(&myself, now).await,
            CoordinatorMsg::Tick => state.tick(&myself, now),
            CoordinatorMsg::Sweep(due) => state.sweep(&myself, due, now),
            CoordinatorMsg::Halted(pid) => state.halted(&myself, pid, now),
        }
        Ok(())
    }

    /// A probe that was killed is one that nobody wants any more; one that broke is made anew after a while.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<CoordinatorMsg>,
        event: ractor::SupervisionEvent,
        state: &mut CoordinatorState,
    ) -> Result<(), ActorProcessingErr> {
        if let ractor::SupervisionEvent::ActorFailed(cell, error) = event {
            tracing::error!(%error, "a probe broke; it is made anew");
            for case in state.cases.values_mut() {
                case.probes.retain(|(_, probe)| probe.get_id() != cell.get_id());
            }
            state.broken = true;
            drop(myself.send_after(TURN, || CoordinatorMsg::Changed));
        }
        Ok(())
    }
}

impl CoordinatorState {
    async fn news(
        &mut self,
        myself: &ActorRef<CoordinatorMsg>,
        instance: InstanceId,
        news: News,
        now: Duration,
    ) {
        let own = self.clock.own(now);
        if news.ended {
            self.cases.remove(&instance);
            return;
        }
        if let Some(pid) = news.begun {
            self.begin(&instance, news.incarnation, pid);
        }
        let Some(case) = self.cases.get_mut(&instance).filter(|case| case.incarnation == news.incarnation)
        else {
            return;
        };
        if let Some(pid) = news.main {
            case.set_main(pid);
        }
        if news.ready {
            case.ready = true;
            case.record.ready(own);
            // Who is ready runs; the sweep sees it again soon enough.
            case.record.observe(own, built_in(now, Found::pass("it runs")));
        }
        match news.says {
            Some(true) => case.record.beat(own),
            Some(false) => case.record.distress(own),
            None => {}
        }
        if news.moved {
            case.record.work().progressed(own);
        }
        if news.troubles > 0 {
            case.record.work().trouble(own, news.troubles.into());
        }
        self.arrange(myself, &instance).await;
        if self.cases.get(&instance).is_some_and(|case| case.wants_ticks()) {
            self.begin_ticking(myself);
        }
        self.judge(&instance, now);
    }

    fn begin(&mut self, instance: &InstanceId, incarnation: Incarnation, pid: Option<u32>) {
        self.learn_settings();
        let worker = self.workers.get(instance.worker()).cloned();
        let Some(worker) = worker.or_else(|| (self.sinks.worker)(instance.worker())) else {
            self.cases.remove(instance);
            return;
        };
        // After a restart they are those of the incarnation before.
        let before = self.cases.get(instance).filter(|case| Arc::ptr_eq(&case.worker, &worker));
        let rules = before.map_or_else(|| shared(&mut self.rules, &worker), |case| Arc::clone(&case.rules));
        let case = Case::new(instance.clone(), incarnation, worker, rules, pid);
        self.usual = self.usual.min(case.pace.unwrap_or(SWEEP));
        self.cases.insert(instance.clone(), Box::new(case));
    }

    async fn observed(
        &mut self,
        myself: &ActorRef<CoordinatorMsg>,
        instance: &InstanceId,
        (incarnation, rules): Rules,
        seen: Observation,
        now: Duration,
    ) {
        let (own, void) = (self.clock.own(now), self.clock.voids(seen.began, seen.ended));
        let Some(case) = self.cases.get_mut(instance) else { return };
        // Under other settings the same number is another probe.
        if case.incarnation != incarnation || !Arc::ptr_eq(&case.rules, &rules) {
            return;
        }
        if let Some(rules) = case.rules.probes.get(seen.probe) {
            (self.sinks.looked)(instance, incarnation, (Arc::clone(&rules.name), seen.clone()));
        }
        // Nothing bad that was seen over a halt proves anything; something good does.
        if void && matches!(seen.grade, Grade::Fail | Grade::Error) {
            return;
        }
        case.record.observe(own, seen);
        self.judge(instance, now);
        self.arrange(myself, instance).await;
    }

    /// Starts the probes that are to run now and ends the others.
    async fn arrange(&mut self, myself: &ActorRef<CoordinatorMsg>, instance: &InstanceId) {
        let Some(case) = self.cases.get_mut(instance) else { return };
        let record = &case.record;
        case.probes.retain(|(place, probe)| {
            let wanted = record.wants(*place);
            if !wanted {
                probe.kill();
            }
            wanted
        });
        let worker = Arc::clone(&case.worker);
        for (place, settings) in places(&worker) {
            let runs = case.probes.iter().any(|(running, _)| *running == place);
            if runs || !case.record.wants(place) {
                continue;
            }
            let Some(probe) = make(&settings.check, &self.means) else { continue };
            let (to, whom) = (myself.clone(), case.instance.clone());
            let of = (case.incarnation, Arc::clone(&case.rules));
            let arguments = ProbeArguments {
                number: place,
                times: Times {
                    initial_delay: settings.initial_delay,
                    period: self.settings.interval.unwrap_or(settings.period),
                    retry_period: settings.retry_period,
                    timeout: settings.timeout,
                },
                spread: spread(&case.instance, place),
                probe,
                patient: case.patient(&self.workers_dir),
                now: Arc::clone(&self.sinks.now),
                report: Arc::new(move |seen| {
                    // A coordinator that is gone judges nobody any more.
                    let _ = to.send_message(CoordinatorMsg::Observed(whom.clone(), of.clone(), seen));
                }),
            };
            match ProbeActor::spawn_linked(None, ProbeActor, arguments, myself.get_cell()).await {
                Ok((probe, _)) => case.probes.push((place, probe)),
                Err(error) => {
                    tracing::error!(instance = %case.instance, probe = settings.name, %error, "a probe cannot be started");
                }
            }
        }
    }

    fn tick(&mut self, myself: &ActorRef<CoordinatorMsg>, now: Duration) {
        let own = self.clock.own(now);
        let late = |case: &mut Box<Case>| {
            let unwell =
                case.told.as_ref().is_some_and(|told| told.unwell.is_some() || !told.issues.is_empty());
            (unwell || case.record.is_late(own)).then(|| case.instance.clone())
        };
        let due: Vec<InstanceId> = self.cases.values_mut().filter_map(late).collect();
        for instance in due {
            self.judge(&instance, now);
        }
        self.ticking = self.wants_ticks();
        if self.ticking {
            drop(myself.send_after(TICK, || CoordinatorMsg::Tick));
        } else {
            self.clock.set_period(self.pause.max(TURN));
        }
    }

    /// Without a heartbeat or a probe nothing happens between sweeps, and an idle runtime sleeps.
    fn begin_ticking(&mut self, myself: &ActorRef<CoordinatorMsg>) {
        if !self.ticking {
            self.ticking = true;
            self.clock.set_period(TICK);
            drop(myself.send_after(TICK, || CoordinatorMsg::Tick));
        }
    }

    fn wants_ticks(&self) -> bool {
        self.cases.values().any(|case| case.wants_ticks())
    }

    fn sweep(&mut self, myself: &ActorRef<CoordinatorMsg>, due: Duration, now: Duration) {
        if !self.alarm.rang(due) {
            return;
        }
        let own = self.clock.own(now);
        let interval = self.settings.interval;
        let cases = self.cases.values().map(Box::as_ref);
        let found = sweep::look(&self.means.sampler, cases, interval, self.halts_are_told);
        let all: Vec<InstanceId> = self.cases.keys().cloned().collect();
        let (mut again, mut stirs, mut usual) = (false, false, interval.unwrap_or(SWEEP).min(SWEEP));
        for (instance, seen) in all.into_iter().zip(found) {
            let Some(case) = self.cases.get_mut(&instance) else { continue };
            let before = case.seen.map(|seen| seen.usage);
            let changes = seen.is_some_and(|seen| sweep::note(case, seen, &self.means.sampler, own, now));
            again |= case.fails();
            usual = usual.min(case.pace.unwrap_or(usual));
            let was_well = case.told.as_ref().is_some_and(|told| told.issues.is_empty());
            stirs |= changes || !was_well || case.seen.map(|seen| seen.usage) != before;
            if changes || !was_well {
                self.judge(&instance, now);
            }
        }
        self.usual = usual;
        self.pause = if again {
            sweep::AGAIN.min(usual)
        } else if stirs || usual < SWEEP || !self.halts_are_told {
            usual
        } else {
            (2 * self.pause).clamp(usual, QUIET)
        };
        self.due = now + self.pause;
        self.set_alarm(myself, now);
    }

    /// The processes are due in that time at the latest.
    fn look_soon(&mut self, myself: &ActorRef<CoordinatorMsg>, now: Duration, within: Duration) {
        if self.due > now + within {
            (self.due, self.pause) = (now + within, within);
            self.set_alarm(myself, now);
        }
    }

    fn set_alarm(&mut self, myself: &ActorRef<CoordinatorMsg>, now: Duration) {
        self.alarm.set(myself, self.due, now);
        if !self.ticking {
            self.clock.set_period(self.pause.max(TURN));
        }
    }

    /// Looks at once, and soon again.
    fn halted(&mut self, myself: &ActorRef<CoordinatorMsg>, pid: u32, now: Duration) {
        let own = self.clock.own(now);
        let Some(case) = self.cases.values_mut().find(|case| case.main() == Some(pid)) else { return };
        let seen = sweep::look_at(&self.means.sampler, case);
        if seen.is_some_and(|seen| sweep::note(case, seen, &self.means.sampler, own, now)) {
            self.look_soon(myself, now, sweep::AGAIN);
            let Some(case) = self.cases.values_mut().find(|case| case.main() == Some(pid)) else { return };
            let instance = case.instance.clone();
            self.judge(&instance, now);
        }
    }

    /// Changed settings hold at once for what runs; and a probe that broke runs again.
    async fn learn_changes(&mut self, myself: &ActorRef<CoordinatorMsg>, now: Duration) {
        self.learn_settings();
        let changed = std::mem::take(&mut self.changed);
        if !changed && !std::mem::take(&mut self.broken) {
            return;
        }
        self.look_soon(myself, now, Duration::ZERO);
        let own = self.clock.own(now);
        let (all, mut anew): (Vec<InstanceId>, _) = (self.cases.keys().cloned().collect(), Vec::new());
        for instance in all {
            let Some(case) = self.cases.get_mut(&instance) else { continue };
            let new = self.workers.get(instance.worker()).filter(|new| changed && case.differs(new));
            if let Some(new) = new {
                let rules = shared(&mut self.rules, new);
                **case = case.anew(Arc::clone(new), rules, own, now);
                anew.push(instance.clone());
            }
            self.arrange(myself, &instance).await;
        }
        anew.iter().for_each(|instance| self.judge(instance, now));
        if self.wants_ticks() {
            self.begin_ticking(myself);
        }
    }

    fn learn_settings(&mut self) {
        let settings = (self.sinks.settings)();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.workers = by_name(&settings);
            self.settings = settings;
            self.changed = true;
        }
    }

    /// Judges one, and tells whoever it concerns.
    fn judge(&mut self, instance: &InstanceId, now: Duration) {
        let own = self.clock.own(now);
        let Some(case) = self.cases.get_mut(instance) else { return };
        let verdict = Arc::new(case.record.judge(own));
        let same = case.told.as_ref().is_some_and(|told| looks_alike(told, &verdict));
        if !same {
            (self.sinks.shown)(instance, case.incarnation, Arc::clone(&verdict));
        }
        if verdict.started && !case.ready && !case.passed_on && case.rules.ready_by.is_some() {
            case.passed_on = true;
            (self.sinks.ready)(instance, case.incarnation, ());
        }
        let was_unwell = case.told.as_ref().is_some_and(|told| told.unwell.is_some());
        let was_blind = case.told.as_ref().map_or((false, false), |told| (told.blind, told.unseen));
        let due = case.urged.is_none_or(|at| now.saturating_sub(at) >= URGE);
        // Whoever verifies a step waits for the first word, and must know when there is none any more.
        let holds = verdict.holds;
        let news = (case.rules.probes.len() > 1 || case.rules.beats) && case.holds != holds;
        match verdict.unwell {
            Some(_) if due => {
                (case.urged, case.holds) = (Some(now), false);
                (self.sinks.judged)(instance, case.incarnation, Arc::clone(&verdict));
            }
            None if was_unwell || news => {
                (case.urged, case.holds) = (None, holds);
                (self.sinks.judged)(instance, case.incarnation, Arc::clone(&verdict));
            }
            None if (verdict.blind, verdict.unseen) != was_blind => {
                (self.sinks.judged)(instance, case.incarnation, Arc::clone(&verdict));
            }
            Some(_) | None => {}
        }
        // That it is well once it is ready says its readiness already.
        let news = match case.reported {
            Some(reported) => reported != verdict.health,
            None => !matches!(verdict.health, Health::Unknown | Health::Healthy),
        };
        if news {
            let before = case.reported.unwrap_or(Health::Unknown);
            (self.sinks.event)(changed(case, before, &verdict));
        }
        if news || verdict.health == Health::Healthy {
            case.reported = Some(verdict.health);
        }
        case.told = Some(verdict);
    }
}

fn by_name(settings: &Settings) -> HashMap<Name, Arc<WorkerSettings>> {
    settings.workers.iter().map(|worker| (worker.name.clone(), Arc::clone(worker))).collect()
}

/// 0..1, the same for the same probe: many that start together do not look together.
fn spread(instance: &InstanceId, place: usize) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ place as u64;
    for byte in instance.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
