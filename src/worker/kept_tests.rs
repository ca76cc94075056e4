//! A state that is put away, brought back, or left to another identity.

use super::*;

fn room() -> (tempfile::TempDir, StateRoom) {
    let dir = tempfile::tempdir().unwrap();
    let room = StateRoom::new(dir.path(), "web-0");
    (dir, room)
}

fn write(room: &StateRoom, text: &str) {
    fs::create_dir_all(room.path()).unwrap();
    fs::write(room.path().join("file"), text).unwrap();
}

fn read(room: &StateRoom) -> String {
    fs::read_to_string(room.path().join("file")).unwrap_or_default()
}

#[test]
fn what_was_put_away_comes_back_and_what_was_there_goes_in_its_place() {
    let (_dir, room) = room();
    assert_eq!((room.archive().unwrap(), room.archives().unwrap().len()), (None, 0));
    assert!(room.restore(None).is_err());
    write(&room, "one");
    let before = changes();
    let first = room.archive().unwrap().unwrap();
    assert!(changes() > before);
    assert_eq!((read(&room).as_str(), room.archives().unwrap()), ("", vec![first.clone()]));
    write(&room, "two");
    assert_eq!(room.size().unwrap(), StateSize { files: 1, bytes: 3 });
    assert_eq!(room.restore(None).unwrap(), first);
    assert_eq!(read(&room), "one");
    assert_eq!(room.restore(None).map(|_| read(&room)).unwrap(), "two");
    assert!(room.restore(Some("../../w")).is_err());
}

#[test]
fn who_is_recreated_has_another_identity_that_gets_nothing_of_the_old_one_by_itself() {
    let (_dir, room) = room();
    assert_eq!(room.identity().unwrap(), 1);
    write(&room, "one");
    let (second, old) = room.wish().recreate(|| true).unwrap();
    assert_eq!((second, room.identity().unwrap(), read(&room).as_str()), (2, 2, ""));
    let old = old.unwrap();
    assert!(old.ends_with("-identity-1") && room.restore(None).is_err());
    write(&room, "two");
    let reset = room.archive().unwrap().unwrap();
    assert_eq!(room.restore(None).unwrap(), reset);
    room.restore(Some(&old)).unwrap();
    assert_eq!((read(&room).as_str(), room.identity().unwrap()), ("one", 2));
    stay(room.path());
    let late = room.wish();
    stay(room.path());
    assert!(late.recreate(|| true).is_err());
    fs::remove_dir_all(room.path()).unwrap();
    assert_eq!(room.wish().recreate(|| true).unwrap(), (3, None), "with nothing to put away");
    fs::write(&room.identity, "x").unwrap();
    assert!(room.identity().is_err_and(|error| error.to_string().contains("holds no number")));
}

#[test]
fn who_was_started_meanwhile_keeps_its_state() {
    let (_dir, room) = room();
    write(&room, "one");
    let (late, other, given_up) = (room.wish(), room.wish(), room.wish());
    stay(&room.path().join("of another"));
    other.archive(|| true).unwrap();
    write(&room, "two");
    stay(room.path());
    let busy = |error: io::Error| error.kind() == io::ErrorKind::ResourceBusy;
    assert!(late.archive(|| true).is_err_and(busy));
    assert!(late.restore(None, || true).is_err_and(busy));
    assert!(given_up.archive(|| true).is_err_and(busy));
    assert!(room.wish().archive(|| false).is_err_and(busy));
    assert_eq!((read(&room).as_str(), room.archives().unwrap().len()), ("two", 1));
    stay_if_possible(room.path());
    assert!(room.archive().unwrap().is_some(), "what is wished for later is not void");
    drop((late, other, given_up));
    assert!(wishes_for(room.path()).is_empty());
}

#[test]
fn a_start_in_the_middle_of_a_move_waits_for_its_end() {
    let (_dir, room) = room();
    write(&room, "one");
    let (asked, wants) = std::sync::mpsc::channel();
    let (says, said) = std::sync::mpsc::channel();
    let (moved, path) = (room.wish(), room.path().to_owned());
    let moving = std::thread::spawn(move || {
        moved.archive(|| {
            asked.send(()).unwrap();
            said.recv().unwrap()
        })
    });
    wants.recv().unwrap();
    stay_if_possible(room.path());
    let starts = std::thread::spawn(move || {
        stay(&path);
        fs::read(path.join("file")).is_err()
    });
    says.send(true).unwrap();
    assert!(moving.join().unwrap().unwrap().is_some());
    assert!(starts.join().unwrap(), "it began before the state was moved");
}

#[test]
fn a_lock_that_is_a_directory_and_a_link_are_put_away_and_come_back() {
    let (_dir, room) = room();
    fs::create_dir_all(room.path().join("lock")).unwrap();
    let put = room.archive().unwrap();
    assert!(put.is_some() && !room.path().join("lock").exists());
    std::os::unix::fs::symlink("nowhere", room.path().join("link")).unwrap();
    assert_eq!(room.restore(None).unwrap(), put.unwrap());
    assert!(room.path().join("lock").is_dir());
    room.restore(None).unwrap();
    assert!(room.path().join("link").is_symlink());
}

#[test]
fn three_are_kept() {
    let (_dir, room) = room();
    for round in 0..5 {
        write(&room, &round.to_string());
        room.archive().unwrap();
        assert_eq!(room.size().unwrap(), StateSize::default());
    }
    assert_eq!(room.archive().unwrap(), None, "nothing is there");
    assert_eq!(StateRoom::at(room.path()).unwrap().archives().unwrap(), room.archives().unwrap());
    let kept = room.archives().unwrap().into_iter().rev();
    let texts = kept.map(|name| fs::read_to_string(room.archive.join(name).join("file")).unwrap());
    assert_eq!(texts.collect::<Vec<_>>(), ["2", "3", "4"]);
    room.restore(None).unwrap();
    assert_eq!(read(&room), "4");
}
