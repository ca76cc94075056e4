//! Where a random test gets its seed: the same commit tests the same, the next commit something new.

use std::process::Command;

/// Used outside a git checkout.
const FALLBACK: u64 = 0x5EED_0F1A_57A1_0000;

/// `REGROW_SEED`, else the hash of the commit, else a fixed number.
pub(crate) fn seed() -> u64 {
    from_environment("REGROW_SEED").or_else(from_commit).unwrap_or(FALLBACK)
}

/// A number in an environment variable.
///
/// # Panics
/// If it is set and is not a number.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn from_commit() -> Option<u64> {
    let git = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let hash = String::from_utf8(git.stdout).ok()?;
    u64::from_str_radix(hash.get(..15)?, 16).ok()
}
