//! `[ladder.default]`, `[recovery]` and `[[error_class]]`: what is done about a worker that is sick, and by how much of
//! the fleet at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};
use crate::config::settings::{RecoverySettings, StrategySettings};
use crate::id::Name;
use crate::recovery::{BrakeLimits, BreakerLimits, ErrorClass, Ladder, Learn, Step, Strategy};

use super::de;

const TIME: Leaf = Leaf::Text(Text::Duration { zero: true });
const POSITIVE: Leaf = Leaf::Text(Text::Duration { zero: false });
const LEARN: &[(&str, &str)] = &[("off", "off"), ("suggest", "suggest"), ("auto", "auto")];
/// What a signal or a quick request takes.
const USUAL: Duration = Duration::from_secs(20);

const STEP: &[Key] = &[
    leaf("do", Leaf::Text(Text::Strategy)),
    leaf("attempts", Leaf::Integer { min: 1, max: 100 }),
    leaf("delay", TIME),
    leaf("when", Leaf::Texts(Text::Line)),
    leaf("approval", POSITIVE),
];

pub(super) const KEYS: &[Key] = &[table(
    "default",
    &[
        leaf("verify", TIME),
        leaf("cooldown", TIME),
        leaf("steps", Leaf::Tables(STEP)),
        leaf("learn", Leaf::Text(Text::Word(LEARN))),
        table(
            "breaker",
            &[
                leaf("open_after", Leaf::Integer { min: 1, max: 10_000 }),
                leaf("within", POSITIVE),
                leaf("half_open_after", POSITIVE),
            ],
        ),
    ],
)];

pub(super) const RECOVERY: &[Key] = &[
    leaf("max_parallel", Leaf::Integer { min: 1, max: 10_000 }),
    leaf("max_unavailable", Leaf::Number { min: 0.0, max: 1.0 }),
    leaf("min_failing", Leaf::Integer { min: 1, max: 10_000 }),
    leaf("window", POSITIVE),
];

pub(super) const ERROR_CLASS: &[Key] = &[
    leaf("name", Leaf::Text(Text::Line)),
    leaf("match", Leaf::Text(Text::Regex)),
    leaf("exit_code", Leaf::Integer { min: 0, max: 255 }),
];

pub(super) const STRATEGY: &[Key] =
    &[leaf("command", Leaf::Texts(Text::Beside)), leaf("timeout", POSITIVE), leaf("cost", POSITIVE)];

/// `[ladder]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawLadders {
    default: RawLadder,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLadder {
    #[serde(deserialize_with = "de::duration")]
    verify: Duration,
    #[serde(deserialize_with = "de::duration")]
    cooldown: Duration,
    steps: Vec<RawStep>,
    learn: Learn,
    breaker: RawBreaker,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    /// Its absence is told with its place.
    r#do: Option<Strategy>,
    #[serde(default = "once")]
    attempts: u32,
    #[serde(default, deserialize_with = "de::duration")]
    delay: Duration,
    #[serde(default)]
    when: Vec<Arc<str>>,
    #[serde(default, deserialize_with = "de::some_duration")]
    approval: Option<Duration>,
}

fn once() -> u32 {
    1
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBreaker {
    open_after: u32,
    #[serde(deserialize_with = "de::duration")]
    within: Duration,
    #[serde(deserialize_with = "de::duration")]
    half_open_after: Duration,
}

impl RawLadders {
    /// How long a step, or a trial start, must hold.
    pub(in crate::config) fn verify(&self) -> Duration {
        self.default.verify
    }

    /// The ladder as it is for a worker that can have everything done.
    pub(in crate::config) fn settle(self, strategies: &BTreeMap<Name, StrategySettings>) -> Ladder {
        let RawLadder { verify, cooldown, steps, learn, breaker } = self.default;
        let timeout =
            |run: &Strategy| run.own().and_then(|name| strategies.get(name)).map_or(USUAL, |own| own.timeout);
        let step = |raw: RawStep| {
            let run = raw.r#do?;
            let (when, approval) = (raw.when.into(), raw.approval);
            Some(Step {
                timeout: timeout(&run),
                attempts: raw.attempts,
                delay: raw.delay,
                when,
                approval,
                ..Step::new(run)
            })
        };
        let breaker = BreakerLimits {
            open_after: breaker.open_after,
            within: breaker.within,
            half_open_after: breaker.half_open_after,
        };
        Ladder { steps: steps.into_iter().filter_map(step).collect(), verify, cooldown, learn, breaker }
    }
}

/// `[recovery]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRecovery {
    max_parallel: u32,
    max_unavailable: f64,
    min_failing: u32,
    #[serde(deserialize_with = "de::duration")]
    window: Duration,
}

impl RawRecovery {
    pub(in crate::config) fn settle(self, classes: Vec<RawClass>) -> RecoverySettings {
        let limits = BrakeLimits {
            max_parallel: self.max_parallel,
            max_unavailable: self.max_unavailable,
            min_failing: self.min_failing,
            window: self.window,
        };
        RecoverySettings { limits, classes: classes.into_iter().filter_map(RawClass::settle).collect() }
    }
}

/// One `[[error_class]]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawClass {
    pub(in crate::config) name: Option<Arc<str>>,
    pub(in crate::config) r#match: Option<String>,
    pub(in crate::config) exit_code: Option<i32>,
}

impl RawClass {
    /// Its faults have been told with their places.
    fn settle(self) -> Option<ErrorClass> {
        let pattern = self.r#match.and_then(|pattern| regex::Regex::new(&pattern).ok());
        Some(ErrorClass { name: self.name?, pattern, exit_code: self.exit_code })
    }
}

/// `[strategy.NAME]` as written.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawStrategy {
    #[serde(default)]
    command: Vec<String>,
    #[serde(default, deserialize_with = "de::some_duration")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "de::some_duration")]
    cost: Option<Duration>,
}

impl From<RawStrategy> for StrategySettings {
    fn from(raw: RawStrategy) -> Self {
        Self { command: raw.command, timeout: raw.timeout.unwrap_or(USUAL), cost: raw.cost }
    }
}
