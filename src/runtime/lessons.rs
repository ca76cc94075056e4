//! Incidents and what was learned of them, over restarts of the runtime.
//!
//! The healer says what has changed, and the keeper's thread writes it down beside the events; what cannot be written
//! now is tried again. Recovery itself never waits for any of it.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;

use crate::recovery::{Incident, Outcome};
use crate::store::{Archive, IncidentQuery, KeptIncident, KeptOutcome, StoreError};
use crate::supervisor::{Healer, Lesson, Lore};

/// Incidents that are read back.
const INCIDENTS: usize = 1000;

/// Outcomes that are read back: older ones have faded.
const OUTCOMES: usize = 10_000;

/// Incidents written in one go; the others come with the next.
const TOGETHER: usize = 64;

/// So often in a row: enough for all that the healer holds.
const ROUNDS: usize = 256;

/// One that learns in the name of this host.
pub(super) fn healer(state_dir: &Path) -> Healer {
    Healer::new(getrandom::u64().unwrap_or(1), host_of(state_dir))
}

/// Names where something is learned: this machine and this state directory, of which nothing can be read out of it.
fn host_of(state_dir: &Path) -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty());
    let machine = read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default();
    let place = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    let bytes = machine.trim().bytes().chain([0]).chain(place.as_os_str().as_encoded_bytes().iter().copied());
    // FNV-1a, which is the same in every version and on every machine.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

/// Reads what an earlier runtime knew.
pub(super) async fn recall(archive: &Archive, healer: &Healer) -> Result<(), StoreError> {
    let query = IncidentQuery { limit: INCIDENTS, ..IncidentQuery::default() };
    let kept = archive.incidents(query).await?;
    let incidents = kept.iter().filter_map(|kept| {
        let mut incident: Incident = serde_json::from_str(&kept.body)
            .inspect_err(|error| tracing::warn!(id = %kept.id, %error, "an incident cannot be read"))
            .ok()?;
        // Whoever was to heal it is gone.
        let open = incident.is_open();
        incident.close(Outcome::Interrupted, "the runtime ended", Timestamp::now());
        Some((incident, open))
    });
    healer.recall(incidents.collect());
    for kept in archive.outcomes(OUTCOMES).await? {
        match serde_json::from_str::<Learned>(&kept.body) {
            Ok(Learned::Lesson(lesson)) => healer.relearn(lesson),
            Ok(Learned::Import { import }) => match healer.reimport(import) {
                Ok(left_out) => tracing::debug!(left_out, "what was learned elsewhere is known again"),
                Err(error) => tracing::warn!(%error, "what was learned elsewhere cannot be read"),
            },
            Err(error) => tracing::warn!(class = %kept.class, %error, "an outcome cannot be read"),
        }
    }
    Ok(())
}

/// Writes down all that has changed; answers the healer's revision that is kept now, or none if something is not.
/// Between two rounds it does `rest`, given what the last one took.
pub(super) async fn remember_all(
    archive: &Archive,
    healer: &Healer,
    mut rest: impl AsyncFnMut(Duration),
) -> Option<u64> {
    let revision = healer.revision();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        if let Err(error) = remember(archive, healer).await {
            tracing::debug!(%error, "an incident is not kept yet");
            return None;
        }
        if !healer.waits() {
            break;
        }
        rest(began.elapsed()).await;
    }
    Some(revision)
}

/// Writes down some of what has changed.
async fn remember(archive: &Archive, healer: &Healer) -> Result<(), StoreError> {
    // All at once, so that they share a commit.
    let incidents = healer.changed(TOGETHER).into_iter().map(|incident| {
        let (archive, kept) = (archive.clone(), kept_incident(&incident));
        (incident.id, tokio::spawn(async move { archive.put_incident(kept).await }))
    });
    let lessons = healer.lessons(TOGETHER).into_iter().map(|lesson| {
        let (archive, kept) = (archive.clone(), kept_outcome(&lesson));
        (lesson, tokio::spawn(async move { archive.put_outcome(kept).await }))
    });
    let imports = healer.imports().into_iter().map(|import| {
        let (archive, kept) = (archive.clone(), kept_import(&import));
        (import, tokio::spawn(async move { archive.put_outcome(kept).await }))
    });
    let (incidents, lessons): (Vec<_>, Vec<_>) = (incidents.collect(), lessons.collect());
    let imports: Vec<_> = imports.collect();
    let mut failed = None;
    for (id, put) in incidents {
        let error = done(put).await;
        healer.written(&id, error.is_none());
        failed = error.or(failed);
    }
    for (lesson, put) in lessons {
        if let Some(error) = done(put).await {
            healer.keep_lesson(lesson);
            failed = Some(error);
        }
    }
    for (import, put) in imports {
        if let Some(error) = done(put).await {
            healer.keep_import(import);
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// What stands in an outcome's body.
#[derive(Deserialize)]
#[serde(untagged)]
enum Learned {
    Lesson(Lesson),
    Import { import: Lore },
}

async fn done(put: tokio::task::JoinHandle<Result<(), StoreError>>) -> Option<StoreError> {
    match put.await {
        Ok(done) => done.err(),
        // Its panic was told where it happened; the next try is the next round's.
        Err(_) => Some(StoreError::Closed),
    }
}

fn kept_incident(incident: &Incident) -> KeptIncident {
    KeptIncident {
        id: incident.id.to_string(),
        worker: incident.instance.split('/').next().unwrap_or_default().to_owned(),
        instance: incident.instance.clone(),
        cause: incident.cause.clone(),
        opened_at: incident.opened_at,
        closed_at: incident.closed.as_ref().map(|closed| closed.at),
        outcome: incident.closed.as_ref().map(|closed| closed.outcome.word().to_owned()),
        evidence: Vec::new(),
        body: json(incident),
    }
}

fn kept_outcome(lesson: &Lesson) -> KeptOutcome {
    let at = Timestamp::from_second(lesson.at).unwrap_or_else(|_| Timestamp::now());
    KeptOutcome {
        class: lesson.class.to_string(),
        strategy: lesson.strategy.to_string(),
        at,
        outcome: if lesson.held { Outcome::Ok } else { Outcome::Failed }.word().to_owned(),
        seconds: lesson.seconds,
        worker: lesson.worker.clone(),
        body: json(lesson),
    }
}

/// All that came from elsewhere at once.
fn kept_import(import: &Lore) -> KeptOutcome {
    KeptOutcome {
        class: String::new(),
        strategy: "import".to_owned(),
        at: Timestamp::now(),
        outcome: Outcome::Ok.word().to_owned(),
        seconds: 0.0,
        worker: String::new(),
        body: json(&serde_json::json!({ "import": import })),
    }
}

/// Plain values of ours, which always have a text.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
