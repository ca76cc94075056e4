//! Many starts: nothing leaks, nothing is mixed up.

use std::process::Command;
use std::time::Instant;

use crate::exit::Exit;

use super::rig::{NO_CGROUP, PLAIN, Rig, command, signal, until};
use super::survival::zombies_of;

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_starts_leak_neither_descriptors_nor_zombies() {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["worker::process::tests::scale::a_thousand_starts", "--exact", "--ignored"]);
    super::survival::passes(&mut again);
}

#[tokio::test]
#[ignore = "run by the test above in a process of its own, where nobody else opens anything"]
async fn a_thousand_starts() {
    let mut rig = Rig::with(command(&["true"]), PLAIN);
    let mut before = 0;
    for n in 1..=1000 {
        rig.up(n).await;
        assert_eq!(rig.exit().await, Exit::Exited { code: 0 });
        if n == 100 {
            before = open_fds();
        }
    }
    until(|| (open_fds() < before + 5).then_some(())).await;
    until(|| (zombies_of(std::process::id()) == 0).then_some(())).await;
}

#[tokio::test]
#[ignore = "a measurement: run alone, with --release"]
async fn restart_latency() {
    for (name, options) in [("no cgroup", NO_CGROUP), ("cgroup", PLAIN)] {
        let mut rig = Rig::with(command(&["sleep", "1000"]), options);
        let mut took = Vec::new();
        let mut pid = rig.up(1).await;
        for n in 2..200 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            let begin = Instant::now();
            signal(pid, 9);
            rig.exit().await;
            let exited = begin.elapsed();
            pid = rig.up(n).await;
            took.push((begin.elapsed(), exited));
        }
        took.sort();
        println!("{name}: kill to started p50 {:?}, of it to exited {:?}", took[100].0, took[100].1);
        signal(pid, 9);
        rig.exit().await;
    }
}
