//! How full the memory of a card is, through the driver's own library.
//!
//! With `device = "auto"` the cards that the worker's processes compute on count, or all of them where none is seen to:
//! a driver outside of a container knows its processes by other numbers.

use crate::probe::{Found, Look, Patient, Probe};
use crate::worker::unix::{Card, gpu_cards};

use super::apart::apart;

/// One card, or the worker's.
pub(in crate::probe) struct Gpu {
    pub(in crate::probe) device: String,
    pub(in crate::probe) warn: f64,
    pub(in crate::probe) crit: f64,
}

impl Probe for Gpu {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let device = patient.fill(&self.device);
            // A driver that hangs answers never; this thread must not wait for it.
            match apart(patient, gpu_cards).await {
                Ok(Ok(cards)) => self.judge(&device, &cards, patient.pid()),
                Ok(Err(error)) => Found::error(error),
                Err(found) => found,
            }
        })
    }
}

impl Gpu {
    fn judge(&self, device: &str, cards: &[Card], main: Option<u32>) -> Found {
        let own: Vec<&Card> = match device {
            "auto" => {
                let own =
                    |card: &&Card| main.is_some_and(|main| card.pids.iter().any(|pid| is_of(*pid, main)));
                let used: Vec<&Card> = cards.iter().filter(own).collect();
                if used.is_empty() { cards.iter().collect() } else { used }
            }
            one => cards.iter().filter(|card| card.uuid == one || card.index.to_string() == one).collect(),
        };
        let full = |card: &&&Card| ratio(card);
        let Some(fullest) = own.iter().max_by(|a, b| full(a).total_cmp(&full(b))) else {
            return Found::error(match device {
                "auto" => "this machine has no card".to_owned(),
                other => format!("this machine has no card {other:?}"),
            });
        };
        let text = format!("the memory of GPU {} is {:.0} % full", fullest.index, ratio(fullest) * 100.0);
        let found = if ratio(fullest) >= self.crit {
            Found::fail(text)
        } else if ratio(fullest) >= self.warn {
            Found::warn(text)
        } else {
            Found::pass(text)
        };
        own.iter().fold(found, |found, card| {
            let found = found.with(format!("gpu{}_memory_used_ratio", card.index), ratio(card));
            match card.busy {
                Some(busy) => found.with(format!("gpu{}_utilization_ratio", card.index), busy),
                None => found,
            }
        })
    }
}

fn ratio(card: &Card) -> f64 {
    if card.total == 0 { 0.0 } else { card.used as f64 / card.total as f64 }
}

/// Whether a process is a worker's: its main process, or one of the same session.
fn is_of(pid: u32, main: u32) -> bool {
    let session = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(3)?.parse::<u32>().ok()
    };
    pid == main || session() == Some(main)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Grade;

    fn card(index: u32, used: u64, pids: &[u32]) -> Card {
        let busy = (index == 0).then_some(0.5);
        Card { index, uuid: format!("GPU-{index}"), used, total: 100, busy, pids: pids.to_vec() }
    }

    #[test]
    fn the_worker_s_own_cards_count_and_the_fullest_of_them_decides() {
        let gpu = Gpu { device: "auto".to_owned(), warn: 0.85, crit: 0.90 };
        let own = std::process::id();
        let cards = [card(0, 95, &[]), card(1, 86, &[own]), card(2, 10, &[own])];
        let found = gpu.judge("auto", &cards, Some(own));
        assert_eq!((found.grade, found.message.as_str()), (Grade::Warn, "the memory of GPU 1 is 86 % full"));
        assert_eq!(found.metrics.len(), 2, "of its own two");
        assert_eq!(gpu.judge("auto", &cards, Some(u32::MAX)).grade, Grade::Fail, "nobody is seen: all count");
        assert_eq!(gpu.judge("GPU-2", &cards, Some(own)).grade, Grade::Pass);
        let zero = gpu.judge("0", &cards, None);
        assert_eq!((zero.grade, zero.metrics.len()), (Grade::Fail, 2));
        assert_eq!(gpu.judge("7", &cards, Some(own)).grade, Grade::Error);
        assert_eq!(gpu.judge("auto", &[], Some(own)).grade, Grade::Error);
    }
}
