//! Who belongs to a program that ran before us.
//!
//! Nobody of them carries our mark, has our fence open or is in a cgroup of ours. So they are found by descent, and by
//! the session and the group where the program leads them, and remembered: its end hides whose children they were.
//! Whoever broke away from all of that before it was seen is not known, and outlives it.
//!
//! A pid alone is never believed: who is remembered is known by the time of its start too, and the number of a
//! session is the program's as long as nobody else has that pid.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::tree::{Stat, add_descendants, everybody, stat};

/// The program and those around it; every clone is the same one.
#[derive(Debug, Clone)]
pub(super) struct Company {
    main: Stat,
    known: Arc<Mutex<HashSet<(u32, u64)>>>,
}

impl Company {
    /// That of a running program.
    pub(super) fn of(main: u32) -> Option<Self> {
        let company = Self { main: stat(main)?, known: Arc::default() };
        company.look();
        Some(company)
    }

    /// Remembers who is there now.
    pub(super) fn look(&self) {
        // Who is found is remembered by it.
        self.among(&everybody());
    }

    /// Whether anybody of them lives.
    pub(super) fn lives(&self) -> bool {
        !self.among(&everybody()).is_empty()
    }

    /// Those of them who live.
    pub(super) fn among(&self, all: &[Stat]) -> HashSet<u32> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Whose number it is by now; nobody's as long as somebody is in the session or the group of it.
        let foreign = all.iter().any(|one| one.pid == self.main.pid && one.started != self.main.started);
        let led = |number: u32, own: u32| !foreign && own == self.main.pid && number == own;
        let is_one = |one: &Stat| {
            one.is(&self.main)
                || known.contains(&(one.pid, one.started))
                || led(one.session, self.main.session)
                || led(one.group, self.main.group)
        };
        // Whoever stands above us, we are not to end; and what is below us has marks of its own.
        let ours = above(all);
        let others: Vec<Stat> =
            all.iter().filter(|one| one.is(&self.main) || !ours.contains(&one.pid)).copied().collect();
        let mut mine: HashSet<u32> = others.iter().filter(|one| is_one(one)).map(|one| one.pid).collect();
        add_descendants(&others, &mut mine);
        let found = others.iter().filter(|one| !one.dead && mine.contains(&one.pid));
        *known = found.clone().map(|one| (one.pid, one.started)).collect();
        found.map(|one| one.pid).collect()
    }
}

/// We, and whoever stands above us.
fn above(all: &[Stat]) -> HashSet<u32> {
    let mut above = HashSet::from([std::process::id()]);
    let mut at = std::process::id();
    while let Some(one) = all.iter().find(|one| one.pid == at).filter(|one| above.insert(one.parent)) {
        at = one.parent;
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, group: u32, session: u32, started: u64) -> Stat {
        Stat { pid, parent, group, session, started, threads: 1, resident: 1, dead: false }
    }

    fn of(main: Stat) -> Company {
        Company { main, known: Arc::default() }
    }

    fn found(company: &Company, all: &[Stat]) -> Vec<u32> {
        let mut found: Vec<u32> = company.among(all).into_iter().collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn who_is_below_it_or_in_its_session_belongs_to_it_also_once_it_is_gone() {
        let main = process(50, 1, 50, 50, 7);
        let company = of(main);
        let shell = process(2, 1, 2, 2, 1);
        let own = [process(51, 50, 50, 50, 8), process(52, 51, 52, 52, 9), process(53, 1, 53, 50, 9)];
        let all = [&[shell, main], own.as_slice()].concat();
        assert_eq!(found(&company, &all), [50, 51, 52, 53]);
        // They are init's children now, and one of them has a child of its own, and another one comes into the session.
        let orphan = |one: Stat| Stat { parent: 1, ..one };
        let mut after = vec![shell];
        after.extend(own.map(orphan));
        after.extend([process(54, 52, 54, 54, 12), process(55, 1, 50, 50, 13)]);
        assert_eq!(found(&company, &after), [51, 52, 53, 54, 55]);
        assert_eq!(found(&company, &[shell]), [0; 0]);
    }

    #[test]
    fn whose_session_it_only_shares_is_left_alone() {
        let main = process(50, 2, 2, 2, 7);
        let company = of(main);
        let shell = process(2, 1, 2, 2, 1);
        let all = [shell, process(40, 2, 2, 2, 3), main, process(51, 50, 2, 2, 8)];
        assert_eq!(found(&company, &all), [50, 51]);
    }

    #[test]
    fn nobody_ends_himself() {
        let own = std::process::id();
        let company = of(process(50, 1, 50, 50, 7));
        let shell = process(51, 50, 51, 51, 8);
        let all =
            [process(50, 1, 50, 50, 7), shell, process(own, 51, 50, 50, 9), process(own + 1, own, 9, 9, 9)];
        assert_eq!(found(&company, &all), [50]);
    }

    #[test]
    fn a_number_that_is_used_again_is_a_strangers() {
        let company = of(process(50, 1, 50, 50, 7));
        assert_eq!(found(&company, &[process(50, 1, 50, 50, 7), process(51, 50, 51, 51, 8)]), [50, 51]);
        let strangers = [process(50, 1, 50, 50, 90), process(51, 1, 51, 51, 91), process(60, 50, 50, 50, 92)];
        assert_eq!(found(&company, &strangers), [0; 0]);
    }
}
