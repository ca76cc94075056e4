//! Commands beside workers: what they start ends with them, and what they say keeps the worker's secrets.

use std::path::Path;
use std::time::Duration;

use crate::config::SecretSource;
use crate::id::{Incarnation, InstanceId};
use crate::worker::process::{Beside, HostOptions};
use crate::worker::unix::Ended;
use crate::worker::{Deed, Job, Sights};

use super::rig::{NO_CGROUP, PLAIN, Rig, gone, host_at, lines, lives, sh, ways};

/// A double fork into a session of its own, in the rig's directory.
const ESCAPEE: &str = "(setsid sh -c 'echo $$ > escaped.new; mv escaped.new escaped; exec sleep 1000' &) ; ";

fn rig(options: HostOptions) -> Rig {
    let mut rig = Rig::with(sh("exec sleep 1000"), options);
    let path = rig.path("secret");
    std::fs::write(&path, "hunter2\n").unwrap();
    rig.set(|settings| {
        settings.isolation.secrets.insert("PASSWORD".to_owned(), SecretSource::File(path));
    });
    rig
}

fn beside(rig: &Rig, script: &str) -> Beside {
    let mut settings = crate::config::WorkerSettings::clone(&rig.settings);
    settings.command = sh(script).command;
    let instance = InstanceId::single(settings.name.clone());
    Beside { instance, incarnation: Incarnation(1), settings, most: 1000, apart: None }
}

async fn escaped(dir: &Path) -> u32 {
    lines(&dir.join("escaped"), 1).await[0].parse().unwrap()
}

#[tokio::test]
async fn who_stops_waiting_for_a_command_ends_its_whole_tree() {
    for options in ways() {
        let rig = rig(options);
        let escapee = {
            let run = rig.host.run_beside(beside(&rig, &format!("{ESCAPEE} exec sleep 1000")));
            tokio::select! {
                ran = run => panic!("it ended: {ran:?}"),
                pid = escaped(rig.dir.path()) => pid,
            }
        };
        gone(escapee).await;
    }
}

#[tokio::test]
async fn what_a_command_left_behind_ends_after_it() {
    for options in ways() {
        let rig = rig(options);
        let script = format!("{ESCAPEE} while [ ! -e escaped ]; do sleep 0.01; done; exit 4");
        let ran = rig.host.run_beside(beside(&rig, &script)).await.unwrap();
        assert!(matches!(ran.ended, Ended::Code(4)), "{ran:?}");
        gone(escaped(rig.dir.path()).await).await;
    }
}

#[tokio::test]
async fn the_end_of_the_runtime_ends_them_and_lets_no_other_begin() {
    for options in ways() {
        let rig = rig(options);
        let run = rig.host.run_beside(beside(&rig, &format!("{ESCAPEE} exec sleep 1000")));
        let end = async {
            let pid = escaped(rig.dir.path()).await;
            let host = std::sync::Arc::clone(&rig.host);
            tokio::task::spawn_blocking(move || host.end_calls()).await.unwrap();
            pid
        };
        let (ran, escapee) = tokio::join!(run, end);
        assert!(matches!(ran.unwrap().ended, Ended::Signal(libc::SIGKILL)));
        gone(escapee).await;
        let late = rig.host.run_beside(beside(&rig, "exec sleep 1000")).await;
        assert!(matches!(late.unwrap().ended, Ended::Signal(libc::SIGKILL)));
    }
}

#[tokio::test]
async fn what_a_killed_runtime_left_beside_its_workers_is_ended_by_the_next() {
    for options in ways() {
        let mut rig = rig(options);
        let pid = rig.up(1).await;
        let run = {
            let (host, beside) = (rig.host.clone(), beside(&rig, &format!("{ESCAPEE} exec sleep 1000")));
            tokio::spawn(async move { host.run_beside(beside).await })
        };
        let escapee = escaped(rig.dir.path()).await;
        assert!(lives(escapee));
        // The next one on this directory does not know that the first still runs.
        let _next = host_at(rig.dir.path(), options);
        gone(escapee).await;
        assert!(matches!(run.await.unwrap().unwrap().ended, Ended::Signal(libc::SIGKILL)));
        assert!(lives(pid), "the worker itself is not ended like this");
        rig.runner.kill();
        gone(pid).await;
    }
}

#[tokio::test]
async fn commands_that_hang_in_their_start_keep_nobody_from_being_started() {
    let mut rig = rig(NO_CGROUP);
    let (release, hang) = std::sync::mpsc::channel::<()>();
    let hang = std::sync::Arc::new(std::sync::Mutex::new(hang));
    for _ in 0..64 {
        let hang = std::sync::Arc::clone(&hang);
        // As on a dead mount; an error says that it has come back.
        rig.host.pool.run_beside(move |_| assert!(hang.lock().unwrap().recv().is_err()));
    }
    for script in ["echo one", "echo two"] {
        let run = rig.host.run_beside(beside(&rig, script));
        assert!(
            tokio::time::timeout(Duration::from_millis(300), run).await.is_err(),
            "it began before others"
        );
        let again = rig.host.run_beside(beside(&rig, script)).await;
        let failure = again.expect_err("the one before still hangs").to_string();
        assert!(failure.contains("still hangs"), "{failure}");
    }
    for n in 1..=3 {
        let pid = rig.up(n).await;
        rig.runner.kill();
        rig.exit().await;
        gone(pid).await;
    }
    drop(release);
    let end = tokio::time::Instant::now() + super::rig::PATIENCE;
    let ran = loop {
        match rig.host.run_beside(beside(&rig, "echo one")).await {
            Ok(ran) => break ran,
            Err(failure) => assert!(tokio::time::Instant::now() < end, "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(ran.output, "one\n");
}

#[tokio::test]
async fn a_command_beside_a_worker_gets_no_secret_of_another() {
    let mut rig = rig(PLAIN);
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
    };
    let shells = ["PATH", "HOME", "USER", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "_", "PPID", "IFS"];
    let variable = rig.host.env.iter().find_map(|(name, value)| {
        let (name, value) = (name.to_str()?, value.to_str()?);
        let fits = plain(name) && plain(value) && value.len() < 200 && !shells.contains(&name);
        fits.then(|| (name.to_owned(), value.to_owned()))
    });
    let (name, value) = variable.expect("some variable of whoever runs the tests");
    rig.set(|settings| settings.inherit_env = vec!["*".to_owned()]);
    let script = format!("echo [${name}]");
    let ran = rig.host.run_beside(beside(&rig, &script)).await.unwrap();
    assert_eq!(ran.output, format!("[{value}]\n"));

    let mut other = sh("exec sleep 1000");
    other.isolation.secrets.insert("DB".to_owned(), SecretSource::Env(name));
    rig.host.know_secrets(&[std::sync::Arc::new(other)]);
    let ran = rig.host.run_beside(beside(&rig, &script)).await.unwrap();
    assert_eq!(ran.output, "[]\n");
    let deed = Deed::Run { argv: sh(&script).command };
    let said = perform(&mut rig, deed, None, Duration::from_secs(60)).await.unwrap();
    assert_eq!(said[0].1, "[]\n");
}

#[tokio::test]
async fn the_state_of_a_worker_that_was_started_meanwhile_stays_where_it_is() {
    let mut rig = rig(PLAIN);
    rig.up(1).await;
    rig.runner.kill();
    rig.exit().await;
    std::fs::write(rig.path("w/w/state/kept"), "").unwrap();
    let site = || {
        let (host, settings) = (rig.host.clone(), rig.settings.clone());
        let instance = InstanceId::single(settings.name.clone());
        std::sync::Arc::new(crate::worker::process::site::Site::new(
            host,
            instance,
            settings,
            Default::default(),
        ))
    };
    let job = |timeout| Job { incarnation: Incarnation(1), pid: None, timeout, deed: Deed::Archive };
    let late = crate::worker::process::deeds::perform(site(), job(Duration::ZERO));
    let crossed = crate::worker::process::deeds::perform(site(), job(Duration::from_secs(60)));
    rig.up(2).await;
    for doing in [late.await, crossed.await] {
        assert!(doing.unwrap_err().contains("started meanwhile"));
    }
    assert!(rig.path("w/w/state/kept").exists());
    rig.runner.kill();
    rig.exit().await;
    perform(&mut rig, Deed::Archive, None, Duration::from_secs(60)).await.unwrap();
    assert!(rig.path("w/w/state").is_dir() && !rig.path("w/w/state/kept").exists());
}

async fn perform(rig: &mut Rig, deed: Deed, pid: Option<u32>, timeout: Duration) -> Result<Sights, String> {
    let (sender, done) = tokio::sync::oneshot::channel();
    let job = Job { incarnation: Incarnation(1), pid, timeout, deed };
    rig.runner.perform(job, Box::new(move |result| sender.send(result).unwrap()));
    done.await.unwrap()
}

#[tokio::test]
async fn a_step_that_is_late_takes_its_tree_along_and_says_what_it_said() {
    for options in ways() {
        let mut rig = rig(options);
        let pid = rig.up(1).await;
        let argv = sh(&format!("echo it is $PASSWORD; {ESCAPEE} exec sleep 1000")).command;
        // On a busy machine the first tries may be over before it has said anything.
        let mut said = String::new();
        for seconds in [1, 4, 16] {
            let deed = Deed::Run { argv: argv.clone() };
            said = perform(&mut rig, deed, Some(pid), Duration::from_secs(seconds)).await.unwrap_err();
            assert!(said.starts_with(&format!("it was not done within {seconds}s")), "{said}");
            if rig.path("escaped").exists() && said.contains(": ") {
                break;
            }
        }
        assert!(said.ends_with(": it is (hidden)"), "{said}");
        gone(escaped(rig.dir.path()).await).await;
        assert!(lives(pid), "the worker itself goes on");
        rig.runner.kill();
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_capture_that_is_late_is_kept_as_far_as_it_came() {
    let mut rig = rig(PLAIN);
    let capture = sh("echo stack of {pid} with $PASSWORD; exec sleep 1000").command;
    rig.set(|settings| settings.on.capture = Some(capture));
    let pid = rig.up(1).await;
    let mut capture = String::new();
    for seconds in [1, 4, 16] {
        let sights = perform(&mut rig, Deed::Look, Some(pid), Duration::from_secs(seconds)).await.unwrap();
        capture = sights.into_iter().find(|(what, _)| *what == "capture").map(|(_, text)| text).unwrap();
        if capture.contains("stack") {
            break;
        }
    }
    assert!(
        capture.starts_with(&format!("stack of {pid} with (hidden)\n(it was not done within")),
        "{capture}"
    );
    rig.runner.kill();
    gone(pid).await;
}

#[tokio::test]
async fn a_secret_that_was_changed_is_hidden_in_its_old_form_too() {
    let rig = rig(PLAIN);
    let ran = rig.host.run_beside(beside(&rig, "echo $PASSWORD")).await.unwrap();
    assert_eq!(ran.output, "(hidden)\n");
    let SecretSource::File(path) = &rig.settings.isolation.secrets["PASSWORD"] else { unreachable!() };
    std::fs::write(path, "correct horse\n").unwrap();
    let ran = rig.host.run_beside(beside(&rig, "echo hunter2 or $PASSWORD; printf hunter1")).await.unwrap();
    assert_eq!(ran.output, "(hidden) or (hidden)\nhunter1");
}
