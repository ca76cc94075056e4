//! Random traces that lead an OTP supervisor into its corners.
//!
//! A plain mix of commands parks a restart in one of ten cases and never meets a retry with a call. So the
//! generator keeps a [`Guess`] of who is up and what is parked, and leans on what is rare: starts that fail in
//! the middle of a group, retries crossed by calls, crashes queued together, ages of exactly one period. The
//! guess may be wrong (then a line turns out `invalid`, which is a case too); the answer is Erlang's alone.
//!
//! Left out on purpose: what OTP 25 does wrong and newer ones do right (an `ignore` on a restart under
//! `simple_one_for_one`, and `auto_shutdown` there); hand-made traces hold the newer rule. A child that ignores
//! `shutdown` costs real milliseconds, so these are few, with a shutdown of 10 to 30 ms.

use std::fmt::Write as _;

use super::guess::{Guess, Outcome, Strategy};
use crate::sim::dice::Dice;

const REASONS: [&str; 5] = ["crash", "kill", "normal", "shutdown", "shutdown_term"];
const OUTCOMES: [Outcome; 5] =
    [Outcome::Ok, Outcome::Ignore, Outcome::Error, Outcome::Crash, Outcome::Already];
const AUTOS: [&str; 3] = ["never", "any_significant", "all_significant"];

/// The case of this seed: from `sup` to the line before the next one.
pub(crate) fn case(seed: u64) -> String {
    let mut author = Author::new(seed);
    author.declare();
    author.play();
    author.text
}

/// Writes one case.
struct Author {
    dice: Dice,
    text: String,
    guess: Guess,
    auto: &'static str,
    period: u64,
    /// Hundredths of a second, so that fractions are seen to be cut off.
    clock: u64,
    /// How often which command comes, drawn anew for each case: a case that is nothing but retries and calls
    /// finds what an even mix does not.
    weights: [u32; 12],
}

impl Author {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let strategy =
            [Strategy::One, Strategy::All, Strategy::Rest, Strategy::Simple][dice.weighted(&[3, 3, 3, 2])];
        let intensity = dice.pick(&[0, 1, 1, 2, 2, 3, 3, 4, 6, 9]);
        let period = dice.pick(&[1, 2, 5, 5, 7, 60]);
        let auto = if strategy == Strategy::Simple { "never" } else { AUTOS[dice.weighted(&[2, 2, 2])] };
        let mut weights = [6, 4, 3, 5, 4, 3, 2, 2, 2, 1, 1, 1];
        for weight in &mut weights {
            *weight *= dice.pick(&[0, 1, 1, 3]);
        }
        weights[0] += 1;
        let guess = Guess::new(strategy, intensity, period, auto);
        Self { dice, text: String::new(), guess, auto, period, clock: 0, weights }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn declare(&mut self) {
        let (strategy, intensity) = (self.guess.strategy, self.guess.intensity);
        let auto = if self.auto == "never" && self.dice.chance(50) {
            String::new()
        } else {
            format!(" {}", self.auto)
        };
        self.line(&format!("sup {} {intensity} {}{auto}", strategy.word(), self.period));
        if self.dice.chance(30) {
            self.clock = self.dice.between(0, 500);
            self.tell_time();
        }
        let children = if strategy == Strategy::Simple { 1 } else { self.dice.between(1, 6) };
        let duplicate = self.dice.chance(2);
        for number in 0..children {
            let id = if duplicate && number > 0 { "a".to_owned() } else { letter(number) };
            let words = self.spec(&id);
            self.line(&format!("child {words}"));
            self.guess.declare(&id, &words);
        }
        for number in 0..children {
            if strategy != Strategy::Simple {
                self.manners(&letter(number));
            }
            if strategy != Strategy::Simple && self.dice.chance(6) {
                let outcome = self.dice.pick(&OUTCOMES);
                self.script(&letter(number), &[outcome]);
            }
        }
        self.line("boot");
        self.guess.boot();
    }

    /// The words of a child's declaration. Who will ignore `shutdown` gets a short one, everybody else one that
    /// a slow machine meets too.
    fn spec(&mut self, id: &str) -> String {
        let (fresh, template) =
            (self.guess.known.insert(id.to_owned()), self.guess.strategy == Strategy::Simple);
        if fresh && self.dice.chance(if template { 12 } else { 7 }) {
            // All children of a template with a short shutdown ignore it: one that obeys could come too late.
            self.guess.stubborn.insert(if template { "*" } else { id }.to_owned());
        }
        let restart = self.dice.pick(&["permanent", "permanent", "transient", "transient", "temporary"]);
        let shutdown = if self.guess.is_stubborn(id) {
            self.dice.pick(&["10", "20", "30"])
        } else {
            self.dice.pick(&["brutal_kill", "infinity", "1000", "1000", "1000", "5000", "5000"])
        };
        let kind = self.dice.pick(&["worker", "worker", "supervisor"]);
        let may = self.auto != "never" && restart != "permanent";
        let significant =
            if (may && self.dice.chance(55)) || self.dice.chance(1) { " significant" } else { "" };
        format!("{id} {restart} {shutdown} {kind}{significant}")
    }

    /// How a child answers a shutdown.
    fn manners(&mut self, id: &str) {
        if self.guess.is_stubborn(id) {
            self.line(&format!("onstop {id} ignore"));
        } else if self.dice.chance(25) {
            let reason = self.dice.pick(&["crash", "normal", "shutdown", "shutdown_term", "killed"]);
            self.line(&format!("onstop {id} exit:{reason}"));
        } else if self.dice.chance(5) {
            self.line(&format!("onstop {id} comply"));
        }
    }

    fn play(&mut self) {
        let commands = self.dice.between(3, 22);
        for _ in 0..commands {
            if self.guess.over {
                if self.dice.chance(60) {
                    break;
                }
                if self.dice.chance(40) {
                    // In case the guess is wrong: a second supervisor beside a living one means nothing.
                    self.line("stop");
                    self.line("boot");
                    self.guess.boot();
                    continue;
                }
            }
            self.command();
        }
        if self.dice.chance(60) {
            self.line("stop");
        }
    }

    fn command(&mut self) {
        if self.guess.strategy == Strategy::Simple && !self.guess.parked.is_empty() && self.dice.chance(25) {
            self.call_parked();
            return;
        }
        if self.guess.strategy == Strategy::Simple && self.guess.all_up().len() < 2 && self.dice.chance(50) {
            self.call_start();
            return;
        }
        match self.dice.weighted(&self.weights.clone()) {
            0 => self.exit(),
            1 => self.failing_restart(),
            2 => self.exits(),
            3 => self.retry(),
            4 => self.call_parked(),
            5 => self.time(),
            6 => self.call_any(),
            7 => self.call_start(),
            8 => self.group_failure(),
            9 => self.check(),
            10 => self.nonsense(),
            _ => {
                if self.dice.chance(20) {
                    self.line("stop");
                    self.guess.stop();
                } else {
                    let line = self.dice.pick(&["call which", "call count"]);
                    self.line(line);
                }
            }
        }
    }

    fn reason(&mut self) -> &'static str {
        REASONS[self.dice.weighted(&[6, 3, 2, 1, 1])]
    }

    fn exit(&mut self) {
        let Some(id) = self.guess.any_up(&mut self.dice) else {
            self.retry();
            return;
        };
        let reason = self.reason();
        self.exit_of(&id, reason);
    }

    fn exit_of(&mut self, id: &str, reason: &str) {
        self.line(&format!("exit {id} {reason}"));
        self.guess.exit(id, reason, self.clock / 100);
    }

    fn script(&mut self, id: &str, outcomes: &[Outcome]) {
        let words = outcomes.iter().map(|o| o.word()).collect::<Vec<_>>().join(",");
        self.line(&format!("script {id} {words}"));
        self.guess.script(id, outcomes);
    }

    /// An outcome of a restart.
    fn outcome(&mut self) -> Outcome {
        let outcome = OUTCOMES[self.dice.weighted(&[1, 2, 6, 2, 1])];
        self.handled(outcome)
    }

    /// An `ignore` on a restart is only for those supervisors that OTP 25 handles; also where a call is refused, since
    /// the script then waits for the next restart.
    fn handled(&self, outcome: Outcome) -> Outcome {
        if self.guess.strategy == Strategy::Simple && outcome == Outcome::Ignore {
            Outcome::Error
        } else {
            outcome
        }
    }

    fn outcomes(&mut self) -> Vec<Outcome> {
        let count = self.dice.between(1, 3);
        (0..count).map(|_| self.outcome()).collect()
    }

    fn failing_restart(&mut self) {
        let Some(id) = self.guess.any_up(&mut self.dice) else {
            self.retry();
            return;
        };
        let outcomes = self.outcomes();
        self.script(&id, &outcomes);
        let reason = self.dice.pick(&["crash", "kill"]);
        self.exit_of(&id, reason);
    }

    /// One child crashes, and another one's start fails.
    fn group_failure(&mut self) {
        let (Some(offender), Some(victim)) =
            (self.guess.any_up(&mut self.dice), self.guess.any(&mut self.dice))
        else {
            return;
        };
        let outcomes = self.outcomes();
        self.script(&victim, &outcomes);
        self.exit_of(&offender, "crash");
    }

    fn exits(&mut self) {
        let mut ids = self.guess.all_up();
        if ids.len() < 2 {
            self.exit();
            return;
        }
        while ids.len() > 2 && self.dice.chance(60) {
            let out = self.dice.below(ids.len());
            ids.remove(out);
        }
        if self.dice.chance(50) {
            ids.reverse();
        }
        if self.dice.chance(30) {
            let outcomes = self.outcomes();
            let id = ids[0].clone();
            self.script(&id, &outcomes);
        }
        let ends: Vec<(String, &str)> = ids.into_iter().map(|id| (id, self.reason())).collect();
        let mut line = String::from("exits");
        for (id, reason) in &ends {
            write!(line, " {id}:{reason}").unwrap();
        }
        self.line(&line);
        for (id, reason) in &ends {
            self.guess.exit(id, reason, self.clock / 100);
        }
    }

    fn retry(&mut self) {
        if self.guess.parked.is_empty() && self.dice.chance(85) {
            self.time();
            return;
        }
        self.line("retry");
        self.guess.retry(self.clock / 100);
    }

    /// A call that meets a parked restart.
    fn call_parked(&mut self) {
        let Some(id) = self.guess.any_parked(&mut self.dice) else {
            self.call_any();
            return;
        };
        let verb = if self.guess.strategy == Strategy::Simple {
            self.dice.pick(&["terminate", "terminate", "spec", "restart"])
        } else {
            self.dice.pick(&["terminate", "terminate", "restart", "delete", "spec", "start"])
        };
        self.call(verb, &id);
        if self.dice.chance(50) {
            self.retry();
        }
    }

    fn call_any(&mut self) {
        let id = match self.guess.any(&mut self.dice) {
            Some(id) if !self.dice.chance(8) => id,
            Some(_) | None => "nobody".to_owned(),
        };
        let template = self.guess.strategy == Strategy::Simple && !self.dice.chance(30);
        let verb = if template {
            self.dice.pick(&["terminate", "spec"])
        } else {
            self.dice.pick(&["terminate", "terminate", "restart", "restart", "delete", "spec"])
        };
        let id = match self.guess.any_down(&mut self.dice) {
            Some(down) if verb == "restart" && self.dice.chance(70) => down,
            Some(_) | None => id,
        };
        if verb == "restart" && self.dice.chance(50) {
            let outcome =
                self.dice.pick(&[Outcome::Error, Outcome::Ignore, Outcome::Crash, Outcome::Already]);
            let outcome = self.handled(outcome);
            self.script(&id, &[outcome]);
        }
        self.call(verb, &id);
    }

    fn call(&mut self, verb: &str, id: &str) {
        if verb == "start" {
            self.start(id);
            return;
        }
        self.line(&format!("call {verb} {id}"));
        self.guess.call(verb, id);
    }

    fn call_start(&mut self) {
        let fresh = letter(self.guess.declared() as u64);
        let id = match self.guess.any(&mut self.dice) {
            Some(id) if self.dice.chance(20) && self.guess.strategy != Strategy::Simple => id,
            Some(_) | None => fresh,
        };
        if self.dice.chance(50) {
            let outcome = OUTCOMES[self.dice.weighted(&[1, 4, 1, 1, 1])];
            self.script(&id, &[outcome]);
        }
        self.start(&id);
    }

    fn start(&mut self, id: &str) {
        if self.guess.strategy == Strategy::Simple {
            if self.guess.declared() < 25 {
                self.line(&format!("call start {id}"));
                self.guess.start(id, id);
                self.manners(id);
            }
            return;
        }
        let words = self.spec(id);
        self.line(&format!("call start {words}"));
        self.guess.start(id, &words);
        self.manners(id);
    }

    /// Moves the clock to where a period ends, or just anywhere.
    fn time(&mut self) {
        let period = self.period * 100;
        self.clock = match (self.dice.below(5), self.guess.oldest_restart()) {
            (0, Some(oldest)) => (oldest * 100 + period).max(self.clock),
            (1, Some(oldest)) => (oldest * 100 + period + 99).max(self.clock),
            (2, Some(oldest)) => (oldest * 100 + period + 100).max(self.clock),
            (3, _) => self.clock + self.dice.between(1, 150),
            (_, _) => self.clock + self.dice.between(0, period * 2),
        };
        self.tell_time();
    }

    fn tell_time(&mut self) {
        let (whole, hundredths) = (self.clock / 100, self.clock % 100);
        let line = if hundredths == 0 && self.dice.chance(50) {
            format!("at {whole}")
        } else {
            format!("at {whole}.{hundredths:02}")
        };
        self.line(&line);
    }

    fn check(&mut self) {
        let restart = self.dice.pick(&["permanent", "transient", "temporary", "sometimes"]);
        let shutdown = self.dice.pick(&["0", "1000", "infinity", "brutal_kill", "soon", "-1"]);
        let kind = self.dice.pick(&["worker", "supervisor", "machine"]);
        let significant = self.dice.pick(&["true", "false", "maybe"]);
        let auto = self.dice.pick(&["never", "any_significant", "all_significant", "now"]);
        self.line(&format!("check z {restart} {shutdown} {kind} {significant} {auto}"));
    }

    /// A line that should turn out `invalid`.
    fn nonsense(&mut self) {
        let id = self.guess.any(&mut self.dice).unwrap_or_else(|| "nobody".to_owned());
        let line = match self.dice.below(8) {
            0 => "exit nobody crash".to_owned(),
            1 => format!("exits {id}:crash {id}:kill"),
            2 => "exits".to_owned(),
            3 => format!("exit {id}"),
            4 => "dance".to_owned(),
            5 => format!("call dance {id}"),
            6 => "retry now".to_owned(),
            _ => format!("exits {id}:crash nobody:crash"),
        };
        self.line(&line);
    }
}

fn letter(number: u64) -> String {
    let letters = "abcdefghijklmnopqrstuvwxyz";
    let at = usize::try_from(number).unwrap();
    letters.get(at..=at).map_or_else(|| format!("x{number}"), str::to_owned)
}
