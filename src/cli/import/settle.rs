//! What is written passes `check`: a setting that it would refuse becomes a comment, with the check's own reason.

use crate::config::{Diagnostics, Sources, load};

use super::form::Form;
use super::render::{Spot, Written, render};

/// The file, once nothing in it is refused.
///
/// # Errors
/// The problems, if they belong to no line of it.
pub(super) fn settle(form: &mut Form, heading: &[String]) -> Result<String, Diagnostics> {
    loop {
        let written = render(form, heading);
        let problems = match load(&Sources::text(written.text.as_str())) {
            Ok(_) => return Ok(written.text),
            Err(problems) => problems,
        };
        // Each round takes away at least one, so there is an end.
        if !refuse(form, &written, &problems) {
            return Err(problems);
        }
    }
}

/// Takes out what has a problem. Tables go only when no setting does: their problem may come from one.
fn refuse(form: &mut Form, written: &Written, problems: &Diagnostics) -> bool {
    let spot = |line: Option<usize>| *written.spots.get(line?.checked_sub(1)?)?;
    let found: Vec<(Spot, String)> = problems
        .problems()
        .into_iter()
        .filter_map(|problem| {
            // Only keys that regrow is to have are ever written.
            if problem.message.starts_with("unknown key") {
                return Some((spot(problem.line)?, "this build has no such key yet".to_owned()));
            }
            let help = problem.help.first().map(|help| format!("; {help}")).unwrap_or_default();
            Some((spot(problem.line)?, format!("{}{help}", problem.message)))
        })
        .collect();
    let mut any = false;
    for (spot, reason) in &found {
        if let Spot::Setting { section, entry, setting } = *spot {
            form.sections[section].entries[entry].sets[setting].refused = Some(reason.clone());
            any = true;
        }
    }
    for (spot, reason) in found.iter().filter(|_| !any) {
        if let Spot::Section(section) = *spot {
            form.sections[section].refused = Some(reason.clone());
        }
    }
    any || found.iter().any(|(spot, _)| matches!(spot, Spot::Section(_)))
}
