//! Who listens, and which probe would look at it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::machine::{Machine, Process, is_root};
use super::{Find, Kind};

/// What `/proc/net/tcp` calls a socket that listens.
const LISTENS: &str = "0A";

/// Ports that belong to the machine and to nobody's worker: logins, names, mail, printing.
const OF_THE_MACHINE: [u16; 6] = [22, 25, 53, 111, 631, 5355];

pub(super) fn look(machine: &Machine, notes: &mut Vec<String>) -> Vec<Find> {
    let mut listening: BTreeMap<(u16, String), u64> = BTreeMap::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = fs::read_to_string(machine.path(file)) else { continue };
        for (address, socket) in text.lines().skip(1).filter_map(listens) {
            listening.entry((address.port(), address.to_string())).or_insert(socket);
        }
    }
    let (sockets, closed) = machine.sockets();
    let (mut found, mut of_the_machine, mut ours, mut strangers) = (Vec::new(), 0, 0, 0);
    for ((port, address), socket) in listening {
        let owner = sockets.get(&socket).and_then(|pid| machine.process(*pid));
        if OF_THE_MACHINE.contains(&port) {
            of_the_machine += 1;
        } else if owner.is_some_and(|owner| machine.is_ours(owner.pid)) {
            ours += 1;
        } else if let Some(owner) = owner {
            found.push(find(&address, owner));
        } else {
            strangers += 1;
            found.push(unknown(&address));
        }
    }
    if ours > 0 {
        notes.push(format!("{ours} more ports belong to a runtime of regrow and its workers."));
    }
    if of_the_machine > 0 {
        notes.push(format!(
            "{of_the_machine} more ports belong to the machine (logins, names, mail) and are left out."
        ));
    }
    if strangers > 0 && closed > 0 && !is_root() {
        notes.push(
            "Whose ports those without a process are, only root can see: sudo regrow doctor --discover"
                .to_owned(),
        );
    }
    found
}

fn find(address: &str, owner: &Process) -> Find {
    let whose = match &owner.unit {
        Some(unit) => format!("of {unit}"),
        None => "of no service".to_owned(),
    };
    Find {
        kind: Kind::Port,
        name: address.to_owned(),
        pid: Some(owner.pid),
        message: format!("{}, {whose}", program(owner)),
        import: None,
        probe: Some(probe(address)),
    }
}

fn unknown(address: &str) -> Find {
    Find {
        kind: Kind::Port,
        name: address.to_owned(),
        pid: None,
        message: "a process that cannot be seen from here".to_owned(),
        import: None,
        probe: Some(probe(address)),
    }
}

/// Its program and first argument, without the rest: there may be secrets in it.
fn program(process: &Process) -> String {
    let base = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let script = process.line.get(1).filter(|word| !word.starts_with('-') && !word.contains('='));
    match (process.line.first(), script) {
        (Some(first), Some(script)) => format!("{} {}", base(first), base(script)),
        (Some(first), None) => base(first),
        (None, _) => process.name.clone(),
    }
}

/// What listens everywhere is asked here.
fn probe(address: &str) -> String {
    let here = match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let loopback = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            SocketAddr::new(loopback, address.port()).to_string()
        }
        Ok(_) | Err(_) => address.to_owned(),
    };
    format!(
        "probe.port.tcp = \"{here}\"    # or probe.alive.http.url = \"http://{here}/…\" if it speaks HTTP"
    )
}

/// The address and the socket of a line of `/proc/net/tcp`, if it listens.
fn listens(line: &str) -> Option<(SocketAddr, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    if *words.get(3)? != LISTENS {
        return None;
    }
    let (ip, port) = words.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each group of eight digits is a number in the order of this machine.
    let groups = ip.as_bytes().chunks(8).map(|group| {
        let text = std::str::from_utf8(group).ok()?;
        Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
    });
    let bytes: Vec<u8> = groups.collect::<Option<Vec<_>>>()?.concat();
    let ip = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some((SocketAddr::new(ip, port), words.get(9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_an_address_and_a_socket() {
        let number = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let line = |ip: &str, state: &str| {
            format!(
                "   0: {ip}:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0"
            )
        };
        let four = number([127, 0, 0, 1]);
        let told = listens(&line(&four, "0A")).map(|(address, socket)| (address.to_string(), socket));
        assert_eq!(told, Some(("127.0.0.1:8080".to_owned(), 4711)));
        assert_eq!(listens(&line(&four, "01")), None, "a connection listens for nobody");
        let six = [[0; 4], [0; 4], [0; 4], [0, 0, 0, 1]].map(number).concat();
        let told = listens(&line(&six, "0A")).map(|(address, _)| address.to_string());
        assert_eq!(told.as_deref(), Some("[::1]:8080"));
        assert_eq!(listens("nonsense"), None);
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        assert!(probe("0.0.0.0:80").starts_with("probe.port.tcp = \"127.0.0.1:80\""));
        assert!(probe("[::]:80").starts_with("probe.port.tcp = \"[::1]:80\""));
        assert!(probe("10.0.0.7:80").starts_with("probe.port.tcp = \"10.0.0.7:80\""));
    }

    #[test]
    fn a_program_is_told_without_its_secrets() {
        let line = |words: &[&str]| Process {
            pid: 2,
            parent: 1,
            name: "python3".to_owned(),
            line: words.iter().map(|word| (*word).to_owned()).collect(),
            unit: None,
        };
        assert_eq!(program(&line(&["/usr/bin/python3", "/srv/app.py", "--key=x"])), "python3 app.py");
        assert_eq!(program(&line(&["/usr/bin/redis-server", "--requirepass", "x"])), "redis-server");
        assert_eq!(program(&line(&["/app", "TOKEN=x"])), "app");
        assert_eq!(program(&line(&[])), "python3");
    }
}
