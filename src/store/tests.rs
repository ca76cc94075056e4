//! What is kept is there again; what is damaged is told and never served.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;

use super::*;
use crate::event::{Event, EventKind};

fn kept(seq: u64, kind: EventKind, message: &str) -> KeptEvent {
    let at = Timestamp::from_microsecond(1_700_000_000_000_000 + seq as i64).unwrap();
    let mut event = Event::new(kind, message);
    event.worker = Some(crate::id::Name::try_new("web").unwrap());
    KeptEvent { seq, at, event }
}

fn totals(restarts: u64) -> (String, Option<InstanceTotals>) {
    let by_cause = vec![("crash".to_owned(), restarts)];
    let totals =
        InstanceTotals { instance: "web".to_owned(), restarts, by_cause, ..InstanceTotals::default() };
    ("web".to_owned(), Some(totals))
}

fn open(dir: &std::path::Path) -> Store {
    Store::open(&Options::new(dir)).unwrap()
}

async fn fill(store: &Store, numbers: std::ops::RangeInclusive<u64>) {
    let count = *numbers.end();
    let events = numbers.map(|seq| kept(seq, EventKind::WorkerReady, "ready")).collect();
    let counts = EventCounts { last: count, by_kind: vec![("worker.ready".to_owned(), count)] };
    store.put_events(events, vec![totals(count)], &counts).await.unwrap();
}

fn all() -> EventQuery {
    EventQuery { limit: 1000, ..EventQuery::default() }
}

fn close(store: Store) {
    store.close(Duration::from_secs(30));
}

#[tokio::test]
async fn what_was_kept_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.is_open() && store.notes().is_empty(), "{:?}", store.notes());
    assert_eq!(*store.beginning(), Beginning::default());
    fill(&store, 1..=3).await;
    fill(&store, 4..=4).await;
    close(store);
    let again = open(dir.path());
    let beginning = again.beginning();
    assert_eq!((beginning.last_seq, beginning.totals.as_slice()), (4, &[totals(4).1.unwrap()][..]));
    assert_eq!(beginning.counts, [("worker.ready".to_owned(), 4)]);
    let events = again.events(all()).await.unwrap();
    let expected: Vec<_> = (1..=4).map(|seq| kept(seq, EventKind::WorkerReady, "ready")).collect();
    assert_eq!(events, expected);
}

#[tokio::test]
async fn tallies_are_there_again_and_damaged_ones_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.beginning().tallies, Tallies::default());
    let web = InstanceTallies { instance: "web".to_owned(), lines_dropped: 3, probes: Vec::new() };
    let tallies = Tallies { stale: 5, events_dropped: 0, instances: vec![web] };
    store.put_tallies(&Tallies::default()).await.unwrap();
    store.put_tallies(&tallies).await.unwrap();
    close(store);
    let store = open(dir.path());
    assert_eq!(store.beginning().tallies, tallies);
    close(store);
    let raw = Connection::open(dir.path().join("state.db")).unwrap();
    raw.execute("UPDATE figure SET record = x'00' WHERE name = 'tallies'", []).unwrap();
    drop(raw);
    let store = open(dir.path());
    assert_eq!(store.beginning().tallies, Tallies::default());
    assert!(
        store.notes().iter().any(|note| note.contains("were damaged and begin anew")),
        "{:?}",
        store.notes()
    );
}

#[tokio::test]
async fn events_are_found_by_number_time_kind_and_worker() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let events = vec![
        kept(1, EventKind::WorkerStarting, "a"),
        kept(2, EventKind::WorkerReady, "b"),
        kept(3, EventKind::ConfigApplied, "c"),
        kept(4, EventKind::WorkerReady, "d"),
    ];
    let third = events[2].at;
    store.put_events(events, Vec::new(), &EventCounts::default()).await.unwrap();
    let find = async |query: EventQuery| -> Vec<u64> {
        store.events(query).await.unwrap().iter().map(|event| event.seq).collect()
    };
    assert_eq!(find(EventQuery { after: 2, ..all() }).await, [3, 4]);
    assert_eq!(find(EventQuery { since: Some(third), ..all() }).await, [3, 4]);
    assert_eq!(find(EventQuery { since: Some(Timestamp::MAX), ..all() }).await, [0; 0]);
    assert_eq!(find(EventQuery { kinds: vec!["worker.*".to_owned()], ..all() }).await, [1, 2, 4]);
    let kinds = vec!["config.applied".to_owned(), "worker.starting".to_owned()];
    assert_eq!(find(EventQuery { kinds, limit: 1, ..all() }).await, [1]);
    assert_eq!(find(EventQuery { worker: Some("other".to_owned()), ..all() }).await, [0; 0]);
}

#[tokio::test]
async fn c10_a_flipped_bit_in_a_record_is_moved_aside_told_and_never_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=3).await;
    close(store);
    let raw = Connection::open(dir.path().join("state.db")).unwrap();
    let mut record: Vec<u8> =
        raw.query_row("SELECT record FROM event WHERE seq = 2", [], |row| row.get(0)).unwrap();
    *record.last_mut().unwrap() ^= 1;
    raw.execute("UPDATE event SET record = ?1 WHERE seq = 2", [&record]).unwrap();
    drop(raw);
    let store = open(dir.path());
    for _ in 0..2 {
        let found: Vec<u64> = store.events(all()).await.unwrap().iter().map(|event| event.seq).collect();
        assert_eq!(found, [1, 3]);
        let notes = store.notes();
        assert!(notes.len() == 1 && notes[0].contains("1 damaged records were moved aside"), "{notes:?}");
    }
    close(store);
    let raw = Connection::open(dir.path().join("state.db")).unwrap();
    let aside: Vec<u8> = raw.query_row("SELECT record FROM quarantined", [], |row| row.get(0)).unwrap();
    assert_eq!(aside, record, "it is kept as it is");
    drop(raw);
    assert!(open(dir.path()).notes()[0].contains("1 damaged"), "and told again by the next runtime");
}

#[tokio::test]
async fn damaged_totals_begin_anew_and_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=3).await;
    close(store);
    let raw = Connection::open(dir.path().join("state.db")).unwrap();
    raw.execute("UPDATE total SET record = x'00'", []).unwrap();
    raw.execute("UPDATE figure SET record = x'7267'", []).unwrap();
    drop(raw);
    let store = open(dir.path());
    assert_eq!((store.beginning().last_seq, store.beginning().totals.len()), (3, 0));
    assert_eq!(store.notes().len(), 2, "{:?}", store.notes());
}

#[tokio::test]
async fn c10_a_file_that_is_no_database_is_kept_with_its_date_and_a_fresh_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        std::fs::write(dir.path().join("state.db"), vec![b'x'; 8192 + round]).unwrap();
        let store = open(dir.path());
        assert!(store.is_open());
        assert!(store.notes()[0].contains("a fresh one took its place"), "{:?}", store.notes());
        fill(&store, 1..=1).await;
        assert_eq!(store.events(all()).await.unwrap().len(), 1);
        close(store);
    }
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside = names.filter(|name| name.to_string_lossy().starts_with("state.db.corrupt-")).count();
    assert_eq!(aside, 3, "the newest three are kept");
}

#[tokio::test]
async fn c10_a_file_that_was_emptied_is_named_and_a_new_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.notes(), [""; 0]);
    fill(&store, 1..=3).await;
    close(store);
    for name in ["state.db", "samples.db"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let store = open(dir.path());
    let notes = store.notes();
    let told = |name: &str| notes.iter().any(|note| note.starts_with(&format!("{name} was there and empty")));
    assert!(told("state.db") && told("samples.db") && notes.len() == 2, "{notes:?}");
    fill(&store, 1..=1).await;
    close(store);
    assert_eq!(open(dir.path()).notes(), [""; 0], "it is told once");
}

#[tokio::test]
async fn damage_that_a_backup_meets_is_told_by_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=500).await;
    close(store);
    let store = open(dir.path());
    let path = dir.path().join("state.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let made = store.backup(copies.path());
    assert!(matches!(made, Err(StoreError::Damaged(_))), "{made:?}");
    store.look_over().await.unwrap();
    let notes = store.notes();
    assert!(notes.len() == 1 && notes[0].contains("state.db could not be read"), "{notes:?}");
    fill(&store, 501..=501).await;
    assert_eq!(store.backup(copies.path()).unwrap().len(), 2);
}

#[tokio::test]
async fn damage_that_is_met_while_it_runs_costs_the_past_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = open(dir.path());
    fill(&store, 1..=600).await;
    close(store);
    // The pages of the tables, and not the first one, which is in the writer's memory once it is open.
    let mut bytes = std::fs::read(&path).unwrap();
    let store = open(dir.path());
    bytes[4096..].fill(0xaa);
    std::fs::write(&path, bytes).unwrap();
    fill(&store, 601..=601).await;
    assert_eq!(store.generation(), 0, "the writer has what it needs in memory");
    assert_eq!(store.events(all()).await, Ok(Vec::new()), "nothing of a damaged file is served");
    assert_eq!(store.generation(), 1);
    fill(&store, 602..=602).await;
    let found: Vec<u64> = store.events(all()).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(found, [602]);
    assert!(store.notes().iter().any(|note| note.contains("a fresh one")), "{:?}", store.notes());
}

#[tokio::test]
async fn c25_a_file_of_a_newer_regrow_is_left_alone_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    close(open(dir.path()));
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(raw);
    let store = open(dir.path());
    assert!(!store.is_open());
    assert!(store.notes()[0].contains("run the newer regrow"), "{:?}", store.notes());
    let refused = store
        .put_events(vec![kept(1, EventKind::WorkerReady, "x")], Vec::new(), &EventCounts::default())
        .await;
    assert!(matches!(refused, Err(StoreError::Newer { found: 99, .. })), "{refused:?}");
    close(store);
    let raw = Connection::open(&path).unwrap();
    let version: i64 = raw.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn others_cannot_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=1).await;
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let other = store.clone();
    close(store);
    assert_eq!(other.events(all()).await, Err(StoreError::Closed));
    assert_eq!(
        other.put_events(Vec::new(), Vec::new(), &EventCounts::default()).await,
        Err(StoreError::Closed)
    );
}

#[tokio::test]
async fn a_file_of_version_one_is_brought_to_the_newest_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(super::schema::STATE[0]).unwrap();
    old.execute_batch("PRAGMA user_version = 1; PRAGMA journal_mode = WAL").unwrap();
    let record = super::record::encode(
        crate::codec::Kind::Event,
        &super::record::EventV1::of(&kept(41, EventKind::WorkerReady, "old")),
    );
    old.execute("INSERT INTO event VALUES (41, 0, 'worker.ready', 'web', ?1)", [record.unwrap()]).unwrap();
    drop(old);
    let store = open(dir.path());
    assert_eq!((store.beginning().last_seq, store.notes()), (41, Vec::new()));
    store
        .put_events(vec![kept(42, EventKind::WorkerReady, "new")], Vec::new(), &EventCounts::default())
        .await
        .unwrap();
    let found = store.events(all()).await.unwrap();
    assert_eq!(found, [kept(41, EventKind::WorkerReady, "old"), kept(42, EventKind::WorkerReady, "new")]);
    assert_eq!(
        store.archive().incidents(IncidentQuery { limit: 1, ..IncidentQuery::default() }).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn a_backup_is_a_store_of_its_own_while_everything_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=10).await;
    let made = store.backup(copy.path()).unwrap();
    assert_eq!(made, [copy.path().join("state.db"), copy.path().join("samples.db")]);
    fill(&store, 11..=11).await;
    let second = open(copy.path());
    assert_eq!(second.events(all()).await.unwrap().len(), 10);
    assert_eq!(second.beginning().totals.len(), 1);
    close(second);
    store.backup(copy.path()).unwrap();
    assert_eq!(open(copy.path()).beginning().last_seq, 11, "a newer one takes its place");
}

#[tokio::test]
async fn c15_after_a_clock_was_set_back_every_event_is_found_by_its_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let hour = jiff::SignedDuration::from_hours(1);
    let mut events: Vec<KeptEvent> = (1..=4).map(|seq| kept(seq, EventKind::WorkerReady, "x")).collect();
    events[2].at -= hour;
    let (second, third) = (events[1].at, events[2].at);
    store.put_events(events, Vec::new(), &EventCounts::default()).await.unwrap();
    let since = async |at: Timestamp| -> Vec<u64> {
        let found = store.events(EventQuery { since: Some(at), ..all() }).await.unwrap();
        found.iter().map(|event| event.seq).collect()
    };
    assert_eq!(since(second).await, [2, 4]);
    assert_eq!(since(third).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_file_that_is_deleted_meanwhile_is_named_and_another_one_takes_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let path = |name: &str| dir.path().join(name);
    let seen = async |store: &Store| -> Vec<u64> {
        store.events(all()).await.unwrap().iter().map(|event| event.seq).collect()
    };
    fill(&store, 1..=3).await;
    assert_eq!((seen(&store).await, store.generation()), (vec![1, 2, 3], 0));
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        std::fs::remove_file(path(name)).unwrap();
    }
    fill(&store, 4..=5).await;
    assert_eq!(seen(&store).await, [4, 5], "whoever reads has the same file");
    assert!(store.notes().iter().any(|note| note.contains("state.db was deleted")), "{:?}", store.notes());
    assert!(store.is_open() && store.generation() == 1);
    // Only a part of it: the rest would be read with the next one.
    std::fs::remove_file(path("state.db")).unwrap();
    fill(&store, 6..=7).await;
    assert_eq!(seen(&store).await, [6, 7]);
    // Another one, by whoever thinks that nobody runs.
    let other = tempfile::tempdir().unwrap();
    let fresh = open(other.path());
    fill(&fresh, 1..=2).await;
    close(fresh);
    std::fs::rename(other.path().join("state.db"), path("state.db")).unwrap();
    // Numbers of ours might be in it already: nothing is put over what it holds.
    let counts = EventCounts::default();
    let put = store.put_events(vec![kept(2, EventKind::WorkerReady, "x")], vec![], &counts);
    assert_eq!(put.await, Err(StoreError::Another));
    assert_eq!(store.last_seq().await, Ok(2));
    fill(&store, 9..=9).await;
    assert_eq!(store.events(all()).await.unwrap()[1], kept(2, EventKind::WorkerReady, "ready"));
    assert_eq!(seen(&store).await, [1, 2, 9]);
    assert!(store.notes().iter().any(|note| note.contains("was replaced")), "{:?}", store.notes());
    close(store);
    let again = open(dir.path());
    assert_eq!(again.beginning().last_seq, 9);
}

#[tokio::test]
async fn a_file_that_was_moved_away_with_its_directory_goes_on() {
    let above = tempfile::tempdir().unwrap();
    let (here, there) = (above.path().join("here"), above.path().join("there"));
    std::fs::create_dir(&here).unwrap();
    let store = open(&here);
    fill(&store, 1..=1).await;
    std::fs::rename(&here, &there).unwrap();
    fill(&store, 2..=2).await;
    assert_eq!((store.generation(), store.notes().len()), (0, 0), "{:?}", store.notes());
    close(store);
    let again = open(&there);
    assert_eq!(again.beginning().last_seq, 2);
}

/// Every file below and what is in it.
fn contents(dir: &std::path::Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Everything that leads to a file, and looks that begin anew.
async fn goes_on(store: &Store, numbers: std::ops::RangeInclusive<u64>) {
    let copies = tempfile::tempdir().unwrap();
    let last = *numbers.end();
    fill(store, numbers).await;
    store.look_over().await.unwrap();
    fill(store, last + 1..=last + 1).await;
    store.backup(copies.path()).unwrap();
    let found: Vec<u64> = store.events(all()).await.unwrap().iter().map(|event| event.seq).collect();
    assert_eq!(found, (1..=last + 1).collect::<Vec<_>>());
    assert_eq!((store.generation(), store.notes()), (0, Vec::new()));
    assert_eq!(open(copies.path()).beginning().last_seq, last + 1);
}

#[tokio::test]
async fn a_store_in_a_folder_that_was_swapped_leaves_the_one_that_stands_there_now_alone() {
    let above = tempfile::tempdir().unwrap();
    let (here, there) = (above.path().join("project"), above.path().join("old"));
    let (ours, others) = (there.join("state"), here.join("state"));
    std::fs::create_dir_all(&others).unwrap();
    let store = open(&others);
    fill(&store, 1..=1).await;
    std::fs::rename(&here, &there).unwrap();
    std::fs::create_dir_all(&others).unwrap();
    // Numbers that ours has, too; all of it in the WAL.
    let other = open(&others);
    fill(&other, 1..=5).await;
    let before = contents(&others);
    assert!(before.contains_key(&others.join("state.db-wal")));
    goes_on(&store, 2..=3).await;
    close(store);
    assert!(contents(&others) == before, "nothing was written or removed");
    fill(&other, 6..=6).await;
    close(other);
    assert_eq!(open(&others).beginning().last_seq, 6);
    assert_eq!(open(&ours).beginning().last_seq, 4);
}

#[tokio::test]
async fn a_store_makes_nothing_in_a_directory_that_stands_in_place_of_its_own_and_goes_on_when_that_is_back()
{
    let above = tempfile::tempdir().unwrap();
    let (here, there) = (above.path().join("project"), above.path().join("old"));
    let others = here.join("state");
    std::fs::create_dir_all(&others).unwrap();
    let store = open(&others);
    fill(&store, 1..=1).await;
    std::fs::rename(&here, &there).unwrap();
    std::fs::create_dir_all(&others).unwrap();
    goes_on(&store, 2..=3).await;
    assert!(contents(&others).is_empty());
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::rename(&there, &here).unwrap();
    fill(&store, 5..=5).await;
    close(store);
    assert_eq!(open(&others).beginning().last_seq, 5);
}

#[tokio::test]
async fn a_store_whose_directory_was_removed_goes_on_only_in_one_that_is_ours() {
    let above = tempfile::tempdir().unwrap();
    let here = above.path().join("state");
    std::fs::create_dir(&here).unwrap();
    let home = Home::at(&here).unwrap();
    let store = Store::open_in(&home, None).unwrap();
    fill(&store, 1..=2).await;
    std::fs::remove_dir_all(&here).unwrap();
    std::fs::create_dir(&here).unwrap();
    let counts = EventCounts::default();
    let put = store.put_events(vec![kept(3, EventKind::WorkerReady, "x")], vec![], &counts);
    assert!(matches!(put.await, Err(StoreError::Failed(why)) if why.contains("directory was removed")));
    assert!(contents(&here).is_empty());
    home.follow(std::fs::File::open(&here).unwrap()).unwrap();
    fill(&store, 3..=3).await;
    assert_eq!((store.generation(), store.last_seq().await), (1, Ok(3)));
    close(store);
    assert_eq!(open(&here).beginning().last_seq, 3);
}
