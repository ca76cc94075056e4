//! What one instance has for all its incarnations.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Limits, StderrTo, WorkerSettings};
use crate::id::{Incarnation, InstanceId};
use crate::worker::notify::NotifySocket;
use crate::worker::output::{OutputStream, StreamName, StreamSpec};
use crate::worker::talk::Talk;
use crate::worker::{OutputCounters, Reporter};

use super::bounds::Bounds;
use super::cgroup::Cgroup;
use super::daemon;
use super::host::ProcessHost;
use super::identity::{self, Owner};
use super::layout::{Layout, give};
use super::recipe::{NulByte, Recipe};
use super::tree::Target;

/// What is known of an instance before anything of it exists.
pub(super) struct Site {
    pub(super) host: Arc<ProcessHost>,
    pub(super) instance: InstanceId,
    pub(super) settings: Arc<WorkerSettings>,
    pub(super) layout: Layout,
    pub(super) recipe: Result<Recipe, NulByte>,
    pub(super) target: Target,
    counters: Arc<OutputCounters>,
    runtime: tokio::runtime::Handle,
}

/// What exists of it, made at its first start.
pub(super) struct Ground {
    pub(super) cgroup: Option<Arc<Cgroup>>,
    /// Dropped after the cgroup: nobody is in it then.
    pub(super) bounds: Bounds,
    pub(super) out: OutputStream,
    pub(super) err: Option<OutputStream>,
    pub(super) notify: NotifySocket,
    pub(super) talk: Talk,
    /// Ours while nothing of the instance lives; the next incarnation's stdout.
    pub(super) fence: Option<File>,
}

impl Ground {
    /// How many of its processes the kernel has killed for memory; `None` if that is not counted for it alone.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        self.bounds.oom_kills().or_else(|| self.cgroup.as_ref()?.oom_kills())
    }

    /// Whether nobody has taken any of it away behind our back.
    pub(super) fn is_whole(&self, site: &Site) -> bool {
        let there = |path: &std::path::Path| path.symlink_metadata().is_ok();
        let layout = &site.layout;
        let cgroup = self.cgroup.as_ref().is_none_or(|cgroup| there(cgroup.path()));
        let sockets = there(&layout.notify) && there(&layout.talk);
        let err = layout.err.as_deref().is_none_or(there);
        cgroup && self.bounds.are_whole() && there(&layout.out) && err && there(&layout.state) && sockets
    }
}

impl ProcessHost {
    /// Where an instance's own files are.
    pub(super) fn layout(&self, instance: &InstanceId, settings: &WorkerSettings) -> Layout {
        let separate = settings.log.stderr == StderrTo::Separate;
        let others = self.is_shared() || settings.isolation.names_somebody();
        match &self.shelter {
            None => Layout::new(&self.workers_dir, &instance.slug(), separate, &self.key, others),
            Some(shelter) => Layout::sheltered(&self.workers_dir, &instance.slug(), separate, shelter),
        }
    }
}

impl Site {
    pub(super) fn new(
        host: Arc<ProcessHost>,
        instance: InstanceId,
        settings: Arc<WorkerSettings>,
        counters: Arc<OutputCounters>,
    ) -> Self {
        let layout = host.layout(&instance, &settings);
        let env = (&*host.env, &host.passed);
        let recipe = Recipe::new(&instance, &settings, env, &layout);
        let target = Target::new(&instance, &layout.state, &layout.out);
        let runtime = tokio::runtime::Handle::current();
        Self { host, instance, settings, layout, recipe, target, counters, runtime }
    }

    /// Makes what a start needs. On a spawning thread.
    pub(super) fn make(&self, owner: Owner, report: &Reporter) -> io::Result<Ground> {
        if owner.uid != Owner::ourselves().uid {
            self.host.share()?;
        }
        self.host.come_home()?;
        self.layout.make(owner, self.host.is_shared())?;
        let cgroup = self.make_cgroup();
        let bounds = self.make_bounds(cgroup.as_deref())?;
        let (notify, talk) = {
            let _entered = self.runtime.enter();
            let talk = Talk::bind(&self.layout.talk, self.layout.state.clone(), Arc::clone(report))?;
            (NotifySocket::bind(&self.layout.notify)?, talk)
        };
        if owner != Owner::ourselves() {
            for socket in [&self.layout.notify, &self.layout.talk] {
                give(socket, rustix::fs::FileType::Socket, owner)?;
            }
        }
        let out = self.open_stream(StreamName::Stdout, &self.layout.out)?;
        let err = match &self.layout.err {
            Some(fifo) => Some(self.open_stream(StreamName::Stderr, fifo)?),
            None => None,
        };
        Ok(Ground { cgroup, bounds, out, err, notify, talk, fence: None })
    }

    /// A cgroup that cannot be made is no reason not to run: the fence still stands.
    fn make_cgroup(&self) -> Option<Arc<Cgroup>> {
        let made = self.host.cgroups.as_ref()?.make(&self.instance.slug());
        let refused = |error| tracing::warn!(instance = %self.instance, %error, "it gets no cgroup");
        made.map(Arc::new).map_err(refused).ok()
    }

    fn make_bounds(&self, cgroup: Option<&Cgroup>) -> io::Result<Bounds> {
        let limits = &self.settings.isolation.limits;
        if *limits == Limits::default() {
            return Ok(Bounds::default());
        }
        Bounds::make(limits, self.host.controllers(), &self.instance.slug(), cgroup)
    }

    /// The pid file of an incarnation.
    pub(super) fn pid_file(&self, n: Incarnation) -> Option<PathBuf> {
        let path = self.settings.daemon.pid_file.as_ref()?;
        Some(self.recipe.as_ref().ok()?.path(path, n))
    }

    /// The process that its pid file names, if it is what this worker's command would become.
    pub(super) fn running_daemon(&self, n: Incarnation) -> Option<(u32, OwnedFd)> {
        let path = self.pid_file(n)?;
        let image = self.recipe.as_ref().ok()?.image(n).ok()?;
        let identity = identity::resolve(&self.settings.isolation).ok()?;
        daemon::running(&path, &image, identity.owner.uid)
    }

    /// A cgroup that was killed as a whole is replaced before the next start. One that cannot be is left out: the
    /// fence still stands, and its limits are counted by ourselves and shown so; one whose limits cannot be set fails
    /// the start.
    pub(super) fn renew_cgroup(&self, ground: &mut Ground) -> io::Result<()> {
        let (Some(root), Some(old)) = (&self.host.cgroups, &ground.cgroup) else { return Ok(()) };
        if !old.is_spent() {
            return Ok(());
        }
        let renewed = root.renew(old, &self.instance.slug());
        let refused = |error| tracing::warn!(instance = %self.instance, %error, "it gets no new cgroup");
        ground.cgroup = renewed.map(Arc::new).map_err(refused).ok();
        let limits = &self.settings.isolation.limits;
        match ground.cgroup.as_deref() {
            Some(cgroup) if *limits != Limits::default() => {
                Bounds::renew(limits, self.host.controllers(), cgroup)
            }
            Some(_) => Ok(()),
            None => {
                // The directories of the old ones go with them; the new ones may stand in their place.
                ground.bounds = Bounds::default();
                ground.bounds = self.make_bounds(None)?;
                Ok(())
            }
        }
    }

    /// Reads the output of something that runs already; what cannot be read is not.
    pub(super) fn tap(&self) -> Vec<OutputStream> {
        let out = (StreamName::Stdout, Some(&self.layout.out));
        let err = (StreamName::Stderr, self.layout.err.as_ref());
        let open = |(name, fifo): (StreamName, Option<&PathBuf>)| self.open_stream(name, fifo?).ok();
        [out, err].into_iter().filter_map(open).collect()
    }

    fn open_stream(&self, name: StreamName, fifo: &std::path::Path) -> io::Result<OutputStream> {
        self.host.output.open(StreamSpec {
            instance: self.instance.clone(),
            fifo: fifo.to_owned(),
            name,
            settings: self.settings.log.clone(),
            counters: self.counters.clone(),
        })
    }
}
