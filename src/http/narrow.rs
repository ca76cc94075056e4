//! A connection that came in through the last descriptor: at its end that one is the spare one again.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::worker::process::LentSpare;

/// A connection whose descriptor can be had back.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The descriptor, still open.
    fn into_fd(self) -> io::Result<OwnedFd>;
}

impl Stream for TcpStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

impl Stream for UnixStream {
    fn into_fd(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

/// The connection, and whose room it stands in.
pub(super) struct Narrow<'a, T: Stream> {
    stream: Option<T>,
    lent: LentSpare<'a>,
}

impl<'a, T: Stream> Narrow<'a, T> {
    pub(super) fn new(stream: T, lent: LentSpare<'a>) -> Self {
        Self { stream: Some(stream), lent }
    }

    fn with<R>(&mut self, act: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match &mut self.stream {
            Some(stream) => act(Pin::new(stream)),
            // Only while it is being dropped.
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<T: Stream> Drop for Narrow<'_, T> {
    fn drop(&mut self) {
        if let Some(Ok(opened)) = self.stream.take().map(Stream::into_fd) {
            self.lent.take_place(opened);
        }
    }
}

impl<T: Stream> AsyncRead for Narrow<'_, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, into))
    }
}

impl<T: Stream> AsyncWrite for Narrow<'_, T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}
