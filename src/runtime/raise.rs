//! What every runtime is raised from, whether on a control plane of its own or on the stage of a test: the board and
//! the tree as the settings have them, the root supervisor, and the director above it.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use crate::id::Name;
use crate::policy::Fact;
use crate::supervisor::{
    Address, Board, Node, Plane, RunnerFactory, SupervisorMsg, Upward, arguments, supervisor_states,
};
use crate::telemetry::Journal;

use super::director::Director;
use super::handle::{Order, RuntimeInfo};
use super::intents::Intents;
use super::launch::StartError;
use super::numbers::{self, Numbers};
use super::recycle;
use super::reshape::{Editor, enter};
use super::survivors::Remains;

/// Changes of the settings that may wait for each other; more are told to try again.
const EDITS: usize = 64;

/// Everybody as the settings have them, and nobody started.
pub(super) fn plane(
    info: &RuntimeInfo,
    runners: RunnerFactory,
    (board, journal): (Board, Journal),
    intents: &Intents,
    seed: u64,
) -> Result<Arc<Plane>, StartError> {
    let mut plane = Plane::new(board, journal, runners, seed);
    plane.healer = Arc::clone(&info.healer);
    for child in intents.children() {
        plane.set_wish(child, intents.wish(child));
    }
    fill_board(info, &plane);
    plane.plant(&Node::of(&info.settings()).ok_or_else(no_root)?);
    Ok(Arc::new(plane))
}

fn no_root() -> StartError {
    StartError::System {
        what: "the configuration has no root supervisor",
        source: std::io::Error::other("this is a bug"),
    }
}

fn fill_board(info: &RuntimeInfo, plane: &Plane) {
    let settings = info.settings();
    for state in supervisor_states(&settings) {
        plane.board.put_supervisor(state);
    }
    for supervisor in &settings.supervisors {
        for child in &supervisor.children {
            plane.settle(child, &supervisor.name);
        }
    }
    for worker in &settings.workers {
        let home = plane.home(&worker.name).unwrap_or_else(Name::root);
        for instance in worker.instance_ids() {
            enter(plane, &instance, worker, &home);
        }
    }
    for worker in &settings.workers {
        let _ = plane.gate.learn(&worker.name, &worker.after);
    }
}

/// Starts the root, and with it everybody. The director is to be run.
pub(super) async fn raise(
    info: &Arc<RuntimeInfo>,
    plane: &Arc<Plane>,
    intents: Intents,
    orders: mpsc::Receiver<Order>,
) -> Result<Director, StartError> {
    let (info, intents, plane) = (Arc::clone(info), Arc::new(Mutex::new(intents)), Arc::clone(plane));
    let (edits, waiting) = mpsc::channel(EDITS);
    let numbers = Numbers { plane, info, intents, edits };
    numbers::heed(&numbers);
    let Numbers { plane, info, intents, edits } = numbers;
    let node = plane.node(&Name::root()).ok_or_else(no_root)?;
    let (outcomes, inbox) = mpsc::unbounded_channel();
    let upward: Upward = Box::new(move |outcome| {
        // The director outlives the root.
        let _ = outcomes.send(outcome);
    });
    let arguments = arguments(&node, &plane, upward);
    let root = Address::spawn(arguments).await.map_err(|error| StartError::System {
        what: "cannot start the root supervisor",
        source: std::io::Error::other(error.to_string()),
    })?;
    let _ = root.send_message(SupervisorMsg::Fact(Fact::Boot));
    let editor = Editor { plane: Arc::clone(&plane), info: Arc::clone(&info), intents: Arc::clone(&intents) };
    tokio::spawn(editor.run(waiting));
    tokio::spawn(recycle::watch(Arc::clone(&plane), info.sampler.clone(), edits.clone()));
    Ok(Director {
        plane,
        info,
        intents,
        root,
        orders,
        outcomes: inbox,
        stopping: None,
        edits,
        remains: Remains::default(),
    })
}
