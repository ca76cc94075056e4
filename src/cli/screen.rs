//! Lines for whoever looks on, written by a thread of their own.
//!
//! A terminal that was halted and a pipe whose reader stands still take nothing for as long as they like. What they tell
//! of must not wait for that: a runtime goes on answering signals and ends when it is asked to. So lines wait in a queue
//! of bounded length; what finds no room is counted, and the count stands where it is missing.

use std::io::{ErrorKind, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::failure::Failure;
use super::words::plural;

/// Texts that wait at most. One is up to some hundred lines.
const WAITING: usize = 16;

/// Whoever reads at all has read the last lines by then.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The thread hands lines over and colours them.
const STACK: usize = 128 * 1024;

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, for people.
    Out,
    /// Standard output, a JSON document a line.
    Json,
    /// Standard error.
    Error,
}

/// Somebody who looks on.
pub(crate) struct Screen {
    stream: Stream,
    /// `None` once nobody reads any more.
    texts: Option<SyncSender<String>>,
    /// Its other end goes with the thread.
    ended: Receiver<()>,
    lost: u64,
}

impl Screen {
    /// Lines to this stream.
    pub(crate) fn on(stream: Stream) -> Result<Self, Failure> {
        let (write, plain): (Box<dyn Write + Send>, _) = match stream {
            Stream::Out | Stream::Json => {
                let out = anstream::stdout();
                let plain = out.current_choice() == anstream::ColorChoice::Never;
                (Box::new(out), plain)
            }
            Stream::Error => {
                let out = anstream::stderr();
                let plain = out.current_choice() == anstream::ColorChoice::Never;
                (Box::new(out), plain)
            }
        };
        Self::into(stream, write, plain)
    }

    /// The same into anything; `plain`: without colours.
    fn into(stream: Stream, mut out: Box<dyn Write + Send>, plain: bool) -> Result<Self, Failure> {
        let (texts, come) = sync_channel::<String>(WAITING);
        let (end, ended) = sync_channel(0);
        let work = move || {
            let _end: SyncSender<()> = end;
            for mut text in come {
                text.push('\n');
                if plain {
                    // Left to the stream, each stretch between two colours would be a write of its own.
                    text = anstream::adapter::strip_str(&text).to_string();
                }
                // Once nobody reads, there is nothing left to do. A full disk may have room for the next one.
                let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
                if written.is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("regrow-screen".to_owned())
            .stack_size(STACK)
            .spawn(work)
            .map_err(|error| Failure::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self { stream, texts: Some(texts), ended, lost: 0 })
    }

    /// Shows lines, the last one without its end. Never waits.
    pub(crate) fn print(&mut self, lines: &str) {
        let Some(texts) = &self.texts else { return };
        let gap = self.gap();
        match texts.try_send(format!("{gap}{lines}")) {
            Ok(()) => self.lost = 0,
            Err(TrySendError::Full(_)) => self.lost += lines.lines().count() as u64,
            Err(TrySendError::Disconnected(_)) => self.texts = None,
        }
    }

    /// Whether somebody may read on, as far as the last line showed.
    pub(crate) fn has_reader(&self) -> bool {
        self.texts.is_some()
    }

    /// What is missing before the next line.
    fn gap(&self) -> String {
        match (self.lost, self.stream) {
            (0, _) => String::new(),
            (lost, Stream::Json) => format!("{{\"schema\":\"regrow.lost/1\",\"lost\":{lost}}}\n"),
            (lost, Stream::Out | Stream::Error) => {
                format!("… {} here that nobody read in time\n", plural(lost, "line"))
            }
        }
    }

    /// Waits a moment for the last lines to be read.
    pub(crate) fn close(mut self) {
        drop(self.texts.take());
        // It has ended, or it is held up for longer than anybody wants to wait.
        let _: Result<(), RecvTimeoutError> = self.ended.recv_timeout(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn whoever_reads_gets_every_line_in_its_order() {
        let (mut read, write) = std::io::pipe().unwrap();
        let mut screen = Screen::into(Stream::Out, Box::new(write), true).unwrap();
        for line in ["one", "\u{1b}[1mtwo\u{1b}[0m", "three\nfour"] {
            screen.print(line);
        }
        screen.close();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn whoever_reads_nothing_holds_nobody_up_and_hears_what_is_missing() {
        let (read, write) = std::io::pipe().unwrap();
        let mut screen = Screen::into(Stream::Out, Box::new(write), true).unwrap();
        let line = "x".repeat(1 << 16);
        for _ in 0..100 {
            screen.print(&line);
        }
        assert!(screen.lost > 50, "{}", screen.lost);
        let lost = screen.lost;
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(read));
        let mut next = || lines.next().unwrap().unwrap();
        assert_eq!(next(), line);
        // Taking one line out makes room for another sooner or later.
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while screen.lost > 0 && std::time::Instant::now() < deadline {
            screen.lost = lost;
            screen.print("the last");
            std::thread::yield_now();
        }
        screen.close();
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert_eq!(rest.last().map(String::as_str), Some("the last"));
        assert_eq!(rest[rest.len() - 2], format!("… {lost} lines here that nobody read in time"));
    }

    #[test]
    fn once_the_reader_has_gone_there_is_nothing_left_to_do() {
        let (read, write) = std::io::pipe().unwrap();
        let mut screen = Screen::into(Stream::Json, Box::new(write), true).unwrap();
        drop(read);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while screen.texts.is_some() && std::time::Instant::now() < deadline {
            screen.print("{}");
            std::thread::yield_now();
        }
        assert!(screen.texts.is_none());
        screen.close();
    }
}
