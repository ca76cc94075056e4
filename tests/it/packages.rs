//! The packages that regrow was asked to be built of are what it runs on: for each of them the file that uses it.

use std::fs;
use std::path::Path;

/// Package, file, and the line in it without which nothing would go.
const USED: [(&str, &str, &str); 9] = [
    ("ractor", "src/coordinator/actor.rs", "impl Actor for Coordinator"),
    ("tokio", "src/worker/in_process/host.rs", "tokio::"),
    ("serde", "src/config/settings.rs", "Deserialize"),
    ("bincode", "src/codec/envelope.rs", "bincode::serde::encode_into_std_write("),
    ("sysinfo", "src/telemetry/host.rs", "System::new()"),
    ("tracing", "src/coordinator/actor.rs", "tracing::warn!("),
    ("metrics", "src/telemetry/user.rs", "metrics::set_global_recorder("),
    ("metrics-exporter-prometheus", "src/telemetry/user.rs", "PrometheusBuilder::new()"),
    ("config", "src/config/layers.rs", "Config::builder()"),
];

#[test]
fn each_is_a_dependency_and_stands_where_things_are_done() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    for (package, file, line) in USED {
        assert!(manifest["dependencies"].get(package).is_some(), "{package} is no dependency");
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = package.replace('-', "_");
        let named = code.lines().any(|text| text.contains(&format!("{own}::")) && !text.contains("//"));
        assert!(named, "{file} does not name {package}");
        assert!(code.contains(line), "{file} has no `{line}` of {package}");
    }
}
