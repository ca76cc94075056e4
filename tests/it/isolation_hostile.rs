//! A hostile parent, hostile arguments and hostile names: none of it reaches a worker or the disk.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::rig::Rig;

#[test]
fn p24_nothing_of_a_hostile_parent_reaches_a_worker() {
    let mut rig = Rig::new(
        "[worker.web]\ncommand = [\"sh\", \"-c\", \"(env; grep Sig /proc/self/status; ls -l /proc/self/fd | tail -n +2 | wc -l; ulimit -n; ulimit -f) > {dir}/new; mv {dir}/new {dir}/said; exec sleep 999\"]\n",
    );
    // Blocked and ignored signals, open files, limits of zero, and an environment with a library to preload.
    let parent = "import os,signal,resource,sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1,64))\n\
        [signal.signal(s, signal.SIG_IGN) for s in (1,2,13,15,17)]\n\
        fd = os.open('/dev/null', os.O_RDWR)\n\
        [os.dup2(fd, n, inheritable=True) for n in range(3,21)]\n\
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n\
        os.execve(sys.argv[1], sys.argv[1:], dict(os.environ, LD_PRELOAD='/nowhere/evil.so', LD_LIBRARY_PATH='/nowhere', BASH_ENV='/nowhere', EVIL='1'))\n";
    let mut command = Command::new("python3");
    command
        .args(["-c", parent, env!("CARGO_BIN_EXE_regrow"), "-c"])
        .arg(rig.path("regrow.toml"))
        .arg("start");
    command.env("NO_COLOR", "1");
    // The parent's own output would be a file that it may not write to.
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    rig.launch_with(&mut command);
    rig.wait("the runtime answers", || rig.try_status().is_some());
    rig.wait("the worker said what it got", || rig.path("said").exists());
    let said = rig.text("said");
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "BASH_ENV", "EVIL"] {
        assert!(!said.contains(&format!("{name}=")), "{said}");
    }
    for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert!(said.contains(line), "{said}");
    }
    // ls itself has the directory open.
    assert!(said.lines().any(|line| line == "4"), "{said}");
    assert!(said.lines().any(|line| line == "64"), "the limit of open files it was started with: {said}");
    assert!(!said.lines().any(|line| line == "0"), "a file size of zero: {said}");
    let status = rig.status();
    assert!(status["runtime"]["notes"].to_string().contains("file size was 0"), "{status}");
    rig.signal(rustix::process::Signal::TERM);
    assert_eq!(rig.wait_end(), 0, "a signal that the parent held back is heard");
}

#[test]
fn p17_g10_what_looks_like_a_shells_is_one_argument() {
    let rig = Rig::start(
        "[worker.web]\n\
         command = [\"python3\", \"-c\", \"import sys,json,time; json.dump(sys.argv[1:], open('{dir}/new','w')); import os; os.rename('{dir}/new','{dir}/argv'); time.sleep(999)\", \
         \"a; touch {dir}/pwned\", \"$(touch {dir}/pwned)\", \"`touch {dir}/pwned`\", \"${{HOME} x\", \"{worker} {instance}\", \"| && > < *\"]\n\
         env = { EVIL = \"$(touch {dir}/pwned); {worker}\" }\n",
    );
    rig.wait("it wrote its arguments", || rig.path("argv").exists());
    let argv: Vec<String> = serde_json::from_str(&rig.text("argv")).unwrap();
    let dir = rig.path("").display().to_string();
    let dir = dir.trim_end_matches('/');
    assert_eq!(
        argv,
        [
            format!("a; touch {dir}/pwned"),
            format!("$(touch {dir}/pwned)"),
            format!("`touch {dir}/pwned`"),
            "${HOME} x".to_owned(),
            "web web".to_owned(),
            "| && > < *".to_owned(),
        ]
    );
    assert!(!rig.path("pwned").exists());
}

#[test]
fn g4_p9_a_hostile_name_is_refused_and_makes_no_file() {
    let rig = Rig::start("[worker.web]\ncommand = [\"sleep\", \"999\"]\n");
    rig.wait_status("web", "healthy");
    let files = || {
        let found = Command::new("find").arg(rig.path("")).output().unwrap().stdout;
        let mut lines: Vec<String> = String::from_utf8_lossy(&found).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = files();
    let long = "a".repeat(10_000);
    let names = [
        "../../etc/passwd",
        "..",
        ".",
        "web/../x",
        "web%00",
        "w\u{435}b",
        "web/99999999999",
        "we b",
        "-",
        "WEB",
        "web\n",
    ];
    for name in names.into_iter().chain([long.as_str()]) {
        for verb in ["describe", "stop", "restart", "logs"] {
            let code = rig.code(&[verb, "--", name]);
            assert_eq!(code, 4, "regrow {verb} {name:.40}");
        }
    }
    for id in [
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "%2e",
        "web%00",
        "w%D0%B5b",
        "WEB",
        "web%0a",
        "web%2f99999999999",
        long.as_str(),
    ] {
        for (method, tail) in [("GET", ""), ("GET", "/logs"), ("POST", "/restart"), ("POST", "/stop")] {
            let answer = ask(&rig, method, &format!("/api/v1/workers/{id}{tail}"));
            assert!(answer.starts_with("HTTP/1.1 400"), "{method} {id:.40}{tail}: {answer:.200}");
        }
    }
    assert_eq!(files(), before);
    assert_eq!(rig.worker("web")["restarts"], 0);
}

fn ask(rig: &Rig, method: &str, path: &str) -> String {
    let mut socket = UnixStream::connect(rig.path(".regrow/regrow.sock")).unwrap();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
