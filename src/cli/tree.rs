//! `regrow status --tree`: the supervision tree in box drawing.

use jiff::Timestamp;

use crate::http::dto::{StatusBody, SupervisorNode, TreeBody, TreeNode, WorkerView};

use super::status::{header, next_or_issue};
use super::table::{bold, dim, paint, status_style};
use super::words::{self, cut, plural, span};

/// The longest status and the gap behind it.
const STATUS: usize = "unresponsive".len() + 2;

/// The tree with the header lines of `status`.
pub(crate) fn render(body: &StatusBody, now: Timestamp, width: Option<usize>) -> String {
    let tree = TreeBody::of(body);
    let mut lines = Vec::new();
    for node in &tree.items {
        lines.push(Line { branch: String::new(), node });
        if let TreeNode::Supervisor { supervisor } = node {
            children(supervisor, "", &mut lines);
        }
    }
    let names = lines.iter().map(|line| line.branch.chars().count() + line.name().chars().count());
    let column = names.max().unwrap_or(0) + 2;
    let mut out = header(body, now);
    out.push('\n');
    for line in &lines {
        out.push_str(&line.render(column, now, width));
        out.push('\n');
    }
    out
}

struct Line<'a> {
    branch: String,
    node: &'a TreeNode,
}

fn children<'a>(supervisor: &'a SupervisorNode, before: &str, lines: &mut Vec<Line<'a>>) {
    let count = supervisor.children.len();
    for (at, node) in supervisor.children.iter().enumerate() {
        let last = at + 1 == count;
        let branch = format!("{before}{}", if last { "└─ " } else { "├─ " });
        lines.push(Line { branch, node });
        if let TreeNode::Supervisor { supervisor } = node {
            children(supervisor, &format!("{before}{}", if last { "   " } else { "│  " }), lines);
        }
    }
}

impl Line<'_> {
    fn name(&self) -> &str {
        match self.node {
            TreeNode::Supervisor { supervisor } => &supervisor.name,
            TreeNode::Worker { worker } => &worker.instance,
        }
    }

    fn render(&self, column: usize, now: Timestamp, width: Option<usize>) -> String {
        let used = self.branch.chars().count() + self.name().chars().count();
        let gap = " ".repeat(column - used);
        let branch = paint(&self.branch, dim());
        match self.node {
            TreeNode::Supervisor { supervisor } => {
                let name = paint(self.name(), bold());
                format!("{branch}{name}{gap}{}", paint(&about(supervisor), dim()))
            }
            TreeNode::Worker { worker } => {
                let status = paint(&worker.status, status_style(&worker.status));
                let text = facts(worker, now);
                if text.is_empty() {
                    return format!("{branch}{}{gap}{status}", self.name());
                }
                let pad = " ".repeat(STATUS.saturating_sub(worker.status.len()));
                let rest = width.map(|width| width.saturating_sub(column + STATUS));
                let text = rest.map_or_else(|| text.clone(), |rest| cut(&text, rest.max(16)));
                format!("{branch}{}{gap}{status}{pad}{text}", self.name())
            }
        }
    }
}

fn about(supervisor: &SupervisorNode) -> String {
    let mut text = format!("{}, {}", supervisor.strategy, supervisor.on_exhausted);
    if supervisor.phase != "running" {
        text.push_str(&format!(", {}", supervisor.phase));
    }
    if supervisor.restarts > 0 {
        text.push_str(&format!(", {}", plural(supervisor.restarts, "restart")));
    }
    text
}

fn facts(worker: &WorkerView, now: Timestamp) -> String {
    let mut parts = Vec::new();
    if let Some(pid) = worker.pid {
        parts.push(format!("pid {pid}"));
    }
    if let Some(seconds) = worker.uptime_seconds {
        parts.push(format!("up {}", span(seconds)));
    }
    if worker.restarts > 0 {
        parts.push(plural(worker.restarts, "restart"));
    }
    if let Some(bytes) = worker.memory_bytes {
        parts.push(words::size(bytes));
    }
    let next = next_or_issue(worker, now);
    if !next.is_empty() {
        parts.push(next);
    }
    parts.join(", ")
}
