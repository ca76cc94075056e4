//! Secrets: read at each start, handed to the child, and wiped.
//!
//! The type has no `Debug`, no `Display` and no serde, so that nothing can print one by accident. Between two starts
//! none is held. What the child then does with its own environment is the child's business.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::SecretSource;
use crate::exit::StartFailure;

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
