//! How often in a row before it counts.

use super::grade::Grade;

/// How many in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures before it stands as failed; at least 1.
    pub failure: u32,
    /// Passes before it stands as passed; at least 1.
    pub success: u32,
}

/// One row of results, and what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Streak {
    standing: Option<Grade>,
    row: Option<(Class, u32)>,
}

/// What makes a row: a warning works, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Works,
    Fails,
    Broken,
}

impl Streak {
    /// One more result.
    pub fn take(&mut self, grade: Grade, thresholds: Thresholds) {
        let class = match grade {
            Grade::Pass | Grade::Warn => Class::Works,
            Grade::Fail => Class::Fails,
            Grade::Error => Class::Broken,
        };
        let count = match self.row {
            Some((known, count)) if known == class => count.saturating_add(1),
            Some(_) | None => 1,
        };
        self.row = Some((class, count));
        let enough = match class {
            Class::Works if self.works() => 1,
            Class::Works => thresholds.success,
            Class::Fails | Class::Broken => thresholds.failure,
        };
        if count >= enough {
            self.standing = Some(grade);
        }
    }

    /// What was seen in a row counts no more; what stands goes on standing.
    pub fn interrupt(&mut self) {
        self.row = None;
    }

    /// What it stands for; `None`: nothing yet.
    #[must_use]
    pub fn standing(&self) -> Option<Grade> {
        self.standing
    }

    /// Failures in a row, up to now.
    #[must_use]
    pub fn failures(&self) -> u32 {
        match self.row {
            Some((Class::Fails, count)) => count,
            Some((Class::Works | Class::Broken, _)) | None => 0,
        }
    }

    fn works(&self) -> bool {
        matches!(self.standing, Some(Grade::Pass | Grade::Warn))
    }
}
