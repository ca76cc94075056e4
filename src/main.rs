//! The `regrow` program: everything is in the library's `cli`.

fn main() -> std::process::ExitCode {
    regrow::cli::main()
}
