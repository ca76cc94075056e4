//! Recovery strategies that are code of the program: found by their name, carried out, and kept like any other step.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use regrow::recovery::{Incident, Outcome};
use regrow::{Ailing, RecoveryStrategy, Remedying, Runtime};

use crate::guest::{Guest, until};

/// Takes away what makes the worker ill, and notes whom it was called for.
#[derive(Clone)]
struct Cure {
    ill: PathBuf,
    seen: Arc<Mutex<Vec<Ailing>>>,
}

impl RecoveryStrategy for Cure {
    fn recover<'a>(&'a self, ailing: &'a Ailing) -> Remedying<'a> {
        Box::pin(async move {
            self.seen.lock().unwrap().push(ailing.clone());
            fs::remove_file(&self.ill).map_err(|error| error.to_string())?;
            Ok("it is cured".to_owned())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_of_the_program_is_a_step_of_a_ladder_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let ill = dir.path().join("ill");
    let cure = Cure { ill: ill.clone(), seen: Arc::default() };
    let toml = format!(
        r#"
[worker.web]
command = ["sleep", "1000"]
ladder = "gentle"
probe.alive = {{ exec = ["sh", "-c", "test ! -e {}"], period = "200ms", retry_period = "100ms", failure_threshold = 1, timeout = "20s" }}
[ladder.gentle]
verify = "50ms"
steps = [{{ do = "cure" }}]
[strategy.cure]
timeout = "10m"
[http]
listen = ""
"#,
        ill.display()
    );
    let guest = Guest::ready(Runtime::builder().strategy("cure", cure.clone()), &toml).await;
    let running = guest.until("web", |entry| entry.status() == "healthy").await;
    fs::write(&ill, "").unwrap();
    let incidents = || guest.handle.healer().incidents();
    until("the incident is closed", || incidents().first().is_some_and(|one| !one.is_open())).await;
    let incidents: Vec<Incident> = incidents();
    let [incident] = incidents.as_slice() else { panic!("{incidents:?}") };
    let [attempt] = incident.attempts.as_slice() else { panic!("{incident:?}") };
    assert_eq!((attempt.strategy.word(), attempt.outcome), ("cure", Some(Outcome::Ok)));
    assert!(incident.evidence.iter().any(|one| one.text == "it is cured"), "{incident:?}");
    let seen = cure.seen.lock().unwrap().clone();
    let [ailing] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((ailing.instance.to_string(), ailing.pid), ("web".to_owned(), running.pid));
    assert_eq!(ailing.cause, "probe_failed");
    assert_eq!(guest.entry("web").pid, running.pid, "it goes on");
    guest.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strategy_that_nobody_knows_is_refused_with_its_place() {
    let toml = "[worker.web]\ncommand = [\"sleep\", \"1\"]\n[ladder.default]\nsteps = [{ do = \"cures\" }]\n";
    let cure = Cure { ill: PathBuf::from("x"), seen: Arc::default() };
    let started = Runtime::builder().strategy("cure", cure).toml(toml).start().await;
    let refused = started.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("there is no recovery strategy `cures`"), "{refused}");
    assert!(refused.contains("did you mean `cure`?"), "{refused}");
}
