//! `regrow.tree/1`: the supervision tree, nested.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::status::{StatusBody, SupervisorView, WorkerView};

/// `GET /api/v1/tree`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeBody {
    /// `regrow.tree/1`
    pub schema: String,
    /// The root, as a list with one entry; further entries are instances whose supervisor is unknown.
    pub items: Vec<TreeNode>,
    /// Always null.
    pub next_cursor: Option<String>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TreeNode {
    /// An inner node.
    Supervisor {
        /// What is known of it.
        #[serde(flatten)]
        supervisor: Box<SupervisorNode>,
    },
    /// A leaf.
    Worker {
        /// What `status` shows.
        #[serde(flatten)]
        worker: Box<WorkerView>,
    },
}

/// An inner node with its children in place of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupervisorNode {
    /// Who.
    pub name: String,
    /// Which siblings a restart touches.
    pub strategy: String,
    /// `quarantine` or `escalate`.
    pub on_exhausted: String,
    /// Where it is in its life.
    pub phase: String,
    /// How often it was started again.
    pub restarts: u64,
    /// Children in start order.
    pub children: Vec<TreeNode>,
}

impl TreeBody {
    /// Nests a status. A supervisor that names itself among its descendants is shown once.
    #[must_use]
    pub fn of(status: &StatusBody) -> Self {
        let mut builder = Builder {
            workers: status.workers.iter().map(|worker| (worker.instance.as_str(), worker)).collect(),
            supervisors: status.supervisors.iter().map(|view| (view.name.as_str(), view)).collect(),
            placed: BTreeSet::new(),
        };
        // Of a part of the tree, whoever's parent is not in it.
        let is_top = |view: &&SupervisorView| {
            view.parent.as_ref().is_none_or(|parent| !builder.supervisors.contains_key(parent.as_str()))
        };
        let roots: Vec<_> = status.supervisors.iter().filter(is_top).collect();
        let mut items: Vec<_> = roots.into_iter().filter_map(|root| builder.supervisor(root)).collect();
        for worker in &status.workers {
            if !builder.placed.contains(worker.instance.as_str()) {
                items.push(TreeNode::Worker { worker: Box::new(worker.clone()) });
            }
        }
        Self { schema: "regrow.tree/1".to_owned(), items, next_cursor: None }
    }
}

struct Builder<'a> {
    workers: BTreeMap<&'a str, &'a WorkerView>,
    supervisors: BTreeMap<&'a str, &'a SupervisorView>,
    placed: BTreeSet<&'a str>,
}

impl<'a> Builder<'a> {
    fn supervisor(&mut self, view: &'a SupervisorView) -> Option<TreeNode> {
        if !self.placed.insert(&view.name) {
            return None;
        }
        let children = view.children.iter().filter_map(|name| self.child(name)).collect();
        let supervisor = Box::new(SupervisorNode {
            name: view.name.clone(),
            strategy: view.strategy.clone(),
            on_exhausted: view.on_exhausted.clone(),
            phase: view.phase.clone(),
            restarts: view.restarts,
            children,
        });
        Some(TreeNode::Supervisor { supervisor })
    }

    fn child(&mut self, name: &'a str) -> Option<TreeNode> {
        if let Some(worker) = self.workers.get(name).copied() {
            self.placed.insert(name);
            return Some(TreeNode::Worker { worker: Box::new(worker.clone()) });
        }
        let view = self.supervisors.get(name).copied()?;
        self.supervisor(view)
    }
}
