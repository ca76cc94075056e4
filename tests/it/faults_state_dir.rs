//! The state directory goes wrong: it fills up, cannot be written, is removed, belongs to somebody else. Supervision
//! goes on, nothing runs twice, and what is wrong is told until it is not.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::hardship::TinyDisk;
use crate::rig::{Rig, alive, root_or_skip, send};

/// Appends its pid on every start.
const WITNESS: &str = r#"["sh", "-c", "echo $$ >> {dir}/starts; exec sleep 999"]"#;

fn pids(rig: &Rig) -> Vec<u32> {
    rig.witness("starts").iter().filter_map(|line| line.trim().parse().ok()).collect()
}

fn notes(rig: &Rig) -> String {
    rig.status()["runtime"]["notes"].to_string()
}

/// Takes every inode that is left; answers how many.
fn use_up_inodes(dir: &str) -> usize {
    (0..).take_while(|number| fs::write(format!("{dir}/filler{number}"), "").is_ok()).count()
}

fn give_back_inodes(dir: &str, count: usize) {
    (0..count).for_each(|number| fs::remove_file(format!("{dir}/filler{number}")).unwrap());
}

#[test]
fn a_stop_that_could_not_be_written_down_says_so_and_is_tried_until_it_is() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=4m,nr_inodes=64") else { return };
    let mut rig = Rig::start(&format!(
        "[runtime]\nstate_dir = \"{}\"\n[worker.web]\ncommand = {WITNESS}\n[worker.b]\ncommand = [\"sleep\", \"999\"]\n",
        disk.path()
    ));
    rig.wait_status("web", "healthy");
    let taken = use_up_inodes(&disk.path());
    let stopped = rig.regrow(&["stop", "web"]);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    let warned = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(warned.contains("could not be written down") && warned.contains("No space left"), "{warned}");
    assert!(notes(&rig).contains("could not be written down"));
    give_back_inodes(&disk.path(), taken);
    rig.wait("it is written down", || !notes(&rig).contains("could not be written down"));
    let quiet = rig.regrow(&["stop", "b"]);
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    rig.kill_runtime();
    rig.launch();
    assert_eq!(rig.worker("web")["status"], "stopped", "{}", rig.worker("web"));
    assert_eq!(pids(&rig).len(), 1, "it was not started again");
}

/// Takes every page that is left.
fn use_up_pages(dir: &str) {
    let mut file = fs::File::create(format!("{dir}/pages")).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
}

/// One worker whose state directory is on this disk.
fn on(disk: &TinyDisk) -> String {
    format!("[runtime]\nstate_dir = \"{}\"\n[worker.web]\ncommand = {WITNESS}\n", disk.path())
}

/// The shelters of a state directory.
fn shelters_of(state_dir: &str) -> Vec<std::path::PathBuf> {
    let places = ["/run", "/dev/shm", "/tmp"].map(|place| fs::read_dir(place).unwrap());
    let dirs = places.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    dirs.filter(|dir| fs::read(dir.join("state_dir")).is_ok_and(|own| own == state_dir.as_bytes())).collect()
}

/// Every copy but the newest is gone, and that one is well.
fn one_copy(rig: &Rig, starts: usize) {
    rig.wait(&format!("start {starts}"), || pids(rig).len() == starts);
    rig.wait_status("web", "healthy");
    let alive: Vec<u32> = pids(rig).into_iter().filter(|pid| alive(*pid)).collect();
    assert_eq!(alive, [pids(rig)[starts - 1]], "of {:?}", pids(rig));
}

/// A runtime that was killed comes back on the disk as it is, and on it once more when it is well again.
fn comes_back(disk: &TinyDisk, spoil: impl FnOnce(&str), mend: impl FnOnce(&str)) {
    let mut rig = Rig::start(&on(disk));
    one_copy(&rig, 1);
    rig.kill_runtime();
    spoil(&disk.path());
    rig.launch();
    one_copy(&rig, 2);
    let told = notes(&rig);
    assert!(told.contains("the state directory takes nothing"), "{told}");
    send(pids(&rig)[1], Signal::KILL);
    one_copy(&rig, 3);
    assert_eq!(rig.code(&["start"]), 1, "a second runtime is refused there too");
    rig.kill_runtime();
    rig.launch();
    one_copy(&rig, 4);
    rig.kill_runtime();
    assert_eq!(shelters_of(&disk.path()).len(), 1);
    mend(&disk.path());
    rig.launch();
    one_copy(&rig, 5);
    assert!(!notes(&rig).contains("takes nothing"), "{}", notes(&rig));
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
    assert!(!alive(pids(&rig)[4]));
    assert!(shelters_of(&disk.path()).is_empty(), "a clean end leaves none");
    rig.launch();
    one_copy(&rig, 6);
}

#[test]
fn c7_a_runtime_that_was_killed_comes_back_on_a_full_disk() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=1m") else { return };
    comes_back(&disk, use_up_pages, |dir| fs::remove_file(format!("{dir}/pages")).unwrap());
}

#[test]
fn c8_a_runtime_that_was_killed_comes_back_without_inodes() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=4m,nr_inodes=64") else { return };
    let taken = std::cell::Cell::new(0);
    comes_back(&disk, |dir| taken.set(use_up_inodes(dir)), |dir| give_back_inodes(dir, taken.get()));
}

#[test]
fn c9_a_runtime_that_was_killed_comes_back_on_a_read_only_disk() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=4m") else { return };
    comes_back(&disk, |_| disk.remount("ro"), |_| disk.remount("rw"));
}

#[test]
fn c8_a_first_start_on_a_disk_with_a_handful_of_inodes_finds_room_elsewhere() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    for inodes in [3, 4, 5, 6, 8, 10] {
        let Some(disk) = TinyDisk::mount(&format!("size=4m,nr_inodes={inodes}")) else { return };
        let mut rig = Rig::start(&on(&disk));
        one_copy(&rig, 1);
        send(pids(&rig)[0], Signal::KILL);
        one_copy(&rig, 2);
        rig.kill_runtime();
        rig.launch();
        one_copy(&rig, 3);
        rig.signal(Signal::TERM);
        assert_eq!(rig.wait_end(), 0);
    }
}

#[test]
fn c24_a_state_directory_that_somebody_removes_is_made_again() {
    let mut rig = Rig::start(&format!(
        "[worker.web]\ncommand = {WITNESS}\n[worker.says]\n\
         command = [\"sh\", \"-c\", \"while :; do echo a line; sleep 0.05; done\"]\n"
    ));
    one_copy(&rig, 1);
    rig.wait("its output is kept", || rig.text(".regrow/logs/says.log").contains("a line"));
    fs::remove_dir_all(rig.path(".regrow/logs")).unwrap();
    rig.wait("its output is kept again", || rig.text(".regrow/logs/says.log").contains("a line"));
    // It may be half made again before it is half removed.
    rig.wait("it is removed", || {
        let _ = fs::remove_dir_all(rig.path(".regrow"));
        !rig.path(".regrow/lock").exists()
    });
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("it is back", || pids(&rig).len() == 2);
    rig.wait("it answers", || rig.try_status().is_some());
    one_copy(&rig, 2);
    rig.wait("its output is kept once more", || rig.text(".regrow/logs/says.log").contains("a line"));
    assert_eq!(rig.worker("web")["restarts"], 1);
    assert_eq!(rig.code(&["start"]), 1, "it is still one runtime's");
    // What is needed to find survivors is there again too.
    rig.kill_runtime();
    rig.launch();
    one_copy(&rig, 3);
}

#[test]
fn c24_a_state_directory_that_somebody_moves_away_is_made_again_and_nobody_starts_beside_it() {
    let mut rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    one_copy(&rig, 1);
    fs::rename(rig.path(".regrow"), rig.path("moved")).unwrap();
    rig.wait("it answers", || rig.try_status().is_some());
    assert!(notes(&rig).contains("was moved away"), "{}", notes(&rig));
    let own = rig.runtime().to_string();
    let refused = |dir: &str| {
        let second =
            rig.command(&["start"]).env("REGROW__RUNTIME__STATE_DIR", rig.path(dir)).output().unwrap();
        let told = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(second.status.code() == Some(1) && told.contains(&own), "{dir}: {told}");
    };
    // What happens is still written down in the moved one.
    ["moved", ".regrow"].into_iter().for_each(refused);
    send(pids(&rig)[0], Signal::KILL);
    one_copy(&rig, 2);
    // What is needed to find survivors is in the new one.
    rig.kill_runtime();
    rig.launch();
    one_copy(&rig, 3);
    assert_eq!(rig.worker("web")["restarts"], 0, "{}", rig.output());
}

#[test]
fn c24_starts_without_a_state_directory_cost_no_restarts_and_wait_until_it_is_back() {
    let mut rig = Rig::new(&format!(
        "[runtime]\nstate_dir = \"{{dir}}/home/.regrow\"\n[supervisor.root]\nintensity = {{ max_restarts = 2, within = \"1h\" }}\n\
         [defaults.worker]\nbackoff = {{ max = \"200ms\" }}\n[worker.web]\ncommand = {WITNESS}\n"
    ));
    fs::create_dir(rig.path("home")).unwrap();
    rig.launch();
    one_copy(&rig, 1);
    fs::rename(rig.path("home"), rig.path("moved")).unwrap();
    send(pids(&rig)[0], Signal::KILL);
    let status = || {
        let mut asked = rig.command(&["status", "-o", "json"]);
        let out = asked.env("REGROW__RUNTIME__STATE_DIR", rig.path("moved/.regrow")).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap_or_default()
    };
    // More often than it may be restarted in an hour.
    rig.wait("it was tried six times", || status()["workers"][0]["incarnation"].as_u64() >= Some(7));
    let seen = status();
    assert_ne!(seen["workers"][0]["status"], "quarantined", "{seen}");
    assert!(seen["runtime"]["notes"].to_string().contains("home/.regrow/w is not there"), "{seen}");
    fs::rename(rig.path("moved"), rig.path("home")).unwrap();
    rig.wait("it is started", || pids(&rig).len() == 2);
    one_copy(&rig, 2);
    assert!(!notes(&rig).contains("is not there"), "{}", notes(&rig));
}

#[test]
fn c23_who_finds_another_runtime_in_the_place_of_its_state_directory_ends() {
    let mut rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    one_copy(&rig, 1);
    // As another runtime has it, and this one lives as long as the test.
    fs::create_dir(rig.path("other")).unwrap();
    let other = fs::File::open(rig.path("other")).unwrap();
    other.try_lock().unwrap();
    fs::write(rig.path("other/lock"), format!("{}\n", std::process::id())).unwrap();
    crate::faults_runtime::exchange(&rig, "other");
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    let told = format!("the runtime with pid {} has the state directory", std::process::id());
    assert!(rig.output().contains(&told), "{}", rig.output());
    assert!(!alive(pids(&rig)[0]) && pids(&rig).len() == 1);
    drop(other);
}

#[test]
fn c23_the_store_of_another_runtime_in_the_place_of_ours_stays_as_it_is() {
    let file = format!("[worker.web]\ncommand = {WITNESS}\n");
    // Killed: its newest events are in the WAL alone.
    let mut other = Rig::start(&file);
    one_copy(&other, 1);
    other.kill_runtime();
    let mut rig = Rig::start(&file);
    one_copy(&rig, 1);
    fs::rename(other.path(".regrow"), rig.path("other")).unwrap();
    let at = rig.path(".");
    let stores = |dir: &str| {
        let entries = fs::read_dir(at.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let of_store = |path: &PathBuf| path.to_string_lossy().contains(".db");
        let mut found: Vec<_> = entries.filter(of_store).map(|path| fs::read(path).unwrap()).collect();
        found.sort();
        found
    };
    let before = stores("other");
    assert!(rig.path("other/state.db-wal").exists());
    crate::faults_runtime::exchange(&rig, "other");
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("web is started again", || pids(&rig).len() == 2);
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    assert!(stores(".regrow") == before, "nothing of it was written or removed");
    // What happened meanwhile is in ours.
    crate::faults_runtime::exchange(&rig, "other");
    rig.launch();
    one_copy(&rig, 3);
    assert_eq!(rig.worker("web")["restarts"], 1, "{}", rig.output());
}

#[test]
fn c23_without_its_lock_file_a_second_runtime_is_refused_and_the_first_makes_it_again() {
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    one_copy(&rig, 1);
    for _ in 0..3 {
        fs::remove_file(rig.path(".regrow/lock")).unwrap();
        let second = rig.regrow(&["start"]);
        let told = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(1), "{told}");
        assert!(told.contains("already running"), "{told}");
        let own = rig.runtime().to_string();
        rig.wait("the lock is there again", || rig.text(".regrow/lock").trim() == own);
    }
    one_copy(&rig, 1);
}

#[test]
fn a_state_directory_of_another_user_is_refused_with_what_to_do() {
    if !root_or_skip("a directory of another user") {
        return;
    }
    let rig = Rig::new(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    fs::create_dir(rig.path(".regrow")).unwrap();
    chown(rig.path(".regrow"), Some(65534), Some(65534)).unwrap();
    let start = rig.regrow(&["start"]);
    let told = String::from_utf8_lossy(&start.stderr).into_owned();
    assert_eq!(start.status.code(), Some(1), "{told}");
    assert!(told.contains("belongs to uid 65534") && told.contains("chown"), "{told}");
    assert!(pids(&rig).is_empty());
}

#[test]
fn a_start_that_is_refused_for_its_control_socket_has_started_nobody() {
    let rig =
        Rig::new("[worker.web]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {dir}/starts; exec sleep 999\"]\n");
    fs::create_dir(rig.path(".regrow")).unwrap();
    fs::write(rig.path(".regrow/regrow.sock"), "somebody's").unwrap();
    let refused = rig.regrow(&["start"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is no socket; move it away"), "{refused:?}");
    assert!(!rig.path("starts").exists());
}

#[test]
fn a10_a_runtime_on_a_copy_of_a_state_directory_leaves_the_workers_of_the_original_alone() {
    let file = format!("[worker.web]\ncommand = {WITNESS}\n[worker.b]\ncommand = [\"sleep\", \"999\"]\n");
    let rig = Rig::start(&file);
    one_copy(&rig, 1);
    rig.wait_status("b", "healthy");
    let mut copy = Rig::new(&file);
    // What comes and goes meanwhile may be missed.
    Command::new("cp").arg("-a").arg(rig.path(".regrow")).arg(copy.path(".regrow")).output().unwrap();
    assert!(copy.text(".regrow/spawned").contains("web"));
    for round in 1..=2 {
        copy.launch();
        one_copy(&copy, round);
        copy.wait_status("b", "healthy");
        assert_eq!(notes(&copy).contains("is a copy"), round == 1, "{}", notes(&copy));
        copy.signal(Signal::TERM);
        assert_eq!(copy.wait_end(), 0, "{}", copy.output());
    }
    assert!(!copy.output().contains("earlier runtime"), "{}", copy.output());
    one_copy(&rig, 1);
    for worker in ["web", "b"] {
        assert_eq!(rig.worker(worker)["restarts"], 0, "{}", rig.output());
    }
}

#[test]
fn c1_survivors_are_found_and_stopped_though_somebody_has_removed_the_state_directory() {
    let asked = r#"["sh", "-c", "trap 'echo asked >> {dir}/asked; exit' TERM; echo $$ >> {dir}/starts; while :; do sleep 0.05; done"]"#;
    let mut rig = Rig::start(&format!(
        "[worker.web]\ncommand = {asked}\n[worker.pool]\ninstances = 2\n\
         command = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/pool-{{index}}; exec sleep 999\"]\n"
    ));
    let all = |rig: &Rig| {
        let of_pool = [0, 1].map(|index| rig.witness(&format!("pool-{index}")));
        let pool = of_pool.into_iter().flatten().filter_map(|line| line.trim().parse().ok());
        pids(rig).into_iter().chain(pool).collect::<Vec<u32>>()
    };
    rig.wait("all are up", || all(&rig).len() == 3);
    let old = all(&rig);
    rig.kill_runtime();
    fs::remove_dir_all(rig.path(".regrow")).unwrap();
    rig.launch();
    one_copy(&rig, 2);
    rig.wait("all have successors", || all(&rig).len() == 6);
    assert!(old.iter().all(|pid| !alive(*pid)), "{old:?}\n{}", rig.output());
    assert_eq!(rig.witness("asked").len(), 1, "it was asked as a stop asks");
    for instance in ["web", "pool/0", "pool/1"] {
        rig.wait_status(instance, "healthy");
        assert_eq!(rig.worker(instance)["restarts"], 0, "no start failed: {}", rig.output());
    }
    let told = rig.ok(&["events", "--kind", "runtime.adopted", "-o", "jsonl"]);
    assert!(old.iter().all(|pid| told.contains(&pid.to_string())), "{told}");
    let new = all(&rig);
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    assert!(new.iter().all(|pid| !alive(*pid)), "{new:?}\n{}", rig.output());
}
