//! Output that passes through: byte for byte to the runtime's own stdout or stderr, so that `regrow run -- CMD` can
//! stand in a pipe where `CMD` stood.
//!
//! It waits for its reader as long as the command itself would: nothing is dropped, split, marked or escaped. While
//! it waits, the FIFO behind it fills, and the command waits too. That holds up the output thread, which is why no
//! configuration can ask for it: `run` has one worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};

use super::read::StreamName;

/// One stream's way out.
pub(super) struct Through {
    out: OwnedFd,
}

impl Through {
    /// To the runtime's stdout or stderr.
    pub(super) fn own(name: StreamName) -> io::Result<Self> {
        let out = match name {
            StreamName::Stdout => io::stdout().as_fd().try_clone_to_owned()?,
            StreamName::Stderr => io::stderr().as_fd().try_clone_to_owned()?,
        };
        Ok(Self { out })
    }

    /// Writes everything, however long that takes.
    ///
    /// # Errors
    /// The reader has gone, or the file cannot take it.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.out, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::INTR) => {}
                // Whoever shares the open file has made it non-blocking.
                Err(rustix::io::Errno::AGAIN) => self.wait_for_room()?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_slow_reader_that_shares_a_non_blocking_pipe_gets_every_byte() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let expected = bytes.clone();
        let thread = std::thread::spawn(move || Through { out: writer.into() }.write(&bytes).unwrap());
        let mut found = Vec::new();
        reader.read_to_end(&mut found).unwrap();
        thread.join().unwrap();
        assert!(found == expected);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let error = Through { out: writer.into() }.write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
