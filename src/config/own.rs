//! An actor's own settings, which this program cannot know: kept as they were given, for its own type to read.

/// `worker.config`: a JSON object. Kept as a list, because the smallest map takes six hundred bytes, and there are as many
/// as there are workers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OwnConfig(Box<[(Box<str>, serde_json::Value)]>);

impl OwnConfig {
    /// The whole of it.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        self.0.iter().map(|(name, value)| (String::from(&**name), value.clone())).collect()
    }
}

impl From<serde_json::Map<String, serde_json::Value>> for OwnConfig {
    fn from(map: serde_json::Map<String, serde_json::Value>) -> Self {
        Self(map.into_iter().map(|(name, value)| (name.into_boxed_str(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_actors_own_settings_come_out_as_they_went_in() {
        for value in [json!({}), json!({ "to": { "name": "ann", "at": [1, 0.1] }, "every": null })] {
            let map = value.as_object().unwrap().clone();
            assert_eq!(OwnConfig::from(map).value(), value);
        }
        assert_eq!(OwnConfig::default().value(), json!({}));
    }
}
