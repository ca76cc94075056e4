//! What one instance has for all its incarnations.

use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::config::{StderrTo, WorkerSettings};
use crate::id::InstanceId;
use crate::worker::OutputCounters;
use crate::worker::notify::NotifySocket;
use crate::worker::output::{OutputStream, StreamName, StreamSpec};

use super::cgroup::Cgroup;
use super::host::ProcessHost;
use super::layout::Layout;
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
    pub(super) out: OutputStream,
    pub(super) err: Option<OutputStream>,
    pub(super) notify: NotifySocket,
    /// Ours while nothing of the instance lives; the next incarnation's stdout.
    pub(super) fence: Option<File>,
}

impl Ground {
    /// Whether nobody has taken any of it away behind our back.
    pub(super) fn is_whole(&self, site: &Site) -> bool {
        let there = |path: &std::path::Path| path.symlink_metadata().is_ok();
        let layout = &site.layout;
        let cgroup = self.cgroup.as_ref().is_none_or(|cgroup| there(cgroup.path()));
        cgroup && there(&layout.out) && there(&layout.state) && there(&layout.notify)
    }
}

impl Site {
    pub(super) fn new(
        host: Arc<ProcessHost>,
        instance: InstanceId,
        settings: Arc<WorkerSettings>,
        counters: Arc<OutputCounters>,
    ) -> Self {
        let separate = settings.log.stderr == StderrTo::Separate;
        let layout = Layout::new(&host.workers_dir, &instance.slug(), separate, &host.key);
        let env = (&*host.env, &host.passed);
        let recipe = Recipe::new(&instance, &settings, env, &layout.state, &layout.notify);
        let target = Target::new(&instance, &layout.state, &layout.out);
        let runtime = tokio::runtime::Handle::current();
        Self { host, instance, settings, layout, recipe, target, counters, runtime }
    }

    /// Makes what a start needs. On a spawning thread.
    pub(super) fn make(&self) -> io::Result<Ground> {
        self.layout.make()?;
        let cgroup = self.make_cgroup();
        let notify = {
            let _entered = self.runtime.enter();
            NotifySocket::bind(&self.layout.notify)?
        };
        let out = self.open_stream(StreamName::Stdout, &self.layout.out)?;
        let err = match &self.layout.err {
            Some(fifo) => Some(self.open_stream(StreamName::Stderr, fifo)?),
            None => None,
        };
        Ok(Ground { cgroup, out, err, notify, fence: None })
    }

    /// A cgroup that cannot be made is no reason not to run: the fence still stands.
    fn make_cgroup(&self) -> Option<Arc<Cgroup>> {
        let made = self.host.cgroups.as_ref()?.make(&self.instance.slug());
        let refused = |error| tracing::warn!(instance = %self.instance, %error, "it gets no cgroup");
        made.map(Arc::new).map_err(refused).ok()
    }

    /// A cgroup that was killed as a whole is replaced before the next start. One that cannot be is left out: the
    /// fence still stands.
    pub(super) fn renew_cgroup(&self, ground: &mut Ground) {
        let (Some(root), Some(old)) = (&self.host.cgroups, &ground.cgroup) else { return };
        if old.is_spent() {
            let renewed = root.renew(old, &self.instance.slug());
            let refused = |error| tracing::warn!(instance = %self.instance, %error, "it gets no new cgroup");
            ground.cgroup = renewed.map(Arc::new).map_err(refused).ok();
        }
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
