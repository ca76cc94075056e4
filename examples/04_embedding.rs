//! Lesson 4: a runtime inside of another program. The program asks it, changes it, and hears what happens; of the
//! process itself it takes nothing that it is not given (`panic_hook`, `raise_limits`, `private_memory`, `step_aside`).
//!
//! ```text
//! cargo run --example 04_embedding
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::time::Duration;

use regrow::{Asker, Context, EventKind, Reply, Restored, Runtime, Worker, WorkerError, WorkerSpec};

const PATIENCE: Duration = Duration::from_secs(60);

/// Says who it is.
struct Clerk;

impl Worker for Clerk {
    type Config = ();
    type State = ();
    type Message = Reply<String>;

    async fn start(_: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        Ok(Self)
    }

    async fn message(&mut self, name: Reply<String>, ctx: &Context<Self>) -> Result<(), WorkerError> {
        name.send(format!("{}, incarnation {}", ctx.instance(), ctx.incarnation()));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state = std::env::temp_dir().join(format!("regrow-lesson-{}", std::process::id()));
    let handle = Runtime::builder()
        .worker::<Clerk>("Clerk")
        .toml("[worker.till]\nactor = \"Clerk\"\n")
        .set("runtime.state_dir", state.display().to_string())
        .start()
        .await?;
    handle.wait_ready(PATIENCE).await?;
    let mut events = handle.events();

    // A worker that no file knows; it is gone with this runtime, or with `remove_worker`.
    let spec = WorkerSpec { after: vec!["till".to_owned()], ..WorkerSpec::actor("shelf", "Clerk") };
    handle.add_worker(spec.key("stop.timeout", "3s")).await?;
    handle.until("shelf", PATIENCE, |shelf| shelf.ready).await?;
    let shelf = handle.address::<Reply<String>>("shelf")?;
    println!("added: {}", shelf.call(|name| name).await?);
    handle.restart("shelf").await?;
    handle.until("shelf", PATIENCE, |shelf| shelf.ready && shelf.incarnation.0 == 2).await?;
    println!("restarted: {}", shelf.call(|name| name).await?);

    for id in handle.scale("till", 3).await? {
        handle.until(&id.to_string(), PATIENCE, |till| till.ready).await?;
        println!("scaled: {id} is ready");
    }
    handle.pause("shelf", Some(Duration::from_secs(3600))).await?;
    handle.until("shelf", PATIENCE, |shelf| shelf.status() == "paused").await?;
    for worker in handle.status().instances {
        println!("{}: {}", worker.instance, worker.status());
    }
    handle.remove_worker("shelf").await?;
    while let Some(heard) = events.next().await {
        if heard.event.kind == EventKind::WorkerRemoved {
            println!("heard: {}", heard.event.message);
            break;
        }
    }
    handle.shutdown(Asker("the lesson".to_owned())).await;
    println!("ended: {:?}", handle.finished().await);
    std::fs::remove_dir_all(state)?;
    Ok(())
}
