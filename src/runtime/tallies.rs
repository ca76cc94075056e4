//! Counts that only the metrics page shows, over restarts of the runtime.
//!
//! They are brought to the disk once a minute, as figures are, and at the end: a kill may cost the last minute of them.

use std::sync::Arc;

use crate::id::InstanceId;
use crate::store::{InstanceTallies, ProbeTally, Store, Tallies};
use crate::supervisor::Board;
use crate::telemetry::{Journal, LookTally, Looks};

/// What was written last, and into which file.
#[derive(Default)]
pub(super) struct Written(Option<(u64, Tallies)>);

impl Written {
    /// Writes what has changed since; what cannot be written waits for the next time.
    pub(super) async fn renew(&mut self, store: &Store, board: &Board, journal: &Journal, looks: &Looks) {
        let (file, now) = (store.generation(), gather(board, journal, looks));
        let is_known = match &self.0 {
            Some((in_file, written)) => *in_file == file && *written == now,
            None => now == store.beginning().tallies,
        };
        if is_known {
            return;
        }
        match store.put_tallies(&now).await {
            Ok(()) => self.0 = Some((file, now)),
            Err(error) => tracing::debug!(%error, "counts of probes and lost lines are not kept"),
        }
    }
}

fn gather(board: &Board, journal: &Journal, looks: &Looks) -> Tallies {
    let mut probes = looks.tallies();
    let mut instances = Vec::new();
    board.visit(|state| {
        let probes = probes.remove(&state.instance).unwrap_or_default();
        let lines_dropped = state.totals().lines_dropped;
        if lines_dropped > 0 || !probes.is_empty() {
            let probes = probes.into_iter().map(|(name, tally)| kept(&name, &tally)).collect();
            instances.push(InstanceTallies { instance: state.instance.to_string(), lines_dropped, probes });
        }
    });
    Tallies { stale: board.stale(), events_dropped: journal.dropped(), instances }
}

fn kept(name: &Arc<str>, tally: &LookTally) -> ProbeTally {
    ProbeTally {
        probe: name.to_string(),
        counts: tally.counts.to_vec(),
        buckets: tally.buckets.to_vec(),
        sum_seconds: tally.sum_seconds,
    }
}

/// Lets them go on where they were.
pub(super) fn recall(tallies: &Tallies, board: &Board, journal: &Journal, looks: &Looks) {
    board.count_all_stale(tallies.stale);
    journal.precede_dropped(tallies.events_dropped);
    for of in &tallies.instances {
        // An instance of that name is no longer there.
        let Some(id) = of.instance.parse::<InstanceId>().ok().filter(|id| board.instance(id).is_some())
        else {
            continue;
        };
        board.update(&id, |entry| entry.earlier.lines_dropped = of.lines_dropped);
        for probe in &of.probes {
            // Buckets of another division cannot be gone on with.
            if let (Ok(counts), Ok(buckets)) =
                (probe.counts.as_slice().try_into(), probe.buckets.as_slice().try_into())
            {
                let before = LookTally { counts, buckets, sum_seconds: probe.sum_seconds };
                looks.precede(&id, &probe.probe, before);
            }
        }
    }
}
