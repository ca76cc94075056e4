//! Layers of checked values, the later over the earlier, kept and merged by the `config` crate.
//!
//! Tables merge key by key, everything else is replaced. `config` would also read files and the environment,
//! but it bends types (`3.7` to `4`, `"0123"` to `123`) and forgets lines; so it gets only what is checked.

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use serde::de::DeserializeOwned;

/// One layer: a table of checked values.
pub(super) type Layer = Map<String, Value>;

#[derive(Debug, Clone)]
struct Given(Layer);

impl Source for Given {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }

    /// Our keys are names, never paths, so nothing needs to be parsed or copied twice.
    fn collect_to(&self, cache: &mut Value) -> Result<(), ConfigError> {
        if let ValueKind::Table(below) = &mut cache.kind {
            lay(below, &self.0);
        } else {
            cache.kind = ValueKind::Table(self.0.clone());
        }
        Ok(())
    }
}

/// Merges layers, the last on top.
pub(super) fn merge(layers: impl IntoIterator<Item = Layer>) -> Result<Layer, ConfigError> {
    let builder =
        layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(Given(layer)));
    builder.build()?.cache.into_table()
}

/// One layer over another, by the same rule.
pub(super) fn over(below: &Layer, above: &Layer) -> Layer {
    let mut merged = below.clone();
    lay(&mut merged, above);
    merged
}

fn lay(below: &mut Layer, above: &Layer) {
    for (name, value) in above {
        match (below.get_mut(name).map(|value| &mut value.kind), &value.kind) {
            (Some(ValueKind::Table(below)), ValueKind::Table(above)) => lay(below, above),
            (Some(below), _) => *below = value.kind.clone(),
            (None, _) => {
                below.insert(name.clone(), value.clone());
            }
        }
    }
}

/// A table of which one key holds: the others say that they are not there, also over a layer that has them.
pub(super) fn alone<'k>(mut table: Layer, keys: impl Iterator<Item = &'k str>) -> Value {
    for key in keys {
        table.entry(key.to_owned()).or_insert_with(|| Value::new(None, ValueKind::Nil));
    }
    Value::new(None, ValueKind::Table(table))
}

/// What is there and says something.
pub(super) fn says(value: &&Value) -> bool {
    value.kind != ValueKind::Nil
}

/// These sections of a layer, those of them that are there.
pub(super) fn only(layer: &Layer, names: &[&str]) -> Layer {
    let found = names.iter().filter_map(|name| Some(((*name).to_owned(), layer.get(*name)?.clone())));
    found.collect()
}

/// A table inside a layer; empty if there is none.
pub(super) fn sub(layer: &Layer, name: &str) -> Layer {
    inside(layer, name).cloned().unwrap_or_default()
}

/// The same, where it is only looked at.
pub(super) fn inside<'a>(layer: &'a Layer, name: &str) -> Option<&'a Layer> {
    match layer.get(name).map(|value| &value.kind) {
        Some(ValueKind::Table(table)) => Some(table),
        _ => None,
    }
}

/// Gives a table its strict form.
pub(super) fn read<T: DeserializeOwned>(layer: Layer) -> Result<T, ConfigError> {
    Value::new(None, ValueKind::Table(layer)).try_deserialize()
}
