//! The keys of a service.

use std::collections::BTreeMap;

use super::form::{Entry, Setting};
use super::systemd_exec::{About, Exec, commands, kill_of_main, specifiers, split};
use super::systemd_keys::{exit_code, why};
use super::units::{bytes, systemd_time, whole, yes};
use super::words::{self, template};
use crate::units::format_size;

/// What a service says as a whole, while its lines are gone through one by one.
pub(super) struct Service<'a> {
    about: About,
    values: &'a [(&'a str, &'a str, &'a str)],
    /// Names of units and their workers.
    units: &'a BTreeMap<String, String>,
    own: &'a str,
    /// How many of its commands, variables and `After=` lines have been seen.
    seen: BTreeMap<&'static str, usize>,
    waits: bool,
}

impl<'a> Service<'a> {
    pub(super) fn new(
        about: About,
        values: &'a [(&'a str, &'a str, &'a str)],
        units: &'a BTreeMap<String, String>,
        own: &'a str,
    ) -> Self {
        Self { about, values, units, own, seen: BTreeMap::new(), waits: false }
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(_, own, _)| *own == key).map(|(_, _, value)| *value)
    }

    /// The last value of a key; an empty one takes it back.
    fn last(&self, key: &str) -> Option<&'a str> {
        self.all(key).last().filter(|value| !value.is_empty())
    }

    /// How many values of a list come before the last that takes all back.
    fn taken_back(&self, key: &str) -> usize {
        let values: Vec<_> = self.all(key).collect();
        values.iter().rposition(|value| value.is_empty()).map_or(0, |at| at + 1)
    }

    /// The number of this line among those of its key.
    fn number(&mut self, key: &'static str) -> usize {
        let seen = self.seen.entry(key).or_default();
        *seen += 1;
        *seen - 1
    }

    /// What became of one line.
    pub(super) fn entry(&mut self, section: &str, key: &str, value: &str, raw: &str) -> Entry {
        match section {
            "Unit" | "Service" | "Install" => {}
            _ => return Entry::left(raw, why(section, key)),
        }
        match key {
            "Description" | "Documentation" | "SourcePath" => Entry::kept(raw),
            "WantedBy" | "RequiredBy" | "UpheldBy" => Entry::same(raw, "regrow starts all that are enabled"),
            "After" => self.after(raw),
            "ExecStart" => self.command(raw),
            "Environment" => self.environment(value, raw),
            _ if value.is_empty() => Entry::same(raw, "the default again"),
            "StartLimitBurst" | "StartLimitIntervalSec" | "StartLimitInterval" => match self.limit() {
                Some(_) => Entry::same(raw, "in a supervisor of its own, below"),
                None if self.about.is_template() => {
                    Entry::left(raw, "`intensity` of its supervisor says how often")
                }
                None => Entry::left(
                    raw,
                    "regrow always counts: 10 in 5m unless `intensity` of the supervisor says else",
                ),
            },
            _ => self.setting(section, key, value, raw),
        }
    }

    /// How many starts in how long, if it says anything.
    pub(super) fn limit(&self) -> Option<(String, String)> {
        let interval = self.last("StartLimitIntervalSec").or_else(|| self.last("StartLimitInterval"));
        let burst = self.last("StartLimitBurst");
        if (interval.is_none() && burst.is_none()) || self.about.is_template() {
            return None;
        }
        let within = interval.map_or(Some(std::time::Duration::from_secs(10)), systemd_time)?;
        let starts: u32 = burst.unwrap_or("5").parse().ok()?;
        (!within.is_zero() && starts > 0).then(|| (starts.to_string(), whole(within)))
    }

    fn after(&mut self, raw: &str) -> Entry {
        const NOT_HERE: &str = "not among the files that were read";
        let own = self.own;
        let listed = |value: &'a str| value.split_whitespace();
        let known: Vec<&String> = self
            .all("After")
            .flat_map(listed)
            .filter(|unit| *unit != own && !unit.contains("@."))
            .filter_map(|unit| self.units.get(unit))
            .collect();
        if known.is_empty() || self.about.is_template() {
            return Entry::left(raw, NOT_HERE);
        }
        if std::mem::replace(&mut self.waits, true) {
            return Entry::same(raw, "in `after` above, as far as they were read");
        }
        let mut names: Vec<&str> = Vec::new();
        for name in known {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let others: Vec<_> =
            self.all("After").flat_map(listed).filter(|unit| !self.units.contains_key(*unit)).collect();
        let entry = Entry::taken(raw, [Setting::texts("after", names)]);
        if others.is_empty() { entry } else { entry.note(format!("left: {} ({NOT_HERE})", others.join(" "))) }
    }

    fn command(&mut self, raw: &str) -> Entry {
        let number = self.number("ExecStart");
        let back = self.taken_back("ExecStart");
        let lines: Vec<&str> = self.all("ExecStart").collect();
        if number < back {
            return Entry::same(raw, "taken back below");
        }
        if number + 1 < lines.len() {
            return Entry::same(raw, "part of the command below");
        }
        let found: Result<Vec<Vec<Exec>>, String> =
            lines[back..].iter().map(|value| commands(&self.about, value)).collect();
        let all: Vec<Exec> = match found {
            Ok(found) => found.into_iter().flatten().collect(),
            Err(why) => return Entry::left(raw, why),
        };
        let argv = match all.as_slice() {
            [] => return Entry::left(raw, "it names no program"),
            [one] => words::command(&one.words),
            many => {
                let mut line = String::new();
                for (number, exec) in many.iter().enumerate() {
                    line.push_str(&words::shell_line(&exec.words));
                    let ignored = exec.notes.iter().any(|note| note.starts_with("`-`"));
                    line.push_str(match (number + 1 == many.len(), ignored) {
                        (true, _) => "",
                        (false, true) => "; ",
                        (false, false) => " && ",
                    });
                }
                vec!["/bin/sh".to_owned(), "-c".to_owned(), line]
            }
        };
        let gains = words::gains_rights(&argv) && self.last("NoNewPrivileges").is_none();
        let no_new_privs = gains.then(|| Setting::raw("no_new_privs", "false"));
        let entry = Entry::taken(raw, [Setting::texts("command", argv)].into_iter().chain(no_new_privs));
        let mut notes: Vec<&str> = all.iter().flat_map(|exec| exec.notes.iter().copied()).collect();
        notes.dedup();
        entry.note(notes.join(". "))
    }

    fn environment(&mut self, value: &str, raw: &str) -> Entry {
        if self.number("Environment") < self.taken_back("Environment") {
            return Entry::same(raw, "taken back below");
        }
        if value.is_empty() {
            return Entry::same(raw, "nothing is set");
        }
        let words = match split(value) {
            Ok(words) => words,
            Err(why) => return Entry::left(raw, why),
        };
        let (mut sets, mut left) = (Vec::new(), Vec::new());
        for word in words.into_iter().map(Option::unwrap_or_default) {
            match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    match specifiers(&self.about, value).map(|parts| template(&parts)) {
                        Ok(Some(text)) => sets.push(Setting::env(name, &text)),
                        Ok(None) => left.push(format!("{name} (regrow puts no variables into others)")),
                        Err(why) => left.push(format!("{name} ({why})")),
                    }
                }
                Some(_) | None => left.push(format!("{word} (no NAME=VALUE)")),
            }
        }
        if sets.is_empty() {
            return Entry::left(raw, left.join(", "));
        }
        let entry = Entry::taken(raw, sets);
        if left.is_empty() { entry } else { entry.note(format!("left: {}", left.join(", "))) }
    }

    fn setting(&self, section: &str, key: &str, value: &str, raw: &str) -> Entry {
        let said = |setting: Option<Setting>| match setting {
            Some(setting) => Entry::taken(raw, [setting]),
            None => Entry::left(raw, "this value makes no sense to regrow, or it has no such bound"),
        };
        let time = |key: &str| said(systemd_time(value).map(|time| Setting::text(key, &whole(time))));
        let text = |key: &str| said(self.text(value).map(|text| Setting::text(key, &text)));
        let integer =
            |key: &str| said(value.parse::<i64>().ok().map(|number| Setting::raw(key, number.to_string())));
        match key {
            "Type" => self.kind(value, raw),
            "Restart" => restart(value, raw),
            "RestartSec" => self.backoff(value, raw),
            "RestartSteps" | "RestartMaxDelaySec" if self.last("RestartSec").is_some() => {
                Entry::same(raw, "part of `backoff`")
            }
            "RemainAfterExit" => Entry::same(raw, "a worker that ended well is shown as done"),
            "PIDFile" if self.last("Type") == Some("forking") => text("pid_file"),
            "PIDFile" => Entry::same(raw, "regrow knows the main process of what it started"),
            "GuessMainPID" => Entry::same(raw, "regrow guesses no pid"),
            "TimeoutStartSec" if is_endless(value) => {
                Entry::taken(raw, [Setting::text("start_timeout", "1d")])
                    .note("regrow waits for no start without a bound; a day stands for none.")
            }
            "TimeoutStartSec" | "TimeoutStopSec" | "TimeoutSec"
                if systemd_time(value).is_none_or(|time| time.is_zero()) =>
            {
                Entry::left(raw, "regrow waits for no stop without a bound; its own bounds hold")
            }
            "TimeoutStartSec" => time("start_timeout"),
            "TimeoutStopSec" => time("stop.timeout"),
            "TimeoutSec" => {
                let time = systemd_time(value).map(whole).unwrap_or_default();
                Entry::taken(
                    raw,
                    [Setting::text("start_timeout", &time), Setting::text("stop.timeout", &time)],
                )
            }
            "RuntimeMaxSec" => time("recycle.after").note("It is replaced then, which is no failure."),
            "WatchdogSec" => watchdog(value, raw),
            "NotifyAccess" => Entry::same(raw, "every process of the worker may notify"),
            "SuccessExitStatus" => codes(value, raw, "exit_codes.normal", Some("0")),
            "RestartPreventExitStatus" => codes(value, raw, "exit_codes.fatal", None),
            "KillSignal" => text("stop.signal"),
            "KillMode" => match value {
                "control-group" => Entry::taken(raw, [Setting::text("stop.to", "group")]),
                "mixed" => Entry::taken(raw, [Setting::text("stop.to", "main")]),
                "process" => {
                    let note = "After stop.timeout the whole tree is killed, always.";
                    Entry::taken(raw, [Setting::text("stop.to", "main")]).note(note)
                }
                _ => Entry::left(raw, why(section, key)),
            },
            "ExecReload" | "ExecStop" => match (kill_of_main(value), key) {
                (Some(signal), "ExecReload") => Entry::taken(raw, [Setting::text("reload.signal", &signal)]),
                (Some(signal), _) => Entry::taken(raw, [Setting::text("stop.signal", &signal)]),
                (None, "ExecReload") => {
                    Entry::left(raw, "`regrow reload` sends reload.signal, or restarts one after the other")
                }
                (None, _) => Entry::left(
                    raw,
                    "regrow stops with stop.signal; a script in front of the program can catch it",
                ),
            },
            "User" => text("user"),
            "Group" => text("group"),
            "UMask" => said(
                Some(value.trim_start_matches('0'))
                    .filter(|mask| mask.len() <= 3)
                    .map(|mask| Setting::text("umask", &format!("{mask:0>3}"))),
            ),
            "Nice" => integer("nice"),
            "OOMScoreAdjust" => integer("oom_score_adj"),
            "NoNewPrivileges" => match yes(value) {
                Some(true) => Entry::same(raw, "the default"),
                Some(false) => Entry::taken(raw, [Setting::raw("no_new_privs", "false")]),
                None => said(None),
            },
            "WorkingDirectory" => match value.strip_prefix('-') {
                Some(path) => said(self.text(path).map(|path| Setting::text("cwd", &path)))
                    .note("`-`: a start fails here if it is not there."),
                None if value.starts_with('~') => Entry::left(raw, "write the path of the home directory"),
                None => text("cwd"),
            },
            "PassEnvironment" => Entry::taken(raw, [Setting::texts("inherit_env", value.split_whitespace())]),
            "MemoryMax" | "MemoryLimit" | "TasksMax" | "LimitNOFILE" | "CPUQuota" if value == "infinity" => {
                Entry::same(raw, "no bound is the default")
            }
            "MemoryMax" | "MemoryLimit" => {
                said(bytes(value).map(|bytes| Setting::text("limits.memory", &format_size(bytes))))
            }
            "CPUQuota" => said(
                value
                    .strip_suffix('%')
                    .and_then(|percent| percent.parse::<f64>().ok())
                    .filter(|percent| percent.is_finite() && (0.0..1e6).contains(percent))
                    .map(|percent| Setting::raw("limits.cpu", format!("{:?}", percent / 100.0))),
            ),
            "TasksMax" => integer("limits.processes"),
            // The hard one, so that a program that raises its own goes on doing so.
            "LimitNOFILE" => {
                let hard = value.rsplit(':').next().unwrap_or(value);
                said(
                    hard.parse::<u64>()
                        .ok()
                        .map(|files| Setting::raw("limits.open_files", files.to_string())),
                )
            }
            _ => Entry::left(raw, why(section, key)),
        }
    }

    /// With specifiers, and without variables.
    fn text(&self, value: &str) -> Option<String> {
        specifiers(&self.about, value).ok().and_then(|parts| template(&parts))
    }

    fn kind(&self, value: &str, raw: &str) -> Entry {
        match value {
            "simple" | "exec" | "idle" => Entry::same(raw, "the default"),
            "notify" => Entry::taken(raw, [Setting::text("ready", "notify")]),
            "notify-reload" => {
                Entry::taken(raw, [Setting::text("ready", "notify"), Setting::text("reload.signal", "HUP")])
            }
            "forking" if self.last("PIDFile").is_some() => {
                Entry::same(raw, "its pid_file says which process it is")
            }
            "forking" => Entry::left(
                raw,
                "run the program in the foreground, which most can, or have it write a pid_file: without one its start \
                 looks like its end",
            ),
            "oneshot" => Entry::same(raw, "it is done once it ends; restart says whether it runs again"),
            _ => Entry::left(
                raw,
                "regrow knows no bus; ready = \"notify\" or { log = \"...\" } say when it is ready",
            ),
        }
    }

    fn backoff(&self, value: &str, raw: &str) -> Entry {
        let Some(first) = systemd_time(value) else {
            return Entry::left(raw, "this value makes no sense to regrow");
        };
        let steps =
            self.last("RestartSteps").and_then(|steps| steps.parse::<u32>().ok()).filter(|steps| *steps > 0);
        let most = self.last("RestartMaxDelaySec").and_then(systemd_time).filter(|most| *most > first);
        let (factor, most) = match (steps, most) {
            (Some(steps), Some(most)) if !first.is_zero() => {
                let ratio = most.as_secs_f64() / first.as_secs_f64();
                (format!("{:.2}", ratio.powf(1.0 / f64::from(steps))), whole(most))
            }
            _ => ("1.0".to_owned(), whole(first)),
        };
        Entry::taken(
            raw,
            [
                Setting::text("backoff.first", &whole(first)),
                Setting::raw("backoff.factor", factor),
                Setting::text("backoff.max", &most),
            ],
        )
        .note("From the second restart in a row on; the first one is immediate.")
    }
}

/// Twice the interval is what WATCHDOG_USEC tells the program, as under systemd.
fn watchdog(value: &str, raw: &str) -> Entry {
    match systemd_time(value).filter(|time| time.as_millis() >= 4) {
        Some(time) => Entry::taken(
            raw,
            [
                Setting::text("heartbeat.interval", &whole(time / 2)),
                Setting::text("heartbeat.late", &whole(time / 4 * 3)),
                Setting::text("heartbeat.lost", &whole(time)),
                Setting::text("heartbeat.dead", &whole(time.saturating_mul(2))),
            ],
        ),
        None => Entry::same(raw, "no heartbeats are expected"),
    }
}

fn restart(value: &str, raw: &str) -> Entry {
    let word = match value {
        "no" => "temporary",
        "always" => "permanent",
        "on-failure" => "transient",
        "on-abnormal" | "on-abort" | "on-watchdog" => {
            let note = format!("{value}: an end with a code that is no success starts it again here, too.");
            return Entry::taken(raw, [Setting::text("restart", "transient")]).note(note);
        }
        _ => return Entry::left(raw, "regrow starts again always, after failures, or never"),
    };
    Entry::taken(raw, [Setting::text("restart", word)])
}

/// Codes as numbers or names; signals count as failures here.
fn codes(value: &str, raw: &str, key: &str, first: Option<&str>) -> Entry {
    let (mut codes, mut left): (Vec<String>, Vec<&str>) =
        (first.map(str::to_owned).into_iter().collect(), Vec::new());
    let own = codes.len();
    for word in value.split_whitespace() {
        match exit_code(word).map(|code| code.to_string()) {
            Some(code) if codes.contains(&code) => {}
            Some(code) => codes.push(code),
            None => left.push(word),
        }
    }
    if codes.len() == own && !left.is_empty() {
        return Entry::left(raw, "regrow reads meaning into exit codes only, not into signals");
    }
    let entry = Entry::taken(raw, [Setting::raw(key, format!("[{}]", codes.join(", ")))]);
    if left.is_empty() { entry } else { entry.note(format!("left: {} (no exit code)", left.join(" "))) }
}

/// What systemd takes for no bound at all.
fn is_endless(time: &str) -> bool {
    time == "infinity" || systemd_time(time).is_some_and(|time| time.is_zero())
}
