//! Faults of the machine: disks fill up or turn read-only, files, processes and threads run out. It is named, and
//! supervision goes on.

use std::fs;

use rustix::process::Signal;

use crate::faults_runtime::{WITNESS, notes, pids};
use crate::hardship::{FailingDisk, ProcessLimit, TinyDisk, disk_tools};
use crate::rig::{Rig, root_or_skip, send};

#[test]
fn c7_a_full_disk_is_named_and_supervision_goes_on() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=256k") else { return };
    let rig = Rig::start(&format!(
        "[runtime]\nstate_dir = \"{}\"\n[worker.web]\n\
         command = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/starts; while :; do head -c 20000 /dev/zero | tr '\\\\0' x; echo; sleep 0.01; done\"]\n",
        disk.path()
    ));
    rig.wait("the full disk is named", || notes(&rig).contains("No space left"));
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("it is back", || pids(&rig).len() == 2);
    rig.wait_status("web", "healthy");
}

#[test]
fn c8_without_inodes_supervision_goes_on() {
    if !root_or_skip("a tiny file system") {
        return;
    }
    let Some(disk) = TinyDisk::mount("size=4m,nr_inodes=24") else { return };
    let rig = Rig::start(&format!(
        "[runtime]\nstate_dir = \"{}\"\n[worker.web]\ncommand = {WITNESS}\n",
        disk.path()
    ));
    rig.wait("it is up", || pids(&rig).len() == 1);
    let mut filler = 0;
    while fs::write(format!("{}/filler{filler}", disk.path()), "").is_ok() {
        filler += 1;
    }
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("it is back", || pids(&rig).len() == 2);
}

#[test]
fn c9_a_disk_that_turns_read_only_is_named_and_supervision_goes_on() {
    if !root_or_skip("a disk that fails") || !disk_tools() {
        return;
    }
    let Some(disk) = FailingDisk::mount() else { return };
    let rig = Rig::start(&format!(
        "[runtime]\nstate_dir = \"{}\"\n[worker.web]\n\
         command = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/starts; while :; do echo a line; sleep 0.05; done\"]\n\
         log = {{ max_size = \"1MiB\" }}\n",
        disk.path()
    ));
    rig.wait("it is up", || pids(&rig).len() == 1);
    disk.fail();
    rig.wait("the disk is named", || notes(&rig).to_lowercase().contains("read-only"));
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("it is back", || pids(&rig).len() == 2);
    rig.wait_status("web", "healthy");
}

#[test]
fn c18_without_descriptors_supervision_and_restarts_still_work() {
    let mut rig = Rig::start(&format!(
        "[worker.web]\ncommand = {WITNESS}\n[worker.b]\ncommand = [\"sleep\", \"999\"]\n[worker.c]\ncommand = [\"sleep\", \"999\"]\n"
    ));
    rig.wait("it is up", || pids(&rig).len() == 1);
    let open = fs::read_dir(format!("/proc/{}/fd", rig.runtime())).unwrap().count();
    let limit = rustix::process::Rlimit { current: Some(open as u64), maximum: Some(open as u64) };
    let runtime = rustix::process::Pid::from_raw(rig.runtime() as i32);
    rustix::process::prlimit(runtime, rustix::process::Resource::Nofile, limit).unwrap();
    for round in 1..=5 {
        send(*pids(&rig).last().unwrap(), Signal::KILL);
        rig.wait("it is back", || pids(&rig).len() == round + 1);
    }
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
}

/// Sets the soft limit of open files of a running process.
fn limit_files(pid: u32, files: u64) {
    let pid = rustix::process::Pid::from_raw(pid as i32);
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit { current: Some(files), maximum: hard };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
}

#[test]
fn c18_under_a_limit_of_20_ends_are_told_and_healed_and_the_shortage_is_named() {
    let mut toml = String::new();
    for index in 0..12 {
        toml.push_str(&format!(
            "[worker.w{index}]\ncommand = [\"sh\", \"-c\", \"echo $$ >> {{dir}}/starts-w{index}; exec sleep 999\"]\n"
        ));
    }
    let mut rig = Rig::start(&format!("[defaults.worker]\nbackoff = {{ max = \"500ms\" }}\n{toml}"));
    let starts = |rig: &Rig, index: usize| rig.witness(&format!("starts-w{index}"));
    let last = |rig: &Rig, index: usize| starts(rig, index).last().unwrap().parse::<u32>().unwrap();
    rig.wait("they are up", || (0..12).all(|index| starts(&rig, index).len() == 1));
    limit_files(rig.runtime(), 20);
    let short = |rig: &Rig| {
        let status = rig.try_status()?;
        Some(status["runtime"]["notes"].to_string().contains("out of file descriptors"))
    };
    rig.wait("the shortage is named", || short(&rig) == Some(true));
    for round in 1..=5 {
        send(last(&rig, 0), Signal::KILL);
        rig.wait("it is back", || starts(&rig, 0).len() == round + 1);
    }
    (1..12).for_each(|index| send(last(&rig, index), Signal::KILL));
    rig.wait("every end is known", || {
        let status = rig.try_status().unwrap_or_default();
        let ended = |worker: &serde_json::Value| !worker["last_exit"].is_null();
        status["workers"].as_array().is_some_and(|workers| workers.iter().all(ended))
    });
    // A crowd without a question keeps nobody out.
    let crowd: Vec<_> = (0..8)
        .map(|_| std::os::unix::net::UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap())
        .collect();
    rig.wait("who asks is answered", || rig.try_status().is_some());
    drop(crowd);
    limit_files(rig.runtime(), 4096);
    for index in 0..12 {
        rig.wait_status(&format!("w{index}"), "healthy");
    }
    rig.wait("the note is gone", || short(&rig) == Some(false));
    rig.signal(Signal::TERM);
    assert_eq!(rig.wait_end(), 0);
}

#[test]
fn c18_a_soft_limit_that_is_too_low_to_begin_with_is_raised_and_workers_get_it_back() {
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"ulimit -S -n >> {dir}/limit; echo $$ >> {dir}/starts; exec sleep 999\"]\n",
    );
    for (round, files) in [12, 24].into_iter().enumerate() {
        let inner = rig.command(&["start"]);
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", &format!("ulimit -S -n {files}; exec \"$0\" \"$@\"")])
            .arg(inner.get_program())
            .args(inner.get_args());
        rig.launch_as(&mut command);
        rig.wait("the runtime answers", || rig.try_status().is_some());
        rig.wait("its worker is up", || pids(&rig).len() == round + 1);
        assert_eq!(rig.witness("limit")[round], files.to_string());
        rig.signal(rustix::process::Signal::TERM);
        assert_eq!(rig.wait_end(), 0, "{}", rig.output());
    }
}

#[test]
fn c19_a_refused_fork_is_retried_and_costs_no_budget() {
    if !root_or_skip("a limit on processes") {
        return;
    }
    let rig = Rig::start(&format!(
        "[supervisor.root]\nintensity = {{ max_restarts = 2, within = \"5m\" }}\n[defaults.worker]\n\
         backoff = {{ first = \"50ms\", max = \"100ms\" }}\n[worker.web]\ncommand = {WITNESS}\n"
    ));
    rig.wait("it is up", || pids(&rig).len() == 1);
    let Some(limit) = ProcessLimit::over(rig.runtime()) else { return };
    limit.tighten();
    send(pids(&rig)[0], Signal::KILL);
    rig.wait("the shortage is named", || {
        rig.worker("web")["last_exit"]["message"].to_string().contains("short of")
    });
    rig.wait("it is tried again and again", || rig.worker("web")["incarnation"].as_u64() > Some(5));
    assert_ne!(rig.worker("web")["status"], "quarantined");
    limit.lift();
    rig.wait("it is back", || pids(&rig).len() == 2);
}

#[test]
fn c20_without_threads_to_spare_supervision_goes_on() {
    if !root_or_skip("a limit on processes") {
        return;
    }
    let rig = Rig::start(&format!("[worker.web]\ncommand = {WITNESS}\n"));
    rig.wait("it is up", || pids(&rig).len() == 1);
    let Some(limit) = ProcessLimit::over(rig.runtime()) else { return };
    limit.tighten();
    // What would take a thread, such as writing down an intent, must not bring anything down.
    rig.ok(&["stop", "web", "--wait=10s"]);
    assert_eq!(rig.worker("web")["status"], "stopped");
    limit.lift();
    rig.ok(&["start", "web", "--wait=10s"]);
    rig.wait("it is back", || pids(&rig).len() == 2);
}
