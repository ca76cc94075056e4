//! Faults on purpose, for tests of actor workers: an incarnation panics, fails, blocks or starts slowly because
//! somebody planned it so, and no line of its code knows of it.
//!
//! A fault strikes around the future of an incarnation, inside of everything that contains, watches and ends user code:
//! what follows is what follows when the worker's own code does it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use crate::id::InstanceId;

use super::directory::Directory;
use super::guard::{Pulsing, UserFuture};
use super::inbox::Ordered;
use super::life::{End, Life, Tended};
use super::registry::{Body, Factory, Owned};

/// What goes wrong with an actor worker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Its code panics with this message.
    Panic(String),
    /// Its code returns this error.
    Error(String),
    /// Its code does not yield for so long: it handles nothing, and nobody can end it. A plain ractor actor handles
    /// what was handed to it before, and nothing more.
    Block(Duration),
    /// Its next start takes so much longer.
    SlowStart(Duration),
    /// The next message that is sent to its address gets lost on the way: its sender hears nothing of that.
    LostMessage,
}

/// What is planned for whom; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<HashMap<InstanceId, Plan>>>);

#[derive(Default)]
struct Plan {
    at_start: VecDeque<Fault>,
    now: VecDeque<Fault>,
    waker: Option<Waker>,
}

impl Faults {
    /// It strikes at once, or as soon as there is an incarnation to strike.
    pub(crate) fn strike(&self, instance: &InstanceId, fault: Fault) {
        let mut plans = self.lock();
        let plan = plans.entry(instance.clone()).or_default();
        plan.now.push_back(fault);
        let waker = plan.waker.take();
        drop(plans);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// It strikes at the next start.
    pub(crate) fn strike_at_start(&self, instance: &InstanceId, fault: Fault) {
        self.lock().entry(instance.clone()).or_default().at_start.push_back(fault);
    }

    /// What strikes now; without anything, the one who asks is woken when there is.
    fn next(&self, instance: &InstanceId, starts: bool, waker: &Waker) -> Option<Fault> {
        let mut plans = self.lock();
        let plan = plans.entry(instance.clone()).or_default();
        let at_start = if starts { plan.at_start.pop_front() } else { None };
        let fault = at_start.or_else(|| plan.now.pop_front());
        if fault.is_none() {
            plan.waker = Some(waker.clone());
        }
        fault
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Plan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what another factory makes, with faults around it.
pub(super) struct Faulty {
    pub(super) inner: Arc<dyn Factory>,
    pub(super) faults: Faults,
}

impl Factory for Faulty {
    fn check(&self, config: &Value) -> Result<(), String> {
        self.inner.check(config)
    }

    fn open(&self, directory: &Directory, id: &InstanceId) -> Arc<dyn Body> {
        let (inner, faults) = (self.inner.open(directory, id), self.faults.clone());
        Arc::new(FaultyBody { inner, faults })
    }
}

struct FaultyBody {
    inner: Arc<dyn Body>,
    faults: Faults,
}

impl Body for FaultyBody {
    fn inbox(&self) -> Arc<dyn Ordered> {
        self.inner.inbox()
    }

    fn begin(&self, life: &Arc<Life>) -> (UserFuture<End>, Arc<dyn Owned>) {
        let (future, home) = self.inner.begin(life);
        let (life, faults) = (Arc::clone(life), self.faults.clone());
        (Box::pin(Struck { future, life, faults, pause: None, starts: true }), home)
    }
}

/// An incarnation that may be struck.
struct Struck {
    future: UserFuture<End>,
    life: Arc<Life>,
    faults: Faults,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    starts: bool,
}

impl Future for Struck {
    type Output = End;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let me = self.get_mut();
        loop {
            if let Some(pause) = &mut me.pause {
                std::task::ready!(pause.as_mut().poll(context));
                me.pause = None;
            }
            match me.faults.next(&me.life.site.instance, me.starts, context.waker()) {
                None => break,
                Some(Fault::Panic(text)) => panic!("{text}"),
                Some(Fault::Error(text)) => return Poll::Ready(End::Failed(text)),
                Some(Fault::Block(time)) => me.pause = me.block(time),
                Some(Fault::SlowStart(time)) => me.pause = Some(Box::pin(tokio::time::sleep(time))),
                Some(Fault::LostMessage) => me.life.site.inbox.lose_one(),
            }
        }
        me.starts = false;
        me.future.as_mut().poll(context)
    }
}

impl Struck {
    /// Code that does not yield: its pulse stands still, and whatever is done to it, it is there until its time is over.
    fn block(&self, time: Duration) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if !self.life.enter() {
            return None;
        }
        let own = Tended::new(self.life.site.number);
        own.pulse().stick();
        // Stands for the code that blocks: aborting it changes nothing, as with real code.
        let body = tokio::spawn(std::future::pending::<()>()).abort_handle();
        self.life.tend(body.clone(), Arc::clone(&own));
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let life = Arc::clone(&self.life);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            own.pulse().let_go();
            body.abort();
            life.leave();
            drop(tell);
        });
        Some(Box::pin(async {
            // Ends when the other side is dropped.
            let _ = told.await;
        }))
    }
}
