//! What every verb needs: where the runtime is, how to print, and one small event loop.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::args::{Format, Global, Targets};
use super::client::Client;
use super::failure::Failure;
use super::locate;
use super::words::harmless_json;
use crate::runtime::Target;
use crate::worker::in_process::Registry;
use crate::worker::unix::HeldSignals;

/// One call of the program.
pub(crate) struct Context {
    pub(crate) global: Global,
    /// The actors of this program.
    pub(crate) registry: Registry,
    /// How often every probe looks, where the command line says so.
    pub(crate) interval: Option<std::time::Duration>,
    /// Signals that wait until a runtime hears them.
    pub(crate) held: Option<HeldSignals>,
    out: anstream::AutoStream<std::io::Stdout>,
}

impl Context {
    pub(crate) fn new(global: Global, registry: Registry) -> Self {
        Self { global, registry, interval: None, held: None, out: anstream::stdout() }
    }

    /// How to print.
    pub(crate) fn format(&self) -> Format {
        self.global.output
    }

    /// Where to print; colours are taken out if nobody would see them.
    pub(crate) fn out(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// Whether a person looks at the output.
    pub(crate) fn is_terminal(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Columns of the terminal, where there is one.
    pub(crate) fn width(&self) -> Option<usize> {
        if !self.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        (size.ws_col > 0).then_some(usize::from(size.ws_col))
    }

    /// Lines of the terminal, where there is one.
    pub(crate) fn height(&self) -> Option<usize> {
        if !self.is_terminal() {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        (size.ws_row > 0).then_some(usize::from(size.ws_row))
    }

    /// The runtime that the options name.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(locate::socket(&self.global)?))
    }

    /// Prints one document, or, as `jsonl`, each of its items, which carry its schema where they have none of their own.
    pub(crate) fn print_json<T: Serialize, I: Serialize>(
        &mut self,
        whole: &T,
        items: &[I],
    ) -> Result<(), Failure> {
        let wrap = |error: serde_json::Error| Failure::Failed(format!("cannot print: {error}"));
        if self.format() == Format::Jsonl {
            let whole = serde_json::to_value(whole).map_err(wrap)?;
            for item in items {
                let line = serde_json::to_string(item).map_err(wrap)?;
                let own = serde_json::to_value(item).map_err(wrap)?.get("schema").is_some();
                let line = if own { line } else { with_schema(line, &whole["schema"]) };
                writeln!(self.out, "{}", harmless_json(line))?;
            }
        } else {
            let text = serde_json::to_string_pretty(whole).map_err(wrap)?;
            writeln!(self.out, "{}", harmless_json(text))?;
        }
        self.out.flush()?;
        Ok(())
    }

    /// Prints text that was made by a pure function.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        Ok(())
    }

    /// Prints bytes of others exactly as they are; only for what is no terminal.
    pub(crate) fn print_raw(&mut self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }
}

/// A line of JSON with the schema of the document that it is a part of.
pub(crate) fn with_schema(line: String, schema: &serde_json::Value) -> String {
    match line.strip_prefix('{').filter(|_| !schema.is_null()) {
        Some("}") => format!("{{\"schema\":{schema}}}"),
        Some(rest) => format!("{{\"schema\":{schema},{rest}"),
        None => line,
    }
}

/// Runs a verb's asynchronous part.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let own = tokio::runtime::Builder::new_current_thread().enable_all().build();
    own.map_err(|error| Failure::Failed(format!("cannot start an event loop: {error}")))?.block_on(work)
}

/// What TARGET… and `--all` mean.
pub(crate) fn parse_targets(targets: &Targets) -> Result<Vec<Target>, Failure> {
    if targets.all {
        return Ok(vec![Target::All]);
    }
    targets.targets.iter().map(|text| parse_target(text)).collect()
}

/// One TARGET.
pub(crate) fn parse_target(text: &str) -> Result<Target, Failure> {
    // What cannot be a name is the name of nothing.
    text.parse().map_err(|error: crate::runtime::TargetError| Failure::NoTarget(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_what_it_is() {
        let schema = serde_json::json!("regrow.status/1");
        let line = |text: &str| with_schema(text.to_owned(), &schema);
        assert_eq!(line("{\"a\":1}"), "{\"schema\":\"regrow.status/1\",\"a\":1}");
        assert_eq!(line("{}"), "{\"schema\":\"regrow.status/1\"}");
        assert_eq!(line("\"a\""), "\"a\"", "what is no object has no place for it");
    }
}
