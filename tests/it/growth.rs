//! What must not grow, however often it happens.

use std::sync::Mutex;

use regrow::{Context, Restored, Runtime, Worker, WorkerError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::guest::Guest;
use crate::rig::PATIENCE;

/// Who was started, told to the test.
static STARTED: Mutex<Option<UnboundedSender<usize>>> = Mutex::new(None);

#[derive(serde::Deserialize)]
struct Place {
    index: usize,
}

/// A worker whose every message is its end.
struct Mortal;

enum End {
    Panic,
    Error,
}

impl Worker for Mortal {
    type Config = Place;
    type State = ();
    type Message = End;

    async fn start(_: Context<Self>, place: Place, _: Restored<()>) -> Result<Self, WorkerError> {
        if let Some(started) = STARTED.lock().unwrap().as_ref() {
            let _ = started.send(place.index);
        }
        Ok(Self)
    }

    async fn message(&mut self, end: End, _: &Context<Self>) -> Result<(), WorkerError> {
        match end {
            End::Panic => panic!("an end"),
            End::Error => Err("an end")?,
        }
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Lets the workers die in turn, as often as this.
async fn crash(guest: &Guest, started: &mut UnboundedReceiver<usize>, rounds: usize) {
    let workers: Vec<_> =
        (0..8).map(|index| guest.handle.address::<End>(&format!("w{index}")).unwrap()).collect();
    for round in 0..rounds {
        let next = tokio::time::timeout(PATIENCE, started.recv()).await.expect("it is started again");
        let end = if round % 4 == 0 { End::Panic } else { End::Error };
        // Its mailbox is open before its start begins.
        workers[next.unwrap()].cast(end).unwrap();
    }
}

/// A million restarts of actor workers in a whole runtime, after a warm-up: neither queues nor boards nor timers nor
/// what is kept of them in memory grow. Eight bytes for each restart is less than any allocation there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures its process's memory, so it runs alone: tests/run does that"]
async fn a_million_restarts_of_actors_grow_nothing() {
    let (tell, mut started) = unbounded_channel();
    *STARTED.lock().unwrap() = Some(tell);
    let mut toml = "[supervisor.root]\nintensity = { max_restarts = 100000, within = \"100ms\" }\n\
         [defaults.worker]\nactor = \"Mortal\"\nbackoff.first = \"0s\"\n"
        .to_owned();
    for index in 0..8 {
        toml.push_str(&format!("[worker.w{index}]\nconfig = {{ index = {index} }}\n"));
    }
    let guest = Guest::ready(Runtime::builder().worker::<Mortal>("Mortal"), &toml).await;
    crash(&guest, &mut started, 100_000).await;
    // On a busy machine queues may be longer once than they were before; what grows does so in each million.
    let mut grown = Vec::new();
    while grown.len() < 3 && grown.last().is_none_or(|bytes| *bytes >= 8 << 20) {
        let before = resident();
        crash(&guest, &mut started, 1_000_000).await;
        grown.push(resident().saturating_sub(before));
    }
    assert!(grown.last().is_some_and(|bytes| *bytes < 8 << 20), "{grown:?} bytes in a million restarts each");
    assert!(guest.handle.board().instances().iter().map(|entry| entry.restarts).sum::<u64>() > 1_099_000);
    guest.end().await;
}
