//! A supervisor below a supervisor: to its parent it is a child like any other.
//!
//! Each start makes a new supervisor actor with a fresh policy; dynamic children of the one before are gone,
//! as in OTP. That its end is normal (`Exit::Stopped`) also when it gave up is OTP's rule R14: a
//! transient supervisor that gave up is not started again, a permanent one is. An actor that breaks is an error,
//! told like any other end: nobody below a supervisor goes without one unnoticed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::{Actor, ActorRef};

use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::policy::{Ended, Fact};
use crate::worker::{Reporter, Runner, WorkerReport};

use super::actor::{Outcome, SupervisorActor, SupervisorMsg, Upward};
use super::plane::Plane;
use super::tree::{Node, arguments};

/// Runs one nested supervisor.
pub(crate) struct SupervisorRunner {
    node: Arc<Node>,
    plane: Arc<Plane>,
    reporter: Reporter,
    reached: Arc<Mutex<Reached>>,
}

/// How the actor of the incarnation that was started last can be reached.
enum Reached {
    /// It is being made; what was asked of it meanwhile, the newest wins.
    Making(Option<Fact>),
    /// Under its address.
    At(ActorRef<SupervisorMsg>),
}

impl SupervisorRunner {
    /// A supervisor that is not started yet.
    pub(crate) fn new(node: Arc<Node>, plane: Arc<Plane>, reporter: Reporter) -> Self {
        Self { node, plane, reporter, reached: Arc::new(Mutex::new(Reached::Making(None))) }
    }

    /// An end that overtakes the making of the actor waits for it.
    fn ask(&self, fact: Fact) {
        match &mut *lock(&self.reached) {
            Reached::Making(asked) => *asked = Some(fact),
            Reached::At(address) => {
                // One that has ended has said so.
                let _ = address.send_message(SupervisorMsg::Fact(fact));
            }
        }
    }
}

impl Runner for SupervisorRunner {
    fn start(&mut self, incarnation: Incarnation) {
        *lock(&self.reached) = Reached::Making(None);
        let (node, plane, reporter) =
            (Arc::clone(&self.node), Arc::clone(&self.plane), Arc::clone(&self.reporter));
        let reached = Arc::clone(&self.reached);
        tokio::spawn(async move {
            let ended = Arc::new(AtomicBool::new(false));
            let (upward_reporter, upward_ended) = (Arc::clone(&reporter), Arc::clone(&ended));
            let upward: Upward = Box::new(move |outcome| {
                upward_ended.fetch_or(matches!(outcome, Outcome::Finished(..)), Ordering::Relaxed);
                report(&upward_reporter, incarnation, outcome);
            });
            match SupervisorActor::spawn(None, SupervisorActor, arguments(&node, &plane, upward)).await {
                Ok((address, actor)) => {
                    reporter(incarnation, WorkerReport::Started { pid: None });
                    let _ = address.send_message(SupervisorMsg::Fact(Fact::Boot));
                    let before = std::mem::replace(&mut *lock(&reached), Reached::At(address.clone()));
                    if let Reached::Making(Some(asked)) = before {
                        let _ = address.send_message(SupervisorMsg::Fact(asked));
                    }
                    // An actor that breaks says nothing more: its parent must not take it for alive.
                    let broken = actor.await.err().map_or_else(String::new, |error| format!(": {error}"));
                    if !ended.load(Ordering::Relaxed) {
                        let message = format!("its supervisor actor broke{broken}; this is a bug");
                        reporter(incarnation, WorkerReport::Exited { exit: Exit::Error { message } });
                    }
                }
                Err(error) => {
                    let exit = Exit::StartFailed(StartFailure::System { detail: error.to_string() });
                    reporter(incarnation, WorkerReport::StartFailed { exit, hint: None });
                }
            }
        });
    }

    fn stop(&mut self) {
        self.ask(Fact::Shutdown);
    }

    fn kill(&mut self) {
        self.ask(Fact::Kill);
    }
}

fn lock(reached: &Mutex<Reached>) -> MutexGuard<'_, Reached> {
    reached.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report(reporter: &Reporter, incarnation: Incarnation, outcome: Outcome) {
    let report = match outcome {
        Outcome::Booted => WorkerReport::Ready,
        Outcome::Finished(Ended::BootFailed { exit, .. }, why) => {
            WorkerReport::StartFailed { exit, hint: Some(why) }
        }
        Outcome::Finished(Ended::Shutdown | Ended::GaveUp { .. } | Ended::AutoShutdown, _) => {
            WorkerReport::Exited { exit: Exit::Stopped }
        }
    };
    reporter(incarnation, report);
}
