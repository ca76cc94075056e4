//! Where the configuration comes from, and whether a file may be trusted.
//!
//! A file says which programs run as whom, so one that strangers can write is refused, as `sshd` does. The
//! check is on the opened file, not on its path, so that it cannot be swapped in between.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::actors::ActorCheck;
use super::diagnostic::Problem;
use super::still::{Seen, Stamp};

/// Where a file is looked for if none is named.
pub const SEARCHED: [&str; 3] = ["regrow.toml", "config/regrow.toml", "/etc/regrow/regrow.toml"];

/// Largest file. 10,000 workers in full are about 3 MiB; a log or an image given by mistake is refused early.
const MAX_FILE: u64 = 4 << 20;

/// Everything a configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; `None` looks for the first of [`SEARCHED`].
    pub file: Option<PathBuf>,
    /// The environment; only `REGROW__…` and `STATE_DIRECTORY` are read.
    pub env: Vec<(OsString, OsString)>,
    /// Flags that set a key: `("http.listen", "127.0.0.1:0")`.
    pub flags: Vec<(String, String)>,
    /// A text in place of a file.
    pub inline: Option<String>,
    /// Where relative paths of a text start; `None`: at the current directory.
    pub base: Option<PathBuf>,
    /// How often every probe looks, whatever the file says (`start --interval`).
    pub interval: Option<std::time::Duration>,
    /// Who knows the actors of this program; `None`: they are not checked.
    pub actors: Option<Arc<dyn ActorCheck>>,
}

impl Sources {
    /// The sources of a command line: this file, or a search, and the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>) -> Self {
        Self { file, env: std::env::vars_os().collect(), ..Self::default() }
    }

    /// A text in place of a file, and nothing else.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { inline: Some(text.into()), ..Self::default() }
    }

    /// The same for a later reading, from wherever: the file that was read, and of the environment what counts. `None`
    /// for a text that was handed in, which nobody can change.
    #[must_use]
    pub fn pinned(&self, read: &[PathBuf]) -> Option<Self> {
        let file = read.first().filter(|_| self.inline.is_none())?;
        let counts = |name: &OsString| {
            name.to_string_lossy().starts_with(super::overrides::PREFIX) || name == "STATE_DIRECTORY"
        };
        Some(Self {
            file: Some(std::path::absolute(file).unwrap_or_else(|_| file.clone())),
            env: self.env.iter().filter(|(name, _)| counts(name)).cloned().collect(),
            flags: self.flags.clone(),
            inline: None,
            base: None,
            interval: self.interval,
            actors: self.actors.clone(),
        })
    }

    /// The file that is meant.
    pub(super) fn find(&self) -> Result<PathBuf, Box<Problem>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let found = SEARCHED.iter().map(PathBuf::from).find(|path| path.exists());
        found.ok_or_else(|| {
            let problem = Problem::new(None, "there is no configuration")
                .help(format!("looked for {}; `-c FILE` names another", SEARCHED.join(", ")))
                .help("two lines are enough: `[worker.web]` and `command = [\"./web\"]`");
            Box::new(problem)
        })
    }

    /// The first directory of `$STATE_DIRECTORY`, which systemd sets.
    pub(crate) fn state_directory(&self) -> Option<PathBuf> {
        let (_, value) = self.env.iter().find(|(name, _)| name == "STATE_DIRECTORY")?;
        std::env::split_paths(value).next().filter(|path| path.is_absolute())
    }
}

/// The bytes of a file that may be trusted.
pub(super) fn read(path: &Path, seen: &mut Seen) -> Result<Vec<u8>, Box<Problem>> {
    match opened(path) {
        Ok(Taken { bytes, before, after }) => {
            seen.file(path, before, after);
            Ok(bytes)
        }
        Err(problem) => {
            seen.refused(path);
            Err(problem)
        }
    }
}

/// What was read, and how the file was before and after.
struct Taken {
    bytes: Vec<u8>,
    before: Stamp,
    after: Stamp,
}

fn opened(path: &Path) -> Result<Taken, Box<Problem>> {
    let shown = path.display().to_string();
    let refused = |error: std::io::Error| {
        Box::new(Problem::of_file(shown.as_str(), format!("the file cannot be read: {error}")))
    };
    // A FIFO would wait for a writer, and so would everybody who waits for this reading.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refused)?;
    let metadata = file.metadata().map_err(refused)?;
    if let Some(what) = no_file(metadata.file_type()) {
        let problem =
            Problem::of_file(shown.as_str(), format!("the file cannot be read: it is {what}, no plain file"))
                .help("it is read again by `apply`, so it must be a file that stays");
        return Err(Box::new(problem));
    }
    trusted(&metadata).map_err(|problem| Box::new(problem(&shown)))?;
    let mut bytes = Vec::new();
    (&file).take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > MAX_FILE {
        let title = format!("the file is larger than {}", crate::units::format_size(MAX_FILE));
        return Err(Box::new(Problem::of_file(shown, title)));
    }
    let after = file.metadata().map_err(refused)?;
    Ok(Taken { bytes, before: Stamp::of(&metadata), after: Stamp::of(&after) })
}

/// What it is, if it is no plain file.
fn no_file(kind: std::fs::FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else {
        Some(if kind.is_fifo() { "a FIFO" } else { "a device" })
    }
}

fn trusted(metadata: &std::fs::Metadata) -> Result<(), impl FnOnce(&str) -> Problem + use<>> {
    let (owner, mode) = (metadata.uid(), metadata.mode());
    let own = own_uid();
    let foreign = owner != 0 && Some(owner) != own;
    if !foreign && mode & 0o002 == 0 {
        return Ok(());
    }
    Err(move |shown: &str| {
        let why = if foreign {
            format!(
                "the file is refused: it belongs to uid {owner}, neither to root nor to the user of this runtime"
            )
        } else {
            format!("the file is refused: everybody may write it (mode {:04o})", mode & 0o7777)
        };
        let fix = if foreign {
            format!("chown it: chown {} {shown}", own.unwrap_or(0))
        } else {
            format!("chmod o-w {shown}")
        };
        Problem::of_file(shown, why).help("the file decides which programs run").help(fix)
    })
}

/// The effective user of this process; read from /proc, because asking libc would be `unsafe`.
fn own_uid() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The files an `include` pattern names, sorted. `*` and `?` stand in the file name only, and `*` matches no
/// hidden file; a pattern that matches nothing is fine, a plain name must exist.
pub(crate) fn included(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = base.join(pattern);
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Err("names no file".to_owned());
    };
    let folder = path.parent().unwrap_or(base);
    if folder.to_string_lossy().contains(['*', '?']) && !base.to_string_lossy().contains(['*', '?']) {
        return Err("has a wildcard in a folder; it can stand only in the file name".to_owned());
    }
    if !name.contains(['*', '?']) {
        return if path.exists() { Ok(vec![path]) } else { Err("names no file".to_owned()) };
    }
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot be looked up: {error}")),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("cannot be looked up: {error}"))?;
        if matches(name, &entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// `*` is any run of characters, `?` any one.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                // Let the last star take one character more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        assert!(matches("*.toml", "web.toml"));
        assert!(!matches("*.toml", ".web.toml"));
        assert!(!matches("*.toml", "web.toml~"));
        assert!(matches("a*b?c*", "aXXbYc"));
        assert!(matches("*a*a*", "banana"));
        assert!(!matches("?", ""));
    }

    #[test]
    fn the_own_user_is_known() {
        assert!(own_uid().is_some());
    }
}
