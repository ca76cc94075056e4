//! One start, from nothing to a program that runs. On a spawning thread, because it may block.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::config::LogTo;
use crate::exit::StartFailure;
use crate::id::Incarnation;
use crate::worker::talk::Token;
use crate::worker::unix::{Fds, Image, Launch, Placement, Refusal, Spawned, WorkerRights, dup_onto, spawn};
use crate::worker::{Reporter, stay};

use super::cgroup::Cgroup;
use super::children::{self, Registered};
use super::company::Company;
use super::daemon;
use super::failure::{explain, of_io};
use super::identity::{self, Identity};
use super::layout::{open_fifo, take_fence};
use super::pool::Tools;
use super::recipe::Recipe;
use super::record::{Entry, Hold, Record};
use super::reserve::is_exhaustion;
use super::secret;
use super::site::{Ground, Site};

/// A fence can be held for some microseconds (or, on a loaded machine, milliseconds) by a stranger: a child of
/// another instance that has not yet closed what it inherited. 100 ms we wait for that, on a spawning thread and
/// only where the fence is not in our hands already; who holds it longer is one of the instance's own.
const FENCE_TRIES: u32 = 20;
const FENCE_PAUSE: Duration = Duration::from_millis(5);

/// Called once a line of output says that the worker is ready.
pub(super) type OnLine = Box<dyn FnOnce() + Send>;

/// A main process.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) registered: Registered,
    /// What the worker's own counter of out-of-memory kills said before.
    pub(super) oom_kills: Option<u64>,
    /// What the counter of refused processes said before.
    pub(super) forks: Option<u64>,
    /// It ran already.
    pub(super) adopted: bool,
    /// Those around it, then.
    pub(super) company: Option<Company>,
}

/// Starts an incarnation. The ground comes back, made if it was not, whatever became of the start.
pub(super) fn start(
    site: &Site,
    (ground, report): (Option<Ground>, &Reporter),
    incarnation: Incarnation,
    on_line: Option<OnLine>,
    tools: &mut Tools,
) -> (Option<Ground>, Result<Started, StartFailure>) {
    let (ground, started) = begin(site, (ground, report), incarnation, on_line, tools);
    // Otherwise the child has done so itself.
    if started.as_ref().map_or(true, |started| started.adopted) {
        site.host.count_start(&site.instance, incarnation);
    }
    (ground, started)
}

fn begin(
    site: &Site,
    (ground, report): (Option<Ground>, &Reporter),
    incarnation: Incarnation,
    on_line: Option<OnLine>,
    tools: &mut Tools,
) -> (Option<Ground>, Result<Started, StartFailure>) {
    let identity = match identity::resolve(&site.settings.isolation) {
        Ok(identity) => identity,
        Err(failure) => return (ground, Err(failure)),
    };
    stay(&site.layout.state);
    // What somebody removed meanwhile is made anew.
    let whole = ground.filter(|ground| ground.is_whole(site));
    let mut ground = match whole.map_or_else(|| make_ground(site, &identity, report), Ok) {
        Ok(ground) => ground,
        Err(failure) => return (None, Err(failure)),
    };
    if let (Some(found), crate::config::ReadyWhen::Log(pattern)) = (on_line, &site.settings.ready) {
        ground.out.watch_for(pattern.clone(), found);
    }
    let renewed = site.renew_cgroup(&mut ground).map_err(|error| of_io("cannot set its limits", &error));
    let started = renewed.and_then(|()| start_on(site, &mut ground, &identity, incarnation, tools));
    site.host.reserve.refill();
    (Some(ground), started)
}

fn make_ground(site: &Site, identity: &Identity, report: &Reporter) -> Result<Ground, StartFailure> {
    let made = site.host.reserve.with(is_exhaustion, || site.make(identity.owner, report));
    let what = "cannot prepare the worker's directory";
    made.map_err(|error| {
        if site.host.is_homeless() {
            StartFailure::Resources { detail: format!("{what}: {error}") }
        } else {
            of_io(what, &error)
        }
    })
}

/// Only a first start can meet somebody here: later ones follow an end that saw the cgroup empty. Who was killed a
/// moment ago, because nobody supervised it any more, is just going.
fn nobody_lives(ground: &Ground) -> Result<(), StartFailure> {
    let populated = || {
        let lived_in = |cgroup: &Arc<Cgroup>| !cgroup.is_fresh() && cgroup.populated().unwrap_or(false);
        ground.cgroup.as_ref().is_some_and(lived_in)
    };
    for _ in (0..FENCE_TRIES).take_while(|_| populated()) {
        std::thread::sleep(FENCE_PAUSE);
    }
    if populated() {
        let pids = ground.cgroup.as_ref().map(|cgroup| cgroup.members()).unwrap_or_default();
        return Err(StartFailure::StillAlive { detail: format!("pids {pids:?} in its cgroup") });
    }
    Ok(())
}

fn start_on(
    site: &Site,
    ground: &mut Ground,
    identity: &Identity,
    incarnation: Incarnation,
    tools: &mut Tools,
) -> Result<Started, StartFailure> {
    let recipe = site.recipe.as_ref().map_err(|error| StartFailure::System { detail: error.to_string() })?;
    let mut image =
        recipe.image(incarnation).map_err(|error| StartFailure::System { detail: error.to_string() })?;
    site.host.withhold(&mut image, &site.settings);
    if let Some((home, name)) = &identity.home {
        Recipe::belong(&mut image, &site.settings, home, name);
    }
    if let Some(running) = take_over(site, &image, identity, incarnation) {
        return Ok(running);
    }
    nobody_lives(ground)?;
    let secrets = site.host.secrets_of(&site.settings)?;
    let token = Token::fresh().map_err(|error| of_io("cannot make its token", &error))?;
    image.env.extend(CString::new(format!("REGROW_TOKEN={}", token.secret())));
    let out = take_or_open(site, ground)?;
    let err =
        site.layout.err.as_deref().map(|path| site.host.reserve.with(is_exhaustion, || open_fifo(path)));
    let err = err.transpose().map_err(|error| of_io("cannot open stderr's FIFO", &error))?;
    let (oom_kills, forks) = (ground.oom_kills(), ground.bounds.refused_forks());
    let rights = rights(site, ground, identity);
    let program = Program { image: &image, secrets: &secrets, rights: &rights };
    let launched = launch(site, ground, incarnation, &program, (out, err), tools);
    drop(secrets);
    let (host, worker) = (Arc::clone(&site.host), site.settings.name.clone());
    // Before anything of it is heard: whoever holds an older token speaks for nobody any more.
    ground.talk.admit(incarnation, token, Box::new(move |text| host.hush(&worker, text)));
    let (spawned, record) =
        launched.map_err(|refusal| explain(&refusal, &image, &site.settings.isolation))?;
    let registered = children::register(spawned.pid);
    tools.page.disarm();
    let (instance, inode) = (site.instance.clone(), spawned.inode);
    site.host.record.started(record, Entry { instance, incarnation, pid: spawned.pid, inode });
    tell_shortcomings(site, &spawned);
    let (pid, pidfd) = (spawned.pid, Arc::new(spawned.pidfd));
    Ok(Started { pid, pidfd, registered, oom_kills, forks, adopted: false, company: None })
}

/// The daemon that runs already, if it is to be taken over. It stays where it is: in the cgroup, and with the output, of
/// whoever started it.
fn take_over(site: &Site, image: &Image, identity: &Identity, n: Incarnation) -> Option<Started> {
    let path = site.pid_file(n).filter(|_| site.settings.daemon.adopt_running)?;
    let (pid, pidfd) = daemon::running(&path, image, identity.owner.uid)?;
    // Another worker's process is none that runs by itself, whatever a file says.
    let registered = children::claim(pid)?;
    // It may have been given them by whoever started it. What cannot be read now, nobody can print from here.
    if let Err(failure) = site.host.secrets_of(&site.settings) {
        tracing::warn!(instance = %site.instance, %failure, "its secrets cannot be hidden in what it says");
    }
    let company = Company::of(pid);
    let pidfd = Arc::new(pidfd);
    Some(Started { pid, pidfd, registered, oom_kills: None, forks: None, adopted: true, company })
}

fn rights(site: &Site, ground: &Ground, identity: &Identity) -> WorkerRights {
    let isolation = &site.settings.isolation;
    WorkerRights {
        person: identity.person.clone(),
        umask: isolation.umask,
        nice: isolation.nice,
        oom_score_adj: isolation.oom_score_adj.map(|score| score.to_string()),
        no_new_privs: isolation.no_new_privs,
        cores: ground.bounds.cores,
    }
}

/// What is to run, with all that only a child may see.
struct Program<'a> {
    image: &'a Image,
    secrets: &'a [secret::Secret],
    rights: &'a WorkerRights,
}

/// The open file that is stdout and fence: kept since the last end, or taken now.
fn take_or_open(site: &Site, ground: &mut Ground) -> Result<File, StartFailure> {
    if let Some(fence) = ground.fence.take() {
        return Ok(fence);
    }
    for tried in 0.. {
        let taken = site.host.reserve.with(is_exhaustion, || take_fence(&site.layout.out));
        match taken.map_err(|error| of_io("cannot open stdout's FIFO", &error))? {
            Some(fence) => return Ok(fence),
            None if tried < FENCE_TRIES => std::thread::sleep(FENCE_PAUSE),
            None => break,
        }
    }
    let detail = "a process of an earlier incarnation still holds its output open (the fence)".to_owned();
    Err(StartFailure::StillAlive { detail })
}

/// Puts the files where the child finds them, clones, and takes them away again: while we held the fence open,
/// nobody else could. With the child comes the record in which its line stands, held in place.
fn launch<'a>(
    site: &'a Site,
    ground: &Ground,
    incarnation: Incarnation,
    program: &Program<'_>,
    (out, err): (File, Option<File>),
    tools: &mut Tools,
) -> Result<(Spawned, Hold<'a>), Refusal> {
    let host = &site.host;
    let stdio = |error: io::Error| Refusal {
        step: crate::worker::unix::Step::Stdio,
        errno: error.raw_os_error().unwrap_or(libc::EIO),
        candidate: 0,
    };
    dup_onto(&out.into(), &tools.stdout).map_err(stdio)?;
    if let Some(err) = err {
        dup_onto(&err.into(), &tools.stderr).map_err(stdio)?;
    }
    let separate = site.layout.err.is_some();
    let record = host.record.hold();
    let head = Record::line_head(&site.instance, incarnation);
    let secrets: Vec<_> = program.secrets.iter().map(secret::Secret::variable).collect();
    let bounds = ground.bounds.enters();
    let limit = site.settings.isolation.limits.open_files;
    let launch = Launch {
        image: program.image,
        secrets: &secrets,
        bounds: &bounds,
        rights: program.rights,
        fds: Fds {
            stdin: stdin(site).as_raw_fd(),
            stdout: tools.stdout.as_raw_fd(),
            stderr: if separate { tools.stderr.as_raw_fd() } else { tools.stdout.as_raw_fd() },
            record: Some(record.as_raw_fd()),
        },
        placement: ground.cgroup.as_ref().map_or(Placement::Nowhere, |cgroup| cgroup.placement()),
        record_head: head.as_bytes(),
        pidfs: host.pidfs,
        ignored: host.ignored,
        // A child that goes into its cgroup by itself needs that file too, whose number may be any.
        watchdog: site.settings.heartbeat.is_some(),
        unshare_from: tools.unshare_from.filter(|_| {
            bounds.is_empty()
                && !matches!(
                    ground.cgroup.as_ref().map(|cgroup| cgroup.placement()),
                    Some(Placement::Enters(_))
                )
        }),
        nofile: limit.map(|files| (files, files)).or(host.nofile),
    };
    let exhausted = |refusal: &Refusal| matches!(refusal.errno, libc::EMFILE | libc::ENFILE);
    let spawned = host.reserve.with(exhausted, || spawn(&mut tools.stack, &tools.page, &launch));
    if spawned.is_err() {
        tools.page.disarm();
    }
    for place in [&tools.stdout, &tools.stderr] {
        dup_onto(&host.null, place).map_err(stdio)?;
    }
    spawned.map(|spawned| (spawned, record))
}

/// Nothing, but for a worker that stands in our place: then what we would read.
fn stdin(site: &Site) -> &OwnedFd {
    let own = site.host.stdin.as_ref().filter(|_| site.settings.log.to == LogTo::Through);
    own.unwrap_or(&site.host.null)
}

/// Supervision goes on without a record on a full disk, and without a cgroup that refused; both are worth a line.
fn tell_shortcomings(site: &Site, spawned: &Spawned) {
    let text = |errno: i32| io::Error::from_raw_os_error(errno).to_string();
    if let Some(errno) = spawned.unrecorded {
        let error = text(errno);
        tracing::warn!(instance = %site.instance, error, "its start could not be recorded: after a crash of the runtime it is found by its fence only");
    }
    if let Some(errno) = spawned.outside {
        tracing::warn!(instance = %site.instance, error = text(errno), "it could not enter its cgroup");
    }
}
