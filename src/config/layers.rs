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
}

/// Merges layers, the last on top.
pub(super) fn merge(layers: impl IntoIterator<Item = Layer>) -> Result<Layer, ConfigError> {
    let builder =
        layers.into_iter().fold(Config::builder(), |builder, layer| builder.add_source(Given(layer)));
    builder.build()?.collect()
}

/// A table inside a layer; empty if there is none.
pub(super) fn sub(layer: &Layer, name: &str) -> Layer {
    match layer.get(name).map(|value| &value.kind) {
        Some(ValueKind::Table(table)) => table.clone(),
        _ => Layer::new(),
    }
}

/// Gives a table its strict form.
pub(super) fn read<T: DeserializeOwned>(layer: &Layer) -> Result<T, ConfigError> {
    Value::new(None, ValueKind::Table(layer.clone())).try_deserialize()
}
