//! `regrow.history/1` and `regrow.backup/1`

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::runtime::Backup;
use crate::store::Point;

/// `GET /api/v1/history`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryBody {
    /// `regrow.history/1`
    pub schema: String,
    /// How far it goes back.
    pub hours: f64,
    /// One for each instance.
    pub items: Vec<InstanceHistory>,
    /// Where the next page begins; `null`: there is none.
    pub next_cursor: Option<String>,
}

/// What one instance was like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceHistory {
    /// The worker.
    pub worker: String,
    /// The instance.
    pub instance: String,
    /// Oldest first: every ten seconds of the last day, every minute before.
    pub points: Vec<PointView>,
}

/// What it was like at one moment, or in one minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointView {
    /// When.
    pub at: Timestamp,
    /// One word; of a minute, the worst.
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

impl From<Point> for PointView {
    fn from(point: Point) -> Self {
        let Point { at, status, score, cpu_percent, memory_bytes, samples } = point;
        Self { at, status, score, cpu_percent, memory_bytes, samples }
    }
}

/// `GET /health/workers/{id}/history`: the same of one worker, bare.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerHistory {
    /// The worker or instance that was asked for.
    pub worker_id: String,
    /// How far it goes back.
    pub hours: f64,
    /// Of all its instances, oldest first.
    pub points: Vec<InstancePoint>,
}

/// A point and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstancePoint {
    /// The instance.
    pub instance: String,
    /// What it was like.
    #[serde(flatten)]
    pub point: PointView,
}

/// `POST /api/v1/backup`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupBody {
    /// `regrow.backup/1`
    pub schema: String,
    /// Its directory.
    pub dir: String,
    /// What is in it.
    pub files: Vec<String>,
}

impl From<Backup> for BackupBody {
    fn from(made: Backup) -> Self {
        let files = made.files.iter().filter_map(|path| path.file_name());
        Self {
            schema: "regrow.backup/1".to_owned(),
            dir: made.dir.display().to_string(),
            files: files.map(|name| name.to_string_lossy().into_owned()).collect(),
        }
    }
}
