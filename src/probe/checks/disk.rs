//! How full the disk of a path is.

use crate::probe::{Found, Look, Patient, Probe};

use super::apart::apart;

/// One disk.
pub(in crate::probe) struct Disk {
    pub(in crate::probe) path: String,
    pub(in crate::probe) warn: f64,
    pub(in crate::probe) crit: f64,
}

impl Probe for Disk {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let path = patient.fill(&self.path);
            let asked = path.clone();
            // A dead network mount answers never; this thread must not wait for it.
            match apart(patient, move || used(&asked)).await {
                Ok(Ok(ratio)) => self.judge(&path, ratio),
                Ok(Err(error)) => Found::error(format!("cannot look at {path}: {error}")),
                Err(found) => found,
            }
        })
    }
}

impl Disk {
    fn judge(&self, path: &str, ratio: f64) -> Found {
        let text = format!("the disk of {path} is {:.0} % full", ratio * 100.0);
        let found = if ratio >= self.crit {
            Found::fail(text)
        } else if ratio >= self.warn {
            Found::warn(text)
        } else {
            Found::pass(text)
        };
        found.with("used_ratio", ratio)
    }
}

/// As `df` counts: what root keeps for itself is not there for a worker.
fn used(path: &str) -> std::io::Result<f64> {
    let disk = rustix::fs::statvfs(path)?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let all = used + disk.f_bavail;
    Ok(if all == 0 { 0.0 } else { used as f64 / all as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Grade;

    #[test]
    fn marks_are_reached_from_below() {
        let disk = Disk { path: "/".to_owned(), warn: 0.85, crit: 0.95 };
        let grade = |ratio| disk.judge("/", ratio).grade;
        assert_eq!([0.84, 0.85, 0.95].map(grade), [Grade::Pass, Grade::Warn, Grade::Fail]);
        assert!((0.0..=1.0).contains(&used("/").unwrap()));
        assert!(used("/there is no such path").is_err());
    }
}
