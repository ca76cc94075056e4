//! `regrow run -- CMD`: one command under supervision, without a file.

use std::path::PathBuf;

use super::diagnostic::Diagnostics;
use super::load::load;
use super::settings::Settings;
use super::source::Sources;

impl Settings {
    /// Settings for one command: restarted until it ends well, or until the restart budget is spent; then the
    /// runtime ends too. It sees the caller's environment and writes to the caller's output; nothing listens,
    /// and the state goes to a directory of this process alone.
    ///
    /// # Errors
    /// [`Diagnostics`] if `argv` is empty or holds what no system call takes.
    pub fn for_command(argv: &[String]) -> Result<Self, Diagnostics> {
        let text = TEMPLATE
            .replace("@STATE@", &toml::Value::from(state_dir().to_string_lossy().as_ref()).to_string())
            .replace("@COMMAND@", &list(argv));
        let mut settings = load(&Sources::text(text))?.settings;
        settings.warnings.clear();
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
log = { to = "stdout" }
command = @COMMAND@
[http]
listen = ""
"#;

/// argv as TOML; braces are the command's own and no placeholders.
fn list(argv: &[String]) -> String {
    let items = argv.iter().map(|argument| toml::Value::from(argument.replace('{', "{{")));
    toml::Value::from(items.collect::<Vec<_>>()).to_string()
}

fn state_dir() -> PathBuf {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    base.join(format!("regrow-run-{}", std::process::id()))
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
