//! A supervisor below a supervisor: to its parent it is a child like any other.
//!
//! Each start makes a new supervisor actor with a fresh policy; dynamic children of the one before are gone,
//! as in OTP. That its end is normal (`Exit::Stopped`) also when it gave up is OTP's rule R14: a
//! transient supervisor that gave up is not started again, a permanent one is.

use std::sync::Arc;

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
}

impl SupervisorRunner {
    /// A supervisor that is not started yet.
    pub(crate) fn new(node: Arc<Node>, plane: Arc<Plane>, reporter: Reporter) -> Self {
        Self { node, plane, reporter }
    }

    fn send(&self, fact: Fact) {
        if let Some(address) = self.address() {
            let _ = address.send_message(SupervisorMsg::Fact(fact));
        }
    }

    fn address(&self) -> Option<ActorRef<SupervisorMsg>> {
        self.plane.supervisor(&self.node.settings.name)
    }
}

impl Runner for SupervisorRunner {
    fn start(&mut self, incarnation: Incarnation) {
        let (node, plane, reporter) =
            (Arc::clone(&self.node), Arc::clone(&self.plane), Arc::clone(&self.reporter));
        tokio::spawn(async move {
            let failed = Arc::clone(&reporter);
            let upward: Upward = Box::new(move |outcome| report(&reporter, incarnation, outcome));
            match SupervisorActor::spawn(None, SupervisorActor, arguments(&node, &plane, upward)).await {
                Ok((address, _)) => {
                    failed(incarnation, WorkerReport::Started { pid: None });
                    let _ = address.send_message(SupervisorMsg::Fact(Fact::Boot));
                }
                Err(error) => {
                    let exit = Exit::StartFailed(StartFailure::System { detail: error.to_string() });
                    failed(incarnation, WorkerReport::StartFailed { exit, hint: None });
                }
            }
        });
    }

    fn stop(&mut self) {
        self.send(Fact::Shutdown);
    }

    fn kill(&mut self) {
        self.send(Fact::Kill);
    }
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
