//! Whatever is written in a file: no panic, every problem has a place, and what is accepted can be explained
//! and read again.

use proptest::prelude::*;
use regrow::config::{Loaded, Sources, load};

/// The settings as text without what depends on where they came from.
fn again(loaded: &Loaded) -> Result<(), TestCaseError> {
    let explained = loaded.explain();
    let second = match load(&Sources::text(explained.clone())) {
        Ok(second) => second,
        Err(diagnostics) => return Err(TestCaseError::fail(format!("{diagnostics}\n{explained}"))),
    };
    prop_assert_eq!(&second.settings, &loaded.settings, "{}", explained);
    Ok(())
}

fn duration() -> impl Strategy<Value = String> {
    (1_u32..5000, prop::sample::select(vec!["ms", "s", "m", "h"]))
        .prop_map(|(n, unit)| format!("\"{n}{unit}\""))
}

fn text() -> impl Strategy<Value = String> {
    // Quotes, control characters, braces, line breaks; NUL is refused and tested elsewhere.
    "[a-z \"\\\\\n\t\u{1b}é$;#=]{0,8}".prop_map(|text| toml_text(&text))
}

fn toml_text(text: &str) -> String {
    text.chars().fold("\"".to_owned(), |out, c| out + &format!("\\U{:08X}", c as u32)) + "\""
}

/// One key of a worker with a value that fits.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["always", "on-failure", "never", "permanent", "transient", "temporary"])
            .prop_map(|word| format!("restart = \"{word}\"")),
        any::<bool>().prop_map(|yes| format!("critical = {yes}")),
        any::<bool>().prop_map(|yes| format!("enabled = {yes}")),
        prop::sample::select(vec!["\"notify\"", "\"started\"", "{ log = \"a.*b$\" }", "{ log = '\\d' }"])
            .prop_map(|ready| format!("ready = {ready}")),
        duration().prop_map(|time| format!("start_timeout = {time}")),
        duration()
            .prop_map(|time| format!("stop = {{ timeout = {time}, to = \"group\", signal = \"SIGINT\" }}")),
        (duration(), 1.0..9.0_f64, 0.0..1.0_f64).prop_map(|(first, factor, jitter)| {
            format!("backoff = {{ first = {first}, factor = {factor:?}, jitter = {jitter:?} }}")
        }),
        (text(), text()).prop_map(|(a, b)| format!("env = {{ A = {a}, \"b.c d\" = {b} }}")),
        text().prop_map(|text| format!("cwd = {text}")),
        Just("exit_codes = { normal = [0, 1], fatal = [2, 3] }".to_owned()),
        Just("log = { to = \"both\", max_size = \"1GB\", keep = 0 }".to_owned()),
        Just("inherit_env = [\"*\"]\nladder = \"none\"".to_owned()),
    ]
}

fn worker(n: usize) -> impl Strategy<Value = String> {
    let waits = prop::collection::btree_set(0..n.max(1), 0..3);
    let keys = prop::collection::btree_map("[a-z]", key(), 0..6);
    (prop::collection::vec(text(), 0..3), keys, waits).prop_map(move |(arguments, keys, waits)| {
        let mut seen = std::collections::BTreeSet::new();
        let keys: Vec<String> = keys
            .into_values()
            .filter(|line| seen.insert(line.split(' ').next().map(str::to_owned)))
            .collect();
        let after: Vec<String> = waits.iter().filter(|at| **at < n).map(|at| format!("\"w{at}\"")).collect();
        let arguments: String = arguments.iter().map(|argument| format!(", {argument}")).collect();
        format!(
            "[worker.w{n}]\ncommand = [\"x\"{arguments}]\nafter = [{}]\n{}\n",
            after.join(", "),
            keys.join("\n")
        )
    })
}

/// What one kind of worker has, and one of them can be asked.
const OF_ALL: &str = "probe = { own.actor = {}, main.process = {} }\nsecrets.KEY.env = \"KEY\"\non.capture.command = [\"x\"]\n";

fn file() -> impl Strategy<Value = String> {
    let flat =
        (worker(0), worker(1), worker(2), worker(3)).prop_map(|(a, b, c, d)| format!("{d}\n{b}\n{a}\n{c}\n"));
    let group = prop::option::of((duration(), 0_u32..20)).prop_map(|group| match group {
        None => String::new(),
        Some((within, max)) => format!(
            "[supervisor.g]\nchildren = [\"w2\"]\nretry_first = \"never\"\non_exhausted = \"escalate\"\n\
             intensity = {{ max_restarts = {max}, within = {within} }}\n"
        ),
    });
    (flat, group).prop_map(|(workers, group)| {
        format!("[defaults.worker]\nmin_uptime = \"1s\"\n{OF_ALL}{workers}{group}")
    })
}

/// Pieces that are nearly a configuration.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[worker.web]",
        "[worker",
        "[supervisor.root]",
        "[defaults.worker]",
        "command",
        "after",
        "children",
        "=",
        " = [\"x\"]",
        "\"web\"",
        "\n",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "'''",
        ",",
        ".",
        "#",
        "ready",
        "{log=\"(\"}",
        "stop",
        "jitter",
        "1e999",
        "-0",
        "0x_",
        "1979-05-27",
        "\u{feff}",
        "\0",
        "é",
        "include",
        "[\"*\"]",
        "true",
        "env",
        "env = { \"\" = 1 }",
        "9999999999999999999",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_explained_reads_the_same(text in file()) {
        match load(&Sources::text(text.clone())) {
            Ok(loaded) => again(&loaded)?,
            // The group and `after` may cross; then there is nothing to explain.
            Err(diagnostics) => prop_assert!(diagnostics.to_string().contains("start first"), "{}\n{}", diagnostics, text),
        }
    }

    #[test]
    fn any_text_is_accepted_or_explained_with_a_place(text in prop_oneof![nearly(), any::<String>()]) {
        match load(&Sources::text(text)) {
            Ok(loaded) => again(&loaded)?,
            Err(diagnostics) => {
                prop_assert!(diagnostics.count() > 0);
                for problem in diagnostics.problems() {
                    prop_assert!(problem.line.is_some() && problem.column.is_some(), "{:?}", problem);
                }
                prop_assert!(diagnostics.render(true).len() >= diagnostics.render(false).len());
            }
        }
    }

    #[test]
    fn any_bytes_are_no_reason_to_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().map_err(|error| TestCaseError::fail(error.to_string()))?;
        let path = folder.path().join("regrow.toml");
        std::fs::write(&path, &bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        if let Err(diagnostics) = load(&Sources { file: Some(path), ..Sources::default() }) {
            prop_assert!(diagnostics.problems().iter().all(|problem| problem.line.is_some()));
        }
    }
}
