//! A recovery strategy that is code of the program itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::id::{Incarnation, InstanceId};
use crate::units::format_duration;

use super::runner::Done;

/// A step under way: what was done in words, or why it was not.
pub type Remedying<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// Whom a step is done to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ailing {
    /// The instance.
    pub instance: InstanceId,
    /// Which start of it; the newest, if it is down.
    pub incarnation: Incarnation,
    /// Its main process, if it has one that runs.
    pub pid: Option<u32>,
    /// The cause of the incident: one of the contract's words, or the name of an error class.
    pub cause: String,
}

/// A recovery strategy of one's own, in Rust: a step of a ladder like any other.
///
/// The program makes it known by a name, and ladders use that name: `{ do = "flush-cache" }`. It runs on the threads of
/// the workers, while the worker runs or between its end and its next start. After the step's `timeout` (20 s; another
/// one in `[strategy.NAME]`) it is dropped and has failed; whatever it holds must be safe to drop. What it says is kept
/// with the incident. Whether it helped is not for it to say: the worker's health must turn, and hold.
///
/// ```
/// use regrow::{Ailing, RecoveryStrategy, Remedying, Runtime};
///
/// /// Removes the lock that a worker left behind.
/// struct Unlock;
///
/// impl RecoveryStrategy for Unlock {
///     fn recover<'a>(&'a self, ailing: &'a Ailing) -> Remedying<'a> {
///         Box::pin(async move {
///             let lock = std::env::temp_dir().join(format!("{}.lock", ailing.instance.slug()));
///             match std::fs::remove_file(&lock) {
///                 Ok(()) => Ok(format!("removed {}", lock.display())),
///                 Err(error) => Err(format!("cannot remove {}: {error}", lock.display())),
///             }
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::builder()
///     .strategy("unlock", Unlock)
///     .toml(
///         r#"
///         [worker.web]
///         command = ["sleep", "1000"]
///         [ladder.default]
///         steps = [{ do = "unlock", when = ["start_failed"] }, { do = "soft_restart", attempts = 3 }]
///         [http]
///         listen = ""
///         "#,
///     )
///     .start()
///     .await?;
/// runtime.shutdown(regrow::Asker("example".to_owned())).await;
/// # Ok(())
/// # }
/// ```
pub trait RecoveryStrategy: Send + Sync {
    /// Does it once.
    fn recover<'a>(&'a self, ailing: &'a Ailing) -> Remedying<'a>;
}

/// Those that a program makes known, by name.
#[derive(Clone, Default)]
pub(crate) struct Remedies(BTreeMap<String, Arc<dyn RecoveryStrategy>>);

impl Remedies {
    /// A later one of the same name takes its place.
    pub(crate) fn add(&mut self, name: &str, strategy: Arc<dyn RecoveryStrategy>) {
        self.0.insert(name.to_owned(), strategy);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<dyn RecoveryStrategy>> {
        self.0.get(name).cloned()
    }
}

/// Carries one out on these threads and says what came of it.
pub(crate) fn carry_out(
    on: &Handle,
    strategy: Arc<dyn RecoveryStrategy>,
    ailing: Ailing,
    timeout: Duration,
    done: Done,
) {
    // In a task of its own, so that a panic is its end and nobody else's.
    let work = on.spawn(async move {
        let late = |_| Err(format!("it was not done within {}", format_duration(timeout)));
        tokio::time::timeout(timeout, strategy.recover(&ailing)).await.unwrap_or_else(late)
    });
    on.spawn(async move {
        let said = work.await.unwrap_or_else(|error| {
            Err(if error.is_panic() { "its code panicked" } else { "the runtime ends" }.to_owned())
        });
        done(said.map(|said| vec![("strategy", said)]));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Name;

    enum Kind {
        Helps,
        Hangs,
        Panics,
    }

    impl RecoveryStrategy for Kind {
        fn recover<'a>(&'a self, ailing: &'a Ailing) -> Remedying<'a> {
            Box::pin(async move {
                match self {
                    Self::Helps => Ok(format!("{} of {}", ailing.cause, ailing.instance)),
                    Self::Hangs => std::future::pending().await,
                    Self::Panics => panic!("a fault in it"),
                }
            })
        }
    }

    async fn said(kind: Kind, timeout: Duration) -> Result<String, String> {
        let ailing = Ailing {
            instance: InstanceId::single(Name::try_new("web").unwrap()),
            incarnation: Incarnation(1),
            pid: None,
            cause: "hang".to_owned(),
        };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let done: Done = Box::new(move |said| drop(sender.send(said)));
        carry_out(&Handle::current(), Arc::new(kind), ailing, timeout, done);
        receiver.await.unwrap().map(|sights| sights[0].1.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_or_panics_has_failed() {
        let long = Duration::from_secs(3600);
        assert_eq!(said(Kind::Helps, long).await.unwrap(), "hang of web");
        assert_eq!(said(Kind::Hangs, Duration::from_secs(5)).await.unwrap_err(), "it was not done within 5s");
        assert_eq!(said(Kind::Panics, long).await.unwrap_err(), "its code panicked");
    }
}
