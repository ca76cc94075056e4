//! A pool behind a load balancer: real HTTP servers on a port each, a client that follows readiness as a load balancer
//! does and retries nothing, and operators who scale and restart the pool under its load.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Rig, send};

/// Requests a second.
const RATE: u64 = 500;

/// Plays the worker when it is started as one; as a test it asks itself one question.
#[test]
fn a_server_answers_what_it_is_asked() {
    let port = std::env::var("SERVE").map_or(0, |port| port.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        println!("listening on {address}");
        if port != 0 {
            serve(listener).await;
            std::process::exit(0);
        }
        tokio::spawn(serve(listener));
        assert_eq!(get(address).await, Ok(()));
    });
}

/// Answers until it is asked to end; then takes nothing new and finishes what it has.
async fn serve(listener: tokio::net::TcpListener) {
    let kind = tokio::signal::unix::SignalKind::terminate();
    let mut ended = tokio::signal::unix::signal(kind).unwrap();
    let mut open = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut stream, _)) = accepted else { continue };
                open.spawn(async move {
                    let mut head = [0; 1024];
                    let _ = stream.read(&mut head).await;
                    // Work takes a moment, so that some is always under way when the end comes.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
            Some(_) = open.join_next(), if !open.is_empty() => {}
            _ = ended.recv() => break,
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// One request on a connection of its own; whatever is not a whole 200 is a failure.
async fn get(address: SocketAddr) -> Result<(), String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(Duration::from_secs(10), ask).await {
        Ok(Ok(answer)) if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\nok") => Ok(()),
        Ok(Ok(answer)) => Err(format!("{address} answered {:?}", String::from_utf8_lossy(&answer))),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address} did not answer in 10 s")),
    }
}

/// As many ports in a row that nobody has.
fn free_ports(count: u16) -> u16 {
    let taken = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_err();
    // Tests run at the same time: each begins where no other does.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let turn = NEXT.fetch_add(200, Ordering::Relaxed) as u16;
    let start = 20_000 + (std::process::id() % 9_000) as u16 + turn;
    (start..32_000)
        .step_by(usize::from(count))
        .find(|base| (*base..base + count).all(|port| !taken(port)))
        .expect("some free ports")
}

fn pool(instances: u32, base: u16, more: &str) -> String {
    let server = std::env::current_exe().unwrap();
    format!(
        r#"
[worker.web]
command = ["{}", "--exact", "rolling::a_server_answers_what_it_is_asked", "--nocapture"]
instances = {instances}
port = {{ base = {base} }}
env = {{ SERVE = "{{port}}" }}
ready = {{ log = "listening on" }}
stop = {{ drain = "500ms", timeout = "10s" }}
{more}

[ladder.default]
verify = "300ms"
"#,
        server.display()
    )
}

/// Ends the others when the test ends, also when it fails: their scope waits for them.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The load balancer's list of who is ready, and how few there ever were.
#[derive(Default)]
struct Backends {
    ready: Mutex<Vec<SocketAddr>>,
    fewest: AtomicUsize,
    over: AtomicBool,
}

impl Backends {
    fn follow(&self, socket: &Path, base: u16) {
        self.fewest.store(usize::MAX, Ordering::Relaxed);
        while !self.over.load(Ordering::Relaxed) {
            let Some(status) = status(socket) else { continue };
            let all = status["workers"].as_array().cloned().unwrap_or_default();
            let ready: Vec<SocketAddr> = all
                .iter()
                .filter(|one| one["ready"] == true)
                .filter_map(|one| one["instance"].as_str()?.rsplit('/').next()?.parse::<u16>().ok())
                .map(|index| SocketAddr::from(([127, 0, 0, 1], base + index)))
                .collect();
            self.fewest.fetch_min(ready.len(), Ordering::Relaxed);
            *self.ready.lock().unwrap() = ready;
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

fn status(socket: &Path) -> Option<Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

/// What the client saw.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    done: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Sends at a fixed rate, whatever becomes of what was sent before, until it is over.
fn load(backends: &Arc<Backends>, tally: &Arc<Tally>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut open = tokio::task::JoinSet::new();
        let mut clock = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
        while !backends.over.load(Ordering::Relaxed) {
            clock.tick().await;
            let turn = tally.sent.fetch_add(1, Ordering::Relaxed);
            let ready = backends.ready.lock().unwrap();
            let backend = ready.get(turn as usize % ready.len().max(1)).copied();
            drop(ready);
            let tally = Arc::clone(tally);
            open.spawn(async move {
                let outcome = match backend {
                    Some(address) => get(address).await,
                    None => Err("nobody is ready".to_owned()),
                };
                match outcome {
                    Ok(()) => drop(tally.done.fetch_add(1, Ordering::Relaxed)),
                    Err(why) => tally.failures.lock().unwrap().push(why),
                }
            });
            while open.try_join_next().is_some() {}
        }
        while open.join_next().await.is_some() {}
    });
}

fn pids(rig: &Rig) -> Vec<(String, u64)> {
    let status = rig.status();
    let all = status["workers"].as_array().unwrap().iter();
    all.map(|one| (one["instance"].as_str().unwrap().to_owned(), one["pid"].as_u64().unwrap_or(0))).collect()
}

fn all_ready(rig: &Rig, count: usize) {
    rig.wait(&format!("{count} instances are ready"), || {
        let status = rig.status();
        let all = status["workers"].as_array().unwrap();
        all.len() == count && all.iter().all(|one| one["ready"] == true)
    });
}

#[test]
fn under_load_no_request_fails_while_a_pool_is_restarted_rolling() {
    let base = free_ports(4);
    let rig = Rig::start(&pool(3, base, ""));
    all_ready(&rig, 3);
    let before = pids(&rig);
    let (backends, tally) = (Arc::new(Backends::default()), Arc::new(Tally::default()));
    let socket: PathBuf = rig.path(".regrow/regrow.sock");
    let began = Instant::now();
    std::thread::scope(|scope| {
        let over = Over(&backends.over);
        scope.spawn(|| backends.follow(&socket, base));
        rig.wait("the client knows all three", || backends.ready.lock().unwrap().len() == 3);
        backends.fewest.store(3, Ordering::Relaxed);
        scope.spawn(|| load(&backends, &tally));
        rig.wait("the load has begun", || tally.done.load(Ordering::Relaxed) > 100);
        let out = rig.regrow(&["restart", "web", "--rolling", "--wait=60s"]);
        drop(over);
        assert!(out.status.success(), "{out:?}\n{}", rig.output());
    });
    let seconds = began.elapsed().as_secs_f64();
    let (sent, done) = (tally.sent.load(Ordering::Relaxed), tally.done.load(Ordering::Relaxed));
    let failures = tally.failures.lock().unwrap();
    println!(
        "{sent} requests in {seconds:.1} s, {:.0}/s: {done} done, {} failed",
        sent as f64 / seconds,
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {sent} failed, such as {:?}\n{}",
        failures.len(),
        failures.first(),
        rig.output()
    );
    assert_eq!(sent, done);
    assert_eq!(backends.fewest.load(Ordering::Relaxed), 3, "there were never fewer ready than before");
    all_ready(&rig, 3);
    for ((instance, old), (same, new)) in before.iter().zip(pids(&rig)) {
        assert!(*instance == same && *old != new, "{instance} is the same process as before");
    }
}

#[test]
fn a_roll_whose_new_instance_does_not_come_up_leaves_the_old_ones_and_says_why() {
    let base = free_ports(3);
    let rig = Rig::start(&pool(2, base, "start_timeout = \"5s\""));
    all_ready(&rig, 2);
    let before = pids(&rig);
    // The copy's port belongs to somebody else, whom no configuration knows.
    let _squatter = TcpListener::bind(("127.0.0.1", base + 2)).unwrap();
    let out = rig.regrow(&["restart", "web", "--rolling", "--wait=60s"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.contains("the new web/2 did not"), "{said}");
    all_ready(&rig, 2);
    assert_eq!(pids(&rig), before);
}

#[test]
fn a_rolling_restart_of_a_single_worker_has_no_copy_and_says_so() {
    let rig = Rig::start("[worker.w]\ncommand = [\"sleep\", \"1000\"]\n");
    rig.wait_status("w", "healthy");
    let said = rig.ok(&["restart", "w", "--rolling"]);
    assert!(said.contains("one instance"), "{said}");
    rig.wait("it was restarted", || rig.worker("w")["incarnation"] == 2 && rig.worker("w")["ready"] == true);
}

#[test]
fn scale_touches_only_the_difference_and_lasts_until_the_file_says_another_number() {
    let toml = "[worker.w]\ncommand = [\"sleep\", \"1000\"]\ninstances = 2\n";
    let mut rig = Rig::start(toml);
    all_ready(&rig, 2);
    let first = pids(&rig);
    rig.ok(&["scale", "w", "4", "--wait"]);
    all_ready(&rig, 4);
    let names: Vec<String> = pids(&rig).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["w/0", "w/1", "w/2", "w/3"]);
    assert_eq!(pids(&rig)[..2], first);
    rig.ok(&["scale", "w", "3", "--wait"]);
    all_ready(&rig, 3);
    assert_eq!(pids(&rig)[..2], first);
    let added = "\n[worker.other]\ncommand = [\"sleep\", \"1000\"]\n";
    rig.configure(&format!("{toml}{added}"));
    rig.ok(&["apply"]);
    all_ready(&rig, 4);
    rig.configure(toml);
    rig.ok(&["apply"]);
    all_ready(&rig, 3);
    assert_eq!(pids(&rig)[..2], first);
    let events = rig.ok(&["events", "--kind", "worker.scaled", "-o", "json"]);
    assert!(events.contains("\"instances\""), "{events}");
    let status = rig.status();
    let restarts = status["workers"].as_array().unwrap().iter().map(|one| one["restarts"].as_u64().unwrap());
    assert_eq!(restarts.sum::<u64>(), 0, "nothing of it counts as a restart");
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.launch();
    all_ready(&rig, 3);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
    rig.configure(&toml.replace("instances = 2", "instances = 5"));
    rig.launch();
    all_ready(&rig, 5);
    assert_eq!(rig.code(&["scale", "w", "0"]), 2);
    let one = rig.regrow(&["scale", "w/0", "3"]);
    assert_eq!(one.status.code(), Some(2), "{one:?}");
    assert!(String::from_utf8_lossy(&one.stderr).contains("`regrow scale w 3` sets it"), "{one:?}");
    assert_eq!(rig.code(&["scale", "sup:root", "3"]), 2);
    assert_eq!(rig.code(&["pause", "sup:root"]), 2);
    assert_eq!(rig.code(&["scale", "nobody", "2"]), 4);
}

#[test]
fn an_instance_that_is_too_large_is_replaced_and_that_is_no_failure() {
    let rig = Rig::start(
        r#"
[worker.w]
command = ["sh", "-c", "echo $$ >> {dir}/starts; test $(wc -l < {dir}/starts) -gt 1 || x=$(base64 /dev/zero | head -c 60000000); sleep 1000"]
recycle = { memory = "40MiB" }
[ladder.default]
verify = "100ms"
"#,
    );
    rig.wait("it was replaced", || rig.witness("starts").len() == 2 && rig.worker("w")["ready"] == true);
    let events = rig.ok(&["events", "-o", "json"]);
    assert!(events.contains("recycle: ") && events.contains("the limit is 40MiB"), "{events}");
    assert!(!events.contains("worker.exited"), "it was asked to end: {events}");
    let described = rig.ok(&["describe", "w", "-o", "json"]);
    assert!(!described.contains("\"recovering\""), "{described}");
    // It was started anew, and for no cause: nobody asked, and nothing failed.
    let detail: serde_json::Value = serde_json::from_str(&described).unwrap();
    let detail = &detail["items"][0];
    assert_eq!((&detail["restarts"], &detail["restarts_by_cause"]), (&1.into(), &serde_json::json!({})));
    let why = rig.ok(&["why", "w"]);
    assert!(why.contains("it was restarted 1 time (1 as `recycle` says)"), "{why}");
}

#[test]
fn a_pool_that_is_old_is_replaced_one_by_one_and_never_has_fewer() {
    let base = free_ports(3);
    let rig = Rig::start(&pool(2, base, "recycle = { after = \"4s\", jitter = 0.0 }"));
    all_ready(&rig, 2);
    let before = pids(&rig);
    let (backends, socket) = (Backends::default(), rig.path(".regrow/regrow.sock"));
    std::thread::scope(|scope| {
        let over = Over(&backends.over);
        scope.spawn(|| backends.follow(&socket, base));
        rig.wait("the client knows both", || backends.ready.lock().unwrap().len() == 2);
        backends.fewest.store(2, Ordering::Relaxed);
        rig.wait_at_most(Duration::from_secs(60), "both are replaced", || {
            let now = pids(&rig);
            before.iter().all(|(id, old)| now.iter().any(|(same, new)| same == id && *new != 0 && new != old))
        });
        drop(over);
    });
    assert!(backends.fewest.load(Ordering::Relaxed) >= 2, "there were never fewer ready than before");
}

#[test]
fn who_is_still_ending_is_shown_until_it_is_gone_whatever_else_is_changed() {
    let mut rig = Rig::new("");
    let dir = rig.path("").display().to_string();
    rig.configure(&format!(
        "[worker.w]\ninstances = 2\nstop.timeout = \"10m\"\nready.log = \"here\"\ncommand = [\"sh\", \"-c\", \"trap 'test ! -e \
         {dir}/go || exit 0' TERM; echo here; while :; do sleep 0.1; done\"]\n[worker.x]\ncommand = [\"sleep\", \"1000\"]\n"
    ));
    rig.launch();
    all_ready(&rig, 3);
    let leaver = u32::try_from(rig.worker("w/1")["pid"].as_u64().unwrap()).unwrap();
    rig.ok(&["scale", "w", "1"]);
    rig.wait_phase("w/1", "stopping");
    for number in ["2", "3", "1"] {
        rig.ok(&["scale", "x", number, "--wait"]);
        assert_eq!(rig.worker("w/1")["pid"], leaver, "x has {number}");
    }
    std::fs::write(rig.path("go"), "").unwrap();
    send(leaver, rustix::process::Signal::TERM);
    rig.wait("it is gone", || rig.code(&["describe", "w/1"]) == 4);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
}

#[test]
fn who_is_removed_while_its_supervisor_ends_is_gone_with_it() {
    let mut rig = Rig::new("");
    let dir = rig.path("").display().to_string();
    let web = format!(
        "[worker.web]\nstop.timeout = \"10m\"\nready.log = \"here\"\ncommand = [\"sh\", \"-c\", \"trap 'test ! -e {dir}/go || exit 0' \
         TERM; echo here; while :; do sleep 0.1; done\"]\n"
    );
    let rest = |children: &str| {
        format!("[worker.api]\ncommand = [\"sleep\", \"1000\"]\n[supervisor.a]\nchildren = [{children}]\n")
    };
    rig.configure(&(web + &rest("\"api\", \"web\"")));
    rig.launch();
    all_ready(&rig, 2);
    let leaver = u32::try_from(rig.worker("web")["pid"].as_u64().unwrap()).unwrap();
    rig.ok(&["restart", "sup:a"]);
    rig.wait_phase("web", "stopping");
    rig.configure(&rest("\"api\""));
    rig.ok(&["apply"]);
    std::fs::write(rig.path("go"), "").unwrap();
    send(leaver, rustix::process::Signal::TERM);
    rig.wait("it is gone", || rig.code(&["describe", "web"]) == 4);
    all_ready(&rig, 1);
    rig.ok(&["shutdown"]);
    assert_eq!(rig.wait_end(), 0);
}
