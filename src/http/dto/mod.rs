//! What travels: the JSON of the contract, as types of its own.
//!
//! The command line reads the same types that the server writes, so the two cannot drift apart. Field order is
//! the contract's. Deliberately absent: any type of the rooms below; a rename inside must not reach a script.

mod action;
mod change;
mod config;
mod describe;
mod event;
mod health;
mod history;
mod recovery;
mod state;
mod status;
mod tree;

pub use action::{Accepted, ActionInstance, ActionState, ActionView};
pub use change::{ChangeView, ChangesView, DiffBody, KeyView};
pub use config::effective;
pub use describe::{DescribeBody, Detail, OperatorView, OutputView};
pub use event::EventView;
pub use health::{HealthBody, HealthDetail, HealthView, LookView, ProbeView, ServiceHealth, score_bound};
pub use history::{BackupBody, HistoryBody, InstanceHistory, InstancePoint, PointView, WorkerHistory};
pub use recovery::{
    AdviceView, IncidentBody, IncidentView, IncidentsBody, PlanView, PlansBody, StrategiesBody, WhyBody,
    WhyView,
};
pub use state::{StateView, StatesBody};
pub use status::{
    EventsBody, Issue, LastExitView, LogLine, LogsBody, NextActionView, RuntimeView, StatusBody,
    SupervisorView, Totals, WorkerView, WorkersBody,
};
pub use tree::{SupervisorNode, TreeBody, TreeNode};
