//! Overrides that match nothing, or do not fit, are errors like a bad line of a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use regrow::config::{Sources, load};

const FILE: &str = r#"
[worker.web-server]
command = ["x"]
[worker.a-b]
command = ["x"]
[worker.a_b]
command = ["x"]
"#;

fn refused(name: &str, value: &str) -> String {
    let env = vec![(OsString::from(name), OsString::from(value))];
    match load(&Sources { env, ..Sources::text(FILE) }) {
        Ok(_) => format!("{name}={value} was taken"),
        Err(diagnostics) => diagnostics.to_string(),
    }
}

#[test]
fn a_typo_is_an_error_with_a_suggestion() {
    assert_eq!(
        refused("REGROW__WORKER__WEB_SERVER__STOP__TIMEOT", "5s"),
        "error: `REGROW__WORKER__WEB_SERVER__STOP__TIMEOT` matches no key
 --> environment:1:1
  |
1 | REGROW__WORKER__WEB_SERVER__STOP__TIMEOT=5s
  | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `REGROW__WORKER__WEB_SERVER__STOP__TIMEOUT`?

1 problem in 1 file"
    );
}

#[test]
fn values_are_read_by_the_type_of_their_key() {
    for (name, value, said) in [
        ("REGROW__WORKER__WEB_SERVER__STOP__TIMEOUT", "5", "is no duration"),
        ("REGROW__WORKER__WEB_SERVER__CRITICAL", "yes", "must be true or false, not `yes`"),
        ("REGROW__WORKER__WEB_SERVER__LOG__KEEP", "3.7", "must be a whole number, not `3.7`"),
        ("REGROW__WORKER__WEB_SERVER__LOG__KEEP", "\"3\"", "must be a whole number"),
        ("REGROW__WORKER__WEB_SERVER__COMMAND", "./web -p 1", "must be a list of texts"),
        ("REGROW__WORKER__WEB_SERVER__COMMAND", "[1]", "must be a text in quotes"),
        ("REGROW__WORKER__WEB_SERVER__COMMAND", "[\"{nope}\"]", "unknown placeholder"),
        ("REGROW__WORKER__WEB_SERVER__RESTART", "sometimes", "cannot be `sometimes`"),
    ] {
        let text = refused(name, value);
        assert!(text.contains(said) && text.contains("environment:1:"), "{name}={value}: {text}");
    }
}

#[test]
fn what_cannot_be_set_from_outside_says_so() {
    for (name, said) in [
        ("REGROW__WORKER__WEB_SERVER__ENV__MODE", "has free names and cannot be set from here"),
        ("REGROW__WORKER__WEB_SERVER__STOP", "is a table; set its keys one by one"),
        ("REGROW__WORKER__OTHER__COMMAND", "matches no key"),
        ("REGROW__INCLUDE", "`include` is read before this is, and cannot be set from here"),
        ("REGROW__", "matches no key"),
        ("REGROW__WORKER__A_B__ENABLED", "matches both `worker.a-b.enabled` and `worker.a_b.enabled`"),
    ] {
        let text = refused(name, "true");
        assert!(text.contains(said), "{name}: {text}");
    }
}

#[test]
fn an_override_that_is_no_text_is_refused() {
    let env = vec![(OsString::from("REGROW__HTTP__LISTEN"), OsString::from_vec(vec![0xff]))];
    let text = load(&Sources { env, ..Sources::text(FILE) }).unwrap_err().to_string();
    assert!(text.contains("`REGROW__HTTP__LISTEN` is not valid UTF-8"), "{text}");
}

#[test]
fn flags_name_keys_exactly() {
    let flags = vec![("worker.web-server.stop.timeout".to_owned(), "1s".to_owned())];
    assert!(load(&Sources { flags, ..Sources::text(FILE) }).is_ok());
    let flags = vec![("worker.web_server.stop.timeout".to_owned(), "1s".to_owned())];
    let text = load(&Sources { flags, ..Sources::text(FILE) }).unwrap_err().to_string();
    assert!(
        text.contains("command line:1:1") && text.contains("did you mean `worker.web-server.stop.timeout`"),
        "{text}"
    );
}
