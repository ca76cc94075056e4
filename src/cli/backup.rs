//! `regrow backup`: a copy of what is kept, while everything goes on.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hyper::Method;

use crate::http::dto::BackupBody;

use super::args::Format;
use super::context::{Context, block_on};
use super::failure::Failure;

/// Options of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Where to; else backups/DATE in the state directory
    dir: Option<PathBuf>,
}

/// Two gigabytes on a slow disk.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn run(context: &mut Context, args: BackupArgs) -> Result<(), Failure> {
    if let Some(dir) = args.dir.as_deref().filter(|dir| is_state_dir(dir)) {
        let dir = dir.display();
        return Err(Failure::Usage(format!(
            "{dir} is the state directory of a runtime, whose databases a copy would replace: name another folder, \
             such as {dir}/backups/now"
        )));
    }
    let client = context.client()?;
    let mut made: BackupBody = block_on(client.ask_for(Method::POST, "/api/v1/backup", None, PATIENCE))?;
    if let Some(dir) = args.dir {
        carry(&made, &dir)?;
        made.dir = dir.display().to_string();
    }
    match context.format() {
        Format::Json | Format::Jsonl => context.print_json(&made, std::slice::from_ref(&made)),
        Format::Table | Format::Wide | Format::Csv | Format::Name => {
            let text = format!("{}: {}\n", made.dir, made.files.join(", "));
            context.print(&text)
        }
    }
}

/// Every runtime has its lock and its workers' folders there, also one that has ended. Others have locks, too.
fn is_state_dir(dir: &Path) -> bool {
    ["lock", "w"].iter().all(|name| fs::symlink_metadata(dir.join(name)).is_ok())
}

/// Moves the files to where they are wanted, with the rights of whoever asked: the runtime writes nowhere else.
fn carry(made: &BackupBody, to: &Path) -> Result<(), Failure> {
    let failed = |what: &Path, error: std::io::Error| {
        Failure::Failed(format!("cannot copy to {}: {error}; the backup is in {}", what.display(), made.dir))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(to).map_err(|error| failed(to, error))?;
    let from = Path::new(&made.dir);
    // An older copy has what this one need not have: together they would be neither.
    for name in crate::runtime::BESIDE.iter().filter(|name| !made.files.iter().any(|file| file == *name)) {
        match fs::remove_file(to.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&to.join(name), error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    for name in &made.files {
        // A database that lies there may have left these, which belong to no other one.
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(to.join(format!("{name}{suffix}")));
        }
        let target = to.join(name);
        fs::copy(from.join(name), &target)
            .and_then(|_| fs::set_permissions(&target, fs::Permissions::from_mode(0o600)))
            .and_then(|_| fs::File::open(&target)?.sync_all())
            .map_err(|error| failed(&target, error))?;
    }
    // What could not be taken away is another copy.
    let _ = fs::remove_dir_all(from);
    Ok(())
}
