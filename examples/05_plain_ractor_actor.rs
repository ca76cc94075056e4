//! Lesson 5: an actor that was written for ractor and knows nothing of regrow. It is supervised like any other worker.
//!
//! ```text
//! cargo run --example 05_plain_ractor_actor
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::collections::HashMap;
use std::time::Duration;

use regrow::ractor::{Actor, ActorProcessingErr, ActorRef};
use regrow::{Asker, Reply, Runtime};

struct Counter;

enum Count {
    Up(u64, Reply<u64>),
    Stop,
}

impl Actor for Counter {
    type Msg = Count;
    type State = u64;
    type Arguments = u64;

    async fn pre_start(&self, _: ActorRef<Count>, from: u64) -> Result<u64, ActorProcessingErr> {
        println!("counter: starts at {from}");
        Ok(from)
    }

    async fn handle(
        &self,
        myself: ActorRef<Count>,
        message: Count,
        sum: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Count::Up(by, reply) => {
                *sum = sum.checked_add(by).ok_or("that is more than it can count")?;
                reply.send(*sum);
            }
            Count::Stop => myself.stop(None),
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Count>, sum: &mut u64) -> Result<(), ActorProcessingErr> {
        println!("counter: stops at {sum}");
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state = std::env::temp_dir().join(format!("regrow-lesson-{}", std::process::id()));
    let handle = Runtime::builder()
        // Called for every incarnation, with the `config` of the worker.
        .ractor("Counter", |config: HashMap<String, u64>, _| Ok((Counter, config["from"])))
        .toml("[worker.counter]\nactor = \"Counter\"\nconfig.from = 3\n")
        .set("runtime.state_dir", state.display().to_string())
        .start()
        .await?;
    handle.wait_ready(PATIENCE).await?;
    let counter = handle.address::<Count>("counter")?;
    println!("up by 4: {}", counter.call(|sum| Count::Up(4, sum)).await?);
    let too_much = counter.call(|sum| Count::Up(u64::MAX, sum)).await;
    handle.until("counter", PATIENCE, |worker| worker.ready && worker.restarts == 1).await?;
    println!("up by too much: {too_much:?}");
    println!("up by 1: {}", counter.call(|sum| Count::Up(1, sum)).await?);
    counter.cast(Count::Stop)?;
    handle.until("counter", PATIENCE, |worker| worker.ready && worker.restarts == 2).await?;
    handle.shutdown(Asker("the lesson".to_owned())).await;
    println!("ended: {:?}", handle.finished().await);
    std::fs::remove_dir_all(state)?;
    Ok(())
}
