//! What the verb of a route and its body ask for.

use axum::body::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::signal_number;
use crate::runtime::{Act, MOST_INSTANCES, Target};
use crate::units::parse_duration;

use super::super::problem::Problem;

/// The body of `/pause`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    /// `1h`; without it the pause lasts until somebody resumes.
    #[serde(rename = "for")]
    lasting: Option<String>,
}

/// The body of `/signal`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signal {
    /// `HUP`, `SIGHUP` or `1`.
    signal: String,
}

/// The body of `/scale`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    instances: u32,
}

/// The body of `/restart`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Restart {
    /// One after the other, with one instance more meanwhile.
    rolling: bool,
    /// How many may be down at once; 1 if it is not said.
    max_unavailable: Option<u32>,
}

/// A body where none is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Joins both.
pub(super) fn act(verb: &str, body: &Bytes) -> Result<Act, Problem> {
    match verb {
        "pause" => {
            let Pause { lasting } = optional(body)?;
            let lasting = lasting.map(|text| parse_duration(&text)).transpose();
            let lasting = lasting.map_err(|error| Problem::invalid(format!("for: {error}")))?;
            Ok(Act::Pause { lasting })
        }
        "signal" => {
            let Signal { signal } = wanted(body, "{\"signal\": \"HUP\"}")?;
            let number = signal_number(&signal).ok_or_else(|| {
                let shown: String = signal.escape_debug().take(64).collect();
                Problem::invalid(format!("`{shown}` is no signal; write TERM, HUP, USR1 …"))
            })?;
            Ok(Act::Signal(number))
        }
        "restart" => restart(&optional(body)?),
        "scale" => match wanted(body, "{\"instances\": 3}")? {
            Scale { instances } if (1..=MOST_INSTANCES).contains(&instances) => Ok(Act::Scale { instances }),
            Scale { instances } => Err(Problem::invalid(format!(
                "instances cannot be {instances}; 1 to {MOST_INSTANCES}, and `stop` for none"
            ))),
        },
        "stop" => plain(body, Act::Stop),
        "start" => plain(body, Act::Start),
        "reload" => plain(body, Act::Reload),
        "resume" => plain(body, Act::Resume),
        "reset-failed" => plain(body, Act::ResetFailed),
        other => Err(Problem::not_found(format!(
            "there is no action `{}`; there are restart, stop, start, scale, pause, resume, reload, signal and reset-failed",
            other.escape_debug().take(64).collect::<String>()
        ))),
    }
}

/// The same, of those whom the body names beside what the verb takes.
pub(super) fn several(verb: &str, body: &Bytes) -> Result<(Vec<Target>, Act), Problem> {
    let example = "{\"targets\": [\"db\", \"api\"]}";
    let mut whole: serde_json::Map<String, serde_json::Value> = wanted(body, example)?;
    let named = whole.remove("targets").unwrap_or_default();
    let named: Vec<String> = serde_json::from_value(named)
        .map_err(|_| Problem::invalid(format!("this action wants a list of names, such as {example}")))?;
    if named.is_empty() {
        return Err(Problem::invalid("targets is empty; POST /api/v1/all/{verb} means all of them"));
    }
    let targets = named.iter().map(|text| text.parse::<Target>()).collect::<Result<_, _>>()?;
    let rest = if whole.is_empty() { Vec::new() } else { serde_json::to_vec(&whole).unwrap_or_default() };
    Ok((targets, act(verb, &Bytes::from(rest))?))
}

fn restart(body: &Restart) -> Result<Act, Problem> {
    match body {
        Restart { rolling: false, max_unavailable: None } => Ok(Act::Restart),
        Restart { rolling: true, max_unavailable } if *max_unavailable != Some(0) => {
            Ok(Act::Roll { max_unavailable: max_unavailable.unwrap_or(1) })
        }
        Restart { rolling: true, .. } => Err(Problem::invalid("max_unavailable is at least 1")),
        Restart { rolling: false, .. } => Err(Problem::invalid("max_unavailable is for a rolling restart")),
    }
}

fn plain(body: &Bytes, act: Act) -> Result<Act, Problem> {
    nothing(body).map(|()| act)
}

/// Refuses a body that says anything, where nothing can be said.
pub(super) fn nothing(body: &Bytes) -> Result<(), Problem> {
    optional::<Nothing>(body).map(|Nothing {}| ())
}

fn optional<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}

fn wanted<T: DeserializeOwned>(body: &Bytes, example: &str) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(Problem::invalid(format!("this action wants a body, such as {example}")));
    }
    parse(body)
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ask(verb: &str, body: &'static str) -> Option<Act> {
        act(verb, &Bytes::from_static(body.as_bytes())).ok()
    }

    #[test]
    fn a_pause_may_have_an_end() {
        assert_eq!(ask("pause", ""), Some(Act::Pause { lasting: None }));
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(ask("pause", r#"{"for":"1h"}"#), Some(Act::Pause { lasting: hour }));
        assert_eq!(ask("pause", r#"{"for":"soon"}"#), None);
        assert_eq!(ask("pause", r#"{"until":"1h"}"#), None);
    }

    #[test]
    fn a_signal_is_named() {
        assert_eq!(ask("signal", r#"{"signal":"HUP"}"#), Some(Act::Signal(libc::SIGHUP)));
        assert_eq!(ask("signal", r#"{"signal":"SIGUSR1"}"#), Some(Act::Signal(libc::SIGUSR1)));
        assert_eq!((ask("signal", ""), ask("signal", r#"{"signal":"HOP"}"#)), (None, None));
    }

    #[test]
    fn several_are_named_beside_what_the_verb_takes() {
        let ask = |verb: &str, body: &'static str| {
            let (targets, act) = several(verb, &Bytes::from_static(body.as_bytes())).ok()?;
            Some((targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), act))
        };
        assert_eq!(ask("stop", r#"{"targets":["db","sup:e"]}"#), Some(("db sup:e".to_owned(), Act::Stop)));
        let hour = Act::Pause { lasting: Some(Duration::from_secs(3600)) };
        assert_eq!(ask("pause", r#"{"targets":["db/0"],"for":"1h"}"#), Some(("db/0".to_owned(), hour)));
        for body in ["", "{}", r#"{"targets":[]}"#, r#"{"targets":"db"}"#, r#"{"targets":["--all"]}"#] {
            assert_eq!(ask("stop", body), None, "{body}");
        }
        assert_eq!(ask("stop", r#"{"targets":["db"],"for":"1h"}"#), None);
    }

    #[test]
    fn a_body_that_nobody_reads_is_refused() {
        assert_eq!(ask("stop", ""), Some(Act::Stop));
        assert_eq!(ask("stop", "{}"), Some(Act::Stop));
        assert_eq!(ask("stop", r#"{"for":"1h"}"#), None);
    }
}
