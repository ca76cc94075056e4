//! The rules of the house, checked by reading the source: what a room may name, that using goes downward,
//! and that every module says why it is there.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the top down; a room uses only rooms that stand behind it here.
const ORDER: [&[&str]; 12] = [
    &["main"],
    &["cli"],
    &["http", "testing"],
    &["runtime"],
    &["supervisor", "coordinator"],
    &["probe"],
    &["store", "telemetry", "worker"],
    &["codec"],
    &["config"],
    &["event"],
    &["policy"],
    &["health", "recovery"],
];

/// Below all of these.
const GROUND: [&str; 4] = ["cause", "exit", "id", "units"];

/// Rooms that name no runtime, file system, network, clock, randomness or logging.
const PURE: [&str; 8] = ["policy", "health", "recovery", "event", "cause", "exit", "id", "units"];

/// What a pure room must not name.
const IMPURE: [&str; 14] = [
    "tokio",
    "ractor",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "getrandom",
    "rand::",
    "tracing",
    "println!",
];

fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The room a file stands in: the first part of its path below `src`.
fn room(path: &Path) -> String {
    let below = path.strip_prefix(src()).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Code without comments; documentation may name anything.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned()).collect()
}

fn rank(room: &str) -> Option<usize> {
    if GROUND.contains(&room) {
        return Some(ORDER.len());
    }
    ORDER.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn every_room_has_its_place_in_the_order() {
    for path in sources(&src()) {
        let room = room(&path);
        assert!(room == "lib" || rank(&room).is_some(), "{room} has no place in tests/it/house.rs");
    }
}

#[test]
fn using_goes_only_downward() {
    let mut wrong = Vec::new();
    for path in sources(&src()) {
        let own = room(&path);
        let Some(own_rank) = rank(&own) else { continue };
        for (number, line) in code(&path).iter().enumerate() {
            for used in line.split("crate::").skip(1) {
                let end = used.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(used.len());
                let used = &used[..end];
                let Some(used_rank) = rank(used) else { continue };
                if used != own && used_rank <= own_rank && !(used_rank == own_rank && GROUND.contains(&used))
                {
                    wrong.push(format!("{}:{}: {own} uses {used}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_name_nothing_that_acts() {
    let mut wrong = Vec::new();
    for path in sources(&src()).into_iter().filter(|path| PURE.contains(&room(path).as_str())) {
        for (number, line) in code(&path).iter().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: names {word}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_lives_in_one_module() {
    let allowed = src().join("worker").join("unix");
    for path in sources(&src()) {
        let inside = path.starts_with(&allowed) || path == src().join("worker").join("unix.rs");
        let found = code(&path).iter().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(!found || inside, "{} has unsafe code", path.display());
    }
}

#[test]
fn every_module_says_why_it_is_there() {
    for path in sources(&src()) {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or("");
        assert!(first.starts_with("//! "), "{} begins without `//!`", path.display());
    }
}

#[test]
fn no_file_grows_past_the_point_where_it_should_be_split() {
    for path in sources(&src()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines: which noun wants a file of its own?", path.display());
    }
}

#[test]
fn every_lesson_is_short_and_says_what_it_prints() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let is_lesson =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
    let lessons: Vec<PathBuf> = sources(&examples).into_iter().filter(is_lesson).collect();
    assert_eq!(lessons.len(), 7, "{lessons:?}");
    for path in lessons {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines < 80, "{} has {lines} lines: a lesson is read in one look", path.display());
        let expected = fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        assert!(!expected.is_empty(), "{} has no .expected beside it", path.display());
    }
}

#[test]
fn nothing_is_stubbed_ignored_or_allowed() {
    for path in sources(&src()) {
        for (number, line) in code(&path).iter().enumerate() {
            for word in ["todo!(", "unimplemented!(", "#[allow(", "#![allow("] {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn nothing_that_is_said_on_stderr_can_fail() {
    for path in sources(&src()) {
        for (number, line) in code(&path).iter().enumerate() {
            for word in ["eprintln!(", "eprint!(", "anstream::println!(", "anstream::print!("] {
                assert!(!line.contains(word), "{}:{}: {word}: cli::say", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn no_build_needs_more_than_rust_and_gcc() {
    let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    for package in
        ["aws-lc-sys", "aws-lc-rs", "cmake", "prost-build", "protoc-bin-vendored", "openssl-sys", "bindgen"]
    {
        assert!(!lock.contains(&format!("name = \"{package}\"")), "{package} came in");
    }
}
