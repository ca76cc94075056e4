//! Which rare states a set of answered traces has reached.
//!
//! A differential test proves something only about what its traces reach, and nothing says by itself that a
//! change of the generator has lost a corner. So every rare state has a name here, is counted in Erlang's
//! answers, and a count of 0 fails the test.

use std::collections::HashMap;

/// One command with its surroundings.
struct Step<'a> {
    words: Vec<&'a str>,
    lines: Vec<&'a str>,
    /// The children of the last `state` line, with `up`, `down` or `restarting`.
    before: Vec<(&'a str, &'a str)>,
    strategy: &'a str,
    intensity: usize,
    period: u64,
    auto: &'a str,
    /// RESTART of each declared child.
    restart: HashMap<&'a str, &'a str>,
    now: u64,
    /// When restart events came before this step.
    events: Vec<u64>,
    /// Whether the supervisor of this case has lived before.
    second_life: bool,
}

impl Step<'_> {
    fn verb(&self) -> &str {
        self.words[0]
    }

    fn call(&self, verb: &str) -> bool {
        self.words.len() > 2 && self.words[0] == "call" && self.words[1] == verb
    }

    fn has(&self, start: &str) -> bool {
        self.lines.iter().any(|line| line.starts_with(start))
    }

    fn count(&self, start: &str) -> usize {
        self.lines.iter().filter(|line| line.starts_with(start)).count()
    }

    fn says(&self, text: &str) -> bool {
        self.lines.iter().any(|line| line.contains(text))
    }

    fn automatic(&self) -> bool {
        matches!(self.verb(), "exit" | "exits" | "retry")
    }

    fn group(&self) -> bool {
        matches!(self.strategy, "one_for_all" | "rest_for_one")
    }

    fn gave_up(&self) -> bool {
        self.says("reached_max_restart_intensity")
    }

    fn event(&self) -> bool {
        self.automatic() && (self.has("start ") || self.gave_up())
    }

    fn was(&self, id: &str, what: &str) -> bool {
        self.before.iter().any(|(name, at)| *name == id && *at == what)
    }

    fn pending(&self) -> bool {
        self.before.iter().any(|(_, at)| *at == "restarting")
    }

    fn outcome(&self, outcome: &str) -> bool {
        self.automatic() && self.lines.iter().any(|l| l.starts_with("start ") && l.ends_with(outcome))
    }

    /// Significant children ended the supervisor.
    fn auto_shutdown(&self, auto: &str) -> bool {
        self.auto == auto && self.automatic() && self.has("sup_exit shutdown") && !self.gave_up()
    }

    fn started(&self, id: &str) -> bool {
        self.lines.iter().any(|l| l.strip_prefix("start ").is_some_and(|l| l.split('#').next() == Some(id)))
    }

    /// A start that was not the first of this answer failed.
    fn fails_in_the_middle(&self) -> bool {
        let starts: Vec<&&str> = self.lines.iter().filter(|l| l.starts_with("start ")).collect();
        starts.len() > 1 && self.has("park ")
    }
}

type Test = fn(&Step<'_>) -> bool;

/// Every rare state, by name.
const RARE: [(&str, Test); 52] = [
    ("a boot that fails in the middle", |s| s.has("boot_error") && s.has("signal ")),
    ("a boot refused before any start", |s| s.has("boot_error {start_spec")),
    ("a duplicate id", |s| s.says("duplicate_child_name")),
    ("an ignored start at boot", |s| s.verb() == "boot" && s.says(" ignore") && s.has("boot ok")),
    ("a second life", |s| s.verb() == "boot" && s.second_life && s.has("boot ok")),
    ("a restart that fails", |s| s.verb() == "exit" && s.has("park ")),
    ("a restart that fails in the middle of a group", |s| {
        s.verb() == "exit" && s.group() && s.fails_in_the_middle()
    }),
    ("a retry that fails", |s| s.verb() == "retry" && s.has("park ")),
    ("a retry that fails in the middle of a group", |s| {
        s.verb() == "retry" && s.group() && s.fails_in_the_middle()
    }),
    ("one_for_all: a retry stops the restarted", |s| {
        s.verb() == "retry" && s.strategy == "one_for_all" && s.has("signal ")
    }),
    ("rest_for_one: a retry starts the rest", |s| {
        s.verb() == "retry" && s.strategy == "rest_for_one" && s.count("start ") > 1 && !s.has("signal ")
    }),
    ("a retry that means nothing any more", |s| s.verb() == "retry" && s.lines.len() == 1 && s.has("state")),
    ("a retry with nothing parked", |s| s.has("nothing_parked")),
    ("two parked at once", |s| s.before.iter().filter(|(_, at)| *at == "restarting").count() > 1),
    ("a crash while another is parked", |s| s.verb() == "exit" && s.pending() && s.has("start ")),
    ("a crash revives the parked", |s| {
        s.verb() == "exit" && s.before.iter().any(|(id, at)| *at == "restarting" && s.started(id))
    }),
    ("stop while one is parked", |s| s.verb() == "stop" && s.pending()),
    ("terminate cancels a parked restart", |s| s.call("terminate") && s.was(s.words[2], "restarting")),
    ("restart refused: restarting", |s| s.call("restart") && s.says("{error,restarting}")),
    ("delete refused: restarting", |s| s.call("delete") && s.says("{error,restarting}")),
    ("start refused: parked", |s| {
        s.call("start") && s.was(s.words[2], "restarting") && s.says("already_present")
    }),
    ("start refused: up", |s| {
        s.call("start") && s.says("{error,already_started}") && s.was(s.words[2], "up")
    }),
    ("start refused: down", |s| s.call("start") && s.was(s.words[2], "down") && s.says("already_present")),
    ("restart of a child that is down fails", |s| s.call("restart") && s.says("{error,scripted}")),
    ("restart of a child that is down is ignored", |s| s.call("restart") && s.says("{ok,undefined}")),
    ("several exits, one event", |s| {
        s.verb() == "exits" && s.group() && s.count("report child_terminated") == 1
    }),
    ("several exits, several events", |s| s.verb() == "exits" && s.count("report child_terminated") > 1),
    ("a sibling already dead when its turn to stop comes", |s| {
        s.verb() == "exits" && s.has("report shutdown_error")
    }),
    ("several exits end the supervisor", |s| s.verb() == "exits" && s.has("sup_exit")),
    ("an event aged exactly one period", |s| s.event() && s.events.iter().any(|at| at + s.period == s.now)),
    ("give-up by an event aged exactly one period", |s| {
        s.gave_up()
            && s.events.iter().any(|at| at + s.period == s.now)
            && s.events.iter().filter(|at| **at + s.period > s.now).count() < s.intensity
    }),
    ("an event one second older than the period", |s| {
        s.event() && !s.gave_up() && s.events.iter().any(|at| at + s.period + 1 == s.now)
    }),
    ("intensity 0", |s| s.intensity == 0 && s.gave_up()),
    ("give-up by an exit", |s| s.verb() == "exit" && s.gave_up()),
    ("give-up by a retry", |s| s.verb() == "retry" && s.gave_up()),
    ("a restart that is ignored", |s| s.outcome(" ignore")),
    ("a restart that raises", |s| s.outcome(" crash")),
    ("a restart that is already there", |s| s.outcome(" already")),
    ("a temporary bystander is removed", |s| {
        s.automatic()
            && s.group()
            && s.has("start ")
            && s.before.iter().any(|(id, at)| {
                *at == "up"
                    && s.restart.get(id) == Some(&"temporary")
                    && !s.words[1..].iter().any(|w| w.starts_with(id))
            })
    }),
    ("a child that was down is revived by a group", |s| {
        s.verb() == "exit" && s.before.iter().any(|(id, at)| *at == "down" && s.started(id))
    }),
    ("any_significant ends the supervisor", |s| s.auto_shutdown("any_significant")),
    ("all_significant ends the supervisor", |s| s.auto_shutdown("all_significant")),
    ("all_significant waits for another", |s| {
        s.auto == "all_significant"
            && s.verb() == "exit"
            && !s.has("start ")
            && s.has("state")
            && s.before.len() > 1
    }),
    ("a child that ignores shutdown is killed", |s| s.has("report shutdown_error") && s.says(" killed")),
    ("a permanent child ends normally when asked", |s| {
        s.lines.iter().any(|l| l.starts_with("report shutdown_error") && l.ends_with(" normal"))
    }),
    ("brutal_kill", |s| {
        let asked = s.lines.iter().filter(|l| l.starts_with("signal ") && l.ends_with("shutdown")).count();
        s.lines.iter().filter(|l| l.starts_with("signal ") && l.ends_with("kill")).count() > asked
    }),
    ("template: parked", |s| s.strategy == "simple_one_for_one" && s.has("park ")),
    ("template: a parked restart is cancelled", |s| {
        s.strategy == "simple_one_for_one"
            && s.call("terminate")
            && s.pending()
            && !s.has("signal")
            && s.says("reply ok")
    }),
    ("template: errors grouped by reason", |s| {
        s.strategy == "simple_one_for_one"
            && s.lines.iter().any(|l| l.starts_with("report shutdown_error") && !l.contains('#'))
    }),
    ("template: a call nobody can answer", |s| s.says("{error,simple_one_for_one}")),
    ("an invalid line", |s| s.lines.first() == Some(&"invalid")),
    ("an ignored temporary start is not kept", |s| {
        s.call("start") && s.words.get(3) == Some(&"temporary") && s.says("{ok,undefined}")
    }),
];

/// Counts of all rare states over one or more answers, in the order of the list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census(Vec<usize>);

impl Census {
    /// Adds what the answer to one case shows; gives the rare states it has reached.
    pub(crate) fn add(&mut self, answer: &str) -> Vec<usize> {
        self.0.resize(RARE.len(), 0);
        let mut reached = Vec::new();
        for step in steps(answer) {
            for (index, (_, test)) in RARE.iter().enumerate() {
                if test(&step) {
                    self.0[index] += 1;
                    reached.push(index);
                }
            }
        }
        reached
    }

    /// How often this one was reached.
    pub(crate) fn count(&self, index: usize) -> usize {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Those never reached.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        RARE.iter()
            .enumerate()
            .filter(|(index, _)| self.count(*index) == 0)
            .map(|(_, (name, _))| *name)
            .collect()
    }

    /// One line for each.
    pub(crate) fn table(&self) -> String {
        RARE.iter()
            .enumerate()
            .map(|(index, (name, _))| format!("{:>8}  {name}\n", self.count(index)))
            .collect()
    }
}

/// Reads the answer to one case.
fn steps(answer: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let (mut strategy, mut intensity, mut period, mut auto) = ("", 0, 1, "never");
    let (mut before, mut restart, mut now) = (Vec::new(), HashMap::new(), 0);
    let (mut events, mut lives) = (Vec::new(), 0);
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in answer.lines() {
        match blocks.last_mut() {
            Some(block) if !line.starts_with("> ") => block.push(line),
            Some(_) | None => blocks.push(vec![line]),
        }
    }
    for block in blocks {
        let words: Vec<&str> = block[0].trim_start_matches("> ").split(' ').collect();
        match words.as_slice() {
            ["sup", s, i, p, rest @ ..] => {
                (strategy, intensity, period) = (*s, i.parse().unwrap_or(0), p.parse().unwrap_or(1));
                auto = rest.first().copied().unwrap_or("never");
            }
            ["child", id, how, ..] | ["call", "start", id, how, ..] => {
                restart.insert(*id, *how);
            }
            ["at", time] => now = time.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(now),
            [..] => {}
        }
        let step = Step {
            words,
            lines: block[1..].to_vec(),
            before: std::mem::take(&mut before),
            strategy,
            intensity,
            period,
            auto,
            restart: restart.clone(),
            now,
            events: events.clone(),
            second_life: lives > 0,
        };
        if step.has("boot ok") {
            lives += 1;
            events.clear();
        }
        if step.event() {
            events.push(now);
        }
        before = state(&step);
        steps.push(step);
    }
    steps
}

/// The children after this step; those from before it if it says nothing about them.
fn state<'a>(step: &Step<'a>) -> Vec<(&'a str, &'a str)> {
    if step.has("sup_exit") || step.has("boot_error") {
        return Vec::new();
    }
    let Some(line) = step.lines.iter().find_map(|l| l.strip_prefix("state")) else {
        return step.before.clone();
    };
    line.split_whitespace()
        .filter_map(|child| child.split_once('='))
        .map(|(name, at)| (name.split('#').next().unwrap_or(name), at))
        .collect()
}
