//! `add` and `remove`: workers that come and go while everything runs.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use hyper::Method;

use crate::http::dto::Accepted;

use super::act;
use super::args::WaitFlag;
use super::client::encode;
use super::context::{Context, block_on};
use super::failure::Failure;

/// An earlier change may have to end first.
const PATIENCE: Duration = Duration::from_secs(60);

/// Options of `add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// A [template.NAME] of the file
    template: String,
    /// The new worker's name
    id: String,
    /// Values for the template's parameters
    #[arg(value_name = "PARAM=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
    #[command(flatten)]
    wait: WaitFlag,
}

/// Options of `remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// A worker that was added
    worker: String,
    #[command(flatten)]
    wait: WaitFlag,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn add(context: &mut Context, args: AddArgs) -> Result<(), Failure> {
    let mut params = BTreeMap::new();
    for (name, value) in args.params {
        if params.contains_key(&name) {
            return Err(Failure::Usage(format!("`{name}` is given twice")));
        }
        params.insert(name, value);
    }
    let body = serde_json::json!({ "template": args.template, "id": args.id, "params": params });
    ask(context, "add", Method::POST, "/api/v1/workers", Some(&body), args.wait.wait)
}

pub(crate) fn remove(context: &mut Context, args: RemoveArgs) -> Result<(), Failure> {
    // A name that is none must not become another path.
    let id: crate::id::Name = crate::id::Name::try_new(&args.worker)
        .map_err(|error| Failure::NoTarget(format!("`{}` is no worker's name: {error}", args.worker)))?;
    let path = format!("/api/v1/workers/{}", encode(id.as_str()));
    ask(context, "remove", Method::DELETE, &path, None, args.wait.wait)
}

fn ask(
    context: &mut Context,
    verb: &str,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let client = context.client()?;
    block_on(async {
        let accepted: Accepted = client.ask_for(method, path, body, PATIENCE).await?;
        act::warn(std::slice::from_ref(&accepted));
        match wait {
            None => act::print_accepted(context, verb, &[accepted]),
            Some(limit) => act::see_through(context, &client, verb, &[accepted], limit).await,
        }
    })
}
