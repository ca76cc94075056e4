//! Secrets: a worker gets them, and nobody else ever sees them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::rig::Rig;

const FILE: &str = "canary-of-the-file-4711";
const ENV: &str = "canary-of-the-environment-4712";

/// The last words of a worker that tells everything it knows.
const TALKS: &str = "echo password is $DB_PASSWORD; echo and token=$API_TOKEN!; sleep 0.2; exit 3";

fn rig() -> Rig {
    let talks = TALKS.replace('"', "\\\"");
    let mut rig = Rig::new(&format!(
        "[worker.web]\n\
         command = [\"sh\", \"-c\", \"printf '%s|%s' \\\"$DB_PASSWORD\\\" \\\"$API_TOKEN\\\" > {{dir}}/got; exec sleep 999\"]\n\
         secrets = {{ DB_PASSWORD = {{ file = \"db\" }}, API_TOKEN = {{ env = \"OUTER\" }} }}\n\
         [worker.crash]\ncommand = [\"sh\", \"-c\", \"exit 3\"]\nsecrets = {{ DB_PASSWORD = {{ file = \"db\" }} }}\nbackoff = {{ first = \"1h\", max = \"1h\", reset_after = \"1h\" }}\n\
         [worker.talks]\ncommand = [\"sh\", \"-c\", \"{talks}\"]\nsecrets = {{ DB_PASSWORD = {{ file = \"db\" }}, API_TOKEN = {{ env = \"OUTER\" }} }}\nbackoff = {{ first = \"1h\", max = \"1h\", reset_after = \"1h\" }}\n\
         [worker.nosy]\ncommand = [\"sh\", \"-c\", \"env > {{dir}}/nosy; exec sleep 999\"]\ninherit_env = [\"*\"]\n",
    ));
    fs::write(rig.path("db"), format!("{FILE}\n")).unwrap();
    let mut command = rig.command(&["start"]);
    command.env("OUTER", ENV);
    rig.launch_as(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig
}

/// Everything that the control socket serves at this path.
fn get(rig: &Rig, path: &str) -> String {
    let mut socket = UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn g9_p10_a_canary_is_found_nowhere() {
    let rig = rig();
    rig.wait("it got both", || rig.text("got") == format!("{FILE}|{ENV}"));
    rig.wait("the crash is told", || rig.worker("crash")["last_exit"]["kind"] == "exited");
    rig.wait("the last words are told", || rig.ok(&["describe", "talks"]).contains("token=(hidden)"));
    rig.ok(&["restart", "web", "--wait=20s"]);
    let mut seen = String::new();
    for verb in [
        &["status", "-o", "json"][..],
        &["describe", "web"],
        &["describe", "web", "-o", "json"],
        &["describe", "crash", "-o", "json"],
        &["describe", "talks"],
        &["describe", "talks", "-o", "json"],
        &["check"],
        &["check", "--explain"],
        &["check", "-o", "json"],
        &["events", "-o", "jsonl"],
        &["logs", "web"],
        &["logs", "crash"],
    ] {
        seen.push_str(&rig.ok(verb));
    }
    for path in ["/api/v1/config", "/api/v1/status", "/api/v1/workers/web", "/metrics"] {
        let answer = get(&rig, path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        seen.push_str(&answer);
    }
    seen.push_str(&rig.output());
    for below in ["logs/regrow.log", "logs/web.log", "logs/crash.log", "spawned"] {
        seen.push_str(&rig.text(&format!(".regrow/{below}")));
    }
    let cmdline = fs::read(format!("/proc/{}/cmdline", rig.runtime())).unwrap();
    seen.push_str(&String::from_utf8_lossy(&cmdline));
    rig.wait("the other worker told its environment", || rig.text("nosy").contains("REGROW_WORKER"));
    seen.push_str(&rig.text("nosy"));
    for canary in [FILE, ENV] {
        assert!(!seen.contains(canary), "{canary} is in {seen}");
    }
    assert!(rig.ok(&["check", "--explain"]).contains("secrets.API_TOKEN.env = \"OUTER\""));
}

/// What commands beside a worker print goes into status, events, incidents and the log of the runtime.
#[test]
fn a_canary_that_a_probe_a_step_or_a_capture_prints_is_found_nowhere() {
    let mut rig = Rig::new(
        r#"
[worker.web]
command = ["sleep", "999"]
secrets = { DB_PASSWORD = { file = "db" } }
on.capture.command = ["sh", "-c", "echo captured $DB_PASSWORD"]
[worker.web.probe.p]
exec = ["sh", "-c", "echo DB is $DB_PASSWORD broken; exit 1"]
retry_period = "100ms"
[ladder.default]
verify = "50ms"
learn = "off"
steps = [{ do = "tell" }, { do = "soft_restart" }, { do = "quarantine" }]
[strategy.tell]
command = ["sh", "-c", "echo step saw $DB_PASSWORD; exit 1"]
"#,
    );
    fs::write(rig.path("db"), format!("{FILE}\n")).unwrap();
    rig.launch();
    rig.wait("it is parked", || {
        let why = rig.ok(&["why", "web"]);
        let events = rig.ok(&["events", "-o", "jsonl"]);
        why.contains("DB is (hidden) broken") && events.contains("step saw (hidden)")
    });
    rig.wait("the capture is kept", || rig.ok(&["incidents", "-o", "json"]).contains("captured (hidden)"));
    let incidents: serde_json::Value = serde_json::from_str(&rig.ok(&["incidents", "-o", "json"])).unwrap();
    let mut seen = String::new();
    for incident in incidents["items"].as_array().unwrap() {
        seen.push_str(&rig.ok(&["incidents", "export", incident["id"].as_str().unwrap()]));
    }
    for verb in [
        &["status", "-o", "json"][..],
        &["status", "-o", "wide"],
        &["describe", "web", "-o", "json"],
        &["why", "web"],
        &["events", "-o", "jsonl"],
        &["incidents", "-o", "json"],
    ] {
        seen.push_str(&rig.ok(verb));
    }
    for path in ["/api/v1/status", "/health/workers/web", "/metrics"] {
        seen.push_str(&get(&rig, path));
    }
    rig.ok(&["shutdown", "--wait=30s"]);
    rig.wait_end();
    for below in ["logs/regrow.log", "state.db", "state.db-wal"] {
        seen.push_str(&rig.text(&format!(".regrow/{below}")));
    }
    seen.push_str(&rig.output());
    assert!(seen.contains("(hidden)") && !seen.contains(FILE), "{FILE} is in {seen}");
}

#[test]
fn a_runtime_that_reads_secrets_leaves_no_core_file() {
    let rig = rig();
    rig.wait("it got both", || rig.text("got") == format!("{FILE}|{ENV}"));
    assert!(!dumps_core(&rig), "a core file of the runtime was left");
}

/// Makes the runtime abort with cores allowed, and looks whether the kernel says that one was written.
fn dumps_core(rig: &Rig) -> bool {
    let pid = rustix::process::Pid::from_raw(rig.runtime().cast_signed()).unwrap();
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    let _ = rustix::process::prlimit(Some(pid), rustix::process::Resource::Core, unlimited);
    rig.signal(rustix::process::Signal::ABORT);
    let stat = || rig.text(&format!("/proc/{}/stat", rig.runtime()));
    rig.wait("it is gone", || {
        stat().rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']) || rest.is_empty())
    });
    // Field 52, the status, has the bit of a core.
    let status: i32 =
        stat().rsplit(") ").next().unwrap().split_ascii_whitespace().nth(49).unwrap().parse().unwrap();
    status & 0x80 != 0
}

#[test]
fn a_runtime_that_comes_to_read_secrets_leaves_no_core_file_either() {
    let worker = "[worker.web]\ncommand = [\"sh\", \"-c\", \"printf %s \\\"$DB_PASSWORD\\\" > {dir}/got; exec sleep 999\"]\n";
    let rig = Rig::start(worker);
    rig.wait_status("web", "healthy");
    fs::write(rig.path("db"), format!("{FILE}\n")).unwrap();
    rig.configure(&format!("{worker}secrets = {{ DB_PASSWORD = {{ file = \"db\" }} }}\n"));
    rig.ok(&["apply", "--wait=30s"]);
    rig.wait("it got it", || rig.text("got") == FILE);
    assert!(!dumps_core(&rig), "a core file of the runtime was left");
}

#[test]
fn whoever_names_a_variable_is_given_it_and_whoever_takes_all_is_not_given_a_secret_of_others() {
    let dump = |name: &str, more: &str| {
        format!(
            "[worker.{name}]\ncommand = [\"sh\", \"-c\", \"env > {{dir}}/{name}.new; mv {{dir}}/{name}.new {{dir}}/{name}; exec sleep 999\"]\n{more}\n"
        )
    };
    let file = dump("all", "inherit_env = [\"*\"]") + &dump("named", "inherit_env = [\"OUTER\"]");
    let mut rig = Rig::new(&file);
    let mut command = rig.command(&["start"]);
    command.env("OUTER", ENV).env("PLAIN", "plain");
    rig.launch_as(&mut command);
    rig.wait("both told", || rig.path("all").exists() && rig.path("named").exists());
    assert!(rig.text("all").contains(ENV), "nobody has said that it is a secret");
    // A worker that comes later makes it one, also for who is here already.
    rig.configure(&(file.clone() + &dump("owner", "secrets = { TOKEN = { env = \"OUTER\" } }")));
    rig.ok(&["apply", "--wait=30s"]);
    for name in ["all", "named"] {
        fs::remove_file(rig.path(name)).unwrap();
        rig.ok(&["restart", name, "--wait=30s"]);
    }
    rig.wait("all told", || ["all", "named", "owner"].iter().all(|name| rig.path(name).exists()));
    assert!(rig.text("owner").contains(&format!("TOKEN={ENV}")));
    assert!(rig.text("named").contains(&format!("OUTER={ENV}")));
    let all = rig.text("all");
    assert!(all.contains("PLAIN=plain") && !all.contains(ENV), "{all}");
}

#[test]
fn a_secret_is_read_at_each_start_and_its_absence_is_told() {
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"printf %s $DB > {dir}/got; exec sleep 999\"]\nsecrets = { DB = { file = \"db\" } }\nbackoff = { first = \"50ms\", max = \"50ms\" }\n",
    );
    rig.launch();
    rig.wait("its start failed", || rig.worker("web")["last_exit"]["kind"] == "start_failed");
    let message = rig.worker("web")["last_exit"]["message"].to_string();
    assert!(message.contains("no value for the secret DB") && message.contains("No such file"), "{message}");
    fs::write(rig.path("db"), "first").unwrap();
    rig.wait("it runs once the file is there", || rig.text("got") == "first");
    fs::write(rig.path("db"), "second").unwrap();
    rig.ok(&["restart", "web", "--wait=20s"]);
    rig.wait("it got the new one", || rig.text("got") == "second");
}

#[test]
fn a_secret_that_was_written_into_the_file_is_refused_and_not_repeated() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"true\"]\n[worker.web.secrets]\nDB = \"canary-in-toml\"\nAPI = { value = \"canary-in-toml\" }\nTWO = { env = \"A\", file = \"canary-in-toml\" }\n",
    );
    let out = rig.regrow(&["check"]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(6));
    assert!(text.contains("worker.web.secrets.DB") && text.contains("regrow.toml:4"), "{text}");
    assert!(text.contains("exactly one of `file` and `env`"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
