//! Secrets: read at each start, handed to the child, and wiped.
//!
//! The type has no `Debug`, no `Display` and no serde, so that nothing can print one by accident. Between two starts
//! none is held. What the child then does with its own environment is the child's business, but what it and the commands
//! beside it say, as far as that goes into events, incidents and `status`, is looked through for its secrets: what is
//! kept for that is a keyed hash of each.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::SecretSource;
use crate::exit::StartFailure;
use crate::id::Name;

/// The kernel takes no longer string in an environment.
const LONGEST: u64 = 128 * 1024;

/// `NAME=value`.
pub(super) struct Secret(CString);

impl Secret {
    /// For the child's environment, and for nothing else.
    pub(super) fn variable(&self) -> &CStr {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(std::mem::take(&mut self.0).into_bytes());
    }
}

/// What stands where a secret stood.
const HIDDEN: &str = "(hidden)";
/// Shorter ones are taken out only where they stand as a word of their own: elsewhere that would leave no word whole.
const SHORTEST: usize = 4;
/// A prime (2^61 - 1): the hash of a text is its bytes as digits in a secret base, modulo this.
const PRIME: u64 = (1 << 61) - 1;

/// Of each worker at most so many are known again, the newest: a secret that is changed every day is an old one soon.
const MOST_MARKS: usize = 256;

/// The secrets of every worker, known again wherever they are printed: by the worker, a probe, a hook or a capture.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Name, Marks>>);

impl Known {
    /// A worker, or a command beside it, is about to be given these. Earlier ones may still be printed.
    pub(super) fn learn(&self, worker: &Name, secrets: &[Secret]) {
        if !secrets.is_empty() {
            self.lock().entry(worker.clone()).or_default().add(secrets);
        }
    }

    /// The text without the worker's secrets.
    pub(super) fn hush(&self, worker: &Name, text: String) -> String {
        match self.lock().get(worker) {
            Some(marks) => marks.redact(text),
            None => text,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Marks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Knows values again without holding them.
struct Marks {
    base: u64,
    /// Length and hash, the newest last.
    marks: Vec<(usize, u64)>,
}

impl Default for Marks {
    fn default() -> Self {
        let base = getrandom::u64().unwrap_or(0x9e37_79b9_7f4a_7c15) % (PRIME - 512) + 256;
        Self { base, marks: Vec::new() }
    }
}

impl Marks {
    /// What is to be known again of these secrets. One of several lines is printed in lines, so each counts.
    fn add(&mut self, secrets: &[Secret]) {
        for secret in secrets {
            let bytes = secret.variable().to_bytes();
            let value = memchr::memchr(b'=', bytes).map_or(&[][..], |at| &bytes[at + 1..]);
            // A short line of a long one, as the end of a key, is none of its own.
            let least = if value.trim_ascii().len() < SHORTEST { 1 } else { SHORTEST };
            for line in value.split(|byte| matches!(byte, b'\n' | b'\r')) {
                let line = line.trim_ascii();
                if line.len() >= least {
                    let hash = line.iter().fold(0, |hash, byte| self.shift(hash, *byte));
                    self.marks.retain(|known| *known != (line.len(), hash));
                    self.marks.push((line.len(), hash));
                }
            }
        }
        let old = self.marks.len().saturating_sub(MOST_MARKS);
        self.marks.drain(..old);
    }

    /// The text without them.
    fn redact(&self, text: String) -> String {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (length, hash) in &self.marks {
            let places = self.places(text.as_bytes(), *length, *hash).map(|at| (at, at + length));
            found.extend(
                places.filter(|(from, to)| *length >= SHORTEST || is_word(text.as_bytes(), *from, *to)),
            );
        }
        if found.is_empty() {
            return text;
        }
        found.sort_unstable();
        let (mut out, mut done) = (Vec::with_capacity(text.len()), 0);
        for (from, to) in found {
            if from >= done {
                out.extend_from_slice(&text.as_bytes()[done..from]);
                out.extend_from_slice(HIDDEN.as_bytes());
            }
            done = done.max(to);
        }
        out.extend_from_slice(&text.as_bytes()[done..]);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Where a text of this length and hash begins.
    fn places(&self, text: &[u8], length: usize, wanted: u64) -> impl Iterator<Item = usize> {
        // What the first byte of a window counts for, to be taken off when the window moves on.
        let first = (1..length).fold(1, |power, _| multiply(power, self.base));
        let mut hash = 0;
        text.iter().enumerate().filter_map(move |(at, byte)| {
            if at >= length {
                let gone = multiply(u64::from(text[at - length]) + 1, first);
                hash = (hash + PRIME - gone) % PRIME;
            }
            hash = self.shift(hash, *byte);
            (at + 1 >= length && hash == wanted).then(|| at + 1 - length)
        })
    }

    fn shift(&self, hash: u64, byte: u8) -> u64 {
        (multiply(hash, self.base) + u64::from(byte) + 1) % PRIME
    }
}

/// Whether neither a letter nor a digit stands beside it.
fn is_word(text: &[u8], from: usize, to: usize) -> bool {
    let parts = |byte: Option<&u8>| {
        byte.is_none_or(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b'_')
    };
    parts(from.checked_sub(1).and_then(|at| text.get(at))) && parts(text.get(to))
}

fn multiply(one: u64, other: u64) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "it is below the prime")]
    let rest = (u128::from(one) * u128::from(other) % u128::from(PRIME)) as u64;
    rest
}

/// Reads all of them. `env` is the runtime's own environment.
pub(super) fn read_all(
    sources: &BTreeMap<String, SecretSource>,
    env: &[(OsString, OsString)],
) -> Result<Vec<Secret>, StartFailure> {
    sources.iter().map(|(name, source)| read(name, source, env)).collect()
}

fn read(name: &str, source: &SecretSource, env: &[(OsString, OsString)]) -> Result<Secret, StartFailure> {
    let failed = |detail: String| StartFailure::NoSecret { name: name.to_owned(), detail };
    let value = match source {
        SecretSource::File(path) => {
            of_file(path).map_err(|error| failed(format!("{}: {error}", path.display())))?
        }
        SecretSource::Env(variable) => env
            .iter()
            .find(|(known, _)| known == OsStr::new(variable))
            .map(|(_, value)| value.as_bytes().to_vec())
            .ok_or_else(|| failed(format!("regrow itself has no variable {variable}")))?,
    };
    let mut variable = Vec::with_capacity(name.len() + value.len() + 2);
    variable.extend_from_slice(name.as_bytes());
    variable.push(b'=');
    variable.extend_from_slice(&value);
    wipe(value);
    CString::new(variable).map(Secret).map_err(|error| {
        wipe(error.into_vec());
        failed("it holds a NUL byte, which no variable can".to_owned())
    })
}

fn of_file(path: &Path) -> io::Result<Vec<u8>> {
    // A FIFO or a device could keep us for ever.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a plain file"));
    }
    // Room for all of it at once: a buffer that grew would leave copies behind.
    let mut value = Vec::with_capacity(LONGEST as usize + 1);
    let read = file.take(LONGEST + 1).read_to_end(&mut value);
    if let Err(error) = read {
        wipe(value);
        return Err(error);
    }
    if value.len() as u64 > LONGEST {
        wipe(value);
        return Err(io::Error::other("is longer than a variable can be (128 KiB)"));
    }
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    Ok(value)
}

/// Overwrites the bytes in a way that the compiler must not leave out.
fn wipe(mut bytes: Vec<u8>) {
    bytes.fill(0);
    std::hint::black_box(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(source: SecretSource) -> BTreeMap<String, SecretSource> {
        [("DB_PASSWORD".to_owned(), source)].into()
    }

    #[test]
    fn a_file_loses_one_newline_at_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, "hun ter2\n\n").unwrap();
        let read = read_all(&sources(SecretSource::File(path)), &[]).ok().unwrap();
        assert_eq!(read[0].variable(), c"DB_PASSWORD=hun ter2\n");
    }

    fn marks(values: &[&str]) -> Marks {
        let secret = |value: &&str| Secret(CString::new(format!("X={value}")).unwrap());
        let mut marks = Marks::default();
        marks.add(&values.iter().map(secret).collect::<Vec<_>>());
        marks
    }

    #[test]
    fn what_a_worker_prints_of_its_secrets_is_taken_out() {
        let marks = marks(&["hunter2", "hunter2-and-more", "überpass", "ab"]);
        for (text, clean) in [
            ("password is hunter2", "password is (hidden)"),
            ("hunter2hunter2", "(hidden)(hidden)"),
            ("(hunter2-and-more) hunter", "((hidden)) hunter"),
            ("das überpass!", "das (hidden)!"),
            ("hunter3 ab", "hunter3 (hidden)"),
            ("ab=ab, abc cab ab_ über-ab üab", "(hidden)=(hidden), abc cab ab_ über-(hidden) üab"),
            ("", ""),
        ] {
            assert_eq!(marks.redact(text.to_owned()), clean, "{text}");
        }
    }

    #[test]
    fn a_secret_of_several_lines_is_known_line_by_line() {
        let marks = marks(&["-----BEGIN KEY-----\r\nMIIEpAIB\nAA\n-----END KEY-----"]);
        assert_eq!(marks.redact("key: MIIEpAIB".to_owned()), "key: (hidden)");
        assert_eq!(marks.redact("AA".to_owned()), "AA", "too short to be anything");
    }

    #[test]
    fn every_place_of_every_length_is_found() {
        let text = "abcdefghij".repeat(3);
        for length in SHORTEST..12 {
            for at in 0..10 {
                let value = &text[at..at + length];
                let clean = marks(&[value]).redact(text.clone());
                assert!(!clean.contains(value) && clean.contains(HIDDEN), "{value} in {clean}");
            }
        }
    }

    #[test]
    fn a_variable_is_taken_as_it_is() {
        let env = [("X".into(), "canary".into())];
        let read = read_all(&sources(SecretSource::Env("X".to_owned())), &env).ok().unwrap();
        assert_eq!(read[0].variable(), c"DB_PASSWORD=canary");
    }

    #[test]
    fn what_is_missing_says_which_and_why_and_never_the_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let failure = |source| read_all(&sources(source), &[]).err().unwrap().to_string();
        let missing = failure(SecretSource::File(path.clone()));
        assert!(missing.contains("DB_PASSWORD") && missing.contains("No such file"), "{missing}");
        let missing = failure(SecretSource::Env("X".to_owned()));
        assert!(missing.contains("no variable X"), "{missing}");
        std::fs::write(&path, "can\0ary").unwrap();
        let broken = failure(SecretSource::File(path));
        assert!(broken.contains("NUL") && !broken.contains("ary"), "{broken}");
        let folder = failure(SecretSource::File(dir.path().to_owned()));
        assert!(folder.contains("plain file"), "{folder}");
    }
}
