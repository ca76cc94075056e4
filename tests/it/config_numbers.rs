//! How many copies of a worker there are: what the file says, what somebody asked for by hand, and what is forgotten.

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
