//! What other managers of processes have here: units, configurations, daemons.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::machine::{Machine, Process};
use super::{Find, Kind};

/// Where units are, the first place wins; those of the first two were made on this machine.
const UNITS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/etc/systemd/user",
];

/// Services that make the machine what it is, by the beginnings of their names: they stay where they are.
const OF_THE_MACHINE: [&str; 20] = [
    "systemd-",
    "user@",
    "dbus",
    "getty",
    "serial-getty",
    "ssh",
    "cron",
    "atd",
    "polkit",
    "udev",
    "rsyslog",
    "NetworkManager",
    "networkd",
    "wpa_supplicant",
    "ModemManager",
    "accounts-daemon",
    "snapd",
    "chrony",
    "containerd",
    "docker",
];

/// Where supervisord and its parts are configured.
const SUPERVISORD: [&str; 2] = ["/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"];
const SUPERVISORD_PARTS: [&str; 3] = ["/etc/supervisor/conf.d", "/etc/supervisord.d", "/etc/supervisor.d"];

/// What PM2 reads in a project.
const ECOSYSTEMS: [&str; 7] = [
    "ecosystem.config.js",
    "ecosystem.config.cjs",
    "ecosystem.config.mjs",
    "ecosystem.json",
    "ecosystem.yml",
    "ecosystem.yaml",
    "pm2.json",
];

const PROCFILES: [&str; 2] = ["Procfile", "Procfile.dev"];

/// Who else runs a Procfile.
const RUNNERS: [&str; 4] = ["foreman", "honcho", "overmind", "hivemind"];

pub(super) fn look(machine: &Machine, notes: &mut Vec<String>) -> Vec<Find> {
    let mut found = units(machine, notes);
    found.extend(supervisord(machine));
    found.extend(pm2(machine));
    found.extend(procfiles(machine));
    found
}

/// Services that run, and those that were made on this machine.
fn units(machine: &Machine, notes: &mut Vec<String>) -> Vec<Find> {
    let mut running: BTreeMap<String, u32> = BTreeMap::new();
    for process in &machine.processes {
        if let Some(unit) = &process.unit {
            // Its processes are in the order of their numbers; the first is hardly ever the child of another.
            running.entry(unit.clone()).or_insert(process.pid);
        }
    }
    let mut known: BTreeMap<String, (PathBuf, Option<u32>)> = BTreeMap::new();
    let mut of_the_machine = 0;
    for name in running.keys() {
        if OF_THE_MACHINE.iter().any(|beginning| name.starts_with(beginning)) {
            of_the_machine += 1;
        } else if let Some(file) = unit_file(machine, name) {
            known.insert(name.clone(), (file, running.get(name).copied()));
        }
    }
    for folder in &UNITS[..1] {
        for file in machine.files(&machine.path(folder), &[".service"]) {
            // A link is only switched on here; it was made elsewhere.
            if std::fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_symlink()) {
                continue;
            }
            let name = name_of(&file);
            if !OF_THE_MACHINE.iter().any(|beginning| name.starts_with(beginning)) {
                known.entry(name).or_insert((file, None));
            }
        }
    }
    if of_the_machine > 0 {
        notes.push(format!(
            "{of_the_machine} more services of systemd belong to the machine itself and are left out."
        ));
    }
    let told = known.into_iter().map(|(name, (file, pid))| Find {
        kind: Kind::Systemd,
        message: match pid {
            Some(_) => format!("runs, from {}", file.display()),
            None => format!("does not run, {}", file.display()),
        },
        import: Some(import(&[file])),
        name,
        pid,
        probe: None,
    });
    told.collect()
}

/// The file of a unit; an instance `a@1.service` is made of `a@.service`.
fn unit_file(machine: &Machine, name: &str) -> Option<PathBuf> {
    let template = name.split_once('@').map(|(before, _)| format!("{before}@.service"));
    let names = [Some(name.to_owned()), template];
    let places = names.iter().flatten().flat_map(|name| UNITS.map(|folder| machine.path(folder).join(name)));
    places.into_iter().find(|file| file.is_file())
}

fn supervisord(machine: &Machine) -> Vec<Find> {
    let mut files: Vec<PathBuf> =
        SUPERVISORD.map(|file| machine.path(file)).into_iter().filter(|file| file.is_file()).collect();
    for folder in SUPERVISORD_PARTS {
        files.extend(machine.files(&machine.path(folder), &[".conf", ".ini"]));
    }
    let daemon = machine.processes.iter().find(|process| runs(process, "supervisord"));
    let named = daemon.and_then(|daemon| option(&daemon.line, &["-c", "--configuration"]));
    if let Some(file) = named.map(PathBuf::from).filter(|file| file.is_absolute() && !files.contains(file)) {
        files.insert(0, file);
    }
    let state = match daemon {
        Some(_) => "supervisord runs",
        None => "supervisord does not run",
    };
    files
        .iter()
        .map(|file| Find {
            kind: Kind::Supervisord,
            name: file.display().to_string(),
            pid: daemon.map(|daemon| daemon.pid),
            message: state.to_owned(),
            import: Some(import(std::slice::from_ref(file))),
            probe: None,
        })
        .collect()
}

fn pm2(machine: &Machine) -> Vec<Find> {
    let mut found = Vec::new();
    for process in machine.processes.iter().filter(|process| {
        process.line.first().is_some_and(|first| first.starts_with("PM2 ") && first.contains("God Daemon"))
    }) {
        found.push(Find {
            kind: Kind::Pm2,
            name: "PM2's daemon".to_owned(),
            pid: Some(process.pid),
            message: "runs; `regrow import` reads the ecosystem file that its programs were started from"
                .to_owned(),
            import: None,
            probe: None,
        });
    }
    let dump = machine.home.as_ref().map(|home| home.join(".pm2/dump.pm2")).filter(|dump| dump.is_file());
    if let Some(dump) = dump {
        found.push(Find {
            kind: Kind::Pm2,
            name: dump.display().to_string(),
            pid: None,
            message: "what `pm2 save` kept; `pm2 ecosystem` writes a file that can be imported".to_owned(),
            import: None,
            probe: None,
        });
    }
    for file in here(machine, &ECOSYSTEMS) {
        found.push(project(Kind::Pm2, &file, "an ecosystem file of PM2"));
    }
    found
}

fn procfiles(machine: &Machine) -> Vec<Find> {
    let runner = RUNNERS.into_iter().find(|name| machine.processes.iter().any(|process| runs(process, name)));
    let what = runner
        .map_or_else(|| "a Procfile".to_owned(), |name| format!("a Procfile; {name} runs on this machine"));
    here(machine, &PROCFILES).iter().map(|file| project(Kind::Procfile, file, &what)).collect()
}

fn project(kind: Kind, file: &Path, what: &str) -> Find {
    Find {
        kind,
        name: name_of(file),
        pid: None,
        message: format!("{what}, in this folder"),
        import: Some(import(&[PathBuf::from(name_of(file))])),
        probe: None,
    }
}

/// Those of these files that are in the folder one is in.
fn here(machine: &Machine, names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| machine.here.join(name)).filter(|file| file.is_file()).collect()
}

fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The command that reads it.
fn import(files: &[PathBuf]) -> String {
    let quoted = files.iter().map(|file| {
        let text = file.display().to_string();
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-@+:".contains(c));
        if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
    });
    format!("regrow import {}", quoted.collect::<Vec<_>>().join(" "))
}

/// Whether it is that program, also as a script of an interpreter.
fn runs(process: &Process, program: &str) -> bool {
    let is = |word: &String| word.rsplit('/').next() == Some(program);
    process.line.iter().take(2).any(is)
}

/// The value of an option.
fn option(line: &[String], names: &[&str]) -> Option<String> {
    for (at, word) in line.iter().enumerate() {
        if names.contains(&word.as_str()) {
            return line.get(at + 1).cloned();
        }
        let value = names.iter().find_map(|name| word.strip_prefix(&format!("{name}=")));
        if let Some(value) = value {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, name and process of each.
    type Short = Vec<(Kind, String, Option<u32>)>;

    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn process(&self, pid: u32, line: &str, cgroup: &str) {
            self.file(&format!("proc/{pid}/stat"), &format!("{pid} (it) S 1 1 1"));
            self.file(&format!("proc/{pid}/cmdline"), &line.replace('|', "\0"));
            self.file(&format!("proc/{pid}/cgroup"), cgroup);
        }

        fn look(&self) -> (Short, Vec<String>) {
            let root = self.0.path();
            let machine = Machine::below(root, root.join("srv/shop"), Some(root.join("home/ann")));
            let mut notes = Vec::new();
            let found = super::look(&machine, &mut notes);
            let short = |text: &str| text.replace(&root.display().to_string(), "");
            let imports = found.iter().filter_map(|find| find.import.as_deref()).map(short).collect();
            notes.extend::<Vec<String>>(imports);
            (found.iter().map(|find| (find.kind, short(&find.name), find.pid)).collect(), notes)
        }
    }

    #[test]
    fn an_empty_machine_has_nothing() {
        assert_eq!(Fake::new().look(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn each_manager_is_known_by_what_it_leaves() {
        let fake = Fake::new();
        fake.file("usr/lib/systemd/system/nginx.service", "[Service]");
        fake.file("usr/lib/systemd/system/app@.service", "[Service]");
        fake.file("usr/lib/systemd/system/idle.service", "[Service]");
        fake.file("etc/systemd/system/shop.service", "[Service]");
        fake.process(10, "nginx: master", "0::/system.slice/nginx.service\n");
        fake.process(11, "nginx: worker", "0::/system.slice/nginx.service\n");
        fake.process(12, "/app|1", "0::/system.slice/system-app.slice/app@1.service\n");
        fake.process(13, "/lib/systemd/systemd-journald", "0::/system.slice/systemd-journald.service\n");
        fake.process(20, "/usr/bin/python3|/usr/bin/supervisord|-n|-c|/opt/own.conf", "0::/\n");
        fake.process(21, "PM2 v5.3.0: God Daemon (/home/ann/.pm2)", "0::/\n");
        fake.file("etc/supervisor/conf.d/web.conf", "[program:web]");
        fake.file("srv/shop/ecosystem.config.js", "module.exports = {}");
        fake.file("srv/shop/Procfile", "web: ./web");
        fake.file("home/ann/.pm2/dump.pm2", "[]");
        let (found, notes) = fake.look();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            found,
            [
                (Kind::Systemd, text("app@1.service"), Some(12)),
                (Kind::Systemd, text("nginx.service"), Some(10)),
                (Kind::Systemd, text("shop.service"), None),
                (Kind::Supervisord, text("/opt/own.conf"), Some(20)),
                (Kind::Supervisord, text("/etc/supervisor/conf.d/web.conf"), Some(20)),
                (Kind::Pm2, text("PM2's daemon"), Some(21)),
                (Kind::Pm2, text("/home/ann/.pm2/dump.pm2"), None),
                (Kind::Pm2, text("ecosystem.config.js"), None),
                (Kind::Procfile, text("Procfile"), None),
            ],
            "a service of the machine and one that only came along are left out"
        );
        assert!(notes[0].contains("1 more services of systemd belong to the machine"), "{notes:?}");
        assert!(notes.contains(&text("regrow import /usr/lib/systemd/system/app@.service")), "{notes:?}");
        assert!(notes.contains(&text("regrow import Procfile")), "{notes:?}");
    }

    #[test]
    fn odd_names_are_quoted() {
        assert_eq!(import(&["/a b/it's.conf".into()]), "regrow import '/a b/it'\\''s.conf'");
    }
}
