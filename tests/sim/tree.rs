//! Random supervisors: every strategy, every limit, every kind of child.

use std::sync::Arc;
use std::time::Duration;

use regrow::id::Incarnation;
use regrow::policy::{
    AutoShutdown, Backoff, ChildKind, ChildSpec, ExitCodes, Intensity, OnExhausted, Pause, Restart,
    RestartStrategy, RetryPark, Shutdown, SupervisorSpec,
};

use super::dice::Dice;

/// The exit code that parks a child, where it has one.
pub(crate) const FATAL: i32 = 70;

/// A supervisor and its children.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) spec: SupervisorSpec,
    pub(crate) children: Vec<ChildSpec>,
}

impl std::fmt::Display for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = &self.spec;
        writeln!(
            f,
            "{:?} {} in {:?} {:?} retry {:?} auto_shutdown {:?}",
            s.strategy,
            s.intensity.max_restarts,
            s.intensity.within,
            s.on_exhausted,
            s.retry,
            s.auto_shutdown
        )?;
        for c in &self.children {
            let flags = [
                (c.significant, " significant"),
                (c.held, " held"),
                (c.stopped, " stopped"),
                (c.paused.is_some(), " paused"),
            ];
            let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
            write!(f, "  {} {:?} {:?}{flags} ", c.id, c.restart, c.shutdown)?;
            write!(
                f,
                "start_timeout {:?} min_uptime {:?} verify {:?} ",
                c.start_timeout, c.min_uptime, c.verify
            )?;
            writeln!(f, "codes {:?}/{:?} {:?}", c.exit_codes.normal, c.exit_codes.fatal, c.backoff)?;
        }
        Ok(())
    }
}

const IDS: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

pub(crate) fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Any supervisor.
pub(crate) fn any(dice: &mut Dice) -> Tree {
    let strategy = [
        RestartStrategy::OneForOne,
        RestartStrategy::OneForAll,
        RestartStrategy::RestForOne,
        RestartStrategy::SimpleOneForOne,
    ][dice.weighted(&[4, 4, 4, 1])];
    with_strategy(dice, strategy)
}

/// Any supervisor of this strategy.
pub(crate) fn with_strategy(dice: &mut Dice, strategy: RestartStrategy) -> Tree {
    let simple = strategy == RestartStrategy::SimpleOneForOne;
    let autos = [AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant];
    let retry = RetryPark { first: ms(dice.between(1, 40) * 100), every: ms(dice.between(10, 100) * 100) };
    let spec = SupervisorSpec {
        strategy,
        intensity: Intensity {
            max_restarts: dice.pick(&[0, 1, 1, 2, 2, 3, 5]),
            within: ms(dice.pick(&[500, 1_000, 2_000, 5_000, 20_000])),
        },
        on_exhausted: dice.pick(&[OnExhausted::Quarantine, OnExhausted::Quarantine, OnExhausted::Escalate]),
        retry: dice.chance(80).then_some(retry),
        auto_shutdown: if simple || dice.chance(60) { AutoShutdown::Never } else { dice.pick(&autos) },
        seed: dice.bits(),
    };
    let backoff = dice.chance(60);
    let number = if simple { 1 } else { dice.between(1, 6) as usize };
    let children = (0..number).map(|at| child(dice, &spec, IDS[at], backoff)).collect();
    Tree { spec, children }
}

/// The id of the n-th child ever.
pub(crate) fn id(number: usize) -> Arc<str> {
    IDS.get(number).map_or_else(|| Arc::from(format!("x{number}")), |id| Arc::from(*id))
}

/// Any child of this supervisor.
pub(crate) fn child(dice: &mut Dice, spec: &SupervisorSpec, id: &str, backoff: bool) -> ChildSpec {
    let restart =
        dice.pick(&[Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary]);
    let simple = spec.strategy == RestartStrategy::SimpleOneForOne;
    let may = spec.auto_shutdown != AutoShutdown::Never && restart != Restart::Permanent;
    let shutdown = match dice.below(6) {
        0 => Shutdown::BrutalKill,
        1 => Shutdown::Infinity,
        _ => Shutdown::Timeout(ms(dice.between(1, 40) * 50)),
    };
    let first = if backoff { ms(dice.between(1, 10) * 50) } else { Duration::ZERO };
    let spec = ChildSpec {
        id: Arc::from(id),
        restart,
        shutdown,
        kind: dice.pick(&[ChildKind::Worker, ChildKind::Supervisor]),
        significant: may && dice.chance(60),
        backoff: Backoff {
            first,
            factor: dice.pick(&[1.0, 1.5, 2.0, 3.0]),
            max: ms(dice.between(5, 40) * 100),
            jitter: dice.pick(&[0.0, 0.0, 0.2, 0.5]),
            reset_after: ms(dice.between(5, 100) * 100),
        },
        exit_codes: ExitCodes {
            normal: Arc::from(if dice.chance(70) { vec![0] } else { vec![0, 3] }),
            fatal: Arc::from(if dice.chance(40) { vec![FATAL] } else { vec![] }),
        },
        start_timeout: dice.chance(60).then(|| ms(dice.between(2, 40) * 100)),
        min_uptime: if dice.chance(30) { ms(dice.between(1, 20) * 50) } else { Duration::ZERO },
        verify: if dice.chance(80) { ms(dice.between(1, 30) * 100) } else { Duration::ZERO },
        held: dice.chance(8),
        stopped: dice.chance(5),
        incarnation: Incarnation(if dice.chance(10) { dice.between(1, 9) } else { 0 }),
        paused: None,
        ladder: None,
        heard_within: Duration::ZERO,
        pool: None,
    };
    let paused = (!simple && dice.chance(4))
        .then(|| Pause { until: dice.chance(60).then(|| ms(dice.between(1, 80) * 100)) });
    ChildSpec { paused, ..spec }
}
