//! The trait, whom a look is at, and what it finds.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::config::{WorkerSettings, expand};
use crate::health::Grade;
use crate::id::{Incarnation, InstanceId};
use crate::units::format_duration;

/// A look under way.
pub type Look<'a> = Pin<Box<dyn Future<Output = Found> + Send + 'a>>;

/// Longer messages are cut: they stand in status, events and alerts.
const LONGEST: usize = 300;

/// Figures of one look; a plugin may send any number.
const MOST_METRICS: usize = 32;

/// Something that can be looked at again and again.
///
/// A look has a deadline that its caller keeps; one that is late is dropped, so whatever it holds must be safe to drop.
pub trait Probe: Send + Sync {
    /// Looks once.
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a>;
}

/// What a look found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it says.
    pub grade: Grade,
    /// The same in words, one line.
    pub message: String,
    /// Figures it brought along.
    pub metrics: Vec<(String, f64)>,
}

impl Found {
    /// A result with one line of words; control characters are replaced, and a long line is cut.
    #[must_use]
    pub fn new(grade: Grade, message: impl AsRef<str>) -> Self {
        let line = message.as_ref().lines().next().unwrap_or_default().trim();
        let mut message: String =
            line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(LONGEST).collect();
        if message.is_empty() {
            message = grade.word().to_owned();
        }
        Self { grade, message, metrics: Vec::new() }
    }

    /// All is well.
    #[must_use]
    pub fn pass(message: impl AsRef<str>) -> Self {
        Self::new(Grade::Pass, message)
    }

    /// It works, and something should be looked at.
    #[must_use]
    pub fn warn(message: impl AsRef<str>) -> Self {
        Self::new(Grade::Warn, message)
    }

    /// It does not work.
    #[must_use]
    pub fn fail(message: impl AsRef<str>) -> Self {
        Self::new(Grade::Fail, message)
    }

    /// The look could not be made.
    #[must_use]
    pub fn error(message: impl AsRef<str>) -> Self {
        Self::new(Grade::Error, message)
    }

    /// The same within bounds, whoever made it.
    pub(crate) fn checked(self) -> Self {
        let Self { grade, message, mut metrics } = self;
        metrics.truncate(MOST_METRICS);
        metrics.retain(|(_, value)| value.is_finite());
        Self { metrics, ..Self::new(grade, message) }
    }

    /// With a figure.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        if self.metrics.len() < MOST_METRICS {
            self.metrics.push((name.into(), value));
        }
        self
    }
}

/// Whom a look is at.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The instance.
    pub instance: InstanceId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Its settings.
    pub worker: Arc<WorkerSettings>,
    /// Its own directory (`{state_dir}`).
    pub state_dir: PathBuf,
    pub(crate) pid: Arc<AtomicU32>,
    /// Whether something of a look is under way that asks this machine and not the worker: [`Apart`].
    pub(crate) apart: Arc<AtomicBool>,
}

/// Held while a look asks this machine for something: a name, a disk, a new process. As long as that takes nothing is
/// known of the worker, and it may take for ever, with a thread that hangs in it. So there is one at a time.
#[derive(Debug)]
pub(crate) struct Apart(Arc<AtomicBool>);

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Patient {
    /// Its main process at this moment; `None` for an actor.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// `Err`: what the last look asked of this machine has not come back yet.
    pub(crate) fn set_apart(&self) -> Result<Apart, Found> {
        if self.apart.swap(true, Ordering::Acquire) {
            return Err(Found::error(
                "the last look still waits for this machine (a mount or a resolver that does not answer?)",
            ));
        }
        Ok(Apart(Arc::clone(&self.apart)))
    }

    /// What a look found that did not end in time.
    pub(crate) fn late(&self, limit: Duration) -> Found {
        let limit = format_duration(limit);
        if self.apart.load(Ordering::Acquire) {
            return Found::error(format!(
                "this machine kept the look waiting for {limit}; the worker was not even asked"
            ));
        }
        Found::fail(format!("no answer within {limit}"))
    }

    /// A text of the configuration with its placeholders replaced.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let value = |name: &str| match name {
            "worker" => Some(self.instance.worker().to_string()),
            "instance" => Some(self.instance.to_string()),
            "slug" => Some(self.instance.slug()),
            "index" => Some(self.instance.index().unwrap_or(0).to_string()),
            "incarnation" => Some(self.incarnation.to_string()),
            "port" => self.worker.port_of(&self.instance).map(|port| port.to_string()),
            "state_dir" => Some(self.state_dir.to_string_lossy().into_owned()),
            _ => None,
        };
        // Refused by the configuration long before.
        expand(text, value).unwrap_or_else(|_| text.to_owned())
    }
}
