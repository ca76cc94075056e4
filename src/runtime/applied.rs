//! What is told of a configuration that was taken over, and of one that was not.

use crate::config::{Change, Diagnostics, Effect, KeyChange, Subject};
use crate::event::{Cause, Event, EventKind};

use super::handle::Asker;
use super::living::{ApplyError, Comparison};

/// Changes that an event names one by one; the counts tell of the others.
const NAMED_IN_EVENT: usize = 100;
/// Problems that an event names; `regrow check` shows all.
const PROBLEMS_IN_EVENT: usize = 10;

/// What holds only in a runtime that is started anew.
fn for_a_restart(changes: &[Change]) -> impl Iterator<Item = &KeyChange> {
    changes.iter().flat_map(|change| &change.keys).filter(|key| key.effect == Effect::RuntimeRestart)
}

pub(super) fn pending(changes: &[Change]) -> Vec<String> {
    for_a_restart(changes)
        .map(|key| {
            let value = key.new.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            format!("the file now says {} = {value}; that needs a restart of the runtime", key.key)
        })
        .collect()
}

pub(super) fn applied_event(comparison: &Comparison, by: &Asker) -> Event {
    let Comparison { changes, untouched, generation, .. } = comparison;
    let count = |effect| {
        let workers = changes.iter().filter(|change| matches!(change.subject, Subject::Worker(_)));
        workers.filter(|change| change.effect == effect).count()
    };
    let effects = [
        Effect::Starts,
        Effect::Restarts,
        Effect::Stops,
        Effect::InPlace,
        Effect::NextStart,
        Effect::AfterPause,
        Effect::StaysStopped,
    ];
    let told: Vec<String> = effects
        .into_iter()
        .filter(|effect| count(*effect) > 0)
        .map(|effect| format!("{} {}", count(effect), effect.phrase()))
        .collect();
    let what = match (changes.is_empty(), told.is_empty()) {
        (true, _) => "nothing differs".to_owned(),
        (false, true) => "no worker is concerned".to_owned(),
        (false, false) => format!("workers: {}", told.join(", ")),
    };
    let waits: Vec<&str> = for_a_restart(changes).map(|key| key.key.as_str()).collect();
    let waits = if waits.is_empty() {
        String::new()
    } else {
        format!("; needs a restart of the runtime: {}", waits.join(", "))
    };
    let message =
        format!("configuration applied, asked by {}: {what}; {untouched} go on untouched{waits}", by.0);
    let mut event = Event::new(EventKind::ConfigApplied, message);
    event.cause = Some(Cause::Operator.into());
    event.data.insert("by".to_owned(), by.0.clone().into());
    event.data.insert("generation".to_owned(), (*generation).into());
    let named = changes.iter().take(NAMED_IN_EVENT).map(|change| {
        let (kind, name) = change.subject.words();
        serde_json::json!({ "change": change.sign.word(), "kind": kind, "name": name, "effect": change.effect.word() })
    });
    event.data.insert("changes".to_owned(), named.collect::<Vec<_>>().into());
    event
}

pub(super) fn rejected_event(error: &ApplyError, by: &Asker) -> Event {
    let (why, problems) = match error {
        ApplyError::Invalid(diagnostics) => (diagnostics.summary(), problems(diagnostics)),
        ApplyError::NoFile | ApplyError::Unread | ApplyError::Act(_) => (error.to_string(), Vec::new()),
    };
    let message =
        format!("the configuration was not taken over, asked by {}: {why}. Nothing was changed", by.0);
    let mut event = Event::new(EventKind::ConfigRejected, message);
    event.cause = Some(Cause::Operator.into());
    event.data.insert("by".to_owned(), by.0.clone().into());
    event.data.insert("problems".to_owned(), problems.into());
    event
}

fn problems(diagnostics: &Diagnostics) -> Vec<serde_json::Value> {
    let all = diagnostics.problems().into_iter().take(PROBLEMS_IN_EVENT);
    all.map(|problem| serde_json::to_value(problem).unwrap_or_default()).collect()
}
