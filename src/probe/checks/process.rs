//! The main process runs: no zombie, and not halted.

use crate::probe::Found;
use crate::telemetry::Condition;

/// What is to be said of the main process, `None` for an actor, in a condition that may not be ours to see.
pub(crate) fn of_process(pid: Option<u32>, condition: Option<Condition>) -> Found {
    match (pid, condition) {
        (Some(_), Some(condition)) => in_condition(condition),
        // Its end is on its way to whoever supervises it.
        (Some(pid), None) => {
            Found::error(format!("pid {pid} cannot be looked at: it has ended, or is not ours to see"))
        }
        (None, _) => Found::error("it has no process"),
    }
}

/// The same, of what is known already. A debugger may look.
pub(crate) fn in_condition(condition: Condition) -> Found {
    match condition {
        Condition::Halted => Found::fail("its main process is halted by a signal (SIGSTOP)"),
        Condition::Zombie => Found::fail("its main process is a zombie"),
        Condition::Runs | Condition::Traced => Found::pass("its main process runs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Grade;

    #[test]
    fn halted_and_dead_fail_and_a_debugger_may_look() {
        let grade = |state: char| of_process(Some(7), Some(Condition::of(state))).grade;
        assert_eq!(['R', 'S', 'D', 't', 'I'].map(grade), [Grade::Pass; 5]);
        assert_eq!(['T', 'Z', 'X'].map(grade), [Grade::Fail; 3]);
        assert_eq!(of_process(Some(7), None).grade, Grade::Error);
        assert_eq!(of_process(None, None).grade, Grade::Error);
    }
}
