//! Pools on real processes: the bounds that a file gives, whoever asks, and ladders that make one more or one less.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use regrow::recovery::Strategy;
use regrow::{Asker, Condition, Context, Finished, Restored, Runtime, Worker, WorkerError};
use serde_json::Value;

use crate::guest::{Guest, until};
use crate::rig::Rig;

/// The first one is ill while there are fewer of it than `{dir}/least` says, or more than `{dir}/most`: each has a file of
/// its own in `{dir}/here` while it lives.
const FILE: &str = r#"
[worker.w]
command = ["sh", "-c", "trap 'rm {dir}/here/{slug}; exit 0' TERM; : > {dir}/here/{slug}; echo here; sleep 1000 & wait"]
pool = { min = 1, max = 3 }
ready = { log = "here" }
[worker.w.probe.load]
exec = ["sh", "-c", "n=$(ls {dir}/here | wc -l); if [ {index} = 0 ] && [ $n -lt $(cat {dir}/least) ]; then echo too few; exit 1; fi; if [ {index} = 0 ] && [ $n -gt $(cat {dir}/most) ]; then echo too many; exit 1; fi"]
period = "200ms"
retry_period = "100ms"
failure_threshold = 1
timeout = "20s"

[ladder.default]
verify = "300ms"
steps = [
  { do = "scale_up", when = ["few"] },
  { do = "scale_down", when = ["many"], attempts = 2 },
  { do = "ease" },
]
[strategy.ease]
command = ["sh", "-c", "echo 9 > {dir}/easy && mv {dir}/easy {dir}/most"]
timeout = "20s"
[[error_class]]
name = "few"
match = "too few"
[[error_class]]
name = "many"
match = "too many"
"#;

/// Nobody reads half of it.
fn set(rig: &Rig, name: &str, number: u32) {
    fs::write(rig.path("new"), number.to_string()).unwrap();
    fs::rename(rig.path("new"), rig.path(name)).unwrap();
}

fn pids(rig: &Rig) -> Vec<(String, Value)> {
    let status = rig.status();
    let one =
        |state: &Value| (state["instance"].as_str().unwrap_or_default().to_owned(), state["pid"].clone());
    status["workers"].as_array().unwrap().iter().map(one).collect()
}

fn ready(rig: &Rig, count: usize) {
    rig.wait("as many are ready", || {
        let status = rig.status();
        let all = status["workers"].as_array().unwrap();
        all.len() == count && all.iter().all(|one| one["ready"] == true && one["phase"] == "running")
    });
}

fn json(rig: &Rig, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&rig.ok(&arguments)).unwrap()
}

fn said(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String) {
    let output = rig.regrow(arguments);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_pool_keeps_its_bounds_whoever_asks_and_as_many_as_were_asked_for_last() {
    let toml = "[worker.w]\ncommand = [\"sleep\", \"1000\"]\npool = { min = 2, max = 4 }\n";
    let mut rig = Rig::start(toml);
    ready(&rig, 2);
    let first = pids(&rig);
    assert_eq!(first.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["w/0", "w/1"]);
    rig.ok(&["scale", "w", "4", "--wait"]);
    ready(&rig, 4);
    assert_eq!(pids(&rig)[..2], first);
    for beyond in ["5", "1"] {
        let (code, text) = said(&rig, &["scale", "w", beyond]);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("w is a pool of 2 to 4 instances, so") && text.contains("regrow apply"),
            "{text}"
        );
    }
    let (_, text) = said(&rig, &["recover", "w", "--action", "scale_up"]);
    assert!(text.contains("all of its 4 instances (pool.max)"), "{text}");
    let (code, text) = said(&rig, &["recover", "w/0", "--action", "scale_up"]);
    assert!(code == Some(1) && text.contains("all of its 4 instances (pool.max)"), "{text}");
    let plan = rig.ok(&["recover", "w", "--action", "scale_up", "--dry-run"]);
    assert!(plan.contains("nothing: the pool has all of its 4 instances (pool.max)"), "{plan}");
    let plan = rig.ok(&["recover", "w/0", "--action", "scale_down", "--dry-run"]);
    assert!(plan.contains("take w/3 away, and wait until it is gone"), "{plan}");
    let text = rig.ok(&["recover", "w", "--action", "scale_down", "--wait"]);
    assert!(text.contains("w/3: "), "who goes is waited for and named: {text}");
    let page = rig.ok(&["describe", "w/0"]);
    assert!(page.contains("from 2 to 4 instances"), "{page}");
    ready(&rig, 3);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    ready(&rig, 3);
    let first = pids(&rig);
    rig.configure(&toml.replace("max = 4", "max = 5"));
    assert!(rig.ok(&["apply"]).contains("in place"));
    ready(&rig, 3);
    assert_eq!(pids(&rig), first, "wider bounds touch nobody");
    rig.configure(&toml.replace("max = 4", "max = 2"));
    rig.ok(&["apply"]);
    ready(&rig, 2);
    assert_eq!(pids(&rig), first[..2], "narrower ones only those beyond");
    rig.configure(&toml.replace("min = 2", "min = 3"));
    rig.ok(&["apply"]);
    ready(&rig, 3);
    assert_eq!(pids(&rig)[..2], first[..2]);
}

#[test]
fn by_hand_it_is_one_more_than_are_to_stay_whoever_is_still_leaving() {
    let toml = "[worker.w]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo here; while :; do sleep 1; done\"]\n\
        ready = { log = \"here\" }\nstop = { timeout = \"600s\" }\npool = { min = 1, max = 5 }\n\
        [worker.fixed]\ncommand = [\"sleep\", \"1000\"]\n";
    let rig = Rig::start(toml);
    let number = |name: &str| {
        let all = pids(&rig).into_iter().filter(|(instance, _)| instance.starts_with(name));
        all.map(|(instance, _)| instance).collect::<Vec<_>>()
    };
    ready(&rig, 2);
    rig.ok(&["scale", "w", "3"]);
    ready(&rig, 4);
    rig.ok(&["scale", "w", "1"]);
    assert_eq!(number("w/").len(), 3, "two do not go on a request");
    let scaled = |wanted: &[&str]| {
        rig.wait(&format!("what is told is {wanted:?}"), || {
            let lines = rig.ok(&["events", "--since", "1h", "--kind", "worker.scaled", "-o", "jsonl"]);
            let told = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let told: Vec<String> = told.map(|event| event["message"].to_string()).collect();
            told.len() == wanted.len() && told.iter().zip(wanted).all(|(told, wanted)| told.contains(wanted))
        });
    };
    rig.ok(&["recover", "w", "--action", "scale_up"]);
    scaled(&["w has 3 ", "w has 1 ", "w has 2 "]);
    rig.ok(&["recover", "w", "--action", "scale_down"]);
    scaled(&["w has 3 ", "w has 1 ", "w has 2 ", "w has 1 "]);
    // By hand the number of any worker can be changed.
    rig.ok(&["recover", "fixed", "--action", "scale_up"]);
    scaled(&["w has 3 ", "w has 1 ", "w has 2 ", "w has 1 ", "fixed has 2 "]);
}

#[tokio::test]
async fn a_program_that_scales_a_whole_worker_by_hand_gets_one_more_and_not_one_for_each() {
    let file = "[worker.crowd]\nactor = \"Crowd\"\npool = { min = 2, max = 4 }\n";
    let guest = Guest::ready(Runtime::builder().worker::<Crowd>("Crowd"), file).await;
    let step = |strategy: Strategy| {
        guest.handle.recover("crowd".parse().unwrap(), strategy, Asker("a test".to_owned()))
    };
    assert_eq!(step(Strategy::ScaleUp).await.unwrap().len(), 3);
    assert_eq!(step(Strategy::ScaleUp).await.unwrap().len(), 4);
    let refused = step(Strategy::ScaleUp).await.unwrap_err().to_string();
    assert!(refused.contains("(pool.max)"), "{refused}");
    assert_eq!(step(Strategy::ScaleDown).await.unwrap().len(), 3);
    assert_eq!(guest.end().await, Finished::Stopped);
}

/// The newest incident once there are as many, and all are closed.
fn closed(rig: &Rig, count: usize) -> Value {
    let all = || json(rig, &["incidents"])["items"].as_array().cloned().unwrap_or_default();
    rig.wait("the incident is closed", || {
        let all = all();
        all.len() == count && all.iter().all(|one| one["closed_at"].is_string())
    });
    all()[0].clone()
}

/// What was tried: strategy, outcome and the reason.
fn tried(incident: &Value) -> Vec<[String; 3]> {
    let word = |attempt: &Value, key: &str| attempt[key].as_str().unwrap_or_default().to_owned();
    let attempts = incident["attempts"].as_array().unwrap();
    attempts.iter().map(|one| ["strategy", "outcome", "reason"].map(|key| word(one, key))).collect()
}

#[test]
fn whoever_is_ill_under_load_gets_help_and_whoever_are_too_many_become_fewer() {
    let mut rig = Rig::new(FILE);
    fs::create_dir(rig.path("here")).unwrap();
    set(&rig, "least", 1);
    set(&rig, "most", 9);
    rig.launch();
    ready(&rig, 1);
    rig.wait_status("w/0", "healthy");
    let first = pids(&rig);

    set(&rig, "least", 2);
    let incident = closed(&rig, 1);
    assert_eq!(tried(&incident)[0][..2], ["scale_up", "ok"], "{incident}");
    assert_eq!((&incident["instance"], &incident["cause"]), (&"w/0".into(), &"few".into()));
    let seen = incident["evidence"].to_string();
    assert!(seen.contains("w has 2 instances: w/1 was added"), "{seen}");
    ready(&rig, 2);
    rig.wait_status("w/0", "healthy");
    assert_eq!(pids(&rig)[..1], first, "it went on");
    assert_eq!(rig.worker("w/0")["restarts"], 0);
    let events = json(&rig, &["events", "--kind", "worker.scaled"]);
    let event = &events["items"][0];
    assert_eq!((&event["cause"], &event["data"]["instances"]), (&"few".into(), &2.into()), "{events}");
    assert_eq!(event["incident"], incident["id"], "{events}");

    set(&rig, "least", 1);
    set(&rig, "most", 1);
    let incident = closed(&rig, 2);
    assert_eq!(tried(&incident)[0][..2], ["scale_down", "ok"], "{incident}");
    ready(&rig, 1);
    assert_eq!(pids(&rig), first, "the last one to come is the first one to go");

    set(&rig, "most", 0);
    let incident = closed(&rig, 3);
    let told = tried(&incident);
    let least = "the pool has no more than its least number, 1 (pool.min)";
    assert!(told.iter().any(|one| one[..2] == ["scale_down", "skipped"] && one[2] == least), "{incident}");
    assert_eq!(told.last().unwrap()[..2], ["ease", "ok"], "{incident}");
    assert!(rig.ok(&["strategies"]).contains("scale_up"));
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    ready(&rig, 1);
}

#[test]
fn a_number_that_a_step_has_made_lasts_over_a_restart_of_the_runtime() {
    let mut rig = Rig::new(FILE);
    fs::create_dir(rig.path("here")).unwrap();
    set(&rig, "least", 2);
    set(&rig, "most", 9);
    rig.launch();
    let incident = closed(&rig, 1);
    assert_eq!(tried(&incident)[0][..2], ["scale_up", "ok"], "{incident}");
    ready(&rig, 2);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    // Its second one comes later than its first.
    set(&rig, "least", 1);
    rig.launch();
    ready(&rig, 2);
    let (_, text) = said(&rig, &["scale", "w", "4"]);
    assert!(text.contains("a pool of 1 to 3 instances"), "{text}");
    rig.ok(&["scale", "w", "1", "--wait"]);
    ready(&rig, 1);
}

static HERE: AtomicUsize = AtomicUsize::new(0);
static NEEDED: AtomicUsize = AtomicUsize::new(1);

/// Does not work while there are fewer of it than are needed.
struct Crowd;

impl Worker for Crowd {
    type Config = ();
    type State = ();
    type Message = ();

    async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        HERE.fetch_add(1, Ordering::SeqCst);
        Ok(Self)
    }

    async fn health(&mut self) -> Condition {
        let few = HERE.load(Ordering::SeqCst) < NEEDED.load(Ordering::SeqCst);
        if few { Condition::Fail("too few".to_owned()) } else { Condition::Pass }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        HERE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_actor_that_needs_others_gets_them() {
    let file = r#"
[worker.crowd]
actor = "Crowd"
pool = { max = 4 }
probe.own = { actor = {}, period = "100ms", retry_period = "100ms", failure_threshold = 1, timeout = "20s" }
[ladder.default]
verify = "200ms"
breaker.open_after = 1000
steps = [{ do = "scale_up", attempts = 100 }]
"#;
    let guest = Guest::ready(Runtime::builder().worker::<Crowd>("Crowd"), file).await;
    NEEDED.store(3, Ordering::SeqCst);
    guest.until("crowd/0", |_| guest.handle.board().instance(&"crowd/2".parse().unwrap()).is_some()).await;
    let refused = guest.handle.scale("crowd", 5).await.unwrap_err();
    assert!(refused.to_string().contains("a pool of 1 to 4 instances"), "{refused}");
    until("there are as many as are needed, and all are well", || {
        let all = guest.handle.board().instances();
        all.len() >= 3 && all.iter().all(|one| one.ready && one.health() == regrow::Health::Healthy)
    })
    .await;
    let first = guest.entry("crowd/0");
    assert_eq!((first.restarts, first.incarnation.0), (0, 1), "who asked for it went on");
    assert_eq!(guest.end().await, Finished::Stopped);
}
