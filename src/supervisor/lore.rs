//! What was learned here and elsewhere, kept apart by where it comes from.
//!
//! An export carries the name of its host, and what it knows of others under theirs. So the same cases are counted once,
//! however often and by whatever way they come in: of two counts of one host the longer one holds, and only those of
//! different hosts are added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recovery::learning::Knowledge;

/// Of an export.
const SCHEMA: &str = "regrow.strategies.export/1";
/// Hosts whose experience is kept apart; that of further ones is left out.
const MOST_HOSTS: usize = 64;

/// What `strategies export` writes and `strategies import` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lore {
    /// `regrow.strategies.export/1`
    schema: String,
    /// By where it was learned.
    hosts: BTreeMap<String, Knowledge>,
}

/// All that is known.
pub(super) struct Library {
    /// This host's name.
    host: String,
    hosts: BTreeMap<String, Knowledge>,
    /// All of them together.
    all: Knowledge,
}

impl Library {
    pub(super) fn new(host: String) -> Self {
        Self { host, hosts: BTreeMap::new(), all: Knowledge::default() }
    }

    /// Together.
    pub(super) fn all(&self) -> &Knowledge {
        &self.all
    }

    /// Changes what was learned here.
    pub(super) fn learn(&mut self, learn: impl Fn(&mut Knowledge)) {
        learn(self.hosts.entry(self.host.clone()).or_default());
        learn(&mut self.all);
    }

    pub(super) fn export(&self) -> Lore {
        Lore { schema: SCHEMA.to_owned(), hosts: self.hosts.clone() }
    }

    /// Takes in an export; answers how much of it made no sense and was left out.
    pub(super) fn import(&mut self, lore: Lore) -> Result<usize, String> {
        if lore.schema != SCHEMA {
            let shown: String = lore.schema.escape_debug().take(64).collect();
            return Err(format!("its schema is `{shown}`, and only {SCHEMA} is understood"));
        }
        let mut left_out = 0;
        for (host, knowledge) in lore.hosts {
            if self.hosts.contains_key(&host) || self.hosts.len() < MOST_HOSTS {
                left_out += self.hosts.entry(host).or_default().renew(knowledge);
            } else {
                left_out += knowledge.size();
            }
        }
        self.all = Knowledge::default();
        for knowledge in self.hosts.values() {
            self.all.join(knowledge.clone());
        }
        Ok(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::Strategy;

    fn library(host: &str, tries: u32) -> Library {
        let mut library = Library::new(host.to_owned());
        for n in 0..tries {
            library.learn(|known| {
                known.observe(&"hang".into(), &Strategy::SoftRestart, true, 5.0, f64::from(n));
            });
        }
        library
    }

    fn tried(library: &Library) -> u64 {
        library.all().look(0.0).iter().map(|look| look.attempts).sum()
    }

    #[test]
    fn what_comes_in_twice_or_comes_home_is_counted_once() {
        let (mut one, mut two) = (library("one", 3), library("two", 4));
        for _ in 0..3 {
            assert_eq!(one.import(one.export()), Ok(0));
            assert_eq!(tried(&one), 3);
        }
        for _ in 0..3 {
            two.import(one.export()).unwrap();
            one.import(two.export()).unwrap();
            assert_eq!((tried(&one), tried(&two)), (7, 7));
        }
        // One that has lost everything gets it back from the others.
        let mut fresh = library("one", 1);
        fresh.import(two.export()).unwrap();
        assert_eq!(tried(&fresh), 7);
    }

    #[test]
    fn an_export_says_what_it_is_and_nothing_else_is_taken_in() {
        let mut lore = library("one", 1).export();
        let text = serde_json::to_value(&lore).unwrap();
        assert_eq!(text["schema"], SCHEMA);
        assert!(serde_json::from_str::<Lore>("{}").is_err());
        lore.schema = "regrow.status/1".to_owned();
        assert!(library("two", 1).import(lore).unwrap_err().contains(SCHEMA));
    }
}
