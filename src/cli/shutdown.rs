//! `regrow shutdown`: ends the runtime and its workers in order.

use std::time::Duration;

use clap::Args;

use super::args::{Format, WaitFlag};
use super::client::{Client, EventStream};
use super::context::{Context, block_on};
use super::failure::Failure;
use super::words::safe;

/// Between two looks whether the socket is gone.
const LOOK: Duration = Duration::from_millis(50);

/// Nobody takes a connection for so many looks: there is nobody.
const SILENT: u32 = 40;

/// Options of `shutdown`.
#[derive(Debug, Args)]
pub(crate) struct ShutdownArgs {
    #[command(flatten)]
    wait: WaitFlag,
}

pub(crate) fn run(context: &mut Context, args: ShutdownArgs) -> Result<(), Failure> {
    let client = context.client()?;
    block_on(async {
        // Opened first: its end is the runtime's.
        let events = client.stream("/api/v1/events").await?;
        let asked = client.post("/api/v1/shutdown", None).await?;
        if let Some(limit) = args.wait.wait {
            let ended = tokio::time::timeout(limit, ended(&client, events)).await;
            ended.map_err(|_| {
                Failure::WaitRanOut(format!(
                    "the runtime is still ending after {}; a second SIGTERM to it kills what remains",
                    crate::units::format_duration(limit)
                ))
            })??;
        }
        match context.format() {
            Format::Json | Format::Jsonl => {
                let whole = serde_json::json!({ "schema": "regrow.shutdown/1", "ok": true, "message": asked.message });
                context.print_json(&whole, std::slice::from_ref(&whole))
            }
            Format::Name => Ok(()),
            Format::Table | Format::Wide | Format::Csv => {
                context.print(&format!("{}\n", safe(&asked.message)))
            }
        }
    })
}

async fn ended(client: &Client, mut events: EventStream) -> Result<(), Failure> {
    while events.next().await.is_some() {}
    // One that was killed meanwhile leaves its socket there, behind which nobody is.
    let mut silent = 0;
    while client.socket().exists() && silent < SILENT {
        silent = if client.answers() { 0 } else { silent + 1 };
        tokio::time::sleep(LOOK).await;
    }
    if silent < SILENT || !client.socket().exists() {
        return Ok(());
    }
    let text =
        "the runtime was gone before it had ended, and its workers may live: `regrow start` finds them";
    Err(Failure::Failed(text.to_owned()))
}
