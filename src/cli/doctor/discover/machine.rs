//! The machine as far as files tell of it: processes, and where files would be.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// What the kernel calls it.
    pub(super) name: String,
    /// Its arguments.
    pub(super) line: Vec<String>,
    /// The service of systemd that it runs in.
    pub(super) unit: Option<String>,
}

/// Where everything is looked for.
pub(super) struct Machine {
    /// Before every path; empty for this machine.
    root: PathBuf,
    /// The folder that one is in.
    pub(super) here: PathBuf,
    /// The folder of whoever asks.
    pub(super) home: Option<PathBuf>,
    pub(super) processes: Vec<Process>,
}

impl Machine {
    /// This one.
    pub(super) fn this() -> Self {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Self::below(Path::new("/"), here, std::env::var_os("HOME").map(PathBuf::from))
    }

    /// One whose files are all below this folder.
    pub(super) fn below(root: &Path, here: PathBuf, home: Option<PathBuf>) -> Self {
        let mut machine = Self { root: root.to_owned(), here, home, processes: Vec::new() };
        machine.processes = processes(&machine.path("/proc"));
        machine
    }

    /// Where that is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Files of a folder with such an ending, by name. Links are files here if what they lead to is one.
    pub(super) fn files(&self, folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let fits = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            endings.iter().any(|ending| name.ends_with(ending)) && path.is_file()
        };
        let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(fits).collect();
        found.sort();
        found
    }

    pub(super) fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.iter().find(|process| process.pid == pid)
    }

    /// Whether a runtime of regrow looks after it already, or it is one.
    pub(super) fn is_ours(&self, pid: u32) -> bool {
        let mut next = Some(pid);
        // No tree of processes is that deep; a loop of parents that changed meanwhile would be.
        for _ in 0..64 {
            let Some(process) = next.and_then(|pid| self.process(pid)) else { return false };
            if process.name == "regrow" {
                return true;
            }
            next = Some(process.parent).filter(|parent| *parent > 1);
        }
        false
    }

    /// Sockets that processes have open, by their number, and how many processes could not be looked into.
    pub(super) fn sockets(&self) -> (HashMap<u64, u32>, usize) {
        let (mut found, mut closed) = (HashMap::new(), 0);
        for process in &self.processes {
            let Ok(open) = fs::read_dir(self.path("/proc").join(format!("{}/fd", process.pid))) else {
                closed += 1;
                continue;
            };
            for link in open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()) {
                let text = link.to_string_lossy().into_owned();
                let number = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                let Some(number) = number.and_then(|number| number.parse().ok()) else { continue };
                let known = found.get(&number).copied();
                let inherited = known.and_then(|pid| self.process(pid)).map(|child| child.parent);
                // Whoever opened it; its children only inherited it.
                if known.is_none() || inherited == Some(process.pid) {
                    found.insert(number, process.pid);
                }
            }
        }
        (found, closed)
    }
}

/// Whether whoever asks may see everything.
pub(super) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn processes(proc: &Path) -> Vec<Process> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Process> = pids.filter_map(|pid| process(proc, pid)).collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// `None`: it is gone.
fn process(proc: &Path, pid: u32) -> Option<Process> {
    let folder = proc.join(pid.to_string());
    let stat = String::from_utf8_lossy(&fs::read(folder.join("stat")).ok()?).into_owned();
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let parent = after.split_whitespace().nth(1)?.parse().ok()?;
    let line = String::from_utf8_lossy(&fs::read(folder.join("cmdline")).unwrap_or_default()).into_owned();
    let line = line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let unit = fs::read_to_string(folder.join("cgroup")).ok().and_then(|text| unit(&text));
    Some(Process { pid, parent, name, line, unit })
}

/// The service in the lines of `/proc/PID/cgroup`, the innermost.
fn unit(cgroup: &str) -> Option<String> {
    let mut parts = cgroup.lines().flat_map(|line| line.split('/'));
    parts.rfind(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_the_cgroup() {
        let of = |text: &str| unit(text);
        assert_eq!(of("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        let user = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n";
        assert_eq!(of(user).as_deref(), Some("web.service"));
        assert_eq!(of("0::/\n"), None);
    }
}
