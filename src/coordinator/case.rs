//! One incarnation as the coordinator knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ractor::ActorRef;

use crate::cause::Cause;
use crate::config::WorkerSettings;
use crate::config::reach::pace;
use crate::event::{Event, EventKind};
use crate::health::{Health, Record, RecordRules, Verdict};
use crate::id::{Incarnation, InstanceId};
use crate::probe::{Found, Patient, ProbeMsg};
use crate::telemetry::{Condition, Seen};

use super::rounds::Round;
use super::sweep::built_in;

/// One incarnation.
pub(super) struct Case {
    pub(super) instance: InstanceId,
    pub(super) incarnation: Incarnation,
    pub(super) worker: Arc<WorkerSettings>,
    pub(super) rules: Arc<RecordRules>,
    pub(super) record: Record,
    pub(super) pid: Arc<AtomicU32>,
    /// What was seen of its process tree last.
    pub(super) seen: Option<Seen>,
    /// Its probes that run, by their place among the rules.
    pub(super) probes: Vec<(usize, ActorRef<ProbeMsg>)>,
    /// And those that are looked at in rounds.
    pub(super) rounds: Vec<Round>,
    pub(super) ready: bool,
    /// Its readiness has been passed on.
    pub(super) passed_on: bool,
    /// What was told last.
    pub(super) told: Option<Arc<Verdict>>,
    /// The health that the last event about it told.
    pub(super) reported: Option<Health>,
    /// Whether it was well when its supervisor was last told.
    pub(super) holds: bool,
    /// When its supervisor was last told that it is unwell.
    pub(super) urged: Option<Duration>,
    /// How often what it uses is read, where its marks want more than usual.
    pub(super) pace: Option<Duration>,
    /// Processor time when its figures were last compared with marks, and when that was.
    pub(super) figures: Option<(f64, Instant)>,
}

impl Case {
    /// One that has just begun.
    pub(super) fn new(
        instance: InstanceId,
        incarnation: Incarnation,
        worker: Arc<WorkerSettings>,
        rules: Arc<RecordRules>,
        pid: Option<u32>,
    ) -> Self {
        Self {
            record: Record::new(Arc::clone(&rules)),
            seen: None,
            pid: Arc::new(AtomicU32::new(pid.unwrap_or(0))),
            instance,
            incarnation,
            pace: pace(&worker),
            worker,
            rules,
            probes: Vec::new(),
            rounds: Vec::new(),
            ready: false,
            passed_on: false,
            told: None,
            reported: None,
            holds: false,
            urged: None,
            figures: None,
        }
    }

    /// The same incarnation, from now on looked at in this way. What was told of it stands until something else is told:
    /// whoever was unwell by a check that is gone must be known to be so no longer.
    pub(super) fn anew(
        &mut self,
        worker: Arc<WorkerSettings>,
        rules: Arc<RecordRules>,
        own: Duration,
        now: Duration,
    ) -> Self {
        let mut anew = Self::new(self.instance.clone(), self.incarnation, worker, rules, self.main());
        if self.ready {
            (anew.ready, anew.passed_on) = (true, true);
            anew.record.ready(own);
            if self.main().is_none() {
                // No sweep will say so of one that has no process.
                anew.record.observe(own, built_in(now, Found::pass("it runs")));
            }
        }
        (anew.told, anew.reported) = (self.told.take(), self.reported);
        (anew.holds, anew.urged) = (self.holds, self.urged);
        anew
    }

    /// Its main process is another one.
    pub(super) fn set_main(&mut self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
        (self.seen, self.figures) = (None, None);
    }

    /// Whether its process did not run at the last look.
    pub(super) fn fails(&self) -> bool {
        self.seen.is_some_and(|seen| fails(seen.usage.condition))
    }

    /// Its main process.
    pub(super) fn main(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// Whom one of its probes looks at.
    pub(super) fn patient(&self, workers_dir: &std::path::Path) -> Patient {
        Patient {
            instance: self.instance.clone(),
            incarnation: self.incarnation,
            worker: Arc::clone(&self.worker),
            state_dir: workers_dir.join(self.instance.slug()).join("state"),
            pid: Arc::clone(&self.pid),
            apart: Arc::default(),
        }
    }

    /// Ends its probes; a look under way is dropped.
    pub(super) fn end_probes(&mut self) {
        for (_, probe) in self.probes.drain(..) {
            probe.kill();
        }
    }

    /// Whether time alone changes what is thought of it.
    pub(super) fn wants_ticks(&self) -> bool {
        self.record.ticks() || !self.probes.is_empty() || !self.rounds.is_empty()
    }

    /// Whether the probe at that place runs.
    pub(super) fn runs(&self, place: usize) -> bool {
        self.probes.iter().any(|(running, _)| *running == place)
            || self.rounds.iter().any(|round| round.place == place)
    }

    /// Whether it is to be looked at with every tick.
    pub(super) fn is_restless(&self) -> bool {
        self.has_issues() || self.record.ticks()
    }

    /// Whether something was said of it, when something was said last.
    pub(super) fn has_issues(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.unwell.is_some() || !told.issues.is_empty())
    }

    /// Whether it is looked at otherwise than these settings say.
    pub(super) fn differs(&self, new: &WorkerSettings) -> bool {
        let old = &self.worker;
        old.probes != new.probes
            || old.heartbeat != new.heartbeat
            || old.threshold != new.threshold
            || old.stop.unresponsive_timeout != new.stop.unresponsive_timeout
    }
}

/// A debugger may halt it.
pub(super) fn fails(condition: Condition) -> bool {
    match condition {
        Condition::Halted | Condition::Zombie => true,
        Condition::Runs | Condition::Traced => false,
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.end_probes();
    }
}

/// Whether people would see a difference.
pub(super) fn looks_alike(a: &Verdict, b: &Verdict) -> bool {
    (a.health, a.score, a.unresponsive, a.accepts) == (b.health, b.score, b.unresponsive, b.accepts)
        && a.issues == b.issues
        && a.terms == b.terms
        && (a.blind, a.dim, a.unseen) == (b.blind, b.dim, b.unseen)
}

/// The event that tells of a change of its health.
pub(super) fn changed(case: &Case, before: Health, verdict: &Verdict) -> Event {
    let (before, after) = (before.word(), verdict.health.word());
    // That something failed once is no reason to be healthy.
    let reason = verdict.issues.first().filter(|_| verdict.health != Health::Healthy);
    let why = reason.map(|issue| format!(": {issue}")).unwrap_or_default();
    let mut event = Event::new(EventKind::HealthChanged, format!("{before} → {after}{why}"));
    event.worker = Some(case.instance.worker().clone());
    event.instance = Some(case.instance.clone());
    event.incarnation = Some(case.incarnation);
    event.cause = match &verdict.unwell {
        Some(unwell) => Some(unwell.cause.into()),
        None if verdict.blind => Some(Cause::Monitor.into()),
        None => None,
    };
    event.data.insert("from", before.into());
    event.data.insert("to", after.into());
    event.data.insert("score", verdict.score.into());
    event
}
