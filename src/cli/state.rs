//! `regrow state`: what workers keep for themselves, put away and brought back.

use std::time::Duration;

use clap::{Args, Subcommand};
use hyper::Method;

use crate::http::dto::{StateView, StatesBody};
use crate::runtime::Target;

use super::args::Format;
use super::client::encode;
use super::context::{Context, block_on, parse_target};
use super::failure::Failure;
use super::table::{Cell, Table};
use super::words;

/// Options of `state`.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How large it is, and what was put away of it
    Show {
        /// Worker or instance
        worker: String,
    },
    /// Put it away; the next start finds none
    Archive {
        /// Worker or instance, stopped
        worker: String,
    },
    /// Bring back what was put away; what is there now is put away instead
    Restore {
        /// Worker or instance, stopped
        worker: String,
        /// Which, as `show` names it; else the newest
        archive: Option<String>,
    },
}

/// Directories may be large and disks slow.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(context: &mut Context, args: StateArgs) -> Result<(), Failure> {
    let (worker, verb, body) = match args.what {
        What::Show { worker } => (worker, None, None),
        What::Archive { worker } => (worker, Some("archive"), None),
        What::Restore { worker, archive } => {
            let body = archive.map(|archive| serde_json::json!({ "archive": archive }));
            (worker, Some("restore"), body)
        }
    };
    let target = match parse_target(&worker)? {
        target @ (Target::Worker(_) | Target::Instance(_)) => target,
        Target::Supervisor(_) | Target::All => {
            return Err(Failure::Usage("`state` wants a worker or an instance".to_owned()));
        }
    };
    let client = context.client()?;
    let path = format!("/api/v1/workers/{}/state", encode(&target.to_string()));
    let found: StatesBody = block_on(async {
        match verb {
            None => client.get_within(&path, PATIENCE).await,
            Some(verb) => {
                client.ask_for(Method::POST, &format!("{path}/{verb}"), body.as_ref(), PATIENCE).await
            }
        }
    })?;
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&found, &found.items),
        Format::Name => {
            let names: String = found.items.iter().map(|item| format!("{}\n", item.instance)).collect();
            context.print(&names)
        }
        Format::Csv => {
            let line = |item: &StateView| {
                let put_away = words::csv(&item.archives.join(" "));
                format!("{},{},{},{},{put_away}\n", item.instance, item.identity, item.files, item.bytes)
            };
            let lines = found.items.iter().map(line).collect::<String>();
            context.print(&format!("instance,identity,files,bytes,put_away\n{lines}"))
        }
        Format::Table | Format::Wide => {
            let mut table = Table::new(&["INSTANCE", "IDENTITY", "FILES", "SIZE", "PUT AWAY"]);
            for item in &found.items {
                table.row(vec![
                    Cell::new(item.instance.clone()),
                    Cell::figure(words::count(item.identity)),
                    Cell::figure(words::count(item.files)),
                    Cell::figure(words::size(item.bytes)),
                    Cell::new(if item.archives.is_empty() {
                        "-".to_owned()
                    } else {
                        item.archives.join(" ")
                    }),
                ]);
            }
            context.print(&table.render(context.width()))
        }
    }
}
