//! `regrow version`

use super::args::Format;
use super::context::Context;
use super::failure::Failure;

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match context.format() {
        Format::Json | Format::Jsonl => {
            let whole = serde_json::json!({ "schema": "regrow.version/1", "version": version });
            context.print_json(&whole, std::slice::from_ref(&whole))
        }
        Format::Table | Format::Wide | Format::Csv | Format::Name => {
            context.print(&format!("regrow {version}\n"))
        }
    }
}
