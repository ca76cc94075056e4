//! Probes that the program around the runtime brings along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use regrow::Runtime;
use regrow::health::Health;
use regrow::probe::{Found, Look, Patient, Probe};

use crate::guest::Guest;

/// A door that the test shuts, or breaks.
#[derive(Clone, Default)]
struct Door {
    shut: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Probe for Door {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            assert!(!self.broken.load(Ordering::SeqCst), "it is broken");
            match (patient.pid(), self.shut.load(Ordering::SeqCst)) {
                (None, _) => Found::error("nobody is there"),
                (Some(_), true) => Found::fail("the door is shut"),
                (Some(_), false) => Found::pass("open").with("width", 2.0),
            }
        })
    }
}

const FILE: &str = "[worker.web]\ncommand = [\"sleep\", \"1000\"]\nbackoff.first = \"0s\"\n\
    probe.door = { custom = \"Door\", period = \"50ms\", retry_period = \"50ms\", timeout = \"20s\", failure_threshold = 2 }\n";

#[tokio::test]
async fn a_look_in_rust_heals_as_any_other_does_and_one_that_breaks_restarts_nobody() {
    let door = Door::default();
    let guest = Guest::ready(Runtime::builder().probe("Door", door.clone()), FILE).await;
    guest.until("web", |entry| entry.health() == Health::Healthy).await;
    door.shut.store(true, Ordering::SeqCst);
    let entry = guest.until("web", |entry| entry.restarts > 0).await;
    door.shut.store(false, Ordering::SeqCst);
    assert!(entry.last_exit.unwrap().message.contains("the door is shut"));
    let entry = guest.until("web", |entry| entry.ready && entry.health() == Health::Healthy).await;
    door.broken.store(true, Ordering::SeqCst);
    let blind = guest.until("web", |entry| entry.verdict().is_some_and(|verdict| verdict.blind)).await;
    assert_eq!((blind.health(), blind.restarts), (Health::Unknown, entry.restarts));
    assert!(blind.all_issues()[0].contains("it panicked: it is broken"), "{:?}", blind.all_issues());
    door.broken.store(false, Ordering::SeqCst);
    let well = guest.until("web", |entry| entry.health() == Health::Healthy).await;
    assert_eq!(well.restarts, entry.restarts);
    guest.end().await;
}

#[tokio::test]
async fn a_name_that_nobody_has_registered_is_an_error_that_names_those_that_are_there() {
    let start = |builder: regrow::Builder| async move {
        let error = builder.toml(FILE).start().await.map(drop).expect_err("it is refused");
        error.to_string()
    };
    let text = start(Runtime::builder().probe("Dour", Door::default())).await;
    assert!(text.contains("registers no probe `Door`") && text.contains("Dour"), "{text}");
    let text = start(Runtime::builder()).await;
    assert!(text.contains(".probe(\"Name\""), "{text}");
}
