//! The verbs that run a runtime for a moment: `run`, `demo`.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::fake::{stderr, stdout};
use crate::rig::{Rig, processes_with, send};

/// `regrow run ARGS…` in the rig's directory, with its scratch folder below it.
fn run(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
    command.arg("run").args(arguments).current_dir(rig.path("")).env("NO_COLOR", "1");
    command.env("TMPDIR", rig.path("")).env_remove("XDG_RUNTIME_DIR").env("RIG", rig.path(""));
    command
}

/// Folders that `run` and `demo` have left behind.
fn left_over(rig: &Rig) -> Vec<String> {
    let entries = std::fs::read_dir(rig.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("regrow-")).collect()
}

#[test]
fn run_gets_a_command_up_again_and_is_done_with_it() {
    let rig = Rig::new("");
    let script = "echo tried >> witness; if [ -e once ]; then exit 0; fi; touch once; exit 9";
    let output = run(&rig, &["--", "/bin/sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(rig.witness("witness").len(), 2);
    let text = stderr(&output);
    assert!(text.contains("exited with code 9") && text.contains("restarting at once"), "{text}");
    assert!(!text.contains("code 0"), "that it is done is no news: {text}");
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_shows_output_as_it_comes_and_passes_the_end_on() {
    let rig = Rig::new("");
    let script = "echo $REGROW_INSTANCE is up; exec sleep 1000";
    let mut child = run(&rig, &["-q", "--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "run is up");
    send(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143), "128 and the signal, as a shell has it");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_is_ended_by_the_key_that_quits() {
    let rig = Rig::new("");
    let script = "echo up; exec sleep 1000";
    let mut child = run(&rig, &["-q", "--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "up");
    send(child.id(), Signal::QUIT);
    assert_eq!(child.wait().unwrap().code(), Some(131), "128 and the signal, as a shell has it");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_ends_with_the_code_that_its_command_ends_with_when_it_is_asked() {
    let rig = Rig::new("");
    for code in [0, 5] {
        let script = format!("trap 'exit {code}' TERM; echo up; sleep 1000 & wait");
        let mut child =
            run(&rig, &["-q", "--", "/bin/sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        send(child.id(), Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn run_passes_every_byte_on_and_keeps_the_two_streams_apart() {
    let rig = Rig::new("");
    let out: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7 % 256) as u8).collect();
    let err: Vec<u8> = out.iter().rev().take(200_000).copied().collect();
    std::fs::write(rig.path("out.bin"), &out).unwrap();
    std::fs::write(rig.path("err.bin"), &err).unwrap();
    let script = "cat err.bin >&2; cat out.bin; printf 'no end of line'";
    let output = run(&rig, &["--", "/bin/sh", "-c", script]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == [&out[..], b"no end of line"].concat(), "{} bytes", output.stdout.len());
    assert!(output.stderr == err, "{} bytes", output.stderr.len());
}

#[test]
fn run_waits_for_a_slow_reader_and_loses_nothing() {
    let rig = Rig::new("");
    let script = "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); done";
    let mut child = run(&rig, &["--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "0");
    // Longer than a place that does not take what it gets is left alone.
    std::thread::park_timeout(Duration::from_millis(1500));
    let mut expected = 1;
    for line in lines {
        assert_eq!(line.unwrap(), expected.to_string());
        expected += 1;
    }
    assert_eq!(expected, 60_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn run_ends_its_command_once_nobody_reads() {
    let rig = Rig::new("");
    let mut child = run(&rig, &["--", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(line, "y");
    assert_eq!(child.wait().unwrap().code(), Some(141), "128 and SIGPIPE, as a shell has it");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_leaves_a_command_alone_that_writes_nothing_more() {
    let rig = Rig::new("");
    let script = "echo up; while [ ! -e go ]; do sleep 0.05; done; echo done > witness; exec sleep 1000";
    let mut child = run(&rig, &["-q", "--", "/bin/sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(line, "up");
    std::thread::park_timeout(Duration::from_millis(300));
    std::fs::write(rig.path("go"), "").unwrap();
    rig.wait("it went on by itself", || !rig.witness("witness").is_empty());
    send(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(143), "as it was asked, and not for its reader");
}

#[test]
fn run_can_be_ended_while_its_reader_takes_nothing() {
    let rig = Rig::new("");
    let mut child =
        run(&rig, &["--", "head", "-c", "1000000", "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
    rig.wait("it is up", || !left_over(&rig).is_empty());
    send(child.id(), Signal::TERM);
    let began = std::time::Instant::now();
    child.wait().unwrap();
    assert!(began.elapsed() < crate::rig::PATIENCE, "{:?}", began.elapsed());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn run_gives_its_command_what_comes_in() {
    use std::io::Write;
    let rig = Rig::new("");
    let mut command = run(&rig, &["--", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at / 7 % 256) as u8).collect();
    let mut input = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
}

#[test]
fn run_fails_if_what_its_command_wrote_could_not_be_kept() {
    let rig = Rig::new("");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = run(&rig, &["--", "echo", "lost"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("1 line of output could not be written"), "{output:?}");
}

#[test]
fn run_clears_up_behind_one_that_was_killed() {
    let rig = Rig::new("");
    let mut child =
        run(&rig, &["-q", "--", "/bin/sh", "-c", "echo $$ > pid; exec sleep 1000"]).spawn().unwrap();
    rig.wait("it is up", || rig.text("pid").ends_with('\n'));
    let left = left_over(&rig);
    assert_eq!(left, [format!("regrow-run-{}", child.id())]);
    send(child.id(), Signal::KILL);
    child.wait().unwrap();
    run(&rig, &["--", "true"]).output().unwrap();
    assert_eq!(left_over(&rig), left, "something that it started lives there");
    send(rig.text("pid").trim().parse().unwrap(), Signal::KILL);
    rig.wait("nothing is left of it", || {
        run(&rig, &["--", "true"]).output().unwrap();
        left_over(&rig).is_empty()
    });
}

#[test]
fn run_answers_as_a_shell_when_a_command_cannot_be_run() {
    let rig = Rig::new("");
    for (command, code) in [("no-such-program", 127), ("./no-such-program", 127), ("/etc/passwd", 126)] {
        let output = run(&rig, &["--", command]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {output:?}");
        assert!(stderr(&output).contains(command), "{output:?}");
    }
}

#[test]
fn a_demo_whose_reader_leaves_takes_everything_with_it() {
    let rig = Rig::new("");
    let mut command = rig.command(&["demo"]);
    command.env("TMPDIR", rig.path("")).env("RIG", rig.path("")).stdout(Stdio::piped());
    let mut demo = command.spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("stubborn  ready")), "its workers run");
    drop(lines);
    assert_eq!(demo.wait().unwrap().code(), Some(0));
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}

#[test]
fn the_demo_explains_every_step_and_leaves_nothing() {
    let rig = Rig::new("");
    let mut command = rig.command(&["demo"]);
    command.env("TMPDIR", rig.path("")).env("RIG", rig.path(""));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    for what in [
        "crasher   exited with code 1",
        "sleeper   not ready within start_timeout",
        "held back until sleeper was ready",
        "doomed    parked",
        "the trial start found out",
        "6 workers: 6 healthy",
        "stubborn  killed",
        "Nothing is left running",
    ] {
        assert!(text.contains(what), "{what} is not in\n{text}");
    }
    assert_eq!(text.matches("└ ").count(), 12, "each explanation once\n{text}");
    let own = format!("RIG={}", rig.path("").display());
    assert_eq!(processes_with(&own), Vec::<u32>::new());
    assert_eq!(left_over(&rig), Vec::<String>::new());
}
