//! Lesson 1: a worker is a type with a `start`. It panics, and its supervisor starts it again.
//!
//! ```text
//! cargo run --example 01_first_worker
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::time::Duration;

use regrow::{Asker, Context, Reply, Restored, Runtime, Worker, WorkerError};

struct Printer;

/// A page, and where the printer says that it is printed.
type Page = (&'static str, Reply<()>);

impl Worker for Printer {
    type Config = ();
    type State = ();
    type Message = Page;

    async fn start(ctx: Context<Self>, (): (), _: Restored<()>) -> Result<Self, WorkerError> {
        println!("printer: incarnation {} is ready", ctx.incarnation());
        Ok(Self)
    }

    async fn message(&mut self, (text, printed): Page, _: &Context<Self>) -> Result<(), WorkerError> {
        assert!(!text.is_empty(), "an empty page");
        println!("printer: {text}");
        printed.send(());
        Ok(())
    }
}

/// Longer than anything takes, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let state = std::env::temp_dir().join(format!("regrow-lesson-{}", std::process::id()));
    let handle = Runtime::builder()
        .worker::<Printer>("Printer")
        .panic_hook()
        .toml("[worker.printer]\nactor = \"Printer\"\n")
        .set("runtime.state_dir", state.display().to_string())
        .start()
        .await?;
    handle.wait_ready(PATIENCE).await?;
    let printer = handle.address::<Page>("printer")?;
    printer.call(|printed| ("hello", printed)).await?;
    let answer = printer.call(|printed| ("", printed)).await;

    // An address is good for all incarnations.
    handle.until("printer", PATIENCE, |worker| worker.ready && worker.restarts == 1).await?;
    println!("an empty page: {answer:?}");
    printer.call(|printed| ("hello again", printed)).await?;
    for worker in handle.status().instances {
        println!(
            "{}: last exit: {}",
            worker.instance,
            worker.last_exit.map_or(String::new(), |last| last.message)
        );
    }
    handle.shutdown(Asker("the lesson".to_owned())).await;
    println!("ended: {:?}", handle.finished().await);
    std::fs::remove_dir_all(state)?;
    Ok(())
}
