//! How many copies of a worker there are: what the file says, what somebody asked for by hand, and what is forgotten.

use crate::config_live::{pid, stays, up};
use crate::rig::Rig;

fn file(instances: u32) -> String {
    format!("[worker.w]\ncommand = [\"sleep\", \"1000\"]\ninstances = {instances}\n")
}

fn names(rig: &Rig) -> Vec<String> {
    let status = rig.status();
    let all = status["workers"].as_array().unwrap().iter();
    all.map(|one| one["instance"].as_str().unwrap().to_owned()).collect()
}

fn count(rig: &Rig, number: usize) {
    rig.wait(&format!("{number} are ready"), || {
        let status = rig.status();
        let all = status["workers"].as_array().unwrap();
        all.len() == number && all.iter().all(|one| one["ready"] == true)
    });
}

#[test]
fn a_number_that_the_file_has_overruled_does_not_come_back_with_the_next_runtime() {
    let mut rig = Rig::start(&file(2));
    count(&rig, 2);
    rig.ok(&["scale", "w", "3", "--wait"]);
    count(&rig, 3);
    // What differs elsewhere leaves the number alone, in the runtime and in what it remembers.
    rig.configure(&(file(2) + "[worker.x]\ncommand = [\"sleep\", \"1000\"]\n"));
    rig.ok(&["apply", "--wait"]);
    count(&rig, 4);
    rig.configure(&file(4));
    rig.ok(&["apply", "--wait"]);
    count(&rig, 4);
    rig.configure(&file(2));
    rig.ok(&["apply", "--wait"]);
    count(&rig, 2);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    count(&rig, 2);
    assert_eq!(names(&rig), ["w/0", "w/1"]);
}

#[test]
fn a_worker_that_comes_to_be_numbered_is_replaced_and_stays_stopped_where_it_was() {
    let mut rig = Rig::start(&file(1));
    count(&rig, 1);
    rig.ok(&["stop", "w", "--wait"]);
    rig.configure(&file(2));
    let diff = String::from_utf8(rig.regrow(&["diff"]).stdout).unwrap();
    assert!(diff.contains("instances: 1 -> 2"), "{diff}");
    rig.ok(&["apply"]);
    rig.wait("w/1 is ready", || names(&rig) == ["w/0", "w/1"] && rig.worker("w/1")["ready"] == true);
    assert_eq!(rig.worker("w/0")["status"], "stopped");
    assert_eq!(rig.worker("w/0")["wanted"], "stopped");
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    rig.wait("w/1 is ready", || rig.worker("w/1")["ready"] == true);
    assert_eq!(rig.worker("w/0")["status"], "stopped", "and the next runtime knows it by its new name");
    rig.configure(&file(1));
    rig.ok(&["apply"]);
    rig.wait("only `w` is left", || names(&rig) == ["w"]);
    assert_eq!(rig.worker("w")["status"], "stopped");
    rig.ok(&["start", "w", "--wait"]);
    rig.configure(&file(2));
    let diff = String::from_utf8(rig.regrow(&["diff"]).stdout).unwrap();
    assert!(diff.contains("~ worker w: restarts"), "{diff}");
    rig.ok(&["apply", "--wait=60s"]);
    count(&rig, 2);
}

#[test]
fn the_first_copy_of_a_worker_that_was_no_pool_has_a_number_as_well() {
    let rig = Rig::start(&stays("a", ""));
    up(&rig, &["a"]);
    let first = pid(&rig, "a");
    rig.ok(&["scale", "a", "2", "--wait"]);
    up(&rig, &["a", "a/1"]);
    let second = pid(&rig, "a/1");
    assert!(rig.ok(&["describe", "a/0"]).starts_with("a   healthy"));
    assert_eq!(rig.ok(&["status", "a/0", "-o", "name"]), "a\n");
    rig.ok(&["restart", "a/0", "--wait"]);
    assert_ne!(pid(&rig, "a"), first, "it alone is meant");
    assert_eq!(pid(&rig, "a/1"), second);
    assert_eq!(rig.code(&["describe", "a/2"]), 4);
}

#[test]
fn a_worker_that_comes_to_be_numbered_is_gone_before_its_first_copy_starts() {
    // Whoever comes while the other is there leaves a trace, as one would that finds its port taken.
    let worker = "[worker.w]\ncommand = [\"sh\", \"-c\", \"exec 9>{dir}/lock$PORT; \
         flock -n 9 || {{ echo twice >> {dir}/twice; exit 1; }; \
         trap 'while ! test -e {dir}/go; do sleep 0.05; done; exit 0' TERM; echo up; \
         while :; do sleep 0.05; done\"]\n\
         port = { base = 18630 }\nready = { log = \"up\" }\nstop.timeout = \"5m\"\n"
        .to_owned();
    let rig = Rig::start(&(worker.clone() + &stays("b", "")));
    up(&rig, &["w", "b"]);
    let before = pid(&rig, "b");
    for (more, names) in [("instances = 2\n", &["w/0", "w/1"][..]), ("", &["w"])] {
        let old = rig.worker(if names.len() == 2 { "w" } else { "w/0" })["instance"].clone();
        rig.configure(&(worker.clone() + more + &stays("b", "")));
        std::thread::scope(|scope| {
            let apply = scope.spawn(|| rig.ok(&["apply", "--wait"]));
            rig.wait_phase(old.as_str().unwrap(), "stopping");
            std::fs::write(rig.path("go"), "").unwrap();
            apply.join().unwrap();
        });
        up(&rig, names);
        std::fs::remove_file(rig.path("go")).unwrap();
    }
    assert!(!rig.path("twice").exists());
    assert_eq!((rig.worker("w")["restarts"].clone(), pid(&rig, "b")), (0.into(), before));
    assert_eq!(rig.ok(&["incidents", "-o", "name"]), "");
}
