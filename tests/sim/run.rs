//! One schedule from seed to verdict, and what to do with one that fails.

use regrow::exit::Exit;
use regrow::policy::{Fact, Phase, Request, RequestId, Time};

use super::dice::Dice;
use super::play::{Broken, Play, broken};
use super::rare::{Rare, Tally};
use super::schedule::Schedule;
use super::tree::{self, Tree};
use super::world::Kid;

/// Facts in a schedule.
pub(crate) const LENGTH: usize = 200;

/// More than any schedule needs to come to rest.
const PATIENCE: usize = 2_000;

/// A schedule that broke an invariant, as short as it could be made.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) broken: Broken,
    pub(crate) story: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Broken { invariant, detail } = &self.broken;
        write!(f, "seed {}: {invariant} does not hold: {detail}\n{}", self.seed, self.story)
    }
}

/// Plays the schedule of this seed on a tree of the seed's own.
pub(crate) fn schedule(seed: u64) -> Result<Tally, Box<Failure>> {
    let mut dice = Dice::new(seed);
    let tree = tree::any(&mut dice);
    on_tree(seed, &tree, dice)
}

/// Plays a schedule on this tree.
pub(crate) fn on_tree(seed: u64, tree: &Tree, dice: Dice) -> Result<Tally, Box<Failure>> {
    let mut play = Play::new(tree);
    let mut schedule = Schedule::new(dice.clone(), LENGTH);
    let mut ends = (Time::MAX, 0);
    for _ in 0..LENGTH {
        let (now, fact) = schedule.next(&play);
        if own_end(&play, &fact) {
            ends = if ends.0 == now { (now, ends.1 + 1) } else { (now, 1) };
            if ends.1 == 2 {
                play.tally.note(Rare::TwoExitsAtOnce);
            }
        }
        play.next_request += 1;
        if let Err(broken) = play.step(now, fact) {
            return Err(explain(seed, tree, dice, broken));
        }
        if play.world.finished {
            break;
        }
    }
    come_to_rest(&mut play).map_err(|broken| explain(seed, tree, dice, broken))?;
    Ok(play.tally)
}

fn own_end(play: &Play, fact: &Fact) -> bool {
    match fact {
        Fact::Exited { child, incarnation, .. } => {
            play.world.lives(*child, *incarnation) && !play.world.kid(*child).is_some_and(Kid::is_ending)
        }
        Fact::Boot
        | Fact::Ready { .. }
        | Fact::Ignored { .. }
        | Fact::StartFailed { .. }
        | Fact::Retry { .. }
        | Fact::Tick
        | Fact::Held { .. }
        | Fact::Extend { .. }
        | Fact::Judged { .. }
        | Fact::Classed { .. }
        | Fact::Leave { .. }
        | Fact::Performed { .. }
        | Fact::Request { .. }
        | Fact::Shutdown
        | Fact::Kill => false,
    }
}

/// The world turns kind: every start succeeds, every stop is obeyed, nothing is held back, operators forgive.
/// Then everybody must arrive somewhere (no lost wake-up), and every request must have its answer.
fn come_to_rest(play: &mut Play) -> Result<(), Broken> {
    for _ in 0..PATIENCE {
        let Some((now, fact)) = kindness(play) else { return arrived(play) };
        play.next_request += 1;
        play.step(now, fact)?;
    }
    broken("S13", || "it never comes to rest".to_owned())
}

/// The next kind fact, if anything is still to be done.
fn kindness(play: &Play) -> Option<(Time, Fact)> {
    let now = play.world.now;
    if play.world.finished {
        return None;
    }
    if play.core.next_due().is_some_and(|due| due <= now) {
        return Some((now, Fact::Tick));
    }
    if let Some(child) = play.world.mailbox.front() {
        return Some((now, Fact::Retry { child: *child }));
    }
    for kid in &play.world.kids {
        let child = kid.key;
        if kid.held {
            return Some((now, Fact::Held { child, held: false }));
        }
        if kid.paused == Some(None) && !play.core.is_ending() {
            let request = Request::Resume { child };
            return Some((now, Fact::Request { id: RequestId(play.next_request), request }));
        }
        let Some(life) = kid.life else { continue };
        let incarnation = life.incarnation;
        if life.asked.is_some() {
            return Some((now, Fact::Exited { child, incarnation, exit: Exit::Stopped }));
        }
        if life.ready.is_none() {
            return Some((now, Fact::Ready { child, incarnation }));
        }
    }
    if let Some(due) = play.core.next_due() {
        return Some((due.max(now), Fact::Tick));
    }
    let parked = play.seen.iter().find(|seen| seen.phase == Phase::Quarantined)?;
    let request = Request::ResetFailed { child: parked.key };
    Some((now, Fact::Request { id: RequestId(play.next_request), request }))
}

fn arrived(play: &Play) -> Result<(), Broken> {
    if let Some(open) = play.world.unanswered.first() {
        return broken("S18", || format!("request {open} was never answered"));
    }
    if play.world.ending {
        return if play.world.finished { Ok(()) } else { broken("S16", || "it never ends".to_owned()) };
    }
    let lost = |phase: Phase| !matches!(phase, Phase::Running | Phase::Stopped | Phase::Done);
    match play.seen.iter().find(|seen| lost(seen.phase)) {
        None => Ok(()),
        Some(seen) => broken("S13", || format!("{:?} stays {} for ever", seen.key, seen.phase.word())),
    }
}

/// Plays recorded facts; those that the world can no longer send are left out.
fn replay(tree: &Tree, facts: &[(Time, Fact)], log: bool) -> (Result<(), Broken>, String) {
    let mut play = Play::new(tree);
    play.log = log.then(String::new);
    let mut result = Ok(());
    for (now, fact) in facts {
        if possible(&play, fact) && result.is_ok() {
            play.next_request += 1;
            result = play.step((*now).max(play.world.now), fact.clone());
        }
    }
    if result.is_ok() && !play.world.finished {
        result = come_to_rest(&mut play);
    }
    (result, play.log.unwrap_or_default())
}

/// Whether a shell could send this now.
fn possible(play: &Play, fact: &Fact) -> bool {
    let ready = |child, incarnation| {
        play.world.lives(child, incarnation)
            && play.world.kid(child).is_some_and(|k| k.life.is_some_and(|l| l.ready.is_some()))
    };
    let known = |child, incarnation: regrow::id::Incarnation| {
        play.world.kid(child).is_some_and(|kid| incarnation <= kid.last)
    };
    match fact {
        Fact::Boot => play.seen.iter().all(|seen| seen.incarnation == 0) || play.world.starts == 0,
        Fact::Ready { child, incarnation }
        | Fact::Ignored { child, incarnation }
        | Fact::StartFailed { child, incarnation, .. } => {
            known(*child, *incarnation) && !ready(*child, *incarnation)
        }
        Fact::Exited { child, incarnation, .. }
        | Fact::Extend { child, incarnation, .. }
        | Fact::Classed { child, incarnation, .. }
        | Fact::Judged { child, incarnation, .. } => known(*child, *incarnation),
        Fact::Retry { child } => play.world.mailbox.contains(child),
        Fact::Tick
        | Fact::Held { .. }
        | Fact::Leave { .. }
        | Fact::Performed { .. }
        | Fact::Request { .. }
        | Fact::Shutdown
        | Fact::Kill => !play.world.finished,
    }
}

/// Records the facts of the seed, takes away what is not needed for the failure, and tells the rest.
fn explain(seed: u64, tree: &Tree, dice: Dice, broken: Broken) -> Box<Failure> {
    let mut facts = Vec::new();
    let mut play = Play::new(tree);
    let mut schedule = Schedule::new(dice, LENGTH);
    for _ in 0..LENGTH {
        let (now, fact) = schedule.next(&play);
        facts.push((now, fact.clone()));
        play.next_request += 1;
        if play.step(now, fact).is_err() || play.world.finished {
            break;
        }
    }
    let fails = |facts: &[(Time, Fact)]| matches!(replay(tree, facts, false).0, Err(again) if again.invariant == broken.invariant);
    if fails(&facts) {
        let mut size = facts.len() / 2;
        while size > 0 {
            // Without a boot nothing that follows means anything.
            let mut at = 1;
            while at < facts.len() {
                let mut fewer = facts.clone();
                fewer.drain(at..(at + size).min(facts.len()));
                if fails(&fewer) {
                    facts = fewer;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
    }
    let (result, log) = replay(tree, &facts, true);
    let broken = result.err().unwrap_or(broken);
    Box::new(Failure { seed, broken, story: format!("{tree}\n{log}") })
}
