//! Erlang's side: one run of `driver.escript` answers any number of cases.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of the recorded traces.
pub(crate) fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otp/recorded")
}

/// The traces that users read, without their suffix.
pub(crate) fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut traces: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "trace"))
        .map(|path| path.with_extension(""))
        .collect();
    traces.sort();
    traces
}

/// What the supervisor of the installed Erlang answers.
pub(crate) fn answers(trace: &str) -> String {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otp/driver.escript");
    let mut erlang = Command::new("escript")
        .arg(driver)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("escript is part of Debian's erlang-base");
    let mut input = erlang.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(trace.as_bytes()).unwrap());
        let done = erlang.wait_with_output().unwrap();
        assert!(done.status.success(), "the driver failed: {}", done.status);
        String::from_utf8(done.stdout).unwrap()
    })
}
