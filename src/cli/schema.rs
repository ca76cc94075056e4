//! `regrow schema`: the JSON Schema of the configuration file, for editors.
//!
//! Whatever `-o` says, what is printed is the schema itself: a document in a form of its own, which tools read.

use clap::Args;

use super::context::Context;
use super::failure::Failure;

/// Options of `schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {}

pub(crate) fn run(context: &mut Context, _: SchemaArgs) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&crate::config::json_schema())
        .map_err(|error| Failure::Failed(format!("cannot print: {error}")))?;
    context.print(&format!("{text}\n"))
}
