//! `regrow schema`: what editors are told of the file agrees with what the check says of it.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use regrow::config::{Sources, json_schema, load};
use serde_json::{Value, json};

/// As much of JSON Schema as the schema uses; a keyword that is not known here fails the test.
struct Validator {
    root: Value,
}

impl Validator {
    /// What is wrong with a document, each with its place; empty if nothing is.
    fn problems(&self, document: &str) -> Vec<String> {
        let table: toml::Table = toml::from_str(document).unwrap();
        let mut found = Vec::new();
        self.check(&self.root, &serde_json::to_value(table).unwrap(), "", &mut found);
        found
    }

    fn check(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(allowed) = schema.as_bool() {
            if !allowed {
                found.push(format!("{at}: unknown key"));
            }
            return;
        }
        for (keyword, rule) in schema.as_object().unwrap() {
            self.rule(schema, keyword, rule, value, at, found);
        }
    }

    fn rule(
        &self,
        schema: &Value,
        keyword: &str,
        rule: &Value,
        value: &Value,
        at: &str,
        found: &mut Vec<String>,
    ) {
        let mut hold = |holds: bool| {
            if !holds {
                found.push(format!("{at}: {keyword} {rule}, not {value}"));
            }
        };
        let text = value.as_str();
        let length = |text: &str| text.chars().count() as u64;
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" => {}
            "type" => hold(is_a(rule.as_str().unwrap(), value)),
            "enum" => hold(rule.as_array().unwrap().contains(value)),
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                hold(text.is_none_or(|text| pattern.is_match(text)));
            }
            "minimum" => hold(value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap())),
            "maximum" => hold(value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap())),
            "minLength" => hold(text.is_none_or(|text| length(text) >= rule.as_u64().unwrap())),
            "maxLength" => hold(text.is_none_or(|text| length(text) <= rule.as_u64().unwrap())),
            "items" => {
                for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.check(rule, item, &format!("{at}[{number}]"), found);
                }
            }
            "properties" => {
                for (name, below) in value.as_object().into_iter().flatten() {
                    if let Some(rule) = rule.get(name) {
                        self.check(rule, below, &format!("{at}.{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                for (name, below) in value.as_object().into_iter().flatten() {
                    if schema.get("properties").is_none_or(|known| known.get(name).is_none()) {
                        self.check(rule, below, &format!("{at}.{name}"), found);
                    }
                }
            }
            "propertyNames" => {
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    self.check(rule, &json!(name), &format!("{at}.{name}"), found);
                }
            }
            "minProperties" | "maxProperties" => {
                let count = value.as_object().map_or(1, |table| table.len() as u64);
                let bound = rule.as_u64().unwrap();
                hold(if keyword == "minProperties" { count >= bound } else { count <= bound });
            }
            "anyOf" => {
                let fits = |rule: &Value| {
                    let mut problems = Vec::new();
                    self.check(rule, value, at, &mut problems);
                    problems.is_empty()
                };
                hold(rule.as_array().unwrap().iter().any(fits));
            }
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                self.check(self.root.pointer(path).unwrap(), value, at, found);
            }
            other => panic!("the schema uses `{other}`, which this test does not know"),
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => panic!("a type `{other}`"),
    }
}

fn validator() -> Validator {
    Validator { root: json_schema() }
}

/// The TOML blocks of the README.
fn readme_examples() -> Vec<String> {
    let text = include_str!("../../README.md");
    let blocks = text.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_manual_the_tour_and_the_readmes_examples_are_valid() {
    let schema = validator();
    let manual = include_str!("../../config/default.toml");
    let examples = crate::config_manual::with_examples(manual);
    let mut documents = readme_examples();
    assert!(!documents.is_empty());
    documents.extend([manual.to_owned(), examples]);
    documents.push(include_str!("../../config/regrow.toml").to_owned());
    documents.push(include_str!("../../src/cli/demo.toml").to_owned());
    for document in documents {
        assert_eq!(schema.problems(&document), Vec::<String>::new(), "{document}");
    }
}

#[test]
fn what_the_check_accepts_is_never_marked() {
    let schema = validator();
    for line in [
        "command = [\"x\"]\nrestart = \"on-failure\"",
        "command = [\"x\"]\nready = { log = \"up\" }",
        "command = [\"x\"]\nready = \"notify\"\nmin_uptime = \"0\"\nstop.signal = \"sigint\"",
        "command = [\"x\"]\nstop.signal = \"15\"\nlog.max_size = \"5MB\"\nbackoff.factor = 3",
        "command = [\"x\"]\nenv = { \"odd name\" = \"{index}\" }\nexit_codes.fatal = [78]",
    ] {
        let document = format!("[worker.a_b-1]\n{line}\n[supervisor.root]\nretry_first = \"never\"\n");
        assert!(load(&Sources::text(&document)).is_ok(), "{document}");
        assert_eq!(schema.problems(&document), Vec::<String>::new(), "{document}");
    }
}

#[test]
fn typos_and_wrong_values_are_marked_where_they_are() {
    let schema = validator();
    for (document, place) in [
        ("[worker.web]\ncomand = [\"x\"]", ".worker.web.comand"),
        ("[worker.web]\nrestart = \"allways\"", ".worker.web.restart"),
        ("[worker.web]\nstop.timeout = \"5\"", ".worker.web.stop.timeout"),
        ("[worker.web]\nstop.timeout = 5", ".worker.web.stop.timeout"),
        ("[worker.web]\nready = { logs = \"up\" }", ".worker.web.ready"),
        ("[worker.Web]\ncommand = [\"x\"]", ".worker.Web"),
        ("[worker.a__b]\ncommand = [\"x\"]", ".worker.a__b"),
        ("[worker.web]\ncommand = \"x\"", ".worker.web.command"),
        ("[worker.web]\nbackoff.jitter = 2", ".worker.web.backoff.jitter"),
        ("[worker.web]\nlog.max_size = \"20 MiB\"", ".worker.web.log.max_size"),
        ("[supervisor.root]\nintensity = { max_restart = 5 }", ".supervisor.root.intensity.max_restart"),
        ("[supervisor.root]\nretry_first = \"0s\"", ".supervisor.root.retry_first"),
        ("[defaults.worker]\nenabled = \"yes\"", ".defaults.worker.enabled"),
        ("[htpp]\nlisten = \"\"", ".htpp"),
    ] {
        let found = schema.problems(document);
        assert!(found.iter().any(|one| one.starts_with(&format!("{place}:"))), "{document}: {found:?}");
        assert!(load(&Sources::text(document)).is_err(), "and the check agrees: {document}");
    }
}

#[test]
fn every_key_has_words_and_those_with_a_default_show_it() {
    let schema = json_schema();
    let worker = schema.pointer("/$defs/worker/properties").unwrap().as_object().unwrap();
    for (name, key) in worker {
        assert!(key["description"].as_str().is_some_and(|text| text.len() > 10), "worker.{name}: {key}");
    }
    assert_eq!(worker["restart"]["default"], "permanent");
    assert_eq!(worker["stop"]["properties"]["timeout"]["default"], "10s");
    assert_eq!(worker["after"]["examples"], json!([["broker-proxy"]]));
    let printed = crate::rig::Rig::new("").ok(&["schema"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), schema);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}
