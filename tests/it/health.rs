//! Workers that run and do not work: found, healed, and never confused with a runtime that was itself halted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::rig::{Rig, alive, send};

/// A worker that writes its pid on every start.
const WITNESS: &str = r#"["sh", "-c", "echo $$ >> {dir}/starts; exec sleep 999"]"#;

/// Beats five times a second; once `{dir}/quiet` is there it takes it away and is silent for ever.
const BEATS: &str = r#"["python3", "-c", '''
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"READY=1")
open("{dir}/starts", "a").write(str(os.getpid()) + "\n")
while True:
    if os.path.exists("{dir}/quiet"):
        os.remove("{dir}/quiet")
        time.sleep(999)
    s.send(b"WATCHDOG=1")
    time.sleep(0.2)
''']"#;

fn pids(rig: &Rig) -> Vec<u32> {
    rig.witness("starts").iter().filter_map(|line| line.trim().parse().ok()).collect()
}

/// A runtime whose probes look often.
fn often(toml: &str) -> Rig {
    let mut rig = Rig::new(toml);
    let mut command = rig.command(&["start", "--interval", "500ms"]);
    rig.launch_as(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig
}

#[test]
fn a_worker_that_is_halted_is_found_and_healed() {
    let rig = often(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait_status("web", "healthy");
    rig.wait("it wrote its pid", || pids(&rig).len() == 1);
    send(pids(&rig)[0], Signal::STOP);
    rig.wait("another one runs", || pids(&rig).len() == 2);
    rig.wait_status("web", "healthy");
    let web = rig.worker("web");
    assert_eq!((&web["restarts"], &web["last_exit"]["kind"]), (&1.into(), &"stopped".into()), "{web}");
    assert!(web["last_exit"]["message"].as_str().unwrap().contains("halted by a signal"), "{web}");
    assert!(!alive(pids(&rig)[0]));
    let told = rig.ok(&["events", "--kind", "health.changed", "-o", "jsonl"]);
    assert!(told.contains("\"hang\""), "{told}");
}

#[test]
fn a_probe_of_the_process_says_so_takes_it_back_and_follows_a_restart() {
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = {WITNESS}\nrestart = \"temporary\"\n\
         probe.main = {{ process = {{}}, period = \"200ms\", retry_period = \"100ms\" }}\n"
    ));
    let says_so = || {
        let web = rig.worker("web");
        let issues = web["issues"].as_array().unwrap();
        let halted =
            |issue: &str| issue.starts_with("probe main failed") && issue.contains("halted by a signal");
        issues.iter().filter_map(serde_json::Value::as_str).any(halted)
    };
    for start in 1..=2 {
        rig.wait_status("web", "healthy");
        rig.wait("it wrote its pid", || pids(&rig).len() == start);
        send(pids(&rig)[start - 1], Signal::STOP);
        rig.wait("its probe says that it is halted", says_so);
        assert!(alive(pids(&rig)[start - 1]), "a temporary worker is never restarted");
        send(pids(&rig)[start - 1], Signal::CONT);
        rig.wait("its probe takes it back", || !says_so());
        rig.wait_status("web", "healthy");
        rig.ok(&["restart", "web", "--wait=30s"]);
    }
}

/// An HTTP endpoint that the test stops and lets go.
struct Endpoint {
    port: u16,
    hangs: Arc<AtomicBool>,
}

impl Endpoint {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let hangs = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&hangs);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                if seen.load(Ordering::SeqCst) {
                    held.push(stream);
                } else {
                    held.clear();
                    answer(stream);
                }
            }
        });
        Self { port, hangs }
    }
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    // Who hangs up in the middle is none of the test's business.
    let _ = stream.read(&mut request);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nup\n");
}

#[test]
fn an_endpoint_that_hangs_is_found_and_healed() {
    let endpoint = Endpoint::open();
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = {WITNESS}\nready = \"probe\"\n\
         probe.up = {{ http = {{ url = \"http://127.0.0.1:{}/\", expect_body = \"up\" }}, period = \"200ms\", retry_period = \"100ms\", timeout = \"2s\" }}\n",
        endpoint.port
    ));
    rig.wait_status("web", "healthy");
    let web = rig.worker("web");
    assert_eq!((&web["score"], &web["ready"]), (&1.0.into(), &true.into()), "{web}");
    endpoint.hangs.store(true, Ordering::SeqCst);
    rig.wait("another one is started", || pids(&rig).len() == 2);
    endpoint.hangs.store(false, Ordering::SeqCst);
    rig.wait_status("web", "healthy");
    let web = rig.worker("web");
    assert!(web["last_exit"]["message"].as_str().unwrap().contains("no answer within 2s"), "{web}");
    let causes = rig.ok(&["describe", "web", "-o", "json"]);
    assert!(causes.contains("\"probe_failed\""), "{causes}");
}

#[test]
fn a_dead_main_loop_behind_a_live_heartbeat_is_found_and_healed() {
    let rig = Rig::start(
        r#"[worker.web]
ready = "notify"
heartbeat = { interval = "1s", late = "25s", lost = "30s", dead = "60s" }
command = ["python3", "-c", '''
import os, socket, threading, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
def beat():
    while True:
        s.send(b"WATCHDOG=1")
        time.sleep(0.2)
threading.Thread(target=beat, daemon=True).start()
s.send(b"READY=1")
open("{dir}/starts", "a").write(str(os.getpid()) + "\n")
while True:
    if os.path.exists("{dir}/die"):
        os.remove("{dir}/die")
        threading.Event().wait()
    open("{dir}/pulse", "w").close()
    time.sleep(0.05)
''']
[worker.web.probe.pulse]
exec = ["sh", "-c", "rm -f {dir}/pulse; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -e {dir}/pulse ] && exit 0; sleep 0.2; done; echo no pulse; exit 1"]
period = "500ms"
timeout = "20s"
failure_threshold = 2
"#,
    );
    rig.wait_status("web", "healthy");
    std::fs::write(rig.path("die"), "").unwrap();
    rig.wait_at_most(Duration::from_secs(90), "another one is started", || pids(&rig).len() == 2);
    rig.wait_status("web", "healthy");
    let web = rig.worker("web");
    assert!(web["last_exit"]["message"].as_str().unwrap().contains("no pulse"), "{web}");
    assert!(web["last_heartbeat_at"].is_string(), "its heartbeat never stopped: {web}");
}

#[test]
fn a_lost_heartbeat_is_found_and_healed() {
    let rig = Rig::start(&format!(
        "[worker.web]\nready = \"notify\"\ncommand = {BEATS}\n\
         heartbeat = {{ interval = \"1s\", late = \"2s\", lost = \"4s\", dead = \"8s\" }}\n"
    ));
    rig.wait_status("web", "healthy");
    std::fs::write(rig.path("quiet"), "").unwrap();
    rig.wait("another one is started", || pids(&rig).len() == 2);
    rig.wait_status("web", "healthy");
    let web = rig.worker("web");
    assert!(web["last_exit"]["message"].as_str().unwrap().contains("no heartbeat for"), "{web}");
}

#[test]
fn a_runtime_that_is_halted_blames_nobody() {
    let endpoint = Endpoint::open();
    let rig = Rig::start(&format!(
        "[worker.beats]\nready = \"notify\"\ncommand = {BEATS}\n\
         heartbeat = {{ interval = \"1s\", late = \"4s\", lost = \"5s\", dead = \"6s\" }}\n\
         [worker.web]\ncommand = [\"sleep\", \"999\"]\n\
         probe.up = {{ http = {{ url = \"http://127.0.0.1:{}/\" }}, period = \"100ms\", retry_period = \"100ms\", timeout = \"3s\", failure_threshold = 2 }}\n",
        endpoint.port
    ));
    rig.wait_status("beats", "healthy");
    rig.wait_status("web", "healthy");
    let beat = || rig.worker("beats")["last_heartbeat_at"].as_str().unwrap_or_default().to_owned();
    rig.wait("it beats", || !beat().is_empty());
    for _ in 0..2 {
        let before = beat();
        rig.signal(Signal::STOP);
        // Longer than the heartbeat may be silent, and than two looks may take.
        std::thread::sleep(Duration::from_secs(7));
        rig.signal(Signal::CONT);
        rig.wait("it is heard again", || beat() > before);
    }
    rig.wait_status("beats", "healthy");
    rig.wait_status("web", "healthy");
    for worker in ["beats", "web"] {
        assert_eq!(rig.worker(worker)["restarts"], 0, "{worker}\n{}", rig.output());
    }
}

#[test]
fn a_readiness_that_came_while_the_runtime_was_halted_came_in_time() {
    let mut rig = Rig::new(
        "[worker.web]\nready = \"notify\"\nstart_timeout = \"8s\"\ncommand = [\"python3\", \"-c\", \"\"\"\n\
         import os, socket, time\n\
         open('{dir}/up', 'w').close()\n\
         while not os.path.exists('{dir}/go'): time.sleep(0.05)\n\
         socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n\
         time.sleep(999)\n\
         \"\"\"]\n",
    );
    rig.launch();
    rig.wait("it is about to be ready", || rig.path("up").exists());
    rig.signal(Signal::STOP);
    std::fs::write(rig.path("go"), "").unwrap();
    // Longer than the start may take.
    std::thread::sleep(Duration::from_secs(9));
    rig.signal(Signal::CONT);
    rig.wait_status("web", "healthy");
    assert_eq!(rig.worker("web")["restarts"], 0, "{}", rig.output());
}

#[test]
fn a_probe_that_breaks_makes_unknown_and_restarts_nobody() {
    let rig = Rig::start(&format!(
        "[worker.web]\ncommand = {WITNESS}\n\
         probe.gone = {{ exec = [\"/there/is/no/such/program\"], period = \"50ms\", retry_period = \"50ms\" }}\n"
    ));
    let blind = || rig.ok(&["events", "--kind", "incident.opened", "-o", "jsonl"]);
    rig.wait("somebody is told that nobody can see", || blind().contains("none of its probes works"));
    assert!(blind().contains("\"monitor\""), "{}", blind());
    let web = rig.worker("web");
    assert_eq!((&web["health"], &web["restarts"]), (&"unknown".into(), &0.into()), "{web}");
    assert!(web["issues"][0].as_str().unwrap().contains("probe gone does not work"), "{web}");
    assert_eq!(rig.code(&["is-healthy", "web"]), 3);
    assert_eq!(pids(&rig).len(), 1);
    let incidents = || rig.ok(&["incidents", "-o", "json"]);
    let monitor =
        |text: &str| text.contains("\"cause\":\"monitor\"") || text.contains("\"cause\": \"monitor\"");
    rig.wait("it is an incident of who watches", || monitor(&incidents()));
    rig.ok(&["restart", "web", "--wait=30s"]);
    rig.wait("which ends with the incarnation", || incidents().contains("could not be seen is over"));
    assert_eq!(pids(&rig).len(), 2, "and nobody was restarted for it");
}

#[test]
fn a_probe_that_hangs_is_killed_with_its_children() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sleep\", \"999\"]\nrestart = \"temporary\"\n\
         probe.slow = { exec = [\"sh\", \"-c\", \"sleep 998 & echo $! > {dir}/new; mv {dir}/new {dir}/child; wait\"], period = \"10m\", retry_period = \"10m\", timeout = \"1s\", failure_threshold = 1 }\n",
    );
    rig.wait_status("web", "unhealthy");
    let child = || rig.text("child").trim().parse::<u32>().ok();
    // On a machine where the shell did not get so far, there was no child.
    if let Some(child) = child() {
        rig.wait("its child is gone", || !alive(child));
    }
    assert_eq!(rig.worker("web")["restarts"], 0, "a temporary worker is never restarted");
    let page = rig.ok(&["describe", "web"]);
    assert!(page.contains("no answer within 1s") && page.contains("score 0.30"), "{page}");
}

#[test]
fn a_nagios_plugin_speaks_with_its_exit_code_and_its_figures() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sleep\", \"999\"]\n\
         probe.load = { exec = { command = [\"sh\", \"-c\", \"echo 'LOAD WARNING - 9.5|load1=9.5;8;16;0'; exit 1\"], format = \"nagios\" } }\n",
    );
    rig.wait_status("web", "degraded");
    let body: serde_json::Value = serde_json::from_str(&rig.ok(&["describe", "web", "-o", "json"])).unwrap();
    let probes = body["items"][0]["probes"].as_array().unwrap();
    let load = probes.iter().find(|probe| probe["probe"] == "load").unwrap();
    assert_eq!(load["last"]["metrics"]["load1"], 9.5, "{load}");
    assert_eq!((&load["result"], &load["kind"]), (&"warn".into(), &"liveness".into()));
    assert_eq!(body["items"][0]["score"], 0.75);
}

#[test]
fn e8_a_fault_that_all_share_restarts_a_few_and_not_the_fleet() {
    let endpoint = Endpoint::open();
    let rig = Rig::start(&format!(
        "[recovery]\nmin_failing = 2\nmax_unavailable = 0.1\n\
         [worker.web]\ncommand = [\"sleep\", \"999\"]\ninstances = 20\n\
         probe.up = {{ http = {{ url = \"http://127.0.0.1:{}/\" }}, period = \"500ms\", retry_period = \"200ms\", timeout = \"2s\" }}\n",
        endpoint.port
    ));
    let workers = || rig.status()["workers"].as_array().unwrap().clone();
    let all_well = || workers().iter().all(|worker| worker["status"] == "healthy");
    rig.wait("all are healthy", all_well);
    endpoint.hangs.store(true, Ordering::SeqCst);
    let told = || rig.ok(&["events", "--kind", "brake.changed", "-o", "jsonl"]);
    rig.wait("the brake is on", || told().contains("fell ill at once"));
    endpoint.hangs.store(false, Ordering::SeqCst);
    rig.wait_at_most(Duration::from_secs(120), "all are healthy again", all_well);
    let restarted = workers().iter().filter(|worker| worker["restarts"] != 0).count();
    assert!(restarted < 10, "{restarted} of 20 were restarted");
}

#[test]
fn a16_a_worker_that_is_about_to_run_out_of_files_is_told_of() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"python3\", \"-c\", \"import time; kept = [open('/dev/null') for _ in range(58)]; time.sleep(999)\"]\n\
         limits = { open_files = 64 }\nprobe.usage = { resources = {}, period = \"200ms\" }\n",
    );
    let web = || {
        let body = rig.ok(&["describe", "web", "-o", "json"]);
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["items"][0].clone()
    };
    let usage = |web: &serde_json::Value| {
        let probes = web["probes"].as_array().unwrap();
        probes.iter().find(|probe| probe["probe"] == "usage").map(|usage| usage["last"]["metrics"].clone())
    };
    // Right after its start it has no memory yet, and figures are read anew only now and then.
    rig.wait("all files are open and seen, and its memory", || {
        usage(&web()).is_some_and(|metrics| {
            metrics["open_files"].as_f64() > Some(58.0)
                && metrics["memory_working_set_bytes"].as_f64() > Some(0.0)
        })
    });
    rig.wait_status("web", "degraded");
    let web = web();
    assert!(web["issues"][0].as_str().unwrap().contains("of 64 allowed files are open"), "{web}");
    let metrics = usage(&web).unwrap();
    for figure in ["threads", "memory_working_set_bytes"] {
        assert!(metrics[figure].as_f64() > Some(0.0), "{figure}: {web}");
    }
}

#[test]
fn a_card_is_looked_at_through_the_drivers_library_where_there_is_one() {
    let rig = Rig::new(
        "[worker.web]\ncommand = [\"sleep\", \"999\"]\n\
         probe.card = { gpu = { memory = { warn = 0.85, crit = 0.90 } }, period = \"200ms\", retry_period = \"200ms\" }\n",
    );
    let library = rig.path("libnvidia-ml.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/nvml.c");
    let built =
        std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success());
    let mut rig = rig;
    let mut command = rig.command(&["start"]);
    command.env("LD_LIBRARY_PATH", rig.path(""));
    rig.launch_as(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig.wait_status("web", "degraded");
    let body: serde_json::Value = serde_json::from_str(&rig.ok(&["describe", "web", "-o", "json"])).unwrap();
    let web = &body["items"][0];
    assert!(web["issues"][0].as_str().unwrap().contains("the memory of GPU 1 is 87 % full"), "{web}");
    let card = web["probes"].as_array().unwrap().iter().find(|probe| probe["probe"] == "card").unwrap();
    let metrics = &card["last"]["metrics"];
    assert_eq!(
        (&metrics["gpu0_memory_used_ratio"], &metrics["gpu0_utilization_ratio"]),
        (&0.12.into(), &0.4.into())
    );
    assert_eq!(
        (&metrics["gpu1_memory_used_ratio"], metrics.get("gpu1_utilization_ratio")),
        (&0.87.into(), None)
    );
}
