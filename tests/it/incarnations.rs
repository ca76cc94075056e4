//! `incarnation` is the n-th start of an instance, from 1, whoever had its place before.

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
    assert_eq!(counted(&rig, "a"), (1, 0), "a new runtime starts everybody for the first time");
}
