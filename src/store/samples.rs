//! The health of the last days: what every instance was like, every ten seconds for a day and every minute before.
//!
//! A sweep over all instances is one row, so that a thousand of them cost one small write, and so are the sweeps of a
//! minute in which nothing changed. Ten minutes become one block per instance, which is what a question reads; after a
//! day, blocks of minutes. Each row is one record with version and checksum; a damaged one is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use crate::codec::Kind;

use super::error::StoreError;
use super::lane::Which;
use super::record;
use super::state::Store;

/// Rows that become blocks together, at most.
const BLOCK: i64 = 60;

/// Rows over so many seconds become blocks, however few they are: sixty sweeps, of which a row may hold several.
const SPAN: i64 = 590;

/// Instances of which blocks are made at a time: what they need of memory is all that it takes.
const SLICE: usize = 1000;

/// Sweeps further apart, in seconds, are not in one row.
const STRETCH: i64 = 60;

/// How long every sample is kept before it becomes a part of its minute.
const RAW: Duration = Duration::from_secs(86_400);

/// Blocks become minutes an hour at a time.
const SLACK: Duration = Duration::from_secs(3600);

/// Points that become minutes in one go, of six thousand blocks: what the writing thread does in some tens of
/// milliseconds.
const AT_ONCE: usize = 360_000;

/// The same in blocks.
const BLOCKS: usize = 6000;

/// How often that is done at most until others have their turn: enough for a hundred thousand instances.
const STEPS: usize = 100;

const MINUTE: i64 = 60;

/// Blocks of samples as they came, and of minutes.
const SAMPLES: i64 = 0;
const MINUTES: i64 = 1;

/// What an instance was like at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which.
    pub instance: Arc<str>,
    /// The contract's word.
    pub status: &'static str,
    /// 0..1; `None`: no data.
    pub score: Option<f64>,
    /// 100 is one core.
    pub cpu_percent: Option<f64>,
    /// Of its whole tree.
    pub memory_bytes: Option<u64>,
}

/// What all instances were like at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// When.
    pub at: Timestamp,
    /// Each of them; the same list as before while nobody changes.
    pub samples: Arc<[Sample]>,
}

/// What an instance was like at one moment, or in one minute.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// When; of a minute, its first sample.
    pub at: Timestamp,
    /// The contract's word; of a minute, the worst.
    pub status: String,
    /// 0..1; of a minute, the mean.
    pub score: Option<f64>,
    /// 100 is one core; of a minute, the mean.
    pub cpu_percent: Option<f64>,
    /// Of a minute, the most.
    pub memory_bytes: Option<u64>,
    /// How many samples are in it.
    pub samples: u32,
}

/// Sweeps on disk that saw the same, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct StretchV1 {
    ats: Vec<i64>,
    words: Vec<String>,
    rows: Vec<SampleV1>,
}

/// A sweep on disk as they were written before there were stretches, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct SweepV1 {
    at: i64,
    words: Vec<String>,
    rows: Vec<SampleV1>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct SampleV1 {
    instance: i64,
    status: u8,
    score: Option<f32>,
    cpu: Option<f32>,
    memory: Option<u64>,
}

/// Points of one instance on disk, version 1.
#[derive(Debug, Serialize, Deserialize)]
struct BlockV1 {
    instance: i64,
    words: Vec<String>,
    points: Vec<PointV1>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct PointV1 {
    at: i64,
    status: u8,
    score: Option<f32>,
    cpu: Option<f32>,
    memory: Option<u64>,
    samples: u32,
}

impl Store {
    /// Keeps what all instances were like. A power cut may cost the last ones.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was kept.
    pub async fn put_sweeps(&self, sweeps: Vec<Sweep>) -> Result<(), StoreError> {
        let keep = move |conn: &Connection| {
            put(conn, &sweeps)?;
            if are_enough(conn)? { compact(conn) } else { Ok(()) }
        };
        self.shared().writer.put(Which::Samples, keep).await
    }

    /// What an instance was like since then, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be read.
    pub async fn history(&self, instance: &str, since: Timestamp) -> Result<Vec<Point>, StoreError> {
        let (instance, since) = (instance.to_owned(), since.as_second());
        self.shared().read(Which::Samples, move |conn| find(conn, &instance, since)).await
    }

    /// Makes minutes of what is older than a day.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed.
    pub async fn roll_up(&self, now: Timestamp) -> Result<(), StoreError> {
        let now = now.as_second();
        for step in 0..STEPS {
            let more =
                self.shared().writer.put(Which::Samples, move |conn| roll_up(conn, now, step > 0)).await?;
            if !more {
                break;
            }
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Finds or adds a word; there are a dozen.
fn word(words: &mut Vec<String>, word: &str) -> u8 {
    let at = words.iter().position(|known| known == word).unwrap_or_else(|| {
        words.push(word.to_owned());
        words.len() - 1
    });
    u8::try_from(at).unwrap_or(u8::MAX)
}

fn said(words: &[String], status: u8) -> &str {
    words.get(usize::from(status)).map_or("unknown", String::as_str)
}

fn put(conn: &Connection, sweeps: &[Sweep]) -> rusqlite::Result<()> {
    let mut known = conn.prepare_cached("SELECT id FROM instance WHERE name = ?1")?;
    let mut add = conn.prepare_cached("INSERT INTO instance (name) VALUES (?1)")?;
    let mut ids: HashMap<&str, i64> = HashMap::new();
    let mut number = |instance| match ids.get(instance) {
        Some(id) => Ok(*id),
        None => {
            let id = match known.query_row([instance], |row| row.get(0)).optional()? {
                Some(id) => id,
                None => add.insert([instance])?,
            };
            ids.insert(instance, id);
            Ok(id)
        }
    };
    for sweeps in sweeps.chunk_by(goes_on) {
        let Some(Sweep { at, samples }) = sweeps.first() else { continue };
        let ats = sweeps.iter().map(|sweep| sweep.at.as_second()).collect();
        let bytes = encode(Kind::Stretch, &packed(ats, samples, &mut number)?)?;
        conn.prepare_cached("INSERT INTO sweep (at, record) VALUES (?1, ?2)")?
            .execute(params![at.as_second(), bytes])?;
    }
    Ok(())
}

/// Whether one sweep saw what the one before it did, in the same minute: the clock may have been put forward.
fn goes_on(before: &Sweep, next: &Sweep) -> bool {
    let minute = |sweep: &Sweep| sweep.at.as_second().div_euclid(STRETCH);
    Arc::ptr_eq(&before.samples, &next.samples) && minute(before) == minute(next)
}

fn packed<'a>(
    ats: Vec<i64>,
    samples: &'a [Sample],
    number: &mut impl FnMut(&'a str) -> rusqlite::Result<i64>,
) -> rusqlite::Result<StretchV1> {
    let mut stretch = StretchV1 { ats, words: Vec::new(), rows: Vec::with_capacity(samples.len()) };
    for sample in samples {
        stretch.rows.push(SampleV1 {
            instance: number(&sample.instance)?,
            status: word(&mut stretch.words, sample.status),
            score: sample.score.map(|score| score as f32),
            cpu: sample.cpu_percent.map(|cpu| cpu as f32),
            memory: sample.memory_bytes,
        });
    }
    Ok(stretch)
}

fn encode<T: Serialize>(kind: Kind, value: &T) -> rusqlite::Result<Vec<u8>> {
    record::encode(kind, value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// Points of one instance, with words.
#[derive(Default)]
struct Gathered {
    words: Vec<String>,
    points: Vec<PointV1>,
}

impl Gathered {
    fn take(&mut self, words: &[String], point: PointV1) {
        let status = word(&mut self.words, said(words, point.status));
        self.points.push(PointV1 { status, ..point });
    }

    fn store(mut self, conn: &Connection, instance: i64, level: i64) -> rusqlite::Result<()> {
        self.points.sort_by_key(|point| point.at);
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return Ok(()) };
        let (first, last) = (first.at, last.at);
        let bytes = encode(Kind::Block, &BlockV1 { instance, words: self.words, points: self.points })?;
        conn.prepare_cached(
            "INSERT OR REPLACE INTO block (instance, level, at, until, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![instance, level, first, last, bytes])
        .map(|_| ())
    }

    /// The same by minutes.
    fn minutes(&self) -> Self {
        let mut by_minute: BTreeMap<i64, Vec<&PointV1>> = BTreeMap::new();
        for point in &self.points {
            by_minute.entry(point.at.div_euclid(MINUTE)).or_default().push(point);
        }
        let points = by_minute.into_values().filter_map(|points| self.minute(&points)).collect();
        Self { words: self.words.clone(), points }
    }

    fn minute(&self, points: &[&PointV1]) -> Option<PointV1> {
        let worst = points.iter().max_by_key(|point| gravity(said(&self.words, point.status)))?;
        let mean = |figure: fn(&PointV1) -> Option<f32>| {
            let known: Vec<f32> = points.iter().filter_map(|point| figure(point)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32)
        };
        Some(PointV1 {
            at: points.iter().map(|point| point.at).min()?,
            status: worst.status,
            score: mean(|point| point.score),
            cpu: mean(|point| point.cpu),
            memory: points.iter().filter_map(|point| point.memory).max(),
            samples: points.iter().map(|point| point.samples).sum(),
        })
    }
}

/// Which word of several stands for a minute: the worst.
fn gravity(status: &str) -> usize {
    const FROM_BEST: [&str; 14] = [
        "unknown",
        "healthy",
        "working",
        "done",
        "stopped",
        "paused",
        "starting",
        "degraded",
        "slow",
        "unhealthy",
        "unresponsive",
        "recovering",
        "dead",
        "quarantined",
    ];
    FROM_BEST.iter().position(|word| *word == status).unwrap_or(FROM_BEST.len())
}

/// The rows in which there may be something from then on.
fn stretches(conn: &Connection, since: i64) -> rusqlite::Result<Vec<StretchV1>> {
    let mut statement = conn.prepare_cached("SELECT record FROM sweep WHERE at >= ?1 ORDER BY id")?;
    let records = statement.query_map([since.saturating_sub(STRETCH)], |row| row.get::<_, Vec<u8>>(0))?;
    let mut found = Vec::new();
    for bytes in records {
        // A damaged row is a minute without data at most.
        found.extend(stretch(&bytes?));
    }
    Ok(found)
}

fn stretch(bytes: &[u8]) -> Option<StretchV1> {
    if let Ok(stretch) = record::decode::<StretchV1>(Kind::Stretch, bytes) {
        return Some(stretch);
    }
    let SweepV1 { at, words, rows } = record::decode(Kind::Sweep, bytes).ok()?;
    Some(StretchV1 { ats: vec![at], words, rows })
}

fn point(at: i64, sample: SampleV1) -> PointV1 {
    let SampleV1 { status, score, cpu, memory, .. } = sample;
    PointV1 { at, status, score, cpu, memory, samples: 1 }
}

/// Whether blocks are to be made of the sweeps.
fn are_enough(conn: &Connection) -> rusqlite::Result<bool> {
    let mut all = conn.prepare_cached("SELECT count(*), ifnull(max(at) - min(at), 0) FROM sweep")?;
    let (rows, span): (i64, i64) = all.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows >= BLOCK || span >= SPAN)
}

/// Makes blocks of all sweeps.
fn compact(conn: &Connection) -> rusqlite::Result<()> {
    let stretches = stretches(conn, i64::MIN)?;
    let instances: BTreeSet<i64> =
        stretches.iter().flat_map(|stretch| &stretch.rows).map(|row| row.instance).collect();
    let instances: Vec<i64> = instances.into_iter().collect();
    for slice in instances.chunks(SLICE) {
        let mut gathered: Vec<Gathered> = slice.iter().map(|_| Gathered::default()).collect();
        for StretchV1 { ats, words, rows } in &stretches {
            for row in rows {
                let Ok(at) = slice.binary_search(&row.instance) else { continue };
                let Some(own) = gathered.get_mut(at) else { continue };
                ats.iter().for_each(|at| own.take(words, point(*at, *row)));
            }
        }
        for (instance, own) in slice.iter().zip(gathered) {
            own.store(conn, *instance, SAMPLES)?;
        }
    }
    conn.execute("DELETE FROM sweep", []).map(|_| ())
}

/// Makes minutes of some blocks; whether there may be more. `begun`: those before them were taken just now.
fn roll_up(conn: &Connection, now: i64, begun: bool) -> rusqlite::Result<bool> {
    let old = now.saturating_sub(seconds(RAW));
    let due: bool = conn.query_row(
        "SELECT EXISTS (SELECT 1 FROM block WHERE level = 0 AND until < ?1)",
        [old.saturating_sub(seconds(SLACK))],
        |row| row.get(0),
    )?;
    if !due && !begun {
        return Ok(false);
    }
    let mut statement = conn.prepare_cached(
        "SELECT instance, at, record FROM block WHERE level = 0 AND until < ?1 ORDER BY instance, at LIMIT ?2",
    )?;
    let mut by_instance: BTreeMap<i64, Gathered> = BTreeMap::new();
    let (mut taken, mut points) = (Vec::new(), 0);
    // They are sorted in memory.
    let mut rows = statement.query([old, BLOCKS as i64])?;
    while points < AT_ONCE
        && let Some(row) = rows.next()?
    {
        let instance: i64 = row.get(0)?;
        taken.push((instance, row.get::<_, i64>(1)?));
        if let Ok(block) = record::decode::<BlockV1>(Kind::Block, row.get_ref(2)?.as_blob()?) {
            points += block.points.len();
            let gathered = by_instance.entry(instance).or_default();
            block.points.into_iter().for_each(|point| gathered.take(&block.words, point));
        }
    }
    drop(rows);
    let more = points >= AT_ONCE || taken.len() >= BLOCKS;
    let mut delete =
        conn.prepare_cached("DELETE FROM block WHERE instance = ?1 AND level = 0 AND at = ?2")?;
    for (instance, at) in taken {
        delete.execute([instance, at])?;
    }
    for (instance, gathered) in by_instance {
        gathered.minutes().store(conn, instance, MINUTES)?;
    }
    Ok(more)
}

fn find(conn: &Connection, instance: &str, since: i64) -> rusqlite::Result<Vec<Point>> {
    let id: Option<i64> = conn
        .prepare_cached("SELECT id FROM instance WHERE name = ?1")?
        .query_row([instance], |row| row.get(0))
        .optional()?;
    let Some(id) = id else { return Ok(Vec::new()) };
    let mut all = Gathered::default();
    let mut statement =
        conn.prepare_cached("SELECT record FROM block WHERE instance = ?1 AND until >= ?2 ORDER BY at")?;
    let mut rows = statement.query(params![id, since])?;
    while let Some(row) = rows.next()? {
        // A damaged block is a gap.
        if let Ok(block) = record::decode::<BlockV1>(Kind::Block, row.get_ref(0)?.as_blob()?)
            && block.instance == id
        {
            block.points.into_iter().for_each(|point| all.take(&block.words, point));
        }
    }
    for StretchV1 { ats, words, rows } in stretches(conn, since)? {
        for row in rows.iter().filter(|row| row.instance == id) {
            ats.iter().for_each(|at| all.take(&words, point(*at, *row)));
        }
    }
    all.points.retain(|point| point.at >= since);
    all.points.sort_by_key(|point| point.at);
    let words = all.words;
    Ok(all.points.into_iter().filter_map(|point| shown(&words, point)).collect())
}

fn shown(words: &[String], point: PointV1) -> Option<Point> {
    let tenth = |figure: f32| (f64::from(figure) * 10.0).round() / 10.0;
    let thousandth = |figure: f32| (f64::from(figure) * 1000.0).round() / 1000.0;
    Some(Point {
        at: Timestamp::from_second(point.at).ok()?,
        status: said(words, point.status).to_owned(),
        score: point.score.map(thousandth),
        cpu_percent: point.cpu.map(tenth),
        memory_bytes: point.memory,
        samples: point.samples,
    })
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
