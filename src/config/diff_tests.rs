//! What differs between two files, and what is told of it.

use super::*;
use crate::config::trial::settings;
use crate::config::{Sources, load};

/// `~ worker web: restarts`, then ` command: [...] -> [...] (restarts)`.
fn told(old: &str, new: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for change in diff(&settings(old), &settings(new)) {
        let sign = match change.sign {
            Sign::Added => '+',
            Sign::Changed => '~',
            Sign::Removed => '-',
        };
        let subject = match &change.subject {
            Subject::Runtime => "runtime".to_owned(),
            Subject::Supervisor(name) => format!("sup:{name}"),
            Subject::Worker(name) => name.to_string(),
            Subject::Template(name) => format!("template:{name}"),
        };
        lines.push(format!("{sign} {subject}: {}", change.effect.word()));
        for key in change.keys {
            let value = |value: Option<Value>| value.map_or("none".to_owned(), |value| value.to_string());
            lines.push(format!("  {} {} -> {}", key.key, value(key.old), value(key.new)));
        }
    }
    lines
}

const TWO: &str = "[worker.a]\ncommand = [\"a\"]\n[worker.b]\ncommand = [\"b\"]\n";

#[test]
fn the_same_file_differs_in_nothing() {
    assert_eq!(told(TWO, TWO), Vec::<String>::new());
    let reordered_keys = TWO.replace("[worker.a]\n", "[worker.a]\nrestart = \"permanent\"\n");
    assert_eq!(told(TWO, &reordered_keys), Vec::<String>::new(), "a default written down is the default");
}

#[test]
fn who_comes_and_who_goes_is_told_and_nobody_else() {
    let new = "[worker.b]\ncommand = [\"b\"]\n[worker.c]\ncommand = [\"c\"]\n[worker.d]\ncommand = [\"d\"]\nenabled = false\n";
    assert_eq!(told(TWO, new), ["- a: stops", "+ c: starts", "+ d: stays_stopped"]);
}

#[test]
fn a_program_needs_a_new_process_and_a_rule_does_not() {
    let new = TWO
        .replace("[\"a\"]", "[\"a\", \"-v\"]")
        .replace("[worker.b]\n", "[worker.b]\nstop.timeout = \"3s\"\n");
    assert_eq!(
        told(TWO, &new),
        [
            "~ a: restarts",
            "  command [\"a\"] -> [\"a\",\"-v\"]",
            "~ b: in_place",
            "  stop.timeout \"10s\" -> \"3s\"",
        ]
    );
}

#[test]
fn more_copies_touch_nobody_but_a_worker_that_comes_to_be_numbered_is_another_one() {
    let with = |number: u32| format!("[worker.a]\ncommand = [\"a\"]\ninstances = {number}\n");
    assert_eq!(told(&with(2), &with(3)), ["~ a: in_place", "  instances 2 -> 3"]);
    assert_eq!(told(&with(1), &with(3)), ["~ a: restarts", "  instances 1 -> 3"]);
    assert_eq!(told(&with(3), &with(1)), ["~ a: restarts", "  instances 3 -> 1"]);
}

#[test]
fn other_bounds_of_a_pool_touch_nobody_and_a_single_one_that_comes_to_be_a_pool_is_another_one() {
    let pool = |bounds: &str| format!("[worker.a]\ncommand = [\"a\"]\npool = {{ {bounds} }}\n");
    assert_eq!(told(&pool("max = 3"), &pool("max = 5")), ["~ a: in_place", "  pool.max 3 -> 5"]);
    let single = "[worker.a]\ncommand = [\"a\"]\n";
    let lines = told(single, &pool("max = 3"));
    assert_eq!(lines[0], "~ a: restarts", "{lines:?}");
    let two = format!("{single}instances = 2\n");
    assert_eq!(told(&two, &pool("min = 2, max = 3"))[0], "~ a: in_place");
}

#[test]
fn the_spare_copy_of_a_rolling_restart_is_no_difference_and_stays() {
    let file = settings("[worker.a]\ncommand = [\"a\"]\ninstances = 3\n");
    let copies = |instances, spare| {
        let mut running = file.clone();
        let own = WorkerSettings { instances, spare, ..WorkerSettings::clone(&running.workers[0]) };
        running.workers[0] = Arc::new(own);
        running
    };
    // Also where the number asked for by hand and the spare copy make the number of the file.
    for (instances, spare) in [(3, 1), (2, 1), (4, 0), (2, 0)] {
        let running = copies(instances, spare);
        let applied = file.clone().scaled_as(&running);
        assert_eq!(diff(&running, &applied), []);
        assert_eq!((applied.workers[0].instances, applied.workers[0].spare), (instances, spare));
    }
    assert_eq!(copies(3, 1).workers[0].instance_ids().count(), 4);
}

#[test]
fn what_is_switched_off_stops_and_on_starts() {
    let off = TWO.replace("[worker.b]\n", "[worker.b]\nenabled = false\n");
    assert_eq!(told(TWO, &off), ["~ b: stops", "  enabled true -> false"]);
    assert_eq!(told(&off, TWO), ["~ b: starts", "  enabled false -> true"]);
    let other = off.replace("[\"b\"]", "[\"x\"]");
    assert_eq!(told(&off, &other), ["~ b: stays_stopped", "  command [\"b\"] -> [\"x\"]"]);
}

#[test]
fn a_supervisors_flags_hold_at_once_and_only_an_order_of_those_who_stay_is_one() {
    let old = format!("[supervisor.root]\nchildren = [\"a\", \"b\"]\n{TWO}");
    let flags =
        old.replace("root]\n", "root]\nauto_shutdown = \"any_significant\"\nintensity.max_restarts = 3\n");
    assert_eq!(
        told(&old, &flags),
        [
            "~ sup:root: in_place",
            "  auto_shutdown \"never\" -> \"any_significant\"",
            "  intensity.max_restarts 10 -> 3",
        ]
    );
    let swapped = old.replace("[\"a\", \"b\"]", "[\"b\", \"a\"]");
    assert_eq!(told(&old, &swapped), ["~ sup:root: in_place", "  children [\"a\",\"b\"] -> [\"b\",\"a\"]"]);
    let more = format!("{old}[worker.c]\ncommand = [\"c\"]\n");
    assert_eq!(told(&old, &more), ["+ c: starts"]);
}

#[test]
fn who_moves_restarts_and_so_does_everybody_below() {
    let old = format!("[supervisor.x]\nchildren = [\"a\"]\n[supervisor.y]\n{TWO}");
    let moved = format!("[supervisor.x]\nchildren = []\n[supervisor.y]\nchildren = [\"a\"]\n{TWO}");
    assert_eq!(told(&old, &moved), ["~ a: restarts", "  supervisor \"root/x\" -> \"root/y\""]);
    let nested = format!("[supervisor.x]\nchildren = [\"a\"]\n[supervisor.y]\nchildren = [\"x\"]\n{TWO}");
    assert_eq!(
        told(&old, &nested),
        [
            "~ sup:x: restarts",
            "  supervisor \"root\" -> \"root/y\"",
            "~ a: restarts",
            "  supervisor \"root/x\" -> \"root/y/x\"",
        ]
    );
}

#[test]
fn what_the_runtime_was_built_from_is_named_and_secrets_are_not_shown() {
    let with = |listen: &str, token: &str| {
        format!("[http]\nlisten = \"{listen}\"\n[worker.a]\ncommand = [\"a\"]\nenv.API_TOKEN = \"{token}\"\n")
    };
    let lines = told(&with("127.0.0.1:1", "one"), &with("127.0.0.1:2", "two"));
    assert_eq!(
        lines,
        [
            "~ runtime: runtime_restart",
            "  http.listen \"127.0.0.1:1\" -> \"127.0.0.1:2\"",
            "~ a: restarts",
            "  env.API_TOKEN \"(hidden)\" -> \"(hidden)\"",
        ]
    );
}

#[test]
fn the_brake_and_the_error_classes_differ_by_themselves() {
    let class = "[[error_class]]\nname = \"gone\"\nexit_code = 7\n";
    let new = format!("[recovery]\nmax_parallel = 1\n{class}{TWO}");
    assert_eq!(
        told(TWO, &new),
        [
            "~ runtime: in_place",
            "  error_class [] -> [{\"exit_code\":7,\"match\":null,\"name\":\"gone\"}]",
            "  recovery.max_parallel 4 -> 1",
        ]
    );
    assert_eq!(told(TWO, &format!("{class}{TWO}")).len(), 2);
    assert_eq!(told(&new, &new), Vec::<String>::new());
}

#[test]
fn what_cannot_be_taken_over_is_held_back_and_differs_still() {
    let old = settings("[http]\nlisten = \"127.0.0.1:1\"\n");
    let new = settings(
        "[runtime]\nname = \"x\"\nstate_dir = \"/other\"\nshutdown_timeout = \"1s\"\ncontrol.mode = \"0660\"\n\
         control.group = \"g\"\ncontrol.role = \"admin\"\n[http]\nlisten = \"127.0.0.1:2\"\nprobe_listen = \"127.0.0.1:3\"\n\
         [telemetry]\nlog.level = \"debug\"\nlog.format = \"json\"\nseed_names = false\n",
    );
    let held = new.clone().holding(&old);
    let effects = |from: &Settings, to: &Settings| -> Vec<Effect> {
        diff(from, to).into_iter().flat_map(|change| change.keys).map(|key| key.effect).collect()
    };
    assert_eq!(effects(&old, &held), [Effect::InPlace; 3], "only this was taken over");
    let left = effects(&held, &new);
    assert!(!left.is_empty() && left.iter().all(|effect| *effect == Effect::RuntimeRestart), "{left:?}");
    let all = effects(&old, &new).len();
    assert_eq!(all, left.len() + 3);
}

#[test]
fn every_key_of_a_worker_has_words() {
    let manual = include_str!("../../config/default.toml");
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    // A process, and a fixed number of it: what only others have is left out.
    let of_others = ["#actor", "#config", "#pool"];
    let lines = manual.lines().filter(|line| !of_others.iter().any(|key| line.starts_with(key)));
    let text: String = lines.map(|line| on(line) + "\n").collect();
    let text = text.replace("[\"broker-proxy\"]", "[\"web\"]").replace("[\"ingest\", \"web\"]", "[\"web\"]");
    let loaded =
        load(&Sources::text(text + "[worker.web]\n")).unwrap_or_else(|problems| panic!("{problems}"));
    let words = words::worker(loaded.settings.workers.iter().find(|one| one.name.as_str() == "web").unwrap());
    for key in crate::config::elements::WORKER {
        assert!(words.contains_key(key.name), "{} is missing in config/words.rs", key.name);
    }
}

#[test]
fn of_a_ladder_each_key_that_differs_is_told_and_no_other() {
    let text = |ladder: &str| {
        format!(
            "[ladder.default]\n{ladder}\n[worker.a]\ncommand = [\"a\"]\nprobe.p = {{ exec = [\"x\"], kind = \"liveness\" }}\n"
        )
    };
    let steps = "steps = [{ do = \"soft_restart\", approval = \"60s\" }, { do = \"quarantine\" }]";
    let from = |ladder: &str| told(&text(steps), &text(ladder));
    let free = "steps = [{ do = \"soft_restart\", delay = \"3s\" }, { do = \"quarantine\" }]";
    assert_eq!(
        from(free),
        [
            "~ a: in_place",
            "  ladder.default.steps [\"soft_restart, to be approved within 1m\",\"quarantine\"] -> \
             [\"soft_restart after 3s\",\"quarantine\"]",
        ]
    );
    let more =
        format!("{steps}\nverify = \"1s\"\ncooldown = \"1m\"\nlearn = \"auto\"\nbreaker.open_after = 3");
    assert_eq!(
        from(&more),
        [
            "~ a: in_place",
            "  ladder.default.verify \"10s\" -> \"1s\"",
            "  ladder.default.breaker.open_after 8 -> 3",
            "  ladder.default.cooldown \"5m\" -> \"1m\"",
            "  ladder.default.learn \"suggest\" -> \"auto\"",
        ]
    );
    let strategy = |timeout: &str| {
        text("steps = [{ do = \"flush\" }]")
            + &format!("[strategy.flush]\ncommand = [\"f\"]\ntimeout = \"{timeout}\"\n")
    };
    let lines = told(&strategy("5s"), &strategy("6s"));
    assert!(lines.len() == 2 && lines[1].contains("strategy "), "{lines:?}");
}

#[test]
fn the_copy_of_a_rolling_restart_keeps_its_port_until_that_is_over() {
    let web = "[worker.web]\ncommand = [\"x\"]\nport.base = 8001\ninstances = 2\n";
    let mut running = settings(web);
    running.workers[0] = Arc::new(WorkerSettings { spare: 1, ..WorkerSettings::clone(&running.workers[0]) });
    let trouble = |more: &str| settings(&format!("{web}{more}")).scaled_as(&running).scaled_trouble();
    assert_eq!(trouble("[worker.api]\ncommand = [\"x\"]\nport.base = 8004\n"), None);
    let told = trouble("[worker.api]\ncommand = [\"x\"]\nport.base = 8003\n").unwrap();
    assert!(
        told.contains("rolling restart of `web` is under way") && told.contains("meet those of `api`"),
        "{told}"
    );
}

#[test]
fn a_number_that_was_asked_for_by_hand_is_held_against_the_new_file() {
    let web = "[worker.web]\ncommand = [\"x\"]\nport.base = 8001\n";
    let mut running = settings(web);
    running.workers[0] =
        Arc::new(WorkerSettings { instances: 3, ..WorkerSettings::clone(&running.workers[0]) });
    let trouble = |more: &str| settings(&format!("{web}{more}")).scaled_as(&running).scaled_trouble();
    assert_eq!(trouble("[worker.api]\ncommand = [\"x\"]\nport.base = 8004\n"), None);
    let told = trouble("[worker.api]\ncommand = [\"x\"]\nport.base = 8002\n").unwrap();
    assert!(told.contains("`web` was scaled to 3 by hand") && told.contains("meet those of `api`"), "{told}");
    let told = trouble("[worker.web-2]\ncommand = [\"x\"]\n").unwrap();
    assert!(told.contains("share a directory with `web-2`"), "{told}");
}
