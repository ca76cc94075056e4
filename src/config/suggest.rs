//! "Did you mean": the nearest of the words that would have been right.
//!
//! A suggestion that is far off is worse than none, so a third of the letters may differ and no more.

use crate::id::Name;

/// The candidate nearest to `text`, if one is near enough. Case and `-` against `_` do not count.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normal(text);
    // Longer words than any key or name are noise; measuring them would only cost time.
    if wanted.len() > 64 {
        return None;
    }
    let allowed = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        // A hint is not worth more time than this.
        .take(2000)
        .map(|candidate| (distance(&wanted, &normal(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A name near the wrong one: lower case, `-` for what cannot stand.
pub(super) fn rename(text: &str) -> Option<String> {
    let swapped: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
        .collect();
    let name = swapped.trim_matches(|c: char| !c.is_ascii_alphanumeric()).replace("__", "_");
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    Name::try_new(name).ok().map(|name| name.to_string())
}

fn normal(text: &str) -> String {
    text.to_lowercase().replace('-', "_")
}

/// Edits between two words; swapping two neighbours is one edit, because that is how people mistype.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised() {
        let keys = ["command", "restart", "start_timeout", "stop"];
        assert_eq!(nearest("comand", keys), Some("command"));
        assert_eq!(nearest("retsart", keys), Some("restart"));
        assert_eq!(nearest("start-timeout", keys), Some("start_timeout"));
        assert_eq!(nearest("StartTimeout", keys), Some("start_timeout"));
    }

    #[test]
    fn a_stranger_gets_no_suggestion() {
        assert_eq!(nearest("replicas", ["command", "restart", "stop"]), None);
        assert_eq!(nearest("", ["command"]), None);
    }
}
