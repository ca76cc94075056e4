//! Pages of lists: `?limit&cursor&filter`, the same for all of them.
//!
//! A cursor is the name of the last item that was shown, so a page goes on behind it whatever came meanwhile. A filter is
//! terms with spaces between, all of which must fit: `key:value` (`key=value` is taken, too), or a part of the name.

use super::super::problem::Problem;

/// Items in one answer of a list.
pub(super) const MOST_ITEMS: usize = 10_000;
/// Terms of a filter; further ones are a mistake.
const MOST_TERMS: usize = 16;

/// A part of a list.
pub(super) struct Page<'a> {
    limit: usize,
    cursor: Option<&'a str>,
    terms: Vec<(&'static str, &'a str)>,
}

impl<'a> Page<'a> {
    /// `keys`: what a term may be about, the one that has no key in front first.
    pub(super) fn parse(
        limit: Option<usize>,
        cursor: Option<&'a str>,
        filter: Option<&'a str>,
        keys: &[&'static str],
    ) -> Result<Self, Problem> {
        let terms: Vec<&str> = filter.unwrap_or_default().split_whitespace().collect();
        if terms.len() > MOST_TERMS {
            return Err(Problem::invalid(format!(
                "a filter has {MOST_TERMS} terms at most, not {}",
                terms.len()
            )));
        }
        let terms = terms.into_iter().map(|text| term(text, keys)).collect::<Result<_, _>>()?;
        Ok(Self { limit: limit.unwrap_or(MOST_ITEMS).clamp(1, MOST_ITEMS), cursor, terms })
    }

    /// Whether an item fits. `has`: whether what it says under a key is this.
    pub(super) fn fits(&self, has: impl Fn(&str, &str) -> bool) -> bool {
        self.terms.iter().all(|(key, value)| has(key, value))
    }

    /// What the filter says under a key, if anything.
    pub(super) fn wanted(&self, key: &str) -> Option<String> {
        let found = self.terms.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| (*value).to_owned())
    }

    /// Cuts it out of all that there is; answers where the next one begins. `fits` is asked of those behind the cursor.
    pub(super) fn cut<T>(
        &self,
        all: Vec<T>,
        name: impl Fn(&T) -> &str,
        has: impl Fn(&T, &str, &str) -> bool,
    ) -> Result<(Vec<T>, Option<String>), Problem> {
        let begin = match self.cursor {
            None => 0,
            Some(cursor) => {
                let gone = || {
                    let shown: String = cursor.escape_debug().take(64).collect();
                    Problem::invalid(format!(
                        "cursor: nothing here is called `{shown}` any more; begin anew without one"
                    ))
                };
                all.iter().position(|one| name(one) == cursor).ok_or_else(gone)? + 1
            }
        };
        let mut rest = all.into_iter().skip(begin).filter(|one| self.fits(|key, value| has(one, key, value)));
        let items: Vec<T> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and(items.last().map(|last| name(last).to_owned()));
        Ok((items, next))
    }
}

fn term<'a>(text: &'a str, keys: &[&'static str]) -> Result<(&'static str, &'a str), Problem> {
    let Some((key, value)) = text.split_once([':', '=']) else {
        return Ok((keys.first().copied().unwrap_or_default(), text));
    };
    match keys.iter().skip(1).find(|known| **known == key) {
        Some(known) => Ok((known, value)),
        None => {
            let shown: String = key.escape_debug().take(64).collect();
            let known: Vec<String> = keys.iter().skip(1).map(|known| format!("{known}:")).collect();
            Err(Problem::invalid(format!("unknown filter `{shown}:`; there are {}", known.join(" "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = ["web/0", "web/1", "db", "web/2", "cache"];

    fn page(
        limit: Option<usize>,
        cursor: Option<&str>,
        filter: Option<&str>,
    ) -> (Vec<&'static str>, Option<String>) {
        let page = Page::parse(limit, cursor, filter, &["name", "worker"]).ok().unwrap();
        let has = |one: &&str, key: &str, value: &str| match key {
            "worker" => one.split('/').next() == Some(value),
            _ => one.contains(value),
        };
        page.cut(ALL.to_vec(), |one| one, has).ok().unwrap()
    }

    #[test]
    fn pages_together_are_the_whole_list_and_the_last_one_says_so() {
        for (filter, whole) in [
            (None, ALL.to_vec()),
            (Some("worker:web"), vec!["web/0", "web/1", "web/2"]),
            (Some("a"), vec!["cache"]),
        ] {
            for limit in 1..=6 {
                let (mut seen, mut cursor) = (Vec::new(), None::<String>);
                loop {
                    let (items, next) = page(Some(limit), cursor.as_deref(), filter);
                    assert!(items.len() <= limit);
                    seen.extend(items);
                    match next {
                        Some(next) => cursor = Some(next),
                        None => break,
                    }
                }
                assert_eq!(seen, whole, "{filter:?} by {limit}");
            }
        }
    }

    #[test]
    fn both_signs_are_taken_and_a_page_is_never_empty_for_its_limit() {
        assert_eq!(page(Some(0), None, Some("worker=db")).0, ["db"]);
        assert_eq!(page(None, None, Some("worker:web web/1")).0, ["web/1"]);
        assert_eq!(page(None, Some("cache"), None), (vec![], None));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(Page::parse(None, None, Some("colour:red"), &["name", "worker"]).is_err());
        assert!(Page::parse(None, None, Some(&"a ".repeat(17)), &["name"]).is_err());
        let page = Page::parse(None, Some("gone"), None, &["name"]).ok().unwrap();
        assert!(page.cut(ALL.to_vec(), |one| one, |_, _, _| true).is_err());
    }
}
