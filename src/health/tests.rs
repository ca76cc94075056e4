//! The promises of the room.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cause::Cause;

const SECOND: Duration = Duration::from_secs(1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn probe(name: &str, kind: ProbeKind, failure: u32, success: u32) -> ProbeRules {
    ProbeRules {
        name: Arc::from(name),
        kind,
        thresholds: Thresholds { failure, success },
        weight: 1.0,
        cause: Cause::ProbeFailed,
        builtin: false,
    }
}

fn built_in() -> ProbeRules {
    ProbeRules { builtin: true, cause: Cause::Hang, ..probe("process", ProbeKind::Liveness, 3, 1) }
}

fn rules(probes: Vec<ProbeRules>) -> RecordRules {
    RecordRules {
        probes,
        heart: HeartRules { late: secs(10), lost: secs(15), dead: secs(30) },
        beats: false,
        memory: Some(Mark { warn: Some(0.85), crit: Some(0.95), lasting: secs(30) }),
        memory_of: None,
        cpu: Some(Mark { warn: Some(0.9), crit: None, lasting: secs(60) }),
        work: WorkRules::default(),
        ready_by: None,
        patience: secs(3),
    }
}

fn record(rules: RecordRules) -> Record {
    let mut record = Record::new(Arc::new(rules));
    record.ready(Duration::ZERO);
    record
}

fn seen(probe: usize, grade: Grade) -> Observation {
    Observation {
        probe,
        began: Duration::ZERO,
        ended: Duration::ZERO,
        grade,
        message: "words".to_owned(),
        metrics: Vec::new(),
    }
}

fn look(record: &mut Record, probe: usize, grade: Grade) -> Verdict {
    record.observe(Duration::ZERO, seen(probe, grade));
    record.judge(Duration::ZERO)
}

#[test]
fn a_ready_process_without_probes_is_healthy_and_no_data_is_no_score() {
    let mut record = record(rules(vec![built_in()]));
    let nothing = record.judge(Duration::ZERO);
    assert_eq!((nothing.health, nothing.score), (Health::Unknown, None));
    let verdict = look(&mut record, 0, Grade::Pass);
    assert_eq!((verdict.health, verdict.score), (Health::Healthy, Some(1.0)));
    assert!(verdict.issues.is_empty() && verdict.unwell.is_none() && !verdict.blind);
}

#[test]
fn a_probe_that_broke_is_the_reason_of_nothing_but_that_nobody_knows() {
    let probes = ["a_broken", "alive"].map(|name| probe(name, ProbeKind::Liveness, 1, 1));
    let mut record = record(rules(probes.to_vec()));
    look(&mut record, 1, Grade::Pass);
    let verdict = look(&mut record, 0, Grade::Error);
    let broken = "probe a_broken does not work: words";
    assert_eq!((verdict.health, &verdict.issues[..]), (Health::Unknown, &[broken.to_owned()][..]));
    let verdict = look(&mut record, 1, Grade::Fail);
    assert_eq!(verdict.issues, ["probe alive failed: words", broken]);
    assert_eq!(verdict.health, Health::Unhealthy);
}

#[test]
fn nobody_is_healthy_before_the_configured_probes_have_spoken() {
    let alive = probe("alive", ProbeKind::Liveness, 3, 1);
    let mut record = record(rules(vec![built_in(), alive]));
    let verdict = look(&mut record, 0, Grade::Pass);
    assert_eq!((verdict.health, verdict.score), (Health::Unknown, None));
    let verdict = look(&mut record, 1, Grade::Pass);
    assert_eq!((verdict.health, verdict.score), (Health::Healthy, Some(1.0)));
}

#[test]
fn a_liveness_check_makes_unhealthy_and_a_readiness_check_degrades() {
    let probes = vec![
        built_in(),
        probe("alive", ProbeKind::Liveness, 2, 1),
        probe("takes", ProbeKind::Readiness, 2, 1),
    ];
    let mut record = record(rules(probes));
    for at in 0..3 {
        look(&mut record, at, Grade::Pass);
    }
    assert_eq!(look(&mut record, 2, Grade::Fail).health, Health::Healthy);
    let verdict = look(&mut record, 2, Grade::Fail);
    assert_eq!((verdict.health, verdict.accepts), (Health::Degraded, false));
    assert!(verdict.unwell.is_none() && verdict.score == Some(0.7), "{verdict:?}");
    let verdict = look(&mut record, 1, Grade::Fail);
    assert_eq!(verdict.health, Health::Degraded, "one failure of two");
    let takes = "probe takes failed 2 times in a row: words";
    assert_eq!(verdict.issues, [takes, "probe alive failed (1 of 2): words"], "the reason first");
    let verdict = look(&mut record, 1, Grade::Fail);
    assert_eq!(verdict.issues, ["probe alive failed 2 times in a row: words", takes]);
    assert_eq!((verdict.health, verdict.score), (Health::Unhealthy, Some(0.3)));
    let unwell = verdict.unwell.unwrap();
    assert_eq!(unwell.cause, Cause::ProbeFailed);
    assert_eq!(unwell.message, "probe alive failed 2 times in a row: words");
    assert_eq!(unwell.patience, None);
}

#[test]
fn a_warning_degrades_and_a_probe_that_breaks_makes_unknown() {
    let mut record = record(rules(vec![built_in(), probe("alive", ProbeKind::Liveness, 2, 1)]));
    look(&mut record, 0, Grade::Pass);
    let verdict = look(&mut record, 1, Grade::Warn);
    assert_eq!((verdict.health, verdict.score), (Health::Degraded, Some(0.75)));
    for _ in 0..50 {
        look(&mut record, 1, Grade::Error);
    }
    let verdict = record.judge(secs(1000));
    assert_eq!((verdict.health, verdict.score), (Health::Unknown, Some(1.0)));
    assert!(verdict.blind && verdict.unwell.is_none());
}

#[test]
fn a_probe_that_breaks_now_and_then_is_one_trouble_until_it_has_calmed_down() {
    let mut record = record(rules(vec![built_in(), probe("alive", ProbeKind::Liveness, 1, 1)]));
    let at = |record: &mut Record, second: u64, grade| {
        record.observe(secs(second), seen(1, grade));
        record.judge(secs(second))
    };
    let mut ends = 0;
    let mut blind = false;
    for turn in 0..60 {
        let verdict = at(&mut record, turn * 2, if turn % 2 == 0 { Grade::Pass } else { Grade::Error });
        assert_eq!(verdict.health == Health::Unknown, turn % 2 == 1, "it is seen as it is");
        ends += u32::from(std::mem::replace(&mut blind, verdict.ill_seen()) && !verdict.ill_seen());
    }
    assert!(blind && (1..4).contains(&ends), "told a few times, then once: {ends}");
    let verdict = at(&mut record, 125, Grade::Pass);
    assert!(verdict.holds && verdict.unwell.is_none() && verdict.health == Health::Healthy);
    assert!(verdict.dim && !verdict.blind, "it is seen how it is, and for how long nobody knows");
    assert!(!verdict.sightless().contains("works any more"), "{}", verdict.sightless());
    assert!(
        verdict.issues.iter().any(|issue| issue.contains("works now and now not")),
        "{:?}",
        verdict.issues
    );
    assert!(!at(&mut record, 420, Grade::Pass).ill_seen());
}

#[test]
fn a_check_that_breaks_before_it_is_ready_leaves_nobody_to_see_whether_it_is() {
    for kind in [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness] {
        let probes = vec![built_in(), probe("other", ProbeKind::Liveness, 1, 1), probe("up", kind, 2, 1)];
        let mut record = Record::new(Arc::new(RecordRules { ready_by: Some(2), ..rules(probes) }));
        look(&mut record, 1, Grade::Pass);
        assert!(!look(&mut record, 2, Grade::Fail).unseen, "{kind:?}");
        let verdict = look(&mut record, 2, Grade::Error);
        assert!(!verdict.unseen && !verdict.blind, "one odd look is no more than that: {kind:?}");
        let verdict = look(&mut record, 2, Grade::Error);
        assert!(verdict.unseen && verdict.blind, "{kind:?}");
        assert!(verdict.sightless().contains("its start is left alone: probe up does not work"), "{kind:?}");
        assert!(!look(&mut record, 2, Grade::Pass).unseen, "{kind:?}");
        record.ready(Duration::ZERO);
        let verdict = look(&mut record, 2, Grade::Error);
        assert!(!verdict.unseen && !verdict.blind, "the other one sees how it is: {kind:?}");
    }
}

#[test]
fn success_counts_in_a_row_too() {
    let mut record = record(rules(vec![probe("alive", ProbeKind::Liveness, 1, 3)]));
    assert_eq!(look(&mut record, 0, Grade::Fail).health, Health::Unhealthy);
    assert_eq!(look(&mut record, 0, Grade::Pass).health, Health::Unhealthy);
    assert_eq!(look(&mut record, 0, Grade::Pass).health, Health::Unhealthy);
    assert_eq!(look(&mut record, 0, Grade::Pass).health, Health::Healthy);
}

#[test]
fn a_start_up_check_never_counts_and_the_others_wait_for_it() {
    let probes = vec![probe("boot", ProbeKind::Startup, 1, 1), probe("alive", ProbeKind::Liveness, 1, 1)];
    let mut record = Record::new(Arc::new(RecordRules { ready_by: Some(0), ..rules(probes) }));
    assert!(record.wants(0) && !record.wants(1));
    let verdict = look(&mut record, 0, Grade::Fail);
    assert!(verdict.issues.is_empty() && verdict.unwell.is_none() && !verdict.started);
    assert!(look(&mut record, 0, Grade::Pass).started);
    assert!(!record.wants(0) && record.wants(1));
    record.ready(Duration::ZERO);
    assert_eq!(look(&mut record, 1, Grade::Pass).score, Some(1.0));
}

#[test]
fn what_failed_before_it_was_ready_is_forgotten() {
    let mut record = Record::new(Arc::new(rules(vec![probe("alive", ProbeKind::Liveness, 1, 1)])));
    assert!(look(&mut record, 0, Grade::Fail).unwell.is_none());
    record.ready(Duration::ZERO);
    let verdict = record.judge(Duration::ZERO);
    assert_eq!((verdict.health, verdict.score, verdict.unwell), (Health::Unknown, None, None));
}

#[test]
fn a_heartbeat_is_late_lost_and_dead() {
    let mut record = record(RecordRules { beats: true, ..rules(vec![built_in()]) });
    look(&mut record, 0, Grade::Pass);
    record.beat(secs(100));
    assert_eq!(record.judge(secs(109)).health, Health::Healthy);
    let late = record.judge(secs(110));
    assert_eq!((late.health, late.issues), (Health::Degraded, vec!["no heartbeat for 10s".to_owned()]));
    let lost = record.judge(secs(115));
    assert_eq!((lost.health, lost.unresponsive), (Health::Unhealthy, true));
    let unwell = lost.unwell.unwrap();
    assert_eq!((unwell.cause, unwell.patience, unwell.dead), (Cause::Hang, Some(secs(3)), false));
    assert!(record.judge(secs(130)).unwell.unwrap().dead);
    record.beat(secs(131));
    assert_eq!(record.judge(secs(131)).health, Health::Healthy);
}

#[test]
fn a_heartbeat_is_armed_by_its_section_or_by_the_first_beat() {
    let mut section = record(RecordRules { beats: true, ..rules(vec![built_in()]) });
    assert!(section.judge(secs(20)).unwell.is_some());
    let mut none = record(rules(vec![built_in()]));
    assert!(none.judge(secs(10_000)).unwell.is_none());
    none.beat(secs(10_000));
    assert!(none.judge(secs(10_015)).unwell.is_some());
    none.distress(secs(10_016));
    none.beat(secs(10_017));
    assert!(none.judge(secs(10_017)).unwell.is_none());
    none.distress(secs(10_018));
    let says = none.judge(secs(10_018)).unwell.unwrap();
    assert_eq!((says.message.as_str(), says.patience), ("it says that it does not work", None));
}

#[test]
fn memory_without_a_limit_is_told_in_bytes() {
    let marks = rules(vec![built_in()]);
    let mut record = record(RecordRules { memory_of: Some(40 << 20), ..marks });
    look(&mut record, 0, Grade::Pass);
    record.read_memory(secs(100), 1.75);
    assert_eq!(record.judge(secs(131)).issues, ["memory at 70 MiB for 31s (mark: 38 MiB)"]);
}

#[test]
fn a_figure_counts_only_if_it_lasts() {
    let mut record = record(rules(vec![built_in()]));
    look(&mut record, 0, Grade::Pass);
    record.read_memory(secs(100), 0.97);
    record.read_cpu(secs(100), 1.0);
    assert_eq!(record.judge(secs(129)).health, Health::Healthy);
    record.read_memory(secs(129), 0.90);
    record.read_memory(secs(130), 0.97);
    let warned = record.judge(secs(131));
    assert_eq!(warned.health, Health::Degraded, "critical for a second, above the lower mark for 31");
    assert_eq!(warned.issues, ["memory at 97 % for 31s (mark: 85 %)"]);
    let critical = record.judge(secs(160));
    assert_eq!(critical.unwell.unwrap().cause, Cause::Memory);
    record.read_memory(secs(161), 0.2);
    let busy = record.judge(secs(161));
    assert_eq!(busy.health, Health::Degraded, "{busy:?}");
    assert!(busy.unwell.is_none(), "busy is not sick");
}

#[test]
fn who_flaps_is_not_healthy_in_between_and_calms_down() {
    let mut record = record(rules(vec![probe("takes", ProbeKind::Readiness, 1, 1)]));
    let mut at = Duration::ZERO;
    let turn = |record: &mut Record, grade, at: &mut Duration| {
        *at += SECOND;
        record.observe(*at, seen(0, grade));
        record.judge(*at)
    };
    for _ in 0..3 {
        assert_eq!(turn(&mut record, Grade::Pass, &mut at).health, Health::Healthy);
        turn(&mut record, Grade::Fail, &mut at);
    }
    let verdict = turn(&mut record, Grade::Pass, &mut at);
    assert_eq!((verdict.health, verdict.flaps), (Health::Degraded, true));
    assert!(verdict.score < Some(0.9) && verdict.unwell.is_none());
    assert_eq!(record.judge(at + secs(400)).health, Health::Healthy);
}

#[test]
fn own_time_stands_still_in_a_halt_and_moves_by_what_is_late() {
    let mut clock = OwnClock::new(Duration::ZERO, ms(250));
    let mut now = Duration::ZERO;
    for _ in 0..40 {
        now += ms(250);
        assert_eq!(clock.advance(now), None);
    }
    assert_eq!(clock.own(now), secs(10));
    let from = now;
    now += secs(5);
    assert_eq!(clock.advance(now), Some(Halt { from, to: now }));
    assert_eq!(clock.own(now), secs(10));
    now += ms(750);
    assert_eq!(clock.advance(now), None);
    assert_eq!(clock.own(now), ms(10_250));
    assert!(clock.voids(from - SECOND, now) && !clock.voids(from - SECOND, from));
    assert!(clock.voids(from + secs(5), from + secs(6)), "a moment after it proves nothing either");
    assert!(!clock.voids(from + secs(6), from + secs(7)));
}

fn grades() -> impl Strategy<Value = Grade> {
    prop_oneof![
        3 => Just(Grade::Fail),
        2 => Just(Grade::Pass),
        1 => Just(Grade::Warn),
        1 => Just(Grade::Error),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Look(Grade),
    Halt,
}

proptest! {
    /// Whoever is told that a look changes nothing need not judge.
    #[test]
    fn a_look_that_changes_nothing_leaves_the_verdict_as_it_was(
        failure in 1..4u32,
        success in 1..4u32,
        steps in proptest::collection::vec(
            prop_oneof![8 => (1..3usize, grades()).prop_map(Some), 1 => Just(None)], 0..60),
    ) {
        let liveness = probe("alive", ProbeKind::Liveness, failure, success);
        let readiness = probe("takes", ProbeKind::Readiness, success, failure);
        let mut record = record(rules(vec![built_in(), liveness, readiness]));
        look(&mut record, 0, Grade::Pass);
        for step in steps {
            let Some((place, grade)) = step else {
                record.interrupt();
                continue;
            };
            let before = record.judge(Duration::ZERO);
            if !record.observe(Duration::ZERO, seen(place, grade)) {
                prop_assert_eq!(grade, Grade::Pass);
                prop_assert_eq!(record.judge(Duration::ZERO), before);
            }
        }
        for _ in 0..=success.max(failure) {
            look(&mut record, 1, Grade::Pass);
        }
        prop_assert!(!record.observe(Duration::ZERO, seen(1, Grade::Pass)));
    }

    /// H1: unhealthy only after `failure` failures in a row, with no halt and nothing else in between; and once it is,
    /// until `success` passes in a row or as many errors.
    #[test]
    fn h1_unhealthy_is_only_who_failed_often_enough_in_a_row(
        failure in 1..5u32,
        success in 1..4u32,
        steps in proptest::collection::vec(
            prop_oneof![8 => grades().prop_map(Step::Look), 1 => Just(Step::Halt)], 0..60),
    ) {
        let mut record = record(rules(vec![built_in(), probe("alive", ProbeKind::Liveness, failure, success)]));
        look(&mut record, 0, Grade::Pass);
        let (mut fails, mut passes, mut errors, mut unhealthy) = (0, 0, 0, false);
        for step in steps {
            match step {
                Step::Halt => {
                    record.interrupt();
                    (fails, passes, errors) = (0, 0, 0);
                }
                Step::Look(grade) => {
                    (fails, passes, errors) = match grade {
                        Grade::Fail => (fails + 1, 0, 0),
                        Grade::Pass | Grade::Warn => (0, passes + 1, 0),
                        Grade::Error => (0, 0, errors + 1),
                    };
                    unhealthy = match unhealthy {
                        false => fails >= failure,
                        true => passes < success && errors < failure,
                    };
                    let verdict = look(&mut record, 1, grade);
                    prop_assert_eq!(verdict.unwell.is_some(), unhealthy, "{:?}", verdict);
                    prop_assert_eq!(verdict.health == Health::Unhealthy, unhealthy);
                    if verdict.health == Health::Unknown {
                        prop_assert!(verdict.unwell.is_none(), "unknown never restarts");
                    }
                }
            }
        }
    }

    /// The score is in 0..1 and agrees with the word.
    #[test]
    fn the_score_agrees_with_the_word(
        looks in proptest::collection::vec((0..4usize, grades()), 0..80),
        weights in proptest::collection::vec(0.0..10.0f64, 4),
        beat in 0..40u64,
        memory in 0.0..1.2f64,
    ) {
        let mut probes = vec![
            built_in(),
            probe("a", ProbeKind::Liveness, 2, 1),
            probe("b", ProbeKind::Readiness, 1, 2),
            probe("c", ProbeKind::Startup, 1, 1),
        ];
        for (probe, weight) in probes.iter_mut().zip(&weights) {
            probe.weight = *weight;
        }
        let mut record = record(rules(probes));
        record.beat(Duration::ZERO);
        record.read_memory(Duration::ZERO, memory);
        for (probe, grade) in looks {
            record.observe(Duration::ZERO, seen(probe, grade));
            let verdict = record.judge(secs(beat));
            if let Some(score) = verdict.score {
                prop_assert!((0.0..=1.0).contains(&score));
                match verdict.health {
                    Health::Healthy => prop_assert!(score >= 0.9),
                    Health::Degraded => prop_assert!((0.7..0.9).contains(&score)),
                    Health::Unhealthy => prop_assert!(score < 0.7 && verdict.unwell.is_some()),
                    Health::Unknown => prop_assert!(verdict.unwell.is_none()),
                    Health::Dead => prop_assert!(false, "the dead are not judged"),
                }
            }
            prop_assert_eq!(verdict.unwell.is_some(), verdict.health == Health::Unhealthy);
        }
    }

    /// Whatever the runtime loses, a worker that beats in time in its own eyes is never blamed.
    #[test]
    fn a_halt_of_the_runtime_is_nobodys_silence(halts in proptest::collection::vec(0..20_000u64, 1..40)) {
        let (mut clock, mut now) = (OwnClock::new(Duration::ZERO, ms(250)), Duration::ZERO);
        let mut record = record(RecordRules { beats: true, ..rules(vec![built_in()]) });
        look(&mut record, 0, Grade::Pass);
        let mut owned = Duration::ZERO;
        for halt in halts {
            // It beats every five seconds, and the beats of a halt are read after the judgement.
            for _ in 0..20 {
                now += ms(250);
                clock.advance(now);
                prop_assert!(clock.own(now) >= owned, "own time never goes back");
                owned = clock.own(now);
            }
            now += ms(halt);
            if clock.advance(now).is_some() {
                record.interrupt();
            }
            let verdict = record.judge(clock.own(now));
            prop_assert_eq!(verdict.health, Health::Healthy, "{:?}", verdict);
            record.beat(clock.own(now));
        }
    }
}
