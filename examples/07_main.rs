//! Lesson 7: `main()`. Your program is a `regrow` of its own: the whole command line, with your workers in it. Called
//! without arguments, this one shows that on itself.
//!
//! ```text
//! cargo run --example 07_main
//! cargo run --example 07_main -- --help
//! ```

#![expect(clippy::print_stdout, reason = "a lesson shows what happens")]

use std::path::Path;
use std::process::{Command, ExitCode};

use regrow::{Context, Restored, Runtime, Worker, WorkerError};
use serde::Deserialize;

/// What `[worker.greeter] config` may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    greeting: String,
}

struct Greeter;

impl Worker for Greeter {
    type Config = Config;
    type State = ();
    type Message = ();

    async fn start(_: Context<Self>, config: Config, _: Restored<()>) -> Result<Self, WorkerError> {
        if config.greeting.is_empty() {
            Err("there is nothing to say")?;
        }
        // Seen where the program runs in the foreground; what one in the background prints goes nowhere.
        println!("{}", config.greeting);
        Ok(Self)
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    if std::env::args_os().len() > 1 {
        return Ok(Runtime::builder().worker::<Greeter>("Greeter").main());
    }
    let dir = std::env::temp_dir().join(format!("regrow-lesson-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let file = dir.join("regrow.toml");
    let head = format!("[runtime]\nstate_dir = {:?}\n[http]\nlisten = \"\"\n", dir.join("state"));
    let worker = "[worker.greeter]\nactor = \"Greeter\"\nconfig.greeting = \"hello\"\n";
    std::fs::write(&file, format!("{head}{}", worker.replace("greeting =", "greting =")))?;
    show(&file, &["check"])?;
    std::fs::write(&file, format!("{head}{worker}"))?;
    show(&file, &["check"])?;
    show(&file, &["start", "--daemon"])?;
    show(&file, &["wait", "greeter", "--for", "ready"])?;
    show(&file, &["status", "-o", "name"])?;
    show(&file, &["restart", "greeter", "--wait=60s"])?;
    show(&file, &["is-active", "greeter"])?;
    show(&file, &["shutdown", "--wait=60s"])?;
    show(&file, &["is-active", "greeter"])?;
    // The daemon may still be closing the last file.
    while dir.exists() && std::fs::remove_dir_all(&dir).is_err() {}
    Ok(ExitCode::SUCCESS)
}

/// Calls this very program with these arguments, and shows its exit code and the names that it printed.
fn show(file: &Path, arguments: &[&str]) -> std::io::Result<()> {
    let out = Command::new(std::env::current_exe()?).arg("-c").arg(file).args(arguments).output()?;
    println!("{}: exit code {}", arguments.join(" "), out.status.code().unwrap_or(-1));
    if arguments.contains(&"name") {
        print!("{}", String::from_utf8_lossy(&out.stdout));
    }
    Ok(())
}
