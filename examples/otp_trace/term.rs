//! Words of a trace as settings, and exits as Erlang terms.

use std::sync::Arc;
use std::time::Duration;

use regrow::exit::{Exit, StartFailure};
use regrow::id::Incarnation;
use regrow::policy::{
    AutoShutdown, Backoff, ChildKind, ChildSpec, ExitCodes, Intensity, OnExhausted, Restart, RestartStrategy,
    Shutdown, SpecError, SupervisorSpec, check_child,
};
use regrow::recovery::Ladder;

/// The code that stands for `{shutdown, Term}` beside 0 for `normal`: both are in the normal set.
const SHUTDOWN_TERM: i32 = 1;

/// A whole number of any length, as Erlang has them.
#[derive(Clone)]
pub(crate) struct Whole {
    /// As Erlang prints it.
    pub(crate) text: String,
    /// Its value, or what is nearest to it: a count or a time this far off never comes.
    pub(crate) near: i64,
}

impl Whole {
    /// None: it is no whole number.
    pub(crate) fn read(word: &str) -> Option<Self> {
        let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        let text = match (digits, word.starts_with('-')) {
            ("", _) => "0".to_owned(),
            (digits, true) => format!("-{digits}"),
            (digits, false) => digits.to_owned(),
        };
        let far = if text.starts_with('-') { i64::MIN } else { i64::MAX };
        let near = text.parse().unwrap_or(far);
        Some(Self { text, near })
    }
}

impl From<i64> for Whole {
    fn from(near: i64) -> Self {
        Self { text: near.to_string(), near }
    }
}

/// `sup`'s words, unchecked.
#[derive(Clone)]
pub(crate) struct Flags {
    pub(crate) strategy: String,
    pub(crate) intensity: Whole,
    pub(crate) period: Whole,
    pub(crate) auto: String,
}

impl Default for Flags {
    fn default() -> Self {
        Self { strategy: "one_for_one".into(), intensity: 1.into(), period: 5.into(), auto: "never".into() }
    }
}

impl Flags {
    pub(crate) fn is_simple(&self) -> bool {
        self.strategy == "simple_one_for_one"
    }

    /// Checked in OTP's order; the error is a term.
    pub(crate) fn spec(&self) -> Result<SupervisorSpec, String> {
        let strategy = match self.strategy.as_str() {
            "one_for_one" => RestartStrategy::OneForOne,
            "one_for_all" => RestartStrategy::OneForAll,
            "rest_for_one" => RestartStrategy::RestForOne,
            "simple_one_for_one" => RestartStrategy::SimpleOneForOne,
            other => return Err(format!("{{invalid_strategy,{}}}", atom(other))),
        };
        if self.intensity.near < 0 {
            return Err(format!("{{invalid_intensity,{}}}", self.intensity.text));
        }
        if self.period.near <= 0 {
            return Err(format!("{{invalid_period,{}}}", self.period.text));
        }
        let auto_shutdown =
            auto(&self.auto).ok_or_else(|| format!("{{invalid_auto_shutdown,{}}}", atom(&self.auto)))?;
        Ok(SupervisorSpec {
            strategy,
            intensity: Intensity {
                max_restarts: u32::try_from(self.intensity.near).unwrap_or(u32::MAX),
                within: Duration::from_secs(self.period.near.unsigned_abs()),
            },
            on_exhausted: OnExhausted::Escalate,
            retry: None,
            auto_shutdown,
            seed: 0,
        })
    }
}

pub(crate) fn auto(word: &str) -> Option<AutoShutdown> {
    match word {
        "never" => Some(AutoShutdown::Never),
        "any_significant" => Some(AutoShutdown::AnySignificant),
        "all_significant" => Some(AutoShutdown::AllSignificant),
        _ => None,
    }
}

/// `child`'s words, unchecked.
#[derive(Clone)]
pub(crate) struct Declared {
    pub(crate) id: String,
    pub(crate) restart: String,
    pub(crate) shutdown: String,
    pub(crate) kind: String,
    pub(crate) significant: String,
}

impl Declared {
    /// None: too few words.
    pub(crate) fn read(words: &[&str]) -> Option<Self> {
        let [id, restart, shutdown, kind, significant @ ..] = words else { return None };
        Some(Self {
            id: (*id).into(),
            restart: (*restart).into(),
            shutdown: (*shutdown).into(),
            kind: (*kind).into(),
            significant: (!significant.is_empty()).to_string(),
        })
    }

    /// Checked in OTP's order; the error is a term.
    pub(crate) fn spec(&self, auto_shutdown: AutoShutdown) -> Result<ChildSpec, String> {
        let restart = match self.restart.as_str() {
            "permanent" => Restart::Permanent,
            "transient" => Restart::Transient,
            "temporary" => Restart::Temporary,
            other => return Err(format!("{{invalid_restart_type,{}}}", atom(other))),
        };
        let mut spec = plain_child(&self.id, restart);
        // As the runtime has it with `ladder = "none"`, for supervisors too: they take no steps either way.
        spec.ladder = Some(Arc::new(Ladder::none()));
        spec.significant = self.significant == "true";
        check_child(&spec, auto_shutdown).map_err(|fault| spec_error(&fault))?;
        if !matches!(self.significant.as_str(), "true" | "false") {
            return Err(format!("{{invalid_significant,{}}}", atom(&self.significant)));
        }
        spec.kind = match self.kind.as_str() {
            "worker" => ChildKind::Worker,
            "supervisor" => ChildKind::Supervisor,
            other => return Err(format!("{{invalid_child_type,{}}}", atom(other))),
        };
        spec.shutdown = match (self.shutdown.as_str(), Whole::read(&self.shutdown)) {
            ("brutal_kill", _) => Shutdown::BrutalKill,
            ("infinity", _) => Shutdown::Infinity,
            (_, Some(ms)) if ms.near >= 0 => Shutdown::Timeout(Duration::from_millis(ms.near.unsigned_abs())),
            (_, Some(ms)) => return Err(format!("{{invalid_shutdown,{}}}", ms.text)),
            (other, None) => return Err(format!("{{invalid_shutdown,{}}}", atom(other))),
        };
        Ok(spec)
    }
}

fn plain_child(id: &str, restart: Restart) -> ChildSpec {
    ChildSpec {
        id: Arc::from(id),
        restart,
        shutdown: Shutdown::Infinity,
        kind: ChildKind::Worker,
        significant: false,
        backoff: Backoff {
            first: Duration::ZERO,
            factor: 1.0,
            max: Duration::ZERO,
            jitter: 0.0,
            reset_after: Duration::ZERO,
        },
        exit_codes: ExitCodes { normal: Arc::from([0, SHUTDOWN_TERM]), fatal: Arc::from([]) },
        start_timeout: None,
        min_uptime: Duration::ZERO,
        verify: Duration::ZERO,
        ladder: None,
        heard_within: Duration::ZERO,
        pool: None,
        held: false,
        stopped: false,
        paused: None,
        incarnation: Incarnation::NONE,
    }
}

/// A fault of the core's checks as OTP's term.
pub(crate) fn spec_error(fault: &SpecError) -> String {
    match fault {
        SpecError::SignificantWithNever { .. } => {
            "{bad_combination,[{auto_shutdown,never},{significant,true}]}".into()
        }
        SpecError::SignificantPermanent { .. } => {
            "{bad_combination,[{restart,permanent},{significant,true}]}".into()
        }
        SpecError::Duplicate { id } => format!("{{duplicate_child_name,\"{id}\"}}"),
        SpecError::OneTemplate { .. } => "bad_start_spec".into(),
        SpecError::AutoShutdownWithSimple | SpecError::ZeroWindow => "bad_flags".into(),
        fault => fault.to_string(),
    }
}

/// `#{..}` as `get_childspec` shows it.
pub(crate) fn spec_map(spec: &ChildSpec) -> String {
    let restart = match spec.restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    };
    let shutdown = match spec.shutdown {
        Shutdown::Timeout(limit) => limit.as_millis().to_string(),
        Shutdown::Infinity => "infinity".into(),
        Shutdown::BrutalKill => "brutal_kill".into(),
    };
    let kind = match spec.kind {
        ChildKind::Worker => "worker",
        ChildKind::Supervisor => "supervisor",
    };
    format!(
        "#{{id => \"{}\",restart => {restart},shutdown => {shutdown},significant => {},type => {kind}}}",
        spec.id, spec.significant
    )
}

/// A reason a process exits with, as the trace writes it.
pub(crate) fn exit(reason: &str) -> Exit {
    match reason {
        "normal" => Exit::Exited { code: 0 },
        "shutdown" => Exit::Stopped,
        "shutdown_term" => Exit::Exited { code: SHUTDOWN_TERM },
        "killed" => Exit::Killed,
        other => Exit::Error { message: atom(other) },
    }
}

/// What a start that failed left.
pub(crate) fn start_failure(outcome: &str) -> Exit {
    let detail = match outcome {
        "error" => "scripted".to_owned(),
        "crash" => "{'EXIT',scripted}".to_owned(),
        "already" => "{already_started,<0.0.0>}".to_owned(),
        other => format!("{{'EXIT',{{case_clause,{}}}}}", atom(other)),
    };
    Exit::StartFailed(StartFailure::System { detail })
}

/// The reason as Erlang prints it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a trace makes no other exits, and there may be more kinds"
)]
pub(crate) fn reason(exit: &Exit) -> String {
    match exit {
        Exit::Stopped => "shutdown".into(),
        Exit::Killed => "killed".into(),
        Exit::Exited { code: SHUTDOWN_TERM } => "{shutdown,term}".into(),
        Exit::Exited { .. } => "normal".into(),
        Exit::Error { message } => message.clone(),
        Exit::StartFailed(StartFailure::System { detail }) => detail.clone(),
        other => other.to_string(),
    }
}

/// An atom as Erlang prints it: quoted unless it is a plain lower-case word.
pub(crate) fn atom(word: &str) -> String {
    const RESERVED: [&str; 27] = [
        "after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch",
        "cond", "div", "end", "fun", "if", "let", "not", "of", "or", "orelse", "receive", "rem", "try",
        "when", "xor",
    ];
    let plain = word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@');
    if plain && !RESERVED.contains(&word) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}
