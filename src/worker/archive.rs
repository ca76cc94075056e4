//! Putting a worker's own directory away, so that it starts afresh and nothing is lost.
//!
//! `w/SLUG/state` moves to `archive/SLUG/TIME`, which is ours alone: a worker cannot change what was taken from it. A
//! few of them are kept.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// As many are kept of each instance.
pub(crate) const KEPT: usize = 3;

/// Moves `w/SLUG/state` away; nothing happens where nothing is.
///
/// # Errors
/// The system's words, with the path.
pub(crate) fn archive(state: &Path, keep: usize) -> io::Result<()> {
    if std::fs::symlink_metadata(state).is_err() {
        return Ok(());
    }
    let place = place_of(state)?;
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(&place).map_err(|e| named(&place, &e))?;
    let name = Timestamp::now().strftime("%Y%m%dT%H%M%S%9fZ").to_string();
    std::fs::rename(state, place.join(name)).map_err(|error| named(state, &error))?;
    prune(&place, keep)
}

/// What was put away of an instance, the newest last.
#[cfg(test)]
pub(crate) fn archived(state: &Path) -> io::Result<Vec<PathBuf>> {
    let place = place_of(state)?;
    let entries = match std::fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(named(&place, &error)),
    };
    let mut all = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    all.sort();
    Ok(all)
}

fn prune(place: &Path, keep: usize) -> io::Result<()> {
    let mut all =
        std::fs::read_dir(place)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    all.sort();
    let old = all.len().saturating_sub(keep);
    for path in all.into_iter().take(old) {
        std::fs::remove_dir_all(&path).map_err(|error| named(&path, &error))?;
    }
    Ok(())
}

/// `STATE_DIR/archive/SLUG` of `STATE_DIR/w/SLUG/state`.
fn place_of(state: &Path) -> io::Result<PathBuf> {
    let own = state.parent();
    let (slug, base) = (own.and_then(Path::file_name), own.and_then(Path::parent).and_then(Path::parent));
    match (slug, base) {
        (Some(slug), Some(base)) => Ok(base.join("archive").join(slug)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no worker's", state.display()))),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_are_kept_and_the_newest_is_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("w").join("a-0").join("state");
        for n in 0..5 {
            std::fs::create_dir_all(&state).unwrap();
            std::fs::write(state.join("n"), n.to_string()).unwrap();
            archive(&state, KEPT).unwrap();
            assert!(!state.exists());
        }
        archive(&state, KEPT).unwrap();
        let kept: Vec<String> = archived(&state)
            .unwrap()
            .iter()
            .map(|at| std::fs::read_to_string(at.join("n")).unwrap())
            .collect();
        assert_eq!(kept, ["2", "3", "4"]);
    }
}
