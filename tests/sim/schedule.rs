//! What happens next: facts that a shell could send, drawn from what the world could do.
//!
//! Weights are drawn anew for each schedule (a swarm): one that knows nothing but failing starts and operators
//! reaches what an even mix does not.

use regrow::exit::{Exit, StartFailure};
use regrow::id::Incarnation;
use regrow::policy::{ChildKey, Fact, Phase, Request, RequestId, Time};

use super::dice::Dice;
use super::play::Play;
use super::tree::{self, FATAL, ms};
use super::world::Kid;

/// Draws facts.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) dice: Dice,
    weights: [u32; 12],
    /// Percent of stops that are answered when they are looked at.
    obedient: u64,
    ends_at: usize,
    added: usize,
    step: usize,
}

impl Schedule {
    pub(crate) fn new(mut dice: Dice, length: usize) -> Self {
        let mut weights = [30, 14, 14, 5, 8, 3, 8, 4, 3, 10, 2, 3];
        for weight in weights.iter_mut().skip(1) {
            *weight *= dice.pick(&[0, 1, 1, 2]);
        }
        weights[2] += 2;
        weights[4] += 4;
        let ends_at = if dice.chance(40) { dice.below(length) } else { length };
        let obedient = dice.pick(&[20, 80, 95, 100]);
        Self { dice, weights, obedient, ends_at, added: 8, step: 0 }
    }

    /// The next fact and its time.
    pub(crate) fn next(&mut self, play: &Play) -> (Time, Fact) {
        self.step += 1;
        if self.step == 1 {
            return (play.world.now, Fact::Boot);
        }
        let now = self.time(play);
        let due = play.core.next_due().is_some_and(|due| due <= now);
        let trial = play.world.kids.iter().any(|kid| kid.holds_at.is_some());
        if due && (trial || !self.dice.chance(4)) {
            return (now, Fact::Tick);
        }
        if self.step > self.ends_at && self.dice.chance(6) {
            return (now, if self.dice.chance(70) { Fact::Shutdown } else { Fact::Kill });
        }
        // What the world cannot send now is drawn again a few times.
        let fact = (0..8).find_map(|_| self.fact(play));
        (now, fact.unwrap_or(Fact::Tick))
    }

    /// Where exact moments matter, they are hit exactly.
    fn time(&mut self, play: &Play) -> Time {
        let now = play.world.now;
        match self.dice.weighted(&[30, 35, 16, 4, 8, 4, 3]) {
            0 => now,
            1 => now + ms(self.dice.between(1, 60)),
            2 => play.core.next_due().unwrap_or(now).max(now),
            3 => play.core.next_due().unwrap_or(now).saturating_sub(ms(1)).max(now),
            4 => self.edge(play).max(now),
            5 => now + ms(self.dice.between(100, 3_000)),
            _ => now + ms(self.dice.between(3_000, 40_000)),
        }
    }

    /// The moment at which some counted event is exactly one window old.
    fn edge(&mut self, play: &Play) -> Time {
        let within = play.world.spec.intensity.within;
        let kids = play.world.kids.iter().flat_map(|kid| kid.events.last());
        let all = play.world.events.iter().rev().take(3).chain(kids);
        let next = all.map(|at| *at + within).filter(|at| *at >= play.world.now).min();
        next.unwrap_or(play.world.now)
    }

    fn fact(&mut self, play: &Play) -> Option<Fact> {
        match self.dice.weighted(&self.weights.clone()) {
            0 => self.ready(play),
            1 => self.own_end(play),
            2 => self.answer_to_stop(play),
            3 => self.failed_start(play),
            4 => play.world.mailbox.front().map(|child| Fact::Retry { child: *child }),
            5 => self.stale(play),
            6 => Some(Fact::Tick),
            7 => {
                let kid = self.any(play, |_| true)?;
                Some(Fact::Held { child: kid.key, held: !kid.held && self.dice.chance(60) })
            }
            8 => {
                let kid = self.any(play, Kid::lives)?;
                let incarnation = kid.life?.incarnation;
                Some(Fact::Extend { child: kid.key, incarnation, by: ms(self.dice.between(1, 4_000)) })
            }
            9 => self.request(play),
            10 => {
                let kid = self.any(play, Kid::is_starting)?;
                Some(Fact::Ignored { child: kid.key, incarnation: kid.life?.incarnation })
            }
            _ => self.crossed_ready(play),
        }
    }

    /// Any child that fits.
    fn any<'a>(&mut self, play: &'a Play, fits: impl Fn(&Kid) -> bool) -> Option<&'a Kid> {
        let kids = &play.world.kids;
        if kids.is_empty() {
            return None;
        }
        let from = self.dice.below(kids.len());
        kids[from..].iter().chain(&kids[..from]).find(|kid| fits(kid))
    }

    fn ready(&mut self, play: &Play) -> Option<Fact> {
        let kid = self.any(play, Kid::is_starting)?;
        Some(Fact::Ready { child: kid.key, incarnation: kid.life?.incarnation })
    }

    /// A start that is acknowledged while it is already being stopped.
    fn crossed_ready(&mut self, play: &Play) -> Option<Fact> {
        let kid = self.any(play, |kid| kid.life.is_some_and(|l| l.asked.is_some() && l.ready.is_none()))?;
        Some(Fact::Ready { child: kid.key, incarnation: kid.life?.incarnation })
    }

    fn own_end(&mut self, play: &Play) -> Option<Fact> {
        let kid = self.any(play, |kid| kid.life.is_some_and(|life| life.asked.is_none()))?;
        Some(Fact::Exited { child: kid.key, incarnation: kid.life?.incarnation, exit: self.exit() })
    }

    fn answer_to_stop(&mut self, play: &Play) -> Option<Fact> {
        let kid = self.any(play, Kid::is_ending)?;
        if !self.dice.chance(self.obedient) {
            return None;
        }
        let exit = if self.dice.chance(60) { Exit::Stopped } else { self.exit() };
        Some(Fact::Exited { child: kid.key, incarnation: kid.life?.incarnation, exit })
    }

    fn failed_start(&mut self, play: &Play) -> Option<Fact> {
        let kid = self.any(play, Kid::is_starting)?;
        let failure = match self.dice.below(7) {
            0 => StartFailure::NotFound { program: String::new() },
            1 => StartFailure::BadFormat { program: String::new() },
            2 | 3 => StartFailure::Resources { detail: String::new() },
            4 => StartFailure::StillAlive { detail: String::new() },
            5 => StartFailure::BeforeReady { ended: Box::new(self.exit()) },
            _ => StartFailure::System { detail: String::new() },
        };
        let exit = Exit::StartFailed(failure);
        Some(Fact::StartFailed { child: kid.key, incarnation: kid.life?.incarnation, exit })
    }

    /// Every way a worker can end by itself.
    pub(crate) fn exit(&mut self) -> Exit {
        match self.dice.below(16) {
            0..=2 => Exit::Exited { code: 0 },
            3 | 4 => Exit::Exited { code: 1 },
            5 => Exit::Exited { code: 3 },
            6 => Exit::Exited { code: FATAL },
            7 => Exit::Signaled { signal: 9 },
            8 => Exit::Oom,
            9 => Exit::Core { signal: 11 },
            10 => Exit::Killed,
            11 => Exit::Stopped,
            12 => Exit::Panicked { message: String::new() },
            13 => Exit::Error { message: String::new() },
            14 => Exit::Abandoned,
            _ => Exit::Unknown,
        }
    }

    /// Something about an incarnation that is long dead.
    fn stale(&mut self, play: &Play) -> Option<Fact> {
        let kid = self.any(play, |kid| kid.last.0 > 0)?;
        let newest = if kid.lives() { kid.last.0 - 1 } else { kid.last.0 };
        let incarnation = Incarnation(newest.checked_sub(u64::from(self.dice.chance(30)))?);
        if incarnation.0 == 0 {
            return None;
        }
        let child = kid.key;
        Some(match self.dice.below(5) {
            0 => Fact::Ready { child, incarnation },
            1 => Fact::StartFailed {
                child,
                incarnation,
                exit: Exit::StartFailed(StartFailure::System { detail: String::new() }),
            },
            2 => Fact::Ignored { child, incarnation },
            3 => Fact::Extend { child, incarnation, by: ms(5_000) },
            _ => Fact::Exited { child, incarnation, exit: self.exit() },
        })
    }

    fn request(&mut self, play: &Play) -> Option<Fact> {
        let child = match self.any(play, |_| true) {
            Some(kid) if !self.dice.chance(3) => kid.key,
            Some(_) | None => ChildKey::first(self.dice.below(20) as u32),
        };
        let phase = play.phase(child);
        let down = matches!(phase, Some(Phase::Backoff | Phase::Quarantined | Phase::Stopped | Phase::Done));
        let request = match self.dice.weighted(&[2, 4, 3, 2, 5, 3, 4, if down { 5 } else { 1 }, 2, 3]) {
            0 => {
                if play.world.kids.len() > 9 {
                    return None;
                }
                self.added += 1;
                let known = self.dice.chance(10).then(|| play.world.kids.first()).flatten();
                let id = known.map_or_else(|| tree::id(self.added), |kid| kid.spec.id.clone());
                let spec = Box::new(tree::child(&mut self.dice, &play.world.spec, &id, true));
                Request::Add { spec }
            }
            1 => Request::Terminate { child },
            2 => Request::Revive { child },
            3 => Request::Delete { child },
            4 => Request::Start { child },
            5 => Request::Stop { child },
            6 => Request::Restart { child },
            8 => {
                let lasting = self.dice.chance(60).then(|| ms(self.dice.between(0, 60) * 100));
                Request::Pause { child, lasting }
            }
            9 => Request::Resume { child },
            _ => Request::ResetFailed { child },
        };
        Some(Fact::Request { id: RequestId(play.next_request), request })
    }
}
