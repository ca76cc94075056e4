//! What is asked of this machine, and may not come back: on a thread of its own, one at a time for each probe.

use crate::probe::{Found, Patient};

/// Does it, and waits for it. A look that ends meanwhile was no look at the worker, and the next one is none before this
/// has come back.
pub(super) async fn apart<T: Send + 'static>(
    patient: &Patient,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Found> {
    let held = patient.set_apart()?;
    let done = tokio::task::spawn_blocking(move || {
        let _held = held;
        work()
    });
    done.await.map_err(|error| Found::error(format!("this machine cannot be asked: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::health::Grade;
    use crate::probe::patience::within;
    use crate::probe::tests::{PATIENCE, patient};

    const SHORT: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn what_hangs_in_this_machine_says_nothing_of_the_worker_and_is_not_done_twice() {
        let (patient, _) = patient("process = {}");
        assert_eq!(apart(&patient, || 1).await, Ok(1));
        let (release, hang) = mpsc::channel::<()>();
        let late = within(SHORT, apart(&patient, move || hang.recv().is_err())).await;
        assert!(late.is_none());
        assert_eq!(patient.late(SHORT).grade, Grade::Error);
        let again = apart(&patient, || unreachable!("the one before has not come back")).await;
        assert!(again.is_err_and(|found: Found| found.grade == Grade::Error));
        drop(release);
        let back = async {
            while apart(&patient, || ()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, back).await.unwrap();
        assert_eq!(patient.late(SHORT).grade, Grade::Fail, "it was asked and did not answer");
    }
}
