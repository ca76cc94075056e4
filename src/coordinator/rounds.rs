//! Who looks when: probes that are actors of their own, and rounds, in which all that cost next to nothing are looked at
//! together.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorRef};

use crate::config::CheckSettings;
use crate::health::{Grade, Observation};
use crate::id::InstanceId;
use crate::probe::{ProbeActor, ProbeArguments, Rhythm, Times, make, of_process};
use crate::telemetry::Root;

use super::actor::{CoordinatorMsg, CoordinatorState, Rules, TURN};
use super::case::Case;
use super::rules::places;

/// How often time alone is looked at, while somebody has a heartbeat or a probe.
const TICK: Duration = Duration::from_millis(250);
/// The same where probes want more.
const CLOSEST: Duration = Duration::from_millis(25);
/// So many times in a period it is looked who is due.
const TICKS: u32 = 4;

/// A probe that is looked at in rounds.
pub(super) struct Round {
    /// Its place among the rules.
    pub(super) place: usize,
    rhythm: Rhythm,
    due: Duration,
}

impl Round {
    fn new(place: usize, rhythm: Rhythm, now: Duration) -> Self {
        Self { place, rhythm, due: now + rhythm.times().initial_delay }
    }

    /// How late a look may be: no more than an answer may be.
    pub(super) fn grain(&self) -> Duration {
        let Times { period, retry_period, timeout, .. } = *self.rhythm.times();
        (period.min(retry_period) / TICKS).min(timeout).clamp(CLOSEST, TICK)
    }

    fn is_due(&self, now: Duration) -> bool {
        self.due <= now
    }

    /// It was looked at. What it was late is made up for, but not by a second look at once.
    fn looked(&mut self, grade: Grade, now: Duration) {
        let pause = self.rhythm.pause(grade);
        self.due = (self.due + pause).max((now + pause).saturating_sub(self.grain()));
    }
}

/// With fewer entries than this nobody looks for old ones.
const FEW: usize = 64;

/// Who is due next, so that a tick touches nobody else: a thousand cases are more memory than a processor keeps at hand.
/// Whoever is gone or looked at otherwise leaves an old entry behind, which says nothing.
pub(super) struct Schedule {
    due: BinaryHeap<Reverse<(Duration, InstanceId)>>,
    grain: Duration,
    /// With so many entries the old ones are looked for.
    crowded: usize,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), grain: TICK, crowded: FEW }
    }
}

impl Schedule {
    fn add(&mut self, instance: &InstanceId, round: &Round) {
        self.grain = self.grain.min(round.grain());
        self.due.push(Reverse((round.due, instance.clone())));
    }

    /// Who has an entry for a time that has come.
    fn take(&mut self, now: Duration) -> Vec<InstanceId> {
        let mut taken = Vec::new();
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            taken.extend(self.due.pop().map(|Reverse((_, instance))| instance));
        }
        taken
    }

    /// Whose probes are due, with its process.
    fn due(&mut self, now: Duration, cases: &HashMap<InstanceId, Box<Case>>) -> Vec<Root> {
        let (mut due, mut gone) = (Vec::new(), false);
        for instance in self.take(now) {
            match cases.get(&instance) {
                Some(case) if case.rounds.iter().any(|round| round.is_due(now)) => {
                    // An actor has no process, and nobody has the number 0.
                    due.push((case.main().unwrap_or(0), instance));
                }
                Some(_) | None => gone = true,
            }
        }
        // It may have been the one that wanted it as often as this.
        if gone && self.grain < TICK {
            self.measure(cases);
        }
        due
    }

    fn measure(&mut self, cases: &HashMap<InstanceId, Box<Case>>) {
        self.grain = cases.values().flat_map(|case| &case.rounds).map(Round::grain).fold(TICK, Duration::min);
    }

    /// Once there are twice as many entries as were good, the old ones go.
    fn tidy(&mut self, cases: &HashMap<InstanceId, Box<Case>>) {
        if self.due.len() >= self.crowded {
            self.tidy_now(cases);
        }
    }

    /// Leaves nothing but what is true of these.
    pub(super) fn tidy_now(&mut self, cases: &HashMap<InstanceId, Box<Case>>) {
        self.due.retain(|Reverse((due, instance))| {
            cases.get(instance).is_some_and(|case| case.rounds.iter().any(|round| round.due == *due))
        });
        self.crowded = self.due.len().saturating_mul(2).max(FEW);
        self.measure(cases);
    }
}

impl CoordinatorState {
    /// A probe has looked.
    pub(super) async fn observed(
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
            (self.sinks.looked)(instance, incarnation, &rules.name, &seen);
        }
        // Nothing bad that was seen over a halt proves anything; something good does.
        if void && matches!(seen.grade, Grade::Fail | Grade::Error) {
            return;
        }
        let changes = case.record.observe(own, seen);
        // Of whom something is said it may be said no longer; all that time alone changes is seen at the next tick.
        if changes || case.told.is_none() || case.has_issues() {
            self.judge(instance, now);
            self.arrange(myself, instance, now).await;
        }
    }

    /// Starts the probes that are to run now and ends the others.
    pub(super) async fn arrange(
        &mut self,
        myself: &ActorRef<CoordinatorMsg>,
        instance: &InstanceId,
        now: Duration,
    ) {
        let Some(case) = self.cases.get_mut(instance) else { return };
        let record = &case.record;
        case.rounds.retain(|round| record.wants(round.place));
        case.probes.retain(|(place, probe)| {
            let wanted = record.wants(*place);
            if !wanted {
                probe.kill();
            }
            wanted
        });
        let worker = Arc::clone(&case.worker);
        for (place, settings) in places(&worker) {
            if case.runs(place) || !case.record.wants(place) {
                continue;
            }
            let times = Times {
                initial_delay: settings.initial_delay,
                period: self.settings.interval.unwrap_or(settings.period),
                retry_period: settings.retry_period,
                timeout: settings.timeout,
            };
            let rhythm = Rhythm::new(times, spread(&case.instance, place));
            if settings.check == CheckSettings::Process {
                let round = Round::new(place, rhythm, now);
                self.schedule.add(instance, &round);
                case.rounds.push(round);
                continue;
            }
            let Some(probe) = make(&settings.check, &self.means) else { continue };
            let (to, whom) = (myself.clone(), case.instance.clone());
            let of = (case.incarnation, Arc::clone(&case.rules));
            let arguments = ProbeArguments {
                number: place,
                rhythm,
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

    /// Looks at all that are due, and judges those of whom time alone may change what is thought.
    pub(super) async fn tick(&mut self, myself: &ActorRef<CoordinatorMsg>, now: Duration) {
        self.go_round(myself, now).await;
        let own = self.clock.own(now);
        let (cases, mut late) = (&mut self.cases, Vec::new());
        self.restless.retain(|instance| {
            let Some(case) = cases.get_mut(instance) else { return false };
            if case.has_issues() || case.record.is_late(own) {
                late.push(instance.clone());
            }
            case.is_restless()
        });
        for instance in late {
            self.judge(&instance, now);
        }
        self.ticking = self.wants_ticks();
        if self.ticking {
            drop(myself.send_after(self.schedule.grain, || CoordinatorMsg::Tick));
        } else {
            self.clock.set_period(self.pause.max(TURN));
        }
    }

    /// Without a heartbeat or a probe nothing happens between sweeps, and an idle runtime sleeps.
    pub(super) fn begin_ticking(&mut self, myself: &ActorRef<CoordinatorMsg>) {
        if !self.ticking {
            self.ticking = true;
            self.clock.set_period(TICK);
            drop(myself.send_after(TICK, || CoordinatorMsg::Tick));
        }
    }

    pub(super) fn wants_ticks(&self) -> bool {
        !self.schedule.due.is_empty() || self.cases.values().any(|case| case.wants_ticks())
    }

    /// Whether these processes run: one look at each of them, however many probes want to know.
    async fn go_round(&mut self, myself: &ActorRef<CoordinatorMsg>, now: Duration) {
        let due = self.schedule.due(now, &self.cases);
        if due.is_empty() {
            return;
        }
        let began = (self.sinks.now)();
        let conditions = self.means.sampler.conditions(&due);
        let all = (self.sinks.now)().saturating_sub(began);
        let ended = began + all.div_f64(due.len() as f64);
        for ((pid, instance), condition) in due.into_iter().zip(conditions) {
            let found = of_process(Some(pid).filter(|pid| *pid != 0), condition);
            for at in 0.. {
                let Some(case) = self.cases.get_mut(&instance) else { break };
                let Some(round) = case.rounds.get_mut(at) else { break };
                if !round.is_due(now) {
                    continue;
                }
                round.looked(found.grade, now);
                self.schedule.add(&instance, round);
                let probe = round.place;
                let of = (case.incarnation, Arc::clone(&case.rules));
                let (grade, message, metrics) = (found.grade, found.message.clone(), found.metrics.clone());
                let seen = Observation { probe, began, ended, grade, message, metrics };
                self.observed(myself, &instance, of, seen, now).await;
            }
        }
        self.schedule.tidy(&self.cases);
    }
}

/// 0..1, the same for the same probe: many that start together do not look together.
fn spread(instance: &InstanceId, place: usize) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ place as u64;
    for byte in instance.to_string().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn round(period: Duration) -> Round {
        let times =
            Times { initial_delay: SECOND, period, retry_period: SECOND, timeout: Duration::from_secs(5) };
        Round::new(1, Rhythm::new(times, 0.0), Duration::ZERO)
    }

    /// Looks at every tick of a machine on which each comes a little late; when it looked.
    fn looks(round: &mut Round, ticks: u32) -> Vec<Duration> {
        let all = (1..=ticks).map(|tick| tick * (round.grain() + Duration::from_millis(3)));
        let all: Vec<Duration> = all.collect();
        let look = |now: &Duration| {
            let due = round.is_due(*now);
            if due {
                round.looked(Grade::Pass, *now);
            }
            due
        };
        all.into_iter().filter(look).collect()
    }

    #[test]
    fn a_look_is_hardly_ever_late_and_what_it_was_late_is_made_up_for() {
        for period in [SECOND / 10, SECOND / 2, SECOND, 30 * SECOND] {
            let mut round = round(period);
            let looks = looks(&mut round, 4000);
            let (first, last) = (looks[0], looks[looks.len() - 1]);
            assert!(first >= SECOND && first <= SECOND + 2 * round.grain(), "{first:?}");
            let mean = (last - first).div_f64((looks.len() - 1) as f64);
            assert!(mean.as_secs_f64() / period.as_secs_f64() < 1.04, "every {mean:?} instead of {period:?}");
            assert!(looks.windows(2).all(|pair| pair[1] - pair[0] + 2 * round.grain() >= period));
        }
    }

    #[test]
    fn after_a_halt_there_is_one_look_and_not_all_that_were_missed() {
        let mut round = round(SECOND);
        let late = 60 * SECOND;
        assert!(round.is_due(late));
        round.looked(Grade::Fail, late);
        assert!(!round.is_due(late + SECOND / 2) && round.is_due(late + SECOND));
    }

    #[test]
    fn the_schedule_knows_who_is_due_and_forgets_who_is_gone() {
        let mut schedule = Schedule::default();
        let [a, b]: [InstanceId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        schedule.add(&b, &round(SECOND / 5));
        let mut later = round(SECOND);
        later.looked(Grade::Pass, SECOND);
        schedule.add(&a, &later);
        assert!(schedule.take(SECOND / 2).is_empty() && schedule.grain == SECOND / 20);
        assert_eq!(schedule.take(SECOND), [b]);
        assert_eq!(schedule.take(3 * SECOND), std::slice::from_ref(&a));
        for _ in 0..FEW {
            schedule.add(&a, &later);
        }
        schedule.tidy(&HashMap::new());
        assert!(schedule.due.is_empty() && schedule.grain == TICK);
    }

    #[test]
    fn once_who_wanted_it_often_is_gone_it_is_looked_as_seldom_as_before() {
        let mut schedule = Schedule::default();
        let [a, b]: [InstanceId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        schedule.add(&a, &round(SECOND / 10));
        schedule.add(&b, &round(SECOND * 30));
        assert!(schedule.due(SECOND / 2, &HashMap::new()).is_empty());
        assert_eq!(schedule.grain, CLOSEST, "nobody's time has come");
        assert!(schedule.due(2 * SECOND, &HashMap::new()).is_empty());
        assert_eq!(schedule.grain, TICK);
    }

    #[test]
    fn who_is_due_is_looked_for_often_enough_for_the_shortest_of_its_times() {
        let grain = |period, timeout| {
            let times = Times { initial_delay: SECOND, period, retry_period: 10 * SECOND, timeout };
            Round::new(1, Rhythm::new(times, 0.0), Duration::ZERO).grain()
        };
        assert_eq!(grain(30 * SECOND, SECOND), TICK);
        assert_eq!(grain(SECOND / 5, SECOND), SECOND / 20);
        assert_eq!(grain(30 * SECOND, SECOND / 10), SECOND / 10);
        assert_eq!(grain(SECOND / 1000, SECOND), CLOSEST);
    }
}
