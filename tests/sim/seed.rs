//! Where a random test gets its seed: the same commit tests the same, the next commit something new.

use std::process::Command;

/// Used outside a git checkout.
const FALLBACK: &str = "regrow";

/// `REGROW_SEED`, else the hash of the commit, else a fixed word.
pub(crate) fn seed() -> u64 {
    let text = std::env::var("REGROW_SEED").ok().or_else(commit);
    from_text(text.as_deref().unwrap_or(FALLBACK))
}

/// A number, as a failure prints it, stands for itself; every other text, such as a commit's hash, for a number of
/// its own.
fn from_text(text: &str) -> u64 {
    let text = text.trim();
    // FNV-1a: the same for ever, which no hasher of the standard library promises.
    let mixed = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    text.parse().unwrap_or_else(|_| text.bytes().fold(0xCBF2_9CE4_8422_2325, mixed))
}

/// A number in an environment variable.
///
/// # Panics
/// If it is set and is not a number.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn commit() -> Option<String> {
    let git = Command::new("git")
        .args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()
        .filter(|git| git.status.success())?;
    String::from_utf8(git.stdout).ok()
}

#[test]
fn a_commit_is_a_seed_and_so_is_the_number_that_a_failure_printed() {
    let hash = "451b1bdfd49c9f53213513dd6053636f51bca3d4";
    let seed = from_text(hash);
    assert_eq!(from_text(&format!("{hash}\n")), seed);
    assert_eq!(from_text(&seed.to_string()), seed);
    assert_ne!(from_text("regrow"), seed);
}
