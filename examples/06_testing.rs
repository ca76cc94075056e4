//! Lesson 6: testing a worker. On a stage time is paused, so a minute of waiting takes no time, and faults strike on
//! purpose. In a test of yours it is `#[tokio::test(start_paused = true)]` in place of `main`.
//!
//! ```text
//! cargo run --example 06_testing
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::time::Duration;

use regrow::testing::{Fault, Stage};
use regrow::{CallError, Context, EventKind, Reply, Restored, Runtime, Worker, WorkerError};

/// Looks something up, which takes it a minute.
struct Librarian;

impl Worker for Librarian {
    type Config = ();
    type State = ();
    type Message = Reply<&'static str>;

    async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        Ok(Self)
    }

    async fn message(&mut self, found: Reply<&'static str>, _: &Context<Self>) -> Result<(), WorkerError> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        found.send("page 7");
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let builder = Runtime::builder().worker::<Librarian>("Librarian").toml(
        "[worker.librarian]\nactor = \"Librarian\"\nbackoff = { first = \"10s\", jitter = 0 }\nstop.timeout = \"5s\"\n",
    );
    let stage = Stage::start(builder).await?;
    stage.until("librarian", |it| it.ready).await?;
    let librarian = stage.handle().address::<Reply<&'static str>>("librarian")?;
    assert_eq!(librarian.call(|found| found).await, Err(CallError::Timeout));
    let patient = librarian.with_patience(Duration::from_secs(3600));
    assert_eq!(patient.call(|found| found).await, Ok("page 7"));
    println!("two minutes later: {:?}", stage.now());

    stage.inject("librarian", Fault::Error("lost the catalogue".to_owned()))?;
    stage.until("librarian", |it| it.ready && it.restarts == 1).await?;
    stage.inject_at_start("librarian", Fault::SlowStart(Duration::from_secs(20)))?;
    stage.inject("librarian", Fault::Error("lost it again".to_owned()))?;
    stage.until("librarian", |it| it.ready && it.restarts == 2).await?;
    stage.inject("librarian", Fault::LostMessage)?;
    assert_eq!(patient.call(|found| found).await, Err(CallError::Timeout));
    stage.inject("librarian", Fault::Block(Duration::from_secs(600)))?;
    stage.handle().restart("librarian").await?;
    stage.until("librarian", |it| it.ready && it.restarts == 3).await?;

    // The first one names the process.
    for moment in stage.moments().iter().filter(|moment| moment.kind != EventKind::RuntimeStarted) {
        println!("{moment}");
    }
    println!("ended: {:?}", stage.end().await);
    Ok(())
}
