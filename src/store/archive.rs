//! Incidents and what was learned of them.
//!
//! This room keeps them and finds them again; what they mean is the business of whoever writes them. So a record is a
//! few fields that are asked for, and a text (JSON) that only its writer reads.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use serde::{Deserialize, Serialize};

use crate::codec::Kind;

use super::error::StoreError;
use super::lane::Which;
use super::record::{self, Unusable};
use super::state::{Shared, Store};

/// Outcomes that are kept; the oldest go first. What is older than so many cases has faded from every estimate.
const MOST_OUTCOMES: i64 = 100_000;

/// An incident.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptIncident {
    /// Its id.
    pub id: String,
    /// The worker.
    pub worker: String,
    /// The instance.
    pub instance: String,
    /// The contract's word, or a class of the user's.
    pub cause: String,
    /// When the first bad fact came.
    pub opened_at: Timestamp,
    /// When it was over; `None`: it is open.
    pub closed_at: Option<Timestamp>,
    /// What came of it; `None`: it is open.
    pub outcome: Option<String>,
    /// Where what was found before a kill is kept.
    pub evidence: Vec<EvidenceRef>,
    /// Everything else, as JSON.
    pub body: String,
}

/// A file with evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRef {
    /// What it is, such as `output` or `stacks`.
    pub kind: String,
    /// The file, below the state directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// What came of one step of recovery.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptOutcome {
    /// The class of the failure.
    pub class: String,
    /// What was tried.
    pub strategy: String,
    /// When it was known.
    pub at: Timestamp,
    /// `ok failed skipped interrupted`
    pub outcome: String,
    /// How long it took.
    pub seconds: f64,
    /// The worker.
    pub worker: String,
    /// Everything else, as JSON.
    pub body: String,
}

/// Which incidents are asked for.
#[derive(Debug, Clone, Default)]
pub struct IncidentQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only of this worker.
    pub worker: Option<String>,
    /// Only those that are still open.
    pub open: bool,
    /// Only those opened at this time or later.
    pub since: Option<Timestamp>,
    /// Only those opened before this time: the next page.
    pub before: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// An incident on disk, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct IncidentV1 {
    id: String,
    worker: String,
    instance: String,
    cause: String,
    opened_micros: i64,
    closed_micros: Option<i64>,
    outcome: Option<String>,
    evidence: Vec<EvidenceRef>,
    body: String,
}

/// An outcome on disk, version 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OutcomeV1 {
    class: String,
    strategy: String,
    at_micros: i64,
    outcome: String,
    seconds: f64,
    worker: String,
    body: String,
}

/// The part of the store that recovery writes and reads; cheap to clone.
#[derive(Clone)]
pub struct Archive {
    shared: Arc<Shared>,
}

impl Store {
    /// The incidents and what was learned.
    #[must_use]
    pub fn archive(&self) -> Archive {
        Archive { shared: Arc::clone(self.shared()) }
    }
}

impl Archive {
    /// Keeps an incident as it is now, in place of what was kept of it before.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed.
    pub async fn put_incident(&self, incident: KeptIncident) -> Result<(), StoreError> {
        let bytes = encode_incident(&incident)?;
        let keep = move |conn: &Connection| {
            conn.prepare_cached(
                "INSERT OR REPLACE INTO incident (id, worker, opened_at, closed_at, record)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                incident.id,
                incident.worker,
                incident.opened_at.as_microsecond(),
                incident.closed_at.map(Timestamp::as_microsecond),
                bytes
            ])
            .map(|_| ())
        };
        self.shared.writer.put(Which::State, keep).await
    }

    /// Incidents, the newest first. Damaged ones are left out and moved aside.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be read.
    pub async fn incidents(&self, query: IncidentQuery) -> Result<Vec<KeptIncident>, StoreError> {
        let find = move |conn: &Connection| {
            let (text, values) = statement(&query);
            rows(conn, &text, values, incident)
        };
        let (found, damaged) = self.shared.read(Which::State, find).await?;
        self.shared.quarantine("incident", damaged).await;
        Ok(found)
    }

    /// Keeps what came of a step.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was changed.
    pub async fn put_outcome(&self, outcome: KeptOutcome) -> Result<(), StoreError> {
        let bytes = encode_outcome(&outcome)?;
        let keep = move |conn: &Connection| {
            conn.prepare_cached("INSERT INTO outcome (at, class, strategy, record) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![outcome.at.as_microsecond(), outcome.class, outcome.strategy, bytes])?;
            conn.prepare_cached("DELETE FROM outcome WHERE id <= (SELECT max(id) FROM outcome) - ?1")?
                .execute([MOST_OUTCOMES])
                .map(|_| ())
        };
        self.shared.writer.put(Which::State, keep).await
    }

    /// The newest outcomes, the oldest of them first. Damaged ones are left out and moved aside.
    ///
    /// # Errors
    /// [`StoreError`]: the file cannot be read.
    pub async fn outcomes(&self, limit: usize) -> Result<Vec<KeptOutcome>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let find = move |conn: &Connection| {
            let text = "SELECT id, record FROM outcome ORDER BY id DESC LIMIT ?";
            rows(conn, text, vec![Value::from(limit)], outcome)
        };
        let (mut found, damaged) = self.shared.read(Which::State, find).await?;
        self.shared.quarantine("outcome", damaged).await;
        found.reverse();
        Ok(found)
    }
}

fn statement(query: &IncidentQuery) -> (String, Vec<Value>) {
    let mut text = "SELECT id, record FROM incident WHERE 1".to_owned();
    let mut values = Vec::new();
    let mut term = |sql: &str, value: Option<Value>| {
        if let Some(value) = value {
            text.push_str(sql);
            values.push(value);
        }
    };
    term(" AND id = ?", query.id.clone().map(Value::from));
    term(" AND worker = ?", query.worker.clone().map(Value::from));
    term(" AND opened_at >= ?", query.since.map(|since| since.as_microsecond().into()));
    term(" AND opened_at < ?", query.before.map(|before| before.as_microsecond().into()));
    if query.open {
        text.push_str(" AND closed_at IS NULL");
    }
    text.push_str(" ORDER BY opened_at DESC, id DESC LIMIT ?");
    values.push(Value::from(i64::try_from(query.limit).unwrap_or(i64::MAX)));
    (text, values)
}

/// What was found, and the keys of damaged records with what is wrong with them.
type Found<T> = (Vec<T>, Vec<(Value, String)>);

fn rows<T>(
    conn: &Connection,
    text: &str,
    values: Vec<Value>,
    decode: fn(&[u8]) -> Result<T, Unusable>,
) -> rusqlite::Result<Found<T>> {
    let mut statement = conn.prepare_cached(text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let (mut found, mut damaged) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match decode(row.get_ref(1)?.as_blob()?) {
            Ok(value) => found.push(value),
            Err(Unusable::Damaged(why)) => damaged.push((row.get(0)?, why)),
            Err(Unusable::Unknown(_)) => {}
        }
    }
    Ok((found, damaged))
}

fn encode_incident(incident: &KeptIncident) -> Result<Vec<u8>, StoreError> {
    let KeptIncident { id, worker, instance, cause, opened_at, closed_at, outcome, evidence, body } =
        incident.clone();
    let value = IncidentV1 {
        id,
        worker,
        instance,
        cause,
        opened_micros: opened_at.as_microsecond(),
        closed_micros: closed_at.map(Timestamp::as_microsecond),
        outcome,
        evidence,
        body,
    };
    record::encode(Kind::Incident, &value)
}

fn incident(bytes: &[u8]) -> Result<KeptIncident, Unusable> {
    let IncidentV1 { id, worker, instance, cause, opened_micros, closed_micros, outcome, evidence, body } =
        record::decode(Kind::Incident, bytes)?;
    Ok(KeptIncident {
        id,
        worker,
        instance,
        cause,
        opened_at: record::time(opened_micros)?,
        closed_at: closed_micros.map(record::time).transpose()?,
        outcome,
        evidence,
        body,
    })
}

fn encode_outcome(outcome: &KeptOutcome) -> Result<Vec<u8>, StoreError> {
    let KeptOutcome { class, strategy, at, outcome, seconds, worker, body } = outcome.clone();
    let at_micros = at.as_microsecond();
    record::encode(Kind::Outcome, &OutcomeV1 { class, strategy, at_micros, outcome, seconds, worker, body })
}

fn outcome(bytes: &[u8]) -> Result<KeptOutcome, Unusable> {
    let OutcomeV1 { class, strategy, at_micros, outcome, seconds, worker, body } =
        record::decode(Kind::Outcome, bytes)?;
    Ok(KeptOutcome { class, strategy, at: record::time(at_micros)?, outcome, seconds, worker, body })
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn incident_of(id: &str, worker: &str, opened: i64) -> KeptIncident {
        KeptIncident {
            id: id.to_owned(),
            worker: worker.to_owned(),
            instance: format!("{worker}/0"),
            cause: "crash".to_owned(),
            opened_at: at(opened),
            closed_at: None,
            outcome: None,
            evidence: vec![EvidenceRef {
                kind: "output".to_owned(),
                path: "evidence/1".to_owned(),
                bytes: 9,
            }],
            body: r#"{"attempts":[]}"#.to_owned(),
        }
    }

    fn outcome_of(strategy: &str) -> KeptOutcome {
        KeptOutcome {
            class: "crash".to_owned(),
            strategy: strategy.to_owned(),
            at: at(7),
            outcome: "ok".to_owned(),
            seconds: 1.5,
            worker: "web".to_owned(),
            body: "{}".to_owned(),
        }
    }

    #[tokio::test]
    async fn incidents_are_found_by_id_worker_time_and_whether_they_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Store::open(&Options::new(dir.path())).unwrap().archive();
        for incident in
            [incident_of("a", "web", 10), incident_of("b", "web", 20), incident_of("c", "job", 30)]
        {
            archive.put_incident(incident).await.unwrap();
        }
        let closed = KeptIncident {
            closed_at: Some(at(25)),
            outcome: Some("ok".to_owned()),
            ..incident_of("b", "web", 20)
        };
        archive.put_incident(closed.clone()).await.unwrap();
        let all = || IncidentQuery { limit: 100, ..IncidentQuery::default() };
        let find = async |query: IncidentQuery| -> Vec<String> {
            archive.incidents(query).await.unwrap().into_iter().map(|incident| incident.id).collect()
        };
        assert_eq!(find(all()).await, ["c", "b", "a"]);
        assert_eq!(find(IncidentQuery { worker: Some("web".to_owned()), ..all() }).await, ["b", "a"]);
        assert_eq!(find(IncidentQuery { open: true, ..all() }).await, ["c", "a"]);
        assert_eq!(find(IncidentQuery { since: Some(at(20)), ..all() }).await, ["c", "b"]);
        assert_eq!(find(IncidentQuery { before: Some(at(20)), ..all() }).await, ["a"]);
        assert_eq!(find(IncidentQuery { limit: 1, ..all() }).await, ["c"]);
        let one = IncidentQuery { id: Some("b".to_owned()), ..all() };
        assert_eq!(archive.incidents(one).await.unwrap(), [closed]);
    }

    #[tokio::test]
    async fn outcomes_are_there_again_and_a_damaged_one_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Options::new(dir.path())).unwrap();
        for strategy in ["soft_restart", "hard_restart", "reset"] {
            store.archive().put_outcome(outcome_of(strategy)).await.unwrap();
        }
        store.close(std::time::Duration::from_secs(30));
        let raw = Connection::open(dir.path().join("state.db")).unwrap();
        raw.execute("UPDATE outcome SET record = x'00' WHERE id = 2", []).unwrap();
        drop(raw);
        let store = Store::open(&Options::new(dir.path())).unwrap();
        let found = store.archive().outcomes(100).await.unwrap();
        assert_eq!(found, [outcome_of("soft_restart"), outcome_of("reset")]);
        assert_eq!(store.archive().outcomes(1).await.unwrap(), [outcome_of("reset")], "the newest");
        assert!(store.notes()[0].contains("1 damaged"), "{:?}", store.notes());
    }

    #[test]
    fn records_of_version_one_are_read_for_ever() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let bytes = encode_incident(&incident_of("a", "web", 10)).unwrap();
        assert_eq!(hex(&bytes), GOLDEN_INCIDENT);
        assert_eq!(incident(&bytes), Ok(incident_of("a", "web", 10)));
        let bytes = encode_outcome(&outcome_of("reset")).unwrap();
        assert_eq!(hex(&bytes), GOLDEN_OUTCOME);
        assert_eq!(outcome(&bytes), Ok(outcome_of("reset")));
    }

    const GOLDEN_INCIDENT: &str = "7267050100003d00000036dfd0a1ad01a58053d185ad016103776562057765622f30056372617368fc002d3101000001066f75747075740a\
        65766964656e63652f31090f7b22617474656d707473223a5b5d7d";
    const GOLDEN_OUTCOME: &str = "72670601000023000000317f86ecb4d230b7857d6b3a056372617368057265736574fc809fd500026f6b000000000000f83f03776562027b\
        7d";
}
