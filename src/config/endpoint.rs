//! Whom probes ask: whether there could be anybody at all. A look that can never be made would say `unknown` for ever.

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::placeholder::{expand, fill};
use super::probes::{CheckSettings, HttpCheck};

/// What is wrong: the key that it stands at, in words, and what to write.
pub(super) type Fault = (&'static str, String, &'static str);

const TCP: &str = "`tcp = \"127.0.0.1:{port}\"`";
const GRPC: &str = "`grpc.host = \"127.0.0.1:{port}\"`";
const URL: &str = "`http.url = \"http://127.0.0.1:{port}/health\"`";
const RANGE: &str = "from 1 to 65535, such as `127.0.0.1:8001`";
const NO_PORT: &str = "has a port that does not exist";

/// What is wrong with whom a check asks; `None`: nothing that can be known before its placeholders are filled.
pub(super) fn fault(check: &CheckSettings) -> Option<Fault> {
    match check {
        CheckSettings::Http(http) => of_http(http),
        CheckSettings::Tcp { address } => of_tcp(address),
        CheckSettings::Grpc { host, .. } => of_host("grpc.host", host, GRPC),
        CheckSettings::Exec { .. }
        | CheckSettings::Process
        | CheckSettings::Resources
        | CheckSettings::Disk { .. }
        | CheckSettings::Gpu { .. }
        | CheckSettings::Heartbeat
        | CheckSettings::Actor
        | CheckSettings::Custom { .. } => None,
    }
}

/// The text with something that fits everywhere in place of each placeholder.
fn sample(text: &str) -> Option<String> {
    expand(&fill(text, |_| "1".to_owned()), |_| Some("1".to_owned())).ok()
}

fn of_tcp(address: &str) -> Option<Fault> {
    match address.strip_prefix("unix:") {
        Some("") => Some(("tcp", "names no socket".to_owned(), "`tcp = \"unix:/run/web.sock\"`")),
        Some(_) => None,
        None => of_host("tcp", address, TCP),
    }
}

/// `host:port`
fn of_host(key: &'static str, address: &str, example: &'static str) -> Option<Fault> {
    let address = sample(address)?;
    match address.rsplit_once(':') {
        None | Some(("", _)) => Some((key, "needs a host and a port".to_owned(), example)),
        Some((_, port)) => (!is_port(port)).then(|| (key, NO_PORT.to_owned(), RANGE)),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn of_http(http: &HttpCheck) -> Option<Fault> {
    if http.url.starts_with("https://") {
        let help = "look at a plain port of the worker, or use `exec` with a program that speaks TLS";
        return Some(("http.url", "cannot speak TLS".to_owned(), help));
    }
    let url = sample(&http.url)?;
    if !url.starts_with("http://") {
        return Some(("http.url", "needs a URL".to_owned(), URL));
    }
    let uri = url.parse::<Uri>().ok();
    let authority = uri.as_ref().and_then(Uri::authority).filter(|authority| !authority.host().is_empty());
    let Some(authority) = authority else {
        return Some(("http.url", "has a URL that names nobody".to_owned(), URL));
    };
    let port = authority.as_str().rsplit('@').next()?.strip_prefix(authority.host())?.strip_prefix(':');
    if port.is_some_and(|port| !is_port(port)) {
        return Some(("http.url", NO_PORT.to_owned(), RANGE));
    }
    http.headers.iter().find_map(|(name, value)| of_header(name, value))
}

fn of_header(name: &str, value: &str) -> Option<Fault> {
    let fits = sample(value).is_none_or(|value| HeaderValue::from_str(&value).is_ok());
    let what = match (HeaderName::from_bytes(name.as_bytes()).is_ok(), fits) {
        (true, true) => return None,
        (false, _) => format!("has a header that cannot be sent: {}", super::diagnostic::quoted(name)),
        (true, false) => format!("has a header {name} whose value cannot be sent"),
    };
    Some(("http.headers", what, "letters, digits and `-` for the name; one line for the value"))
}

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    #[test]
    fn whom_nobody_could_ask_is_told_where_it_stands() {
        for (probe, said) in [
            ("http.url = \"http://127.0.0.1:99999/\"", "has a port that does not exist"),
            ("http.url = \"http://127.0.0.1:0/\"", "has a port that does not exist"),
            ("http.url = \"http://[::1]:x/\"", "has a port that does not exist"),
            ("http.url = \"http:///health\"", "names nobody"),
            ("http.url = \"http://a b/\"", "names nobody"),
            (
                "http = { url = \"http://a/\", headers = { \"a b\" = \"x\" } }",
                "a header that cannot be sent: `a b`",
            ),
            (
                "http = { url = \"http://a/\", headers.Host = \"x\\ny\" }",
                "a header Host whose value cannot be sent",
            ),
            ("tcp = \":80\"", "needs a host and a port"),
            ("tcp = \"unix:\"", "names no socket"),
            ("tcp = \"[::1]:70000\"", "has a port that does not exist"),
            ("grpc.host = \"127.0.0.1:0\"", "has a port that does not exist"),
            ("grpc.host = \"127.0.0.1\"", "needs a host and a port"),
        ] {
            let text = format!("[worker.w]\ncommand = [\"x\"]\nprobe.p.{probe}\n");
            let problems = load(&Sources::text(text)).unwrap_err();
            let problem = &problems.problems()[0];
            assert!(problem.message.contains(said) && problem.line == Some(3), "{probe}: {problems}");
            assert_eq!(problems.count(), 1, "{problems}");
        }
    }

    #[test]
    fn whom_somebody_may_be_is_taken() {
        for probe in [
            "http.url = \"http://127.0.0.1:{port}/{instance}?a={index}\"",
            "http.url = \"http://web.internal\"",
            "http.url = \"http://me:pw@[::1]:80/\"",
            "http = { url = \"http://localhost/\", unix = \"{state_dir}/s\", headers.X-Who = \"{worker}\" }",
            "tcp = \"{instance}.internal:{port}\"",
            "tcp = \"unix:{state_dir}/s\"",
            "grpc.host = \"[::1]:{port}\"",
        ] {
            let text = format!("[worker.w]\ncommand = [\"x\"]\nport.base = 8001\nprobe.p.{probe}\n");
            if let Err(problems) = load(&Sources::text(text)) {
                panic!("{probe}: {problems}");
            }
        }
    }
}
