//! Placeholders in commands, directories and values: replaced, never split again.

use std::path::Path;

use crate::id::{Incarnation, InstanceId};

/// What placeholders stand for, for one instance.
#[derive(Debug, Clone)]
pub(super) struct Placeholders {
    instance: InstanceId,
    slug: String,
    state_dir: String,
}

impl Placeholders {
    /// The placeholders of an instance whose own directory is `state_dir`.
    pub(super) fn new(instance: &InstanceId, state_dir: &Path) -> Self {
        let state_dir = state_dir.to_string_lossy().into_owned();
        Self { instance: instance.clone(), slug: instance.slug(), state_dir }
    }

    /// Whether a text changes from one incarnation to the next.
    pub(super) fn varies(text: &str) -> bool {
        text.contains("{incarnation}")
    }

    /// Replaces `{name}`, `{{` and `}}`. A name that does not exist stays as it is: the configuration has
    /// refused those long before.
    pub(super) fn fill(&self, text: &str, incarnation: Incarnation) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let taken = self.fill_one(rest, incarnation, &mut filled);
            rest = &rest[taken..];
        }
        filled.push_str(rest);
        filled
    }

    /// Handles the brace at the start of `rest`; answers how many bytes it took.
    fn fill_one(&self, rest: &str, incarnation: Incarnation, filled: &mut String) -> usize {
        if rest.starts_with("{{") || rest.starts_with("}}") {
            filled.push_str(&rest[..1]);
            return 2;
        }
        let name = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')).map(|(name, _)| name);
        match name.and_then(|name| Some((name, self.value(name, incarnation)?))) {
            Some((name, value)) => {
                filled.push_str(&value);
                name.len() + 2
            }
            None => {
                filled.push_str(&rest[..1]);
                1
            }
        }
    }

    fn value(&self, name: &str, incarnation: Incarnation) -> Option<String> {
        match name {
            "worker" => Some(self.instance.worker().to_string()),
            "instance" => Some(self.instance.to_string()),
            "slug" => Some(self.slug.clone()),
            "index" => Some(self.instance.index().unwrap_or(0).to_string()),
            "incarnation" => Some(incarnation.to_string()),
            "state_dir" => Some(self.state_dir.clone()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Name;

    fn filled(text: &str) -> String {
        let id = InstanceId::of_pool(Name::try_new("parser").unwrap(), 2);
        Placeholders::new(&id, Path::new("/s/w/parser-2/state")).fill(text, Incarnation(7))
    }

    #[test]
    fn every_placeholder_is_replaced() {
        assert_eq!(filled("{worker} {instance} {slug} {index}"), "parser parser/2 parser-2 2");
        assert_eq!(filled("{incarnation}:{state_dir}"), "7:/s/w/parser-2/state");
    }

    #[test]
    fn doubled_braces_are_braces() {
        assert_eq!(filled("{{worker}} {{{index}}}"), "{worker} {2}");
    }

    #[test]
    fn replaced_text_is_not_read_again_and_strangers_stay() {
        assert_eq!(filled("{nobody} { } {worker"), "{nobody} { } {worker");
    }
}
