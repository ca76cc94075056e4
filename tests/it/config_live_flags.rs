//! Flags of supervisors and children that change while everything runs: rows 64 to 70 and 83 to 86 of OTP's own tests.

use rustix::process::Signal;

use crate::config_live::{get, pid, stays, up};
use crate::rig::Rig;

/// Rows 64 to 69 of the conformance table: the flag is another, nobody is touched, and from then on it holds.
#[test]
fn rows_64_to_69_auto_shutdown_changes_under_running_children() {
    let file = |flag: &str, significant: bool| {
        let child = |name: &str| {
            let command = format!(
                "command = [\"sh\", \"-c\", \"while [ ! -e {{dir}}/end-{name} ]; do sleep 0.05; done; rm {{dir}}/end-{name}\"]"
            );
            let significant = if significant { "significant = true\n" } else { "" };
            format!("[worker.{name}]\n{command}\nrestart = \"transient\"\n{significant}")
        };
        let held = stays("held", "");
        format!(
            "[supervisor.x]\nauto_shutdown = \"{flag}\"\nchildren = [\"one\", \"two\", \"held\"]\n{}{}{held}",
            child("one"),
            child("two")
        )
    };
    // From, to, and whether the first end and the second one end the supervisor.
    let cases = [
        ("any_significant", "never", [false, false]),
        ("never", "any_significant", [true, true]),
        ("all_significant", "never", [false, false]),
        ("never", "all_significant", [false, true]),
        ("all_significant", "any_significant", [true, true]),
        ("any_significant", "all_significant", [false, true]),
    ];
    for (from, to, ends) in cases {
        let rig = Rig::start(&file(from, from != "never"));
        up(&rig, &["one", "two", "held"]);
        let before: Vec<u64> = ["one", "two", "held"].iter().map(|name| pid(&rig, name)).collect();
        rig.configure(&file(to, to != "never"));
        rig.ok(&["apply", "--wait"]);
        let now: Vec<u64> = ["one", "two", "held"].iter().map(|name| pid(&rig, name)).collect();
        assert_eq!(now, before, "{from} -> {to}: nobody is touched");
        for (child, ended) in ["one", "two"].into_iter().zip(ends) {
            std::fs::write(rig.path(format!("end-{child}")), "").unwrap();
            if ended {
                // The root starts a permanent child again: all of it is new.
                rig.wait("the supervisor has ended", || {
                    rig.worker("held")["pid"].as_u64().is_some_and(|now| now != before[2])
                });
                break;
            }
            rig.wait_phase(child, "done");
            assert_eq!(pid(&rig, "held"), before[2], "{from} -> {to}");
        }
    }
}

/// Row 70: a child becomes significant and is so no longer; under `never` that is refused.
#[test]
fn row_70_significant_changes_both_ways_and_is_refused_under_never() {
    let file = |flag: &str, significant: bool| {
        format!(
            "[supervisor.x]\nauto_shutdown = \"{flag}\"\nchildren = [\"one\"]\n{}",
            stays("one", &format!("restart = \"transient\"\nsignificant = {significant}"))
        )
    };
    let rig = Rig::start(&file("any_significant", false));
    up(&rig, &["one"]);
    let before = pid(&rig, "one");
    for significant in [true, false] {
        rig.configure(&file("any_significant", significant));
        assert!(rig.ok(&["apply", "--wait"]).contains("significant: "));
        assert_eq!(pid(&rig, "one"), before);
    }
    rig.configure(&file("never", true));
    assert_eq!(rig.code(&["apply"]), 6);
    assert_eq!(pid(&rig, "one"), before);
}

/// Rows 83 to 86: flags are replaced, a faulty file changes nothing. Here OTP leaves new children unstarted and old
/// ones running; regrow starts and stops them, and says so before.
#[test]
fn rows_83_to_86_flags_are_replaced_and_the_list_of_children_is_the_files() {
    let rig = Rig::start(&format!(
        "[supervisor.x]\nchildren = [\"a\", \"b\"]\n{}{}",
        stays("a", ""),
        stays("b", "")
    ));
    up(&rig, &["a", "b"]);
    let kept = pid(&rig, "b");
    let flags = "strategy = \"rest_for_one\"\nintensity = { max_restarts = 3, within = \"7s\" }\non_exhausted = \"escalate\"";
    rig.configure(&format!(
        "[supervisor.x]\n{flags}\nchildren = [\"b\", \"c\"]\n{}{}",
        stays("b", ""),
        stays("c", "")
    ));
    let text = rig.ok(&["apply", "--wait"]);
    assert!(text.contains("- worker a: stops") && text.contains("+ worker c: starts"), "{text}");
    up(&rig, &["b", "c"]);
    assert_eq!(pid(&rig, "b"), kept);
    let shown = get(&rig, "/api/v1/supervisors/x");
    assert_eq!(shown["supervisor"]["strategy"], "rest_for_one");
    assert_eq!(shown["supervisor"]["on_exhausted"], "escalate");
    // The new strategy and the new order hold: the end of `b` takes `c` with it.
    let later = pid(&rig, "c");
    crate::rig::send(u32::try_from(kept).unwrap(), Signal::KILL);
    rig.wait("the later one is restarted too", || {
        rig.worker("c")["pid"].as_u64().is_some_and(|pid| pid != later)
    });
}
