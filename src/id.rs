//! Names of things: workers, instances, incarnations, supervisors.
//!
//! A name is checked once, where it enters (configuration, command line, HTTP), and is a type from there
//! on, so that no later room has to wonder whether `../etc` could reach a path. Names are `Arc<str>`:
//! they are copied into every event and every metric label, and never change.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes: what a DNS label and a cgroup directory both take.
pub const MAX_NAME: usize = 63;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than [`MAX_NAME`] bytes.
    #[error("a name has at most {MAX_NAME} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside `[a-z0-9_-]`, or a first one outside `[a-z]`.
    #[error(
        "`{0}` cannot stand at position {1}: a name is lower-case letters, digits, `-` and `_`, and starts with a letter"
    )]
    Character(char, usize),
    /// Two underscores in a row, which separate words in `REGROW__…` variables.
    #[error("`__` separates words in REGROW__… variables and cannot be part of a name")]
    DoubleUnderscore,
    /// The part behind `/` is not a number.
    #[error("`{0}` is not an instance number")]
    Index(String),
}

/// Checks contract §2: `[a-z][a-z0-9_-]{0,62}`, no `__`.
fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.chars().count()));
    }
    for (at, c) in text.chars().enumerate() {
        let fits = c.is_ascii_lowercase() || (at > 0 && (c.is_ascii_digit() || c == '_' || c == '-'));
        if !fits {
            return Err(NameError::Character(c, at + 1));
        }
    }
    if text.contains("__") {
        return Err(NameError::DoubleUnderscore);
    }
    Ok(())
}

/// The name of a worker or of a supervisor: both share one name space.
///
/// ```
/// use regrow::id::Name;
/// assert_eq!(Name::try_new("parser").unwrap().as_str(), "parser");
/// assert!(Name::try_new("../etc").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`NameError`] says which rule of `[a-z][a-z0-9_-]{0,62}` (no `__`) is broken.
    pub fn try_new(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name of the supervisor that is always there.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from("root"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::try_new(&text).map_err(serde::de::Error::custom)
    }
}

/// One copy of a worker: `parser/0` in a pool, plain `parser` without one.
///
/// ```
/// use regrow::id::InstanceId;
/// let id: InstanceId = "parser/0".parse().unwrap();
/// assert_eq!(id.slug(), "parser-0");
/// assert_eq!(id.worker().as_str(), "parser");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    worker: Name,
    index: Option<u32>,
}

impl InstanceId {
    /// The only instance of a worker without a pool.
    #[must_use]
    pub fn single(worker: Name) -> Self {
        Self { worker, index: None }
    }

    /// Instance `index` of a pool.
    #[must_use]
    pub fn of_pool(worker: Name, index: u32) -> Self {
        Self { worker, index: Some(index) }
    }

    /// The worker this is a copy of.
    #[must_use]
    pub fn worker(&self) -> &Name {
        &self.worker
    }

    /// Of `parser/0` the plain `parser`: what the first copy of a worker is called that was no pool when it started.
    #[must_use]
    pub fn plain(&self) -> Option<Self> {
        (self.index == Some(0)).then(|| Self::single(self.worker.clone()))
    }

    /// The place in the pool, from 0.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        self.index
    }

    /// The id with `/` as `-`: safe as a file name.
    #[must_use]
    pub fn slug(&self) -> String {
        match self.index {
            None => self.worker.to_string(),
            Some(index) => format!("{}-{index}", self.worker),
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => f.pad(self.worker.as_str()),
            Some(index) => f.pad(&format!("{}/{index}", self.worker)),
        }
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl std::str::FromStr for InstanceId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            None => Ok(Self::single(Name::try_new(text)?)),
            Some((worker, index)) => {
                let number = index.parse().map_err(|_| NameError::Index(index.to_owned()))?;
                Ok(Self::of_pool(Name::try_new(worker)?, number))
            }
        }
    }
}

impl Serialize for InstanceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The n-th start of an instance, from 1. Every fact and command carries it; stale ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Before the first start.
    pub const NONE: Self = Self(0);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
