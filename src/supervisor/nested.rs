//! A supervisor below a supervisor: to its parent it is a child like any other.
//!
//! Each start makes a new supervisor actor with a fresh policy; dynamic children of the one before are gone,
//! as in OTP. That its end is normal (`Exit::Stopped`) also when it gave up is OTP's rule R14: a
//! transient supervisor that gave up is not started again, a permanent one is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::exit::{Exit, StartFailure};
use crate::id::Incarnation;
use crate::policy::{Change, Ended, Fact};
use crate::worker::{Reporter, Runner, WorkerReport};

use super::actor::{Outcome, SupervisorMsg, Upward};
use super::line::Address;
use super::plane::Plane;
use super::reform::Reforming;
use super::tree::{Branch, Node, arguments};

/// Runs one nested supervisor.
pub(crate) struct SupervisorRunner {
    node: Arc<Node>,
    plane: Arc<Plane>,
    reporter: Reporter,
    /// The newest start's.
    line: Arc<Mutex<Line>>,
}

/// The way to the supervisor of one start. An actor needs a moment to come into being; what is asked of it meanwhile
/// is told to it first of all, since nobody will ask again.
#[derive(Default)]
struct Line {
    address: Option<Address>,
    kept: Vec<Fact>,
}

impl Line {
    fn open(&mut self, address: Address) {
        for fact in std::iter::once(Fact::Boot).chain(self.kept.drain(..)) {
            let _ = address.send_message(SupervisorMsg::Fact(fact));
        }
        self.address = Some(address);
    }

    fn send(&mut self, fact: Fact) {
        match &self.address {
            // One that has ended has reported that.
            Some(address) => drop(address.send_message(SupervisorMsg::Fact(fact))),
            None => self.kept.push(fact),
        }
    }
}

impl SupervisorRunner {
    /// A supervisor that is not started yet.
    pub(crate) fn new(node: Arc<Node>, plane: Arc<Plane>, reporter: Reporter) -> Self {
        Self { node, plane, reporter, line: Arc::default() }
    }

    fn send(&self, fact: Fact) {
        lock(&self.line).send(fact);
    }
}

/// Whoever kept it has failed, or it has ended: nobody would ever stop it.
impl Drop for SupervisorRunner {
    fn drop(&mut self) {
        self.send(Fact::Kill);
    }
}

impl Runner for SupervisorRunner {
    fn start(&mut self, incarnation: Incarnation) {
        let (plane, reporter) = (Arc::clone(&self.plane), Arc::clone(&self.reporter));
        // Its definition may have changed while it was down.
        let node = plane.node(&self.node.settings.name).unwrap_or_else(|| Arc::clone(&self.node));
        self.line = Arc::default();
        let line = Arc::clone(&self.line);
        tokio::spawn(async move {
            let duty = Arc::new(Duty { reporter, incarnation, told: AtomicBool::new(false) });
            let told = Arc::clone(&duty);
            let upward: Upward = Box::new(move |outcome| told.tell(outcome));
            match Address::spawn(arguments(&node, &plane, upward)).await {
                Ok(address) => {
                    (duty.reporter)(incarnation, WorkerReport::Started { pid: None });
                    lock(&line).open(address.clone());
                    catch_up(&node, &address, &plane);
                }
                Err(error) => {
                    let exit = Exit::StartFailed(StartFailure::System { detail: error.to_string() });
                    duty.end(WorkerReport::StartFailed { exit, hint: None });
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

/// A definition that came while the actor came into being has missed it.
fn catch_up(node: &Arc<Node>, address: &Address, plane: &Arc<Plane>) {
    let newest = plane.node(&node.settings.name).filter(|newest| !Arc::ptr_eq(newest, node));
    let Some(newest) = newest else { return };
    let change = |branch: &Branch| match branch {
        Branch::Supervisor(_) => Change::Keep,
        Branch::Worker(..) if node.children.contains(branch) => Change::Keep,
        Branch::Worker(..) => Change::Renew,
    };
    let children = newest.children.iter().map(|branch| (branch.seed(plane), change(branch))).collect();
    // Nobody waits for the answer.
    let (reply, _) = oneshot::channel();
    let reforming = Box::new(Reforming { spec: newest.spec(plane.seed), children, reply });
    let _ = address.send_message(SupervisorMsg::Reform(reforming));
}

/// Held only to hand on a word.
fn lock(line: &Mutex<Line>) -> std::sync::MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is owed to the parent about one start: its end. A supervisor that goes without a word (its actor failed, a fault
/// of ours) must not be taken for one that runs.
struct Duty {
    reporter: Reporter,
    incarnation: Incarnation,
    told: AtomicBool,
}

impl Duty {
    fn tell(&self, outcome: Outcome) {
        match outcome {
            Outcome::Booted => (self.reporter)(self.incarnation, WorkerReport::Ready),
            Outcome::Finished(Ended::BootFailed { exit, .. }, why) => {
                self.end(WorkerReport::StartFailed { exit, hint: Some(why) });
            }
            Outcome::Finished(Ended::Shutdown, _) => {
                self.end(WorkerReport::Exited { exit: Exit::Stopped });
            }
            Outcome::Finished(Ended::GaveUp { .. } | Ended::AutoShutdown, why) => {
                (self.reporter)(self.incarnation, WorkerReport::Hint { text: why });
                self.end(WorkerReport::Exited { exit: Exit::Stopped });
            }
        }
    }

    fn end(&self, report: WorkerReport) {
        if !self.told.swap(true, Ordering::Relaxed) {
            (self.reporter)(self.incarnation, report);
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        let message = "its supervisor actor failed; this is a bug".to_owned();
        self.end(WorkerReport::Exited { exit: Exit::Error { message } });
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use crate::config::{Sources, load};
    use crate::supervisor::Board;
    use crate::telemetry::Journal;

    use super::*;

    fn runner() -> (SupervisorRunner, mpsc::UnboundedReceiver<(Incarnation, WorkerReport)>) {
        let sources = Sources { inline: Some("[supervisor.root]\n".to_owned()), ..Sources::default() };
        let settings = load(&sources).expect("a valid file").settings;
        let node = Node::of(&settings).unwrap();
        let unused = Arc::new(|_: &_, _: &_, _: &_, _| unreachable!("there are no workers"));
        let plane = Arc::new(Plane::new(Board::new(), Journal::new(), unused, 7));
        let (tell, told) = mpsc::unbounded_channel();
        let reporter: Reporter = Arc::new(move |n, report| drop(tell.send((n, report))));
        (SupervisorRunner::new(node, plane, reporter), told)
    }

    async fn end(told: &mut mpsc::UnboundedReceiver<(Incarnation, WorkerReport)>) -> Exit {
        loop {
            if let (Incarnation(1), WorkerReport::Exited { exit }) = told.recv().await.unwrap() {
                return exit;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_that_comes_before_the_supervisor_has_come_into_being_is_not_lost() {
        for ask in [SupervisorRunner::stop, SupervisorRunner::kill] {
            let (mut runner, mut told) = runner();
            runner.start(Incarnation(1));
            ask(&mut runner);
            let exit = tokio::time::timeout(std::time::Duration::from_secs(60), end(&mut told)).await;
            assert_eq!(exit.expect("it goes on without anybody who will stop it"), Exit::Stopped);
        }
    }

    #[test]
    fn a_supervisor_that_ends_of_itself_says_why() {
        let (tell, told) = std::sync::mpsc::channel();
        let reporter: Reporter = Arc::new(move |_, report| drop(tell.send(report)));
        let duty = Duty { reporter, incarnation: Incarnation(1), told: AtomicBool::new(false) };
        duty.tell(Outcome::Finished(Ended::AutoShutdown, "its work is done".to_owned()));
        let hint = WorkerReport::Hint { text: "its work is done".to_owned() };
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [hint, WorkerReport::Exited { exit: Exit::Stopped }]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_whose_actor_is_gone_is_not_taken_for_one_that_runs() {
        let (mut runner, mut told) = runner();
        runner.start(Incarnation(1));
        while told.recv().await.unwrap().1 != WorkerReport::Ready {}
        let address = lock(&runner.line).address.clone().unwrap();
        address.kill();
        drop(address);
        let exit = tokio::time::timeout(std::time::Duration::from_secs(60), end(&mut told)).await;
        assert!(matches!(exit.expect("its end is never told"), Exit::Error { .. }));
    }
}
