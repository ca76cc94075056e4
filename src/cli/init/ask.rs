//! The questions: at most five, each with the answer that Enter gives.

use std::io::{BufRead, Write};

use super::argv::Line;
use super::render::Draft;
use super::{Planned, Source};
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::table::{bold, dim, paint};

/// A command line of a person is shorter; what is longer was pasted by mistake.
const LONGEST: usize = 4096;

/// Commands that one question takes.
const MOST: usize = 100;

/// Asks what the flags have not said.
pub(super) fn ask(context: &mut Context, draft: &mut Draft, start: &mut bool) -> Result<(), Failure> {
    let questions = if *start { 4 } else { 5 };
    context.print(&format!(
        "{}\n{}\n\n",
        paint("regrow init", bold()),
        paint(
            &format!("{questions} questions; Enter takes what stands in brackets, Ctrl-C writes nothing."),
            dim()
        )
    ))?;
    let name = line(context, "1. What is all of this called?", &draft.name)?;
    draft.name = name;
    commands(context, draft)?;
    draft.restart_after_success =
        yes(context, "3. Start a worker again also when it ends well (exit code 0)?", true)?;
    let question = "4. Variables of this shell that they need, besides PATH and HOME?";
    let names = line(context, question, "none")?;
    draft.inherit_env = names
        .split([' ', ','])
        .filter(|name| !name.is_empty() && *name != "none")
        .map(str::to_owned)
        .collect();
    if !*start {
        *start = yes(context, "5. Start it now, in the background?", true)?;
    }
    context.print("\n")
}

/// Lines until an empty one; without any, what was found stays.
fn commands(context: &mut Context, draft: &mut Draft) -> Result<(), Failure> {
    context.print("2. What should be kept running? One command a line, an empty line ends.\n")?;
    let shown = if draft.workers.is_empty() {
        vec!["a demonstration that writes a line now and then".to_owned()]
    } else {
        draft.workers.iter().map(|worker| format!("{} ({})", worker.line.shown(), worker.source)).collect()
    };
    for one in shown {
        context.print(&paint(&format!("   [{}]\n", crate::cli::words::safe(&one)), dim()))?;
    }
    let mut given = Vec::new();
    while given.len() < MOST {
        let text = read(context, "   > ")?;
        if text.is_empty() {
            break;
        }
        let line = Line::of(&text);
        given.push(Planned { name: line.name(), line, source: Source::Answer });
    }
    if !given.is_empty() {
        draft.workers = given;
    }
    Ok(())
}

fn line(context: &mut Context, question: &str, usual: &str) -> Result<String, Failure> {
    let hint = paint(&format!("[{}]", crate::cli::words::safe(usual)), dim());
    let text = read(context, &format!("{question} {hint} "))?;
    Ok(if text.is_empty() { usual.to_owned() } else { text })
}

fn yes(context: &mut Context, question: &str, usual: bool) -> Result<bool, Failure> {
    let hint = paint(if usual { "[Y/n]" } else { "[y/N]" }, dim());
    loop {
        match read(context, &format!("{question} {hint} "))?.to_ascii_lowercase().as_str() {
            "" => return Ok(usual),
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => context.print("   y or n\n")?,
        }
    }
}

fn read(context: &mut Context, prompt: &str) -> Result<String, Failure> {
    context.print(prompt)?;
    context.out().flush()?;
    let mut text = String::new();
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot read the answer: {error}"));
    if std::io::stdin().lock().read_line(&mut text).map_err(failed)? == 0 {
        return Err(Failure::Failed("no answer: nothing was written".to_owned()));
    }
    if text.len() > LONGEST {
        return Err(Failure::Failed("that answer is too long: nothing was written".to_owned()));
    }
    Ok(text.trim().to_owned())
}
