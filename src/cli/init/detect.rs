//! What a project says by itself about how it is run. Only files that name their command count.

use std::path::Path;

use serde_json::Value;

use super::argv::Line;
use super::procfile;
use super::{Planned, Source};
use crate::cli::failure::Failure;

/// A project's description is small; what is larger is something else.
const LARGEST: u64 = 1 << 20;

/// The workers of the project in this folder, if it is one. A Procfile says all there is to say.
pub(super) fn look(folder: &Path) -> Result<Vec<Planned>, Failure> {
    let procfile = text(folder, "Procfile").map(|text| procfile::commands(&text, "Procfile")).transpose()?;
    if let Some(procfile) = procfile.filter(|found| !found.is_empty()) {
        return Ok(procfile);
    }
    Ok([node(folder), django(folder), cargo(folder)].into_iter().flatten().collect())
}

/// A name for the runtime: the folder's.
pub(super) fn name_of(folder: &Path) -> String {
    let full = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String =
        name.chars().filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER).take(60).collect();
    if plain.trim().is_empty() { "regrow".to_owned() } else { plain }
}

fn node(folder: &Path) -> Option<Planned> {
    let package: Value = serde_json::from_str(&text(folder, "package.json")?).ok()?;
    package.get("scripts")?.get("start")?.as_str()?;
    let name = package.get("name").and_then(Value::as_str).unwrap_or("web").to_owned();
    Some(Planned {
        name,
        line: Line::words(["npm", "start"]),
        source: Source::Found("package.json, its script `start`".to_owned()),
    })
}

fn django(folder: &Path) -> Option<Planned> {
    let is_django = text(folder, "manage.py")?.contains("DJANGO_SETTINGS_MODULE");
    // Without --noreload it would restart itself, behind regrow's back.
    let line = Line::words(["python3", "manage.py", "runserver", "--noreload"]);
    is_django.then(|| Planned {
        name: "web".to_owned(),
        line,
        source: Source::Found("manage.py of Django".to_owned()),
    })
}

fn cargo(folder: &Path) -> Option<Planned> {
    let manifest: toml::Table = toml::from_str(&text(folder, "Cargo.toml")?).ok()?;
    let package = manifest.get("package")?.get("name")?.as_str()?.to_owned();
    if !folder.join("src/main.rs").is_file() {
        return None;
    }
    let built = format!("target/release/{package}");
    let line = if folder.join(&built).is_file() {
        Line::words([format!("./{built}").as_str()])
    } else {
        Line::words(["cargo", "run", "--release", "--quiet"])
    };
    Some(Planned { name: package, line, source: Source::Found("Cargo.toml".to_owned()) })
}

fn text(folder: &Path, name: &str) -> Option<String> {
    let path = folder.join(name);
    let meta = std::fs::metadata(&path).ok()?;
    if !meta.is_file() || meta.len() > LARGEST {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn shown(folder: &Path) -> Vec<(String, String)> {
        look(folder).unwrap().into_iter().map(|one| (one.name, one.line.shown())).collect()
    }

    #[test]
    fn the_name_is_that_of_the_folder_as_far_as_it_is_text() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, name) in
            [(b"shop".as_slice(), "shop"), (b"caf\xe9\n 2", "caf 2"), (b"\xff\xfe", "regrow")]
        {
            let folder = dir.path().join(std::ffi::OsStr::from_bytes(folder));
            std::fs::create_dir(&folder).unwrap();
            assert_eq!(name_of(&folder), name);
        }
    }

    #[test]
    fn each_kind_of_project_is_known_by_the_file_that_names_its_command() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert_eq!(shown(dir.path()), []);
        write("package.json", r#"{ "name": "shop", "scripts": { "test": "jest" } }"#);
        write("manage.py", "print('not Django')");
        write("Cargo.toml", "[package]\nname = \"tool\"\n");
        assert_eq!(shown(dir.path()), [], "no start script, no Django, no program");
        write("package.json", r#"{ "name": "shop", "scripts": { "start": "node ." } }"#);
        write("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'x')");
        std::fs::create_dir(dir.path().join("src")).unwrap();
        write("src/main.rs", "fn main() {}");
        let names: Vec<_> = shown(dir.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["shop", "web", "tool"]);
        write("Procfile", "api: ./api\n");
        assert_eq!(shown(dir.path()), [("api".to_owned(), "./api".to_owned())]);
    }
}
