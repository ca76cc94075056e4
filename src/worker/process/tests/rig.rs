//! A host on a directory of its own, one runner, and its reports.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::config::{
    DaemonSettings, Isolation, Limits, LogOnFull, LogSettings, LogTo, ReadyWhen, StderrTo, StopSettings,
    StopTo, WorkerSettings,
};
use crate::exit::{Exit, StartFailure};
use crate::id::{Incarnation, Name};
use crate::policy::{Backoff, ExitCodes, Restart};
use crate::worker::process::{HostOptions, ProcessHost};
use crate::worker::{Runner, WorkerReport};

/// Long enough for a loaded machine, and only ever reached by a failing test.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Unit tests share one process with `std::process` children of others: orphans are not theirs to take.
pub(super) const PLAIN: HostOptions = HostOptions {
    cgroups: true,
    adopt_orphans: false,
    shared: false,
    raise_limits: true,
    step_aside: true,
    stdin: false,
    instances: 0,
};
pub(super) const NO_CGROUP: HostOptions = HostOptions {
    cgroups: false,
    adopt_orphans: false,
    shared: false,
    raise_limits: true,
    step_aside: true,
    stdin: false,
    instances: 0,
};

/// With a cgroup and without. Where none can be had both would be the same, and one is left out.
pub(super) fn ways() -> Vec<HostOptions> {
    static CAN: OnceLock<bool> = OnceLock::new();
    let can = || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        host_at(dir.path(), PLAIN).0.cgroups.is_some()
    };
    if *CAN.get_or_init(can) {
        return vec![PLAIN, NO_CGROUP];
    }
    left_out("with a cgroup: none can be made here");
    vec![NO_CGROUP]
}

/// Names what is left out, past the harness, which shows nothing that a passing test prints.
pub(super) fn left_out(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("left out: {test}: {why}\n").as_bytes());
}

pub(super) struct Rig {
    pub(super) host: Arc<ProcessHost>,
    pub(super) runner: Box<dyn Runner>,
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) dir: TempDir,
    reports: mpsc::UnboundedReceiver<(Incarnation, WorkerReport)>,
}

impl Rig {
    pub(super) fn new(settings: WorkerSettings) -> Self {
        Self::with(settings, PLAIN)
    }

    /// `@` in the command stands for the rig's directory.
    pub(super) fn with(mut settings: WorkerSettings, options: HostOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        settings.command = settings.command.iter().map(|part| part.replace('@', at)).collect();
        if settings.cwd.as_os_str().is_empty() {
            settings.cwd = dir.path().to_owned();
        }
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        let (host, _) = ProcessHost::open(dir.path(), options).unwrap();
        let settings = Arc::new(settings);
        let (runner, reports) = runner(&host, &settings);
        Self { host, runner, settings, dir, reports }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes the settings before anything has started.
    pub(super) fn set(&mut self, change: impl FnOnce(&mut WorkerSettings)) {
        change(Arc::make_mut(&mut self.settings));
        (self.runner, self.reports) = runner(&self.host, &self.settings);
    }

    /// Puts a new runner in the place of the old one, once that has let go of the fence.
    pub(super) async fn renew(&mut self) {
        let (runner, reports) = runner(&self.host, &self.settings);
        drop(std::mem::replace(&mut self.runner, runner));
        self.reports = reports;
        let fence = self.path("w").join(self.settings.name.as_str()).join("out");
        until(|| crate::worker::process::layout::take_fence(&fence).unwrap()).await;
    }

    pub(super) async fn next(&mut self) -> WorkerReport {
        next(&mut self.reports).await
    }

    /// Starts and waits until it is ready; answers the pid.
    pub(super) async fn up(&mut self, n: u64) -> u32 {
        self.runner.start(Incarnation(n));
        let WorkerReport::Started { pid: Some(pid) } = self.next_but_noise().await else {
            panic!("it did not start");
        };
        assert_eq!(self.next_but_noise().await, WorkerReport::Ready);
        pid
    }

    /// Waits for the end.
    pub(super) async fn exit(&mut self) -> Exit {
        loop {
            match self.next().await {
                WorkerReport::Exited { exit } => return exit,
                WorkerReport::StartFailed { exit, .. } => return exit,
                _ => {}
            }
        }
    }

    pub(super) async fn start_failure(&mut self) -> StartFailure {
        self.runner.start(Incarnation(1));
        match self.exit().await {
            Exit::StartFailed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    /// The next report that is neither a hint nor the last words of the one before.
    pub(super) async fn next_but_noise(&mut self) -> WorkerReport {
        loop {
            match self.next().await {
                WorkerReport::LastWords { .. } | WorkerReport::Hint { .. } | WorkerReport::Notes { .. } => {}
                report => return report,
            }
        }
    }
}

/// A host on a directory that may have been another's before.
pub(super) fn host_at(dir: &Path, options: HostOptions) -> (Arc<ProcessHost>, Vec<String>) {
    ProcessHost::open(dir, options).unwrap()
}

type Reports = mpsc::UnboundedReceiver<(Incarnation, WorkerReport)>;

pub(super) fn runner(host: &Arc<ProcessHost>, settings: &Arc<WorkerSettings>) -> (Box<dyn Runner>, Reports) {
    let (sender, reports) = mpsc::unbounded_channel();
    let id = crate::id::InstanceId::single(settings.name.clone());
    let reporter = Arc::new(move |n, report| drop(sender.send((n, report))));
    (host.runner(id, settings.clone(), Arc::default(), reporter), reports)
}

pub(super) async fn next(reports: &mut Reports) -> WorkerReport {
    tokio::time::timeout(PATIENCE, reports.recv())
        .await
        .expect("no report came")
        .expect("the runner is gone")
        .1
}

pub(super) fn sh(script: &str) -> WorkerSettings {
    command(&["sh", "-c", script])
}

pub(super) fn command(argv: &[&str]) -> WorkerSettings {
    WorkerSettings {
        on: crate::config::OnSettings::default(),
        steps: None,
        strategies: Arc::default(),
        instances: 1,
        declared: 1,
        pool: None,
        spare: 0,
        numbered: false,
        actor: None,
        config: crate::config::OwnConfig::default(),
        snapshot: crate::config::SnapshotSettings { every: Duration::from_secs(10), on_stop: true },
        blocking: false,
        name: Name::try_new("w").unwrap(),
        command: argv.iter().map(|part| (*part).to_owned()).collect(),
        restart: Restart::Permanent,
        significant: false,
        critical: false,
        enabled: true,
        after: Vec::new(),
        ready: ReadyWhen::Started,
        start_timeout: Duration::from_secs(30),
        min_uptime: Duration::ZERO,
        stop: StopSettings {
            signal: libc::SIGTERM,
            to: StopTo::Main,
            timeout: Duration::from_secs(10),
            drain: Duration::ZERO,
            unresponsive_timeout: Duration::from_secs(3),
        },
        backoff: Backoff {
            first: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(60),
            jitter: 0.2,
            reset_after: Duration::from_secs(600),
        },
        recycle: None,
        port: None,
        reload: None,
        cwd: PathBuf::new(),
        env: BTreeMap::new(),
        inherit_env: Vec::new(),
        isolation: isolation(),
        daemon: DaemonSettings::default(),
        exit_codes: ExitCodes { normal: Arc::new([0]), fatal: Arc::new([]) },
        log: LogSettings {
            to: LogTo::File,
            max_size: 20 << 20,
            keep: 5,
            max_line: 64 << 10,
            on_full: LogOnFull::Drop,
            stderr: StderrTo::Merge,
        },
        verify: Duration::from_secs(10),
        ladder: crate::config::Ladder::Default,
        probes: Vec::new(),
        heartbeat: None,
        threshold: crate::config::ThresholdSettings {
            cpu: crate::config::MarkSettings {
                warn: 0.9,
                crit: None,
                warn_bytes: None,
                lasting: Duration::from_secs(60),
            },
            memory: crate::config::MarkSettings {
                warn: 0.85,
                crit: Some(0.95),
                warn_bytes: None,
                lasting: Duration::from_secs(30),
            },
            progress: None,
            errors_per_minute: None,
        },
    }
}

/// The defaults.
pub(in crate::worker::process) fn isolation() -> Isolation {
    Isolation {
        user: None,
        group: None,
        umask: Some(0o077),
        nice: None,
        oom_score_adj: None,
        no_new_privs: true,
        limits: Limits::default(),
        secrets: BTreeMap::new(),
    }
}

/// Waits until `what` answers something.
pub(super) async fn until<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(Instant::now() < end, "it never came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a file holds a whole line, and answers its lines.
pub(super) async fn lines(path: &Path, at_least: usize) -> Vec<String> {
    until(|| {
        let text = std::fs::read(path).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = text.matches('\n').count();
        (whole >= at_least).then(|| text.lines().map(str::to_owned).collect())
    })
    .await
}

/// Whether a process lives (a zombie does not).
pub(super) fn lives(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X'])
}

pub(super) async fn gone(pid: u32) {
    until(|| (!lives(pid)).then_some(())).await;
}

pub(super) fn signal(pid: u32, signal: i32) {
    crate::worker::unix::send_signal(&crate::worker::unix::pidfd_open(pid).unwrap(), signal).unwrap();
}

/// The same where no descriptor is left. The pid cannot be used again, since its runner keeps it.
pub(super) fn signal_by(pid: u32, signal: i32) {
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.cast_signed()).unwrap(),
        rustix::process::Signal::from_named_raw(signal).unwrap(),
    )
    .unwrap();
}
