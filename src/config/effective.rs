//! What holds in the end: the merged tables, each table of a name over what it inherits.

use config::{Value, ValueKind};

use super::elements::DEFAULT_MAX;
use super::layers::{self, Layer};
use super::schema::Kind;
use crate::id::Name;

/// The merged tables.
#[derive(Debug, Clone, Default)]
pub(super) struct Effective {
    /// Everything, as the layers give it; templates are not laid under it yet.
    pub(super) sections: Layer,
    /// The built-in `[supervisor.root]`, which every supervisor lies over.
    pub(super) template: Layer,
    /// What there is, in order of appearance.
    pub(super) names: Vec<(Kind, Name)>,
    /// True if `$STATE_DIRECTORY` gave the state directory.
    pub(super) state_directory: bool,
}

impl Effective {
    /// `[supervisor.NAME]` over its template, or `[worker.NAME]` and `[template.NAME]` over `[defaults.worker]`. Made when it is asked for:
    /// with a thousand workers most of a configuration is what they have in common.
    pub(super) fn table(&self, kind: Kind, name: &Name) -> Layer {
        let none = Layer::new();
        let below =
            |table, name| layers::inside(&self.sections, table).and_then(|all| layers::inside(all, name));
        match kind {
            Kind::Supervisor => {
                layers::over(&self.template, below("supervisor", name.as_str()).unwrap_or(&none))
            }
            Kind::Worker => {
                let defaults = below("defaults", "worker").unwrap_or(&none);
                layers::over(defaults, below("worker", name.as_str()).unwrap_or(&none))
            }
            Kind::Template => {
                let defaults =
                    layers::over(&template_defaults(), below("defaults", "worker").unwrap_or(&none));
                layers::over(&defaults, below("template", name.as_str()).unwrap_or(&none))
            }
        }
    }
}

/// What a template has that no worker has.
fn template_defaults() -> Layer {
    Layer::from_iter([("max".to_owned(), Value::new(None, ValueKind::I64(DEFAULT_MAX)))])
}
