//! Lesson 3: talking to workers by their names; every way in which nobody answers has a name of its own.
//!
//! ```text
//! cargo run --example 03_calls
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::{sync::Arc, time::Duration};

use regrow::policy::Phase;
use regrow::{Asker, Context, Reply, Restored, Runtime, Worker, WorkerError, WorkerRef};
use tokio::sync::Notify;

struct Pricer(Vec<Reply<u64>>);

enum Ask {
    Price(&'static str, Reply<u64>),
    Meaning(Reply<u64>),
    Note,
    /// Until it is enough; the answer says that it has begun.
    Work(Arc<Notify>, Reply<()>),
}

impl Worker for Pricer {
    type Config = ();
    type State = ();
    type Message = Ask;
    const MAILBOX: usize = 2;

    async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        Ok(Self(Vec::new()))
    }

    async fn message(&mut self, message: Ask, _: &Context<Self>) -> Result<(), WorkerError> {
        match message {
            Ask::Price(what, reply) => reply.send(what.len() as u64),
            // Never answered.
            Ask::Meaning(reply) => self.0.push(reply),
            Ask::Note => {}
            Ask::Work(enough, begun) => {
                begun.send(());
                enough.notified().await;
            }
        }
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state = std::env::temp_dir().join(format!("regrow-lesson-{}", std::process::id()));
    let builder = Runtime::builder().worker::<Pricer>("Pricer").toml("[worker.pricer]\nactor = \"Pricer\"\n");
    let handle = builder.set("runtime.state_dir", state.display().to_string()).start().await?;
    handle.wait_ready(PATIENCE).await?;
    println!("nobody: {:?}", handle.address::<Ask>("picer"));
    println!("other words: {:?}", handle.address::<u64>("pricer"));

    let pricer: WorkerRef<Ask> = handle.address("pricer")?;
    println!("a pear costs {}", pricer.call(|price| Ask::Price("pear", price)).await?);
    let hasty = pricer.clone().with_patience(Duration::from_millis(20));
    println!("the meaning of it all: {:?}", hasty.call(Ask::Meaning).await);

    let enough = Arc::new(Notify::new());
    pricer.call(|begun| Ask::Work(Arc::clone(&enough), begun)).await?;
    let note = || pricer.cast(Ask::Note);
    println!("two may wait, a third may not: {:?} {:?} {:?}", note(), note(), note());
    enough.notify_one();

    handle.stop("pricer").await?;
    handle.until("pricer", PATIENCE, |worker| worker.phase == Phase::Stopped).await?;
    println!("stopped by hand: {:?}", pricer.call(|price| Ask::Price("pear", price)).await);
    handle.shutdown(Asker("the lesson".to_owned())).await;
    println!("ended: {:?}", handle.finished().await);
    std::fs::remove_dir_all(state)?;
    Ok(())
}
