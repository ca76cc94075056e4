//! The main process runs: no zombie, and not halted.

use crate::probe::{Found, Look, Patient, Probe};

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
pub(crate) fn condition(stat: &str) -> Found {
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    match state {
        Some('T') => Found::fail("its main process is halted by a signal (SIGSTOP)"),
        Some('Z' | 'X') => Found::fail("its main process is a zombie"),
        Some(_) => Found::pass("its main process runs"),
        None => Found::error("its state cannot be read"),
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
