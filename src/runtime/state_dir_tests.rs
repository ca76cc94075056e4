//! The state directory: held by one runtime, whatever happens to it.

use std::time::Duration;

use super::*;

#[test]
fn a_second_runtime_is_refused_and_told_the_first_ones_pid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let first = StateDir::take(&path, Passers::default()).unwrap();
    let second = StateDir::take(&path, Passers::default()).unwrap_err();
    assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
    drop(first);
    let _third = StateDir::take(&path, Passers::default()).unwrap();
}

#[test]
fn what_a_killed_runtime_left_behind_for_a_moment_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let first = StateDir::take(dir.path(), Passers::default()).unwrap();
    fs::write(dir.path().join("lock"), format!("{}\n", ended.id())).unwrap();
    let path = dir.path().to_owned();
    let (waiting, waits) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        waiting.send(()).unwrap();
        StateDir::take(&path, Passers::default())
    });
    waits.recv().unwrap();
    // Long enough to meet the lock held, and far below the patience.
    std::thread::park_timeout(Duration::from_millis(50));
    drop(first);
    let _second = second.join().unwrap().unwrap();
}

#[test]
fn where_the_pid_in_the_file_is_not_the_holders_the_holder_is_named_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = StateDir::take(dir.path(), Passers::default()).unwrap();
    // As on a disk that is read-only since: what is written there is a stranger's by now.
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(dir.path().join("lock"), format!("{}\n", stranger.id())).unwrap();
    let second = StateDir::take(dir.path(), Passers::default()).unwrap_err();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
    drop(first);
}

#[test]
fn a_left_over_lock_file_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("lock"), "1\n").unwrap();
    let _taken = StateDir::take(dir.path(), Passers::default()).unwrap();
    let text = fs::read_to_string(dir.path().join("lock")).unwrap();
    assert_eq!(text.trim(), std::process::id().to_string());
}

#[test]
fn others_cannot_look_inside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let _taken = StateDir::take(&path, Passers::default()).unwrap();
    for below in [path.clone(), path.join("w"), path.join("logs")] {
        assert_eq!(fs::metadata(below).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[test]
fn workers_of_other_users_pass_through_and_see_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    drop(StateDir::take(dir.path(), Passers { workers: true, clients: false }).unwrap());
    assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o711, 0o711));
    assert_eq!(mode(&dir.path().join("logs")), 0o700);
    drop(StateDir::take(dir.path(), Passers::default()).unwrap());
    assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o700, 0o700), "and back");
    drop(StateDir::take(dir.path(), Passers { workers: false, clients: true }).unwrap());
    assert_eq!((mode(dir.path()), mode(&dir.path().join("w"))), (0o711, 0o700), "to the socket only");
}

#[test]
fn what_somebody_removes_is_made_again_and_stays_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let first = StateDir::take(&path, Passers::default()).unwrap();
    assert_eq!(first.heal().unwrap(), Home::Ours);
    for below in ["lock", "logs", "w"] {
        let gone = path.join(below);
        if gone.is_dir() {
            fs::remove_dir(&gone).unwrap()
        } else {
            fs::remove_file(&gone).unwrap()
        }
        let second = StateDir::take(&path, Passers::default());
        assert!(matches!(second, Err(StartError::Busy { .. })), "without {below}: {second:?}");
        assert_eq!(first.heal().unwrap(), Home::Ours);
        assert!(gone.exists(), "{below}");
    }
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(first.heal().unwrap(), Home::Remade);
    let second = StateDir::take(&path, Passers::default()).unwrap_err();
    assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
    let moved = dir.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    assert_eq!(first.heal().unwrap(), Home::Remade, "moved away");
    for ours in [&path, &moved] {
        let second = StateDir::take(ours, Passers::default()).unwrap_err();
        assert!(matches!(second, StartError::Busy { pid, .. } if pid == std::process::id()), "{second}");
    }
    let aside = dir.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    fs::rename(&moved, &path).unwrap();
    assert_eq!(first.heal().unwrap(), Home::Remade, "put back");
    assert_eq!(first.heal().unwrap(), Home::Ours);
    fs::rename(&path, &moved).unwrap();
    fs::rename(&aside, &path).unwrap();
    assert_eq!(first.heal().unwrap(), Home::Remade, "and again the other one");
    for ours in [&path, &moved] {
        assert!(matches!(StateDir::take(ours, Passers::default()), Err(StartError::Busy { .. })));
    }
    first.release();
    let _third = StateDir::take(&moved, Passers::default()).unwrap();
    let _fourth = StateDir::take(&path, Passers::default()).unwrap();
}

#[test]
fn what_stands_in_its_place_is_left_alone_and_so_is_a_folder_that_was_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let (above, path) = (dir.path().join("project"), dir.path().join("project/state"));
    let first = StateDir::take(&path, Passers::default()).unwrap();
    fs::rename(&above, dir.path().join("renamed")).unwrap();
    assert!(matches!(first.heal().unwrap(), Home::NotOurs(_)));
    assert!(!above.exists());
    fs::create_dir_all(&path).unwrap();
    assert!(matches!(first.heal().unwrap(), Home::NotOurs(_)), "nobody has it");
    assert!(!path.join("lock").exists());
}

#[test]
fn a_link_in_place_of_a_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/tmp", dir.path().join("w")).unwrap();
    assert!(matches!(StateDir::take(dir.path(), Passers::default()), Err(StartError::StateDir { .. })));
}
