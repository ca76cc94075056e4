//! What is written, and does not hold as it is written.

use std::net::SocketAddr;

use crate::units::format_duration;

use super::isolation::OURS;
use super::settings::{Settings, SupervisorSettings, WorkerSettings};

/// Hints that do not hinder a start.
pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let supervisors = settings.supervisors.iter().filter_map(|one| raised_retry(one));
    let names = settings.workers.iter().flat_map(|worker| given_names(worker));
    let own = [("http.listen", settings.http.listen), ("http.probe_listen", settings.http.probe_listen)];
    let taken = settings
        .workers
        .iter()
        .flat_map(|worker| own.iter().filter_map(|(key, address)| own_port(worker, key, (*address)?)));
    supervisors.chain(names).chain(taken).collect()
}

/// A ceiling below the first wait.
fn raised_retry(supervisor: &SupervisorSettings) -> Option<String> {
    let retry = supervisor.retry.filter(|retry| retry.every < retry.first)?;
    Some(format!(
        "supervisor `{}`: retry_every ({}) is below retry_first ({}), so every wait is the latter",
        supervisor.name,
        format_duration(retry.every),
        format_duration(retry.first)
    ))
}

/// Variables that regrow itself sets.
fn given_names(worker: &WorkerSettings) -> Vec<String> {
    let told = |key: String| {
        format!("worker `{}`: {key} has no effect: regrow sets this variable itself", worker.name)
    };
    let ours = |name: &str| OURS.contains(&name);
    let given = worker.env.keys().filter(|name| ours(name)).map(|name| told(format!("env.{name}")));
    let passed = worker.inherit_env.iter().filter(|name| ours(name));
    given.chain(passed.map(|name| told(format!("`{name}` in inherit_env")))).collect()
}

/// A port on which regrow itself answers: it is there first.
fn own_port(worker: &WorkerSettings, key: &str, own: SocketAddr) -> Option<String> {
    let base = worker.port.filter(|_| own.port() != 0)?;
    let last = u32::from(base).saturating_add(worker.most().saturating_sub(1));
    (u32::from(base)..=last).contains(&u32::from(own.port())).then(|| {
        format!(
            "worker `{}` has port {}, on which regrow itself answers ({key}): move one of the two",
            worker.name,
            own.port()
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    fn warned(text: &str) -> Vec<String> {
        load(&Sources::text(text)).unwrap_or_else(|problems| panic!("{problems}")).settings.warnings
    }

    #[test]
    fn a_ceiling_below_the_first_wait_is_told() {
        let text = |every: &str| {
            format!(
                "[supervisor.root]\nretry_first = \"30s\"\nretry_every = \"{every}\"\n[worker.a]\ncommand = [\"x\"]\n"
            )
        };
        assert_eq!(
            warned(&text("10s")),
            ["supervisor `root`: retry_every (10s) is below retry_first (30s), so every wait is the latter"]
        );
        assert_eq!(warned(&text("30s")), Vec::<String>::new());
    }

    #[test]
    fn a_variable_that_regrow_sets_itself_is_told() {
        let text = "[worker.a]\ncommand = [\"x\"]\nenv = { REGROW_TOKEN = \"x\", REGROW_MINE = \"y\" }\n\
            inherit_env = [\"NOTIFY_SOCKET\"]\n";
        assert_eq!(
            warned(text),
            [
                "worker `a`: env.REGROW_TOKEN has no effect: regrow sets this variable itself",
                "worker `a`: `NOTIFY_SOCKET` in inherit_env has no effect: regrow sets this variable itself",
            ]
        );
    }

    #[test]
    fn a_port_of_regrows_own_is_told() {
        let text = |http: &str| {
            format!("[http]\n{http}\n[worker.a]\ncommand = [\"x\"]\nport.base = 8079\ninstances = 2\n")
        };
        assert_eq!(
            warned(&text("")),
            ["worker `a` has port 8080, on which regrow itself answers (http.listen): move one of the two"]
        );
        assert_eq!(warned(&text("listen = \"\"")), Vec::<String>::new());
        let pool = text("").replace("instances = 2", "pool = { max = 2 }");
        assert_eq!(warned(&pool).len(), 1, "a step may make one more of it");
        assert_eq!(warned(&text("listen = \"\"\nprobe_listen = \"0.0.0.0:8079\"")).len(), 1);
    }

    #[test]
    fn one_port_for_both_addresses_is_refused() {
        let text = |listen: &str, probes: &str| {
            format!(
                "[http]\nlisten = \"{listen}\"\nprobe_listen = \"{probes}\"\n[worker.a]\ncommand = [\"x\"]\n"
            )
        };
        for (listen, probes) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("127.0.0.1:9000", "0.0.0.0:9000"),
            ("127.0.0.1:9000", "[::]:9000"),
            ("[::1]:9000", "[::]:9000"),
        ] {
            let said = load(&Sources::text(text(listen, probes))).unwrap_err().to_string();
            assert!(said.contains("give this one another port"), "{said}");
        }
        for (listen, probes) in [
            ("127.0.0.1:9000", "0.0.0.0:9001"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("127.0.0.1:9000", "127.0.0.2:9000"),
            ("[::1]:9000", "0.0.0.0:9000"),
            ("[::1]:9000", "127.0.0.1:9000"),
        ] {
            assert!(load(&Sources::text(text(listen, probes))).is_ok(), "{listen} {probes}");
        }
    }
}
