//! Looks at every actor worker some times a second: does its code yield, does its mailbox fill up, is a snapshot due?
//!
//! It runs on the control plane, which no user code can delay, and costs some nanoseconds per worker and look. What it
//! finds is shown as an issue and told in the log; it ends nobody: a worker that computes for a second is none that
//! hangs, and who wants such a worker ended gives it a probe.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use crate::id::Incarnation;
use crate::worker::WorkerReport;

use super::host::InProcessHost;
use super::inbox::{Ask, Order};
use super::life::Life;
use super::runner::Site;

/// Between two looks: code that does not yield is named within two of them, so within a second.
const LOOK: Duration = Duration::from_millis(300);

/// Shown while it lasts.
const BLOCKS: &str =
    "it blocks its thread: its code does not yield; `blocking = true` gives it a thread of its own";
const FILLS: &str = "its mailbox fills up: it gets messages faster than it handles them";

/// What the last look saw.
#[derive(Default)]
pub(super) struct Watch {
    incarnation: Option<Incarnation>,
    /// The own one's and those of tasks, which most have none of.
    pulses: SmallVec<[u64; 1]>,
    now: SmallVec<[u64; 1]>,
    blocks: bool,
    /// That it blocks was found before in this incarnation, and stands among the events.
    found: bool,
    fills: bool,
    snapshot_at: Option<Instant>,
}

impl Watch {
    /// Whether its code did not yield at the last look.
    pub(super) fn blocks(&self) -> bool {
        self.blocks
    }
}

/// Looks until the runtime is gone.
pub(super) async fn watch(host: Weak<InProcessHost>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(host) = host.upgrade() else { return };
        let now = Instant::now();
        for site in host.sites() {
            if let Some(life) = site.current() {
                look(&site, &life, now);
            }
        }
    }
}

fn look(site: &Arc<Site>, life: &Arc<Life>, now: Instant) {
    let mut watch = site.watch.lock().unwrap_or_else(PoisonError::into_inner);
    if watch.incarnation != Some(life.incarnation) {
        let every = site.settings.snapshot.every;
        *watch =
            Watch { incarnation: Some(life.incarnation), snapshot_at: Some(now + every), ..Watch::default() };
    }
    blocks(&mut watch, site, life);
    fills(&mut watch, site, life);
    if watch.snapshot_at.is_some_and(|at| at <= now) {
        watch.snapshot_at = Some(now + site.settings.snapshot.every);
        // Refused only if it is not there, or far behind: then the next one will do.
        let _ = site.inbox.order(Some(life.incarnation), Order::Ask(Ask::Snapshot));
    }
}

fn blocks(watch: &mut Watch, site: &Site, life: &Life) {
    if site.is_apart() {
        return;
    }
    let Watch { pulses, now, .. } = watch;
    life.pulses(now);
    let same = pulses.len() == now.len();
    let blocks = same && pulses.iter().zip(now.iter()).any(|(before, now)| before == now && now % 2 == 1);
    std::mem::swap(pulses, now);
    if blocks != watch.blocks {
        watch.blocks = blocks;
        tell(site, life, blocks, BLOCKS);
        if blocks && !std::mem::replace(&mut watch.found, true) {
            site.report(life.incarnation, WorkerReport::Finding { text: BLOCKS.to_owned() });
        }
    }
}

fn fills(watch: &mut Watch, site: &Site, life: &Life) {
    let depth = site.inbox.look();
    // Half of the high water is where it counts as over, so that one message more or less makes no news.
    let (high, low) = (depth.capacity - depth.capacity / 5, depth.capacity / 2);
    let fills = if watch.fills { depth.most > low || depth.refused > 0 } else { depth.most >= high };
    if fills != watch.fills {
        watch.fills = fills;
        if fills {
            let (instance, waiting, refused) = (&site.instance, depth.most, depth.refused);
            tracing::warn!(%instance, waiting, refused, capacity = depth.capacity, "a mailbox fills up");
        }
        tell(site, life, fills, FILLS);
    }
}

fn tell(site: &Site, life: &Life, holds: bool, text: &str) {
    let text = text.to_owned();
    let report = if holds {
        tracing::warn!(instance = %site.instance, incarnation = %life.incarnation, "{text}");
        WorkerReport::Issue { text }
    } else {
        WorkerReport::IssueOver { text }
    };
    site.report(life.incarnation, report);
}
