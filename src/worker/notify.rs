//! The notify socket: what a worker says about itself in systemd's words (sd_notify).
//!
//! A program written for systemd works unchanged: it sends datagrams of `KEY=value` lines to `$NOTIFY_SOCKET`. The kernel
//! vouches for who sent them (`SCM_CREDENTIALS`), so a worker cannot speak for another one: each instance has a socket of
//! its own, and whoever receives compares the pid with the tree.
//!
//! **Limits.** A datagram counts up to [`MAX_DATAGRAM`] bytes; one descriptor per datagram is kept (`BARRIER=1`), any
//! other is closed at once, so nobody can use up ours. How many datagrams wait is bounded by the kernel
//! (`net.unix.max_dgram_qlen`, ten by default), then the sender waits: a flood of notifications blocks its own sender.
//!
//! Deliberately absent: `FDSTORE=1` (a worker's descriptors live and die with it), and abstract sockets (they have no
//! mode). The pid is the sender's as this process's pid namespace knows it; only a sender outside of it has none, and
//! the socket's directory keeps such a one away.

use std::io;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, UCred,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Longest datagram that is understood, in bytes; systemd's own limit. What is longer is cut there.
pub(crate) const MAX_DATAGRAM: usize = 4096;
/// Longest `STATUS=` text, in bytes: one line of a terminal, several times over.
pub(crate) const MAX_STATUS: usize = 512;
/// Descriptors that the control buffer takes: the barrier's, and a few that are closed. The kernel never hands over
/// what does not fit.
const MAX_FDS: usize = 4;

/// One thing a worker said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotifyMessage {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`
    Reloading,
    /// `STOPPING=1`
    Stopping,
    /// `WATCHDOG=1`
    Beat,
    /// `WATCHDOG=trigger`
    Distress,
    /// `STATUS=`, safe to show, at most [`MAX_STATUS`] bytes.
    Status(String),
    /// `MAINPID=`; whether it is one of the worker's processes is for the reader to check.
    MainPid(u32),
    /// `EXTEND_TIMEOUT_USEC=`
    Extend(Duration),
    /// `BARRIER=1`: the sender waits until its descriptor is closed.
    Barrier,
}

/// One datagram.
#[derive(Debug)]
pub(crate) struct Notification {
    /// Who sent it, by the kernel's word.
    pub(crate) pid: u32,
    /// As which user.
    pub(crate) uid: u32,
    /// What it said, in its order.
    pub(crate) messages: Vec<NotifyMessage>,
    /// Drop it once everything said before is dealt with: the sender waits for that.
    pub(crate) barrier: Option<OwnedFd>,
}

/// The receiving end of `$NOTIFY_SOCKET`.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
}

impl NotifySocket {
    /// Binds `path`, mode 0600 whatever the umask. A socket that is there is taken for a stale one and replaced;
    /// anything else there is an error. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The path is taken by something else, longer than 107 bytes, or not writable.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let socket = bind_private(path, SocketType::DGRAM)?;
        Ok(Self { socket: UnixDatagram::from_std(socket.into())? })
    }

    /// The next datagram. Losing the race in a `select!` loses nothing. One task at a time can wait for it.
    ///
    /// # Errors
    /// The socket is broken; a bad datagram never is an error.
    pub(crate) async fn recv(&self) -> io::Result<Notification> {
        // By hand: the usual way takes ten times the memory for each worker that says nothing.
        std::future::poll_fn(|context| {
            loop {
                std::task::ready!(self.socket.poll_recv_ready(context))?;
                match self.socket.try_io(Interest::READABLE, || receive(self.socket.as_fd())) {
                    Ok(Some(notification)) => return Poll::Ready(Ok(notification)),
                    Ok(None) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }
}

/// Binds a socket that its owner alone can reach, from its first moment on.
///
/// # Errors
/// The path is taken by something that is no socket, longer than 107 bytes, or not writable.
pub(super) fn bind_private(path: &Path, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    // Before it has a name: no datagram may come without credentials, and no moment exists in which others may send.
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let address = SocketAddrUnix::new(path)?;
    match rustix::net::bind(&socket, &address) {
        Err(rustix::io::Errno::ADDRINUSE) => {
            remove_stale(path)?;
            rustix::net::bind(&socket, &address)?;
        }
        done => done?,
    }
    restore_mode(path)?;
    Ok(socket)
}

/// One datagram; `None` if the kernel did not say who sent it.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let mut bytes = [0; MAX_DATAGRAM];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)
    })?;
    let (sender, fd) = take_control(&mut control);
    let Some(sender) = sender else { return Ok(None) };
    let messages = parse(&bytes[..received.bytes.min(MAX_DATAGRAM)]);
    let barrier = fd.filter(|_| messages.contains(&NotifyMessage::Barrier));
    let pid = sender.pid.as_raw_nonzero().get().unsigned_abs();
    Ok(Some(Notification { pid, uid: sender.uid.as_raw(), messages, barrier }))
}

/// The sender and the first descriptor; every other one is closed by being dropped.
fn take_control(control: &mut RecvAncillaryBuffer<'_>) -> (Option<UCred>, Option<OwnedFd>) {
    let (mut sender, mut first) = (None, None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials),
            RecvAncillaryMessage::ScmRights(fds) => {
                for fd in fds {
                    first.get_or_insert(fd);
                }
            }
            _ => {}
        }
    }
    (sender, first)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => {
            let what = format!("{} is there and is not a socket", path.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A umask can only have taken bits away. Given back through a handle on the socket itself: a link that somebody put in
/// its place is not followed.
fn restore_mode(path: &Path) -> io::Result<()> {
    let file = std::fs::File::from(rustix::fs::open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    let meta = file.metadata()?;
    if meta.permissions().mode() & 0o777 == 0o600 {
        return Ok(());
    }
    if !meta.file_type().is_socket() {
        return Err(io::Error::other(format!("{} was replaced", path.display())));
    }
    let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(handle, std::fs::Permissions::from_mode(0o600))
}

/// Understands a datagram. Unknown keys, bad numbers and lines without `=` are ignored, as systemd does: a newer
/// program must be able to speak to an older runtime.
pub(crate) fn parse(datagram: &[u8]) -> Vec<NotifyMessage> {
    datagram.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<NotifyMessage> {
    let at = memchr::memchr(b'=', line)?;
    let (key, value) = (&line[..at], &line[at + 1..]);
    match (key, value) {
        (b"READY", b"1") => Some(NotifyMessage::Ready),
        (b"RELOADING", b"1") => Some(NotifyMessage::Reloading),
        (b"STOPPING", b"1") => Some(NotifyMessage::Stopping),
        (b"WATCHDOG", b"1") => Some(NotifyMessage::Beat),
        (b"WATCHDOG", b"trigger") => Some(NotifyMessage::Distress),
        (b"BARRIER", b"1") => Some(NotifyMessage::Barrier),
        (b"STATUS", text) => Some(NotifyMessage::Status(shown(text))),
        (b"MAINPID", pid) => number(pid).and_then(main_pid),
        (b"EXTEND_TIMEOUT_USEC", time) => {
            number(time).map(|usec| NotifyMessage::Extend(Duration::from_micros(usec)))
        }
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    // `parse` would take a leading `+`, which no sender means.
    let text =
        std::str::from_utf8(value).ok().filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))?;
    text.parse().ok()
}

fn main_pid(pid: u64) -> Option<NotifyMessage> {
    i32::try_from(pid).ok().filter(|pid| *pid > 0).map(|pid| NotifyMessage::MainPid(pid.unsigned_abs()))
}

/// At most [`MAX_STATUS`] bytes. Control characters become spaces: the text goes into tables, logs and alerts.
pub(super) fn shown(text: &[u8]) -> String {
    let mut shown = String::new();
    for c in String::from_utf8_lossy(&text[..text.len().min(MAX_STATUS)]).chars() {
        let c = if c.is_control() { ' ' } else { c };
        if shown.len() + c.len_utf8() > MAX_STATUS {
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read};
    use std::os::unix::net::UnixDatagram as Sender;

    use proptest::prelude::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    #[test]
    fn every_word_of_the_contract_is_understood_and_nothing_else() {
        let said = parse(
            b"READY=1\nRELOADING=1\nMONOTONIC_USEC=5\nWATCHDOG=1\nWATCHDOG=trigger\nSTATUS=half \xff\x1b done\nSTOPPING=1\n\
              MAINPID=77\nEXTEND_TIMEOUT_USEC=1500000\nBARRIER=1\nERRNO=2\nREADY=0\nMAINPID=-1\nMAINPID=+3\nMAINPID=0\n\
              MAINPID=9999999999\nEXTEND_TIMEOUT_USEC=x\nnonsense\n=\n\n",
        );
        assert_eq!(
            said,
            [
                NotifyMessage::Ready,
                NotifyMessage::Reloading,
                NotifyMessage::Beat,
                NotifyMessage::Distress,
                NotifyMessage::Status("half \u{fffd}  done".to_owned()),
                NotifyMessage::Stopping,
                NotifyMessage::MainPid(77),
                NotifyMessage::Extend(Duration::from_millis(1500)),
                NotifyMessage::Barrier,
            ]
        );
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived_and_a_status_stays_short(
            bytes in proptest::collection::vec(prop_oneof![Just(b'='), Just(b'\n'), any::<u8>()], 0..2000),
            key in "(STATUS|MAINPID|EXTEND_TIMEOUT_USEC|READY)?",
        ) {
            let datagram = [key.as_bytes(), b"=", &bytes].concat();
            for message in parse(&datagram) {
                if let NotifyMessage::Status(text) = message {
                    prop_assert!(text.len() <= MAX_STATUS && !text.chars().any(char::is_control));
                }
            }
        }
    }

    async fn next(socket: &NotifySocket) -> Notification {
        tokio::time::timeout(Duration::from_secs(20), socket.recv()).await.unwrap().unwrap()
    }

    fn send_with_fds(path: &Path, text: &[u8], fds: &[BorrowedFd<'_>]) {
        let sender = Sender::unbound().unwrap();
        sender.connect(path).unwrap();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        rustix::net::sendmsg(&sender, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
    }

    #[tokio::test]
    async fn the_kernel_says_who_spoke_and_only_the_owner_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        drop(NotifySocket::bind(&path).unwrap());
        let socket = NotifySocket::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        Sender::unbound().unwrap().send_to(b"READY=1\nSTATUS=up", &path).unwrap();
        let said = next(&socket).await;
        assert_eq!(said.pid, std::process::id());
        assert_eq!(said.uid, rustix::process::getuid().as_raw());
        assert_eq!(said.messages, [NotifyMessage::Ready, NotifyMessage::Status("up".to_owned())]);
        assert!(said.barrier.is_none());
    }

    #[tokio::test]
    async fn a_barrier_opens_when_its_notification_is_dropped_and_other_descriptors_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::bind(&path).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let fds = [writer.as_fd(); 8];
        send_with_fds(&path, b"BARRIER=1", &fds);
        send_with_fds(&path, b"STATUS=no barrier", &fds[..2]);
        drop(writer);
        let said = next(&socket).await;
        assert!(said.barrier.is_some() && said.messages == [NotifyMessage::Barrier]);
        assert!(next(&socket).await.barrier.is_none());
        let still_open = reader.read(&mut [0]).unwrap_err();
        assert_eq!(still_open.kind(), io::ErrorKind::WouldBlock);
        drop(said);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0, "every copy is closed");
    }

    #[tokio::test]
    async fn a_datagram_too_long_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = NotifySocket::bind(&path).unwrap();
        let mut long = b"READY=1\n".to_vec();
        long.resize(2 * MAX_DATAGRAM, b'x');
        Sender::unbound().unwrap().send_to(&long, &path).unwrap();
        assert_eq!(next(&socket).await.messages, [NotifyMessage::Ready]);
    }

    #[tokio::test]
    async fn a_file_in_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(NotifySocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
