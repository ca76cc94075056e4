//! Which files are read, and which are refused.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use regrow::config::{Diagnostics, Sources, load};

const GOOD: &[u8] = b"[worker.web]\ncommand = [\"x\"]\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        assert!(std::fs::write(&path, bytes).is_ok());
        path
    }
}

fn load_file(path: &Path) -> Result<regrow::config::Loaded, Diagnostics> {
    load(&Sources { file: Some(path.to_owned()), ..Sources::default() })
}

fn refusal(path: &Path) -> String {
    load_file(path).map_or_else(|diagnostics| diagnostics.to_string(), |_| "taken".to_owned())
}

#[test]
fn a_file_that_everybody_may_write_is_refused() {
    let folder = Folder::new();
    let path = folder.file("regrow.toml", GOOD);
    assert!(load_file(&path).is_ok());
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
    let text = refusal(&path);
    assert!(text.contains("everybody may write it (mode 0666)") && text.contains("chmod o-w"), "{text}");
}

#[test]
fn a_file_of_a_stranger_is_refused() {
    let folder = Folder::new();
    let path = folder.file("regrow.toml", GOOD);
    // Only root may give a file away; without root there is nothing to test.
    if chown(&path, Some(65_534), None).is_ok() {
        let text = refusal(&path);
        assert!(text.contains("it belongs to uid 65534"), "{text}");
    }
}

#[test]
fn an_included_file_is_held_to_the_same_rules() {
    let folder = Folder::new();
    let main = folder.file("regrow.toml", b"include = [\"b.toml\"]\n[worker.web]\ncommand = [\"x\"]\n");
    let other = folder.file("b.toml", b"[worker.b]\ncommand = [\"x\"]\n");
    assert_eq!(load_file(&main).unwrap().settings.workers.len(), 2);
    std::fs::set_permissions(&other, PermissionsExt::from_mode(0o602)).unwrap();
    assert!(refusal(&main).contains("b.toml"));
}

#[test]
fn a_pattern_that_finds_the_main_file_does_not_read_it_twice() {
    let folder = Folder::new();
    let main =
        folder.file("regrow.toml", b"include = [\"*.toml\", \"b.*\"]\n[worker.web]\ncommand = [\"x\"]\n");
    folder.file("b.toml", b"[worker.b]\ncommand = [\"x\"]\n");
    assert_eq!(load_file(&main).unwrap().files.len(), 2);
}

#[test]
fn what_is_no_text_file_is_refused() {
    let folder = Folder::new();
    let text = refusal(&folder.file("latin1.toml", b"[worker.web]\ncommand = [\"caf\xe9\"]\n"));
    assert!(text.contains("not valid UTF-8") && text.contains("latin1.toml:2:16"), "{text}");
    let large = vec![b'#'; (4 << 20) + 1];
    assert!(refusal(&folder.file("large.toml", &large)).contains("is larger than 4MiB"));
    assert!(refusal(folder.0.path()).contains("cannot be read: it is a directory"));
    let fifo = folder.0.path().join("fifo.toml");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(refusal(&fifo).contains("cannot be read: it is a FIFO, no plain file"), "nobody is waited for");
    assert!(refusal(Path::new("/dev/zero")).contains("cannot be read: it is a device"));
    assert!(refusal(&folder.0.path().join("none.toml")).contains("cannot be read: No such file"));
}

#[test]
fn paths_start_at_the_files_directory() {
    let folder = Folder::new();
    let text = b"[runtime]\nstate_dir = \"s\"\n[worker.web]\ncommand = [\"x\"]\ncwd = \"sub\"\n\
        [worker.own]\ncommand = [\"x\"]\ncwd = \"{state_dir}/x\"\n";
    let settings = load_file(&folder.file("regrow.toml", text)).unwrap().settings;
    assert_eq!(settings.workers[0].cwd, folder.0.path().join("sub"));
    assert_eq!(settings.workers[1].cwd, Path::new("{state_dir}/x"), "absolute once it is replaced");
    assert_eq!(settings.runtime.state_dir, folder.0.path().join("s"));
}

#[test]
fn ten_thousand_workers_are_the_limit() {
    let worker = |n: usize| format!("[worker.w{n}]\n");
    let file =
        |n: usize| format!("defaults.worker.command = [\"x\"]\n{}", (0..n).map(worker).collect::<String>());
    let folder = Folder::new();
    assert_eq!(load_file(&folder.file("a", file(10_000).as_bytes())).unwrap().settings.workers.len(), 10_000);
    assert!(refusal(&folder.file("b", file(10_001).as_bytes())).contains("at most 10000"));
}
