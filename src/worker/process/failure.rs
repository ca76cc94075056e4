//! From an errno to words one can act on at night.

use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::config::Isolation;
use crate::exit::StartFailure;
use crate::worker::unix::{Image, Refusal, Step};

/// Says what a refused start means.
pub(super) fn explain(refusal: &Refusal, image: &Image, isolation: &Isolation) -> StartFailure {
    let Refusal { step, errno, candidate } = *refusal;
    if is_shortage(errno) {
        return StartFailure::Resources { detail: format!("{}: {}", words(step), text(errno)) };
    }
    match step {
        Step::Directory => match errno {
            libc::ENOENT | libc::ENOTDIR | libc::EACCES => {
                StartFailure::NoSuchDirectory { path: shown(&image.directory) }
            }
            _ => system(step, errno),
        },
        Step::Exec => explain_exec(errno, candidate, image),
        Step::Limits | Step::Nice | Step::OomScore | Step::Identity
            if matches!(errno, libc::EPERM | libc::EACCES) =>
        {
            StartFailure::NotPermitted { detail: not_permitted(step, isolation) }
        }
        Step::Bounds | Step::Nice | Step::OomScore | Step::Cores | Step::Identity | Step::NoNewPrivs => {
            system(step, errno)
        }
        Step::Clone | Step::Session | Step::Files | Step::Stdio | Step::Limits => system(step, errno),
    }
}

fn not_permitted(step: Step, isolation: &Isolation) -> String {
    let number = |value: Option<i32>| value.unwrap_or_default();
    match step {
        Step::Limits => format!(
            "limits.open_files = {} is more than regrow itself may give: raise its hard limit, or lower this",
            isolation.limits.open_files.unwrap_or_default()
        ),
        Step::Nice => {
            format!(
                "nice = {} is above regrow's own priority, which only root may give",
                number(isolation.nice)
            )
        }
        Step::OomScore => format!(
            "oom_score_adj = {} is below regrow's own ({}), which takes CAP_SYS_RESOURCE: root has it, but seldom in a \
             container. Give no less than regrow's own, or leave it out",
            number(isolation.oom_score_adj),
            own_oom_score()
        ),
        Step::Clone
        | Step::Session
        | Step::Files
        | Step::Directory
        | Step::Stdio
        | Step::Bounds
        | Step::Cores
        | Step::Identity
        | Step::NoNewPrivs
        | Step::Exec => {
            "regrow may not change to the worker's user and groups here (a container without that right?)"
                .to_owned()
        }
    }
}

fn own_oom_score() -> String {
    let read = std::fs::read_to_string("/proc/self/oom_score_adj");
    read.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// An error of ours before there was a process.
pub(super) fn of_io(what: &str, error: &io::Error) -> StartFailure {
    let detail = format!("{what}: {error}");
    if error.raw_os_error().is_some_and(is_shortage) {
        StartFailure::Resources { detail }
    } else {
        StartFailure::System { detail }
    }
}

/// Errors that the machine's state explains, not the worker's.
pub(super) fn is_shortage(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE)
}

fn explain_exec(errno: i32, candidate: usize, image: &Image) -> StartFailure {
    let name = image.argv.first().map(|name| shown(name)).unwrap_or_default();
    let tried = image.candidates.get(candidate);
    let program = tried.map_or(name.clone(), |path| shown(path));
    match errno {
        libc::ENOENT | libc::ENOTDIR => match image.candidates.iter().find_map(|path| broken(path, image)) {
            Some(program) => StartFailure::NotFound { program },
            None => StartFailure::NotFound { program: name },
        },
        // A directory of `PATH` that may not be entered says nothing about the program.
        libc::EACCES
            if image.candidates.len() > 1 && image.candidates.iter().all(|path| !exists(path, image)) =>
        {
            StartFailure::NotFound { program: name }
        }
        libc::EACCES | libc::EPERM | libc::EISDIR => StartFailure::NotExecutable { program },
        libc::ENOEXEC => StartFailure::BadFormat { program },
        _ => StartFailure::System { detail: format!("{program}: {}", text(errno)) },
    }
}

/// A program that is there and whose exec still says «not found» names an interpreter or a loader that is not.
fn broken(candidate: &CString, image: &Image) -> Option<String> {
    let path = located(candidate, image);
    let file = std::fs::File::open(&path).ok()?;
    // As much as the kernel itself reads of a `#!` line.
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head).ok()?;
    let program = path.display();
    let Some(line) = head.strip_prefix(b"#!") else {
        return Some(format!("the loader or a library directory that {program} was linked for"));
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let interpreter = line.split_ascii_whitespace().next().unwrap_or_default();
    Some(format!("{interpreter}, the interpreter that the first line of {program} names"))
}

fn exists(candidate: &CString, image: &Image) -> bool {
    located(candidate, image).symlink_metadata().is_ok()
}

/// Relative to the worker's directory, as the child saw it.
fn located(candidate: &CString, image: &Image) -> PathBuf {
    let path = |text: &CString| PathBuf::from(std::ffi::OsStr::from_bytes(text.as_bytes()));
    path(&image.directory).join(path(candidate))
}

fn system(step: Step, errno: i32) -> StartFailure {
    StartFailure::System { detail: format!("{}: {}", words(step), text(errno)) }
}

fn words(step: Step) -> &'static str {
    match step {
        Step::Clone => "cannot make a process",
        Step::Session => "cannot start a session",
        Step::Files => "cannot part from the runtime's files",
        Step::Directory => "cannot enter the working directory",
        Step::Stdio => "cannot set up stdin, stdout and stderr",
        Step::Limits => "cannot set the limit of open files",
        Step::Bounds => "cannot enter the cgroups of its limits",
        Step::Nice => "cannot set its priority",
        Step::OomScore => "cannot set its oom_score_adj",
        Step::Cores => "cannot bind it to cores",
        Step::Identity => "cannot become the worker's user",
        Step::NoNewPrivs => "cannot set no_new_privs",
        Step::Exec => "cannot execute the program",
    }
}

fn text(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn shown(path: &CStr) -> String {
    String::from_utf8_lossy(path.to_bytes()).into_owned()
}
