//! What was done about an instance, for people: `logs/SLUG_recovery.log`, rotated like its output.
//!
//! Lines come seldom and from one thread, so the file is opened for each batch of them and holds no descriptor between.

use std::io;
use std::path::PathBuf;

use super::file::{LogFile, LogPath};

/// Behind the slug.
const RECOVERY: &str = "_recovery";

/// The files of all instances.
#[derive(Debug)]
pub(crate) struct RecoveryLogs {
    logs_dir: PathBuf,
}

impl RecoveryLogs {
    pub(crate) fn new(logs_dir: PathBuf) -> Self {
        Self { logs_dir }
    }

    /// Appends whole lines. The size at which it is rotated, and how many old files are kept.
    ///
    /// # Errors
    /// They could not be written, or not all of them.
    pub(crate) fn append(&self, slug: &str, (max_size, keep): (u64, u32), lines: &str) -> io::Result<()> {
        let path = LogPath::new(&self.logs_dir, &format!("{slug}{RECOVERY}"));
        LogFile::plain(path, max_size, keep).write(lines.as_bytes(), true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_appended_and_old_files_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = RecoveryLogs::new(dir.path().to_owned());
        fs::write(dir.path().join("web-0_recovery.log"), "torn").unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            logs.append("web-0", (10, 1), line).unwrap();
        }
        let text = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(text("web-0_recovery.log.1"), "torn\none\n");
        assert_eq!(text("web-0_recovery.log"), "two\nthree\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no index");
    }
}
