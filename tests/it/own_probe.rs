//! Probes that the program around the runtime brings along.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use regrow::health::Health;
use regrow::probe::{Found, Look, Patient, Probe};
use regrow::{Asker, Context, InstanceState, Restored, Runtime, Worker, WorkerError};

use crate::guest::Guest;
use crate::rig::PATIENCE;

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

/// An actor of which there is nothing to see but that it runs.
struct Quiet;

impl Worker for Quiet {
    type Config = ();
    type State = ();
    type Message = ();

    async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        Ok(Self)
    }

    async fn message(&mut self, (): (), _: &Context<Self>) -> Result<(), WorkerError> {
        Ok(())
    }
}

/// A hatch that so many more looks find shut.
struct Hatch(Arc<AtomicUsize>);

impl Probe for Hatch {
    fn look<'a>(&'a self, _: &'a Patient) -> Look<'a> {
        let less = |shut: usize| shut.checked_sub(1);
        let shut = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        Box::pin(async move { if shut { Found::fail("the hatch is shut") } else { Found::pass("open") } })
    }
}

/// The checks that its health is made of.
fn checks(entry: &InstanceState) -> Vec<&str> {
    let verdict = entry.verdict().filter(|_| entry.health() == Health::Healthy);
    verdict.iter().flat_map(|verdict| verdict.terms.iter().map(|term| term.probe.as_str())).collect()
}

#[tokio::test]
async fn an_actor_gets_a_look_while_it_runs_and_loses_it_again() {
    const PLAIN: &str = "[worker.quiet]\nactor = \"Quiet\"\nbackoff.first = \"0s\"\n";
    const LOOK: &str = "probe.hatch = { custom = \"Hatch\", period = \"50ms\", retry_period = \"50ms\", timeout = \"20s\", \
        failure_threshold = 2 }\n";
    let (shut, dir) = (Arc::<AtomicUsize>::default(), tempfile::tempdir().unwrap());
    let file = dir.path().join("regrow.toml");
    std::fs::write(&file, PLAIN).unwrap();
    let builder = Runtime::builder().worker::<Quiet>("Quiet").probe("Hatch", Hatch(Arc::clone(&shut)));
    let state_dir = dir.path().join("state").display().to_string();
    let handle = builder.file(&file).set("runtime.state_dir", state_dir).start().await.unwrap();
    handle.wait_ready(PATIENCE).await.unwrap();
    let plain = handle.until("quiet", PATIENCE, |entry| checks(entry) == ["actor"]).await.unwrap();
    assert_eq!(plain.score(), Some(1.0));
    let read = async |text: String| {
        std::fs::write(&file, text).unwrap();
        handle.apply(Asker("a test".to_owned())).await.unwrap();
    };
    read(format!("{PLAIN}{LOOK}")).await;
    let looked_at =
        handle.until("quiet", PATIENCE, |entry| checks(entry) == ["actor", "hatch"]).await.unwrap();
    assert_eq!((looked_at.restarts, looked_at.incarnation), (0, plain.incarnation), "it runs on");
    shut.store(2, Ordering::SeqCst);
    let ended = handle.until("quiet", PATIENCE, |entry| entry.restarts > 0).await.unwrap();
    assert!(ended.last_exit.unwrap().message.contains("the hatch is shut"));
    let well = handle.until("quiet", PATIENCE, |entry| checks(entry) == ["actor", "hatch"]).await.unwrap();
    read(PLAIN.to_owned()).await;
    let alone = handle.until("quiet", PATIENCE, |entry| checks(entry) == ["actor"]).await.unwrap();
    assert_eq!(alone.incarnation, well.incarnation);
    handle.shutdown(Asker("a test".to_owned())).await;
    assert_eq!(handle.finished().await, regrow::Finished::Stopped);
}
