//! Workers that run as somebody else: who they are, what they can reach, and what they cannot.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::rig::{Rig, root_or_skip};

/// Prints what a process is, line by line, into its own state directory, and stays.
const CONFESS: &str = r#"["sh", "-c", "cd \"$REGROW_STATE_DIR\"; (cat /proc/self/status; id -u; id -g; umask; echo HOME=$HOME USER=$USER) > said.new; mv said.new said; exec sleep 999"]"#;

/// Other users must be able to come as far as the state directory.
fn open_rig(toml: &str) -> Rig {
    let mut rig = Rig::new(toml);
    fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    rig.launch();
    rig
}

fn said(rig: &Rig, worker: &str) -> String {
    let below = format!(".regrow/w/{worker}/state/said");
    rig.wait(&format!("{worker} wrote what it is"), || rig.path(&below).exists());
    rig.text(&below)
}

fn field<'a>(said: &'a str, name: &str) -> &'a str {
    said.lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| panic!("no {name} in {said}"))
        .trim()
}

fn mode(rig: &Rig, below: &str) -> u32 {
    fs::symlink_metadata(rig.path(below)).unwrap().mode() & 0o777
}

#[test]
fn p25_p26_a_worker_of_another_user_has_no_rights_and_gains_none() {
    if !root_or_skip("running a worker as another user") {
        return;
    }
    let rig = open_rig(&format!(
        "[worker.web]\ncommand = {CONFESS}\nuser = \"nobody\"\numask = \"077\"\n[worker.loose]\ncommand = {CONFESS}\nuser = \"nobody\"\nno_new_privs = false\n"
    ));
    let said_by = said(&rig, "web");
    let nobody = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = nobody.lines().find(|line| line.starts_with("nobody:")).unwrap();
    let nobody: Vec<&str> = nobody.split(':').collect();
    for name in ["Uid:", "Gid:"] {
        let id = if name == "Uid:" { nobody[2] } else { nobody[3] };
        assert!(field(&said_by, name).split_ascii_whitespace().all(|one| one == id), "{said_by}");
    }
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(&said_by, name), "0000000000000000", "{name}");
    }
    assert_eq!(field(&said_by, "NoNewPrivs:"), "1");
    assert_eq!(field(&said_by, "Groups:"), nobody[3], "no group of root's is left");
    assert!(said_by.contains(&format!("HOME={} USER=nobody", nobody[5])), "{said_by}");
    assert!(said_by.contains("\n0077\n"), "{said_by}");
    let loose = said(&rig, "loose");
    assert_eq!(field(&loose, "NoNewPrivs:"), "0");
    assert_eq!(field(&loose, "CapEff:"), "0000000000000000");
}

#[test]
fn p25_a_setuid_program_gains_nothing() {
    if !root_or_skip("a setuid program") {
        return;
    }
    let run = |no_new_privs: bool| {
        let mut rig = Rig::new(&format!(
            "[worker.web]\ncommand = [\"sh\", \"-c\", \"{{dir}}/id -u > $REGROW_STATE_DIR/new; mv $REGROW_STATE_DIR/new $REGROW_STATE_DIR/said; exec sleep 999\"]\nuser = \"nobody\"\nno_new_privs = {no_new_privs}\n"
        ));
        fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy("/usr/bin/id", rig.path("id")).unwrap();
        fs::set_permissions(rig.path("id"), fs::Permissions::from_mode(0o4755)).unwrap();
        rig.launch();
        said(&rig, "web")
    };
    assert_eq!(run(true).trim(), "65534");
    assert_eq!(run(false).trim(), "0", "the same program does gain them where that is asked for");
}

#[test]
fn p8_what_belongs_to_a_worker_can_be_reached_by_its_user_alone() {
    if !root_or_skip("workers of two users") {
        return;
    }
    // The spy tries to read and write what it has no business with, and lists what it could.
    let spy = r#"["sh", "-c", "S={dir}/.regrow; for f in $S/spawned $S/lock $S/intents.json $S/tokens $S/logs $S/logs/web.log $S/w/web $S/w/web/out $S/w/web/notify $S/w/web/state/secret $S $S/w; do [ -r $f ] && echo readable $f; [ -w $f ] && echo writable $f; done >> $REGROW_STATE_DIR/found; [ -w $S/regrow.sock ] && echo writable socket >> $REGROW_STATE_DIR/found; for c in $(find /sys/fs/cgroup -path '*regrow-*' -name cgroup.procs 2>/dev/null); do [ -w $c ] && echo writable $c; done >> $REGROW_STATE_DIR/found; kill -TERM $PPID 2>> $REGROW_STATE_DIR/kill; touch $REGROW_STATE_DIR/done; exec sleep 999"]"#;
    let rig = open_rig(&format!(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"echo x > $REGROW_STATE_DIR/secret; exec sleep 999\"]\nuser = \"nobody\"\n\
         [worker.spy]\ncommand = {spy}\nuser = \"daemon\"\nafter = [\"web\"]\nlimits = {{ processes = 50 }}\n"
    ));
    rig.wait("the spy is done", || rig.path(".regrow/w/spy/state/done").exists());
    assert_eq!(rig.text(".regrow/w/spy/state/found"), "", "the spy found something");
    assert!(rig.text(".regrow/w/spy/state/kill").contains("not permitted"), "P18");
    let uid = |below: &str| fs::symlink_metadata(rig.path(below)).unwrap().uid();
    for below in ["w/web", "w/web/state", "w/web/out", "w/web/notify", "w/web/talk"] {
        assert_eq!(uid(&format!(".regrow/{below}")), 65534, "{below}");
        assert_eq!(mode(&rig, &format!(".regrow/{below}")) & 0o077, 0, "{below}");
    }
    assert_eq!((mode(&rig, ".regrow"), mode(&rig, ".regrow/w")), (0o711, 0o711));
    for below in [".regrow/logs", ".regrow/spawned", ".regrow/regrow.sock"] {
        assert_eq!(mode(&rig, below) & 0o077, 0, "{below}");
    }
}

#[test]
fn a_worker_of_another_user_speaks_restarts_and_stops_as_any_other() {
    if !root_or_skip("running a worker as another user") {
        return;
    }
    let rig = open_rig(
        "[worker.web]\ncommand = [\"python3\", \"-c\", \"import os,socket,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.connect(os.environ['NOTIFY_SOCKET']); s.send(b'READY=1'); print('hello', flush=True); open('/dev/stderr','w').write('again\\\\n'); time.sleep(999)\"]\n\
         user = \"nobody\"\nready = \"notify\"\n",
    );
    rig.wait_status("web", "healthy");
    rig.ok(&["restart", "web", "--wait=20s"]);
    rig.wait_status("web", "healthy");
    rig.wait("its output is kept, also what it wrote by the name of its file", || {
        let log = rig.ok(&["logs", "web"]);
        log.matches("hello").count() == 2 && log.matches("again").count() == 2
    });
    rig.ok(&["stop", "web", "--wait=20s"]);
    assert_eq!(rig.worker("web")["last_exit"]["kind"], "stopped");
}

#[test]
fn what_a_worker_kept_goes_over_to_its_new_user() {
    if !root_or_skip("changing a worker's user") {
        return;
    }
    let as_user = |user: &str| {
        format!(
            "[worker.web]\ncommand = [\"sh\", \"-c\", \"mkdir -p $REGROW_STATE_DIR/d && echo $(id -u) >> $REGROW_STATE_DIR/d/starts; exec sleep 999\"]\n{user}\n[worker.other]\ncommand = [\"sleep\", \"999\"]\nuser = \"daemon\"\n"
        )
    };
    let mut rig = open_rig(&as_user(""));
    let starts = ".regrow/w/web/state/d/starts";
    rig.wait("it ran as root", || rig.text(starts) == "0\n");
    rig.ok(&["shutdown"]);
    rig.wait_end();
    rig.configure(&as_user("user = \"nobody\""));
    rig.launch();
    rig.wait("it goes on where it was, as nobody", || rig.text(starts) == "0\n65534\n");
    rig.ok(&["shutdown"]);
    rig.wait_end();
    rig.configure(&as_user(""));
    rig.launch();
    rig.wait("and back", || rig.text(starts) == "0\n65534\n0\n");
}

#[test]
fn a26_a_user_that_does_not_exist_fails_the_start_and_is_warned_of() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sleep\", \"999\"]\nuser = \"no-such-user\"\n[worker.ok]\ncommand = [\"sleep\", \"999\"]\n",
    );
    rig.wait("its start failed", || rig.worker("web")["last_exit"]["kind"] == "start_failed");
    let message = rig.worker("web")["last_exit"]["message"].to_string();
    assert!(message.contains("no such user or group: no-such-user"), "{message}");
    rig.wait_status("ok", "healthy");
    let check = rig.ok(&["check"]);
    assert!(check.contains("worker `web` will not start: no such user or group: no-such-user"), "{check}");
}

#[test]
fn without_root_another_user_is_refused_with_what_to_do() {
    if !root_or_skip("becoming somebody who is not root") {
        return;
    }
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sleep\", \"999\"]\nuser = \"daemon\"\n[worker.own]\ncommand = [\"sleep\", \"999\"]\nuser = \"nobody\"\n",
    );
    fs::set_permissions(rig.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let regrow = rig.path("regrow");
    fs::copy(env!("CARGO_BIN_EXE_regrow"), &regrow).unwrap();
    fs::set_permissions(&regrow, fs::Permissions::from_mode(0o755)).unwrap();
    let file = rig.path("regrow.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&regrow)
        .arg("-c")
        .arg(&file)
        .arg("start");
    command.current_dir(rig.path("")).env("NO_COLOR", "1");
    rig.launch_as(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig.wait("its start failed", || rig.worker("web")["last_exit"]["kind"] == "start_failed");
    let message = rig.worker("web")["last_exit"]["message"].to_string();
    assert!(
        message.contains("regrow runs as uid 65534") && message.contains("run regrow as root"),
        "{message}"
    );
    rig.wait_status("own", "healthy");
}

#[test]
fn nice_and_oom_score_are_the_workers_alone() {
    let rig = Rig::start(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"cat /proc/self/oom_score_adj; nice; exec sleep 999\"]\nnice = 7\noom_score_adj = 300\n",
    );
    rig.wait("it said both", || rig.ok(&["logs", "web"]).lines().count() >= 2);
    let log = rig.ok(&["logs", "web"]);
    assert!(log.contains("300") && log.contains('7'), "{log}");
    let own = fs::read_to_string(format!("/proc/{}/oom_score_adj", rig.runtime())).unwrap();
    assert_ne!(own.trim(), "300", "the runtime's own score was changed");
}

#[test]
fn g14_p16_nothing_is_open_to_others_whatever_the_umask() {
    let mut rig = Rig::new(&format!("[worker.web]\ncommand = {CONFESS}\n"));
    let mut command = std::process::Command::new("sh");
    let start = format!(
        "umask 0; exec {} -c {} start",
        env!("CARGO_BIN_EXE_regrow"),
        rig.path("regrow.toml").display()
    );
    command.args(["-c", &start]).env("NO_COLOR", "1");
    rig.launch_as(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    said(&rig, "web");
    rig.ok(&["stop", "web"]);
    let found = std::process::Command::new("find")
        .arg(rig.path(".regrow"))
        // What the worker itself writes is its own affair, in a directory that is closed to others.
        .args(["!", "-type", "l", "!", "-name", "said", "-perm", "/077"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}
