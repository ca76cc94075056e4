//! One small JSON file of the state directory, replaced as a whole.
//!
//! What was confirmed is there again after a crash or a power cut: written beside, put on the disk, renamed, and the
//! new name put on the disk as well. A file that cannot be read is set aside and never written over.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A file larger than this is none of ours: 10,000 workers, each with what somebody wants of it, fit in 4 MiB.
const MAX_FILE: u64 = 16 << 20;

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    path: PathBuf,
    schema: &'static str,
}

#[derive(Deserialize)]
struct Read<T> {
    schema: String,
    #[serde(flatten)]
    kept: T,
}

#[derive(Serialize)]
struct Written<'a, T> {
    schema: &'a str,
    #[serde(flatten)]
    kept: &'a T,
}

impl Sheet {
    /// The file of this name, whose content calls itself by that schema.
    pub(super) fn new(state_dir: &Path, name: &str, schema: &'static str) -> Self {
        Self { path: state_dir.join(name), schema }
    }

    /// What is kept; nothing if there is no file. One that cannot be read is set aside, and the second part says so.
    pub(super) fn load<T: DeserializeOwned + Default>(&self) -> (T, Option<String>) {
        match self.read() {
            Ok(kept) => (kept, None),
            Err(error) => (T::default(), Some(self.set_aside(&error))),
        }
    }

    fn read<T: DeserializeOwned + Default>(&self) -> io::Result<T> {
        let meta = match fs::metadata(&self.path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(error),
        };
        if meta.len() > MAX_FILE {
            return Err(io::Error::other(format!("it has {} bytes", meta.len())));
        }
        let Read { schema, kept } =
            serde_json::from_slice(&fs::read(&self.path)?).map_err(io::Error::other)?;
        if schema != self.schema {
            return Err(io::Error::other(format!("its schema is `{schema}`, not `{}`", self.schema)));
        }
        Ok(kept)
    }

    fn set_aside(&self, error: &io::Error) -> String {
        let aside = self.path.with_extension("json.unreadable");
        let kept = match fs::rename(&self.path, &aside) {
            Ok(()) => format!("it was kept as {}", aside.display()),
            Err(rename) => format!("it could not be moved aside: {rename}"),
        };
        format!("{} is unreadable ({error}); {kept}", self.path.display())
    }

    /// Replaces the file. Blocks on the disk.
    pub(super) fn save<T: Serialize>(&self, kept: &T) -> io::Result<()> {
        let written = Written { schema: self.schema, kept };
        let text = serde_json::to_vec_pretty(&written).map_err(io::Error::other)?;
        let fresh = self.path.with_extension("json.new");
        let written = write(&fresh, &text).and_then(|()| fs::rename(&fresh, &self.path));
        if written.is_err() {
            // Half a file takes room where there is none.
            let _ = fs::remove_file(&fresh);
            return written;
        }
        fs::File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Kept = BTreeMap<String, u32>;

    fn sheet(dir: &Path) -> Sheet {
        Sheet::new(dir, "some.json", "regrow.some/1")
    }

    #[test]
    fn what_was_saved_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::from([("a".to_owned(), 1)]);
        assert_eq!(sheet(dir.path()).load::<Kept>(), (Kept::new(), None));
        sheet(dir.path()).save(&kept).unwrap();
        assert_eq!(sheet(dir.path()).load(), (kept, None));
        assert!(!dir.path().join("some.json.new").exists());
    }

    #[test]
    fn what_is_not_its_own_is_set_aside_and_named() {
        let wrong =
            [b"\0\0\0".as_slice(), b"{", b"{\"schema\":\"regrow.other/1\"}", b"[]", b"{\"a\":1}", b""];
        for bytes in wrong {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("some.json"), bytes).unwrap();
            let (kept, note) = sheet(dir.path()).load::<Kept>();
            let note = note.unwrap();
            assert!(kept.is_empty() && note.contains("some.json is unreadable ("), "{note}");
            assert_eq!(fs::read(dir.path().join("some.json.unreadable")).unwrap(), bytes);
            assert!(!dir.path().join("some.json").exists());
        }
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("some.json")).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(sheet(dir.path()).load::<Kept>().1.unwrap().contains("16777217 bytes"));
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_one_and_no_half() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::from([("a".to_owned(), 1)]);
        sheet(dir.path()).save(&kept).unwrap();
        // It is there as a directory, so that nothing can be written.
        fs::create_dir(dir.path().join("some.json.new")).unwrap();
        assert!(sheet(dir.path()).save(&Kept::new()).is_err());
        assert_eq!(sheet(dir.path()).load(), (kept, None));
    }
}
