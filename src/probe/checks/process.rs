//! The main process runs: no zombie, and not halted.

use crate::probe::{Found, Look, Patient, Probe};
use crate::telemetry::Condition;

/// Its state in `/proc`.
pub(in crate::probe) struct Process;

impl Probe for Process {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let Some(pid) = patient.pid() else { return Found::error("it has no process") };
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) => condition(&stat),
                // Its end is on its way to whoever supervises it.
                Err(error) => Found::error(format!("pid {pid} cannot be looked at: {error}")),
            }
        })
    }
}

/// What a line of `/proc/PID/stat` says.
fn condition(stat: &str) -> Found {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    match state {
        Some(state) => in_condition(Condition::of(state)),
        None => Found::error("its state cannot be read"),
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
        let grade = |state: &str| condition(&format!("7 (a) T (b) {state} 1 7")).grade;
        assert_eq!(["R", "S", "D", "t", "I"].map(grade), [Grade::Pass; 5]);
        assert_eq!(["T", "Z", "X"].map(grade), [Grade::Fail; 3]);
        assert_eq!(condition("").grade, Grade::Error);
    }
}
