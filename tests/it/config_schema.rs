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
            "minItems" => {
                hold(value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()));
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
    let template = schema.pointer("/$defs/template/properties").unwrap().as_object().unwrap();
    // What only a template has is explained at the template itself.
    let shared = template.iter().filter(|(name, _)| worker.contains_key(*name));
    for (name, key) in worker.iter().chain(shared) {
        assert!(key["description"].as_str().is_some_and(|text| text.len() > 10), "{name}: {key}");
    }
    assert_eq!(worker["restart"]["default"], "permanent");
    assert_eq!(worker["stop"]["properties"]["timeout"]["default"], "10s");
    assert_eq!(worker["after"]["examples"], json!([["broker-proxy"]]));
    let printed = crate::rig::Rig::new("").ok(&["schema"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), schema);
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

/// Texts of every kind that a pattern may be meant for.
const TEXTS: [&str; 42] = [
    "0",
    "0s",
    "1ms",
    "007s",
    "90m",
    "3650d",
    "3651d",
    "18446744073709551616s",
    "never",
    "0B",
    "1B",
    "1kB",
    "64KiB",
    "20MiB",
    "1TiB",
    "99999999TiB",
    "000",
    "077",
    "0077",
    "777",
    "0777",
    "0600",
    "660",
    "0000",
    "TERM",
    "SIGINT",
    "hup",
    "+15",
    "64",
    "65",
    "RTMIN+1",
    "NOSIG",
    "200",
    "200-399",
    "200-299,404",
    "399-200",
    "599",
    "a",
    "a_b-1",
    "default",
    "none",
    "soft_restart",
];

/// What the schema takes for one value, as far as single values can be thought of.
fn samples(schema: &Value) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    all.extend(schema.get("default").cloned());
    all.extend(schema.get("examples").into_iter().flat_map(|all| all.as_array().unwrap().clone()));
    if let Some(words) = schema.get("enum") {
        all.extend(words.as_array().unwrap().clone());
        return all;
    }
    for one in schema.get("anyOf").into_iter().flat_map(|all| all.as_array().unwrap()) {
        all.extend(samples(one));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => all.extend([json!(true), json!(false)]),
        Some("integer" | "number") => {
            all.extend(["minimum", "maximum"].iter().filter_map(|bound| schema.get(bound)).cloned());
        }
        Some("string") if schema.get("pattern").is_some() => {
            let pattern = regex::Regex::new(schema["pattern"].as_str().unwrap()).unwrap();
            all.extend(TEXTS.iter().filter(|text| pattern.is_match(text)).map(|text| json!(text)));
        }
        Some("array") => {
            if schema.get("minItems").is_none() {
                all.push(json!([]));
            }
            all.extend(samples(&schema["items"]).into_iter().map(|item| json!([item])));
        }
        Some("object") if schema.get("properties").is_none() => {
            all.push(json!({}));
            let below = schema.get("additionalProperties").map(samples).unwrap_or_default();
            all.extend(below.into_iter().map(|value| json!({ "some": value })));
        }
        _ => {}
    }
    all
}

/// Every path of single values, with what the schema says of it; `*` for a name.
fn leaves<'s>(root: &'s Value, schema: &'s Value, at: &[String], out: &mut Vec<(Vec<String>, &'s Value)>) {
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        return leaves(root, root.pointer(path.strip_prefix('#').unwrap()).unwrap(), at, out);
    }
    let below = |name: &str| [at, &[name.to_owned()]].concat();
    let tables = [Some(schema)]
        .into_iter()
        .flatten()
        .chain(schema.get("anyOf").into_iter().flat_map(|all| all.as_array().unwrap()));
    for table in tables {
        for (name, key) in table.get("properties").and_then(Value::as_object).into_iter().flatten() {
            leaves(root, key, &below(name), out);
        }
    }
    match schema.get("additionalProperties") {
        Some(each)
            if each.is_object() && (each.get("properties").is_some() || each.get("$ref").is_some()) =>
        {
            leaves(root, each, &below("*"), out);
        }
        _ if schema.get("properties").is_none() => out.push((at.to_vec(), schema)),
        _ => {}
    }
}

/// What a value has to stand beside, so that nothing but the value itself can be wrong.
fn surroundings(path: &[String]) -> Vec<Value> {
    let worker = |own: Value| json!({ "worker": { "web": own } });
    let port = json!({ "base": 8001 });
    let probe = |kind: &str, own: Value| {
        worker(json!({ "command": ["x"], "port": port, "probe": { "web": { kind: own } } }))
    };
    let below = path.iter().skip(2).map(String::as_str).collect::<Vec<_>>();
    match (path[0].as_str(), below.first().copied().unwrap_or_default()) {
        ("worker", "probe") => vec![
            probe("process", json!({})),
            probe("http", json!({ "url": "http://127.0.0.1:1/" })),
            probe("grpc", json!({ "host": "127.0.0.1:1" })),
            probe("exec", json!({ "command": ["x"] })),
            worker(json!({ "command": ["x"], "port": port })),
            worker(json!({ "actor": "A" })),
        ],
        ("worker", "actor" | "config" | "snapshot" | "blocking") => vec![worker(json!({ "actor": "A" }))],
        ("worker", "ready") => vec![probe("tcp", json!("127.0.0.1:1"))],
        ("worker", "adopt_running") => vec![worker(json!({ "command": ["x"], "pid_file": "pid" }))],
        ("worker", "pool") => vec![worker(json!({ "command": ["x"], "pool": { "max": 1000 } }))],
        ("worker", "recycle") => vec![worker(json!({ "command": ["x"], "recycle": { "after": "1h" } }))],
        ("worker", "heartbeat") => {
            vec![worker(json!({ "command": ["x"], "heartbeat": { "interval": "5s" } }))]
        }
        ("worker", "significant") => vec![json!({
            "supervisor": { "root": { "auto_shutdown": "any_significant" } },
            "worker": { "web": { "command": ["x"], "restart": "transient" } },
        })],
        ("supervisor", _) => vec![json!({ "worker": { "ingest": { "command": ["x"] } } })],
        ("strategy", _) => vec![
            json!({ "worker": { "ingest": { "command": ["x"] } }, "strategy": { "web": { "command": ["x"] } } }),
        ],
        _ => vec![worker(json!({ "command": ["x"] })), worker(json!({ "actor": "A" }))],
    }
}

/// What more than one value decides, or a pattern says badly, is left to the check.
fn is_left_to_the_check(path: &str, value: &Value) -> bool {
    const RANGES: [&str; 6] = [
        ".limits.memory",
        ".log.max_line",
        ".log.max_size",
        ".recycle.memory",
        ".threshold.memory.warn_bytes",
        "store.max_disk",
    ];
    const ORDERED: [&str; 4] = [".heartbeat.", ".disk.", ".gpu.memory.", ".threshold."];
    const NAMES: [&str; 3] = [".ladder", ".after", ".children"];
    RANGES.iter().any(|key| path.ends_with(key))
        || ORDERED.iter().any(|key| path.contains(key))
        || NAMES.iter().any(|key| path.ends_with(key))
        || path.ends_with(".exit_codes.fatal") && *value == json!([0])
        || path.ends_with(".expect_status") && *value == json!("399-200")
}

#[test]
fn what_the_schema_takes_the_check_takes_too() {
    let schema = json_schema();
    let mut all = Vec::new();
    leaves(&schema, &schema, &[], &mut all);
    // The keys of a worker once more.
    all.retain(|(path, _)| path[0] != "defaults" && path[0] != "template");
    assert!(all.len() > 120, "{} keys", all.len());
    let mut refused = Vec::new();
    for (path, leaf) in all {
        let name = path.join(".");
        for value in samples(leaf) {
            let why = surroundings(&path).into_iter().try_fold(String::new(), |_, mut document| {
                put(&mut document, &path, value.clone());
                let text = toml::to_string(&document).unwrap();
                load(&Sources::text(&text)).err().map(|problems| problems.render(false))
            });
            if let Some(why) = why.filter(|_| !is_left_to_the_check(&name, &value)) {
                refused.push(format!("{name} = {value}: {why}"));
            }
        }
    }
    assert!(refused.is_empty(), "{} values:\n{}", refused.len(), refused.join("\n"));
}

fn put(document: &mut Value, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else { return *document = value };
    let name = if name == "*" { "web" } else { name };
    if !document.is_object() {
        *document = json!({});
    }
    put(document.as_object_mut().unwrap().entry(name).or_insert(json!({})), rest, value);
}
