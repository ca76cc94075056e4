//! A command's exit code, or a Nagios plugin's.

use std::sync::Arc;

use crate::config::{ExecFormat, WorkerSettings};
use crate::exit::signal_name;
use crate::health::Grade;
use crate::probe::{Found, Look, Patient, Probe};
use crate::worker::Ended;
use crate::worker::process::{Beside, ProcessHost};

/// Of its output, more is not kept: the first line is the message, and figures of a plugin fit many times.
const MOST: usize = 16 * 1024;

/// A command.
pub(in crate::probe) struct Exec {
    pub(in crate::probe) host: Arc<ProcessHost>,
    pub(in crate::probe) command: Vec<String>,
    pub(in crate::probe) format: ExecFormat,
}

impl Probe for Exec {
    fn look<'a>(&'a self, patient: &'a Patient) -> Look<'a> {
        Box::pin(async {
            let settings =
                WorkerSettings { command: self.command.clone(), ..WorkerSettings::clone(&patient.worker) };
            let apart = match patient.set_apart() {
                Ok(apart) => apart,
                Err(found) => return found,
            };
            let beside = Beside {
                instance: patient.instance.clone(),
                incarnation: patient.incarnation,
                settings,
                most: MOST,
                apart: Some(apart),
            };
            match self.host.run_beside(beside).await {
                Ok(ran) => judge(self.format, ran.ended, &ran.output),
                Err(failure) => Found::error(format!("cannot be run: {failure}")),
            }
        })
    }
}

fn judge(format: ExecFormat, ended: Ended, output: &str) -> Found {
    let first = output.lines().next().unwrap_or_default();
    let code = match ended {
        Ended::Code(code) => code,
        Ended::Signal(signal) | Ended::Core(signal) => {
            return Found::error(format!("ended by signal {}", signal_name(signal)));
        }
    };
    let grade = match (format, code) {
        (_, 0) => Grade::Pass,
        (_, 126 | 127) => Grade::Error,
        (ExecFormat::Plain, _) => Grade::Fail,
        (ExecFormat::Nagios, 1) => Grade::Warn,
        (ExecFormat::Nagios, 2) => Grade::Fail,
        (ExecFormat::Nagios, _) => Grade::Error,
    };
    let (words, figures) = match format {
        ExecFormat::Plain => (first, ""),
        ExecFormat::Nagios => first.split_once('|').unwrap_or((first, "")),
    };
    let words = if words.trim().is_empty() { format!("exit code {code}") } else { words.trim().to_owned() };
    figures_of(figures).fold(Found::new(grade, words), |found, (name, value)| found.with(name, value))
}

/// `'label'=value[unit];warn;crit;min;max`, any number.
fn figures_of(text: &str) -> impl Iterator<Item = (String, f64)> + '_ {
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (label, after) = match rest.strip_prefix('\'') {
                Some(quoted) => {
                    let (label, after) = quoted.split_once("'=")?;
                    (label, after)
                }
                None => rest.split_once('=')?,
            };
            let end = after.find(char::is_whitespace).unwrap_or(after.len());
            let (value, next) = after.split_at(end);
            rest = next.trim_start();
            let value = value.split(';').next().unwrap_or_default();
            let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
            if let Some(number) = number.parse::<f64>().ok().filter(|number| number.is_finite()) {
                return Some((label.trim().to_owned(), number));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(code: i32) -> Grade {
        judge(ExecFormat::Plain, Ended::Code(code), "").grade
    }

    fn nagios(code: i32) -> Grade {
        judge(ExecFormat::Nagios, Ended::Code(code), "").grade
    }

    #[test]
    fn codes_mean_what_the_contract_says() {
        assert_eq!([0, 1, 2, 3, 126, 127].map(plain), {
            use Grade::{Error, Fail, Pass};
            [Pass, Fail, Fail, Fail, Error, Error]
        });
        assert_eq!([0, 1, 2, 3, 126, 127].map(nagios), {
            use Grade::{Error, Fail, Pass, Warn};
            [Pass, Warn, Fail, Error, Error, Error]
        });
        assert_eq!(judge(ExecFormat::Plain, Ended::Signal(9), "").grade, Grade::Error);
    }

    #[test]
    fn a_plugins_line_gives_words_and_figures() {
        let line = "DISK WARNING - /var 12% | '/var used'=7.5GB;8;9;0;10 inodes=42%;; bad=x load1=0.25\nmore";
        let found = judge(ExecFormat::Nagios, Ended::Code(1), line);
        assert_eq!(found.message, "DISK WARNING - /var 12%");
        let figures = [("/var used", 7.5), ("inodes", 42.0), ("load1", 0.25)];
        assert_eq!(found.metrics, figures.map(|(name, value)| (name.to_owned(), value)));
        let plain = judge(ExecFormat::Plain, Ended::Code(1), "a | b=1");
        assert_eq!((plain.message.as_str(), plain.metrics.len()), ("a | b=1", 0));
        assert_eq!(judge(ExecFormat::Plain, Ended::Code(7), "").message, "exit code 7");
    }

    proptest! {
        #[test]
        fn any_output_is_survived(text in any::<String>()) {
            let found = judge(ExecFormat::Nagios, Ended::Code(0), &text);
            prop_assert!(found.metrics.len() <= 32 && !found.message.chars().any(char::is_control));
        }
    }
}
