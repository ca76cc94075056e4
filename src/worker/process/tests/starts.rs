//! Starts: each reason of a failure, and what a worker finds.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::config::StderrTo;
use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::worker::WorkerReport;
use crate::worker::process::layout::Layout;
use crate::worker::process::recipe::{LastPassed, Recipe};

use super::rig::{NO_CGROUP, PLAIN, Rig, command, lines, runner, sh, signal};

fn write_executable(rig: &Rig, name: &str, content: &str) {
    let path = rig.path(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_program_that_is_nowhere_is_not_found() {
    for program in ["regrow-no-such-program", "@/nowhere", "./nowhere"] {
        let mut rig = Rig::new(command(&[program]));
        let failure = rig.start_failure().await;
        assert!(matches!(failure, StartFailure::NotFound { .. }), "{program}: {failure:?}");
    }
}

#[tokio::test]
async fn a_file_without_the_mode_bit_and_a_directory_are_not_executable() {
    for program in ["@/plain", "@"] {
        let mut rig = Rig::new(command(&[program]));
        std::fs::write(rig.path("plain"), "#!/bin/sh\n").unwrap();
        let failure = rig.start_failure().await;
        assert!(matches!(failure, StartFailure::NotExecutable { .. }), "{program}: {failure:?}");
    }
}

#[tokio::test]
async fn a_file_of_no_known_format_says_so() {
    let mut rig = Rig::new(command(&["@/odd"]));
    write_executable(&rig, "odd", "\u{1}\u{2}no program");
    assert!(matches!(rig.start_failure().await, StartFailure::BadFormat { .. }));
}

#[tokio::test]
async fn a_missing_interpreter_is_named() {
    let mut rig = Rig::new(command(&["@/script"]));
    write_executable(&rig, "script", "#!/opt/no-such-python3 -u\nprint(1)\n");
    match rig.start_failure().await {
        StartFailure::NotFound { program } => assert!(program.contains("/opt/no-such-python3"), "{program}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_working_directory_that_is_gone_is_named() {
    let mut settings = command(&["true"]);
    settings.cwd = "/no/such/directory".into();
    let failure = Rig::new(settings).start_failure().await;
    assert_eq!(failure, StartFailure::NoSuchDirectory { path: "/no/such/directory".to_owned() });
}

#[tokio::test]
async fn the_next_of_path_is_tried_as_a_shell_would() {
    let mut settings = command(&["tool"]);
    settings.env.insert("PATH".to_owned(), "/no/such:first:second".to_owned());
    let mut rig = Rig::new(settings);
    for (dir, mode) in [("first", 0o644), ("second", 0o755)] {
        std::fs::create_dir(rig.path(dir)).unwrap();
        write_executable(&rig, &format!("{dir}/tool"), "#!/bin/sh\necho $0 > ran\n");
        std::fs::set_permissions(rig.path(&format!("{dir}/tool")), std::fs::Permissions::from_mode(mode))
            .unwrap();
    }
    rig.up(1).await;
    assert_eq!(rig.exit().await, Exit::Exited { code: 0 });
    assert_eq!(lines(&rig.path("ran"), 1).await, ["second/tool"]);
}

#[tokio::test]
async fn a_worker_sees_three_descriptors_and_nothing_of_ours() {
    for (options, stderr) in [(PLAIN, StderrTo::Merge), (NO_CGROUP, StderrTo::Separate)] {
        let mut settings = sh("ls /proc/self/fd > fds.new; mv fds.new fds; exec sleep 1000");
        settings.log.stderr = stderr;
        let mut rig = Rig::with(settings, options);
        // Inheritable on purpose: what a careless host leaves open must not reach a worker.
        let leak = rustix::io::dup(std::fs::File::open("/dev/zero").unwrap()).unwrap();
        let pid = rig.up(1).await;
        // 3 is the directory that `ls` itself has open.
        assert_eq!(lines(&rig.path("fds"), 4).await, ["0", "1", "2", "3"]);
        drop(leak);
        signal(pid, libc::SIGKILL);
        rig.exit().await;
    }
}

#[tokio::test]
async fn signals_are_as_a_program_expects_them() {
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status > sig.new; mv sig.new sig";
    let mut rig = Rig::new(command(&["sh", "-c", script]));
    rig.up(1).await;
    rig.exit().await;
    for line in lines(&rig.path("sig"), 2).await {
        let (name, mask) = line.split_once(':').unwrap();
        assert_eq!(
            u64::from_str_radix(mask.trim(), 16).unwrap(),
            0,
            "{name}; SIGPIPE is ignored in this process"
        );
    }
}

#[tokio::test]
async fn it_leads_a_session_of_its_own() {
    let mut rig = Rig::new(sh("cut -d' ' -f1,5,6 /proc/$$/stat > ids.new; mv ids.new ids; exec sleep 1000"));
    let pid = rig.up(1).await;
    assert_eq!(lines(&rig.path("ids"), 1).await, [format!("{pid} {pid} {pid}")]);
    signal(pid, libc::SIGKILL);
    rig.exit().await;
}

#[tokio::test]
async fn the_environment_is_scrubbed_and_ours_is_there() {
    let mut settings = sh("env > env.new; mv env.new env");
    settings.env.insert("MODE".to_owned(), "{worker}-{incarnation}-{{x}".to_owned());
    let mut rig = Rig::new(settings);
    rig.up(7).await;
    rig.exit().await;
    let env = lines(&rig.path("env"), 6).await;
    let names: Vec<&str> = env.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // The shell itself adds two.
    let known =
        ["PATH", "HOME", "USER", "LANG", "TZ", "MODE", "NOTIFY_SOCKET", "PWD", "OLDPWD", "_", "SHLVL"];
    for name in &names {
        assert!(known.contains(name) || name.starts_with("REGROW_"), "{name} should not be there");
    }
    let state = rig.dir.path().canonicalize().unwrap().join("w/w/state");
    for line in ["REGROW_WORKER=w", "REGROW_INSTANCE=w", "REGROW_INCARNATION=7", "MODE=w-7-{x}"] {
        assert!(env.iter().any(|found| found == line), "{line} is missing in {env:?}");
    }
    assert!(env.contains(&format!("REGROW_STATE_DIR={}", state.display())));
    assert!(state.is_dir());
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_through() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let settings = crate::config::WorkerSettings { inherit_env: vec!["*".to_owned()], ..command(&["true"]) };
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let env = [(odd(b"ODD"), odd(b"\xff\xfe")), (odd(b"\xc3\x28"), odd(b"x"))];
    let id = crate::id::InstanceId::single(settings.name.clone());
    let last = LastPassed::default();
    let recipe = {
        let layout = Layout::new("/s".as_ref(), "w", false, "key", false);
        Recipe::new(&id, &settings, (&env, &last), &layout).unwrap()
    };
    let image = recipe.image(Incarnation(1)).unwrap();
    for variable in [&b"ODD=\xff\xfe"[..], &b"\xc3\x28=x"[..]] {
        assert!(image.env.iter().any(|found| found.as_bytes() == variable));
    }
}

#[tokio::test]
async fn a_failed_start_names_what_was_not_passed() {
    let mut rig = Rig::new(sh("exit 3"));
    rig.runner.start(Incarnation(1));
    let mut hinted = None;
    let exit = loop {
        match rig.next().await {
            WorkerReport::Hint { text } => hinted = Some(text),
            WorkerReport::Exited { exit } => break exit,
            _ => {}
        }
    };
    assert_eq!(exit, Exit::Exited { code: 3 });
    // cargo sets several of these.
    let hint = hinted.unwrap();
    assert!(hint.starts_with("not passed to it: ") && hint.ends_with("; name them in inherit_env"), "{hint}");
    assert!(hint.matches(',').count() < 8, "{hint}");
}

#[tokio::test]
async fn the_record_is_written_before_the_program_runs() {
    let mut rig = Rig::new(sh("cat spawned > seen.new; mv seen.new seen; exec sleep 1000"));
    let pid = rig.up(4).await;
    let seen = lines(&rig.path("seen"), 2).await;
    assert!(seen.last().unwrap().starts_with(&format!("w 4 {pid} ")), "{seen:?}");
    signal(pid, libc::SIGKILL);
    rig.exit().await;
}

#[tokio::test]
async fn what_an_earlier_run_left_is_used_and_a_symlink_is_refused() {
    let mut rig = Rig::new(sh("echo ran >> witness"));
    rig.up(1).await;
    rig.exit().await;
    rig.renew().await;
    rig.up(2).await;
    rig.exit().await;
    assert_eq!(lines(&rig.path("witness"), 2).await.len(), 2);

    rig.renew().await;
    std::fs::remove_file(rig.path("w/w/out")).unwrap();
    symlink("/dev/null", rig.path("w/w/out")).unwrap();
    let failure = rig.start_failure().await;
    assert!(failure.to_string().contains("FIFO"), "{failure}");
}

#[tokio::test]
async fn the_folder_of_all_workers_is_made_again_and_a_link_in_its_place_is_refused() {
    let mut rig = Rig::new(sh("exit 0"));
    rig.up(1).await;
    rig.exit().await;
    rig.renew().await;
    std::fs::remove_dir_all(rig.path("w")).unwrap();
    rig.up(2).await;
    rig.exit().await;

    rig.renew().await;
    std::fs::rename(rig.path("w"), rig.path("elsewhere")).unwrap();
    std::fs::create_dir(rig.path("target")).unwrap();
    symlink(rig.path("target"), rig.path("w")).unwrap();
    let failure = rig.start_failure().await;
    assert!(failure.to_string().contains("no directory"), "{failure}");
    let written = std::fs::read_dir(rig.path("target")).unwrap().count();
    assert_eq!(written, 0, "something was written elsewhere");
}

#[tokio::test]
async fn long_paths_move_the_socket_elsewhere() {
    let mut rig = Rig::new(sh("echo $NOTIFY_SOCKET > path.new; mv path.new path"));
    let deep = rig.path(&"d".repeat(120));
    std::fs::create_dir_all(deep.join("logs")).unwrap();
    let (host, _) = super::rig::host_at(&deep, PLAIN);
    let (mut runner, mut reports) = runner(&host, &rig.settings);
    runner.start(Incarnation(1));
    while !matches!(super::rig::next(&mut reports).await, WorkerReport::Exited { .. }) {}
    let path = lines(&rig.path("path"), 1).await.remove(0);
    assert!(path.len() < 100 && !path.starts_with(deep.to_str().unwrap()), "{path}");
    let home = std::path::Path::new(&path).parent().unwrap().to_owned();
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::remove_dir_all(home).unwrap();
    rig.up(1).await;
    rig.exit().await;
}

#[tokio::test]
async fn what_somebody_removed_is_made_again_by_the_next_start() {
    let mut settings = sh("echo ran >> witness");
    settings.log.stderr = crate::config::StderrTo::Separate;
    let mut rig = Rig::new(settings);
    rig.up(1).await;
    rig.exit().await;
    for (n, removed) in (2..).zip(["err", "out", "notify", "talk"]) {
        std::fs::remove_file(rig.path("w/w").join(removed)).unwrap();
        rig.up(n).await;
        assert_eq!(rig.exit().await, Exit::Exited { code: 0 });
        assert!(rig.path("w/w").join(removed).symlink_metadata().is_ok(), "{removed} is missing");
    }
}

#[tokio::test]
async fn what_a_disk_refused_once_is_tried_again() {
    let rig = Rig::new(sh("exit 0"));
    let (home, aside) = (rig.dir.path().to_owned(), rig.dir.path().with_extension("aside"));
    std::fs::rename(&home, &aside).unwrap();
    std::fs::write(&home, "").unwrap();
    assert!(rig.host.share().is_err() && !rig.host.is_shared());
    std::fs::remove_file(&home).unwrap();
    std::fs::rename(&aside, &home).unwrap();
    rig.host.share().unwrap();
    assert!(rig.host.is_shared());
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o711);
}
