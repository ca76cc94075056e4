//! `incarnation` is the n-th start of an instance, from 1, whoever had its place before.

use rustix::process::Signal;

use crate::rig::Rig;

const TEMPLATE: &str = "[template.t]\ncommand = [\"sleep\", \"999\"]\n";

fn file(more: &str) -> String {
    let workers = "[worker.fixed]\ncommand = [\"sleep\", \"999\"]\n[worker.pool]\ncommand = [\"sleep\", \"999\"]\ninstances = 2\n";
    format!("{TEMPLATE}{workers}{more}")
}

fn worker(name: &str, seconds: u32) -> String {
    format!("[worker.{name}]\ncommand = [\"sleep\", \"{seconds}\"]\n")
}

/// The incarnation and how many starts came after the first.
fn counted(rig: &Rig, instance: &str) -> (u64, u64) {
    let worker = rig.worker(instance);
    (worker["incarnation"].as_u64().unwrap(), worker["restarts"].as_u64().unwrap())
}

fn gone(rig: &Rig, instance: &str) {
    rig.wait(&format!("{instance} is gone"), || rig.code(&["describe", instance]) == 4);
}

#[test]
fn who_is_new_begins_at_one_and_who_goes_on_counts_on() {
    let mut rig = Rig::start(&file(&worker("a", 900)));
    rig.wait_status("a", "healthy");
    rig.ok(&["restart", "a", "--wait"]);
    assert_eq!(counted(&rig, "a"), (2, 1));
    rig.configure(&file(&worker("a", 901)));
    rig.ok(&["apply", "--wait"]);
    assert_eq!(counted(&rig, "a"), (3, 2), "a new definition is a new start of the same instance");
    rig.configure(&file(&worker("b", 900)));
    rig.ok(&["apply", "--wait"]);
    gone(&rig, "a");
    rig.wait_status("b", "healthy");
    assert_eq!(counted(&rig, "b"), (1, 0), "what went before it is nothing to it");
    rig.configure(&file(&(worker("a", 900) + &worker("b", 900))));
    rig.ok(&["apply", "--wait"]);
    rig.wait_status("a", "healthy");
    assert_eq!(counted(&rig, "a"), (1, 0), "who had gone begins anew");

    rig.ok(&["scale", "pool", "3", "--wait"]);
    rig.wait_status("pool/2", "healthy");
    rig.ok(&["restart", "pool/2", "--wait"]);
    assert_eq!(counted(&rig, "pool/2"), (2, 1));
    rig.ok(&["scale", "pool", "2", "--wait"]);
    gone(&rig, "pool/2");
    rig.ok(&["scale", "pool", "3", "--wait"]);
    rig.wait_status("pool/2", "healthy");
    assert_eq!((counted(&rig, "pool/2"), counted(&rig, "pool/0")), ((1, 0), (1, 0)));

    rig.ok(&["add", "t", "u1", "--wait"]);
    rig.ok(&["restart", "u1", "--wait"]);
    rig.ok(&["restart", "u1", "--wait"]);
    assert_eq!(counted(&rig, "u1"), (3, 2));
    rig.ok(&["remove", "u1", "--wait"]);
    gone(&rig, "u1");
    rig.ok(&["add", "t", "u2", "--wait"]);
    rig.ok(&["add", "t", "u1", "--wait"]);
    assert_eq!((counted(&rig, "u1"), counted(&rig, "u2")), ((1, 0), (1, 0)));

    rig.ok(&["shutdown", "--wait"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait_status("a", "healthy");
    assert_eq!(counted(&rig, "a"), (2, 0), "a new runtime starts everybody once more, which is no restart");
    assert_eq!(counted(&rig, "u1"), (2, 0), "also who was added");
    assert_eq!(counted(&rig, "pool/0"), (2, 0));
}

const NUMBERS: &str = r#"
[supervisor.root]
retry_first = "never"

[ladder.default]
verify = "100ms"

[worker.says]
command = ["sh", "-c", "echo $REGROW_INCARNATION >>numbers; exec sleep 999"]

[worker.off]
command = ["sleep", "999"]

[worker.fails]
command = ["/nowhere/at/all"]
backoff.first = "10ms"
backoff.max = "10ms"
"#;

#[test]
fn no_number_is_lost_or_given_out_twice_whatever_ends_the_runtime() {
    let mut rig = Rig::start(NUMBERS);
    rig.wait_status("says", "healthy");
    rig.ok(&["stop", "off", "--wait"]);
    for round in 0..3 {
        let begun = 2 * round + 1;
        rig.wait("it runs", || counted(&rig, "says").0 == begun && rig.worker("says")["ready"] == true);
        rig.ok(&["recover", "says", "--action", "soft_restart", "--wait"]);
        assert_eq!(counted(&rig, "says").0, begun + 1);
        rig.wait_status("fails", "quarantined");
        let failed = counted(&rig, "fails").0;
        // What a client was shown is kept.
        let _ = starts_that_failed(&rig);
        if round == 1 {
            rig.signal(Signal::TERM);
            assert_eq!(rig.wait_end(), 0, "{}", rig.output());
        } else {
            rig.kill_runtime();
        }
        rig.launch();
        rig.wait("it was tried again", || counted(&rig, "fails").0 > failed);
    }
    rig.wait("it runs once more", || counted(&rig, "says").0 == 7);
    rig.wait("it has said so", || numbers(&rig).len() >= 7);
    assert_eq!(numbers(&rig), ["1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(counted(&rig, "off").0, 1, "who stays stopped is not counted on");
    rig.ok(&["start", "off", "--wait"]);
    assert_eq!(counted(&rig, "off").0, 2);
    rig.wait_status("fails", "quarantined");
    let tried = starts_that_failed(&rig);
    let expected: Vec<_> = (1..=tried.len() as u64).collect();
    assert_eq!(tried, expected, "also those that came to no process");
}

fn starts_that_failed(rig: &Rig) -> Vec<u64> {
    let started = rig.ok(&["events", "--since", "1h", "--kind", "worker.starting", "-o", "jsonl"]);
    let started = started.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let number = |event: serde_json::Value| event["incarnation"].as_u64().unwrap();
    started.filter(|event| event["instance"] == "fails").map(number).collect()
}

fn numbers(rig: &Rig) -> Vec<String> {
    let text = std::fs::read_to_string(rig.path("numbers")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}
