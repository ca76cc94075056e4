//! The keys of one app of PM2.

use super::form::{Entry, Section, Setting, key};
use super::node::{Kind, Node, Pair};
use super::pm2_code::Code;
use super::units::{millis, size, systemd_time, whole};
use super::words::{self, Part, Word, braced};
use crate::cli::init::argv::Line;

/// Keys without an equal.
const LEFT: [(&[&str], &str); 16] = [
    (
        &["watch", "watch_delay", "ignore_watch", "watch_options"],
        "regrow watches no files; `regrow restart` after a change, or a tool such as watchexec",
    ),
    (
        &["wait_ready"],
        "PM2's ready message goes over a channel of Node's own; ready = { log = \"...\" } waits for a line of output",
    ),
    (&["listen_timeout"], "it is for wait_ready; start_timeout says how long a start may take"),
    (&["shutdown_with_message"], "regrow stops with a signal; stop.signal says which"),
    (
        &["max_restarts"],
        "regrow counts all restarts, 10 in 5m unless `intensity` of the supervisor says else",
    ),
    (
        &["cron_restart", "cron"],
        "regrow replaces by age, not by the clock: recycle.after = \"24h\" once a day",
    ),
    (
        &["error_file", "err_file", "error", "err", "out_file", "output", "out", "log_file", "log"],
        "regrow writes logs/NAME.log in its state_dir; `regrow logs NAME` shows it",
    ),
    (
        &["merge_logs", "combine_logs"],
        "every instance has a log of its own; `regrow logs NAME` shows them together",
    ),
    (&["log_date_format", "time", "log_type", "disable_logs"], "regrow notes the time of each line itself"),
    (&["pid", "pid_file", "pm_pid_path"], "regrow needs no pid files; `regrow status -o json` tells pids"),
    (&["env_file"], "regrow reads no files of variables: write them as `env`, or as `secrets` from files"),
    (&["filter_env"], "inherit_env names what is passed on instead"),
    (
        &[
            "source_map_support",
            "disable_source_map_support",
            "vizion",
            "automation",
            "pmx",
            "trace",
            "deep_monitoring",
            "disable_trace",
            "treekill_signal",
            "versioning",
            "post_update",
            "windowsHide",
            "append_env_to_name",
            "force",
            "io",
            "autostart_delay",
            "node_version",
        ],
        "a matter of PM2 itself",
    ),
    (&["instance_var"], "the instance's number is NODE_APP_INSTANCE here, as below"),
    (&["increment_var"], "write a variable with {index} or {port} in it"),
    (&["health_check_grace_period"], "ready and start_timeout say when an instance counts as up"),
];

/// Endings of scripts and what runs them.
const RUNS: [(&str, &str); 11] = [
    ("js", "node"),
    ("cjs", "node"),
    ("mjs", "node"),
    ("py", "python3"),
    ("sh", "bash"),
    ("rb", "ruby"),
    ("php", "php"),
    ("pl", "perl"),
    ("ts", "ts-node"),
    ("tsx", "ts-node"),
    ("coffee", "coffee"),
];

/// Adds what an app says.
pub(super) fn app(section: &mut Section, text: &str, node: &Node, here: &str) {
    let code = Code { here };
    let script = ["script", "cmd", "command"].into_iter().find(|key| node.get(key).is_some());
    let counted = instances(node);
    for pair in node.pairs() {
        let raw = &text[pair.span.clone()];
        let before = section.entries.len();
        match pair.key.as_str() {
            own if Some(own) == script => section.push(command(&code, node, raw, own)),
            "env" => env(section, &code, text, pair, node),
            _ => section.push(entry(&code, node, raw, pair, counted)),
        }
        for entry in &mut section.entries[before..] {
            if entry.span.end == 0 {
                entry.span = pair.span.clone();
            }
        }
    }
    if node.pairs().is_empty() {
        section.push(Entry::left(&text[node.span.clone()], "this is no app").at(node.span.clone()));
    }
    let many = counted.is_some_and(|count| count > 1);
    if many && !section.sets("env.NODE_APP_INSTANCE") {
        let number = Setting::env("NODE_APP_INSTANCE", "{index}");
        section.push(Entry::implied("PM2 numbers the instances of an app in this variable.", [number]));
    }
}

/// How many instances are written; `None` for one, or if they share a port through Node.
fn instances(node: &Node) -> Option<u32> {
    let count =
        node.get("instances").and_then(Node::number).filter(|count| (1.0..=100_000.0).contains(count))?;
    let mode = node.get("exec_mode").and_then(Node::scalar);
    let cluster = match mode.as_deref() {
        Some(mode) => mode.starts_with("cluster"),
        None => runs_node(node),
    };
    (!cluster || count <= 1.0).then_some(count as u32)
}

fn runs_node(node: &Node) -> bool {
    let own = |key: &str| node.get(key).and_then(Node::scalar).unwrap_or_default();
    let interpreter = own("interpreter");
    if interpreter.is_empty() { own("script").ends_with("js") } else { interpreter.ends_with("node") }
}

fn entry(code: &Code<'_>, node: &Node, raw: &str, pair: &Pair, counted: Option<u32>) -> Entry {
    let value = &pair.value;
    let off = value.kind == Kind::Bool(false) || value.kind == Kind::Null;
    match pair.key.as_str() {
        "name" => Entry::same(raw, "the worker's name"),
        "args" | "interpreter" | "exec_interpreter" | "interpreter_args" | "interpreterArgs"
        | "node_args" => Entry::same(raw, "part of the command"),
        "cwd" => match code.path(value) {
            Some(text) => Entry::taken(raw, [Setting::text("cwd", &text)]),
            None => Entry::left(raw, "an expression that only Node can evaluate"),
        },
        "namespace" => match value.scalar().as_deref() {
            Some("default") | None => Entry::same(raw, "no namespace"),
            Some(_) => Entry::same(raw, "a supervisor of that name, below"),
        },
        "exec_mode" => match value.scalar() {
            Some(mode) if mode.starts_with("cluster") && counted.is_none() => Entry::left(raw, SHARED),
            Some(_) | None => Entry::same(raw, "every instance is a process"),
        },
        "instances" => match (counted, value.scalar().as_deref()) {
            (Some(1), _) => Entry::same(raw, "the default"),
            (Some(count), _) => Entry::taken(raw, [Setting::raw("instances", count.to_string())]),
            (None, Some("max" | "0" | "-1")) => Entry::left(
                raw,
                "regrow wants a number; instances of cluster mode need a port each, see port.base",
            ),
            (None, _) => Entry::left(raw, SHARED),
        },
        "autorestart" => match value.bool() {
            Some(true) => Entry::same(raw, "the default"),
            Some(false) => Entry::taken(raw, [Setting::text("restart", "temporary")]),
            None => unclear(raw),
        },
        "autostart" => match value.bool() {
            Some(true) => Entry::same(raw, "the default"),
            Some(false) => Entry::taken(raw, [Setting::raw("enabled", "false")]),
            None => unclear(raw),
        },
        "stop_exit_codes" => codes(raw, value),
        "max_memory_restart" => said(
            raw,
            value.scalar().and_then(|text| size(&text)).map(|size| Setting::text("recycle.memory", &size)),
        ),
        "min_uptime" => said(raw, time(value).map(|time| Setting::text("min_uptime", &time))),
        "kill_timeout" => said(raw, time(value).map(|time| Setting::text("stop.timeout", &time))),
        "treekill" => match value.bool() {
            Some(true) => Entry::same(raw, "stop.to = \"group\""),
            Some(false) => Entry::taken(raw, [Setting::text("stop.to", "main")]),
            None => unclear(raw),
        },
        "restart_delay" => match time(value) {
            Some(time) => Entry::taken(
                raw,
                [
                    Setting::text("backoff.first", &time),
                    Setting::raw("backoff.factor", "1.0"),
                    Setting::text("backoff.max", &time),
                ],
            )
            .note("From the second restart in a row on; the first one is immediate."),
            None => unclear(raw),
        },
        "exp_backoff_restart_delay" => match time(value) {
            Some(time) => Entry::taken(
                raw,
                [
                    Setting::text("backoff.first", &time),
                    Setting::raw("backoff.factor", "1.5"),
                    Setting::text("backoff.max", "15s"),
                    Setting::text("backoff.reset_after", "30s"),
                ],
            ),
            None => unclear(raw),
        },
        "uid" | "user" => said(raw, value.scalar().map(|user| Setting::text("user", &user))),
        "gid" => said(raw, value.scalar().map(|group| Setting::text("group", &group))),
        "wait_ready"
        | "watch"
        | "shutdown_with_message"
        | "merge_logs"
        | "combine_logs"
        | "time"
        | "force"
            if off =>
        {
            Entry::same(raw, "the default")
        }
        "instance_var" => match value.scalar().filter(|name| name != "NODE_APP_INSTANCE") {
            Some(name) => Entry::taken(raw, [Setting::env(&name, "{index}")]),
            None => Entry::same(raw, "so it is"),
        },
        "increment_var" => match incremented(node) {
            Some((name, base)) if name == "PORT" => {
                Entry::taken(raw, [Setting::raw("port.base", base)]).note("Every instance has its own PORT.")
            }
            Some((name, base)) => {
                Entry::taken(raw, [Setting::raw("port.base", base), Setting::env(&name, "{port}")])
            }
            None => Entry::left(raw, "write a variable with {index} or {port} in it"),
        },
        own if own.starts_with("env_") || own.starts_with("env-") => Entry::left(
            raw,
            "PM2 takes these with `--env`; a regrow.toml is for one environment: change `env` above where they differ",
        ),
        own => match LEFT.iter().find(|(keys, _)| keys.contains(&own)) {
            Some((_, why)) => Entry::left(raw, *why),
            None => Entry::left(raw, "PM2 is not known to have such a key"),
        },
    }
}

const SHARED: &str = "Node's cluster mode shares one port inside PM2; here every instance is a process of its own: give \
                      each a port (instances = N, port.base = 3000, and PORT in the program) behind a proxy";

fn unclear(raw: &str) -> Entry {
    Entry::left(raw, "this value makes no sense to regrow")
}

fn said(raw: &str, setting: Option<Setting>) -> Entry {
    setting.map_or_else(|| unclear(raw), |setting| Entry::taken(raw, [setting]))
}

/// Milliseconds, or `60s`, `2m`, `1h`.
fn time(node: &Node) -> Option<String> {
    match node.number() {
        Some(number) => millis(number),
        None => systemd_time(&node.scalar()?).map(whole),
    }
}

fn codes(raw: &str, value: &Node) -> Entry {
    let items = value.items().unwrap_or(std::slice::from_ref(value));
    let codes: Option<Vec<String>> =
        items.iter().map(|code| code.scalar()?.parse::<u8>().ok().map(|code| code.to_string())).collect();
    match codes {
        Some(codes) if !codes.is_empty() => Entry::taken(
            raw,
            [
                Setting::text("restart", "transient"),
                Setting::raw("exit_codes.normal", format!("[{}]", codes.join(", "))),
            ],
        ),
        Some(_) | None => unclear(raw),
    }
}

/// The variable that counts up, and where it begins.
fn incremented(node: &Node) -> Option<(String, String)> {
    let name = node.get("increment_var")?.scalar()?;
    let base = node.get("env")?.get(&name)?.scalar()?;
    base.parse::<u16>().ok().filter(|base| *base > 0)?;
    Some((name, base))
}

fn env(section: &mut Section, code: &Code<'_>, text: &str, pair: &Pair, node: &Node) {
    let pairs = pair.value.pairs();
    if pairs.is_empty() {
        let entry = match pair.value.kind {
            Kind::Map(_) | Kind::Null => Entry::same(&text[pair.span.clone()], "no variables"),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) | Kind::Code(_) => {
                Entry::left(&text[pair.span.clone()], "an expression that only Node can evaluate")
            }
        };
        return section.push(entry);
    }
    let counts = incremented(node).map(|(name, _)| name);
    for variable in pairs {
        let inside = pair.span.start <= variable.span.start && variable.span.end <= pair.span.end;
        // A literal with a name stands elsewhere, and is shown where it was used.
        let span = if inside { variable.span.clone() } else { pair.span.clone() };
        let raw = &text[span.clone()];
        let name = variable.key.as_str();
        let entry = if counts.as_deref() == Some(name) {
            Entry::same(raw, "it counts up, see increment_var")
        } else {
            match (&variable.value.kind, variable.value.scalar()) {
                (_, Some(value)) => Entry::taken(raw, [Setting::env(name, &braced(&value))]),
                (Kind::Code(_), None) => match code.variable(&variable.value) {
                    Some(other) => {
                        let from = format!("{{ env = {} }}", crate::cli::init::render::toml_text(&other));
                        Entry::taken(raw, [Setting::raw(format!("secrets.{}", key(name)), from)])
                    }
                    None => match code.path(&variable.value) {
                        Some(path) => Entry::taken(raw, [Setting::env(name, &path)]),
                        None => Entry::left(raw, "an expression that only Node can evaluate"),
                    },
                },
                (Kind::Null, None) => Entry::same(raw, "no value"),
                (_, None) => Entry::left(raw, "the value of a variable is a text"),
            }
        };
        section.push(entry.at(span));
    }
}

fn command(code: &Code<'_>, node: &Node, raw: &str, script: &str) -> Entry {
    match argv(code, node, script) {
        Ok(argv) => {
            let gains = words::gains_rights(&argv);
            let no_new_privs = gains.then(|| Setting::raw("no_new_privs", "false"));
            Entry::taken(raw, [Setting::texts("command", argv)].into_iter().chain(no_new_privs))
        }
        Err(why) => Entry::left(raw, why),
    }
}

fn argv(code: &Code<'_>, node: &Node, script: &str) -> Result<Vec<String>, String> {
    const ONLY_NODE: &str = "an expression that only Node can evaluate: write the command yourself";
    let own = |key: &str| node.get(key).and_then(Node::scalar).filter(|text| !text.is_empty());
    let script = match node.get(script) {
        Some(value) => code.plain_path(value).ok_or(ONLY_NODE)?,
        None => return Err(ONLY_NODE.to_owned()),
    };
    let arguments = list(code, node, &["args"])?;
    let interpreter = own("interpreter").or_else(|| own("exec_interpreter"));
    let of_interpreter = list(code, node, &["interpreter_args", "interpreterArgs", "node_args"])?;
    let mut argv: Vec<String> = Vec::new();
    match interpreter.as_deref() {
        None if script.contains(char::is_whitespace) => {
            // A line for a shell, with the arguments behind it.
            let line = arguments.iter().fold(script, |line, argument| {
                let word: Word = vec![Part::Text(argument.clone())];
                format!("{line} {}", words::shell_line(&[word]).replace("{{", "{"))
            });
            return Ok(Line::of(&line).argv().iter().map(|word| braced(word)).collect());
        }
        None | Some("none") => {
            let ending = script.rsplit_once('.').map(|(_, ending)| ending.to_owned());
            let runs = ending.and_then(|ending| RUNS.iter().find(|(known, _)| *known == ending));
            if let Some((_, program)) = runs.filter(|_| interpreter.is_none()) {
                argv.push((*program).to_owned());
                argv.extend(of_interpreter);
            }
        }
        Some(program) => {
            argv.push(program.to_owned());
            argv.extend(of_interpreter);
        }
    }
    argv.push(script);
    argv.extend(arguments);
    Ok(argv.iter().map(|word| braced(word)).collect())
}

/// Arguments: a list, or a line with spaces between them.
fn list(code: &Code<'_>, node: &Node, keys: &[&str]) -> Result<Vec<String>, String> {
    let Some(value) = keys.iter().find_map(|key| node.get(key)) else { return Ok(Vec::new()) };
    let item = |node: &Node| {
        code.plain_path(node)
            .ok_or_else(|| "its arguments hold an expression that only Node can evaluate".to_owned())
    };
    match &value.kind {
        Kind::List(items) => items.iter().map(item).collect(),
        Kind::Null => Ok(Vec::new()),
        Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::Code(_) => words::split(&item(value)?)
            .map_err(|why| format!("its arguments cannot be cut into words: {why}")),
        Kind::Map(_) => Err("its arguments are neither a text nor a list".to_owned()),
    }
}
