//! Broken configurations and what is said about them: `tests/it/config/NAME.toml` against `NAME.txt`.
//!
//! After a wanted change, `REGROW_ACCEPT=1 cargo test config_errors` writes the new texts; read the diff.

use std::path::Path;

use regrow::config::{Sources, load};

#[test]
fn every_broken_file_is_explained_as_promised() {
    let folder = Path::new("tests/it/config");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let accept = std::env::var_os("REGROW_ACCEPT").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let found = match load(&Sources { file: Some(file.clone()), ..Sources::default() }) {
            Ok(_) => "no problems\n".to_owned(),
            Err(diagnostics) => format!("{}\n", diagnostics.render(false)),
        };
        let expected = file.with_extension("txt");
        if accept {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("--- {}\n{found}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
