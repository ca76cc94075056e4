//! Survivors: what a runtime that was killed left alive, found and ended by the next one.
//!
//! Three witnesses are asked, and each alone is enough: the spawn record (a process with the recorded pidfs inode,
//! or before Linux 6.9 one whose environment names the instance), the instance's cgroup, and its fence. Where there
//! was no cgroup, a fourth: the environment of every process, because a descendant that has closed its output holds
//! no fence, and is not ours to inherit any more. A pid alone is never believed.
//!
//! Somebody may have removed the state directory with the record and the fences. Then the cgroups, whose name follows from
//! its path, and the environments tell who is left, and the first process that was started is asked to end.
//!
//! Taking survivors over while they run is deliberately absent here, but for a daemon that its configuration wants taken
//! over: who that is, is found here, and its next start does it.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::{StopSettings, StopTo, WorkerSettings};
use crate::id::{Incarnation, InstanceId, Name};
use crate::worker::unix::{pidfd_open, pidfs_inode, poll_ended, send_signal, send_signal_to_group};

use super::cgroup::{Cgroup, CgroupRoot};
use super::daemon;
use super::host::ProcessHost;
use super::layout::take_fence;
use super::record::{Entry, Left, Record};
use super::site::Site;
use super::tree::{self, Reach, Target};

/// A tree that is still there this long after it was killed is stuck; its fence goes on forbidding a start.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(50);
/// Between kills of a tree that is stuck: each looks through all of `/proc`, and may go on for days.
const STUCK_LOOK: Duration = Duration::from_secs(1);

/// Something of an instance that lives.
#[derive(Clone)]
pub(crate) struct Survivor {
    /// Whose it is.
    pub(crate) instance: InstanceId,
    /// Which start, if the record says so.
    pub(crate) incarnation: Option<Incarnation>,
    /// Its main process, if that is what lives.
    pub(crate) pid: Option<u32>,
    /// Its line in the record: with it the next runtime knows whose it is, also once only others of its tree live.
    entry: Option<Entry>,
    main: Option<Arc<OwnedFd>>,
    /// Who else was found by its environment.
    marked: Vec<Arc<OwnedFd>>,
    /// Whether such are to be looked for: there is no cgroup.
    by_mark: bool,
    fence: PathBuf,
    cgroup: Option<Arc<Cgroup>>,
    target: Target,
}

/// How a survivor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleared {
    /// It was gone before anything was asked of it.
    Gone,
    /// It ended when asked.
    Stopped,
    /// Its main process has ended, now or before; what that left behind was killed, as after every end.
    Swept,
    /// It was asked, and had to be killed.
    Killed,
    /// It was asked, and killed before `stop.timeout` was over, because there was no more time.
    Hurried,
    /// It lives: nothing is started in its place.
    Stuck,
}

impl Survivor {
    /// Its line in the record, as long as anything of it lives.
    pub(super) fn entry(&self) -> Option<Entry> {
        self.entry.clone()
    }

    /// The one of these that it is: without a record only its directory's name is known, and `a-0` is `a/0` where the
    /// worker has several.
    pub(crate) fn called(mut self, known: impl IntoIterator<Item = InstanceId>) -> Self {
        if self.entry.is_none() {
            let slug = self.instance.slug();
            let mut same = known.into_iter().filter(|one| one.slug() == slug);
            self.instance = same.next().unwrap_or(self.instance);
        }
        self
    }

    /// Its main process, as long as that lives.
    pub(crate) fn main_pid(&self) -> Option<u32> {
        self.pid.filter(|_| self.main.as_ref().is_some_and(|main| !poll_ended(main)))
    }

    fn lives(&self) -> bool {
        let main = self.main.as_ref().is_some_and(|main| !poll_ended(main));
        let cgroup = || self.cgroup.as_ref().is_some_and(|cgroup| cgroup.populated().unwrap_or(false));
        main || self.marked.iter().any(|one| !poll_ended(one)) || cgroup() || fence_is_held(&self.fence)
    }

    /// Asks its main process, as the configuration says.
    fn ask(&self, stop: &StopSettings) {
        let Some(main) = &self.main else { return };
        for signal in [stop.signal, libc::SIGCONT] {
            let sent = match stop.to {
                StopTo::Main => send_signal(main, signal),
                StopTo::Group => send_signal_to_group(main, signal).or_else(|_| send_signal(main, signal)),
            };
            if let Err(error) = sent
                && error.raw_os_error() != Some(libc::ESRCH)
            {
                tracing::warn!(instance = %self.instance, signal, %error, "cannot signal a survivor");
            }
        }
    }

    /// Waits until nothing of it lives.
    async fn gone_within(&self, patience: Duration) -> bool {
        ends_within(patience, || !self.lives()).await
    }

    /// Waits until its main process has ended.
    async fn main_gone_within(&self, patience: Duration) -> bool {
        ends_within(patience, || self.main_pid().is_none()).await
    }

    /// Who has gone into the background is its main process, if its pid file names one of its tree.
    fn follow(&mut self, path: &Path) {
        let Some(pid) = daemon::read_pid(path).filter(|pid| self.main_pid() != Some(*pid)) else { return };
        let Ok(pidfd) = pidfd_open(pid) else { return };
        let its = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.holds(pid)) || self.target.owns(pid);
        // Opened first, looked at then: alive still, so what was read was its own.
        if its && !poll_ended(&pidfd) {
            (self.pid, self.main) = (Some(pid), Some(Arc::new(pidfd)));
        }
    }
}

/// Looks again and again until it is over, or for this long.
async fn ends_within(patience: Duration, is_over: impl Fn() -> bool) -> bool {
    let end = Instant::now() + patience;
    let mut pause = FIRST_LOOK;
    while !is_over() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
    true
}

impl ProcessHost {
    /// Finds the main process of a survivor that has gone into the background. True: that one is to be taken over
    /// while it runs, and its next start does so.
    pub(crate) fn follow_daemon(
        self: &Arc<Self>,
        one: &mut Survivor,
        settings: &Arc<WorkerSettings>,
    ) -> bool {
        let site = Site::new(Arc::clone(self), one.instance.clone(), Arc::clone(settings), Arc::default());
        let n = one.incarnation.unwrap_or(Incarnation::NONE.next());
        let Some(path) = site.pid_file(n) else { return false };
        one.follow(&path);
        settings.daemon.adopt_running
            && site.running_daemon(n).is_some_and(|(pid, _)| one.main_pid() == Some(pid))
    }

    /// Ends a survivor as a stop would: asks its main process, waits `stop.timeout` for that one, and kills what is
    /// left of its tree. Where only others of its tree live there is nobody to ask. Once `hurry` returns it is killed
    /// without more waiting.
    pub(crate) async fn clear(
        &self,
        survivor: &Survivor,
        stop: &StopSettings,
        hurry: impl Future<Output = ()>,
    ) -> Cleared {
        let cleared = self.end(survivor.clone(), stop, hurry).await;
        match cleared {
            Cleared::Gone | Cleared::Stopped | Cleared::Swept | Cleared::Killed | Cleared::Hurried => {
                self.record.ended(&survivor.instance)
            }
            Cleared::Stuck => {}
        }
        cleared
    }

    /// Waits for the end of a survivor that is stuck, however long that takes. It was killed and dies once what it
    /// waits for in the kernel is over; who is forked meanwhile is killed too.
    pub(crate) async fn outlast(&self, survivor: &Survivor) {
        let mut survivor = survivor.clone();
        while survivor.lives() || self.finds_more_of(&mut survivor).await {
            self.kill_survivor(&survivor).await;
            tokio::time::sleep(STUCK_LOOK).await;
        }
        self.record.ended(&survivor.instance);
    }

    async fn end(
        &self,
        mut survivor: Survivor,
        stop: &StopSettings,
        hurry: impl Future<Output = ()>,
    ) -> Cleared {
        if !survivor.lives() {
            return Cleared::Gone;
        }
        let mut ended = Cleared::Swept;
        if survivor.main_pid().is_some() {
            survivor.ask(stop);
            let lives = tokio::select! {
                gone = survivor.main_gone_within(stop.timeout) => (!gone).then_some(Cleared::Killed),
                () = hurry => Some(Cleared::Hurried),
            };
            if let Some(killed) = lives {
                ended = killed;
            } else if survivor.gone_within(LAST_LOOK).await && !self.finds_more_of(&mut survivor).await {
                return Cleared::Stopped;
            }
        }
        let end = Instant::now() + KILL_PATIENCE;
        let mut pause = FIRST_LOOK;
        while Instant::now() < end {
            self.kill_survivor(&survivor).await;
            if survivor.gone_within(pause).await && !self.finds_more_of(&mut survivor).await {
                return ended;
            }
            pause = (pause * 2).min(LAST_LOOK);
        }
        Cleared::Stuck
    }

    /// Looks once more when all that were known are gone: meanwhile they may have forked.
    async fn finds_more_of(&self, survivor: &mut Survivor) -> bool {
        if !survivor.by_mark {
            return false;
        }
        let marked = self.marked().await;
        survivor.marked = open_marked(&survivor.target, marked.get(&survivor.instance.slug()));
        survivor.lives()
    }

    /// Who carries a mark, looked up after this was asked. Many ask at once and share the answer.
    async fn marked(&self) -> Arc<Marked> {
        let asked = Instant::now();
        let mut newest = self.marked.lock().await;
        if let Some((began, marked)) = newest.as_ref()
            && *began >= asked
        {
            return marked.clone();
        }
        let (answer, done) = oneshot::channel();
        let (began, homes) = (Instant::now(), self.homes.clone());
        // Whoever asked may be gone with the runtime.
        self.pool.run(move |_| answer.send(tree::marked_below(&homes)).map_or_else(drop, drop));
        let marked = Arc::new(done.await.unwrap_or_default());
        *newest = Some((began, marked.clone()));
        marked
    }

    async fn kill_survivor(&self, survivor: &Survivor) {
        let (answer, done) = oneshot::channel();
        let (target, cgroup, main) =
            (survivor.target.clone(), survivor.cgroup.clone(), survivor.main.clone());
        self.pool.run(move |_| {
            tree::kill(&target, cgroup.as_deref(), Reach::Everywhere);
            if let Some(main) = main {
                // Mostly dead by now, which is what was wanted.
                drop(send_signal(&main, libc::SIGKILL));
            }
            // Whoever asked may be gone with the runtime.
            answer.send(()).unwrap_or_default();
        });
        // An error means that the thread is gone; the caller looks for itself what lives.
        drop(done.await);
    }
}

/// Processes by the slug of the worker whose mark they carry.
pub(super) type Marked = HashMap<String, Vec<u32>>;

fn open_marked(target: &Target, pids: Option<&Vec<u32>>) -> Vec<Arc<OwnedFd>> {
    let open = |pid: &u32| {
        let pidfd = pidfd_open(*pid).ok()?;
        // Opened first, looked at then: the descriptor cannot change whom it means.
        (target.is_marked(*pid) && !poll_ended(&pidfd)).then(|| Arc::new(pidfd))
    };
    pids.into_iter().flatten().filter_map(open).collect()
}

/// Who carries a mark, if only the environments tell: without folders, without a record and without cgroups of our own.
pub(super) fn search(homes: &[PathBuf], left: &Left, cgroups: Option<&CgroupRoot>) -> Option<Marked> {
    let has_own = cgroups.is_some_and(CgroupRoot::is_ours);
    let by_mark = left.cgroups.is_none() && (homes.iter().any(|home| !slugs(home).is_empty()) || !has_own);
    by_mark.then(|| tree::marked_below(homes))
}

/// Everything that an earlier runtime left alive. `homes`: where workers have their directories.
pub(super) fn find(
    homes: &[PathBuf],
    left: Left,
    marked: Option<Marked>,
    cgroups: Option<&CgroupRoot>,
) -> Vec<Survivor> {
    let mut slugs: Vec<_> = homes.iter().flat_map(|home| slugs(home)).collect();
    let marked_here =
        marked.iter().flatten().filter(|(_, pids)| pids.iter().any(|pid| tree::sees_our_files(*pid)));
    slugs.extend(marked_here.map(|(slug, _)| slug.clone()));
    // Who lives in what another runtime has is that one's.
    let own = cgroups.filter(|root| root.is_ours());
    slugs.extend(own.iter().flat_map(|root| root.inhabited()));
    slugs.sort_unstable();
    slugs.dedup();
    let mut roots: Vec<&Path> = left.cgroups.as_deref().into_iter().chain(own.map(CgroupRoot::dir)).collect();
    roots.dedup();
    let places = Places { homes, marked, cgroups: roots };
    let mut found: Vec<Survivor> = Vec::new();
    for entry in left.entries {
        found.extend(look(&places, entry.instance.clone(), Some(entry)));
    }
    for slug in slugs {
        if !found.iter().any(|survivor| survivor.instance.slug() == slug)
            && let Ok(name) = Name::try_new(&slug)
        {
            found.extend(look(&places, InstanceId::single(name), None));
        }
    }
    // Of two records the one that is right comes first; what else lives of the instance holds its fence.
    found.sort_by(|a, b| a.instance.cmp(&b.instance).then(a.main.is_none().cmp(&b.main.is_none())));
    found.dedup_by(|later, first| later.instance == first.instance && later.main.is_none());
    found
}

/// Whether somebody lives in a shelter: a runtime that answers there, or workers.
pub(super) fn is_lived_in(shelter: &Path) -> bool {
    let answers = std::os::unix::net::UnixStream::connect(shelter.join("regrow.sock")).is_ok();
    let homes = [shelter.join("w")];
    let workers = |left: Left| {
        let marked = search(&homes, &left, None);
        !find(&homes, left, marked, None).is_empty()
    };
    // What cannot be read is left to whoever can.
    answers || Record::read(&shelter.join("spawned")).map_or(true, workers)
}

/// Where survivors are looked for.
struct Places<'a> {
    homes: &'a [PathBuf],
    /// The earlier runtime's first.
    cgroups: Vec<&'a Path>,
    marked: Option<Marked>,
}

/// It is looked for in every home, and found where its fence is held; who holds none is where the first look is.
fn look(places: &Places<'_>, instance: InstanceId, entry: Option<Entry>) -> Option<Survivor> {
    let found = places.homes.iter().filter_map(|home| look_in(home, places, instance.clone(), entry.clone()));
    let mut found: Vec<_> = found.collect();
    let fenced = found.iter().position(|survivor| fence_is_held(&survivor.fence)).unwrap_or(0);
    (!found.is_empty()).then(|| found.swap_remove(fenced))
}

fn look_in(home: &Path, places: &Places<'_>, instance: InstanceId, entry: Option<Entry>) -> Option<Survivor> {
    let dir = home.join(instance.slug());
    let fence = dir.join("out");
    // Without a record the name is a guess, made from the directory's.
    let target = match &entry {
        Some(_) => Target::new(&instance, &dir.join("state"), &fence),
        None => Target::of_dir(&dir.join("state"), &fence),
    };
    let cgroup = places.cgroup_of(&instance).map(Arc::new);
    let marked = places.marked.as_ref().and_then(|marked| marked.get(&instance.slug()));
    let (pid, main) = match &entry {
        Some(entry) => identify(entry, &target).map(|main| (entry.pid, main)),
        None => {
            let members = cgroup.as_ref().map(|cgroup| cgroup.members()).unwrap_or_default();
            first_of(members.iter().chain(marked.into_iter().flatten()), &target)
        }
    }
    .unzip();
    let survivor = Survivor {
        incarnation: entry.as_ref().map(|entry| entry.incarnation),
        entry,
        main: main.map(Arc::new),
        marked: open_marked(&target, marked),
        target,
        by_mark: places.marked.is_some(),
        instance,
        pid,
        fence,
        cgroup,
    };
    survivor.lives().then_some(survivor)
}

impl Places<'_> {
    /// The cgroup of an instance; of two, the one in which somebody lives.
    fn cgroup_of(&self, instance: &InstanceId) -> Option<Cgroup> {
        let open = |root: &&Path| Cgroup::open(root.join(instance.slug())).ok();
        let mut found: Vec<Cgroup> = self.cgroups.iter().filter_map(open).collect();
        let lived_in = found.iter().position(|cgroup| cgroup.populated().unwrap_or(false));
        (!found.is_empty()).then(|| found.swap_remove(lived_in.unwrap_or(0)))
    }
}

/// The main process of one that no record names: it leads a session, was started for the instance, and came before others.
fn first_of<'a>(pids: impl Iterator<Item = &'a u32>, target: &Target) -> Option<(u32, OwnedFd)> {
    let leads = |one: &tree::Stat| !one.dead && one.session == one.pid && target.is_marked(one.pid);
    let first =
        pids.filter_map(|pid| tree::stat(*pid)).filter(leads).min_by_key(|one| (one.started, one.pid))?;
    let main = pidfd_open(first.pid).ok()?;
    // Opened first, looked at then.
    (target.is_marked(first.pid) && !poll_ended(&main)).then_some((first.pid, main))
}

/// The recorded process, if it is still that one and lives.
fn identify(entry: &Entry, target: &Target) -> Option<OwnedFd> {
    let pidfd = pidfd_open(entry.pid).ok()?;
    let is_it = match (entry.inode, pidfs_inode(&pidfd)) {
        (recorded, Some(inode)) if recorded != 0 => recorded == inode,
        _ => target.is_marked(entry.pid),
    };
    (is_it && !poll_ended(&pidfd)).then_some(pidfd)
}

fn slugs(workers_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(workers_dir).map(Iterator::flatten);
    entries.into_iter().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A fence that is not there or cannot be opened holds nobody.
fn fence_is_held(path: &Path) -> bool {
    let taken: io::Result<_> = take_fence(path);
    matches!(taken, Ok(None))
}
