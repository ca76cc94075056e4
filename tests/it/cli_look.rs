//! What people see: tables, trees and pages, as text with the times made equal.
#![expect(clippy::unwrap_used, reason = "helpers of tests; what fails there is the test")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use regex::Regex;
use regrow::event::{Event, EventKind};

use crate::fake::{Fake, id, stderr, stdout};
use crate::rig::Rig;

/// Makes what differs from run to run equal: pids, sizes, loads, times, folders, users.
fn normal(text: &str, fake: &Fake) -> String {
    let mut text = text.replace(&fake.folder.path().display().to_string(), "/tmp/x");
    for (pattern, with) in [
        (r"pid +\d+", "pid PID"),
        (r"(healthy +)\d{3,}", "${1}PID"),
        (r"\d+\.\d+%", "LOAD"),
        (r"\d+\.\d % of a core", "LOAD of a core"),
        (r"\d+\.\d MiB\b", "SIZE"),
        (r"[\d,]+ open files", "N open files"),
        (r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(\.\d+)?", "TIME"),
        (r"\b(4m1[0-9]s|10m0\ds|3h04m|59m\d\ds|1h00m)\b", "SPAN"),
        (r"\b(1\.\d|30|3\d)s\b", "SPAN"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, with).into_owned();
    }
    // Columns are as wide as their widest cell, which differs.
    let spaces = Regex::new(r"([^ \n│]) {2,}").unwrap();
    text.lines().map(|line| format!("{}\n", spaces.replace_all(line, "$1  "))).collect()
}

#[test]
fn the_table_is_for_people() {
    let fake = Fake::start();
    let output = fake.regrow(&["status"]);
    assert_eq!(
        normal(&stdout(&output), &fake),
        "\
orders  pid PID, up SPAN; 4 workers: 1 healthy, 2 critical, 1 other; 12 restarts

INSTANCE  STATUS  PID  UPTIME  RESTARTS  CPU  MEM  NEXT / ISSUE
broker  healthy  PID  SPAN  0  LOAD  SIZE
parser/0  recovering  -  -  2  -  -  restart in SPAN; exited with code 1: \\x1b[31mboom\\x07
parser/1  quarantined  -  -  10  -  -  restart intensity is spent: 10 restarts in 5m
web  stopped  -  -  0  -  -
"
    );
    assert!(!stdout(&output).contains('\u{1b}'), "no colour off a terminal, and no escape of a worker");
}

#[test]
fn wide_csv_and_name_have_their_own_columns() {
    let fake = Fake::start();
    let wide = stdout(&fake.regrow(&["status", "-o", "wide"]));
    let machine = wide.lines().nth(1).unwrap();
    assert!(machine.starts_with("machine: ") && machine.contains(" memory available, "), "{wide}");
    assert!(wide.lines().nth(3).unwrap().contains("SUPERVISOR  PHASE"), "{wide}");
    let csv = stdout(&fake.regrow(&["status", "-o", "csv"]));
    assert!(csv.starts_with("instance,worker,supervisor,status,phase,health,pid"));
    assert_eq!(csv.lines().count(), 5);
    assert_eq!(stdout(&fake.regrow(&["status", "-o", "name"])), "broker\nparser/0\nparser/1\nweb\n");
    let lines = stdout(&fake.regrow(&["status", "-o", "jsonl", "parser"]));
    assert_eq!(lines.lines().count(), 2);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["schema"], &first["instance"]), (&"regrow.status/1".into(), &"parser/0".into()));
    let all = stdout(&fake.regrow(&["status", "--all", "-o", "name"]));
    assert_eq!(all, "broker\nparser/0\nparser/1\nweb\n");
}

#[test]
fn the_tree_is_drawn() {
    let fake = Fake::start();
    let output = fake.regrow(&["status", "--tree"]);
    assert_eq!(
        normal(&stdout(&output), &fake),
        "\
orders  pid PID, up SPAN; 4 workers: 1 healthy, 2 critical, 1 other; 12 restarts

root  one_for_one, quarantine
├─ ingest  rest_for_one, quarantine
│  ├─ broker  healthy  pid PID, up SPAN, SIZE
│  ├─ parser/0  recovering  2 restarts, restart in SPAN; exited with code 1: \\x1b[31mboom\\x07
│  └─ parser/1  quarantined  10 restarts, restart intensity is spent: 10 restarts in 5m
└─ web  stopped
"
    );
}

#[test]
fn a_supervisor_narrows_the_view() {
    let fake = Fake::start();
    let part: serde_json::Value =
        serde_json::from_str(&stdout(&fake.regrow(&["status", "sup:ingest", "-o", "json"]))).unwrap();
    assert_eq!(part["supervisors"][0]["parent"], "root", "it has a parent, shown or not: {part}");
    let text = stdout(&fake.regrow(&["status", "sup:ingest", "--tree"]));
    assert!(text.contains("3 workers: 1 healthy, 2 critical") && !text.contains("web"), "{text}");
    assert!(text.contains("\ningest ") && text.contains("├─ broker"), "{text}");
}

#[test]
fn describe_says_everything() {
    let fake = Fake::start();
    let parser = fake.regrow(&["describe", "parser/0"]);
    assert_eq!(
        normal(&stdout(&parser), &fake),
        "\
parser/0  recovering
  what  process of supervisor `ingest`
  phase  backoff, since TIME (SPAN)
  next  soft_restart in SPAN (TIME)
  last exit  exited with code 1: \\x1b[31mboom\\x07 (TIME, exited, code 1, incarnation 3)
  restarts  2 (crash 2); 8 left before it is given up
  wanted  running
  command  python3 -m parser
  output  0 lines, 0 B
  log  /tmp/x/state/logs/parser-0.log
  state  /tmp/x/state/w/parser-0
"
    );
    let broker = fake.regrow(&["describe", "broker"]);
    assert_eq!(
        normal(&stdout(&broker), &fake),
        "\
broker  healthy
  what  process of supervisor `ingest`, critical
  phase  running, ready, since TIME (SPAN)
  process  pid PID, incarnation 1, LOAD of a core, SIZE, N open files
  health  healthy, score 1.00
  restarts  0; 10 left before it is given up
  wanted  running
  command  ./broker --quiet 'two words'
  output  12,345 lines, SIZE
  log  /tmp/x/state/logs/broker.log
  state  /tmp/x/state/w/broker
"
    );
    let web = stdout(&fake.regrow(&["describe", "web"]));
    assert!(web.contains("stopped, asked by ann at "), "{web}");
}

#[test]
fn json_is_what_the_server_says() {
    let fake = Fake::start();
    let printed: serde_json::Value =
        serde_json::from_str(&stdout(&fake.regrow(&["status", "-o", "json"]))).unwrap();
    let served = fake.get("/api/v1/status").json();
    assert_eq!(printed["schema"], "regrow.status/1");
    let names = |value: &serde_json::Value| {
        let worker = value["workers"][0].as_object().unwrap();
        worker.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&printed), names(&served));
    for (args, schema) in [
        (vec!["describe", "broker"], "regrow.describe/1"),
        (vec!["status", "--tree"], "regrow.tree/1"),
        (vec!["events"], "regrow.events/1"),
        (vec!["logs", "broker"], "regrow.logs/1"),
        (vec!["version"], "regrow.version/1"),
    ] {
        let mut args = args;
        args.extend(["-o", "json"]);
        let body: serde_json::Value = serde_json::from_str(&stdout(&fake.regrow(&args))).unwrap();
        assert_eq!(body["schema"], schema, "{args:?}");
    }
}

#[test]
fn events_are_lines_and_can_be_chosen() {
    let fake = Fake::start();
    let mut exited =
        Event::new(EventKind::WorkerExited, "parser/0 exited with code 1 after 3.2 s; restart 1 in 0 s");
    exited.instance = Some(id("parser/0"));
    fake.journal.emit(Event::new(EventKind::RuntimeStarted, "the runtime is up"));
    fake.journal.emit(exited);
    let text = normal(&stdout(&fake.regrow(&["events"])), &fake);
    assert_eq!(
        text,
        "TIME  regrow  the runtime is up\nTIME  parser/0  exited with code 1 after 3.2 s; restart 1 in 0 s\n"
    );
    assert_eq!(stdout(&fake.regrow(&["events", "--kind", "worker.*", "-o", "name"])), "worker.exited\n");
    assert_eq!(stdout(&fake.regrow(&["events", "--since", "2099-01-01T00:00:00Z"])), "");
    let unknown = fake.regrow(&["events", "--kind", "worker.exploded"]);
    assert_eq!(unknown.status.code(), Some(2), "a kind that nothing has would be waited for in vain");
    assert!(stderr(&unknown).contains("worker.exited"), "{}", stderr(&unknown));
    let mut child = Command::new(env!("CARGO_BIN_EXE_regrow"))
        .args(["--socket", fake.socket().to_str().unwrap(), "events", "-f", "-o", "jsonl"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("\"seq\":1"));
    assert!(lines.next().unwrap().unwrap().contains("\"seq\":2"));
    fake.journal.emit(Event::new(EventKind::WorkerReady, "now"));
    assert!(lines.next().unwrap().unwrap().contains("\"seq\":3"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn logs_as_json_say_when_each_line_was_written() {
    let rig = Rig::start("[worker.web]\ncommand = [\"sh\", \"-c\", \"echo up; exec sleep 999\"]\n");
    rig.wait("it wrote", || !rig.text(".regrow/logs/web.log").is_empty());
    let body: serde_json::Value = serde_json::from_str(&rig.ok(&["logs", "web", "-o", "json"])).unwrap();
    let at: jiff::Timestamp = body["items"][0]["at"].as_str().unwrap().parse().unwrap();
    let age = jiff::Timestamp::now().duration_since(at).as_secs_f64();
    assert!((-0.001..60.0).contains(&age), "{body}");
}

#[test]
fn logs_come_unchanged_into_a_pipe_and_named_when_there_are_several() {
    let fake = Fake::start();
    let folder = fake.state_dir().join("logs");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("web.log"), "plain\n\u{1b}[31mred\u{1b}[0m\n").unwrap();
    std::fs::write(folder.join("broker.log"), "hello\n").unwrap();
    assert_eq!(stdout(&fake.regrow(&["logs", "web"])), "plain\n\u{1b}[31mred\u{1b}[0m\n");
    assert_eq!(stdout(&fake.regrow(&["logs", "web", "--tail", "1", "--grep", "pl"])), "plain\n");
    let both = stdout(&fake.regrow(&["logs", "web", "broker", "-n", "1"]));
    assert_eq!(both, "web    | \u{1b}[31mred\u{1b}[0m\nbroker | hello\n");
    assert_eq!(stdout(&fake.regrow(&["logs", "parser"])), "", "a log that is not there yet is empty");
}

#[test]
fn watch_draws_again_when_something_changes() {
    let fake = Fake::start();
    let mut child = Command::new(env!("CARGO_BIN_EXE_regrow"))
        .args(["--socket", fake.socket().to_str().unwrap(), "status", "--watch", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for expected in ["broker", "parser/0", "parser/1", "web"] {
        assert_eq!(lines.next().unwrap(), expected);
    }
    fake.board.remove(&id("parser/1"));
    fake.journal.emit(Event::new(EventKind::WorkerRemoved, "parser/1 was removed"));
    let mut second: Vec<_> = lines.by_ref().take(3).collect();
    if second[2] == "parser/1" {
        // Drawn once more just before the change.
        second = lines.skip(1).take(3).collect();
    }
    assert_eq!(second, ["broker", "parser/0", "web"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_thousand_workers_are_all_told() {
    let fake = Fake::start();
    for number in 0..1000 {
        let mut state = fake.board.instance(&id("broker")).unwrap();
        state.instance = id(&format!("w{number}"));
        fake.board.put(state);
    }
    // How quickly is what `benches/run status` measures.
    let output = fake.regrow(&["status"]);
    assert_eq!(stdout(&output).lines().count(), 3 + 1004, "{}", stderr(&output));
}
