//! How a command can fail, and the exit code of each: the one table of contract §3.

use crate::runtime::StartError;

use super::say::say;
use super::screen::{Screen, Stream};
use super::words::safe;

/// Every way not to exit with 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: it was tried and failed.
    Failed(String),
    /// 2: what was typed makes no sense, or the verb does not fit the kind of target.
    Usage(String),
    /// 3: not running or not healthy. Said by the verb itself; the text may be empty.
    NotHealthy(String),
    /// 4: nothing has that name.
    NoTarget(String),
    /// 5: no runtime answers.
    Unreachable(String),
    /// 6: the configuration is invalid. The text is the diagnostics.
    Config(String),
    /// 7: not permitted.
    NotPermitted(String),
    /// 8: `--wait` ran out.
    WaitRanOut(String),
    /// The code of a supervised command, of `run`.
    Code(u8),
    /// Whoever read the output has gone; nobody is left to be told.
    ReaderGone,
}

impl Failure {
    /// What was followed is over, because the runtime is.
    pub(crate) fn ended() -> Self {
        Self::Unreachable("the runtime has ended".to_owned())
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotHealthy(_) => 3,
            Self::NoTarget(_) => 4,
            Self::Unreachable(_) => 5,
            Self::Config(_) => 6,
            Self::NotPermitted(_) => 7,
            Self::WaitRanOut(_) => 8,
            Self::Code(code) => *code,
        }
    }

    /// What was printed, whether somebody read it to its end or not: an exit code is an answer, too.
    pub(crate) fn but_for_readers(printed: Result<(), Self>) -> Result<(), Self> {
        match printed {
            Err(Self::ReaderGone) => Ok(()),
            printed => printed,
        }
    }

    /// Says it on stderr.
    pub(crate) fn print(&self) {
        if let Some(text) = self.text() {
            say(text);
        }
    }

    /// The same of a runtime that has ended, which waits a moment only for whoever reads nothing: its workers are gone,
    /// and nobody hears its signals any more.
    pub(crate) fn print_in_passing(&self) {
        let Some(text) = self.text() else { return };
        match Screen::on(Stream::Error) {
            Ok(mut screen) => {
                screen.print(&text);
                screen.close();
            }
            // Without a thread to spare it is said here.
            Err(_) => say(text),
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Self::ReaderGone | Self::Code(_) => None,
            Self::NotHealthy(text) if text.is_empty() => None,
            Self::Config(text) => Some(text.clone()),
            Self::Failed(text)
            | Self::Usage(text)
            | Self::NotHealthy(text)
            | Self::NoTarget(text)
            | Self::Unreachable(text)
            | Self::NotPermitted(text)
            | Self::WaitRanOut(text) => Some(format!("regrow: {}", harmless(text))),
        }
    }
}

/// The last words of a worker may be in it; line breaks are its own.
fn harmless(text: &str) -> String {
    text.split('\n').map(safe).collect::<Vec<_>>().join("\n")
}

impl From<std::io::Error> for Failure {
    /// Errors of writing to stdout; those of other files are wrapped where they happen.
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::ReaderGone
        } else {
            Self::Failed(format!("cannot print: {error}"))
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(problems) => Self::Config(problems),
            StartError::StateDir { .. }
            | StartError::Busy { .. }
            | StartError::Moved { .. }
            | StartError::Listen { .. }
            | StartError::System { .. } => Self::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_codes_are_the_contracts() {
        let text = String::new;
        let codes = [
            Failure::ReaderGone,
            Failure::Failed(text()),
            Failure::Usage(text()),
            Failure::NotHealthy(text()),
            Failure::NoTarget(text()),
            Failure::Unreachable(text()),
            Failure::Config(text()),
            Failure::NotPermitted(text()),
            Failure::WaitRanOut(text()),
        ];
        for (code, failure) in codes.iter().enumerate() {
            assert_eq!(usize::from(failure.code()), code);
        }
        assert_eq!(Failure::Code(130).code(), 130);
        assert_eq!(harmless("a\u{1b}[2J\n  b"), "a\\x1b[2J\n  b");
        assert!(Failure::but_for_readers(Err(Failure::ReaderGone)).is_ok());
        assert!(Failure::but_for_readers(Err(Failure::Failed(text()))).is_err());
    }
}
