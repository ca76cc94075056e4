//! `regrow.config/1`: the settings in force, in the words of the file.
//!
//! Values of variables whose names sound like secrets are masked: an answer ends up in tickets and chats.
//! Where a value came from is not told here; `regrow check --explain` does.

use serde_json::{Map, Value, json};

use crate::config::{Settings, words};

/// The effective configuration as JSON.
#[must_use]
pub fn effective(settings: &Settings) -> Value {
    let workers = settings.workers.iter().map(|one| (one.name.to_string(), masked(words::worker(one))));
    let supervisors =
        settings.supervisors.iter().map(|one| (one.name.to_string(), words::supervisor(one).into()));
    let mut whole = Map::new();
    whole.insert("schema".to_owned(), json!("regrow.config/1"));
    whole.extend(words::sections(settings));
    whole.insert("supervisor".to_owned(), Value::Object(supervisors.collect()));
    whole.insert("worker".to_owned(), Value::Object(workers.collect()));
    let templates = settings.templates.iter().map(|one| (one.name.to_string(), masked(words::template(one))));
    whole.insert("template".to_owned(), Value::Object(templates.collect()));
    whole.insert("added".to_owned(), json!(settings.added.iter().map(|one| &**one).collect::<Vec<_>>()));
    whole.insert("warnings".to_owned(), json!(settings.warnings));
    whole.insert("base_dir".to_owned(), json!(settings.base_dir.display().to_string()));
    Value::Object(whole)
}

fn masked(mut worker: Map<String, Value>) -> Value {
    if let Some(Value::Object(env)) = worker.get_mut("env") {
        for (_, value) in env.iter_mut().filter(|(name, _)| words::is_secret(name)) {
            *value = words::HIDDEN.into();
        }
    }
    Value::Object(worker)
}
