//! Lesson 2: what a worker keeps: a state is there after a panic, and in the next run of the program.
//!
//! ```text
//! cargo run --example 02_state
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::time::Duration;

use regrow::{Asker, Context, Reply, Restored, Runtime, Worker, WorkerError};

struct Till(u64);

enum Say {
    // Where it must be sure, the money is safe once it answers.
    Sell { price: u64, sure: bool, sum: Reply<u64> },
    Break,
}

impl Worker for Till {
    type Config = ();
    type State = u64;
    type Message = Say;

    async fn start(ctx: Context<Self>, (): (), restored: Restored<u64>) -> Result<Self, WorkerError> {
        let sum = match restored {
            Restored::Fresh => 0,
            Restored::Saved { state, .. } => state,
            Restored::Unreadable { reason } => Err(reason)?,
        };
        println!("till, incarnation {}: {sum} is in it", ctx.incarnation());
        Ok(Self(sum))
    }

    async fn message(&mut self, message: Say, ctx: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Say::Sell { price, sure, sum } => {
                self.0 += price;
                if sure {
                    ctx.save(&self.0).await?;
                }
                sum.send(self.0);
            }
            Say::Break => panic!("the drawer is stuck"),
        }
        Ok(())
    }

    // Asked now and then, and before an orderly end.
    async fn snapshot(&mut self) -> Option<u64> {
        Some(self.0)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state = std::env::temp_dir().join(format!("regrow-lesson-{}", std::process::id()));
    for run in 1..=2 {
        println!("run {run} of the program");
        let builder = Runtime::builder().worker::<Till>("Till").toml("[worker.till]\nactor = \"Till\"\n");
        let handle = builder.set("runtime.state_dir", state.display().to_string()).start().await?;
        handle.wait_ready(Duration::from_secs(60)).await?;
        let till = handle.address("till")?;
        let sell = |price, sure| till.call(move |sum| Say::Sell { price, sure, sum });
        println!("sold for 5, in it: {}", sell(5, true).await?);
        till.cast(Say::Break)?;
        handle.until("till", Duration::from_secs(60), |worker| worker.ready && worker.restarts == 1).await?;
        println!("sold for 2, in it: {}", sell(2, false).await?);
        handle.shutdown(Asker("the lesson".to_owned())).await;
        println!("ended: {:?}", handle.finished().await);
    }
    std::fs::remove_dir_all(state)?;
    Ok(())
}
