//! A day in tens of seconds, a week in minutes.

use super::super::{Options, Store};
use super::*;

const START: i64 = 1_700_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn sample(instance: &str, status: &'static str, score: f64, memory: u64) -> Sample {
    let instance = instance.into();
    Sample { instance, status, score: Some(score), cpu_percent: Some(12.5), memory_bytes: Some(memory) }
}

async fn sweep(store: &Store, second: i64) {
    let web = if second % 60 == 30 { "degraded" } else { "healthy" };
    let samples = vec![
        sample("web", web, if web == "healthy" { 1.0 } else { 0.7 }, 1000 + second as u64),
        sample("job/0", "stopped", 0.0, 1),
    ];
    store.put_sweeps(vec![Sweep { at: at(second), samples: samples.into() }]).await.unwrap();
}

#[tokio::test]
async fn a_sweep_that_is_what_the_one_before_was_is_kept_with_its_own_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    let all = |status| -> Arc<[Sample]> { vec![sample("web", status, 1.0, 7)].into() };
    let (same, other) = (all("healthy"), all("paused"));
    let sweeps = [(0, &same), (10, &same), (20, &other), (30, &same)];
    let sweeps = sweeps.map(|(second, all)| Sweep { at: at(second), samples: Arc::clone(all) });
    store.put_sweeps(sweeps.to_vec()).await.unwrap();
    let points = store.history("web", at(0)).await.unwrap();
    let shown: Vec<(Timestamp, &str)> =
        points.iter().map(|point| (point.at, point.status.as_str())).collect();
    assert_eq!(shown, [(at(0), "healthy"), (at(10), "healthy"), (at(20), "paused"), (at(30), "healthy")]);
    assert_eq!(store.history("web", at(10)).await.unwrap(), points[1..], "also from within a row");
    store.close(Duration::from_secs(30));
    let raw = Connection::open(dir.path().join("samples.db")).unwrap();
    let rows: i64 = raw.query_row("SELECT count(*) FROM sweep", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3, "two of the four are one row");
}

#[tokio::test]
async fn sweeps_that_were_written_one_by_one_are_read_and_become_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    sweep(&store, 0).await;
    store.close(Duration::from_secs(30));
    let raw = Connection::open(dir.path().join("samples.db")).unwrap();
    let row = SampleV1 { instance: 1, status: 0, score: Some(1.0), cpu: None, memory: Some(7) };
    let old = SweepV1 { at: START + 10, words: vec!["paused".to_owned()], rows: vec![row] };
    raw.execute(
        "INSERT INTO sweep (at, record) VALUES (?1, ?2)",
        params![old.at, encode(Kind::Sweep, &old).unwrap()],
    )
    .unwrap();
    drop(raw);
    let store = Store::open(&Options::new(dir.path())).unwrap();
    let points = store.history("web", at(0)).await.unwrap();
    assert_eq!(points.iter().map(|point| point.status.as_str()).collect::<Vec<_>>(), ["healthy", "paused"]);
    for round in 2..60 {
        sweep(&store, round * 10).await;
    }
    assert_eq!(store.history("web", at(10)).await.unwrap()[..1], points[1..]);
}

#[tokio::test]
async fn sweeps_become_blocks_after_ten_minutes_also_where_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    // More of them than blocks are made of at a time.
    let names: Vec<String> = (0..SLICE + 2).map(|number| format!("w{number}")).collect();
    let all: Arc<[Sample]> = names.iter().map(|name| sample(name, "healthy", 1.0, 7)).collect();
    for minute in 0..25 {
        let seconds = (0..6).map(|sweep| minute * 60 + sweep * 10);
        let sweeps = seconds.map(|second| Sweep { at: at(second), samples: Arc::clone(&all) });
        store.put_sweeps(sweeps.collect()).await.unwrap();
    }
    for name in [&names[0], &names[SLICE - 1], &names[SLICE], &names[SLICE + 1]] {
        let points = store.history(name, at(0)).await.unwrap();
        let times: Vec<Timestamp> = points.iter().map(|point| point.at).collect();
        assert_eq!(times, (0..150).map(|sweep| at(sweep * 10)).collect::<Vec<_>>(), "{name}");
    }
    store.close(Duration::from_secs(30));
    let raw = Connection::open(dir.path().join("samples.db")).unwrap();
    let count = |what: &str| -> i64 { raw.query_row(what, [], |row| row.get(0)).unwrap() };
    assert_eq!(count("SELECT count(*) FROM block"), 2 * names.len() as i64, "two for each");
    assert_eq!(
        count("SELECT count(*) FROM block WHERE until - at > 700"),
        0,
        "and none of more than it takes"
    );
    assert!(count("SELECT count(*) FROM sweep") < 12);
}

#[tokio::test]
async fn every_sample_of_the_last_day_is_there_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    // Twice as many as become blocks, and some more.
    for round in 0..130 {
        sweep(&store, round * 10).await;
    }
    let points = store.history("web", at(0)).await.unwrap();
    let times: Vec<Timestamp> = points.iter().map(|point| point.at).collect();
    assert_eq!(times, (0..130).map(|round| at(round * 10)).collect::<Vec<_>>());
    assert_eq!(
        points[3],
        Point {
            at: at(30),
            status: "degraded".to_owned(),
            score: Some(0.7),
            cpu_percent: Some(12.5),
            memory_bytes: Some(1030),
            samples: 1,
        }
    );
    assert_eq!(store.history("web", at(1200)).await.unwrap().len(), 10);
    assert_eq!(store.history("job/0", at(0)).await.unwrap()[129].status, "stopped");
    assert_eq!(store.history("nobody", at(0)).await, Ok(Vec::new()));
    store.close(Duration::from_secs(30));
    let again = Store::open(&Options::new(dir.path())).unwrap();
    assert_eq!(again.history("web", at(0)).await.unwrap(), points);
}

#[tokio::test]
async fn after_a_day_a_minute_is_one_point_with_the_worst_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    for round in 0..60 {
        sweep(&store, round * 10).await;
    }
    let day = 86_400;
    store.roll_up(at(day + 600)).await.unwrap();
    assert_eq!(store.history("web", at(0)).await.unwrap().len(), 60, "an hour later is early enough");
    store.roll_up(at(day + 600 + 3600)).await.unwrap();
    let points = store.history("web", at(0)).await.unwrap();
    let samples: u32 = points.iter().map(|point| point.samples).sum();
    assert!(points.len() <= 11 && samples == 60, "{points:?}");
    let whole = points.iter().find(|point| point.samples == 6).unwrap();
    assert_eq!((whole.status.as_str(), whole.score), ("degraded", Some(0.95)));
    let last = points.iter().filter_map(|point| point.memory_bytes).max();
    assert_eq!(last, Some(1590), "of memory the most");
}

#[tokio::test]
async fn a_damaged_block_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    for round in 0..61 {
        sweep(&store, round * 10).await;
    }
    store.close(Duration::from_secs(30));
    let raw = Connection::open(dir.path().join("samples.db")).unwrap();
    raw.execute("UPDATE block SET record = zeroblob(100)", []).unwrap();
    drop(raw);
    let store = Store::open(&Options::new(dir.path())).unwrap();
    let points = store.history("web", at(0)).await.unwrap();
    assert_eq!(points.iter().map(|point| point.at).collect::<Vec<_>>(), [at(600)]);
}

/// The promise: seven days of one of a thousand workers in under 50 ms. Run with the release profile by
/// `tests/run --full`.
#[tokio::test]
#[ignore = "a figure, and a week of a thousand workers takes minutes to write: tests/run --full does that"]
async fn history_of_a_week_of_one_of_a_thousand() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(dir.path())).unwrap();
    let names: Vec<String> = (0..1000).map(|number| format!("w{number}")).collect();
    let (week, step) = (7 * 86_400, 10);
    for second in (0..week).step_by(step) {
        let samples: Vec<Sample> = names.iter().map(|name| sample(name, "healthy", 1.0, 50 << 20)).collect();
        store.put_sweeps(vec![Sweep { at: at(second), samples: samples.into() }]).await.unwrap();
        if second % 3600 == 0 {
            for _ in 0..3 {
                store.roll_up(at(second)).await.unwrap();
            }
        }
    }
    let mut took = Vec::new();
    for name in names.iter().step_by(50) {
        let began = std::time::Instant::now();
        let points = store.history(name, at(0)).await.unwrap();
        took.push(began.elapsed());
        assert!(points.len() > 16_000, "{}", points.len());
    }
    took.sort();
    println!(
        "history of 7 days, 1 of 1,000 workers: median {:?}, worst {:?}",
        took[took.len() / 2],
        took.last()
    );
    assert!(took[took.len() / 2] < Duration::from_millis(50), "{took:?}");
}
