//! What a command is about: a worker, an instance, a supervisor, or everything.

use std::fmt;

use crate::id::{InstanceId, Name, NameError};

/// TARGET of the command line and `{id}` of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `parser`: all its instances.
    Worker(Name),
    /// `parser/0`.
    Instance(InstanceId),
    /// `sup:ingest`.
    Supervisor(Name),
    /// `--all`.
    All,
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a target: {why}. Give a worker (`parser`), an instance (`parser/0`), `sup:NAME` or `--all`"
)]
pub struct TargetError {
    text: String,
    why: NameError,
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrap = |why| TargetError { text: text.to_owned(), why };
        if let Some(name) = text.strip_prefix("sup:") {
            return Name::try_new(name).map(Self::Supervisor).map_err(wrap);
        }
        let id: InstanceId = text.parse().map_err(wrap)?;
        Ok(match id.index() {
            None => Self::Worker(id.worker().clone()),
            Some(_) => Self::Instance(id),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(name) => name.fmt(f),
            Self::Instance(id) => id.fmt(f),
            Self::Supervisor(name) => write!(f, "sup:{name}"),
            Self::All => f.write_str("--all"),
        }
    }
}
