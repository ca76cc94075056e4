//! Programs that go into the background: their pid file, and the one that runs already.
//!
//! A pid in a file proves nothing: the file may be years old, and its number anybody's by now. So the process is opened
//! first and looked at then. One that a start of ours left behind must be of our tree; one that is taken over must be
//! the same user's, and run what the command would.

use std::ffi::{CStr, CString, OsStr};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::worker::unix::{Ended, Image, end_of_stranger, pidfd_open, poll_ended};

/// Longer than any pid with what editors and daemons put around it.
const MAX_PID_FILE: u64 = 64;

/// The pid that a file names. Never blocks, whatever stands in its place.
pub(super) fn read_pid(path: &Path) -> Option<u32> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_PID_FILE).read_to_end(&mut text).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok().filter(|pid| *pid > 1)
}

/// Why a file names no pid, for people.
pub(super) fn why_no_pid(path: &Path) -> String {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "was not written".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
        Ok(metadata) if !metadata.is_file() => "is no plain file".to_owned(),
        Ok(_) => "names no pid".to_owned(),
    }
}

/// A running process that the file names and that is what the image would become, as this user.
pub(super) fn running(path: &Path, image: &Image, uid: u32) -> Option<(u32, OwnedFd)> {
    let pid = read_pid(path).filter(|pid| *pid != std::process::id())?;
    let pidfd = pidfd_open(pid).ok()?;
    let is_it = user_of(pid) == Some(uid) && runs(pid, image);
    // Still alive, so everything that was read was its own.
    (is_it && !poll_ended(&pidfd)).then_some((pid, pidfd))
}

fn user_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether it runs the image's program; under an interpreter, the image's script.
fn runs(pid: u32, image: &Image) -> bool {
    let directory = path(&image.directory);
    let Some(program) =
        image.candidates.iter().map(|candidate| directory.join(path(candidate))).find(|path| path.is_file())
    else {
        return false;
    };
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
    let names = |wanted: &CStr| arguments.iter().any(|argument| *argument == wanted.to_bytes());
    let same = is_same_file(&PathBuf::from(format!("/proc/{pid}/exe")), &program);
    // Two scripts of one interpreter are two programs, and one script is one also where a launcher found another
    // interpreter of that name.
    if let Some(script) = image.argv.get(1).filter(|argument| directory.join(path(argument)).is_file()) {
        let called = arguments.first().and_then(|name| Path::new(OsStr::from_bytes(name)).file_name());
        return names(script) && (same || called.is_some() && called == program.file_name());
    }
    if same {
        return true;
    }
    // A script of its own: the kernel has put its interpreter before it.
    let names_program = arguments
        .iter()
        .skip(1)
        .any(|argument| is_same_file(&directory.join(OsStr::from_bytes(argument)), &program));
    names_program && image.argv.iter().skip(1).all(|argument| names(argument))
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn path(text: &CString) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.as_bytes()))
}

/// How a process ended that is not our child, as far as anybody knows it.
pub(super) fn end_of(pid: u32, pidfd: &OwnedFd) -> Option<Ended> {
    // Until its parent takes the status it is a zombie that shows it; after that the descriptor knows.
    let of_zombie = zombie_status(pid);
    end_of_stranger(pidfd).or(of_zombie)
}

fn zombie_status(pid: u32) -> Option<Ended> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    // State is the third field, and the status the fifty-second.
    let is_zombie = fields.next()? == "Z";
    let status: i32 = fields.nth(48)?.parse().ok()?;
    is_zombie.then_some(match status & 0x7f {
        0 => Ended::Code((status >> 8) & 0xff),
        signal if status & 0x80 != 0 => Ended::Core(signal),
        signal => Ended::Signal(signal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_number_is_a_pid() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        for (text, pid) in
            [("4711\n", Some(4711)), ("  12 x", Some(12)), ("", None), ("-3", None), ("1", None)]
        {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read_pid(&file), pid, "{text:?}");
        }
        assert_eq!(why_no_pid(&file), "names no pid");
        assert_eq!(read_pid(dir.path()), None);
        assert_eq!(why_no_pid(dir.path()), "is no plain file");
        let absent = dir.path().join("absent");
        assert_eq!(read_pid(&absent), None);
        assert_eq!(why_no_pid(&absent), "was not written");
    }

    #[test]
    fn a_zombie_shows_how_it_ended() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 42"]).spawn().unwrap();
        let pidfd = pidfd_open(child.id()).unwrap();
        while !poll_ended(&pidfd) {
            std::thread::yield_now();
        }
        assert_eq!(end_of(child.id(), &pidfd), Some(Ended::Code(42)));
        child.wait().unwrap();
        // What the kernel keeps after that, it keeps since Linux 6.15.
        assert!(matches!(end_of_stranger(&pidfd), None | Some(Ended::Code(42))));
    }
}
