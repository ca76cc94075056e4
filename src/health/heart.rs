//! Signs of life: late, lost, dead.

use std::time::Duration;

use super::grade::Grade;

type Time = Duration;

/// How long a worker may be silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartRules {
    /// Degraded after this.
    pub late: Duration,
    /// Unhealthy after this.
    pub lost: Duration,
    /// After this it would not hear a request to end either.
    pub dead: Duration,
}

/// What the silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Silence {
    None,
    Late,
    Lost,
    Dead,
}

/// The heartbeat of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heart {
    rules: HeartRules,
    /// In own time; `None`: not armed.
    last: Option<Time>,
    distress: bool,
    beaten: bool,
}

impl Heart {
    /// One that waits for its first beat, or for [`Self::arm`].
    #[must_use]
    pub fn new(rules: HeartRules) -> Self {
        Self { rules, last: None, distress: false, beaten: false }
    }

    /// From now on beats are expected, whether one came or not.
    pub fn arm(&mut self, own: Time) {
        self.last.get_or_insert(own);
    }

    /// A beat; it arms, and ends a distress.
    pub fn beat(&mut self, own: Time) {
        self.last = Some(own);
        self.distress = false;
        self.beaten = true;
    }

    /// Whether a beat has come at all.
    #[must_use]
    pub fn has_beaten(&self) -> bool {
        self.beaten
    }

    /// It says itself that it does not work.
    pub fn distress(&mut self, own: Time) {
        self.arm(own);
        self.distress = true;
    }

    /// Time without a beat; `None`: not armed.
    #[must_use]
    pub fn silence(&self, own: Time) -> Option<Duration> {
        self.last.map(|last| own.saturating_sub(last))
    }

    /// How it is; `None`: not armed.
    #[must_use]
    pub fn grade(&self, own: Time) -> Option<Grade> {
        Some(match self.silent(own)? {
            _ if self.distress => Grade::Fail,
            Silence::None => Grade::Pass,
            Silence::Late => Grade::Warn,
            Silence::Lost | Silence::Dead => Grade::Fail,
        })
    }

    /// Whether it would not hear a request to end.
    #[must_use]
    pub fn is_dead(&self, own: Time) -> bool {
        self.silent(own) == Some(Silence::Dead)
    }

    /// Whether it says so itself.
    #[must_use]
    pub fn is_distressed(&self) -> bool {
        self.distress
    }

    fn silent(&self, own: Time) -> Option<Silence> {
        let silence = self.silence(own)?;
        Some(if silence >= self.rules.dead {
            Silence::Dead
        } else if silence >= self.rules.lost {
            Silence::Lost
        } else if silence >= self.rules.late {
            Silence::Late
        } else {
            Silence::None
        })
    }
}
