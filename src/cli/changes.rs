//! What differs, as people read it: `+ ~ -`, each key with its old and new value, and what happens to whom.

use serde_json::Value;

use crate::http::dto::{ChangeView, ChangesView, KeyView};

use super::words::{cut, plural, safe};

/// What no runtime takes over while it runs.
const WAITS: &str = "runtime_restart";

/// Longest value in a line; `-o json` has all of it.
const LONGEST_VALUE: usize = 80;

/// Whether it is told before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tense {
    /// It would happen.
    Would,
    /// It has been asked for.
    Done,
}

/// All of it, and a line that sums it up.
pub(crate) fn text(view: &ChangesView, tense: Tense) -> String {
    if view.changes.is_empty() {
        return "nothing differs: what the file says is in force\n".to_owned();
    }
    let mut out: String = view.changes.iter().map(one).collect();
    out.push_str(&format!("{}\n", summary(view, tense)));
    out
}

/// The names of those that differ.
pub(crate) fn names(view: &ChangesView) -> String {
    view.changes.iter().map(|change| format!("{}\n", safe(&change.name))).collect()
}

/// One difference.
pub(crate) fn one(change: &ChangeView) -> String {
    let sign = match change.change.as_str() {
        "added" => '+',
        "removed" => '-',
        _ => '~',
    };
    let who = if change.kind == "runtime" {
        change.kind.clone()
    } else {
        format!("{} {}", change.kind, change.name)
    };
    let mut out = format!("{sign} {}: {}\n", safe(&who), safe(&change.effect_text));
    for key in &change.keys {
        out.push_str(&format!("    {}\n", line(key, change)));
    }
    out
}

fn line(key: &KeyView, change: &ChangeView) -> String {
    let own = if key.effect == change.effect { String::new() } else { format!("  ({})", key.effect_text) };
    format!("{}: {} -> {}{}", safe(&key.key), value(key.old.as_ref()), value(key.new.as_ref()), safe(&own))
}

fn value(value: Option<&Value>) -> String {
    let text = match value {
        None => "nothing".to_owned(),
        Some(value) => value.to_string(),
    };
    cut(&safe(&text), LONGEST_VALUE)
}

fn summary(view: &ChangesView, tense: Tense) -> String {
    let effects = [
        ("starts", "start"),
        ("restarts", "restart"),
        ("stops", "stop"),
        ("in_place", "change in place"),
        ("next_start", "change at their next start"),
        ("after_pause", "restart when the pause ends"),
        ("stays_stopped", "stay stopped"),
    ];
    let count = |effect: &str| {
        view.changes.iter().filter(|change| change.kind == "worker" && change.effect == effect).count() as u64
    };
    let mut parts: Vec<String> = effects
        .iter()
        .filter(|(effect, _)| count(effect) > 0)
        .map(|(effect, verb)| format!("{} to {verb}", plural(count(effect), "worker")))
        .collect();
    parts.push(format!("{} untouched", plural(view.untouched_workers, "worker")));
    let parts = parts.join(", ");
    let waits = |keys: &[KeyView]| keys.iter().any(|key| key.effect == WAITS);
    let (some, all) = (
        view.changes.iter().any(|change| waits(&change.keys)),
        view.changes
            .iter()
            .all(|change| change.effect == WAITS && change.keys.iter().all(|key| key.effect == WAITS)),
    );
    let anew = "`regrow shutdown`, then `regrow start`";
    match tense {
        Tense::Would if all => format!("{parts}; `regrow apply` does not do it: {anew}"),
        Tense::Would if some => {
            format!("{parts}; `regrow apply` does it but for what needs a restart of the runtime: {anew}")
        }
        Tense::Would => format!("{parts}; `regrow apply` does it"),
        Tense::Done if some => format!(
            "{parts}; configuration generation {}; the rest needs a restart of the runtime: {anew}",
            view.config_generation
        ),
        Tense::Done => format!("{parts}; configuration generation {}", view.config_generation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_reads_well() {
        let key = |key: &str, old: Value, new: Value, effect: &str| KeyView {
            key: key.to_owned(),
            old: Some(old),
            new: Some(new),
            effect: effect.to_owned(),
            effect_text: effect.replace('_', " "),
        };
        let change = |change: &str, name: &str, effect: &str, keys| ChangeView {
            change: change.to_owned(),
            kind: "worker".to_owned(),
            name: name.to_owned(),
            effect: effect.to_owned(),
            effect_text: effect.replace('_', " "),
            keys,
        };
        let view = ChangesView {
            changes: vec![
                change("removed", "old", "stops", Vec::new()),
                change(
                    "changed",
                    "web",
                    "restarts",
                    vec![
                        key("command", serde_json::json!(["a"]), serde_json::json!(["b"]), "restarts"),
                        key("critical", false.into(), true.into(), "in_place"),
                    ],
                ),
                change("added", "new", "starts", Vec::new()),
            ],
            untouched_workers: 997,
            config_generation: 2,
            files: Vec::new(),
        };
        let expected = "- worker old: stops\n\
            ~ worker web: restarts\n    \
                command: [\"a\"] -> [\"b\"]\n    \
                critical: false -> true  (in place)\n\
            + worker new: starts\n\
            1 worker to start, 1 worker to restart, 1 worker to stop, 997 workers untouched; `regrow apply` does it\n";
        assert_eq!(text(&view, Tense::Would), expected);
        let listen = || ChangeView {
            kind: "runtime".to_owned(),
            ..change(
                "changed",
                "runtime",
                "runtime_restart",
                vec![key("http.listen", "a".into(), "b".into(), "runtime_restart")],
            )
        };
        let some =
            ChangesView { changes: vec![listen(), change("added", "new", "starts", Vec::new())], ..view };
        let told = text(&some, Tense::Would);
        assert!(told.ends_with("`regrow apply` does it but for what needs a restart of the runtime: `regrow shutdown`, then `regrow start`\n"), "{told}");
        let told = text(&some, Tense::Done);
        assert!(
            told.contains("; configuration generation 2; the rest needs a restart of the runtime: "),
            "{told}"
        );
        let only = ChangesView { changes: vec![listen()], ..some };
        let told = text(&only, Tense::Would);
        assert!(told.contains("`regrow apply` does not do it: "), "{told}");
    }
}
