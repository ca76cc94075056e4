//! What a power cut and a full disk cost: nothing that was confirmed, and nothing that is not true is ever served.

use std::time::Duration;

use jiff::Timestamp;
use regrow::event::{Event, EventKind};
use regrow::store::{
    EventCounts, EventQuery, InstanceTotals, KeptEvent, KeptIncident, Options, Store, StoreError,
};

use crate::shim::Shim;
use crate::sim::dice::Dice;
use crate::sim::seed::{from_environment, seed};

/// Cuts of one run; a thousand with REGROW_POWER_CUTS=1000.
const CUTS: u64 = 120;

/// The one event that has this number.
fn event(seq: u64) -> KeptEvent {
    let mut event =
        Event::new(EventKind::WorkerReady, format!("event {seq} {}", "x".repeat((seq * 37 % 900) as usize)));
    event.data.insert("seq", seq.into());
    KeptEvent { seq, at: Timestamp::from_second(1_700_000_000 + seq as i64).unwrap(), event }
}

fn totals(seq: u64) -> Vec<(String, Option<InstanceTotals>)> {
    let totals = InstanceTotals { instance: "web".to_owned(), restarts: seq, ..InstanceTotals::default() };
    vec![("web".to_owned(), Some(totals))]
}

fn incident(seq: u64) -> KeptIncident {
    KeptIncident {
        id: format!("{seq:08}"),
        worker: "web".to_owned(),
        instance: "web".to_owned(),
        cause: "crash".to_owned(),
        opened_at: Timestamp::from_second(1_700_000_000 + seq as i64).unwrap(),
        closed_at: None,
        outcome: None,
        evidence: Vec::new(),
        body: "{}".to_owned(),
    }
}

fn options(dir: &std::path::Path, vfs: Option<&str>) -> Options {
    Options { vfs: vfs.map(str::to_owned), ..Options::new(dir) }
}

async fn put(store: &Store, from: u64, to: u64) -> Result<(), StoreError> {
    let counts = EventCounts { last: to, by_kind: vec![("worker.ready".to_owned(), to)] };
    store.put_events((from..=to).map(event).collect(), totals(to), &counts).await
}

async fn all(store: &Store) -> Vec<KeptEvent> {
    store.events(EventQuery { limit: 100_000, ..EventQuery::default() }).await.unwrap()
}

/// Some runtimes one after the other, each of which keeps some events and ends, or is killed.
async fn live(dice: &mut Dice, shim: &'static Shim, vfs: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..6 {
        let store = Store::open(&options(dir.path(), Some(vfs))).unwrap();
        assert_eq!((store.beginning().last_seq, store.notes()), (last, Vec::new()));
        for _ in 0..dice.between(3, 12) {
            let to = last + dice.between(1, 12);
            put(&store, last + 1, to).await.unwrap();
            store.archive().put_incident(incident(to)).await.unwrap();
            last = to;
            shim.note(last);
        }
        store.close(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn c13_a_power_cut_at_any_point_loses_nothing_confirmed_and_serves_nothing_untrue() {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let shim = Shim::register("regrow-power");
    live(&mut dice, shim, "regrow-power").await;
    let recording = shim.recording();
    let syncs = recording.syncs();
    assert!(syncs.len() > 60, "every commit is synced: {}", syncs.len());
    let cuts = from_environment("REGROW_POWER_CUTS").unwrap_or(CUTS);
    let mut survived = Vec::new();
    for cut in 0..cuts {
        // Right before a sync, right after it, or anywhere.
        let before = match cut % 3 {
            0 => dice.pick(&syncs),
            1 => dice.pick(&syncs) + 1,
            _ => dice.below(recording.len()),
        };
        let told = format!("seed {seed}, cut {cut}, before step {before} of {}", recording.len());
        let confirmed = recording.confirmed(before);
        let disk = tempfile::tempdir().unwrap();
        recording.cut(before, &mut dice, disk.path());
        // Twice: what was mended once stays mended.
        for _ in 0..2 {
            let store = Store::open(&options(disk.path(), None)).unwrap();
            // A file that was never confirmed may be there and empty; that is told, and nothing else is.
            let mut notes = store.notes();
            notes.retain(|note| {
                !note.contains("was there and empty") || confirmed > 0 && note.starts_with("state.db")
            });
            assert!(store.is_open() && notes.is_empty(), "{told}: {notes:?}");
            let found = all(&store).await;
            assert!(found.len() as u64 >= confirmed, "{told}: {} of {confirmed} events", found.len());
            let expected: Vec<KeptEvent> = (1..=found.len() as u64).map(event).collect();
            assert_eq!(found, expected, "{told}");
            let beginning = store.beginning();
            assert_eq!(beginning.last_seq, found.len() as u64, "{told}");
            let totals = beginning.totals.first().map_or(0, |totals| totals.restarts);
            assert_eq!(totals, beginning.last_seq, "{told}: totals and events are one commit");
            if confirmed > 0 {
                let query = regrow::store::IncidentQuery { limit: 1, ..Default::default() };
                let newest = store.archive().incidents(query).await.unwrap();
                assert!(newest[0].id >= incident(confirmed).id, "{told}: {newest:?}");
            }
            store.close(Duration::from_secs(60));
        }
        survived.push(confirmed);
    }
    assert!(survived.iter().any(|confirmed| *confirmed > 20), "the cuts fell late, too: {survived:?}");
}

#[tokio::test]
async fn c7_a_full_disk_refuses_and_once_there_is_room_goes_on_by_itself() {
    let shim = Shim::register("regrow-full");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), Some("regrow-full"))).unwrap();
    put(&store, 1, 3).await.unwrap();
    for (round, room) in [0, 100, 5000].into_iter().enumerate() {
        let from = 4 + round as u64 * 10;
        shim.set_room(Some(room));
        let refused = put(&store, from, from + 9).await;
        assert!(matches!(refused, Err(StoreError::Full)), "{room} bytes of room: {refused:?}");
        let notes = store.notes();
        assert!(notes.len() == 1 && notes[0].contains("the disk is full"), "{notes:?}");
        assert_eq!(all(&store).await.len() as u64, from - 1, "what is there can be read");
        shim.set_room(None);
        put(&store, from, from + 9).await.unwrap();
        assert_eq!(store.notes(), [""; 0], "nothing is wrong any more");
    }
    store.close(Duration::from_secs(60));
    let again = Store::open(&options(dir.path(), None)).unwrap();
    assert_eq!(all(&again).await, (1..=33).map(event).collect::<Vec<_>>());
}

#[tokio::test]
async fn c7_a_store_that_cannot_be_opened_for_want_of_room_still_knows_where_it_was() {
    let shim = Shim::register("regrow-full-at-start");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), None)).unwrap();
    put(&store, 1, 7).await.unwrap();
    store.close(Duration::from_secs(60));
    shim.set_room(Some(0));
    let store = Store::open(&options(dir.path(), Some("regrow-full-at-start"))).unwrap();
    assert_eq!((store.beginning().last_seq, store.beginning().totals.len()), (7, 1));
    assert!(put(&store, 8, 8).await.is_err());
    shim.set_room(None);
    put(&store, 8, 8).await.unwrap();
    assert!(store.is_open());
    assert_eq!(all(&store).await, (1..=8).map(event).collect::<Vec<_>>());
}

#[tokio::test]
async fn c11_a_torn_tail_costs_what_was_not_confirmed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&options(dir.path(), None)).unwrap();
    put(&store, 1, 5).await.unwrap();
    let wal = dir.path().join("state.db-wal");
    let confirmed = std::fs::metadata(&wal).unwrap().len();
    put(&store, 6, 6).await.unwrap();
    let longer = std::fs::metadata(&wal).unwrap().len();
    // As a killed machine leaves it: the files as they are, with the last commit cut off somewhere.
    for cut in [confirmed, confirmed + 7, (confirmed + longer) / 2, longer - 7] {
        let disk = tempfile::tempdir().unwrap();
        std::fs::copy(dir.path().join("state.db"), disk.path().join("state.db")).unwrap();
        let bytes = std::fs::read(&wal).unwrap();
        std::fs::write(disk.path().join("state.db-wal"), &bytes[..usize::try_from(cut).unwrap()]).unwrap();
        let torn = Store::open(&options(disk.path(), None)).unwrap();
        assert_eq!(torn.notes(), [""; 0]);
        assert_eq!(all(&torn).await, (1..=5).map(event).collect::<Vec<_>>(), "cut at {cut} of {longer}");
    }
}
