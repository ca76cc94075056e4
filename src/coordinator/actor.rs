//! The coordinator actor: what is seen goes into records, verdicts come out.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::config::reach::QUIET;
use crate::config::{Settings, WorkerSettings};
use crate::health::{Health, Observation, OwnClock, RecordRules};
use crate::id::{Incarnation, InstanceId, Name};
use crate::probe::{Found, Means};

use super::alarm::Alarm;
use super::case::{Case, changed, looks_alike};
use super::inbox::{Inbox, News};
use super::rounds::Schedule;
use super::rules::shared;
use super::sinks::{CoordinatorArguments, Sinks};
use super::sweep::{self, SWEEP, built_in};

/// The least in which own time is counted while nobody has, and after which a probe that broke is made anew.
pub(super) const TURN: Duration = Duration::from_secs(5);
/// A supervisor hears this often that somebody is still unwell.
const URGE: Duration = Duration::from_secs(1);

/// After news it rests before it looks for more: whoever tells it stands in the midst of a restart, and waking this
/// thread three times for each would take longer than the restart itself.
const REST: Duration = Duration::from_millis(2);
/// So many times as long as the news took it rests, in a storm of them.
const RESTS: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(50);

/// Which start, and by which rules it is looked at.
pub(super) type Rules = (Incarnation, Arc<RecordRules>);
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
    pub(super) sinks: Sinks,
    inbox: Inbox,
    pub(super) means: Means,
    pub(super) workers_dir: PathBuf,
    /// In boxes: the table is half empty.
    pub(super) cases: HashMap<InstanceId, Box<Case>>,
    pub(super) clock: OwnClock,
    /// Of whom time alone may change what is thought; whoever is gone leaves it at the next tick.
    pub(super) restless: HashSet<InstanceId>,
    /// When probes are due that are no actors.
    pub(super) schedule: Schedule,
    pub(super) ticking: bool,
    /// The settings have changed since everybody was last compared with them.
    changed: bool,
    /// A probe broke and is not made anew yet.
    broken: bool,
    halts_are_told: bool,
    /// When the processes are due, and who says so.
    due: Duration,
    alarm: Alarm,
    /// How long it is from one look at them to the next, and how long it usually is.
    pub(super) pause: Duration,
    usual: Duration,
    pub(super) settings: Arc<Settings>,
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
            restless: HashSet::new(),
            schedule: Schedule::default(),
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
            CoordinatorMsg::Tick => state.tick(&myself, now).await,
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
        self.arrange(myself, &instance, now).await;
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

    fn sweep(&mut self, myself: &ActorRef<CoordinatorMsg>, due: Duration, now: Duration) {
        if !self.alarm.rang(due) {
            return;
        }
        let own = self.clock.own(now);
        let interval = self.settings.interval;
        let cases = self.cases.values().map(Box::as_ref);
        let found = sweep::look(&self.means.sampler, cases, interval, self.halts_are_told);
        let (mut again, mut stirs, mut usual) = (false, false, interval.unwrap_or(SWEEP).min(SWEEP));
        let mut unsettled = Vec::new();
        // In the same order as before: nobody has come or gone meanwhile.
        for (case, seen) in self.cases.values_mut().zip(found) {
            let before = case.seen.map(|seen| seen.usage);
            let changes = seen.is_some_and(|seen| sweep::note(case, seen, &self.means.sampler, own, now));
            again |= case.fails();
            usual = usual.min(case.pace.unwrap_or(usual));
            let was_well = case.told.as_ref().is_some_and(|told| told.issues.is_empty());
            stirs |= changes || !was_well || case.seen.map(|seen| seen.usage) != before;
            if changes || !was_well {
                unsettled.push(case.instance.clone());
            }
        }
        unsettled.iter().for_each(|instance| self.judge(instance, now));
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
            self.arrange(myself, &instance, now).await;
        }
        anew.iter().for_each(|instance| self.judge(instance, now));
        self.schedule.tidy_now(&self.cases);
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
    pub(super) fn judge(&mut self, instance: &InstanceId, now: Duration) {
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
        let was_blind = case.told.as_ref().map_or((false, false), |told| (told.ill_seen(), told.dim));
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
            None if (verdict.ill_seen(), verdict.dim) != was_blind => {
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
        if case.is_restless() {
            self.restless.insert(instance.clone());
        }
    }
}

fn by_name(settings: &Settings) -> HashMap<Name, Arc<WorkerSettings>> {
    settings.workers.iter().map(|worker| (worker.name.clone(), Arc::clone(worker))).collect()
}
