//! Placeholders in commands, directories and values: replaced, never split again.

use std::path::Path;

use crate::config::expand;
use crate::id::{Incarnation, InstanceId};

/// What placeholders stand for, for one instance.
#[derive(Debug, Clone)]
pub(super) struct Placeholders {
    instance: InstanceId,
    slug: String,
    state_dir: String,
    port: Option<u16>,
}

impl Placeholders {
    /// The placeholders of an instance whose own directory is `state_dir`.
    pub(super) fn new(instance: &InstanceId, state_dir: &Path, port: Option<u16>) -> Self {
        let state_dir = state_dir.to_string_lossy().into_owned();
        Self { instance: instance.clone(), slug: instance.slug(), state_dir, port }
    }

    /// Whether a text changes from one incarnation to the next.
    pub(super) fn varies(text: &str) -> bool {
        text.contains("{incarnation}")
    }

    /// Replaces what stands in braces, as the configuration says. A text that is none of its templates stays as it
    /// is: the configuration has refused those long before.
    pub(super) fn fill(&self, text: &str, incarnation: Incarnation) -> String {
        expand(text, |name| self.value(name, incarnation)).unwrap_or_else(|_| text.to_owned())
    }

    fn value(&self, name: &str, incarnation: Incarnation) -> Option<String> {
        match name {
            "worker" => Some(self.instance.worker().to_string()),
            "instance" => Some(self.instance.to_string()),
            "slug" => Some(self.slug.clone()),
            "index" => Some(self.instance.index().unwrap_or(0).to_string()),
            "incarnation" => Some(incarnation.to_string()),
            "port" => self.port.map(|port| port.to_string()),
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
        Placeholders::new(&id, Path::new("/s/w/parser-2/state"), Some(8003)).fill(text, Incarnation(7))
    }

    #[test]
    fn every_placeholder_is_replaced() {
        assert_eq!(filled("{worker} {instance} {slug} {index}"), "parser parser/2 parser-2 2");
        assert_eq!(filled("{incarnation}:{state_dir}:{port}"), "7:/s/w/parser-2/state:8003");
    }

    #[test]
    fn a_doubled_brace_is_a_brace_and_a_closing_one_is_taken_as_it_is() {
        assert_eq!(filled("{{worker} {{{index} {{ print {{} }}"), "{worker} {2 { print {} }}");
    }

    #[test]
    fn what_is_no_template_stays() {
        assert_eq!(filled("{nobody} {index} {worker"), "{nobody} {index} {worker");
    }
}
