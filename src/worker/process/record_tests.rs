//! What stands in the spawn record, whoever writes it and whenever it is read.

use super::*;

fn entry(text: &str, incarnation: u64) -> Entry {
    let instance = text.parse().unwrap();
    Entry { instance, incarnation: Incarnation(incarnation), pid: 4711, inode: 99 }
}

fn none() -> Numbers {
    Numbers::new()
}

fn last(numbers: &[(&str, u64)]) -> Numbers {
    numbers.iter().map(|(name, number)| (name.parse().unwrap(), Incarnation(*number))).collect()
}

#[test]
fn what_was_kept_is_read_back_and_torn_lines_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let cgroups = Path::new("/sys/fs/cgroup/x y");
    drop(Record::open(&path, Some(cgroups), vec![entry("web", 3), entry("parser/0", 1)], &none()).unwrap());
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"web 4 4712 100\nweb 5 47").unwrap();
    let mut left = Record::read(&path).unwrap();
    left.entries.sort_by_key(|entry| entry.pid);
    assert_eq!(left.cgroups.as_deref(), Some(cgroups));
    assert_eq!(left.entries[0], entry("parser/0", 1));
    assert_eq!(left.entries[1].incarnation, Incarnation(4), "the newest whole line of an instance counts");
}

#[test]
fn a_copy_of_a_record_whose_writer_lives_names_nobody_but_the_writer() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (path, copy) = (here.path().join("spawned"), there.path().join("spawned"));
    drop(Record::open(&path, Some(Path::new("/sys/fs/cgroup/x")), vec![entry("web", 3)], &none()).unwrap());
    std::fs::copy(&path, &copy).unwrap();
    let left = Record::read(&copy).unwrap();
    assert_eq!((left.entries, left.cgroups), (Vec::new(), None));
    assert_eq!(left.copied_from, Some(std::process::id()));
    let left = Record::read(&path).unwrap();
    assert_eq!((left.entries, left.copied_from), (vec![entry("web", 3)], None), "the original");
    // Written by nobody that lives, as by an earlier version.
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    std::fs::write(&copy, lines.join("\n") + "\n").unwrap();
    assert_eq!(Record::read(&copy).unwrap().entries, [entry("web", 3)]);
}

#[test]
fn another_boot_voids_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    std::fs::write(&path, "regrow-spawned/1 another-boot -\nweb 3 4711 99\n").unwrap();
    let left = Record::read(&path).unwrap();
    assert!(left.entries.is_empty());
    assert_eq!(left.numbers, last(&[("web", 3)]), "but not how far it had come");
}

#[test]
fn how_far_everybody_has_come_outlives_their_processes_and_the_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let (web, thumbs): (InstanceId, InstanceId) = ("web".parse().unwrap(), "thumbs".parse().unwrap());
    let record = Record::open(&path, None, Vec::new(), &none()).unwrap();
    start(&record, record.hold(), entry("web", 1));
    record.ended(&web);
    record.count(&web, Incarnation(2));
    record.count(&thumbs, Incarnation(1));
    drop(record);
    let left = Record::read(&path).unwrap();
    assert_eq!((left.entries, &left.numbers), (Vec::new(), &last(&[("web", 2), ("thumbs", 1)])));
    let record = Record::open(&path, None, Vec::new(), &left.numbers).unwrap();
    start(&record, record.hold(), entry("web", 3));
    record.count(&web, Incarnation(4));
    let left = Record::read(&path).unwrap();
    let lives_on = Entry { incarnation: Incarnation(4), ..entry("web", 3) };
    assert_eq!(left.entries, [lives_on], "a start that failed does not hide who lives on");
    record.ended(&web);
    record.forget_unless(Box::new(|instance| instance.to_string() != "thumbs"));
    record.compact().unwrap();
    let left = Record::read(&path).unwrap();
    assert_eq!((left.entries, left.numbers), (Vec::new(), last(&[("web", 4)])), "who is gone is forgotten");
}

#[test]
fn nobody_goes_back_but_who_is_new_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let web: InstanceId = "web".parse().unwrap();
    let record = Record::open(&path, None, Vec::new(), &none()).unwrap();
    let read = || Record::read(&path).unwrap().numbers;
    for (number, expected) in [(3, 3), (5, 5), (3, 5), (6, 6)] {
        record.count(&web, Incarnation(number));
        assert_eq!(read(), last(&[("web", expected)]), "after {number}");
    }
    // A child that was slow to write its line.
    write_line(&record.hold(), &entry("web", 4));
    assert_eq!(read(), last(&[("web", 6)]));
    record.started(record.hold(), entry("web", 4));
    record.compact().unwrap();
    assert_eq!(read(), last(&[("web", 6)]), "nor when it is written anew");
    record.count(&web, Incarnation(1));
    assert_eq!(read(), last(&[("web", 1)]), "who had gone and is there again");
    record.compact().unwrap();
    assert_eq!(read(), last(&[("web", 1)]));
}

#[test]
fn what_was_written_in_part_on_a_full_disk_spoils_no_later_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let record = Record::open(&path, None, Vec::new(), &none()).unwrap();
    let cut = || rustix::io::write(&*record.hold().place, b"\nweb 5 4").unwrap();
    cut();
    start(&record, record.hold(), entry("api", 7));
    cut();
    record.count(&"thumbs".parse().unwrap(), Incarnation(3));
    let left = Record::read(&path).unwrap();
    assert_eq!((left.entries, left.numbers), (vec![entry("api", 7)], last(&[("api", 7), ("thumbs", 3)])));
}

#[test]
fn a_number_that_nobody_can_have_is_not_believed() {
    assert_eq!(parse("web 18446744073709551615 0 0"), None);
    assert_eq!(parse("web 7 0 0").map(|entry| entry.incarnation), Some(Incarnation(7)));
}

/// What a child does, and then its runtime.
fn start(record: &Record, hold: Hold<'_>, entry: Entry) {
    write_line(&hold, &entry);
    record.started(hold, entry);
}

fn write_line(hold: &Hold<'_>, entry: &Entry) {
    let head = Record::line_head(&entry.instance, entry.incarnation);
    let mut file = File::from(rustix::io::fcntl_dupfd_cloexec(&*hold.place, 3).unwrap());
    file.write_all(format!("{head}4711 99\n").as_bytes()).unwrap();
}

#[test]
fn a_start_between_its_line_and_its_end_is_not_lost_when_the_file_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let record = Record::open(&path, None, Vec::new(), &none()).unwrap();
    let slow = record.hold();
    write_line(&slow, &entry("slow", 1));
    record.size.store(2 * COMPACT_AFTER, Ordering::Relaxed);
    start(&record, record.hold(), entry("web", 1));
    assert_eq!(Record::read(&path).unwrap().entries.len(), 2, "it was written anew without one of them");
    record.started(slow, entry("slow", 1));
    assert_eq!(Record::read(&path).unwrap().entries.len(), 2);
    assert!(record.size.load(Ordering::Relaxed) < COMPACT_AFTER, "now it is");
}

#[test]
fn a_start_that_hangs_does_not_keep_a_removed_file_away_from_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let record = Record::open(&path, None, Vec::new(), &none()).unwrap();
    let hangs = record.hold();
    write_line(&hangs, &entry("hangs", 1));
    std::fs::remove_file(&path).unwrap();
    record.renew().unwrap();
    start(&record, record.hold(), entry("web", 1));
    record.started(hangs, entry("hangs", 1));
    let mut known: Vec<_> = Record::read(&path).unwrap().entries;
    known.sort_by(|a, b| a.instance.cmp(&b.instance));
    assert_eq!(known, [entry("hangs", 1), entry("web", 1)]);
}

#[test]
fn a_million_starts_do_not_make_it_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spawned");
    let record = Record::open(&path, None, Vec::new(), &none()).unwrap();
    let fd = record.fd();
    for n in 1..=20_000 {
        start(&record, record.hold(), entry("web", n));
        assert!(std::fs::metadata(&path).unwrap().len() <= COMPACT_AFTER);
    }
    assert_eq!(record.fd(), fd, "children go on finding it under the same number");
    assert_eq!(Record::read(&path).unwrap().entries, [entry("web", 20_000)]);
    record.ended(&"web".parse().unwrap());
    record.compact().unwrap();
    assert!(Record::read(&path).unwrap().entries.is_empty());
}
