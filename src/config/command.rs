//! `regrow run -- CMD`: one command under supervision, without a file.

use std::path::PathBuf;
use std::sync::Arc;

use super::diagnostic::Diagnostics;
use super::load::load;
use super::settings::{LogTo, Settings, StderrTo};
use super::source::Sources;

/// How the folder of a `run` is called, before its pid.
pub(crate) const RUN_PREFIX: &str = "regrow-run-";

impl Settings {
    /// Settings for one command: restarted until it ends well, or until the restart budget is spent; then the
    /// runtime ends too. It sees the caller's environment; its output passes through to the caller's stdout and
    /// stderr; nothing listens, and the state goes to a directory of this process alone.
    ///
    /// # Errors
    /// [`Diagnostics`] if `argv` is empty or holds what no system call takes.
    pub fn for_command(argv: &[String]) -> Result<Self, Diagnostics> {
        let text = TEMPLATE
            .replace("@STATE@", &toml::Value::from(state_dir().to_string_lossy().as_ref()).to_string())
            .replace("@COMMAND@", &list(argv));
        let mut settings = load(&Sources::text(text))?.settings;
        settings.warnings.clear();
        for worker in &mut settings.workers {
            let log = &mut Arc::make_mut(worker).log;
            (log.to, log.max_line) = (LogTo::Through, u64::MAX);
            log.stderr = if one_place() { StderrTo::Merge } else { StderrTo::Separate };
        }
        Ok(settings)
    }
}

const TEMPLATE: &str = r#"
[runtime]
state_dir = @STATE@
[supervisor.root]
on_exhausted = "escalate"
auto_shutdown = "any_significant"
[worker.run]
restart = "transient"
significant = true
inherit_env = ["*"]
command = @COMMAND@
[http]
listen = ""
"#;

/// argv as TOML; braces are the command's own and no placeholders.
fn list(argv: &[String]) -> String {
    let items = argv.iter().map(|argument| toml::Value::from(argument.replace('{', "{{")));
    toml::Value::from(items.collect::<Vec<_>>()).to_string()
}

/// Whether stdout and stderr are the same, such as one terminal: then one stream keeps the order of what is written.
fn one_place() -> bool {
    let file = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let out = rustix::fs::fstat(rustix::stdio::stdout()).map(file);
    out.is_ok() && out == rustix::fs::fstat(rustix::stdio::stderr()).map(file)
}

fn state_dir() -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join(format!("{RUN_PREFIX}{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand;

    #[test]
    fn a_command_is_taken_as_it_is() {
        let argv: Vec<String> = ["awk", "{print $1} \"x\"\n'y'", "{worker}"].map(str::to_owned).into();
        let settings = Settings::for_command(&argv).unwrap();
        let worker = &settings.workers[0];
        let expanded: Vec<String> =
            worker.command.iter().map(|text| expand(text, |_| None).unwrap()).collect();
        assert_eq!(expanded, argv);
        assert_eq!(worker.inherit_env, ["*"]);
        assert_eq!(settings.http.listen, None);
    }

    #[test]
    fn no_command_is_an_error() {
        assert!(Settings::for_command(&[]).is_err());
    }
}
