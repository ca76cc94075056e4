//! `[ladder.*]`, `[recovery]` and `[[error_class]]`: what is done about a worker that is sick, and by how much of
//! the fleet at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::leaf::{Leaf, Text};
use crate::config::schema::{Key, leaf, table};
use crate::config::settings::{Ladder as ChosenLadder, RecoverySettings, StrategySettings};
use crate::id::Name;
use crate::recovery::{BrakeLimits, BreakerLimits, ErrorClass, Ladder, Learn, Step, Strategy};

use super::de;

const TIME: Leaf = Leaf::Text(Text::Duration { zero: true });
const POSITIVE: Leaf = Leaf::Text(Text::Duration { zero: false });
/// The ladder that every worker has that says nothing.
const DEFAULT: &str = "default";
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

pub(super) const KEYS: &[Key] = &[
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
];

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

/// `[ladder.*]` as written: `default`, and those of the user.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub(in crate::config) struct RawLadders(BTreeMap<Name, RawLadder>);

/// What is not said is as in `[ladder.default]`.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLadder {
    #[serde(default, deserialize_with = "de::some_duration")]
    verify: Option<Duration>,
    #[serde(default, deserialize_with = "de::some_duration")]
    cooldown: Option<Duration>,
    steps: Option<Vec<RawStep>>,
    learn: Option<Learn>,
    #[serde(default)]
    breaker: RawBreaker,
}

#[derive(Debug, Clone, serde::Deserialize)]
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

#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBreaker {
    open_after: Option<u32>,
    #[serde(default, deserialize_with = "de::some_duration")]
    within: Option<Duration>,
    #[serde(default, deserialize_with = "de::some_duration")]
    half_open_after: Option<Duration>,
}

impl RawLadders {
    /// How long a step, or a trial start, must hold for a worker with this ladder.
    pub(in crate::config) fn verify(&self, ladder: &ChosenLadder) -> Duration {
        let of = |name: &str| self.0.iter().find(|(known, _)| known.as_str() == name)?.1.verify;
        let own = ladder.name().and_then(of);
        own.or_else(|| of(DEFAULT)).unwrap_or_else(|| Ladder::default().verify)
    }

    /// The ladders as they are for a worker that can have everything done.
    pub(in crate::config) fn settle(
        self,
        strategies: &BTreeMap<Name, StrategySettings>,
    ) -> BTreeMap<Name, Arc<Ladder>> {
        let default = self.0.iter().find(|(name, _)| name.as_str() == DEFAULT).map(|(_, raw)| raw.clone());
        let default = default.map_or_else(Ladder::default, |raw| raw.over(&Ladder::default(), strategies));
        self.0.into_iter().map(|(name, raw)| (name, Arc::new(raw.over(&default, strategies)))).collect()
    }
}

impl RawLadder {
    fn over(self, base: &Ladder, strategies: &BTreeMap<Name, StrategySettings>) -> Ladder {
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
        let steps = self.steps.map(|steps| steps.into_iter().filter_map(step).collect());
        Ladder {
            steps: steps.unwrap_or_else(|| Arc::clone(&base.steps)),
            verify: self.verify.unwrap_or(base.verify),
            cooldown: self.cooldown.unwrap_or(base.cooldown),
            learn: self.learn.unwrap_or(base.learn),
            breaker: BreakerLimits {
                open_after: self.breaker.open_after.unwrap_or(base.breaker.open_after),
                within: self.breaker.within.unwrap_or(base.breaker.within),
                half_open_after: self.breaker.half_open_after.unwrap_or(base.breaker.half_open_after),
            },
        }
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

impl StrategySettings {
    /// One that the program has registered and the file says nothing of.
    pub(in crate::config) fn code() -> Self {
        Self { command: Vec::new(), timeout: USUAL, cost: None, code: true }
    }
}

impl From<RawStrategy> for StrategySettings {
    fn from(raw: RawStrategy) -> Self {
        Self { command: raw.command, timeout: raw.timeout.unwrap_or(USUAL), cost: raw.cost, code: false }
    }
}
